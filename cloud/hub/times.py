"""Times and durations as the API takes and gives them: RFC 3339 in UTC, whole nanoseconds, no float on the way.

In: RFC 3339 with any offset and up to nine decimals, or an integer of nanoseconds since 1970. A `+` that an address
turned into a space is understood. Out: always `2026-11-23T08:00:00.123456789Z`, so that texts sort as times do.
"""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cloud.hub.problems import BadQuery
from contract.readings import Ints

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
EARLIEST_NS = -(2**63) + 2  # the range of times that every store can be asked for: 1677 to 2262
LATEST_NS = 2**63 - 2
TIME_BYTES = 30  # of `2026-11-23T08:00:00.123456789Z`
MAX_TEXT = 40
ALLOWED_TIME = "RFC 3339 such as 2026-11-23T08:00:00Z, or integer nanoseconds since 1970, between 1677 and 2262"
ALLOWED_DURATION = "a duration such as 60s, 5m, 1h, 1d or PT5M"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+\- ])([0-9]{2}):([0-9]{2}))"
)
_SHORT = re.compile(r"([0-9]{1,12})(ns|us|ms|s|m|h|d|w)")
_ISO = re.compile(
    r"P(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,8})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,10})(?:\.([0-9]{1,9}))?S)?)?"
)
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": MINUTE_NS,
    "h": HOUR_NS,
    "d": DAY_NS,
    "w": 7 * DAY_NS,
}


def parse_time(text: str, parameter: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time or an integer. Raises BadQuery naming `parameter`."""
    if _INTEGER.fullmatch(text):
        time_ns = int(text)
    else:
        found = _TIME.fullmatch(text) if len(text) <= MAX_TEXT else None
        if found is None:
            raise BadQuery(parameter, ALLOWED_TIME, text)
        date, clock, decimals, sign, hours, minutes = found.groups()
        try:
            moment = datetime.fromisoformat(f"{date}T{clock}+00:00")
        except ValueError:
            raise BadQuery(parameter, ALLOWED_TIME, text) from None
        if sign and not (int(hours) < 24 and int(minutes) < 60):
            raise BadQuery(parameter, ALLOWED_TIME, text)
        time_ns = (moment - _EPOCH) // timedelta(seconds=1) * SECOND_NS + int((decimals or "0").ljust(9, "0"))
        if sign:
            offset_ns = int(hours) * HOUR_NS + int(minutes) * MINUTE_NS
            time_ns += offset_ns if sign == "-" else -offset_ns
    if not EARLIEST_NS <= time_ns <= LATEST_NS:
        raise BadQuery(parameter, ALLOWED_TIME, text)
    return time_ns


def parse_duration(text: str, parameter: str, *, minimum_ns: int = 1, maximum_ns: int = 36_600 * DAY_NS) -> int:
    """Nanoseconds of a duration: `500ms`, `60s`, `5m`, `1h`, `1d`, `1w`, or ISO 8601 without months and years.

    Raises BadQuery naming `parameter` and the bounds when it is none, or outside minimum_ns..maximum_ns.
    """
    duration_ns = _duration_ns(text) if len(text) <= MAX_TEXT else None
    if duration_ns is None or not minimum_ns <= duration_ns <= maximum_ns:
        bounds = f"from {format_duration(minimum_ns)} to {format_duration(maximum_ns)}"
        raise BadQuery(parameter, f"{ALLOWED_DURATION}, {bounds}", text)
    return duration_ns


def _duration_ns(text: str) -> int | None:
    if short := _SHORT.fullmatch(text):
        return int(short[1]) * _UNITS[short[2]]
    found = _ISO.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    weeks, days, hours, minutes, seconds, decimals = (part or "0" for part in found.groups())
    return (
        int(weeks) * 7 * DAY_NS
        + int(days) * DAY_NS
        + int(hours) * HOUR_NS
        + int(minutes) * MINUTE_NS
        + int(seconds) * SECOND_NS
        + int(decimals.ljust(9, "0"))
    )


def format_duration(duration_ns: int) -> str:
    """The shortest text that `parse_duration` reads as this many nanoseconds: `1h`, `90s`."""
    fitting = [unit for unit in ("d", "h", "m", "s", "ms", "us") if duration_ns and duration_ns % _UNITS[unit] == 0]
    unit = fitting[0] if fitting else "ns"
    return f"{duration_ns // _UNITS[unit]}{unit}"


def format_time(ns: int) -> str:
    """`2026-11-23T08:00:00.123456789Z`; for every integer of 64 bits but the lowest, which is no time to numpy."""
    return f"{np.datetime64(ns, 'ns')}Z"


def time_bytes(times: Ints) -> NDArray[np.uint8]:
    """`format_time` of a column: uint8 (N, 30), one text a row; 0.15 us each."""
    day_numbers, of_day = np.divmod(times, DAY_NS)  # whole days from 1970, rounded down before it
    seconds, nanoseconds = np.divmod(of_day, SECOND_NS)
    minutes, second = np.divmod(seconds, 60)
    hour, minute = np.divmod(minutes, 60)
    microseconds, last = np.divmod(nanoseconds, 1000)
    first, middle = np.divmod(microseconds, 1000)
    texts = np.empty((times.size, TIME_BYTES), dtype=np.uint8)
    texts[:] = np.frombuffer(b"0000-00-00T00:00:00.000000000Z", dtype=np.uint8)
    days, day_of = np.unique(day_numbers, return_inverse=True)  # few: a page is seldom longer than some days
    names = np.datetime_as_string(days.astype("datetime64[D]")).astype("S10")
    texts[:, :10] = names.view(np.uint8).reshape(-1, 10).take(day_of, axis=0)
    texts[:, 11:13] = _digits(hour, 2)
    texts[:, 14:16] = _digits(minute, 2)
    texts[:, 17:19] = _digits(second, 2)
    texts[:, 20:23] = _digits(first, 3)
    texts[:, 23:26] = _digits(middle, 3)
    texts[:, 26:29] = _digits(last, 3)
    return texts


def format_times(times: Ints) -> list[str]:
    """`format_time` of a column, as Python texts."""
    flat = time_bytes(times).tobytes().decode("ascii")
    return [flat[at : at + TIME_BYTES] for at in range(0, len(flat), TIME_BYTES)]


_THREE = np.frombuffer(b"".join(b"%03d" % number for number in range(1000)), dtype=np.uint8).reshape(1000, 3)


def _digits(numbers: Ints, width: int) -> NDArray[np.uint8]:
    """The last `width` digits of numbers below 1000."""
    return _THREE.take(numbers, axis=0)[:, 3 - width :]

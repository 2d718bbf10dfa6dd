"""Times and durations of the API: to the nanosecond, in every spelling people use, and nothing else."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.hub.problems import BadQuery
from cloud.hub.times import (
    DAY_NS,
    EARLIEST_NS,
    HOUR_NS,
    LATEST_NS,
    MINUTE_NS,
    SECOND_NS,
    format_duration,
    format_time,
    format_times,
    parse_duration,
    parse_time,
)

T0 = 1_795_420_800_000_000_000
TIMES = st.integers(EARLIEST_NS, LATEST_NS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T08:00:00Z", T0),
        ("2026-11-23t08:00:00z", T0),
        ("2026-11-23 08:00:00Z", T0),
        ("2026-11-23T16:00:00+08:00", T0),
        ("2026-11-23T16:00:00 08:00", T0),  # what an address makes of a plus
        ("2026-11-23T02:30:00-05:30", T0),
        ("2026-11-23T08:00:00.123456789Z", T0 + 123_456_789),
        ("2026-11-23T08:00:00.5Z", T0 + SECOND_NS // 2),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("0", 0),
        ("-1", -1),
        (str(T0 + 1), T0 + 1),
    ],
)
def test_times_in(text: str, expected: int) -> None:
    assert parse_time(text, "start") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-11-23", "2026-11-23T08:00Z", "2026-11-23T08:00:00", "2026-02-30T00:00:00Z"),
        *("2026-11-23T24:00:00Z", "2026-11-23T08:00:61Z", "2026-11-23T08:00:00+24:00", "2026-11-23T08:00:00+00:60"),
        *("2026-11-23T08:00:00.1234567890Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1" * 20, str(2**63)),
        *("1.5", "+1", "٢٠٢٦-11-23T08:00:00Z", "2026-11-23T08:00:00Z\n", "\x00", "\ud800", "0000-00-00T00:00:00Z"),
    ],
)
def test_what_is_no_time_is_refused_by_the_name_of_its_parameter(text: str) -> None:
    with pytest.raises(BadQuery, match="start") as refusal:
        parse_time(text, "start")
    assert refusal.value.document()["parameter"] == "start"


@given(TIMES)
def test_what_goes_out_can_come_in(time_ns: int) -> None:
    text = format_time(time_ns)
    assert len(text) == 30
    assert parse_time(text, "x") == time_ns == parse_time(str(time_ns), "x")


@given(st.integers(-9 * 10**15, 9 * 10**15), st.integers(-1439, 1439))
def test_offsets_as_the_standard_library_has_them(microseconds: int, offset_min: int) -> None:
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    moment = utc.astimezone(timezone(timedelta(minutes=offset_min)))
    assert parse_time(moment.isoformat(), "x") == microseconds * 1000


@given(st.lists(TIMES, max_size=50))
def test_a_column_is_written_as_its_times_are(times: list[int]) -> None:
    assert format_times(np.array(times, dtype=np.int64)) == [format_time(one) for one in times]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("60s", MINUTE_NS), ("5m", 5 * MINUTE_NS), ("1h", HOUR_NS), ("1d", DAY_NS), ("2w", 14 * DAY_NS)),
        *(("500ms", SECOND_NS // 2), ("PT5M", 5 * MINUTE_NS), ("P1D", DAY_NS), ("PT1H30M", 90 * MINUTE_NS)),
        *(("PT0.5S", SECOND_NS // 2), ("P1W", 7 * DAY_NS), ("P1DT1S", DAY_NS + SECOND_NS)),
    ],
)
def test_durations_in(text: str, expected: int) -> None:
    assert parse_duration(text, "interval") == expected


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5h", "1M", "P", "PT", "P1M", "P1Y", "1h30m", "0s", "9" * 99])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadQuery, match=r"interval: .* from 1ns to "):
        parse_duration(text, "interval")


def test_durations_have_bounds() -> None:
    with pytest.raises(BadQuery, match="from 1s to 1d"):
        parse_duration("2d", "interval", minimum_ns=SECOND_NS, maximum_ns=DAY_NS)
    with pytest.raises(BadQuery, match="from 1s to 1d"):
        parse_duration("1ms", "interval", minimum_ns=SECOND_NS, maximum_ns=DAY_NS)


@given(st.integers(0, 10**18))
def test_a_duration_that_is_written_is_read_again(duration_ns: int) -> None:
    text = format_duration(duration_ns)
    if len(text) <= 14:
        assert parse_duration(text, "x", minimum_ns=0) == duration_ns

"""Times as values, and the JSON and text of what an answer holds.

Times stay numbers until the last moment, so that filters compare them and no digit is lost.
"""

import datetime as dt
import re
from typing import Self

import msgspec

from cloud.hub.problems import BadQuery
from cloud.hub.times import format_time, parse_duration, parse_time

NS = 1_000_000_000
_LITERAL = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?([Zz]|[+\- ]\d\d:?\d\d)?", re.ASCII)
_SPAN = re.compile(r"([+-]?)(P[0-9A-Z.]{1,60})", re.ASCII)


class _Nanoseconds:
    """Nanoseconds that compare with their like. No dataclass: the encoder would write one out as an object."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Nanoseconds) and type(other) is type(self) and other.ns == self.ns

    def __hash__(self) -> int:
        return hash(self.ns)

    def __lt__(self, other: Self) -> bool:
        return self.ns < other.ns

    def __le__(self, other: Self) -> bool:
        return self.ns <= other.ns

    def __gt__(self, other: Self) -> bool:
        return self.ns > other.ns

    def __ge__(self, other: Self) -> bool:
        return self.ns >= other.ns


class Instant(_Nanoseconds):
    """A moment, ns UTC since 1970."""

    __slots__ = ()

    def __str__(self) -> str:
        return format_instant(self.ns)


class Span(_Nanoseconds):
    """A duration, ns."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"PT{self.ns / NS:g}S"


class Interval:
    """From the first to the last moment, both included."""

    __slots__ = ("end_ns", "start_ns")

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns

    def __str__(self) -> str:
        return f"{format_instant(self.start_ns)}/{format_instant(self.end_ns)}"


def format_instant(ns: int) -> str:
    """ISO 8601, UTC, with as many decimals (0, 3, 6, 9) as the moment needs: some clients stumble over more."""
    text = format_time(ns)[:-1]
    while text.endswith("000") and "." in text:
        text = text[:-3]
    return f"{text.removesuffix('.')}Z"


def parse_instant(text: str) -> Instant | None:
    """The moment that an ISO 8601 literal names, exactly, or None. Clients leave out seconds and offset: 0, and UTC."""
    match = _LITERAL.fullmatch(text)
    if match is None:
        return None
    day, clock, seconds, offset = match.groups()
    if offset is None:
        offset = "Z"
    elif len(offset) == 5:
        offset = f"{offset[:3]}:{offset[3:]}"
    try:
        return Instant(parse_time(f"{day}T{clock}{seconds or ':00'}{offset}", "time"))
    except BadQuery:
        return None


def parse_span(text: str) -> Span | None:
    """The length of an ISO 8601 duration of weeks to seconds, or None: months have no length."""
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    try:
        length_ns = parse_duration(match[2], "duration")
    except BadQuery:
        return None
    return Span(-length_ns if match[1] == "-" else length_ns)


def moment(instant: Instant) -> dt.datetime | None:
    """The calendar's view of an instant, UTC, to the microsecond; None outside the years 1 to 9999."""
    try:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=instant.ns // 1000)
    except OverflowError:
        return None


def _plain(value: object) -> str:
    return str(value)


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def to_json(document: object) -> bytes:
    """UTF-8 JSON; NaN and infinity become null, times their ISO text."""
    return _encoder.encode(document)


def to_text(value: object) -> str:
    """What `/$value` gives: text as it is, everything else as its JSON has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Instant | Interval | Span):
        return str(value)
    return to_json(value).decode()

"""The operators and functions of filters: what each says of values of any type, without ever failing.

A value that an operation does not fit is null; a comparison with null is false, but for `eq null` and `ne`. Types do
not mix: a text never equals a number. Texts that are ISO times compare with times, as clients quote them.
"""

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloud.hub.sensorthings import geometry
from cloud.hub.sensorthings.geometry import shape_of
from cloud.hub.sensorthings.values import NS, Instant, Span, moment, parse_instant

_MAX_TEXT = 100_000


@dataclass(frozen=True, slots=True)
class Many:
    """The values of a path that went through a collection: a comparison holds if it holds for one of them."""

    values: tuple[Any, ...]


def _sort(value: object) -> str:
    """Which values may be compared."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """The same two values, as times where one is a time and the other says one."""
    if isinstance(left, Instant) and not isinstance(right, Instant):
        return left, as_instant(right)
    if isinstance(right, Instant) and not isinstance(left, Instant):
        return as_instant(left), right
    return left, right


def as_instant(value: object) -> object:
    """A text or date that says a moment, as that moment; everything else as it is."""
    if isinstance(value, str):
        return parse_instant(value) or value
    if isinstance(value, dt.date):
        return parse_instant(f"{value.isoformat()}T00:00") or value
    return value


def equal(left: Any, right: Any) -> bool:
    """`eq`."""
    if left is None or right is None:
        return left is right
    left, right = _alike(left, right)
    return _sort(left) == _sort(right) and bool(left == right)


def ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """`lt`, `le`, `gt`, `ge`: false where there is no order."""

    def holds(left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        left, right = _alike(left, right)
        if _sort(left) != _sort(right) or isinstance(left, dict | list | tuple):
            return False
        try:
            return compare(left, right)
        except TypeError:
            return False

    return holds


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Eq": equal,
    "NotEq": lambda left, right: not equal(left, right),
    "Lt": ordered(lambda left, right: bool(left < right)),
    "LtE": ordered(lambda left, right: bool(left <= right)),
    "Gt": ordered(lambda left, right: bool(left > right)),
    "GtE": ordered(lambda left, right: bool(left >= right)),
}


def _number(value: object) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def calculate(operator: str, left: Any, right: Any) -> Any:
    """`add`, `sub`, `mul`, `div`, `mod` of numbers, and of times and durations; null where that means nothing."""
    left, right = _alike(left, right)
    if isinstance(left, Instant | Span) and isinstance(right, Instant | Span):
        made = _SHIFTS.get((operator, type(left), type(right)))
        sign = -1 if operator == "Sub" else 1
        return None if made is None else made(left.ns + sign * right.ns)
    first, second = _number(left), _number(right)
    if first is None or second is None:
        return None
    try:
        return _ARITHMETIC[operator](first, second)
    except ArithmeticError:
        return None


_SHIFTS: dict[tuple[str, type, type], type[Instant] | type[Span]] = {
    ("Add", Instant, Span): Instant,
    ("Add", Span, Instant): Instant,
    ("Sub", Instant, Span): Instant,
    ("Sub", Instant, Instant): Span,
    ("Add", Span, Span): Span,
    ("Sub", Span, Span): Span,
}


def _quotient(first: float, second: float) -> float:
    """Whole numbers divide to whole numbers, towards zero, as OData has it."""
    if isinstance(first, int) and isinstance(second, int):
        return abs(first) // abs(second) * (1 if (first < 0) == (second < 0) else -1)
    return first / second


def _remainder(first: float, second: float) -> float:
    rest = abs(first) % abs(second)
    return -rest if first < 0 else rest


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "Add": lambda first, second: first + second,
    "Sub": lambda first, second: first - second,
    "Mult": lambda first, second: first * second,
    "Div": _quotient,
    "Mod": _remainder,
}


def negative(value: Any) -> Any:
    """`-x`."""
    if isinstance(value, Span):
        return Span(-value.ns)
    number = _number(value)
    return None if number is None else -number


def _text(value: object) -> str | None:
    """Text functions take numbers too: clients ask startswith(@iot.id,'3')."""
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value.bit_length() < 10_000 else None
    return None


def texts(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of texts, that is null when one of them is none."""

    def of_texts(*values: Any) -> Any:
        converted = [_text(value) for value in values]
        return None if None in converted else function(*converted)

    return of_texts


def _substring(value: Any, start: Any, length: Any = None) -> str | None:
    text = _text(value)
    if text is None or not isinstance(start, int) or not (length is None or isinstance(length, int)):
        return None
    begin = max(start, 0)
    return text[begin:] if length is None else text[begin : begin + max(length, 0)]


def _calendar(part: Callable[[dt.datetime], Any]) -> Callable[[Any], Any]:
    def of_time(value: Any) -> Any:
        value = as_instant(value)
        found = moment(value) if isinstance(value, Instant) else None
        return None if found is None else part(found)

    return of_time


def _fractional_seconds(value: Any) -> float | None:
    value = as_instant(value)
    return value.ns % NS / NS if isinstance(value, Instant) else None


def _rounded(function: Callable[[float], int]) -> Callable[[Any], Any]:
    def of_number(value: Any) -> int | None:
        number = _number(value)
        return None if number is None or not math.isfinite(number) else function(number)

    return of_number


def _half_up(number: float) -> int:
    return math.floor(abs(number) + 0.5) * (1 if number >= 0 else -1) if isinstance(number, float) else number


def _spatial(function: Callable[..., Any]) -> Callable[..., Any]:
    def of_shapes(*values: Any) -> Any:
        shapes = [shape_of(value) for value in values]
        return None if None in shapes else function(*shapes)

    return of_shapes


FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "substringof": (2, 2, texts(lambda part, whole: part in whole)),
    "contains": (2, 2, texts(lambda whole, part: part in whole)),
    "startswith": (2, 2, texts(lambda whole, part: whole.startswith(part))),
    "endswith": (2, 2, texts(lambda whole, part: whole.endswith(part))),
    "length": (1, 1, texts(len)),
    "indexof": (2, 2, texts(lambda whole, part: whole.find(part))),
    "substring": (2, 3, _substring),
    "tolower": (1, 1, texts(str.lower)),
    "toupper": (1, 1, texts(str.upper)),
    "trim": (1, 1, texts(str.strip)),
    "concat": (2, 2, texts(lambda first, second: (first + second)[:_MAX_TEXT])),
    "year": (1, 1, _calendar(lambda time: time.year)),
    "month": (1, 1, _calendar(lambda time: time.month)),
    "day": (1, 1, _calendar(lambda time: time.day)),
    "hour": (1, 1, _calendar(lambda time: time.hour)),
    "minute": (1, 1, _calendar(lambda time: time.minute)),
    "second": (1, 1, _calendar(lambda time: time.second)),
    "fractionalseconds": (1, 1, _fractional_seconds),
    "date": (1, 1, _calendar(lambda time: time.date())),
    "time": (1, 1, _calendar(lambda time: time.time())),
    "totaloffsetminutes": (1, 1, _calendar(lambda _: 0)),
    "round": (1, 1, _rounded(_half_up)),
    "floor": (1, 1, _rounded(math.floor)),
    "ceiling": (1, 1, _rounded(math.ceil)),
    "geo.distance": (2, 2, _spatial(geometry.distance)),
    "geo.length": (1, 1, _spatial(geometry.length)),
    **{name: (2, 2, _spatial(predicate)) for name, predicate in geometry.PREDICATES.items()},
}

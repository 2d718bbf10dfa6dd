"""Aggregates of a stream by interval that know of gaps: nothing is interpolated, an empty bucket says that it is empty.

Only values that are GOOD or UNCERTAIN enter an aggregate; BAD ones are counted beside it. Each bucket tells how many
values it stands on, how many were expected (`coverage`) and the worst quality that it saw. Pages are folded as they
come, in columns; of what was folded one bucket stays open. Memory: a page, and BLOCK_BUCKETS buckets.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.hub.entries import Entry
from cloud.hub.history import Page
from cloud.hub.problems import BadQuery
from cloud.hub.times import EARLIEST_NS, LATEST_NS, SECOND_NS, format_time
from cloud.stores.base import Columns
from cloud.stores.columns import TYPES
from contract.readings import Bytes, Floats, Ints, Kind, Quality

BLOCK_BUCKETS = 10_000
FUNCTIONS = ("mean", "min", "max", "sum", "first", "last", "count")
NUMBERS = frozenset({Kind.FLOAT, Kind.INT})
ALLOWED = {kind: FUNCTIONS if kind in NUMBERS else ("last", "count") for kind in Kind}
_REAL = frozenset({"mean", "sum"})  # always a double; the others are of the stream's own kind
Values = NDArray[np.generic]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets of `interval_ns` that cover start_ns..end_ns; one begins at `offset_ns` (>= 0) after 1970 UTC."""

    start_ns: int
    end_ns: int
    interval_ns: int
    offset_ns: int = 0

    @property
    def first(self) -> int:
        """The number of the first bucket."""
        return (self.start_ns - self.offset_ns) // self.interval_ns

    @property
    def stop(self) -> int:
        """One behind the number of the last bucket."""
        return -(-(self.end_ns - self.offset_ns) // self.interval_ns)

    def begins(self, bucket: int) -> int:
        """When a bucket begins, ns."""
        return bucket * self.interval_ns + self.offset_ns

    @property
    def fits(self) -> bool:
        """Whether all that is computed with its times stays within 64 bits."""
        spare_ns = 2 * self.interval_ns + self.offset_ns
        return self.start_ns >= EARLIEST_NS + spare_ns and self.end_ns <= LATEST_NS - spare_ns

    def __len__(self) -> int:
        return max(0, self.stop - self.first)


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Some buckets of a stream, ascending, as columns of equal length.

    times: when each begins. present: readings stored; usable: those that entered the values; bad: those that are BAD.
    worst: the worst quality, without meaning where nothing is present. coverage: present / expected, at most 1, NaN
    where nothing can be expected. values: by function, in the stream's kind or float64; without meaning where usable
    is 0, and NaN where the sum left the range of doubles.
    """

    times: Ints
    present: Ints
    usable: Ints
    good: Ints
    bad: Ints
    worst: Bytes
    coverage: Floats
    values: dict[str, Values]


def kind_of_aggregate(function: str, kind: Kind) -> Kind:
    """What the values of a function are."""
    if function == "count":
        return Kind.INT
    return Kind.FLOAT if function in _REAL else kind


def check_functions(functions: Sequence[str], entry: Entry) -> None:
    """Raises BadQuery naming what this stream's kind allows."""
    for function in functions:
        if function not in ALLOWED[entry.kind]:
            allowed = " or ".join(ALLOWED[entry.kind])
            raise BadQuery("aggregate", f"{allowed}, which is what values of {entry.id} ({entry.kind}) allow", function)


def versions_for(versions: Sequence[Entry], start_ns: int, end_ns: int) -> list[Entry]:
    """The versions in force within a range. Raises BadQuery when one number cannot stand for all of them."""
    within = [
        entry
        for number, entry in enumerate(versions)
        if (number == 0 or entry.since_ns < end_ns)
        and (number + 1 == len(versions) or versions[number + 1].since_ns > start_ns)
    ]
    for before, after in pairwise(within):
        same_kind = before.kind is after.kind or {before.kind, after.kind} == NUMBERS
        if before.unit != after.unit or before.quantity != after.quantity or not same_kind:
            was, now = (f"{entry.quantity} in {entry.unit} ({entry.kind})" for entry in (before, after))
            when = format_time(after.since_ns)
            raise BadQuery("start", f"a range on one side of {when}, when {after.id} changed from {was} to {now}")
    return within


async def aggregated(
    pages: AsyncIterator[Page], versions: Sequence[Entry], grid: Grid, functions: Sequence[str], now_ns: int
) -> AsyncGenerator[Buckets, None]:
    """Every bucket of the grid, empty ones too, in blocks. `pages`: the stream's, within the grid's range."""
    kind = Kind.FLOAT if len({entry.kind for entry in versions}) > 1 else versions[-1].kind
    expect = _Expectation(versions, grid, now_ns)
    following, carry = grid.first, None
    async for page in pages:
        folded = _fold(page.columns, kind, grid)
        folded = folded if carry is None else _appended(carry, folded, kind)
        done, carry = folded.rows(slice(0, -1)), folded.rows(slice(-1, None))
        stop = int(carry.bucket[0])
        for block in _filled(done, following, stop, kind):
            yield _finished(block, grid, functions, expect)
        following = stop
    for block in _filled(carry or _nothing(kind), following, grid.stop, kind):
        yield _finished(block, grid, functions, expect)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """What is known of some buckets. Extremes, first and last have no meaning where `usable` is 0."""

    bucket: Ints
    present: Ints
    usable: Ints
    good: Ints
    bad: Ints
    worst: Bytes
    sum: Floats
    min: Values
    max: Values
    first: Values
    last: Values

    def rows(self, which: slice) -> "_Sums":
        """Some of the buckets."""
        return _Sums(*(getattr(self, field.name)[which] for field in fields(self)))


def _nothing(kind: Kind, size: int = 0) -> _Sums:
    numbers, values = (np.zeros(size, dtype=np.int64) for _ in range(5)), np.zeros(size, dtype=TYPES[kind])
    bucket, present, usable, good, bad = numbers
    worst, total = np.zeros(size, dtype=np.uint8), np.zeros(size)
    return _Sums(bucket, present, usable, good, bad, worst, total, values, values.copy(), values.copy(), values.copy())


def _fold(columns: Columns, kind: Kind, grid: Grid) -> _Sums:
    """The buckets that a page reaches, which holds at least one point."""
    of = (columns.times - grid.offset_ns) // grid.interval_ns
    starts = _runs(of)
    quality = columns.status >> 6
    usable = (quality <= Quality.UNCERTAIN) & columns.valued
    sums = _nothing(kind, starts.size)
    sums.bucket[:] = of[starts]
    sums.present[:] = np.diff(starts, append=of.size)
    sums.usable[:] = np.add.reduceat(usable.astype(np.int64), starts)
    sums.good[:] = np.add.reduceat((quality == Quality.GOOD).astype(np.int64), starts)
    sums.bad[:] = np.add.reduceat((quality == Quality.BAD).astype(np.int64), starts)
    sums.worst[:] = np.maximum.reduceat(quality, starts)
    values = columns.values[usable]
    if not values.size:
        return sums
    with_values = np.flatnonzero(sums.usable)
    inner = _runs(of[usable])
    sums.first[with_values] = values[inner]
    sums.last[with_values] = values[np.append(inner[1:], values.size) - 1]
    if kind in NUMBERS:
        numbers = values.astype(np.float64, copy=False)
        own: Any = values.astype(TYPES[kind], copy=False)
        with np.errstate(over="ignore"):
            sums.sum[with_values] = np.add.reduceat(numbers, inner)
        sums.min[with_values] = np.minimum.reduceat(own, inner)
        sums.max[with_values] = np.maximum.reduceat(own, inner)
    return sums


def _runs(of: Ints) -> Ints:
    """Where each run of equal numbers begins."""
    changed = np.ones(of.size, dtype=np.bool_)
    changed[1:] = of[1:] != of[:-1]
    return np.flatnonzero(changed)


def _appended(carry: _Sums, folded: _Sums, kind: Kind) -> _Sums:
    """`carry`, one bucket, in front of `folded`, or within its first."""
    if carry.bucket[0] != folded.bucket[0]:
        return _Sums(
            *(np.concatenate([getattr(carry, field.name), getattr(folded, field.name)]) for field in fields(folded))
        )
    if carry.usable[0] and folded.usable[0]:
        folded.first[0] = carry.first[0]
        if kind in NUMBERS:
            with np.errstate(over="ignore", invalid="ignore"):
                folded.sum[0] += carry.sum[0]
            folded.min[0] = min(carry.min[0], folded.min[0])
            folded.max[0] = max(carry.max[0], folded.max[0])
    elif carry.usable[0]:
        for name in ("sum", "min", "max", "first", "last"):
            getattr(folded, name)[0] = getattr(carry, name)[0]
    for name in ("present", "usable", "good", "bad"):
        getattr(folded, name)[0] += getattr(carry, name)[0]
    folded.worst[0] = max(carry.worst[0], folded.worst[0])
    return folded


def _filled(sums: _Sums, first: int, stop: int, kind: Kind) -> Iterator[_Sums]:
    """The buckets first..stop of `sums`, with those that are not there, in blocks."""
    for low in range(first, stop, BLOCK_BUCKETS):
        high = min(low + BLOCK_BUCKETS, stop)
        here = slice(*np.searchsorted(sums.bucket, [low, high]).tolist())
        block = _nothing(kind, high - low)
        at = sums.bucket[here] - low
        for field in fields(block):
            getattr(block, field.name)[at] = getattr(sums, field.name)[here]
        block.bucket[:] = np.arange(low, high)
        yield block


def _finished(block: _Sums, grid: Grid, functions: Sequence[str], expect: "_Expectation") -> Buckets:
    values: dict[str, Values] = {}
    for function in functions:
        if function == "count":
            values[function] = block.usable
        elif function == "mean":
            values[function] = block.sum / np.maximum(block.usable, 1)
        else:
            values[function] = getattr(block, function)
        if function in _REAL:
            values[function] = np.where(np.isfinite(block.sum), values[function], np.nan)
    times = block.bucket * grid.interval_ns + grid.offset_ns
    coverage = expect.coverage(times, block.present)
    return Buckets(times, block.present, block.usable, block.good, block.bad, block.worst, coverage, values)


class _Expectation:
    """How many readings a bucket should hold: by the interval of the version in force when it begins.

    The part of a bucket outside the range, or still to come, expects nothing. Where less than one reading is expected
    a missing one proves nothing, and a stream that speaks when it likes owes none: NaN.
    """

    def __init__(self, versions: Sequence[Entry], grid: Grid, now_ns: int) -> None:
        self._since = np.array([entry.since_ns for entry in versions[1:]], dtype=np.int64)
        self._interval_ns = np.array(
            [entry.interval_s * SECOND_NS if entry.scheduled else np.inf for entry in versions], dtype=np.float64
        )
        self._start_ns, self._end_ns = grid.start_ns, min(grid.end_ns, now_ns)
        self._width_ns = grid.interval_ns

    def coverage(self, times: Ints, present: Ints) -> Floats:
        begin = np.maximum(times, self._start_ns)
        end = np.minimum(times + self._width_ns, self._end_ns)
        version = np.searchsorted(self._since, begin, side="right")
        expected = np.maximum(end - begin, 0) / self._interval_ns[version]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(expected >= 1.0, np.minimum(present / expected, 1.0), np.nan)

"""Which requests read a scan: the fewest, and among those the ones that read the fewest registers.

A request costs far more than a register (a round trip, and on a serial line two silences), so values are merged, also
across gaps of registers that nobody asked for. A request never touches a forbidden address, never spans a place where
the device was seen to refuse a longer read (a cut), and never splits a value.

The requests found are optimal. Sorted by first address, some optimal grouping is a partition into runs: when two
requests interleave, the one that starts first either contains the other, and takes it over, or ends first, and then
hands over all that starts inside the other; neither grows. So a shortest path over run ends finds it. Floor: this
runs once a scan and after a refusal, never a poll; 2,000 registers plan in about 50 ms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from drivers.modbus_spec import ModbusDevice
from drivers.modbus_terms import Span, Table


class Wanted(NamedTuple):
    """A value to read: where it is, and which stream of the scan it is."""

    span: Span
    position: int


@dataclass(frozen=True, slots=True)
class Request:
    """One read: `count` addresses of `span.table` from `span.first`, holding the values `wanted`, sorted by address."""

    span: Span
    wanted: tuple[Wanted, ...]

    @property
    def count(self) -> int:
        """Addresses read."""
        return self.span.last - self.span.first + 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device allows in one table.

    block: most addresses a request. gap: most unwanted addresses in a row. forbidden: (first, last) never to be read.
    cuts: no request may hold both `cut - 1` and `cut`.
    """

    block: int
    gap: int
    forbidden: tuple[tuple[int, int], ...] = ()
    cuts: frozenset[int] = frozenset()

    def barrier_after(self, first: int) -> int:
        """The first address beyond `first` that a request starting there may not hold."""
        walls = [low for low, high in self.forbidden if high >= first]
        walls += [cut for cut in self.cuts if cut > first]
        return min(walls, default=65_536)


def limits_of(device: ModbusDevice, table: Table) -> Limits:
    """The device's own limits for one table, before anything was learned from its refusals."""
    block, gap = (device.max_block_bits, device.max_gap_bits) if table.is_bits else (device.max_block, device.max_gap)
    forbidden = tuple((span.first, span.last) for span in device.forbidden_spans() if span.table is table)
    return Limits(block, gap, forbidden)


def hull(wanted: Sequence[Wanted]) -> Request:
    """One request that reads all of `wanted` (not empty, of one table)."""
    first = min(one.span.first for one in wanted)
    last = max(one.span.last for one in wanted)
    return Request(Span(wanted[0].span.table, first, last), tuple(sorted(wanted)))


def plan(wanted: Iterable[Wanted], limits: Limits) -> list[Request]:
    """The fewest requests for `wanted`, all of one table, in ascending order; of those, the fewest addresses.

    Every value must fit `limits` alone (the configuration sees to that); one that does not gets a request of its own.
    """
    ordered = sorted(wanted)
    best: list[tuple[int, int]] = [(0, 0)] + [(len(ordered) + 1, 0)] * len(ordered)
    start_of = [0] * (len(ordered) + 1)
    for start in range(len(ordered)):
        requests, addresses = best[start]
        for end, size in _runs(ordered, start, limits):
            cost = (requests + 1, addresses + size)
            if cost < best[end]:
                best[end], start_of[end] = cost, start
    ends = [len(ordered)]
    while ends[-1] > 0:
        ends.append(start_of[ends[-1]])
    return [hull(ordered[start:end]) for start, end in pairwise(reversed(ends))]


def _runs(ordered: Sequence[Wanted], start: int, limits: Limits) -> Iterable[tuple[int, int]]:
    """Every run from `start` that one request may read: (index after its last value, addresses)."""
    first, last = ordered[start].span.first, ordered[start].span.last
    barrier = limits.barrier_after(first)
    for index in range(start, len(ordered)):
        span = ordered[index].span
        if index > start and span.first - last - 1 > limits.gap:
            return
        last = max(last, span.last)
        if index > start and (last - first >= limits.block or last >= barrier):
            return
        yield index + 1, last - first + 1

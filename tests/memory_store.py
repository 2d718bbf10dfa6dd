"""A store in memory at the Store interface, that fails when it is told to: what no real database does on command."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from cloud.stores.base import Columns, FramePoints, Point, Selector, Series
from cloud.stores.columns import from_lists
from contract.errors import PartialWrite, Rejection, StoreUnavailable
from contract.readings import Kind, Value, quality_of, reason_of

Identity = tuple[str, str, str, str, Kind]


def identity(series: Series) -> Identity:
    """What makes a series another one: everything but its unit."""
    return str(series.path), series.device, series.stream, series.quantity, series.kind


class MemoryStore:
    """Points by (gateway, device, stream, time); counts how often each was written.

    away: writes and reads raise it. reads: how many were asked for. kept: by series, (value, status byte) by time.
    refuses: says why a (stream, time) is refused, or None. gate: writes wait for it.
    """

    def __init__(self) -> None:
        self.points: dict[tuple[str, str, str, int], Value] = {}
        self.writes: dict[tuple[str, str, str, int], int] = {}
        self.kept: dict[Identity, dict[int, tuple[Value | None, int]]] = {}
        self.attempts = 0
        self.reads = 0
        self.away: StoreUnavailable | None = None
        self.refuses: Callable[[str, int], str | None] = lambda _stream, _time_ns: None
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def write(self, frames: Sequence[FramePoints]) -> None:
        """Keep the points."""
        self.attempts += 1
        await self.gate.wait()
        if self.away is not None:
            raise self.away
        rejected = []
        for index, frame in enumerate(frames):
            for table, series in zip(frame.tables, frame.series, strict=True):
                by_id = dict(zip(table.streams.tolist(), series, strict=True))
                for reading in table.readings():
                    one = by_id[reading.stream]
                    why = self.refuses(one.stream, reading.time_ns)
                    if why is not None:
                        rejected.append(Rejection(index, reading.stream, reading.time_ns, why))
                        continue
                    key = (one.path.gateway, one.device, one.stream, reading.time_ns)
                    self.points[key] = reading.value
                    self.kept.setdefault(identity(one), {})[reading.time_ns] = (_held(reading.value), reading.status)
                    self.writes[key] = self.writes.get(key, 0) + 1
        if rejected:
            raise PartialWrite(rejected)

    async def series(self) -> list[Series]:
        """Not kept."""
        return []

    async def read(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 10_000) -> list[Point]:
        """Points of one series."""
        return [
            Point(time_ns, value, quality_of(code), reason_of(code) if code else 0)
            for time_ns, value, code in self._within(series, start_ns, end_ns, limit)
        ]

    async def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 50_000) -> Columns:
        """Points of one series, in columns."""
        rows = self._within(series, start_ns, end_ns, limit)
        codes = [code for _, _, code in rows]
        return from_lists(
            series.kind,
            [time_ns for time_ns, _, _ in rows],
            [value for _, value, _ in rows],
            [code >> 6 for code in codes],
            [code & 0x3F for code in codes],
        )

    async def delete(self, series: Series, *, before_ns: int | None = None) -> int:
        """Forget the points of a series."""
        rows = self._within(series, -(2**63), 2**63 if before_ns is None else before_ns, 2**63)
        held = self.kept.get(identity(series), {})
        for time_ns, _, _ in rows:
            del held[time_ns]
            self.points.pop((series.path.gateway, series.device, series.stream, time_ns), None)
        return len(rows)

    def put(self, series: Series, points: dict[int, tuple[Value | None, int]]) -> None:
        """Keep points, each (value, status byte) by its time, without a frame."""
        self.kept.setdefault(identity(series), {}).update(points)
        for time_ns, (value, _) in points.items():
            if value is not None:
                self.points[series.path.gateway, series.device, series.stream, time_ns] = value

    def _within(self, series: Series, start_ns: int, end_ns: int, limit: int) -> list[tuple[int, Value | None, int]]:
        self.reads += 1
        if self.away is not None:
            raise self.away
        held = self.kept.get(identity(series), {})
        times = sorted(time_ns for time_ns in held if start_ns <= time_ns < end_ns)[:limit]
        return [(time_ns, *held[time_ns]) for time_ns in times]

    async def count(self, selector: Selector) -> dict[tuple[str, str, str], int]:
        """Points by series, whatever the selector."""
        del selector
        counts: dict[tuple[str, str, str], int] = {}
        for gateway, device, stream, _ in self.points:
            counts[gateway, device, stream] = counts.get((gateway, device, stream), 0) + 1
        return counts

    async def latest(self, selector: Selector) -> dict[tuple[str, str, str], Point]:
        """The newest of each series, whatever the selector."""
        del selector
        newest: dict[tuple[str, str, str], Point] = {}
        for (gateway, device, stream, time_ns), value in sorted(self.points.items(), key=lambda item: item[0][3]):
            newest[gateway, device, stream] = Point(time_ns, value, 0, 0)
        return newest


def _held(value: Value) -> Value | None:
    return None if isinstance(value, float) and not np.isfinite(value) else value

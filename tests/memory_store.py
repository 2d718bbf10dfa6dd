"""A store in memory at the Store interface, that fails when it is told to: what no real database does on command."""

import asyncio
from collections.abc import Callable, Sequence

from cloud.stores.base import FramePoints, Point, Selector, Series
from contract.errors import PartialWrite, Rejection, StoreUnavailable
from contract.readings import Value


class MemoryStore:
    """Points by (gateway, device, stream, time); counts how often each was written.

    away: writes raise it. refuses: says why a (stream, time) is refused, or None. gate: writes wait for it.
    """

    def __init__(self) -> None:
        self.points: dict[tuple[str, str, str, int], Value] = {}
        self.writes: dict[tuple[str, str, str, int], int] = {}
        self.attempts = 0
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
                    self.writes[key] = self.writes.get(key, 0) + 1
        if rejected:
            raise PartialWrite(rejected)

    async def series(self) -> list[Series]:
        """Not kept."""
        return []

    async def read(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 10_000) -> list[Point]:
        """Points of one series."""
        key = (series.path.gateway, series.device, series.stream)
        times = sorted(time_ns for *names, time_ns in self.points if tuple(names) == key)
        found = [time_ns for time_ns in times if start_ns <= time_ns < end_ns][:limit]
        return [Point(time_ns, self.points[*key, time_ns], 0, 0) for time_ns in found]

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

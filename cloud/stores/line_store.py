"""What every store that speaks line protocol shares: threads, batching, outcomes and reading.

The HTTP libraries block, so each store has a few threads of its own; the event loop never waits on them. A write
that is cancelled may still reach the database, which is harmless: it is the same points when it is written again.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from cloud.stores.base import Columns, FramePoints, Point, Selector, Series
from cloud.stores.http import Answer
from cloud.stores.lines import INFLUX, Dialect, Prefixes
from cloud.stores.writer import LineWriter
from contract.errors import PartialWrite, StoreUnavailable

BATCH_LINES = 10_000
BATCH_LINES_MAX = 20_000
WRITERS = 4  # requests under way: enough that the database always has the next one while it syncs its log
READERS = 2
CONNECTIONS = WRITERS + READERS
PROBE = b"# weinao\n"  # a comment: a write that stores nothing and still shows whether writing would work
Key = tuple[str, str, str]
Result = TypeVar("Result")


class Transport(Protocol):
    """How lines reach one database. Blocking."""

    url: str

    def open(self) -> None:
        """Check that writing can work. Raises StoreUnavailable or ConfigError."""

    def post(self, body: bytes) -> Answer:
        """Send lines and return the server's answer. Raises StoreUnavailable when there is none."""

    def close(self) -> None:
        """Free the connections."""


class Reader(Protocol):
    """The reading half of a store. Blocking; raises StoreUnavailable."""

    def series(self) -> list[Series]:
        """See Store.series."""

    def read(self, series: Series, start_ns: int, end_ns: int, limit: int) -> list[Point]:
        """See Store.read."""

    def columns(self, series: Series, start_ns: int, end_ns: int, limit: int) -> Columns:
        """See Store.columns."""

    def delete(self, series: Series, before_ns: int | None) -> int:
        """See Store.delete. Raises ConfigError when the database can never do this."""

    def count(self, selector: Selector) -> dict[Key, int]:
        """See Store.count."""

    def latest(self, selector: Selector) -> dict[Key, Point]:
        """See Store.latest."""


class LineStore:
    """A Store over a transport and a reader. Up to WRITERS requests are under way, of one write or of several."""

    def __init__(
        self, transport: Transport, reader: Reader, *, batch_lines: int = BATCH_LINES, dialect: Dialect = INFLUX
    ) -> None:
        if not 1 <= batch_lines <= BATCH_LINES_MAX:
            raise ValueError(f"batch_lines is 1 to {BATCH_LINES_MAX}; found {batch_lines}")
        self._transport = transport
        self._reader = reader
        self._batch_lines = batch_lines
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="store-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        self._prefixes = Prefixes(dialect)
        self._closed = False

    async def open(self) -> None:
        """Connect and create what is missing. Raises StoreUnavailable, or ConfigError when it can never work."""
        await self._run(self._writers, self._transport.open)

    async def close(self) -> None:
        """Wait for the requests under way, at most their timeout, and free everything."""
        self._closed = True
        await asyncio.to_thread(self._writers.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._readers.shutdown, cancel_futures=True)
        self._transport.close()

    async def write(self, frames: Sequence[FramePoints]) -> None:
        """Store every point. Raises PartialWrite naming each refused one, or StoreUnavailable."""
        writer = LineWriter(
            frames, self._transport.url, self._transport.post, self._prefixes, batch_lines=self._batch_lines
        )
        points = sum(table.status.size for frame in frames for table in frame.tables)
        workers = max(1, min(WRITERS, -(-points // self._batch_lines)))
        try:
            # All of them end before this does: nothing of a failed write is under way when the caller tries again.
            outcomes = await asyncio.gather(
                *(self._run(self._writers, writer.work) for _ in range(workers)), return_exceptions=True
            )
        except asyncio.CancelledError:
            writer.give_up()
            raise
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if writer.rejected:
            raise PartialWrite(sorted(writer.rejected, key=lambda one: one.frame))

    async def series(self) -> list[Series]:
        """Every series the database holds, sorted; units are empty, the database does not know them."""
        return await self._run(self._readers, self._reader.series)

    async def read(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 10_000) -> list[Point]:
        """Points with start_ns <= time < end_ns, ascending, at most `limit`."""
        return await self._run(self._readers, self._reader.read, series, start_ns, end_ns, limit)

    async def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 50_000) -> Columns:
        """As `read`, in columns."""
        return await self._run(self._readers, self._reader.columns, series, start_ns, end_ns, limit)

    async def delete(self, series: Series, *, before_ns: int | None = None) -> int:
        """Destroy the points of a series; returns how many there were. Raises ConfigError when it cannot be done."""
        return await self._run(self._readers, self._reader.delete, series, before_ns)

    async def count(self, selector: Selector) -> dict[Key, int]:
        """Points by (gateway, device, stream)."""
        return await self._run(self._readers, self._reader.count, selector)

    async def latest(self, selector: Selector) -> dict[Key, Point]:
        """The newest point by (gateway, device, stream)."""
        return await self._run(self._readers, self._reader.latest, selector)

    async def _run(self, threads: ThreadPoolExecutor, function: Callable[..., Result], *arguments: object) -> Result:
        if self._closed:
            raise StoreUnavailable(f"{self._transport.url}: the store is closed")
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)

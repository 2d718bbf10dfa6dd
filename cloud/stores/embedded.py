"""The store that needs no server: DuckDB in this process, one file, columns in as columns.

A frame's points and its receipt are committed in one transaction, which DuckDB syncs to its log before it returns.
A frame that has a receipt is skipped whole, so a gateway may send again as often as it likes. Points themselves are
not compared: that no two frames hold the same point is the gateway's promise (two samples never share a timestamp).

One thread writes and one reads, each with a connection of its own, so a long query delays no write and the event
loop waits on neither. One process may open the file.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cloud.stores.base import Columns, FramePoints, Point, Selector, Series
from cloud.stores.columns import joined
from cloud.stores.duckdb_file import SAME_SERIES, SERIES_COLUMNS, DuckdbFile, Fatal, series_of, series_values
from cloud.stores.lines import FIELDS
from contract.errors import StoreUnavailable
from contract.readings import Quality, quality_of, reason_of

MEMORY_LIMIT_BYTES = 512 * 2**20
Key = tuple[str, str, str]
Result = TypeVar("Result")
_VALUES = "p.value, p.count, p.state, p.text, p.status"
_OF_SERIES = (
    f"WHERE p.series IN (SELECT id FROM series WHERE {SAME_SERIES}) AND p.time_ns >= ? AND p.time_ns < ? "  # noqa: S608
    "ORDER BY p.time_ns LIMIT ?"
)
_LATEST = (
    "{'time_ns': p.time_ns, 'value': p.value, 'count': p.count, 'state': p.state, 'text': p.text, 'status': p.status}"
)


class EmbeddedStore:
    """A Store on one file. `threads` and `memory_limit_bytes` bound what DuckDB itself takes."""

    def __init__(self, path: Path, *, threads: int = 2, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> None:
        self._path = path
        self._threads = threads
        self._memory_limit_bytes = memory_limit_bytes
        self._file: DuckdbFile | None = None
        self._is_open = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="duckdb-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="duckdb-read")

    async def open(self) -> None:
        """Open or create the file. Raises ConfigError when it is not ours or another process has it."""
        self._is_open = True
        await self._run(self._writer, self._opened)

    async def close(self) -> None:
        """Fold the log into the file and let it go."""
        if not self._is_open:
            return
        await self._run(self._reader, lambda: None)  # a query under way ends first
        await self._run(self._writer, self._drop)
        self._is_open = False
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._reader.shutdown)

    async def write(self, frames: Sequence[FramePoints]) -> None:
        """Store every frame not stored yet, all in one transaction. Raises StoreUnavailable (disk full, ...)."""
        await self._run(self._writer, lambda: self._write(frames))

    async def series(self) -> list[Series]:
        """Every series, sorted."""
        rows = await self.query(f"SELECT {SERIES_COLUMNS} FROM series ORDER BY ALL")  # noqa: S608
        return [series_of(row) for row in rows]

    async def read(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 10_000) -> list[Point]:
        """Points with start_ns <= time < end_ns, ascending, at most `limit`."""
        rows = await self.query(
            f"SELECT p.time_ns, {_VALUES} FROM points p {_OF_SERIES}",  # noqa: S608
            [*series_values(series), _int64(start_ns), _int64(end_ns), limit],
        )
        return [_point(row) for row in rows]

    async def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 50_000) -> Columns:
        """As `read`, in columns. A point that was stored twice (see above) is given once."""
        return await self._run(self._reader, lambda: self._columns(series, start_ns, _int64(end_ns), limit))

    async def delete(self, series: Series, *, before_ns: int | None = None) -> int:
        """Destroy the points of a series; returns how many there were. Receipts stay: nothing comes back by itself."""
        return await self._run(self._writer, lambda: self._delete(series, before_ns))

    async def count(self, selector: Selector) -> dict[Key, int]:
        """Points by (gateway, device, stream)."""
        rows = await self._select("count(*)", selector)
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    async def latest(self, selector: Selector) -> dict[Key, Point]:
        """The newest point by (gateway, device, stream)."""
        rows = await self._select(f"unnest(arg_max({_LATEST}, p.time_ns))", selector)
        return {(row[0], row[1], row[2]): _point(row[3:]) for row in rows}

    async def query(self, sql: str, parameters: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of one read-only statement, beside the writing: for status pages, exports and the CLI.

        The tables are `series` and `points` (see duckdb_file); files and extensions are out of reach.
        Raises StoreUnavailable, also for a statement that is wrong or would change something.
        """
        values = list(parameters)
        return await self._run(self._reader, lambda: self._need().read(sql, values))

    async def _select(self, what: str, selector: Selector) -> list[tuple[Any, ...]]:
        wanted = (("gateway", selector.gateway), ("device", selector.device), ("stream", selector.stream))
        chosen = [(name, value) for name, value in wanted if value is not None]
        where = " AND ".join(["true", *(f"s.{name} = ?" for name, _ in chosen)])
        return await self.query(
            f"SELECT s.gateway, s.device, s.stream, {what} FROM points p JOIN series s ON p.series = s.id "  # noqa: S608
            f"WHERE {where} GROUP BY s.gateway, s.device, s.stream",
            [value for _, value in chosen],
        )

    def _columns(self, series: Series, start_ns: int, end_ns: int, limit: int) -> Columns:
        pages: list[Columns] = []
        wanted = limit
        while wanted > 0 and start_ns < end_ns:
            found = self._need().read_columns(
                f"SELECT p.time_ns, p.{FIELDS[series.kind]} AS held, p.status FROM points p {_OF_SERIES}",  # noqa: S608
                [*series_values(series), _int64(start_ns), end_ns, wanted],
            )
            times = np.ma.getdata(found["time_ns"])
            fresh = np.ones(times.size, dtype=np.bool_)
            fresh[1:] = times[1:] != times[:-1]
            held = found["held"][fresh]
            pages.append(
                Columns(
                    times[fresh],
                    np.ma.getdata(held),
                    ~np.ma.getmaskarray(held),
                    np.ma.getdata(found["status"])[fresh].astype(np.uint8, copy=False),
                )
            )
            if times.size < wanted:
                break
            wanted -= pages[-1].times.size
            start_ns = int(times[-1]) + 1
        return joined(pages, series.kind)

    def _delete(self, series: Series, before_ns: int | None) -> int:
        try:
            return self._opened().delete(series, None if before_ns is None else _int64(before_ns))
        except Fatal as error:
            self._drop()
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _write(self, frames: Sequence[FramePoints]) -> None:
        try:
            self._opened().write(frames)
        except Fatal as error:
            self._drop()  # DuckDB takes nothing more after this; the next write opens the file anew
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _opened(self) -> DuckdbFile:
        if self._file is None:
            self._file = DuckdbFile(self._path, threads=self._threads, memory_limit_bytes=self._memory_limit_bytes)
        return self._file

    def _need(self) -> DuckdbFile:
        if self._file is None:
            raise StoreUnavailable(f"{self._path}: is not open")
        return self._file

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    async def _run(self, threads: ThreadPoolExecutor, function: Callable[[], Result]) -> Result:
        if not self._is_open:
            raise StoreUnavailable(f"{self._path}: is not open")
        return await asyncio.get_running_loop().run_in_executor(threads, function)


def _int64(time_ns: int) -> int:
    return min(max(time_ns, -(2**63)), 2**63 - 1)


def _point(row: tuple[Any, ...]) -> Point:
    time_ns, *columns, code = row
    value = next((one for one in columns if one is not None), None)
    quality = quality_of(code)
    return Point(time_ns, value, quality, 0 if quality is Quality.GOOD else reason_of(code))

"""The tail: what passed of late, so that live streams can be taken up where they were left.

A collector puts each data frame here as it arrives, before the database has it, and acknowledges none that is not on
this disk, too. So whatever a gateway was acknowledged is in the tail, and what the database cannot take yet as well.
The hub follows the file, in the same process or another one.

    frames(id, time_ns, path, payload)      id rises for ever, is never given twice, and is the first half of event ids
    about(lost)                             frames that could not be put, for good

SQLite, WAL, synchronous=FULL; frames that arrive within `GROUP_S` share a transaction and a sync of the disk. Several
collectors of one machine write the same file. Bounded in bytes: the oldest go, a chunk at a time. A disk that fails
never stops collecting: what waits beyond `MAX_WAITING_BYTES` is let go and counted in `lost`, whose change tells those
who follow that something is missing.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cloud.sqlite_file import connect, transaction
from contract.errors import StoreUnavailable
from contract.topics import GatewayPath, TopicKind, parse

log = logging.getLogger(__name__)

GROUP_S = 0.01
MAX_WAITING_BYTES = 64 * 2**20
OVERHEAD_BYTES = 120  # a row beside its payload
CHUNK_SHARE = 0.02  # of the bytes, dropped at once
_AGAIN_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, path TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS about (bytes INTEGER NOT NULL, lost INTEGER NOT NULL);
INSERT INTO about SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM about);
"""


class TailFrame(NamedTuple):
    """A frame as it came. time_ns: when the collector got it, UTC."""

    id: int
    time_ns: int
    path: GatewayPath
    payload: bytes


class _Waiting(NamedTuple):
    time_ns: int
    path: str
    payload: bytes


class Tail:
    """The writing end. One event loop; `run` must be running for anything to become durable."""

    def __init__(self, file: Path, *, max_bytes: int, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._db = connect(file, _SCHEMA)
        self._max_bytes = max_bytes
        self._now_ns = now_ns
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._put = self._done = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Condition()
        self._trouble = False
        self._lost = 0
        self.lost = 0

    def put(self, topic: str, payload: bytes) -> None:
        """Take a message that arrived; anything that is not a frame of a gateway is none of the tail's business."""
        try:
            kind, path = parse(topic)
        except ValueError:
            return  # the collector quarantines it
        if kind is not TopicKind.DATA:
            return
        cost = len(payload) + OVERHEAD_BYTES
        if self._waiting_bytes + cost > MAX_WAITING_BYTES:
            self._lost += 1
            self.lost += 1
            return
        self._waiting.append(_Waiting(self._now_ns(), str(path), payload))
        self._waiting_bytes += cost
        self._put += 1
        self._wake.set()

    async def synced(self) -> None:
        """Wait until everything that was put before is on the disk; at once while the disk fails."""
        wanted = self._put
        async with self._settled:
            await self._settled.wait_for(lambda: self._done >= wanted or self._trouble)

    async def run(self) -> None:
        """Write what is put, until cancelled; then once more."""
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(GROUP_S)
                self._wake.clear()
                await self._write_some()
                if self._trouble:
                    await asyncio.sleep(_AGAIN_S)
                    self._wake.set()
        finally:
            with contextlib.suppress(StoreUnavailable):
                self._write(self._waiting, self._lost)
            self._db.close()

    async def _write_some(self) -> None:
        taken, lost, trouble = self._waiting, self._lost, ""
        self._waiting, self._lost = [], 0
        try:
            await asyncio.to_thread(self._write, taken, lost)
        except StoreUnavailable as error:
            trouble = str(error)
            self._waiting = taken + self._waiting
            self._lost += lost
        else:
            self._waiting_bytes -= sum(len(one.payload) + OVERHEAD_BYTES for one in taken)
            self._done += len(taken)
        if bool(trouble) != self._trouble:
            log.warning(
                "%s",
                f"the tail takes nothing: {trouble}; live streams stand still" if trouble else "the tail takes again",
            )
        async with self._settled:
            self._trouble = bool(trouble)
            self._settled.notify_all()

    def _write(self, frames: Sequence[_Waiting], lost: int) -> None:
        if not frames and not lost:
            return
        with transaction(self._db):
            self._db.executemany("INSERT INTO frames (time_ns, path, payload) VALUES (?, ?, ?)", frames)
            cost = sum(len(one.payload) + OVERHEAD_BYTES for one in frames)
            self._db.execute("UPDATE about SET bytes = bytes + ?, lost = lost + ?", (cost, lost))
            (kept,) = self._db.execute("SELECT bytes FROM about").fetchone()
            if kept > self._max_bytes:
                self._drop_oldest(kept - round(self._max_bytes * (1 - CHUNK_SHARE)))

    def _drop_oldest(self, n_bytes: int) -> None:
        dropped, last = 0, 0
        for key, size in self._db.execute("SELECT id, length(payload) FROM frames ORDER BY id"):
            if dropped >= n_bytes:
                break
            dropped, last = dropped + size + OVERHEAD_BYTES, key
        self._db.execute("DELETE FROM frames WHERE id <= ?", (last,))
        self._db.execute("UPDATE about SET bytes = bytes - ?", (dropped,))


class TailReader:
    """The reading end, in any process. Blocking; one thread at a time. A file that is not there yet is empty."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._db: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def after(self, number: int, limit: int = 500) -> list[TailFrame]:
        """Frames with id > number, ascending, at most `limit`."""
        rows = self._rows(
            "SELECT id, time_ns, path, payload FROM frames WHERE id > ? ORDER BY id LIMIT ?", number, limit
        )
        return [TailFrame(key, time_ns, GatewayPath(*path.split("/")), payload) for key, time_ns, path, payload in rows]

    def bounds(self) -> tuple[int, int]:
        """The ids of the oldest and the newest frame that are there; (1, 0) when none ever was.

        When all are gone: the id after the newest that ever was, and that id.
        """
        rows = self._rows(
            "WITH newest AS (SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'frames'), 0) AS id) "
            "SELECT coalesce((SELECT min(id) FROM frames), newest.id + 1), newest.id FROM newest"
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (1, 0)

    def lost(self) -> int:
        """Frames that could not be put, ever."""
        rows = self._rows("SELECT lost FROM about")
        return int(rows[0][0]) if rows else 0

    def _rows(self, sql: str, *values: int) -> list[tuple[int, int, str, bytes]]:
        with self._lock:
            try:
                if self._db is None:
                    self._db = self._open()
                return [] if self._db is None else self._db.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if self._db is not None:
                    self._db.close()
                    self._db = None
                raise StoreUnavailable(f"{self._file}: {error}") from None

    def _open(self) -> sqlite3.Connection | None:
        if not self._file.exists():
            return None
        uri = f"{self._file.absolute().as_uri()}?mode=ro"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5, check_same_thread=False)
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchall():
            db.close()
            return None  # made this instant; its tables come next
        return db

"""What the cloud could not store, kept with the reason, so that a person can look and nothing is silently gone.

SQLite, beside the ledger. Bounded in bytes: the oldest goes first, and is counted. An entry is keyed by what it is, so
that a frame delivered twice (a collector killed at the wrong instant) leaves one entry.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud.sqlite_file import connect, transaction

MAX_REASON_CHARS = 500
_OVERHEAD_BYTES = 200  # an entry's row, key and index beside its payload

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, time_ns INTEGER NOT NULL,
    gateway TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, readings INTEGER NOT NULL,
    cost INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS totals (entries INTEGER, bytes INTEGER, dropped_entries INTEGER, dropped_bytes INTEGER);
INSERT INTO totals SELECT 0, 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM totals);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing put aside. gateway: its path, or the topic as it came. reason: a word; detail: a sentence.

    readings: how many, 0 when it is not known (an undecodable message). payload: the message, or readings as JSON.
    """

    gateway: str
    reason: str
    detail: str
    readings: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class QuarantineTotals:
    """How much is kept, and how much had to go."""

    entries: int
    bytes: int
    dropped_entries: int
    dropped_bytes: int


class Quarantine:
    """Entries on disk. Every method may be called from any thread."""

    def __init__(self, file: Path, *, max_bytes: int) -> None:
        self._db = connect(file, _SCHEMA)
        self._max_bytes = max_bytes
        self._lock = threading.RLock()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()

    def put(self, entries: Sequence[Entry], now_ns: int) -> int:
        """Keep them, durably; those that are there already stay one. Returns how many were new."""
        if not entries:
            return 0
        with self._lock, transaction(self._db):
            new = n_bytes = 0
            for entry in entries:
                cost = len(entry.payload) + _OVERHEAD_BYTES
                cursor = self._db.execute(
                    "INSERT OR IGNORE INTO entries (key, time_ns, gateway, reason, detail, readings, cost, payload) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        _key(entry),
                        now_ns,
                        entry.gateway,
                        entry.reason,
                        entry.detail[:MAX_REASON_CHARS],
                        entry.readings,
                        cost,
                        entry.payload,
                    ),
                )
                new += cursor.rowcount
                n_bytes += cost * cursor.rowcount
            self._db.execute("UPDATE totals SET entries = entries + ?, bytes = bytes + ?", (new, n_bytes))
            self._drop_oldest()
        return new

    def totals(self) -> QuarantineTotals:
        """What is kept and what was dropped."""
        with self._lock:
            return QuarantineTotals(*self._db.execute("SELECT * FROM totals").fetchone())

    def newest(self, limit: int = 100) -> list[Entry]:
        """The latest entries, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT gateway, reason, detail, readings, payload FROM entries ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [Entry(*row) for row in rows]

    def by_reason(self) -> dict[str, int]:
        """Entries kept, by reason."""
        with self._lock:
            return dict(self._db.execute("SELECT reason, count(*) FROM entries GROUP BY reason").fetchall())

    def _drop_oldest(self) -> None:
        (kept,) = self._db.execute("SELECT bytes FROM totals").fetchone()
        for key, cost in self._db.execute("SELECT id, cost FROM entries ORDER BY id").fetchmany(10_000):
            if kept <= self._max_bytes:
                return
            kept -= cost
            self._db.execute("DELETE FROM entries WHERE id = ?", (key,))
            self._db.execute(
                "UPDATE totals SET entries = entries - 1, bytes = bytes - ?1, "
                "dropped_entries = dropped_entries + 1, dropped_bytes = dropped_bytes + ?1",
                (cost,),
            )


def _key(entry: Entry) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in (entry.gateway.encode(), entry.reason.encode(), entry.payload):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()

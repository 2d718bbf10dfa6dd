"""Purging the collector's own files: quarantine and tail hold readings that the store never had, or has as well.

A frame is kept without the readings, written anew; a quarantine entry that lists readings keeps the others. What cannot
be decoded, or whose catalogue is forgotten, cannot be proven innocent: it is destroyed whole, and counted. Births and
states in quarantine hold no readings and stay.

Rows of the tail keep their number, so live streams go on and resume as before; the readings of other streams in a
frame that was written anew may have other places in it, so a client that resumes in the middle of just that frame may
get some of its readings twice or not at all.

Deleted bytes are overwritten (SQLite's secure_delete), and the write-ahead log is emptied when no one reads.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cloud.births_read import BirthsReader
from cloud.quarantine import _OVERHEAD_BYTES as _ENTRY_BYTES
from cloud.sqlite_file import BUSY_TIMEOUT_S, transaction
from contract import command, frame
from contract.errors import FrameError, StoreUnavailable
from contract.topics import GatewayPath

_ROWS_AT_ONCE = 100
_NO_READINGS = frozenset({"bad_birth", "bad_state", "bad_ack", "bad_cmd", "bad_reply"})


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be destroyed: by gateway, (device, stream) of the streams.

    No stream means all that the gateway ever sent, an empty stream all of the device. until_ns: readings measured
    before it. numbers: the streams' numbers in the catalogue, by gateway.
    """

    until_ns: int
    gateways: Mapping[GatewayPath, frozenset[tuple[str, str]]]
    numbers: Mapping[GatewayPath, tuple[int, ...]] = field(default_factory=dict)

    def of(self, path: GatewayPath) -> "Scope":
        """The part of one gateway."""
        return Scope(self.until_ns, {path: self.gateways[path]}, {path: self.numbers.get(path, ())})

    def means(self, path: GatewayPath, device: str, stream: str) -> bool:
        """Whether the stream is to be destroyed."""
        names = self.gateways.get(path)
        return names is not None and (not names or (device, stream) in names or (device, "") in names)


@dataclass(slots=True)
class Outcome:
    """What was found, or done. rows: those that held readings of it. unreadable: rows that may have."""

    rows: int = 0
    readings: int = 0
    unreadable: int = 0

    @property
    def total(self) -> int:
        """Rows of either kind."""
        return self.rows + self.unreadable


@dataclass(frozen=True, slots=True)
class _Sifted:
    """A payload without the readings; None: to be destroyed whole. left: readings that stay in it."""

    payload: bytes | None
    readings: int
    left: int
    unreadable: bool = False


class _Sieve:
    """Takes the readings of a scope out of payloads."""

    def __init__(self, scope: Scope, births: BirthsReader) -> None:
        self._scope = scope
        self._ids = lru_cache(256)(lambda path, epoch: self._chosen(births, path, epoch))

    def frame(self, path: GatewayPath, payload: bytes) -> _Sifted | None:
        """None when nothing of it is meant."""
        try:
            epoch = frame.peek(payload).epoch
            ids = self._ids(path, epoch) if self._scope.gateways[path] else None
            if ids is not None and not ids:
                return None
            if ids is None and self._scope.gateways[path]:
                return _Sifted(None, 0, 0, unreadable=True)
            kept, count = command.without(frame.decode(payload), ids, self._scope.until_ns)
        except FrameError:
            return _Sifted(None, 0, 0, unreadable=True)
        if not count:
            return None
        left = sum(table.count() for table in kept.tables)
        return _Sifted(frame.encode(kept) if left else None, count, left)

    def listed(self, path: GatewayPath, payload: bytes, kept_ns: int) -> _Sifted | None:
        """A quarantine entry that lists readings. An entry of before the purge loses all, however they are dated."""
        try:
            body = json.loads(payload)
            readings = body["readings"]
            gone = [one for one in readings if self._means(path, one[0], one[1], kept_ns)]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return _Sifted(None, 0, 0, unreadable=True)
        if not gone:
            return None
        body["readings"] = [one for one in readings if one not in gone]
        text = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass") if body["readings"] else None
        return _Sifted(text, len(gone), len(body["readings"]))

    def _means(self, path: GatewayPath, name: str, time_ns: int, kept_ns: int) -> bool:
        if min(kept_ns, time_ns) >= self._scope.until_ns:
            return False
        device, _, stream = name.partition("/")
        return self._scope.means(path, device, stream)

    def _chosen(self, births: BirthsReader, path: GatewayPath, epoch: int) -> frozenset[int] | None:
        birth = births.get(path, epoch)
        return None if birth is None else command.chosen(birth, self._scope.gateways[path])


class FilesPurge:
    """Quarantine and tail of one data directory. Blocking; the collector may be running. A missing file is empty."""

    def __init__(self, quarantine: Path, tail: Path, births: BirthsReader) -> None:
        self._quarantine = quarantine
        self._tail = tail
        self._births = births

    def quarantine(self, scope: Scope, *, destroy: bool) -> Outcome:
        """Look through the quarantine, and destroy what is found if asked. Raises StoreUnavailable."""
        sieve = _Sieve(scope, self._births)
        paths = {str(path): path for path in scope.gateways}

        def sift(row: tuple[Any, ...]) -> _Sifted | None:
            _, _, gateway, reason, kept_ns, payload = row
            path = paths.get(gateway)
            if path is None or reason in _NO_READINGS:
                return None
            listed = payload.startswith(b'{"')
            found = sieve.listed(path, payload, kept_ns) if listed else sieve.frame(path, payload)
            # Bytes that came after the purge and cannot be read are no reading of before it, as far as one can know.
            return None if found is not None and found.unreadable and kept_ns >= scope.until_ns else found

        def change(db: sqlite3.Connection, row: tuple[Any, ...], sifted: _Sifted) -> None:
            number, cost, *_ = row
            if sifted.payload is None:
                db.execute("DELETE FROM entries WHERE id = ?", (number,))
                db.execute("UPDATE totals SET entries = entries - 1, bytes = bytes - ?", (cost,))
                return
            # The key stays that of the whole entry: a copy that comes again is known and not kept.
            smaller = len(sifted.payload) + _ENTRY_BYTES
            db.execute(
                "UPDATE entries SET payload = ?, cost = ?, readings = ? WHERE id = ?",
                (sifted.payload, smaller, sifted.left, number),
            )
            db.execute("UPDATE totals SET bytes = bytes + ?", (smaller - cost,))

        columns = "id, cost, gateway, reason, time_ns, payload FROM entries"
        return _walk(self._quarantine, columns, sift, change if destroy else None)

    def tail(self, scope: Scope, *, destroy: bool) -> Outcome:
        """As `quarantine`, for the tail."""
        sieve = _Sieve(scope, self._births)
        paths = {str(path): path for path in scope.gateways}

        def sift(row: tuple[Any, ...]) -> _Sifted | None:
            _, passed_ns, gateway, payload = row
            path = paths.get(gateway)
            found = sieve.frame(path, payload) if path is not None else None
            return None if found is not None and found.unreadable and passed_ns >= scope.until_ns else found

        def change(db: sqlite3.Connection, row: tuple[Any, ...], sifted: _Sifted) -> None:
            number, payload = row[0], row[3]
            kept = sifted.payload if sifted.payload is not None else b""
            # An emptied row keeps its number, so nothing seems missing to those who follow.
            db.execute("UPDATE frames SET payload = ? WHERE id = ?", (kept, number))
            db.execute("UPDATE about SET bytes = bytes + ?", (len(kept) - len(payload),))

        columns = "id, time_ns, path, payload FROM frames WHERE length(payload) > 0 AND true"
        return _walk(self._tail, columns, sift, change if destroy else None)


def _walk(
    file: Path,
    columns: str,
    sift: Callable[[tuple[Any, ...]], _Sifted | None],
    change: Callable[[sqlite3.Connection, tuple[Any, ...], _Sifted], None] | None,
) -> Outcome:
    """Every row, some at a time, so that the collector waits for no more than those. Raises StoreUnavailable."""
    outcome = Outcome()
    glue = "AND" if "WHERE" in columns else "WHERE"
    query = f"SELECT {columns} {glue} id > ? ORDER BY id LIMIT {_ROWS_AT_ONCE}"
    with _opened(file) as db:
        after = 0
        while db is not None:
            with transaction(db) if change is not None else contextlib.nullcontext():
                rows = db.execute(query, (after,)).fetchall()
                for row in rows:
                    found = sift(row)
                    if found is None:
                        continue
                    outcome.rows += not found.unreadable
                    outcome.unreadable += found.unreadable
                    outcome.readings += found.readings
                    if change is not None:
                        change(db, row, found)
            if not rows:
                break
            after = rows[-1][0]
        if db is not None and change is not None and outcome.total:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return outcome


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection | None]:
    if not file.exists():
        yield None
        return
    try:
        db = sqlite3.connect(file, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            for pragma in ("synchronous=FULL", "secure_delete=ON"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            yield db
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"{file}: {error}") from None

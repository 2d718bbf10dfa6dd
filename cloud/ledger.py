"""The ledger's file: which frames arrived, once each, and what was in them.

SQLite, WAL, shared by the collectors of one machine. A batch of frames is one transaction: one receipt row a frame,
keyed (boot, sequence), so that nothing counts twice, whoever delivers it again. From time to time receipts are
folded: merged into the book of their boot and of their hour, deleted, and their sequences kept as ranges.

`synchronous=FULL`: a commit is followed by the acknowledgement that lets the gateway free its disk, and the gateway's
copy of these numbers with it. A power cut that took back the last commits (as NORMAL may) would leave the ledger open
for ever. It costs one fsync a batch, not a frame.

    gateways 1--n boots 1--n receipts        boots: received and rejected ranges, the boot's book
           1--n streams         1--n hours   meta: how often anything was folded, so that other processes notice
"""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cloud.ledger_book import EMPTY, Book, merge, merge_settled, settle, unpack
from cloud.ledger_read import read_report
from cloud.ledger_report import HOUR_NS, UNKNOWN, LedgerReport
from cloud.ledger_sequences import Sequences, load
from cloud.sqlite_file import connect, transaction
from cloud.states import State
from contract.catalogue import Birth
from contract.readings import Ints
from contract.topics import GatewayPath

MAX_RANGES = 65_536  # holes a boot may have; beyond, its frames are refused, as memory is bounded
FOLD_BOOTS = 50  # boots folded in one transaction: about 15 ms
FOLD_PAUSE_S = 0.01
MAX_BOOTS = 200  # boots of a gateway kept apart; older ones are summed up

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (folds INTEGER NOT NULL, version INTEGER NOT NULL);
INSERT INTO meta SELECT 0, 1 WHERE NOT EXISTS (SELECT 1 FROM meta);
CREATE TABLE IF NOT EXISTS gateways (
    id INTEGER PRIMARY KEY, city TEXT, district TEXT, street TEXT, gateway TEXT,
    online INTEGER, state_boot INTEGER, next_sequence INTEGER, oldest_sequence INTEGER, settled BLOB,
    UNIQUE (city, district, street, gateway));
CREATE TABLE IF NOT EXISTS streams (
    id INTEGER PRIMARY KEY, gateway_id INTEGER NOT NULL, device TEXT NOT NULL, stream TEXT NOT NULL,
    interval_s REAL, scheduled INTEGER NOT NULL, UNIQUE (gateway_id, device, stream));
CREATE TABLE IF NOT EXISTS boots (
    id INTEGER PRIMARY KEY, gateway_id INTEGER NOT NULL, boot INTEGER NOT NULL, started_ns INTEGER NOT NULL,
    received TEXT NOT NULL DEFAULT '[]', rejected TEXT NOT NULL DEFAULT '[]', book BLOB,
    pruned INTEGER NOT NULL DEFAULT 0, promised INTEGER NOT NULL DEFAULT 0, UNIQUE (gateway_id, boot));
CREATE TABLE IF NOT EXISTS receipts (
    boot_id INTEGER NOT NULL, sequence INTEGER NOT NULL, time_ns INTEGER NOT NULL, book BLOB,
    PRIMARY KEY (boot_id, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hours (
    boot_id INTEGER NOT NULL, hour INTEGER NOT NULL, book BLOB NOT NULL,
    PRIMARY KEY (boot_id, hour)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """One frame that is dealt with: its book, or None when it was rejected whole. time_ns: when it was closed."""

    path: GatewayPath
    boot: int
    sequence: int
    time_ns: int
    book: Book | None


class _Stream(NamedTuple):
    id: int
    interval_s: float | None
    scheduled: bool

    def changed_by(self, interval_s: float | None, *, scheduled: bool) -> bool:
        """Whether a birth that says this changes what is noted (see _stream)."""
        longer = self.interval_s is not None and (interval_s is None or interval_s > self.interval_s)
        return longer or (self.scheduled and not scheduled)


@dataclass(slots=True)
class _Boot:
    id: int
    received: Sequences
    folds: int  # the count of folds that `received` knows of


@dataclass(slots=True)
class _Caches:
    gateways: dict[GatewayPath, int] = field(default_factory=dict)
    boots: OrderedDict[tuple[GatewayPath, int], _Boot] = field(default_factory=OrderedDict)

    def clear(self) -> None:
        self.gateways.clear()
        self.boots.clear()


class Ledger:
    """One process's hand on the ledger's file. Every method may be called from any thread, one at a time goes on."""

    def __init__(self, file: Path, *, keep_hours: int = 24 * 31, cached_boots: int = 4096) -> None:
        self._db = connect(file, _SCHEMA)
        self._lock = threading.RLock()
        self._keep_hours = keep_hours
        self._cached_boots = cached_boots
        self._caches = _Caches()

    def close(self) -> None:
        """Release the file. What was committed is there."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is noted inside becomes durable at its end, with one sync of the disk."""
        with self._transaction():
            yield

    def rows_of(self, path: GatewayPath, birth: Birth) -> Ints:
        """The ledger's id of each stream id of `birth`, -1 where there is none (n,).

        Durable when it returns, or at the end of `together`. A stream's interval is the longest that any birth gave it,
        and it is scheduled only while every birth says so: the check against the catalogue must never raise a false
        alarm.
        """
        ids = [stream.id for device in birth.devices for stream in device.streams]
        rows: Ints = np.full(max(ids, default=-1) + 1, -1, dtype=np.int64)
        with self._transaction():
            gateway = self._gateway(path)
            known = self._streams(gateway)
            for device in birth.devices:
                for stream in device.streams:
                    noted = known.get((device.name, stream.name))
                    if noted is None or noted.changed_by(stream.interval_s, scheduled=stream.scheduled):
                        rows[stream.id] = self._stream(
                            gateway, device.name, stream.name, stream.interval_s, scheduled=stream.scheduled
                        )
                    else:
                        rows[stream.id] = noted.id
        return rows

    def unknown_row(self, path: GatewayPath) -> int:
        """The ledger's id for readings of this gateway that no birth names."""
        with self._transaction():
            gateway = self._gateway(path)
            found = self._db.execute(
                "SELECT id FROM streams WHERE gateway_id = ? AND device = ? AND stream = ?", (gateway, UNKNOWN, UNKNOWN)
            ).fetchone()
            return int(found[0]) if found else self._stream(gateway, UNKNOWN, UNKNOWN, None, scheduled=False)

    def known(self, path: GatewayPath, boot: int, sequence: int) -> bool:
        """Is this frame dealt with already? False is no promise, as others may be at it: `commit` decides."""
        with self._lock:
            found = self._boot_read(path, boot)
            return found is not None and sequence in found.received

    def has_room(self, path: GatewayPath, boot: int) -> bool:
        """May more frames of this boot be noted, or has it too many holes already?"""
        with self._lock:
            found = self._boot_read(path, boot)
            return found is None or found.received.n_ranges() < MAX_RANGES

    def commit(self, receipts: Sequence[Receipt]) -> int:
        """Note frames, durably. Returns how many were new; one that is known already changes nothing."""
        rows: list[tuple[int, int, int, bytes | None]] = []
        with self._transaction():
            folds = self._folds()
            for one in receipts:
                boot = self._boot(one, folds)
                if boot.received.add(one.sequence):
                    rows.append((boot.id, one.sequence, one.time_ns, one.book.pack() if one.book else None))
            if not rows:
                return 0
            return self._db.executemany("INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?)", rows).rowcount

    def note_state(self, path: GatewayPath, state: State) -> None:
        """Remember what a gateway says of its outbox."""
        with self._transaction():
            self._db.execute("UPDATE gateways SET online = ? WHERE id = ?", (state.online, self._gateway(path)))
            if state.next_sequence is None:
                return
            self._db.execute(
                "UPDATE boots SET promised = max(promised, ?) WHERE gateway_id = ? AND boot = ?",
                (state.next_sequence, self._gateway(path), state.boot),
            )
            # A will was written when the gateway connected, so it may be older than the state before it.
            self._db.execute(
                "UPDATE gateways SET state_boot = ?1, next_sequence = ?2, oldest_sequence = ?3 WHERE id = ?4 AND "
                "(state_boot IS NOT ?1 OR ?2 >= next_sequence)",
                (state.boot, state.next_sequence, state.oldest_sequence, self._gateway(path)),
            )

    def fold(self, now_ns: int) -> int:
        """Merge receipts into the books and drop hours that are too old. Returns how many receipts were folded.

        FOLD_BOOTS at a time, so that frames wait for a part of it, not for all.
        """
        with self._lock:
            found = [row[0] for row in self._db.execute("SELECT DISTINCT boot_id FROM receipts").fetchall()]
        folded = 0
        for first in range(0, len(found), FOLD_BOOTS):
            if first:
                time.sleep(FOLD_PAUSE_S)  # a lock that is taken again at once is never another thread's
            folded += self._fold_some(found[first : first + FOLD_BOOTS], now_ns)
        with self._transaction():
            oldest = now_ns // HOUR_NS - self._keep_hours
            self._db.execute(
                "UPDATE boots SET pruned = 1 WHERE id IN (SELECT boot_id FROM hours WHERE hour < ?)", (oldest,)
            )
            self._db.execute("DELETE FROM hours WHERE hour < ?", (oldest,))
            if folded:
                self._settle_old_boots(now_ns)
        return folded

    def _fold_some(self, boot_ids: Sequence[int], now_ns: int) -> int:
        with self._transaction():
            cached = {boot.id: boot for boot in self._caches.boots.values()}
            waiting = self._with_receipts(boot_ids)  # another process may have folded some
            folded = sum(self._fold_boot(boot_id, now_ns, cached.get(boot_id)) for boot_id in waiting)
            self._db.execute("UPDATE meta SET folds = folds + 1")
            folds = self._folds()
            for boot in self._caches.boots.values():
                boot.folds += boot.folds == folds - 1  # what our own fold changed, it changed here as well
        return folded

    def report(self, *, stream: str | None = None, hours: bool = False) -> LedgerReport:
        """The books as they stand, receipts that are not folded yet included."""
        with self._lock:
            return read_report(self._db, stream=stream, hours=hours)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; whatever a failed one left in the caches is forgotten."""
        with self._lock:
            try:
                with transaction(self._db):
                    yield
            except BaseException:
                self._caches.clear()
                raise

    def _folds(self) -> int:
        (folds,) = self._db.execute("SELECT folds FROM meta").fetchone()
        return int(folds)

    def _gateway(self, path: GatewayPath) -> int:
        found = self._caches.gateways.get(path)
        if found is None:
            names = (path.city, path.district, path.street, path.gateway)
            self._db.execute(
                "INSERT OR IGNORE INTO gateways (city, district, street, gateway) VALUES (?, ?, ?, ?)", names
            )
            (found,) = self._db.execute(
                "SELECT id FROM gateways WHERE city = ? AND district = ? AND street = ? AND gateway = ?", names
            ).fetchone()
            self._caches.gateways[path] = int(found)
        return int(found)

    def _streams(self, gateway: int) -> dict[tuple[str, str], _Stream]:
        found = self._db.execute(
            "SELECT device, stream, id, interval_s, scheduled FROM streams WHERE gateway_id = ?", (gateway,)
        )
        return {(device, stream): _Stream(key, interval_s, bool(yes)) for device, stream, key, interval_s, yes in found}

    def _stream(self, gateway: int, device: str, stream: str, interval_s: float | None, *, scheduled: bool) -> int:
        (row,) = self._db.execute(
            "INSERT INTO streams (gateway_id, device, stream, interval_s, scheduled) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET interval_s = max(interval_s, excluded.interval_s), "
            "scheduled = min(scheduled, excluded.scheduled) RETURNING id",
            (gateway, device, stream, interval_s, scheduled),
        ).fetchone()
        return int(row)

    def _boot(self, one: Receipt, folds: int) -> _Boot:
        found = self._caches.boots.get((one.path, one.boot))
        if found is not None and found.folds == folds:
            return found
        # The earliest frame dates the boot: the newest may be drained first.
        self._db.execute(
            "INSERT INTO boots (gateway_id, boot, started_ns) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET started_ns = min(started_ns, excluded.started_ns)",
            (self._gateway(one.path), one.boot, one.time_ns),
        )
        read = self._boot_read(one.path, one.boot, fresh=True)
        assert read is not None  # noqa: S101 - it was just inserted
        return read

    def _boot_read(self, path: GatewayPath, boot: int, *, fresh: bool = False) -> _Boot | None:
        found = self._caches.boots.get((path, boot))
        if found is not None and not fresh:
            return found
        row = self._db.execute(
            "SELECT boots.id, received, folds FROM boots, meta WHERE boot = ? AND gateway_id = "
            "(SELECT id FROM gateways WHERE city = ? AND district = ? AND street = ? AND gateway = ?)",
            (boot, path.city, path.district, path.street, path.gateway),
        ).fetchone()
        if row is None:
            return None
        received = load(row[1])
        for (sequence,) in self._db.execute("SELECT sequence FROM receipts WHERE boot_id = ?", (row[0],)):
            received.add(sequence)
        made = _Boot(int(row[0]), received, int(row[2]))
        self._caches.boots[path, boot] = made
        while len(self._caches.boots) > self._cached_boots:
            self._caches.boots.popitem(last=False)
        return made

    def _fold_boot(self, boot_id: int, now_ns: int, cached: _Boot | None) -> int:
        (received_json, rejected_json, packed) = self._db.execute(
            "SELECT received, rejected, book FROM boots WHERE id = ?", (boot_id,)
        ).fetchone()
        received, rejected = load(received_json), load(rejected_json)
        by_hour: dict[int, list[Book]] = {}
        earliest_ns = now_ns
        rows = self._db.execute("SELECT sequence, time_ns, book FROM receipts WHERE boot_id = ?", (boot_id,)).fetchall()
        for sequence, time_ns, book in rows:
            received.add(sequence)
            earliest_ns = min(earliest_ns, time_ns)
            if book is None:
                rejected.add(sequence)
            else:
                by_hour.setdefault(min(time_ns, now_ns) // HOUR_NS, []).append(unpack(book))
        books = [merge(of_hour) for of_hour in by_hour.values()]
        total = merge([*books, unpack(packed) if packed else EMPTY])
        self._db.execute(
            "UPDATE boots SET received = ?, rejected = ?, book = ?, started_ns = min(started_ns, ?) WHERE id = ?",
            (received.dump(), rejected.dump(), total.pack(), earliest_ns, boot_id),
        )
        for hour, book in zip(by_hour, books, strict=True):
            before = self._db.execute(
                "SELECT book FROM hours WHERE boot_id = ? AND hour = ?", (boot_id, hour)
            ).fetchone()
            whole = merge([unpack(before[0]), book]) if before else book
            self._db.execute("INSERT OR REPLACE INTO hours VALUES (?, ?, ?)", (boot_id, hour, whole.pack()))
        self._db.execute("DELETE FROM receipts WHERE boot_id = ?", (boot_id,))
        if cached is not None:
            cached.received = received  # other processes' receipts were among them
        return len(rows)

    def _with_receipts(self, boot_ids: Sequence[int]) -> list[int]:
        marks = ",".join("?" * len(boot_ids))
        found = self._db.execute(f"SELECT DISTINCT boot_id FROM receipts WHERE boot_id IN ({marks})", boot_ids)  # noqa: S608
        return [row[0] for row in found.fetchall()]

    def _settle_old_boots(self, now_ns: int) -> None:
        crowded = self._db.execute(
            "SELECT gateway_id, count(*) FROM boots GROUP BY gateway_id HAVING count(*) > ?", (MAX_BOOTS,)
        ).fetchall()
        for gateway_id, count in crowded:
            old = [
                row[0]
                for row in self._db.execute(
                    "SELECT id FROM boots WHERE gateway_id = ? ORDER BY started_ns LIMIT ?",
                    (gateway_id, count - MAX_BOOTS),
                ).fetchall()
            ]
            for boot_id in self._with_receipts(old):  # that came since the fold
                self._fold_boot(boot_id, now_ns, None)
            books = [
                self._db.execute("SELECT book FROM boots WHERE id = ?", (boot_id,)).fetchone()[0] for boot_id in old
            ]
            (packed,) = self._db.execute("SELECT settled FROM gateways WHERE id = ?", (gateway_id,)).fetchone()
            parts = [settle(unpack(book)) for book in books if book] + ([unpack(packed)] if packed else [])
            settled = merge_settled(parts)
            self._db.execute("UPDATE gateways SET settled = ? WHERE id = ?", (settled.pack(), gateway_id))
            for boot_id in old:
                self._db.execute("DELETE FROM hours WHERE boot_id = ?", (boot_id,))
                self._db.execute("DELETE FROM boots WHERE id = ?", (boot_id,))
        if crowded:
            self._caches.boots.clear()
            self._db.execute("UPDATE meta SET folds = folds + 1")

"""The ledger's hour books, some hours of one gateway at a time: for who watches many streams without end.

What was due in an hour is the difference of counters that rise since boot, so the newest book before the first hour
that is asked for is needed too: it is looked for backwards, until every stream of the boot has been met.

Of hours whose books are no longer whole (dropped for age, or of boots that were summed up) nothing is told: whoever
read them before keeps what he read.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cloud.ledger_book import EMPTY, Book, Quarantined, merge, unpack
from cloud.ledger_report import HOUR_NS, BootView, GatewayView, StreamView, fates_of
from cloud.ledger_sequences import load
from cloud.sqlite_file import connect_read_only
from contract.readings import Ints
from contract.topics import GatewayPath

_SEQUENCE, _UNTIL = 2, 3  # columns of a book's rows
REJECTED_FRAME = 256 + Quarantined.REJECTED_FRAME  # the code of cloud.ledger_book


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What a gateway last said of itself. waiting: frames in its outbox, None when it never said."""

    path: GatewayPath
    online: bool | None
    waiting: int | None


@dataclass(frozen=True, slots=True, eq=False)
class HourPart:
    """One boot's share of one hour. Columns of equal length (N,), `streams` are the ledger's ids, ascending.

    open: due and neither stored nor explained (negative: something came twice); `in_flight` says whether frames of it
    may still come. explained: (M, 3) stream, code of cloud.ledger_book, count. until_ns: time of the last sample.
    """

    hour: int
    streams: Ints
    due: Ints
    stored: Ints
    suppressed: Ints
    thinned: Ints
    open: Ints
    until_ns: Ints
    explained: Ints
    in_flight: bool


@dataclass(slots=True)
class GatewayHours:
    """Some hours of one gateway. known: ids of streams that were counted before the first of these hours.

    whole_from: hours since 1970; of earlier ones the books are not whole, and none is in `parts`.
    """

    streams: list[StreamView]
    parts: list[HourPart]
    known: set[int] = field(default_factory=set)
    whole_from: int = 0


@contextlib.contextmanager
def opened(file: Path) -> "Iterator[LedgerHours]":
    """The hours of the ledger in `file`, for one thread. Raises FileNotFoundError, ValueError when it is no ledger."""
    db = connect_read_only(file)
    try:
        yield LedgerHours(db)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{file} is not a ledger that this version can read: {error}") from None
    finally:
        db.close()


class LedgerHours:
    """A hand on a ledger's file that only reads. See `opened`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def states(self) -> list[GatewayState]:
        """Every gateway, by name, and what it last said of itself."""
        found = self._db.execute(
            "SELECT city, district, street, gateway, online, next_sequence, oldest_sequence FROM gateways "
            "ORDER BY city, district, street, gateway"
        )
        return [
            GatewayState(
                GatewayPath(*names),
                None if online is None else bool(online),
                None if following is None else following - (following if oldest is None else oldest),
            )
            for *names, online, following, oldest in found
        ]

    def read(self, path: GatewayPath, first_hour: int, last_hour: int, now_ns: int) -> GatewayHours | None:
        """The hours from `first_hour` to `last_hour`, both since 1970 and inclusive; None for an unknown gateway."""
        self._db.execute("BEGIN")
        try:
            row = self._db.execute(
                "SELECT id, online, state_boot, next_sequence, oldest_sequence, settled IS NOT NULL FROM gateways "
                "WHERE city = ? AND district = ? AND street = ? AND gateway = ?",
                (path.city, path.district, path.street, path.gateway),
            ).fetchone()
            return None if row is None else self._read(path, row, (first_hour, last_hour), now_ns)
        finally:
            self._db.execute("COMMIT")

    def _read(
        self, path: GatewayPath, row: tuple[int, int | None, int | None, int | None, int | None, int],
        hours: tuple[int, int], now_ns: int,
    ) -> GatewayHours:  # fmt: skip
        key, online, state_boot, following, oldest, is_settled = row
        boots, pruned = self._boots(key)
        receipts = self._receipts(key, boots, now_ns)
        streams = [
            StreamView(*found)
            for found in self._db.execute(
                "SELECT id, device, stream, interval_s, scheduled FROM streams WHERE gateway_id = ?", (key,)
            )
        ]
        view = GatewayView(
            path, None if online is None else bool(online), state_boot, following, oldest, streams,
            list(boots.values()), EMPTY,
        )  # fmt: skip
        fates = dict(zip(boots, fates_of(view).boots, strict=True))
        whole = GatewayHours(streams, [], whole_from=self._whole_from(boots, pruned, is_settled=bool(is_settled)))
        for boot_id in boots:
            books = self._books(boot_id, receipts.get(boot_id, {}), hours)
            if not books:
                continue
            before = self._before(boot_id, receipts.get(boot_id, {}), hours[0], merge(list(books.values())).streams)
            whole.known.update(before)
            fate = fates[boot_id]
            for hour in sorted(books):
                part = _part(hour, books[hour], before, may_come=fate.may_come, rejected=fate.rejected)
                if hour >= whole.whole_from:
                    whole.parts.append(part)
        return whole

    def _boots(self, gateway_id: int) -> tuple[dict[int, BootView], set[int]]:
        boots, pruned = {}, set()
        found = self._db.execute(
            "SELECT id, boot, started_ns, received, rejected, pruned, promised FROM boots WHERE gateway_id = ?",
            (gateway_id,),
        )
        for key, boot, started_ns, received, rejected, was_pruned, promised in found.fetchall():
            boots[int(key)] = BootView(
                boot, started_ns, load(received), load(rejected), EMPTY, {}, bool(was_pruned), promised
            )
            if was_pruned:
                pruned.add(int(key))
        return boots, pruned

    def _receipts(self, gateway_id: int, boots: dict[int, BootView], now_ns: int) -> dict[int, dict[int, list[bytes]]]:
        """Packed books that are not folded yet by boot and hour; their sequences are added to those received."""
        waiting: dict[int, dict[int, list[bytes]]] = {}
        found = self._db.execute(
            "SELECT boot_id, sequence, time_ns, book FROM receipts WHERE boot_id IN "
            "(SELECT id FROM boots WHERE gateway_id = ?)",
            (gateway_id,),
        )
        for boot_id, sequence, time_ns, book in found:
            boots[boot_id].received.add(sequence)
            if book is None:
                boots[boot_id].rejected.add(sequence)
            else:  # the hour that folding would give it
                waiting.setdefault(boot_id, {}).setdefault(min(time_ns, now_ns) // HOUR_NS, []).append(book)
        return waiting

    def _whole_from(self, boots: dict[int, BootView], pruned: set[int], *, is_settled: bool) -> int:
        firsts = [0]
        for boot_id in pruned:  # its oldest book is kept only to subtract it from the next
            (oldest,) = self._db.execute("SELECT min(hour) FROM hours WHERE boot_id = ?", (boot_id,)).fetchone()
            if oldest is not None:
                firsts.append(oldest + 1)
        if is_settled and boots:
            firsts.append(min(boot.started_ns for boot in boots.values()) // HOUR_NS + 1)
        return max(firsts)

    def _books(self, boot_id: int, waiting: dict[int, list[bytes]], hours: tuple[int, int]) -> dict[int, Book]:
        by_hour = {
            hour: [unpack(book)]
            for hour, book in self._db.execute(
                "SELECT hour, book FROM hours WHERE boot_id = ? AND hour BETWEEN ? AND ?", (boot_id, *hours)
            )
        }
        for hour, books in waiting.items():
            if hours[0] <= hour <= hours[1]:
                by_hour.setdefault(hour, []).extend(unpack(book) for book in books)
        return {hour: merge(books) for hour, books in by_hour.items()}

    def _before(self, boot_id: int, waiting: dict[int, list[bytes]], first_hour: int, wanted: Ints) -> dict[int, int]:
        """What each stream's counter was when `first_hour` began, for those that were counted before."""
        counted: dict[int, int] = {}
        for hour, books in waiting.items():
            if hour < first_hour:
                for book in books:
                    _raise_to(counted, unpack(book))
        missing = set(wanted.tolist())
        rows = self._db.execute(
            "SELECT book FROM hours WHERE boot_id = ? AND hour < ? ORDER BY hour DESC", (boot_id, first_hour)
        )
        for (packed,) in rows:
            older = unpack(packed)
            _raise_to(counted, older)
            missing.difference_update(older.streams[older.rows[:, _SEQUENCE] >= 0].tolist())
            if not missing:
                break
        return counted


def _raise_to(counted: dict[int, int], book: Book) -> None:
    of_counters = book.rows[:, _SEQUENCE] >= 0
    for stream, due in zip(book.streams[of_counters].tolist(), book.due[of_counters].tolist(), strict=True):
        if due > counted.get(stream, 0):
            counted[stream] = due


def _part(hour: int, book: Book, before: dict[int, int], *, may_come: bool, rejected: bool) -> HourPart:
    """The hour's own share of the counters; `before` is moved on."""
    accounted = book.accounted()
    came = book.rows[:, _SEQUENCE] >= 0
    earlier = np.array([before.get(stream, 0) for stream in book.streams.tolist()], dtype=np.int64)
    due = np.where(came, np.maximum(book.due - earlier, 0), accounted)
    _raise_to(before, book)
    left = due - accounted
    explained = book.explained
    if rejected and not may_come and (left > 0).any():
        # All else of this boot came: these are what the rejected frames held, and they are in the quarantine.
        short = np.flatnonzero(left > 0)
        noted = np.column_stack((book.streams[short], np.full(len(short), REJECTED_FRAME), left[short]))
        explained = np.concatenate((explained, noted))
        left = np.minimum(left, 0)
    return HourPart(
        hour, book.streams, due, book.stored, book.suppressed, book.thinned, left, book.rows[:, _UNTIL], explained,
        may_come,
    )  # fmt: skip

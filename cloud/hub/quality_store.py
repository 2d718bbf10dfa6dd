"""Figures in the hub's database: one row a gateway and period, the tallies of its streams packed.

A row has two tallies: `books`, from the ledger, which are replaced whenever the ledger says otherwise, and `seen`,
from the readings that passed, which add up. Days are made of hours and months of days, again whenever one of them
changed (`rolled`), so that a backfill of last week reaches its hour, its day and its month.

Once a period has been reported, a change of its books keeps the books as they were reported (`former`) and says when
(`corrected_ns`). Hours are dropped by whole days, days by whole months, after they are rolled up; what is gone is
never made anew from a part.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Row

from cloud.hub import quality_figures as codes
from cloud.hub.database import Database, metadata
from cloud.hub.quality_days import Calendar
from contract.readings import Ints

ROLL_AT_ONCE = 20  # rows made in one transaction: others wait to write
_PATHS_AT_ONCE = 500


class Period(IntEnum):
    """How long a row is; codes are in the database: never renumber."""

    HOUR = 0
    DAY = 1
    MONTH = 2


books_table = Table(
    "hub_quality",
    metadata,
    Column("period", SmallInteger, primary_key=True),
    Column("start_hour", BigInteger, primary_key=True, autoincrement=False),
    Column("gateway", Text, primary_key=True),
    Column("books", LargeBinary, nullable=False),
    Column("seen", LargeBinary, nullable=False),
    Column("former", LargeBinary),
    Column("reported_ns", BigInteger),
    Column("corrected_ns", BigInteger),
    Column("rolled", Boolean, nullable=False),
)
Index("hub_quality_corrected", books_table.c.corrected_ns)
Index("hub_quality_rolled", books_table.c.rolled, books_table.c.period)
position_table = Table(
    "hub_quality_position",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Text, nullable=False),
)
_NOTHING = codes.pack(codes.EMPTY)


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A gateway's figures of a period. former: the books as first reported, when they were corrected since."""

    start_hour: int
    gateway: str
    books: Ints
    seen: Ints
    former: Ints | None = None
    corrected_ns: int | None = None

    @property
    def whole(self) -> Ints:
        """Books and what was seen together."""
        return codes.merge([self.books, self.seen])


@dataclass(slots=True)
class _Change:
    books: Ints | None = None
    seen: list[Ints] = field(default_factory=list)


class QualityStore:
    """The table. Blocking; every method may be called from any thread. Raises StoreUnavailable."""

    def __init__(self, database: Database, calendar: Calendar) -> None:
        self._database = database
        self._calendar = calendar

    def position(self) -> str:
        """How far the feed's counts are in the table; empty when nothing was counted yet."""
        with self._database.reading() as db:
            found = db.execute(select(position_table.c.position)).scalar()
        return str(found or "")

    def add_seen(self, tallies: Mapping[tuple[int, str], Ints], position: str, now_ns: int) -> None:
        """Add what was seen, by (hour, gateway), and how far the feed was then, in one transaction."""
        oldest = self._calendar.oldest_hour(now_ns)
        changes = {key: _Change(seen=[tally]) for key, tally in tallies.items() if len(tally) and key[0] >= oldest}
        with self._database.begin() as db:
            self._write(db, Period.HOUR, changes, now_ns=now_ns)
            if position:
                self._database.upsert(db, position_table, [{"name": "feed", "position": position}], ["name"])

    def put_books(self, books: Mapping[tuple[int, str], Ints], now_ns: int) -> list[tuple[int, str]]:
        """Replace the books of these (hour, gateway) where they differ. Returns which did."""
        oldest = self._calendar.oldest_hour(now_ns)
        with self._database.begin() as db:
            changes = {key: _Change(books=tally) for key, tally in books.items() if key[0] >= oldest}
            return sorted(self._write(db, Period.HOUR, changes, now_ns=now_ns))

    def roll_up(self, now_ns: int) -> int:
        """Make days of the hours that changed, and months of days; some at a time. Returns how many rows were made."""
        made = 0
        for period in (Period.HOUR, Period.DAY):
            with self._database.begin() as db:
                made += self._roll(db, period, now_ns)
        return made

    def close(self, now_ns: int) -> None:
        """Mark as reported what ended long enough ago; drop what is too old and rolled up."""
        calendar, of = self._calendar, books_table.c
        with self._database.begin() as db:
            for period, before in (
                (Period.HOUR, calendar.reported_before_hour(now_ns)),
                (Period.DAY, calendar.reported_before_day(now_ns)),
                (Period.MONTH, calendar.reported_before_month(now_ns)),
            ):
                open_rows = and_(of.period == period, of.start_hour < before, of.reported_ns.is_(None))
                db.execute(update(books_table).where(open_rows).values(reported_ns=now_ns))
            for period, oldest in (
                (Period.HOUR, calendar.oldest_hour(now_ns)),
                (Period.DAY, calendar.oldest_day(now_ns)),
                (Period.MONTH, calendar.oldest_month(now_ns)),
            ):
                rolled = or_(of.rolled.is_(True), of.period == Period.MONTH)
                db.execute(delete(books_table).where(of.period == period, of.start_hour < oldest, rolled))

    def read(self, period: Period, start_hours: Iterable[int], gateways: Sequence[str] | None = None) -> list[Record]:
        """The rows of these periods, of these gateways or of all, oldest first."""
        of = books_table.c
        wanted = and_(of.period == period, of.start_hour.in_(sorted(set(start_hours))))
        return self._select(wanted, gateways)

    def corrected(self, period: Period, from_ns: int, until_ns: int) -> list[Record]:
        """Rows whose reported figures changed between these times."""
        of = books_table.c
        return self._select(and_(of.period == period, of.corrected_ns >= from_ns, of.corrected_ns < until_ns), None)

    def forget(self, gateway: str, numbers: Sequence[int]) -> int:
        """Destroy every count of these streams of a gateway; returns how many rows held some. For a purge."""
        gone, of = 0, books_table.c
        with self._database.begin() as db:
            for row in db.execute(select(books_table).where(of.gateway == gateway).with_for_update()).fetchall():
                before = {name: getattr(row, name) for name in ("books", "seen", "former")}
                after = {name: packed and _without(packed, numbers) for name, packed in before.items()}
                if after != before:
                    gone += 1
                    db.execute(update(books_table).where(_is(row)).values(**after))
        return gone

    def _select(self, wanted: Any, gateways: Sequence[str] | None) -> list[Record]:
        of = books_table.c
        asked = select(books_table).where(wanted).order_by(of.start_hour, of.gateway)
        with self._database.reading() as db:
            if gateways is None:
                return [_record(row) for row in db.execute(asked)]
            found = []
            for first in range(0, len(gateways), _PATHS_AT_ONCE):
                some = gateways[first : first + _PATHS_AT_ONCE]
                found += [_record(row) for row in db.execute(asked.where(of.gateway.in_(some)))]
            return sorted(found, key=lambda record: (record.start_hour, record.gateway))

    def _write(
        self, db: Connection, period: Period, changes: Mapping[tuple[int, str], _Change], *, now_ns: int
    ) -> list[tuple[int, str]]:
        """Apply changes to rows; returns the keys whose books changed."""
        changed, rows = [], []
        stored = self._rows(db, period, list(changes))
        for key, change in changes.items():
            row = stored.get(key)
            books = row.books if row is not None else _NOTHING
            seen = row.seen if row is not None else _NOTHING
            fresh = books if change.books is None else codes.pack(change.books)
            if fresh != books:
                changed.append(key)
            elif not change.seen:
                continue
            late = row is not None and row.reported_ns is not None and fresh != books
            rows.append(
                {
                    "period": int(period),
                    "start_hour": key[0],
                    "gateway": key[1],
                    "books": fresh,
                    "seen": codes.pack(codes.merge([codes.unpack(seen), *change.seen])) if change.seen else seen,
                    "former": _former(row, books) if late else (row.former if row is not None else None),
                    "reported_ns": row.reported_ns if row is not None else None,
                    "corrected_ns": now_ns if late else (row.corrected_ns if row is not None else None),
                    "rolled": False,
                }
            )
        self._database.upsert(db, books_table, rows, ["period", "start_hour", "gateway"])
        return changed

    def _rows(self, db: Connection, period: Period, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Row[Any]]:
        of = books_table.c
        by_hour: dict[int, list[str]] = {}
        for hour, gateway in keys:
            by_hour.setdefault(hour, []).append(gateway)
        found: dict[tuple[int, str], Row[Any]] = {}
        for hour, gateways in by_hour.items():
            for first in range(0, len(gateways), _PATHS_AT_ONCE):
                some = gateways[first : first + _PATHS_AT_ONCE]
                asked = select(books_table).where(of.period == period, of.start_hour == hour, of.gateway.in_(some))
                found |= {(hour, row.gateway): row for row in db.execute(asked.with_for_update())}
        return found

    def _roll(self, db: Connection, period: Period, now_ns: int) -> int:
        """Make the periods above of the rows of `period` that changed."""
        of, above = books_table.c, Period(period + 1)
        waiting = db.execute(
            select(of.start_hour, of.gateway).where(of.rolled.is_(False), of.period == period).limit(ROLL_AT_ONCE)
        )
        changed = [(int(hour), str(gateway)) for hour, gateway in waiting]
        for hour, gateway in changed:
            one = and_(of.period == period, of.gateway == gateway, of.start_hour == hour)
            db.execute(update(books_table).where(one).values(rolled=True))
        wanted = {(self._calendar.start_of(above, hour), gateway) for hour, gateway in changed}
        changes: dict[tuple[int, str], _Change] = {}
        for start, gateway in wanted:
            end = self._calendar.end_of(above, start)
            inside = and_(of.period == period, of.gateway == gateway, of.start_hour >= start, of.start_hour < end)
            parts = [_record(row) for row in db.execute(select(books_table).where(inside).with_for_update())]
            changes[start, gateway] = _Change(
                codes.merge([part.books for part in parts]), [codes.merge([part.seen for part in parts])]
            )
            db.execute(update(books_table).where(inside).values(rolled=True))
        for key, row in self._rows(db, above, list(changes)).items():
            old = codes.unpack(row.seen)  # `seen` is made anew here: take off what the row has
            old[:, 2] *= -1
            changes[key].seen.append(old)
        self._write(db, above, changes, now_ns=now_ns)
        return len(changes)


def _former(row: Row[Any] | None, books: bytes) -> bytes:
    """The books as first reported."""
    return row.former if row is not None and row.former is not None else books


def _is(row: Row[Any]) -> Any:
    of = books_table.c
    return and_(of.period == row.period, of.start_hour == row.start_hour, of.gateway == row.gateway)


def _record(row: Row[Any]) -> Record:
    former = None if row.former is None else codes.unpack(row.former)
    books, seen = codes.unpack(row.books), codes.unpack(row.seen)
    return Record(row.start_hour, row.gateway, books, seen, former, row.corrected_ns)


def _without(packed: bytes, numbers: Sequence[int]) -> bytes:
    tally = codes.unpack(packed)
    gone = np.isin(tally[:, 0], numbers)
    return codes.pack(tally[~gone]) if gone.any() else packed

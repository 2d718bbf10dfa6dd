"""Looking at the ledger's file: a running process and a command beside a stopped one see the same report."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloud.ledger_book import EMPTY, Book, merge, unpack
from cloud.ledger_report import HOUR_NS, BootView, GatewayView, LedgerReport, StreamView, build
from cloud.ledger_sequences import load
from cloud.sqlite_file import connect_read_only
from contract.topics import GatewayPath


def read_file(file: Path, *, stream: str | None = None, hours: bool = False) -> LedgerReport:
    """The report of a ledger that no process may be running for; reads only. Raises FileNotFoundError, ValueError."""
    db = connect_read_only(file)
    try:
        return read_report(db, stream=stream, hours=hours)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{file} is not a ledger that this version can read: {error}") from None
    finally:
        db.close()


def each_gateway(file: Path) -> Iterator[LedgerReport]:
    """The report of one gateway after the other, by name: for who sums up many. Raises as `read_file`."""
    db = connect_read_only(file)
    try:
        found = db.execute("SELECT id FROM gateways ORDER BY city, district, street, gateway").fetchall()
        for (key,) in found:
            db.execute("BEGIN")
            try:
                row = db.execute("SELECT * FROM gateways WHERE id = ?", (key,)).fetchone()
                view = _gateway_view(db, row, hours=False)
            finally:
                db.execute("COMMIT")
            yield build([view])
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{file} is not a ledger that this version can read: {error}") from None
    finally:
        db.close()


def read_gateway(file: Path, path: GatewayPath, *, hours: bool = False) -> LedgerReport:
    """The report of one gateway alone, empty when the ledger does not know it. Raises as `read_file`."""
    db = connect_read_only(file)
    names = (path.city, path.district, path.street, path.gateway)
    try:
        db.execute("BEGIN")
        row = db.execute(
            "SELECT * FROM gateways WHERE city = ? AND district = ? AND street = ? AND gateway = ?", names
        ).fetchone()
        found = [] if row is None else [_gateway_view(db, row, hours=hours)]
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{file} is not a ledger that this version can read: {error}") from None
    finally:
        db.close()
    return build(found, hours=hours)


def read_report(db: sqlite3.Connection, *, stream: str | None, hours: bool) -> LedgerReport:
    """One consistent look at the file: books, and receipts that are not folded yet."""
    db.execute("BEGIN")
    try:
        gateways = [_gateway_view(db, row, hours=hours) for row in db.execute("SELECT * FROM gateways").fetchall()]
    finally:
        db.execute("COMMIT")
    return build(gateways, stream=stream, hours=hours)


def _gateway_view(db: sqlite3.Connection, row: Sequence[object], *, hours: bool) -> GatewayView:
    (key, city, district, street, gateway, online, state_boot, following, oldest, settled) = row
    streams = [
        StreamView(*found)
        for found in db.execute(
            "SELECT id, device, stream, interval_s, scheduled FROM streams WHERE gateway_id = ?", (key,)
        )
    ]
    boots = [
        _boot_view(db, found, hours=hours)
        for found in db.execute(
            "SELECT id, boot, started_ns, received, rejected, book, pruned, promised FROM boots WHERE gateway_id = ?",
            (key,),
        ).fetchall()
    ]
    return GatewayView(
        path=GatewayPath(str(city), str(district), str(street), str(gateway)),
        online=None if online is None else bool(online),
        state_boot=_optional(state_boot),
        next_sequence=_optional(following),
        oldest_sequence=_optional(oldest),
        streams=streams,
        boots=boots,
        settled=unpack(settled) if isinstance(settled, bytes) else EMPTY,
    )


def _boot_view(db: sqlite3.Connection, row: Sequence[object], *, hours: bool) -> BootView:
    (key, boot, started_ns, received_json, rejected_json, packed, pruned, promised) = row
    received, rejected = load(str(received_json)), load(str(rejected_json))
    books = [unpack(packed)] if isinstance(packed, bytes) else []
    by_hour: dict[int, list[Book]] = {}
    if hours:
        for hour, book in db.execute("SELECT hour, book FROM hours WHERE boot_id = ?", (key,)):
            by_hour.setdefault(hour, []).append(unpack(book))
    earliest = [int(str(started_ns))]
    for sequence, time_ns, book in db.execute("SELECT sequence, time_ns, book FROM receipts WHERE boot_id = ?", (key,)):
        received.add(sequence)
        earliest.append(time_ns)
        if book is None:
            rejected.add(sequence)
            continue
        books.append(unpack(book))
        by_hour.setdefault(time_ns // HOUR_NS, []).append(books[-1])
    merged = (
        {hour: merge(of_hour) for hour, of_hour in sorted(by_hour.items(), key=lambda item: item[0])} if hours else {}
    )
    return BootView(
        int(str(boot)), min(earliest), received, rejected, merge(books), merged, bool(pruned), int(str(promised))
    )


def _optional(value: object) -> int | None:
    return value if isinstance(value, int) else None

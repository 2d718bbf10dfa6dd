"""The audit: who did what, a line each, chained so that a removed or altered line shows.

Each line's hash is the SHA-256 of the hash before it and of the line itself:

    hash = SHA-256(before || JSON of [seq, time_ns, who, action, subject] || newline || JSON of detail)

seq counts from 1 without a hole, `before` of the first line is 32 zero bytes, and JSON has sorted keys, no spaces
and ASCII alone. A line that is altered, removed, added or moved no longer fits its neighbours. A cut end does fit:
so the head is published retained at the broker from time to time (`anchor_every`), and a chain that does not reach an
anchor, or does not pass through it, was cut or written anew.

Lines of requests that come at the same time share one transaction and one sync of the disk; each waits until its own
line is durable, so an answer goes out only after its line is there.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Table, Text, func, insert, select

from cloud.hub.database import Database, metadata

ANCHOR_TOPIC = "hub/v1/audit"
MAX_TEXT_CHARS = 500
MAX_DETAIL_BYTES = 64 * 1024
MAX_WAITING = 10_000
_LOCK = 8472
_PAGE = 2000
_NOTHING = bytes(32)

lines = Table(
    "hub_audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the audit. hash: hexadecimal."""

    seq: int
    time_ns: int
    who: str
    action: str
    subject: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last line: what an anchor says. seq 0 and zeros while there is none."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class _Order:
    time_ns: int
    who: str
    action: str
    subject: str
    detail: str
    written: "asyncio.Future[None]"


class _Anchor(msgspec.Struct):
    seq: int
    hash: str


class Audit:
    """The chain in the hub's database. `record` belongs to one event loop; what blocks may be called in any thread."""

    def __init__(self, database: Database, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._database = database
        self._now_ns = now_ns
        self._waiting: list[_Order] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, who: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Write one line and return when it is durable. Raises StoreUnavailable: then nothing may be handed out."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append(
            _Order(self._now_ns(), _short(who), _short(action), _short(subject), canonical(detail), written)
        )
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="audit")
        await asyncio.shield(written)

    async def _write_all(self) -> None:
        while self._waiting:
            orders, self._waiting = self._waiting[:MAX_WAITING], self._waiting[MAX_WAITING:]
            (outcome,) = await asyncio.gather(asyncio.to_thread(self._append, orders), return_exceptions=True)
            for order in orders:
                if order.written.done():
                    continue  # who asked is gone
                if isinstance(outcome, BaseException):
                    order.written.set_exception(outcome)
                else:
                    order.written.set_result(None)

    def write(self, who: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """As `record`, blocking: for commands. Raises StoreUnavailable."""
        with self._database.begin() as db:
            self._chain(db, [(self._now_ns(), _short(who), _short(action), _short(subject), canonical(detail))])

    def _append(self, orders: Sequence[_Order]) -> None:
        with self._database.begin() as db:
            self._chain(db, [(one.time_ns, one.who, one.action, one.subject, one.detail) for one in orders])

    def _chain(self, db: Connection, found: Sequence[tuple[int, str, str, str, str]]) -> None:
        self._database.alone(db, _LOCK)
        seq, before = _last(db)
        rows = []
        for time_ns, who, action, subject, detail in found:
            seq += 1
            before = chained(before, seq, time_ns, who, action, subject, detail)
            rows.append(
                {
                    "seq": seq, "time_ns": time_ns, "who": who, "action": action, "subject": subject,
                    "detail": detail, "hash": before,
                }
            )  # fmt: skip
        db.execute(insert(lines), rows)

    def head(self) -> Head:
        """The last line. Raises StoreUnavailable."""
        with self._database.reading() as db:
            seq, digest = _last(db)
        return Head(seq, digest.hex())

    def page(self, *, after: int = 0, limit: int = 100) -> list[Line]:
        """Lines with seq > after, ascending. Raises StoreUnavailable."""
        with self._database.reading() as db:
            return [_line(row) for row in _rows(db, after, limit)]

    def verify(self, anchor: Head | None = None) -> tuple[Head, str | None]:
        """Walk the whole chain: its head, and the first thing that is wrong, in words; None when all of it holds."""
        with self._database.reading() as db:
            seq, before = 0, _NOTHING
            for row in self._all(db):
                if row.seq != seq + 1:
                    return Head(seq, before.hex()), _jump(seq, row.seq)
                digest = chained(before, row.seq, row.time_ns, row.who, row.action, row.subject, row.detail)
                if digest != bytes(row.hash):
                    return Head(seq, before.hex()), f"line {row.seq} is not what was written, or not where it was"
                seq, before = row.seq, digest
                if anchor is not None and seq == anchor.seq and before.hex() != anchor.hash:
                    return Head(seq, before.hex()), f"line {seq} is not the one that was anchored: written anew"
        if anchor is not None and seq < anchor.seq:
            return Head(seq, before.hex()), f"ends at line {seq}; line {anchor.seq} was anchored: cut off"
        return Head(seq, before.hex()), None

    async def anchor_every(self, publish: Callable[[str, bytes], bool], interval_s: float) -> None:
        """Publish the head whenever it has changed, until cancelled. publish: retained, at `ANCHOR_TOPIC`."""
        told = Head(-1, "")
        while True:
            head = await asyncio.to_thread(self.head)
            if head != told and publish(ANCHOR_TOPIC, anchor_bytes(head, self._now_ns())):
                told = head
            await asyncio.sleep(interval_s)

    @staticmethod
    def _all(db: Connection) -> Iterator[Any]:
        after = -1
        while found := _rows(db, after, _PAGE):
            yield from found
            after = found[-1].seq


def chained(before: bytes, seq: int, time_ns: int, who: str, action: str, subject: str, detail: str) -> bytes:
    """The hash of a line. detail: canonical JSON already, as it is stored."""
    head = canonical([seq, time_ns, who, action, subject])
    return hashlib.sha256(before + head.encode() + b"\n" + detail.encode()).digest()


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces. Raises ValueError when it is larger than a line may be."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    if len(text) > MAX_DETAIL_BYTES:
        raise ValueError(f"an audit line of {len(text)} bytes; {MAX_DETAIL_BYTES} is the most")
    return text


def anchor_bytes(head: Head, now_ns: int) -> bytes:
    """What is published: JSON."""
    return json.dumps({"seq": head.seq, "hash": head.hash, "time_ns": now_ns}, separators=(",", ":")).encode()


def read_anchor(data: bytes) -> Head:
    """The head that an anchor names. Raises ValueError."""
    try:
        found = msgspec.json.decode(data, type=_Anchor)
    except msgspec.MsgspecError as error:
        raise ValueError(f'not an anchor: expected {{"seq": number, "hash": text}}: {error}') from None
    return Head(found.seq, found.hash)


def _last(db: Connection) -> tuple[int, bytes]:
    newest = select(func.max(lines.c.seq)).scalar_subquery()
    row = db.execute(select(lines.c.seq, lines.c.hash).where(lines.c.seq == newest)).first()
    return (0, _NOTHING) if row is None else (row.seq, bytes(row.hash))


def _rows(db: Connection, after: int, limit: int) -> Sequence[Any]:
    return db.execute(select(lines).where(lines.c.seq > after).order_by(lines.c.seq).limit(limit)).all()


def _line(row: Any) -> Line:
    detail = json.loads(row.detail)
    return Line(row.seq, row.time_ns, row.who, row.action, row.subject, detail, bytes(row.hash).hex())


def _jump(seq: int, found: int) -> str:
    missing = f"line {seq + 1} is" if found == seq + 2 else f"lines {seq + 1} to {found - 1} are"
    return f"{missing} missing: line {seq} is followed by line {found}"


def _short(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\x00", " ")[:MAX_TEXT_CHARS]

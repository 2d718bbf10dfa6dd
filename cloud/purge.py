"""Purging: what the city must destroy is destroyed everywhere, and a certificate says so.

The order: the purge's own rows and an audit line are durable; store, quarantine, tail and the hub's state are swept,
each verified by reading back; gateways are told, and told again until they answer; when the last has, what came in
meanwhile is swept once more and the certificate is final. Everything measured before the moment of the order goes;
readings measured later are new data. The catalogue keeps that the streams existed, the ledger how many readings there
were: both without a value.

A purge is in the hub's database from its first moment, so it goes on after a kill; whoever ordered it need not wait.
"""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Table, Text, and_, func, insert, or_, select, update

from cloud.hub.alert_store import alerts_table, messages_about
from cloud.hub.database import Database, metadata
from cloud.hub.entries import Entry
from cloud.hub.parts import Trail
from cloud.hub.quality_days import Calendar, QualitySettings
from cloud.hub.quality_store import QualityStore
from cloud.hub.times import format_time
from cloud.quarantine_purge import FilesPurge, Scope
from cloud.stores.base import Series, Store
from contract.command import Command, Reply, decode_reply, encode
from contract.errors import ConfigError, FrameError, StoreUnavailable
from contract.topics import GatewayPath, TopicKind, parse

log = logging.getLogger(__name__)

KINDS = ("stream", "device", "gateway", "department")
MAX_NAMED = 1000
MAX_REPLIES = 10_000
POLL_S = 1.0
RESEND_S = 30.0
ORPHAN_S = 120.0
_NOTE = (
    "Destroyed is what was measured before the time 'until'. A gateway that still has the stream goes on measuring: "
    "what it sends later is new data, until its configuration no longer names the stream. The catalogue keeps that "
    "the streams existed, the ledger how many readings there were, the audit who asked for them; none keeps a value. "
    "Backups made before are not reached."
)
_GONE = "(purged)"

purges = Table(
    "hub_purges",
    metadata,
    Column("id", Text, primary_key=True),
    Column("asked_ns", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("document", Text, nullable=False),
)
purge_gateways = Table(
    "hub_purge_gateways",
    metadata,
    Column("id", Text, primary_key=True),
    Column("gateway", Text, primary_key=True),
    Column("streams", Text, nullable=False),
    Column("numbers", Text, nullable=False),
    Column("answered_ns", BigInteger),
    Column("done", Boolean, nullable=False),
    Column("readings", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants what destroyed, and why. kind: of KINDS; name: a stream's, device's or gateway's id, or an owner."""

    kind: str
    name: str
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class GatewayState:
    """How far one gateway is with a purge."""

    gateway: GatewayPath
    streams: frozenset[tuple[str, str]]
    numbers: tuple[int, ...]
    answered_ns: int | None
    done: bool
    readings: int
    detail: str


Document = dict[str, Any]


class PurgeBook:
    """Purges in the hub's database. Blocking; raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, document: Document, scope: Scope) -> None:
        """A new purge and the gateways that it is about."""
        with self._database.begin() as db:
            db.execute(insert(purges).values(_purge_row(document)))
            rows = [
                {
                    "id": document["id"], "gateway": str(path), "streams": json.dumps(sorted(names)),
                    "numbers": json.dumps(scope.numbers.get(path, ())), "answered_ns": None, "done": False,
                    "readings": 0, "detail": "",
                }
                for path, names in scope.gateways.items()
            ]  # fmt: skip
            if rows:
                db.execute(insert(purge_gateways), rows)

    def save(self, document: Document) -> None:
        """The purge as it stands now."""
        row = _purge_row(document)
        with self._database.begin() as db:
            db.execute(update(purges).where(purges.c.id == row.pop("id")).values(row))

    def get(self, purge_id: str) -> Document | None:
        """The purge of this id, with what its gateways said since while it is not complete; or None."""
        with self._database.reading() as db:
            text = db.execute(select(purges.c.document).where(purges.c.id == purge_id)).scalar()
        if text is None:
            return None
        document: Document = json.loads(text)
        if not document["complete"]:
            document["gateways"] = [_gateway_json(one) for one in self.gateways(purge_id)]
            document["sha256"] = digest(document)
        return document

    def open(self) -> list[str]:
        """The purges that are not complete, oldest first."""
        with self._database.reading() as db:
            rows = db.execute(select(purges.c.id).where(purges.c.complete.is_(False)).order_by(purges.c.asked_ns))
            return [row.id for row in rows]

    def gateways(self, purge_id: str) -> list[GatewayState]:
        """The gateways of a purge, by name."""
        of = purge_gateways.c
        with self._database.reading() as db:
            rows = db.execute(select(purge_gateways).where(of.id == purge_id).order_by(of.gateway)).fetchall()
        return [
            GatewayState(
                GatewayPath(*row.gateway.split("/")),
                frozenset((device, stream) for device, stream in json.loads(row.streams)),
                tuple(json.loads(row.numbers)),
                row.answered_ns,
                row.done,
                row.readings,
                row.detail,
            )
            for row in rows
        ]

    def answered(self, gateway: GatewayPath, reply: Reply, now_ns: int) -> bool:
        """Note what a gateway said. False for one that nobody asked; a gateway that was done stays so."""
        of = purge_gateways.c
        values = {
            "answered_ns": now_ns, "done": reply.done, "readings": min(reply.readings, 2**62),
            "detail": reply.detail[:500].replace("\x00", " "),
        }  # fmt: skip
        mine = and_(of.id == reply.id, of.gateway == str(gateway), of.done.is_(False))
        with self._database.begin() as db:
            return db.execute(update(purge_gateways).where(mine).values(values)).rowcount == 1


class Purger:
    """Destroys in store, quarantine, tail and the hub's state; keeps the book and writes the certificate.

    forget: called with what was destroyed, once it is, so that what is in memory forgets it too.
    """

    def __init__(
        self,
        store: Store,
        files: FilesPurge,
        database: Database,
        trail: Trail,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        forget: Callable[[Scope], None] = lambda _scope: None,
    ) -> None:
        self.book = PurgeBook(database)
        self.store = store
        self._files = files
        self._database = database
        self._trail = trail
        self._now_ns = now_ns
        self._forget = forget
        self._sweeping = asyncio.Lock()

    async def start(self, order: Order, entries: Iterable[Entry]) -> Document:
        """Destroy what can be reached from here, now; the certificate as far as it goes, with gateways pending.

        Raises ConfigError when nothing of that name is known; StoreUnavailable: what is begun goes on by itself.
        """
        now_ns = self._now_ns()
        scope = resolve(order, entries, await self.store.series(), now_ns)
        document = _document(order, scope, now_ns)
        await asyncio.to_thread(self.book.begin, document, scope)
        detail = {"id": document["id"], "reason": order.reason, "until": document["until"], **_named(document)}
        await self._trail.record(order.by, "purge ordered", f"{order.kind} {order.name}", detail)
        return await self.advance(document["id"])

    async def advance(self, purge_id: str) -> Document:
        """Sweep a purge's places, and finish it when every gateway has answered. Raises StoreUnavailable."""
        async with self._sweeping:
            document = await asyncio.to_thread(self.book.get, purge_id)
            assert document is not None  # noqa: S101 - who calls has seen it
            if document["complete"]:
                return document
            gateways = await asyncio.to_thread(self.book.gateways, purge_id)
            scope = Scope(
                document["until_ns"],
                {one.gateway: one.streams for one in gateways},
                {one.gateway: one.numbers for one in gateways},
            )
            first = not document["places"]
            for place, (before, after, told) in (await self._sweep(scope, first=first)).items():
                known = document["places"].setdefault(place, {"before": 0, "destroyed": 0, "after": 0, "detail": ""})
                known["before"] += before
                known["destroyed"] += before - after
                known["after"] = after
                known["detail"] = told or known["detail"]
            document["gateways"] = [_gateway_json(one) for one in gateways]
            empty = all(place["after"] == 0 for place in document["places"].values())
            document["complete"] = empty and all(one.done for one in gateways)
            self._forget(scope)
            document["finished"] = format_time(self._now_ns()) if document["complete"] else None
            document["sha256"] = digest(document)
            if document["complete"] or first:
                await self._certify(document)
            await asyncio.to_thread(self.book.save, document)
            return document

    async def _certify(self, document: Document) -> None:
        subject = f"{document['what']['kind']} {document['what']['name']}"
        detail = {
            "id": document["id"], "sha256": document["sha256"], "complete": document["complete"],
            "reason": document["why"], "places": document["places"], **_named(document),
        }  # fmt: skip
        await self._trail.record(document["who"], "purge", subject, detail)

    async def _sweep(self, scope: Scope, *, first: bool) -> dict[str, tuple[int, int, str]]:
        """(before, after, words) by place. Tail first: what follows it must not show again what is gone."""
        found: dict[str, tuple[int, int, str]] = {}
        for name, look in (("tail", self._files.tail), ("quarantine", self._files.quarantine)):
            done = await asyncio.to_thread(look, scope, destroy=True)
            left = await asyncio.to_thread(look, scope, destroy=False)
            told = f"{done.readings} readings"
            if done.unreadable:
                told += f", and {done.unreadable} frames destroyed whole that could not be read"
            found[name] = (done.total, left.total, told if done.total else "")
        found["store"] = await self._sweep_store(scope)
        found["alerts"] = await asyncio.to_thread(self._sweep_alerts, scope)
        if first:
            found["figures"] = await asyncio.to_thread(self._sweep_figures, scope)
        return found

    async def _sweep_store(self, scope: Scope) -> tuple[int, int, str]:
        series = [one for one in await self.store.series() if scope.means(one.path, one.device, one.stream)]
        before = after = 0
        for one in series:
            gone = await self.store.delete(one, before_ns=scope.until_ns)
            page = await self.store.columns(one, 0, scope.until_ns, limit=1000)
            before += gone + int(page.times.size)
            after += int(page.times.size)
        return before, after, f"points of {len(series)} series" if before else ""

    def _sweep_alerts(self, scope: Scope) -> tuple[int, int, str]:
        """Alerts stay, without their values; messages about them that wait are not sent any more."""
        of = alerts_table.c
        numbers = [number for some in scope.numbers.values() for number in some]
        gone = 0
        with self._database.begin() as db:
            for at in range(0, len(numbers), 500):
                told = or_(of.value.is_not(None), of.message != _GONE, of.detail != "{}")
                mine = and_(of.number.in_(numbers[at : at + 500]), of.raised_ns < scope.until_ns, told)
                gone += db.execute(
                    update(alerts_table).where(mine).values(value=None, message=_GONE, detail="{}")
                ).rowcount
            gone += messages_about(db, set(numbers), before_ns=scope.until_ns, destroy=True)
        with self._database.reading() as db:
            left = messages_about(db, set(numbers), before_ns=scope.until_ns, destroy=False)
            left += sum(
                db.execute(
                    select(func.count()).where(
                        of.number.in_(numbers[at : at + 500]), of.raised_ns < scope.until_ns, of.value.is_not(None)
                    )
                ).scalar_one()
                for at in range(0, len(numbers), 500)
            )
        return gone + left, left, "alerts that lost their values" if gone else ""

    def _sweep_figures(self, scope: Scope) -> tuple[int, int, str]:
        """Quality figures, which are counts; the ledger's may come again, and hold no value either."""
        figures = QualityStore(self._database, Calendar(QualitySettings()))
        gone = sum(figures.forget(str(path), numbers) for path, numbers in scope.numbers.items() if numbers)
        left = sum(figures.forget(str(path), numbers) for path, numbers in scope.numbers.items() if numbers)
        return gone + left, left, "rows of quality figures" if gone else ""


class PendingPurges:
    """Tells gateways what to destroy until they have, and finishes purges. A task of the hub, and of it alone.

    publish: MQTT at QoS 1, not retained; False when the broker is away. `heard` takes messages of the topic `reply`.
    """

    def __init__(
        self,
        purger: Purger,
        publish: Callable[[str, bytes], bool],
        *,
        resend_s: float = RESEND_S,
        poll_s: float = POLL_S,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.bad_replies = 0
        self._purger = purger
        self._publish = publish
        self._resend_s = resend_s
        self._poll_s = poll_s
        self._now_ns = now_ns
        self._replies: deque[tuple[GatewayPath, Reply]] = deque(maxlen=MAX_REPLIES)
        self._next_ns: dict[tuple[str, object], int] = {}

    def heard(self, topic: str, payload: bytes) -> None:
        """A gateway answers. What is no reply is counted and ignored; a lost one is asked for again."""
        try:
            kind, path = parse(topic)
            reply = decode_reply(payload)
        except (ValueError, FrameError):
            self.bad_replies += 1
            return
        if kind is TopicKind.REPLY:
            self._replies.append((path, reply))

    async def run(self) -> None:
        """Work until cancelled. What the database or the store cannot do now is tried again, said once."""
        trouble = ""
        while True:
            try:
                await self.turn()
            except StoreUnavailable as error:
                if not trouble:
                    log.warning("purges wait: %s", error)
                trouble = str(error)
            else:
                if trouble:
                    log.warning("purges go on")
                trouble = ""
            await asyncio.sleep(self._poll_s)

    async def turn(self) -> None:
        """Take what was heard, tell who must be told, finish what can be. Raises StoreUnavailable."""
        book = self._purger.book
        while self._replies:
            path, reply = self._replies[0]
            await asyncio.to_thread(book.answered, path, reply, self._now_ns())
            self._replies.popleft()
        for purge_id in await asyncio.to_thread(book.open):
            document = await asyncio.to_thread(book.get, purge_id)
            gateways = await asyncio.to_thread(book.gateways, purge_id)
            for one in gateways:
                if document is not None and not one.done and self._due(purge_id, one.gateway):
                    told = Command(purge_id, "purge", document["until_ns"], sorted(one.streams))
                    self._publish(one.gateway.topic(TopicKind.CMD), encode(told))
            left_s = 0 if document is None else (self._now_ns() - document["until_ns"]) / 1e9
            # Whoever began it may be at it still, in a process of its own.
            orphan = document is not None and not document["places"] and left_s > ORPHAN_S
            ready = orphan or (document is not None and document["places"] and all(one.done for one in gateways))
            if ready and self._due(purge_id, None):
                await self._purger.advance(purge_id)

    def _due(self, purge_id: str, what: object) -> bool:
        now_ns = self._now_ns()
        if self._next_ns.get((purge_id, what), 0) > now_ns:
            return False
        if len(self._next_ns) > MAX_REPLIES:
            self._next_ns.clear()
        self._next_ns[purge_id, what] = now_ns + round(self._resend_s * 1e9)
        return True


def resolve(order: Order, entries: Iterable[Entry], series: Iterable[Series], until_ns: int) -> Scope:
    """What the order means: of the catalogue, and of what only the store still knows. Raises ConfigError."""
    if order.kind not in KINDS:
        raise ConfigError([f"--{order.kind}: expected one of {', '.join(KINDS)}"])
    gateways: dict[GatewayPath, set[tuple[str, str]]] = {}
    numbers: dict[GatewayPath, list[int]] = {}
    for entry in entries:
        if order.name in _names(order.kind, entry.path, entry.device, entry.stream, entry.owner):
            gateways.setdefault(entry.path, set()).add((entry.device, entry.stream))
            numbers.setdefault(entry.path, []).append(entry.number)
    if order.kind != "department":
        for one in series:
            if order.name in _names(order.kind, one.path, one.device, one.stream, ""):
                gateways.setdefault(one.path, set()).add((one.device, one.stream))
    if not gateways:
        raise ConfigError([f"--{order.kind}: nothing is known of {order.name!r}; {_example(order.kind)}"])
    if order.kind == "gateway":
        gateways = {path: set() for path in gateways}
    elif order.kind == "device":
        gateways = {path: names | {(device, "") for device, _ in names} for path, names in gateways.items()}
    return Scope(
        until_ns,
        {path: frozenset(names) for path, names in sorted(gateways.items(), key=lambda one: str(one[0]))},
        {path: tuple(found) for path, found in numbers.items()},
    )


def _names(kind: str, path: GatewayPath, device: str, stream: str, owner: str) -> tuple[str, ...]:
    match kind:
        case "stream":
            return (f"{path}/{device}/{stream}",)
        case "device":
            return (f"{path}/{device}",)
        case "gateway":
            return (str(path),)
        case _:
            return (owner,) if owner else ()


def _example(kind: str) -> str:
    return {
        "stream": "a stream is called city/district/street/gateway/device/stream",
        "device": "a device is called city/district/street/gateway/device",
        "gateway": "a gateway is called city/district/street/gateway",
    }.get(kind, "a department is called as the streams' owner says")


def _document(order: Order, scope: Scope, now_ns: int) -> Document:
    names = sorted(
        "/".join(part for part in (str(path), device, stream) if part)
        for path, streams in scope.gateways.items()
        for device, stream in streams or {("", "")}
    )
    return {
        "certificate": 1,
        "id": f"p-{secrets.token_hex(8)}",
        "what": {"kind": order.kind, "name": order.name, "count": len(names), "names": names[:MAX_NAMED]},
        "who": order.by,
        "why": order.reason,
        "asked": format_time(now_ns),
        "until": format_time(scope.until_ns),
        "until_ns": scope.until_ns,
        "finished": None,
        "complete": False,
        "places": {},
        "gateways": [],
        "note": _NOTE,
        "sha256": "",
    }


def _named(document: Document) -> Mapping[str, Any]:
    """The streams as the audit tells them: a hundred names, and how many there are."""
    return {"streams": document["what"]["names"][:100], "count": document["what"]["count"]}


def _gateway_json(one: GatewayState) -> Document:
    return {
        "gateway": str(one.gateway),
        "state": "confirmed" if one.done else "pending",
        "readings": one.readings,
        "answered": None if one.answered_ns is None else format_time(one.answered_ns),
        "detail": one.detail or ("" if one.done else "not reached yet: it is told when it answers"),
    }


def _purge_row(document: Document) -> dict[str, Any]:
    text = json.dumps(document, ensure_ascii=False)
    asked_ns = document["until_ns"]
    return {"id": document["id"], "asked_ns": asked_ns, "complete": document["complete"], "document": text}


def digest(document: Document) -> str:
    """The SHA-256 of a certificate: of its canonical JSON (sorted keys, no spaces, ASCII) with an empty `sha256`."""
    text = json.dumps({**document, "sha256": ""}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()

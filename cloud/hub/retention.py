"""Retention: what is older than its class allows is destroyed in the store, by itself, at a quiet pace.

A stream's class is the one that its birth names now, and holds for everything it ever stored, under another quantity or
kind as well. A pass goes through all streams by number, some a round; where it stands is in the hub's database, so a
restart or a database that is away costs one stream's work at most. Each round leaves one line in the audit.

A class that the configuration does not name keeps everything: to destroy by guess would be worse. It is counted, and
`problems` says which streams wait for somebody to decide.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Column, Table, Text, select

from cloud.hub.config import Retention
from cloud.hub.database import Database, metadata
from cloud.hub.entries import Entry
from cloud.hub.parts import Entries, Trail
from cloud.stores.base import Series, Store
from contract.errors import StoreUnavailable

log = logging.getLogger(__name__)

DAY_NS = 86_400 * 1_000_000_000
MAX_NAMED = 100
_ROW = "pass"

retention_table = Table(
    "hub_retention",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("next_ns", BigInteger, nullable=False),
)


@dataclass(slots=True)
class Counts:
    """Since the process began; unknown: streams of the last pass whose class nobody named."""

    rounds: int = 0
    passes: int = 0
    streams: int = 0
    points: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A class without a rule: its streams are kept until somebody decides. examples: some of their ids."""

    name: str
    streams: int
    examples: tuple[str, ...]


@dataclass(slots=True)
class _Round:
    streams: int = 0
    points: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    named: dict[str, int] = field(default_factory=dict)


class Retainer:
    """Applies the classes. A task of one event loop; one process at a time."""

    def __init__(
        self,
        settings: Retention,
        catalogue: Entries,
        store: Store,
        trail: Trail,
        database: Database,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.counts = Counts()
        self._settings = settings
        self._catalogue = catalogue
        self._store = store
        self._trail = trail
        self._database = database
        self._now_ns = now_ns
        self._sleep = sleep
        self._told: frozenset[str] = frozenset()

    def problems(self) -> list[Problem]:
        """Classes that streams name and the configuration does not."""
        found: dict[str, list[str]] = {}
        for entry in self._catalogue.all():
            if entry.retention not in self._settings.classes:
                found.setdefault(entry.retention, []).append(entry.id)
        return [Problem(name, len(ids), tuple(ids[:MAX_NAMED])) for name, ids in sorted(found.items())]

    async def run(self) -> None:
        """Work until cancelled; a database that is away is waited for, said once."""
        trouble = False
        while True:
            wait_s = self._settings.round_s
            try:
                await self.round()
                if trouble:
                    log.warning("retention goes on")
                trouble = False
            except StoreUnavailable as error:
                if not trouble:
                    log.warning("retention waits: %s", error)
                trouble = True
                wait_s = max(wait_s, error.retry_after_s or 0)
            await self._sleep(wait_s)

    async def round(self) -> int:
        """One round when a pass is due: how many points were destroyed. Raises StoreUnavailable; goes on from there."""
        number, next_ns = await asyncio.to_thread(self._position)
        if number == 0 and self._now_ns() < next_ns:
            return 0
        if number == 0:
            self._look_at_classes()
        done = _Round()
        rest = [entry for entry in self._catalogue.all() if entry.number > number]
        some = rest[: self._settings.streams_per_round]
        try:
            for entry in some:
                await self._apply(entry, done)
                number = entry.number
                await self._sleep(self._settings.pause_s)
        finally:
            with contextlib.suppress(StoreUnavailable):  # what is not noted is done again, and costs a query
                await self._keep(number, over=number == (rest[-1].number if rest else number))
            if done.streams:
                await self._record(done)
        return done.points

    async def _apply(self, entry: Entry, done: _Round) -> None:
        keep = self._settings.classes.get(entry.retention, "forever")
        done.streams += 1
        if keep == "forever":
            return
        before_ns = self._now_ns() - round(keep * DAY_NS)
        for series in await self._series_of(entry):
            gone = await self._store.delete(series, before_ns=before_ns)
            if gone:
                done.points += gone
                done.by_class[entry.retention] = done.by_class.get(entry.retention, 0) + gone
                done.named[entry.id] = done.named.get(entry.id, 0) + gone

    async def _series_of(self, entry: Entry) -> list[Series]:
        """One for each quantity and kind that the stream ever had: the unit makes no series of its own."""
        found: dict[tuple[str, str], Series] = {}
        for one in await self._catalogue.versions(entry.number):
            series = Series(one.path, one.device, one.stream, one.quantity, one.unit, one.kind)
            found[one.quantity, one.kind] = series
        return list(found.values())

    async def _keep(self, number: int, *, over: bool) -> None:
        """Note where the pass stands; at its end, when the next begins."""
        now_ns = self._now_ns()
        row = {"name": _ROW, "number": number, "next_ns": 0}
        if over:
            row |= {"number": 0, "next_ns": now_ns + round(self._settings.every_hours * 3600e9)}
            self.counts.passes += 1
        await asyncio.to_thread(self._save, row)

    async def _record(self, done: _Round) -> None:
        self.counts.rounds += 1
        self.counts.streams += done.streams
        self.counts.points += done.points
        detail = {
            "streams": done.streams, "points": done.points, "by_class": done.by_class,
            "destroyed_in": dict(list(done.named.items())[:MAX_NAMED]), "destroyed_in_count": len(done.named),
            "unknown_class": self.counts.unknown,
        }  # fmt: skip
        subject = f"{done.points} points of {len(done.named)} streams"
        await self._trail.record("system", "retention", subject, detail)

    def _look_at_classes(self) -> None:
        problems = self.problems()
        self.counts.unknown = sum(problem.streams for problem in problems)
        names = frozenset(problem.name for problem in problems)
        if names - self._told:
            log.warning(
                "retention classes that hub.retention.classes does not name: %s; their %d streams are kept for ever",
                ", ".join(sorted(names))[:500],
                self.counts.unknown,
            )
        elif self._told and not names:
            log.warning("every retention class is named now")
        self._told = names

    def _position(self) -> tuple[int, int]:
        with self._database.reading() as db:
            row = db.execute(select(retention_table).where(retention_table.c.name == _ROW)).first()
        return (0, 0) if row is None else (row.number, row.next_ns)

    def _save(self, row: dict[str, Any]) -> None:
        with self._database.begin() as db:
            self._database.upsert(db, retention_table, [row], ["name"])

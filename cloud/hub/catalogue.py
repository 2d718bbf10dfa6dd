"""The catalogue (一本账): every stream ever seen, what it is now, and what it was before.

Follows the collector's births. A stream is (gateway, device, name) and gets a number that is never given again; each
change of what a birth says of it is a version of its own, with the time from when it holds. A stream that its gateway's
birth no longer names has left, and keeps its number for the day when it comes back. History is in the hub's database;
what holds now is in memory, half a kilobyte a stream, and answers while every database is away.

A birth that would bring more than the catalogue may hold, or that changes all the time, is refused: the one before goes
on holding, and `refusals` says so until it is put right.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text, UniqueConstraint, select

from cloud.births_read import BirthsReader, SeenBirth
from cloud.hub.catalogue_index import Index
from cloud.hub.database import Database, metadata
from cloud.hub.entries import Entry
from contract.catalogue import Birth, Device, Stream
from contract.errors import StoreUnavailable
from contract.topics import GatewayPath

log = logging.getLogger(__name__)

MAX_STREAMS = 1_000_000
MAX_CHANGES_A_DAY = 100
MAX_REFUSALS = 1000
DAY_NS = 86_400 * 1_000_000_000
WATCH_S = 1.0

streams = Table(
    "hub_streams",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("stream", Text, nullable=False),
    UniqueConstraint("path", "device", "stream"),
)
versions = Table(
    "hub_stream_versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("since_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger),
    Column("entry", LargeBinary, nullable=False),
)
_decoder = msgspec.json.Decoder(Entry)
Key = tuple[GatewayPath, str, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A birth that was not taken."""

    path: GatewayPath
    why: str
    time_ns: int


class Catalogue:
    """What all gateways say they sense. Answers belong to one event loop; `refresh` does its work in a thread."""

    def __init__(
        self,
        database: Database,
        births: BirthsReader,
        *,
        max_streams: int = MAX_STREAMS,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.index = Index(())
        self.refusals: dict[GatewayPath, Refusal] = {}
        self._database = database
        self._births = births
        self._max_streams = max_streams
        self._now_ns = now_ns
        self._entries: list[Entry | None] = [None]  # by number; 0 is nobody's
        self._keys: dict[Key, Entry] = {}
        self._gateways: dict[GatewayPath, dict[tuple[str, str], Entry]] = {}
        self._epochs: dict[GatewayPath, int] = {}
        self._changes: dict[GatewayPath, deque[int]] = {}
        self._seen = 0
        self._version = 0
        self.index_version = 0

    @property
    def version(self) -> int:
        """Rises with every change."""
        return self._version

    def get(self, stream_id: str) -> Entry | None:
        """The stream `city/district/street/gateway/device/stream` as it is now or last was, or None."""
        parts = stream_id.split("/")
        return self._keys.get((GatewayPath(*parts[:4]), parts[4], parts[5])) if len(parts) == 6 else None

    def by_number(self, number: int) -> Entry | None:
        """The stream of this number, or None."""
        return self._entries[number] if 0 < number < len(self._entries) else None

    def by_key(self, key: Key) -> Entry | None:
        """The stream of this (path, device, stream), or None."""
        return self._keys.get(key)

    def all(self) -> Sequence[Entry]:
        """Every stream's current version, by number."""
        return [entry for entry in self._entries if entry is not None]

    async def versions(self, number: int) -> list[Entry]:
        """Every version of a stream, oldest first. Raises StoreUnavailable."""
        return await asyncio.to_thread(self._read_versions, number)

    async def load(self) -> None:
        """Take up what the database remembers. Raises StoreUnavailable."""
        for entry in await asyncio.to_thread(self._read_current):
            self._put(entry)
        self._version += 1
        await self._build_index()

    async def watch(self, interval_s: float = WATCH_S) -> None:
        """Follow the births until cancelled; a database that is away is waited for, said once."""
        trouble = ""
        while True:
            try:
                await self.refresh()
                if trouble:
                    log.warning("the catalogue follows the births again")
                trouble = ""
            except StoreUnavailable as error:
                if not trouble:
                    log.warning("the catalogue cannot follow the births: %s; trying again", error)
                trouble = str(error)
            await asyncio.sleep(interval_s)

    async def refresh(self) -> None:
        """Take what gateways have published since the last time. Raises StoreUnavailable."""
        for seen in await asyncio.to_thread(self._births.newest_since, self._seen, dict(self._epochs)):
            await self._take(seen)
            self._seen = max(self._seen, seen.seen)
        if self.index_version != self._version:
            await self._build_index()

    async def _take(self, seen: SeenBirth) -> None:
        now_ns = self._now_ns()
        why = self._refuse(seen, now_ns)
        if why is not None:
            if seen.path not in self.refusals:
                log.warning("the birth of %s is not taken: %s", seen.path, why)
            if len(self.refusals) < MAX_REFUSALS:
                self.refusals[seen.path] = Refusal(seen.path, why, now_ns)
            return
        assert seen.birth is not None  # noqa: S101 - refused otherwise
        before = self._gateways.get(seen.path, {})
        changed = await asyncio.to_thread(self._changed, seen.birth, before, len(self._entries), now_ns)
        if changed:
            await asyncio.to_thread(self._keep, changed, before)
            for entry in changed:
                self._put(entry)
            self._version += 1
            self._changes.setdefault(seen.path, deque(maxlen=MAX_CHANGES_A_DAY)).append(now_ns)
        self._epochs[seen.path] = seen.epoch
        self.refusals.pop(seen.path, None)

    def _refuse(self, seen: SeenBirth, now_ns: int) -> str | None:
        if seen.birth is None:
            return "it cannot be read by this version"
        count = sum(len(device.streams) for device in seen.birth.devices)
        known = len(self._gateways.get(seen.path, {}))
        if len(self._entries) - 1 - known + count > self._max_streams:
            return f"its {count} streams would be more than the catalogue's {self._max_streams}"
        changes = self._changes.get(seen.path)
        if changes is not None and len(changes) == MAX_CHANGES_A_DAY and now_ns - changes[0] < DAY_NS:
            return f"it changed {MAX_CHANGES_A_DAY} times within a day"
        return None

    @staticmethod
    def _changed(birth: Birth, before: dict[tuple[str, str], Entry], number: int, now_ns: int) -> list[Entry]:
        """The versions that this birth begins, and those that it ends without another (until_ns set)."""
        changed: list[Entry] = []
        named = set()
        for device, stream in [(one, stream) for one in birth.devices for stream in one.streams]:
            key = (device.name, stream.name)
            named.add(key)
            old = before.get(key)
            made = _entry(birth, device, stream, now_ns)
            if old is None:
                changed.append(replace(made, number=number))
                number += 1
            elif replace(old, version=0, number=0, since_ns=now_ns) != replace(made, version=0, number=0):
                changed.append(replace(made, number=old.number, version=old.version + 1))
        changed += [
            replace(old, until_ns=now_ns) for key, old in before.items() if key not in named and old.until_ns is None
        ]
        return changed

    def _keep(self, changed: Sequence[Entry], before: dict[tuple[str, str], Entry]) -> None:
        new = [entry for entry in changed if (entry.device, entry.stream) not in before]
        ended = [
            replace(old, until_ns=entry.since_ns)
            for entry in changed
            if (old := before.get((entry.device, entry.stream))) is not None
            and old.version != entry.version
            and old.until_ns is None
        ]
        names = [
            {"number": one.number, "path": str(one.path), "device": one.device, "stream": one.stream} for one in new
        ]
        with self._database.begin() as db:
            self._database.upsert(db, streams, names, ["number"])
            self._database.upsert(db, versions, [_row(one) for one in (*ended, *changed)], ["number", "version"])

    def _put(self, entry: Entry) -> None:
        if entry.number >= len(self._entries):
            self._entries += [None] * (entry.number + 1 - len(self._entries))
        self._entries[entry.number] = entry
        self._keys[entry.key] = entry
        self._gateways.setdefault(entry.path, {})[entry.device, entry.stream] = entry

    def _read_current(self) -> list[Entry]:
        newest = versions.alias()
        later = select(newest.c.number).where(
            newest.c.number == versions.c.number, newest.c.version > versions.c.version
        )
        with self._database.reading() as db:
            rows = db.execute(select(versions).where(~later.exists()).order_by(versions.c.number)).all()
        return [_read(row) for row in rows]

    def _read_versions(self, number: int) -> list[Entry]:
        wanted = select(versions).where(versions.c.number == number).order_by(versions.c.version)
        with self._database.reading() as db:
            return [_read(row) for row in db.execute(wanted).all()]

    async def _build_index(self) -> None:
        version, entries = self._version, self.all()
        self.index = await asyncio.to_thread(Index, entries)
        self.index_version = version


def _entry(birth: Birth, device: Device, stream: Stream, now_ns: int) -> Entry:
    site = device.site or birth.site
    steward = stream.stewardship
    return Entry(
        number=0,
        version=1,
        path=birth.path,
        device=device.name,
        stream=stream.name,
        quantity=stream.quantity,
        unit=stream.unit,
        kind=stream.type,
        interval_s=stream.interval_s,
        since_ns=now_ns,
        resolution=stream.resolution,
        valid_range=stream.valid_range,
        scheduled=stream.scheduled,
        alarm=stream.alarm,
        owner=steward.owner,
        contact=steward.contact,
        grade=steward.grade,
        shared_with=steward.shared_with,
        retention=steward.retention,
        legal_basis=steward.legal_basis,
        site=site.name,
        latitude=site.latitude,
        longitude=site.longitude,
        manufacturer=device.manufacturer,
        model=device.model,
        serial_number=device.serial_number,
    )


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "version": entry.version,
        "since_ns": entry.since_ns,
        "until_ns": entry.until_ns,
        "entry": msgspec.json.encode(entry),
    }


def _read(row: Any) -> Entry:
    return replace(_decoder.decode(bytes(row.entry)), until_ns=row.until_ns)

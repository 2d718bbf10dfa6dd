"""Hub parts for the tests of history: a catalogue of given entries, an audit that is a list, one known token a name."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from fastapi import FastAPI
from memory_store import MemoryStore

from cloud.hub.access import Reader
from cloud.hub.app import create_app
from cloud.hub.catalogue_index import Index
from cloud.hub.entries import Entry
from cloud.hub.parts import Events, Hub, Newest
from cloud.stores.base import Columns, Series, Store
from contract.catalogue import Grade
from contract.readings import Kind
from contract.topics import GatewayPath

SECOND = 1_000_000_000
T0 = 1_790_000_000_000_000_000  # 2026-09-21T14:13:20Z
PATH = GatewayPath("c", "d", "s", "g")


def entry(number: int = 1, **changes: Any) -> Entry:
    """An open float stream of one reading a second, but for `changes`."""
    plain = Entry(
        number,
        version=1,
        path=PATH,
        device="D",
        stream=f"s{number}",
        quantity="temperature",
        unit="Cel",
        kind=Kind.FLOAT,
        interval_s=1.0,
        since_ns=T0,
        owner="water",
        contact="water@city",
        grade=Grade.OPEN,
    )
    return replace(plain, **changes)


class Catalogue:
    """Entries by id; each is a list of versions, the newest last."""

    def __init__(self, *streams: Entry | Sequence[Entry]) -> None:
        self.version = 1
        self._versions = [[one] if isinstance(one, Entry) else list(one) for one in streams]

    @property
    def index(self) -> Index:
        return Index(self.all())

    def get(self, stream_id: str) -> Entry | None:
        return next((one for one in self.all() if one.id == stream_id), None)

    def by_number(self, number: int) -> Entry | None:
        return next((one for one in self.all() if one.number == number), None)

    def by_key(self, key: tuple[Any, str, str]) -> Entry | None:
        return next((one for one in self.all() if one.key == key), None)

    def all(self) -> Sequence[Entry]:
        return [versions[-1] for versions in self._versions]

    async def versions(self, number: int) -> list[Entry]:
        return next(versions for versions in self._versions if versions[-1].number == number)

    def change(self, number: int, **changes: Any) -> None:
        """The newest version of a stream becomes another."""
        versions = next(versions for versions in self._versions if versions[-1].number == number)
        versions[-1] = replace(versions[-1], **changes)


@dataclass
class Trail:
    """What was recorded."""

    lines: list[tuple[str, str, str, Mapping[str, Any]]] = field(default_factory=list)

    async def record(self, who: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.lines.append((who, action, subject, detail))


class Tokens:
    """The secret is `department` or `department@area`."""

    async def reader_of(self, secret: str, peer: str) -> Reader | None:
        del peer
        department, _, area = secret.partition("@")
        return Reader(f"t-{department}", department, "test", areas=(area,) if area else ())


class TimedStore(MemoryStore):
    """One long series, made up as it is asked for: `points` of them, a second apart. held: the most of one answer."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.number = points
        self.held = 0
        self.gone_after: int | None = None
        self.asked = asyncio.Event()

    async def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 50_000) -> Columns:
        del series
        self.reads += 1
        self.asked.set()
        await asyncio.sleep(0)
        if self.away is not None and (self.gone_after is None or self.reads > self.gone_after):
            raise self.away
        low = min(max(-(-(start_ns - T0) // SECOND), 0), self.number)
        high = max(min(-(-(end_ns - T0) // SECOND), self.number, low + limit), low)
        rows = np.arange(low, high, dtype=np.int64)
        self.held = max(self.held, rows.size)
        return Columns(T0 + rows * SECOND, rows / 8, np.ones(rows.size, np.bool_), np.zeros(rows.size, np.uint8))


def make_hub(store: Store, *streams: Entry | Sequence[Entry]) -> Hub:
    """A hub over a store; newest and events are not there, history asks for neither."""
    absent = object()
    return Hub(
        Catalogue(*streams), cast("Newest", absent), cast("Events", absent), store, Trail(), Tokens(), Path("no-ledger")
    )


def make_app(hub: Hub) -> FastAPI:
    """The application with history alone."""
    from cloud.hub.api_history import router

    return create_app(hub, [router], version="test")

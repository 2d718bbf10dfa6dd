"""A hub with nothing but SensorThings: a catalogue, a store and an audit in memory, and a client that asks."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx
import numpy as np
from fastapi import FastAPI

from cloud.hub.access import Reader
from cloud.hub.app import create_app
from cloud.hub.catalogue_index import Index
from cloud.hub.entries import Entry
from cloud.hub.parts import Events, Hub, Sample
from cloud.hub.sensorthings.router import PREFIX, router
from cloud.stores.base import Columns, FramePoints, Point, Selector, Series, Store
from contract.catalogue import Grade
from contract.errors import StoreUnavailable
from contract.readings import GOOD, Kind, Quality, Reason, Value, quality_of, reason_of, status
from contract.topics import GatewayPath

SECOND = 1_000_000_000
DEPARTMENT = "water"  # who asks, unless somebody else does
NOW = 1_795_420_800 * SECOND  # 2026-11-23T08:00:00Z
BASE = f"http://hub.example{PREFIX}"
Reading = tuple[int, Value | None, int]


def entry(number: int, stream: str = "", *, district: str = "east", gateway: str = "gw-1", **more: Any) -> Entry:
    """An open float stream of a pump house's sensor; whatever is given otherwise."""
    fields: dict[str, Any] = {
        "version": 1,
        "path": GatewayPath("weinan", district, "main", gateway),
        "device": "meter",
        "quantity": "temperature",
        "unit": "Cel",
        "kind": Kind.FLOAT,
        "interval_s": 60.0,
        "since_ns": NOW - 86_400 * SECOND,
        "owner": "water",
        "contact": "water@city.example",
        "grade": Grade.OPEN,
        "site": "Pump house 3",
        "latitude": 34.5,
        "longitude": 109.5,
        "manufacturer": "Acme",
        "model": "T100",
    }
    return Entry(number=number, stream=stream or f"s{number}", **{**fields, **more})


class MemoryCatalogue:
    """Entries in memory. past: older versions by number."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.version = 1
        self.entries = {one.number: one for one in entries}
        self.past: dict[int, list[Entry]] = {}

    @property
    def index(self) -> Index:
        """Made anew each time."""
        return Index(self.all())

    def get(self, stream_id: str) -> Entry | None:
        """By id."""
        return next((one for one in self.entries.values() if one.id == stream_id), None)

    def by_number(self, number: int) -> Entry | None:
        """By number."""
        return self.entries.get(number)

    def by_key(self, key: tuple[Any, str, str]) -> Entry | None:
        """By key."""
        return next((one for one in self.entries.values() if one.key == key), None)

    def all(self) -> Sequence[Entry]:
        """All, by number."""
        return [self.entries[number] for number in sorted(self.entries)]

    async def versions(self, number: int) -> list[Entry]:
        """The past, then the present."""
        return [*self.past.get(number, []), self.entries[number]]


class MemoryColumns:
    """A store in memory that only reads. asked: every call of `columns`; away: raise that it is."""

    def __init__(self, readings: Mapping[Series, Sequence[Reading]]) -> None:
        self.readings = {series: sorted(rows, key=lambda row: row[0]) for series, rows in readings.items()}
        self.asked: list[tuple[str, int, int, int]] = []
        self.away = False

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def write(self, frames: Sequence[FramePoints]) -> None:
        """Takes nothing."""

    async def series(self) -> list[Series]:
        """Every series."""
        return list(self.readings)

    async def read(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 10_000) -> list[Point]:
        """Points of a series."""
        rows = [row for row in self.readings.get(series, ()) if start_ns <= row[0] < end_ns][:limit]
        return [Point(time, value, quality_of(code), reason_of(code)) for time, value, code in rows]

    async def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 50_000) -> Columns:
        """Columns of a series."""
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("the test says so")
        self.asked.append((series.stream, start_ns, end_ns, limit))
        return self.columns_now(series, start_ns, end_ns, limit)

    def columns_now(self, series: Series, start_ns: int, end_ns: int, limit: int) -> Columns:
        """The same, without an event loop."""
        rows = [row for row in self.readings.get(series, ()) if start_ns <= row[0] < end_ns][:limit]
        types = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_, Kind.TEXT: np.object_}
        blank: Value = "" if series.kind is Kind.TEXT else 0
        return Columns(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([blank if row[1] is None else row[1] for row in rows], dtype=types[series.kind]),
            np.array([row[1] is not None for row in rows], dtype=np.bool_),
            np.array([row[2] for row in rows], dtype=np.uint8),
        )

    async def delete(self, series: Series, *, before_ns: int | None = None) -> int:
        """Deletes nothing."""
        del series, before_ns
        return 0

    async def count(self, selector: Selector) -> dict[tuple[str, str, str], int]:
        """Points by name."""
        if self.away:
            raise StoreUnavailable("the test says so")
        counts: dict[tuple[str, str, str], int] = {}
        for series, rows in self.readings.items():
            key = (series.path.gateway, series.device, series.stream)
            wanted = zip((selector.gateway, selector.device, selector.stream), key, strict=True)
            if rows and all(want in {None, have} for want, have in wanted):
                counts[key] = counts.get(key, 0) + len(rows)
        return counts

    async def latest(self, selector: Selector) -> dict[tuple[str, str, str], Point]:
        """Not asked."""
        del selector
        return {}


class MemoryNewest:
    """The newest readings by number."""

    def __init__(self) -> None:
        self.samples: dict[int, Sample] = {}

    def get(self, number: int) -> Sample | None:
        """The newest of one."""
        return self.samples.get(number)


class MemoryTrail:
    """The audit as a list."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, Mapping[str, Any]]] = []

    async def record(self, who: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Keep it."""
        self.lines.append((who, action, subject, detail))


@dataclass
class MemoryTokens:
    """Readers by secret."""

    readers: dict[str, Reader] = field(default_factory=dict)

    async def reader_of(self, secret: str, peer: str) -> Reader | None:
        """Whose it is."""
        del peer
        return self.readers.get(secret)


def series_of(one: Entry) -> Series:
    """What the store calls a stream."""
    return Series(one.path, one.device, one.stream, one.quantity, one.unit, one.kind)


def minutes(count: int, value: float = 20.0) -> list[Reading]:
    """One good reading a minute, the newest at NOW - 60 s, values rising by one."""
    return [(NOW - (count - at) * 60 * SECOND, value + at, GOOD) for at in range(count)]


class Bench:
    """The hub under test: `ask` as a department, look at `trail` and `store` afterwards."""

    def __init__(
        self, entries: Sequence[Entry], readings: Mapping[int, Sequence[Reading]], store: Store | None = None
    ) -> None:
        self.catalogue = MemoryCatalogue(entries)
        self.newest = MemoryNewest()
        self.trail = MemoryTrail()
        self.tokens = MemoryTokens()
        self.store = MemoryColumns({series_of(one): readings.get(one.number, ()) for one in entries})
        for one in entries:
            rows = sorted(readings.get(one.number, ()))
            if rows:
                time, value, code = rows[-1]
                self.newest.samples[one.number] = Sample(time, value, quality_of(code), reason_of(code))
        for department in ("water", "traffic", "parks"):
            self.tokens.readers[department] = Reader(f"t-{department}", department, "test")
        hub = Hub(
            catalogue=self.catalogue,
            newest=self.newest,
            live=cast("Events", None),  # nothing here is live
            store=store or self.store,
            trail=self.trail,
            tokens=self.tokens,
            ledger_file=Path("ledger.sqlite"),
            now_ns=lambda: NOW,
        )
        self.app: FastAPI = create_app(hub, [router], version="0")

    async def get(
        self,
        path: str,
        *,
        who: str | None = DEPARTMENT,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> httpx.Response:
        """The answer to `path`, below the service's address, its query written as people write it."""
        bare, _, query = path.partition("?")
        address = f"http://hub.example{PREFIX}/{bare}" if bare else f"http://hub.example{PREFIX}"
        if query:
            address += "?" + quote(query, safe="%=&$',()/:;@*+!~")
        sent = {} if who is None else {"authorization": f"Bearer {who}"}
        async with self.client() as client:
            return await client.request(method, address, headers={**sent, **(headers or {})})

    async def ask(self, path: str, *, who: str = DEPARTMENT) -> Any:
        """The JSON of an answer that must be good."""
        response = await self.get(path, who=who)
        assert response.status_code == 200, (path, response.status_code, response.text)
        return response.json()

    async def follow(self, path: str, *, who: str = DEPARTMENT) -> list[Any]:
        """Every entity of every page."""
        found: list[Any] = []
        document = await self.ask(path, who=who)
        async with self.client() as client:
            while True:
                found += document["value"]
                link = document.get("@iot.nextLink")
                if link is None:
                    return found
                response = await client.get(link, headers={"authorization": f"Bearer {who}"})
                assert response.status_code == 200, response.text
                document = response.json()

    def client(self) -> httpx.AsyncClient:
        """A client in this process."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), trust_env=False)


def city() -> Bench:
    """Two gateways: a meter with two streams and a valve in the east, a counter without coordinates in the west."""
    entries = [
        entry(1, "temp"),
        entry(2, "secret", grade=Grade.RESTRICTED, owner="parks", contact="parks@city.example", quantity="noise"),
        entry(3, "open", device="valve", kind=Kind.BOOL, unit="1", quantity="state"),
        entry(4, "cars", district="west", gateway="gw-2", latitude=None, longitude=None, kind=Kind.INT, unit="{count}"),
        entry(5, "note", device="valve", kind=Kind.TEXT, unit="1", quantity="note", longitude=111.0, site="Far"),
    ]
    poor = status(Quality.UNCERTAIN, Reason.STUCK)
    cars: list[Reading] = [(NOW - SECOND * (9 - at), at, poor if at == 4 else GOOD) for at in range(8)]
    cars.append((NOW - SECOND, None, status(Quality.BAD, Reason.NOT_A_NUMBER)))
    return Bench(
        entries,
        {1: minutes(250), 2: minutes(5), 3: [(NOW - 9 * SECOND, True, GOOD)], 4: cars, 5: [(NOW, "dé'jà", GOOD)]},
    )


async def names(path: str, bench: Bench | None = None) -> list[str]:
    """The names in a collection of a small city."""
    document = await (bench or city()).ask(path)
    return [one["name"] for one in document["value"]]


async def results(path: str, bench: Bench | None = None) -> list[Any]:
    """The results in a collection of Observations."""
    document = await (bench or city()).ask(path)
    return [one["result"] for one in document["value"]]


@asynccontextmanager
async def serving(bench: Bench) -> AsyncIterator[str]:
    """The hub on a real socket; gives the service's address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(bench.app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve(), name="hub")
    try:
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}{PREFIX}"
    finally:
        server.should_exit = True
        await task

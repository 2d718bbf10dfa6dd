"""The history endpoints: paging, the rule, what is refused and how, and what breaks when the database does."""

import asyncio
import contextlib
import csv
import io
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from hub_kit_history import PATH, SECOND, T0, TimedStore, Trail, entry, make_app, make_hub
from memory_store import MemoryStore

from cloud.hub.entries import Entry
from cloud.hub.history import series_of
from cloud.hub.parts import Gate, Hub
from contract.catalogue import Grade
from contract.errors import StoreUnavailable
from contract.readings import Kind

Row = dict[str, Any]


def client(hub: Hub, who: str = "fire") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(hub), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://hub", headers={"authorization": f"Bearer {who}"})


def full(*streams: Entry, points: int = 10) -> tuple[MemoryStore, Hub]:
    store = MemoryStore()
    for number, one in enumerate(streams):
        store.put(series_of(one), {T0 + row * SECOND: (float(row + 100 * number), 0) for row in range(points)})
    hub = make_hub(store, *streams)
    hub.now_ns = lambda: T0 + points * SECOND
    return store, hub


async def paged(web: httpx.AsyncClient, path: str, question: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    after: dict[str, str] = {}
    while True:
        answer = await web.get(path, params=question | after)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["values"]) <= question["limit"]
        rows += page["values"]
        if page["next"] is None:
            return rows
        after = {"after": page["next"]}


@pytest.mark.parametrize("limit", [1, 3, 5, 10, 19, 20, 21, 1000])
@pytest.mark.parametrize("order", [(1, 2), (2, 1), (2, 1, 2)])
async def test_pages_give_every_reading_once_whatever_the_order_of_streams(limit: int, order: tuple[int, ...]) -> None:
    streams = {number: entry(number) for number in (1, 2)}
    _, hub = full(*streams.values())
    question = {"stream": [streams[number].id for number in order], "start": str(T0), "limit": limit}
    async with client(hub) as web:
        rows = await paged(web, "/api/v1/history", question)
    assert [(row["stream"], row["value"]) for row in rows] == [
        (streams[number].id, row + 100.0 * (number - 1)) for number in (1, 2) for row in range(10)
    ]


async def test_pages_of_aggregates_are_the_aggregate() -> None:
    _, hub = full(entry(1), entry(2), points=50)
    question = {"stream": [entry(2).id, entry(1).id], "start": str(T0), "interval": "7s", "aggregate": "sum"}
    async with client(hub) as web:
        at_once = await paged(web, "/api/v1/history", question | {"limit": 1000})
        by_three = await paged(web, "/api/v1/history", question | {"limit": 3})
    assert by_three == at_once
    assert sum(row["sum"] for row in at_once) == sum(range(50)) + sum(range(100, 150))


async def test_the_rule_guards_history_and_export() -> None:
    streams = (
        entry(1),
        entry(2, grade=Grade.SHARED, shared_with=("fire",)),
        entry(3, grade=Grade.SHARED, shared_with=("parks",)),
        entry(4, grade=Grade.RESTRICTED),
    )
    _, hub = full(*streams)
    async with client(hub) as web, client(hub, "fire@elsewhere") as stranger:
        for number, status in ((1, 200), (2, 200), (3, 403), (4, 403)):
            answer = await web.get(f"/api/v1/history/{streams[number - 1].id}", params={"start": str(T0)})
            assert answer.status_code == status
        assert "water@city" in answer.json()["detail"]
        together = await web.get("/api/v1/history", params={"stream": [streams[0].id, streams[3].id]})
        assert together.status_code == 403
        for one in (*streams, entry(9)):
            assert (await stranger.get(f"/api/v1/history/{one.id}")).status_code == 404
        export = await web.get("/api/v1/export", params={"format": "csv", "start": str(T0)})
    rows = list(csv.DictReader(io.StringIO(export.text)))
    assert {row["stream"] for row in rows} == {streams[0].id, streams[1].id}
    assert (len(rows), export.headers["x-withheld"]) == (20, "2")
    assert isinstance(hub.trail, Trail)
    assert [(line[0], line[1], line[2]) for line in hub.trail.lines] == [
        ("t-fire fire", "history", streams[1].id),  # `open` leaves no line, nor does a refusal
        ("t-fire fire", "export", streams[1].id),
    ]


@pytest.mark.parametrize(
    ("question", "parameter"),
    [
        ({"start": "yesterday"}, "start"),
        ({"end": "9" * 30}, "end"),
        ({"start": str(T0 + 1), "end": str(T0)}, "start"),
        ({"interval": "5m"}, "aggregate"),
        ({"aggregate": "mean"}, "aggregate"),
        ({"interval": "0s", "aggregate": "mean"}, "interval"),
        ({"interval": "5m", "aggregate": "median"}, "aggregate"),
        ({"interval": "5m", "aggregate": "mean", "stream": entry(2).id}, "aggregate"),
        ({"limit": "0"}, "limit"),
        ({"limit": "50001"}, "limit"),
        ({"after": "x"}, "after"),
        ({"format": "xml"}, "format"),
        ({"interval": "1s", "aggregate": "mean", "start": str(-(2**63) + 2)}, "start"),
    ],
)
async def test_what_is_wrong_is_named(question: dict[str, str], parameter: str) -> None:
    _, hub = full(entry(1), entry(2, kind=Kind.TEXT))
    async with client(hub) as web:
        answer = await web.get("/api/v1/history", params={"stream": entry(1).id} | question)
    assert answer.status_code == 400
    assert answer.json()["parameter"] == parameter


async def test_a_changed_unit_is_refused_before_the_first_byte_whichever_stream_it_is() -> None:
    changed = [entry(2, unit="Cel", since_ns=0), entry(2, unit="K", version=2, since_ns=T0 + 5 * SECOND)]
    hub = make_hub(MemoryStore(), entry(1), changed)
    question = {"stream": [entry(1).id, entry(2).id], "start": str(T0), "interval": "1s", "aggregate": "mean"}
    async with client(hub) as web:
        answer = await web.get("/api/v1/history", params=question | {"format": "csv", "end": str(T0 + 9 * SECOND)})
    assert answer.status_code == 400
    assert answer.json()["parameter"] == "start"


async def test_too_many_buckets_are_refused_before_anything_is_read() -> None:
    store, hub = full(entry(1))
    question = {"start": "1990-01-01T00:00:00Z", "interval": "1s", "aggregate": "mean"}
    async with client(hub) as web:
        assert (await web.get(f"/api/v1/history/{entry(1).id}", params=question)).status_code == 413
    assert store.reads == 0


async def test_a_database_that_is_away_is_said_before_the_first_byte() -> None:
    store, hub = full(entry(1))
    store.away = StoreUnavailable("secret address", retry_after_s=7)
    async with client(hub) as web:
        for form in ("json", "csv", "parquet", "arrow"):
            answer = await web.get(f"/api/v1/history/{entry(1).id}", params={"format": form})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
            assert "secret" not in answer.text
        store.away = None
        assert (await web.get(f"/api/v1/history/{entry(1).id}")).status_code == 200  # every place was given back


async def test_more_queries_than_wait_are_told_to_come_later() -> None:
    _, hub = full(entry(1))
    hub.queries = Gate(1, 0)
    await hub.queries.enter()
    async with client(hub) as web:
        answer = await web.get(f"/api/v1/history/{entry(1).id}")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        hub.queries.leave()
        for _ in range(3):
            assert (await web.get(f"/api/v1/history/{entry(1).id}")).status_code == 200


@contextlib.asynccontextmanager
async def served(hub: Hub) -> AsyncIterator[str]:
    """The hub behind a real server."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(hub), log_config=None, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1/history/{PATH}/D/s1"
    finally:
        server.should_exit = True
        await running
        listening.close()


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
async def test_a_database_that_goes_away_midway_breaks_the_connection(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A short file that looks whole would be worse than none."""
    caplog.set_level(logging.CRITICAL)
    store = TimedStore(1_000_000)
    store.away, store.gone_after = StoreUnavailable("gone"), 5
    hub = make_hub(store, entry(1))
    hub.now_ns = lambda: T0 + 1_000_000 * SECOND
    question = {"format": form, "start": str(T0)}
    async with (
        served(hub) as url,
        httpx.AsyncClient(headers={"authorization": "Bearer x"}) as web,
        web.stream("GET", url, params=question) as answer,
    ):
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await answer.aread()


async def test_a_client_that_leaves_ends_its_query() -> None:
    store = TimedStore(2**40)
    hub = make_hub(store, entry(1))
    hub.queries = Gate(1, 1)
    hub.now_ns = lambda: T0 + 2**33 * SECOND
    async with served(hub) as url, httpx.AsyncClient(headers={"authorization": "Bearer x"}) as web:
        async with web.stream("GET", url, params={"format": "arrow", "start": str(T0)}) as answer:
            async for _ in answer.aiter_raw():
                break
        async with asyncio.timeout(10):
            await hub.queries.enter()  # its place is free again
        hub.queries.leave()

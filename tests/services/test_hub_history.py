"""History over real databases: what the collector's stores hold comes out of the hub's API, whole and once."""

import asyncio
import io
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from hub_kit_history import SECOND, T0, entry, make_app, make_hub
from servers import InfluxDB, VictoriaMetrics

from cloud.hub.entries import Entry
from cloud.hub.history import series_of
from cloud.hub.parts import Hub
from cloud.stores.base import FramePoints, Store
from cloud.stores.embedded import EmbeddedStore
from cloud.stores.influx1 import InfluxV1Store
from cloud.stores.influx2 import InfluxV2Store
from contract.readings import Kind, Quality, Reason, Table, status
from contract.topics import GatewayPath

pytestmark = pytest.mark.services
ROWS = 60_000  # more than a page
STUCK = status(Quality.BAD, Reason.STUCK)
Settle = Callable[[], None]


@pytest.fixture(params=["embedded", "influxdb1", "victoria"])
async def held(
    request: pytest.FixtureRequest, tmp_path: Path, influxdb: InfluxDB, victoria: VictoriaMetrics
) -> AsyncIterator[tuple[Store, Settle]]:
    store: Store
    settle: Settle = _nothing
    if request.param == "embedded":
        store = EmbeddedStore(tmp_path / "store.duckdb")
    elif request.param == "influxdb1":
        store = InfluxV1Store(influxdb.url, influxdb.fresh_database())
    else:
        store, settle = InfluxV2Store(victoria.url, "", "any", reader="victoria"), victoria.flush
    await store.open()
    yield store, settle
    await store.close()


def _nothing() -> None:
    """What is written is visible at once."""


def two_versions() -> list[Entry]:
    """A stream that was counted in whole numbers before it was measured."""
    path = GatewayPath("c", "d", "s", f"g{uuid4().hex[:8]}")
    whole = entry(1, path=path, kind=Kind.INT, since_ns=0)
    return [whole, entry(1, path=path, version=2, since_ns=T0 + ROWS // 2 * SECOND)]


def frame(version: Entry, first: int, stop: int) -> FramePoints:
    rows = np.arange(first, stop, dtype=np.int64)
    kinds = {Kind.INT: np.int64, Kind.FLOAT: np.float64}
    values = (rows if version.kind is Kind.INT else rows + 0.5).astype(kinds[version.kind])[:, None]
    codes = np.where(rows % 1000 == 999, STUCK, 0).astype(np.uint8)[:, None]
    table = Table(version.kind, np.array([1], np.int32), T0 + rows * SECOND, values, codes)
    return FramePoints(version.path, version.version, first, (table,), ((series_of(version),),))


def asking(hub: Hub) -> httpx.AsyncClient:
    hub.now_ns = lambda: T0 + ROWS * SECOND
    transport = httpx.ASGITransport(make_app(hub))
    return httpx.AsyncClient(transport=transport, base_url="http://hub", headers={"authorization": "Bearer fire"})


async def test_a_past_of_two_kinds_comes_out_whole(held: tuple[Store, Settle]) -> None:
    store, settle = held
    whole, measured = two_versions()
    half = ROWS // 2
    await store.write([frame(whole, 0, half), frame(measured, half, ROWS)])
    await asyncio.to_thread(settle)
    address = f"/api/v1/history/{measured.id}"
    async with asking(make_hub(store, [whole, measured])) as web:
        answer = await web.get(address, params={"start": str(T0), "format": "parquet"})
        table = pq.read_table(io.BytesIO(answer.content))
        assert np.array_equal(table.column("time").cast("int64").to_numpy(), T0 + np.arange(ROWS) * SECOND)
        assert table.column("value_int").to_pylist() == [*range(half), *[None] * half]
        assert table.column("value_float").to_pylist() == [*[None] * half, *(row + 0.5 for row in range(half, ROWS))]
        assert table.column("quality").to_pylist().count("bad") == ROWS // 1000
        assert set(table.column("reason").to_pylist()) == {"none", "stuck"}

        part = {"start": str(T0 + half * SECOND), "interval": "1h", "aggregate": ["mean", "max", "count"]}
        buckets = (await web.get(address, params=part)).json()["values"]
        good = [row + 0.5 for row in range(half, ROWS) if row % 1000 != 999]
        assert sum(bucket["count"] for bucket in buckets) == len(good)
        mean = sum(bucket["mean"] * bucket["count"] for bucket in buckets) / len(good)
        assert math.isclose(mean, sum(good) / len(good))
        assert max(bucket["max"] for bucket in buckets) == max(good)
        assert [bucket["coverage"] for bucket in buckets] == [1.0] * len(buckets)


async def test_pages_of_json_lose_nothing(held: tuple[Store, Settle]) -> None:
    store, settle = held
    whole, measured = two_versions()
    await store.write([frame(whole, 0, 700), frame(measured, 700, 1500)])
    await asyncio.to_thread(settle)
    values: list[float] = []
    async with asking(make_hub(store, [whole, measured])) as web:
        after: dict[str, str] = {}
        while True:
            question = {"start": str(T0), "limit": "313"} | after
            page = (await web.get(f"/api/v1/history/{measured.id}", params=question)).json()
            values += [
                row["value_int"] if row["value_int"] is not None else row["value_float"] for row in page["values"]
            ]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
    assert values == [*range(700), *(row + 0.5 for row in range(700, 1500))]


@pytest.mark.parametrize("held", ["influxdb1"], indirect=True)
async def test_a_stopped_database_is_503_and_then_is_not(held: tuple[Store, Settle], influxdb: InfluxDB) -> None:
    store, _ = held
    whole, measured = two_versions()
    await store.write([frame(whole, 0, 10)])
    async with asking(make_hub(store, [whole, measured])) as web:
        await asyncio.to_thread(influxdb.stop)
        answer = await web.get(f"/api/v1/history/{measured.id}", params={"start": str(T0)})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        await asyncio.to_thread(influxdb.start)
        answer = await web.get(f"/api/v1/history/{measured.id}", params={"start": str(T0)})
        assert len(answer.json()["values"]) == 10

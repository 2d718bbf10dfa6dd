"""SensorThings as its real clients ask: FROST's Python client over a socket, and what QGIS and Grafana send.

The hub runs in uvicorn on a free port, over the embedded store in a file.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hub_kit_sensorthings import NOW, SECOND, Bench, Reading, entry, minutes, series_of, serving

from cloud.hub.entries import Entry
from cloud.stores.base import FramePoints
from cloud.stores.embedded import EmbeddedStore
from contract.catalogue import Grade
from contract.readings import GOOD, Kind, Table

pytestmark = pytest.mark.services
WALK = Path(__file__).parents[1] / "frost_walk.py"
ENTRIES = [
    entry(1, "temp"),
    entry(2, "secret", grade=Grade.RESTRICTED, owner="parks"),
    entry(3, "cars", device="counter", kind=Kind.INT, unit="{count}", quantity="vehicles", longitude=109.6),
    entry(4, "flow", device="pump", gateway="gw-2", unit="m3/h", quantity="flow", latitude=34.9),
]
READINGS: dict[int, list[Reading]] = {
    1: minutes(1500),
    2: minutes(30),
    3: [(time, int(value or 0), code) for time, value, code in minutes(420)],
    4: [(NOW - at * SECOND - 123_456_789, at / 4, GOOD) for at in range(900, 0, -1)],
}


def frame(number: int, one: Entry, rows: list[Reading]) -> FramePoints:
    """A stream's readings as a gateway sends them."""
    kind = np.int64 if one.kind is Kind.INT else np.float64
    table = Table(
        one.kind,
        np.array([1], dtype=np.int32),
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([[row[1]] for row in rows], dtype=kind),
        np.array([[row[2]] for row in rows], dtype=np.uint8),
    )
    return FramePoints(one.path, 1, number, (table,), ((series_of(one),),))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a SensorThings service over a real store."""
    store = EmbeddedStore(tmp_path / "store.duckdb")
    await store.open()
    try:
        await store.write([frame(one.number, one, READINGS[one.number]) for one in ENTRIES])
        async with serving(Bench(ENTRIES, READINGS, store)) as address:
            yield address
    finally:
        await store.close()


async def ask(address: str, path: str) -> Any:
    """The JSON of an answer that must be good. path: as the client writes it, encoded by nobody."""
    async with httpx.AsyncClient(headers={"authorization": "Bearer water"}, trust_env=False) as client:
        answer = await client.get(path if path.startswith("http") else f"{address}{quote(path, safe='/?&=$(),;:@*')}")
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


async def test_frosts_client_walks_all_and_counts_what_is_stored(service: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WALK), service, "water"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode == 0, errors.decode()
    found = json.loads(output)
    assert found["things"] == {
        "gw-1/meter": ["gw-1/meter/temp", "gw-1/meter/secret"],
        "gw-1/counter": ["gw-1/counter/cars"],
        "gw-2/pump": ["gw-2/pump/flow"],
    }
    stored = {"gw-1/meter/temp": 1500, "gw-1/counter/cars": 420, "gw-2/pump/flow": 900}
    assert found["counts"] == stored
    assert found["walked"] == stored
    assert found["newest"]["gw-1/counter/cars"] == [439, "2026-11-23T07:59:00Z", "{count}"]
    assert found["newest"]["gw-2/pump/flow"] == [0.25, "2026-11-23T07:59:58.876543211Z", "m3/h"]
    assert found["places"] == [[109.5, 34.5], [109.6, 34.5], [109.5, 34.9]]


async def test_what_the_qgis_provider_asks(service: str) -> None:
    sets = {one["name"]: one["url"] for one in (await ask(service, ""))["value"]}
    assert sets["Locations"] == f"{service}/Locations"
    points = {}
    for kind in ("Point", "LineString", "Polygon"):
        typed = f"location/type eq '{kind}' or location/geometry/type eq '{kind}'"
        points[kind] = (await ask(service, f"/Locations?$top=0&$count=true&$filter={typed}"))["@iot.count"]
    assert points == {"Point": 3, "LineString": 0, "Polygon": 0}
    for name, field in (("FeaturesOfInterest", "feature"), ("Datastreams", "observedArea")):
        typed = f"{field}/type eq 'Polygon' or {field}/geometry/type eq 'Polygon'"
        assert await ask(service, f"/{name}?$top=0&$count=true&$filter={typed}") == {"@iot.count": 0, "value": []}
    window = "Polygon ((109.4 34.4, 109.7 34.4, 109.7 34.6, 109.4 34.6, 109.4 34.4))"
    text = (
        "(location/type eq 'Point' or location/geometry/type eq 'Point') and "
        f"(geo.intersects(location, geography'{window}'))"
    )
    seen, page = [], f"/Locations?$top=1&$count=false&$filter={text}"
    while page:
        document = await ask(service, page)
        seen += document["value"]
        page = document.get("@iot.nextLink", "").replace("$top=1&", "$top=100&")  # it rewrites its page size in place
    assert [one["location"]["coordinates"] for one in seen] == [[109.5, 34.5], [109.6, 34.5]]
    assert all(isinstance(one["@iot.id"], int) and one["@iot.id"] < 2**31 for one in seen)  # it keeps them in an int
    expand = (
        "Things($orderby=name;$top=5;$expand=Datastreams($top=5;$filter=properties/readable eq true;"
        "$expand=Observations($orderby=phenomenonTime desc;$top=3)))"
    )
    document = await ask(service, f"/Locations?$top=100&$count=false&$expand={expand}")
    streams = [stream for place in document["value"] for thing in place["Things"] for stream in thing["Datastreams"]]
    assert [len(stream["Observations"]) for stream in streams] == [3, 3, 3]
    for text_property in ("name", "description", "metadata", "encodingType"):
        held = (await ask(service, "/Sensors"))["value"][0][text_property]
        assert isinstance(held, str)  # an object here ends that client


async def test_what_the_grafana_plugins_ask(service: str) -> None:
    things = await ask(
        service, "/Things?$filter=startswith(name,'gw-1') and startswith(@iot.id,'')&$count=true&$top=20"
    )
    assert things["@iot.count"] == 2
    chosen = things["value"][0]["@iot.id"]
    streams = await ask(service, f"/Things({chosen})/Datastreams?$count=true&$skip=1&$top=20")
    assert [one["name"] for one in streams["value"]] == ["gw-1/meter/secret"]
    span = "phenomenonTime gt 2026-11-23T07:00:00.000Z and phenomenonTime lt 2026-11-23T07:59:30.000Z"
    graph = await ask(service, f"/Datastreams(1)/Observations?$filter={span}")
    assert [one["result"] for one in graph["value"]] == [float(value) for value in range(1461, 1520)]
    day = "phenomenonTime ge 2026-11-22T07:00:00.000Z and phenomenonTime le 2026-11-23T08:00:00.000Z"
    document = await ask(service, f"/Datastreams(1)/Observations?$filter={day}&$top=1000")
    held = document["value"]
    while document.get("@iot.nextLink"):  # it keeps its own address and takes the query string alone
        query = document["@iot.nextLink"].split("?")[-1]
        document = await ask(service, f"{service}/Datastreams(1)/Observations?{query}")
        held += document["value"]
    assert [one["result"] for one in held] == [float(value) for value in range(20, 1520)]
    moved = f"/Things({chosen})/HistoricalLocations?$filter=time gt 2026-11-22T00:00:00.000Z and time lt "
    stays = await ask(service, moved + "2026-11-23T08:00:00.000Z&$expand=Locations")
    assert stays["value"][0]["Locations"][0]["location"]["coordinates"] == [109.5, 34.5]
    place = stays["value"][0]["Locations"][0]["@iot.id"]
    visits = await ask(service, f"/Locations({place})/HistoricalLocations?$expand=Things")
    assert visits["value"][0]["Thing"]["name"] == "gw-1/meter"
    newest = await ask(
        service, "/Things?$expand=Locations,Datastreams($expand=Observations($top=1;$orderby=phenomenonTime desc))"
    )
    results = [
        stream["Observations"][0]["result"]
        for thing in newest["value"]
        for stream in thing["Datastreams"]
        if "Observations" in stream
    ]
    assert results == [1519.0, 439, 0.25]


async def test_the_store_and_memory_tell_the_same(service: str) -> None:
    for number in (1, 3, 4):
        path = f"/Datastreams({number})/Observations?$orderby=phenomenonTime desc&$top="
        newest = (await ask(service, f"{path}1"))["value"]
        stored = (await ask(service, f"{path}5"))["value"]
        assert stored[:1] == newest
        assert [one["phenomenonTime"] for one in stored] == sorted(
            (one["phenomenonTime"] for one in stored), reverse=True
        )

"""A purge on real databases: the certificate says what an independent query of the database says, too.

And the whole way to a gateway: command through a real broker, outbox on a real disk, reply, final certificate.
"""

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from postgres import PostgreSQL
from purge_kit import NOW, PATH, PLATE, SECOND, City, birth, make_city, make_frame, series
from servers import InfluxDB, Mosquitto
from uplink_kit import fresh_datings, until

from cloud.hub.config import Retention
from cloud.hub.retention import Retainer
from cloud.purge import Order, PendingPurges
from cloud.stores.base import FramePoints, Store
from cloud.stores.embedded import EmbeddedStore
from cloud.stores.influx1 import InfluxV1Store
from contract import frame
from contract.command import Reply
from contract.readings import Kind, Table
from contract.topics import GatewayPath, TopicKind
from edge.config import MqttSection, PublishSection
from edge.outbox import Outbox
from edge.outbox_segment import scan
from edge.uplink import Uplink

pytestmark = pytest.mark.services

POINTS = 5000
PLATES = Order("stream", "c/d/s/g/cam/plate", "court order 7", "admin police")
OTHER = GatewayPath("c", "d", "s", "h")


@dataclass
class Case:
    """A store, and how to ask its database for the points of (gateway, measurement) without our code."""

    city: City
    store: Store
    count: Callable[[str, str], int]
    file: Path | None


@pytest.fixture(params=["influxdb1", "embedded"])
async def case(request: pytest.FixtureRequest, tmp_path: Path, influxdb: InfluxDB) -> AsyncIterator[Case]:
    database = influxdb.fresh_database()
    embedded = request.param == "embedded"
    file = tmp_path / "store.duckdb"
    store: Store = EmbeddedStore(file) if embedded else InfluxV1Store(influxdb.url, database, timeout_s=10)
    await store.open()

    def ask_influx(gateway: str, quantity: str) -> int:
        query = f"SELECT count(*) FROM \"{quantity}\" WHERE gateway = '{gateway}'"  # noqa: S608 - of the test
        _, body = influxdb.request("GET", "/query?" + urllib.parse.urlencode({"db": database, "q": query}))
        found = json.loads(body)["results"][0].get("series")
        return max(found[0]["values"][0][1:]) if found else 0

    def ask_duckdb(gateway: str, quantity: str) -> int:
        with duckdb.connect(str(file), read_only=True) as db:
            row = db.execute(
                "SELECT count(*) FROM points p JOIN series s ON p.series = s.id WHERE s.gateway = ? AND s.quantity = ?",
                [gateway, quantity],
            ).fetchone()
        assert row is not None
        return int(row[0])

    city = await make_city(tmp_path / "data", store, birth(), birth("h"))
    made = Case(city, store, ask_duckdb if embedded else ask_influx, file if embedded else None)
    yield made
    city.close()
    await made.store.close()


async def fill(store: Store, path: GatewayPath, rows: int = POINTS) -> None:
    """Points of all three streams, one a second, half of them measured after the order."""
    times = NOW + (np.arange(rows, dtype=np.int64) - rows // 2) * SECOND
    ok = np.zeros((rows, 1), np.uint8)
    texts = np.array([[PLATE]] * rows, dtype=object)
    tables = (
        Table(Kind.FLOAT, np.array([0, 2], np.int32), times, np.ones((rows, 2)), np.zeros((rows, 2), np.uint8)),
        Table(Kind.TEXT, np.array([1], np.int32), times, texts, ok),
    )
    named = (
        (series("speed", path=path), series("power", device="meter", path=path)),
        (series("plate", Kind.TEXT, path=path),),
    )
    await store.write([FramePoints(path, 7, 1, tables, named)])


async def counts(case: Case) -> dict[str, int]:
    """By an independent query; the embedded store's file is asked while no store has it open."""
    if case.file is not None:
        await case.store.close()
    found = {
        f"{gateway}/{name}": case.count(gateway, name) for gateway in ("g", "h") for name in ("plate", "speed", "power")
    }
    if case.file is not None:
        case.store = case.city.purger.store = EmbeddedStore(case.file)
        await case.store.open()
    return found


async def test_the_certificate_says_what_the_database_says(case: Case) -> None:
    for path in (PATH, OTHER):
        await fill(case.store, path)
    whole = dict.fromkeys([f"{gateway}/{name}" for gateway in "gh" for name in ("plate", "speed", "power")], POINTS)
    assert await counts(case) == whole
    document = await case.city.purger.start(PLATES, case.city.catalogue.all())
    place = document["places"]["store"]
    assert (place["before"], place["destroyed"], place["after"]) == (POINTS // 2, POINTS // 2, 0)
    assert await counts(case) == whole | {"g/plate": POINTS // 2}
    case.city.clock.pass_s(POINTS)
    document = await case.city.purger.start(Order("gateway", "c/d/s/g", "r", "b"), case.city.catalogue.all())
    assert document["places"]["store"]["destroyed"] == POINTS // 2 + 2 * POINTS
    assert await counts(case) == whole | {"g/plate": 0, "g/speed": 0, "g/power": 0}


async def listen(link: paho.Client, port: int, pending: PendingPurges) -> None:
    """What the hub's own connection does: replies to the purges that wait for them."""
    loop, subscribed = asyncio.get_running_loop(), list[Any]()

    def heard(_client: paho.Client, _data: object, told: paho.MQTTMessage) -> None:
        loop.call_soon_threadsafe(pending.heard, told.topic, bytes(told.payload))

    link.on_message = heard
    link.on_subscribe = lambda *told: subscribed.append(told)
    link.connect("127.0.0.1", port)
    link.subscribe(PATH.topic(TopicKind.REPLY), qos=1)
    link.loop_start()
    await until(lambda: bool(subscribed))


async def test_a_gateway_destroys_what_it_holds_and_the_certificate_is_final(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    city = await make_city(tmp_path / "data")
    box = Outbox.open(tmp_path / "outbox", max_bytes=2**22, state=lambda: b"state", min_free_bytes=0)
    box.save_birth(birth().epoch, birth().encode())
    numbers = await box.append([make_frame(rows=50), make_frame(rows=50)])
    link = paho.Client(CallbackAPIVersion.VERSION2)
    pending = PendingPurges(city.purger, lambda topic, data: link.publish(topic, data, qos=1).rc == 0, resend_s=1)
    await listen(link, mosquitto.port, pending)
    mqtt = {"host": "127.0.0.1", "port": mosquitto.port, "reconnect_max_s": 0.5}
    publish = PublishSection.model_validate({"ack_timeout_s": 60, "linger_s": 0.01})
    uplink = Uplink(
        PATH, box, MqttSection.model_validate(mqtt), publish, boot=7, epoch=birth().epoch, datings=fresh_datings(box)
    )
    try:
        document = await city.purger.start(PLATES, city.catalogue.all())
        await pending.turn()  # nobody is there yet
        assert not document["complete"]
        tasks = [asyncio.create_task(uplink.run()), asyncio.create_task(pending.run())]
        await until(lambda: box.stats().leased == 2)
        await until(lambda: city.purger.book.gateways(document["id"])[0].readings == 100, 15)
        assert city.purger.book.gateways(document["id"])[0].done is False  # two frames are on their way
        box.commit(7, [(numbers[0], numbers[1])])
        late = await box.append([make_frame(rows=7)])  # it was being gathered when the order came, and leaves at once
        await until(lambda: city.purger.book.gateways(document["id"])[0].readings == 107, 15)
        box.commit(7, [(late[0], late[0])])
        await until(lambda: city.purger.book.open() == [], 30)
        final = city.purger.book.get(document["id"])
        assert final is not None
        assert (final["complete"], final["gateways"][0]["state"]) == (True, "confirmed")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        (segment,) = (tmp_path / "outbox").glob("*.segment")
        data = segment.read_bytes()
        found = scan(data)
        ends = (found.offsets + found.heads["length"]).tolist()
        held = [data[begin:end] for begin, end in zip(found.offsets.tolist(), ends, strict=True)][1:]
        assert [sum(part.count() for part in frame.decode(one).tables) for one in held] == [100, 100, 14]
        assert all(1 not in part.streams for one in held for part in frame.decode(one).tables)
    finally:
        link.disconnect()
        link.loop_stop()
        await box.close()
        city.close()


async def test_purges_and_retention_remember_in_postgresql_too(tmp_path: Path) -> None:
    with PostgreSQL(tmp_path / "postgresql") as server:
        city = await make_city(tmp_path / "data", None, birth(), url=server.url)
        city.store.fill(series("plate", Kind.TEXT))
        document = await city.purger.start(PLATES, city.catalogue.all())
        book = city.purger.book
        assert book.answered(PATH, Reply(document["id"], True, 3, "a\x00b"), NOW)
        final = await city.purger.advance(document["id"])
        assert (final["complete"], final["gateways"][0]["detail"], book.open()) == (True, "a b", [])
        assert final == book.get(document["id"])
        city.store.fill(series("speed"), last_ns=NOW - 500 * 86_400 * SECOND)
        retainer = Retainer(
            Retention(pause_s=0), city.catalogue, city.store, city.trail, city.database, now_ns=city.clock.now_ns
        )
        assert await retainer.round() == 10
        assert await retainer.round() == 0
        city.close()

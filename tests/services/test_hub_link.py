"""What the hub says at a real broker: the newest of open streams, retained, and nothing else; also after a kill."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest
from cloud_frames import PATH, ScriptedGateway, make_birth
from hub_kit import Insides, eventually, insides, owned
from servers import Mosquitto

from cloud.config import Mqtt
from cloud.hub.config import HubConfig
from cloud.hub.entries import Entry
from cloud.hub.link import HubLink
from cloud.hub.republish import Republisher, topic_of
from cloud.hub.serve import _listen
from contract.catalogue import Grade
from contract.readings import Kind
from contract.topics import GatewayPath, TopicKind

pytestmark = pytest.mark.services
OTHER = GatewayPath("Changzhou", "Tianning", "First", "gw-2")


@contextlib.asynccontextmanager
async def linked(broker: Mosquitto) -> AsyncIterator[HubLink]:
    link = HubLink(Mqtt(host="127.0.0.1", port=broker.port, reconnect_max_s=1), f"test-{broker.port}-hub")
    running = asyncio.create_task(link.run())
    try:
        await asyncio.wait_for(link.connected.wait(), 10)
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def retained(broker: Mosquitto) -> dict[str, bytes]:
    """What somebody who subscribes now is given."""
    found: dict[str, bytes] = {}
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("hub/v1/#", qos=1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.7):
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    found[str(message.topic)] = message.payload
    return found


async def send_all(hub: Insides, *gateways: ScriptedGateway) -> None:
    for gateway in gateways:
        await hub.send(gateway, rows=1)
    await hub.caught_up()


async def test_open_streams_are_republished_and_closed_ones_never(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with insides(tmp_path) as hub, linked(mosquitto) as link:
        republisher = Republisher(hub.catalogue, hub.feed, link.publish_retained, lambda: link.connections)
        hub.feed.listeners.append(republisher)
        running = asyncio.create_task(republisher.run())
        mine = ScriptedGateway(owned(make_birth(2), "Works/East+#"))
        theirs = ScriptedGateway(owned(make_birth(2, path=OTHER), "Water", Grade.SHARED, ["Works"]))
        for gateway in (mine, theirs):
            await hub.publish(gateway.birth)
        await send_all(hub, mine, theirs)
        await eventually(lambda: republisher.published == 2)
        topics = [f"hub/v1/Works_East__/{PATH}/meter/s{number}" for number in (0, 1)]
        found = await retained(mosquitto)
        assert sorted(found) == topics
        assert json.loads(found[topics[0]])["value"] == 20.0

        mosquitto.kill()
        mosquitto.forget()
        mosquitto.start()
        await eventually(lambda: republisher.published == 4, 20)
        assert sorted(await retained(mosquitto)) == topics, "said again to a broker that forgot"

        number = hub.catalogue.all()[0].number
        hub.feed.forget([number])
        republisher.forget([number])
        await asyncio.sleep(0.5)
        assert sorted(await retained(mosquitto)) == topics[1:], "what was destroyed is taken back"

        closed = ScriptedGateway(owned(make_birth(2), "Works/East+#", Grade.RESTRICTED), sequence=mine.sequence)
        await hub.publish(closed.birth)
        await send_all(hub, closed)
        await asyncio.sleep(0.5)
        assert await retained(mosquitto) == {}, "what is closed now is taken back"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_replies_of_gateways_are_heard(mosquitto: Mosquitto) -> None:
    heard: list[tuple[str, bytes]] = []
    async with linked(mosquitto) as link:
        link.heard.append(lambda topic, payload: heard.append((topic, payload)))
        await asyncio.sleep(0.2)
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as gateway:
            await gateway.publish(PATH.topic(TopicKind.REPLY), b"done", qos=1)
            await gateway.publish(PATH.topic(TopicKind.DATA), b"not for the hub", qos=1)
        await eventually(lambda: bool(heard))
        assert heard == [(PATH.topic(TopicKind.REPLY), b"done")]


def test_an_answer_does_not_wait_for_the_one_before_to_be_acknowledged() -> None:
    """asyncio switches Nagle's algorithm off for sockets that say TCP alone; it cost 40 ms an answer."""
    made = _listen(HubConfig(port=0))
    with made:
        assert made.proto == socket.IPPROTO_TCP


def test_a_topic_is_the_owners_and_the_streams() -> None:
    entry = Entry(1, 1, PATH, "meter", "s0", "q", "m", Kind.FLOAT, 1, 0)
    assert topic_of(entry) == f"hub/v1/unowned/{PATH}/meter/s0"

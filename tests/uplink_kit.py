"""What the uplink's suite needs: an uplink over a real outbox, and a collector written at the wire with plain paho."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from outbox_kit import make_frame
from paho.mqtt.enums import CallbackAPIVersion
from servers import wait_until

from contract import frame
from contract.topics import GatewayPath, TopicKind
from edge.config import MqttSection, PublishSection
from edge.dating import Datings
from edge.outbox import Outbox
from edge.uplink import Uplink

BOOT = 7
BIRTH = b'{"a":"birth"}'
EPOCH = 1
MIB = 1024 * 1024


@dataclass(frozen=True)
class Heard:
    """One message as the collector got it. `at_s` is CLOCK_MONOTONIC."""

    at_s: float
    payload: bytes
    retained: bool


@dataclass
class FakeCollector:
    """Hears everything of one gateway; acknowledges at once when `obliging`, otherwise when told to."""

    port: int
    path: GatewayPath
    obliging: bool = False
    frames: list[Heard] = field(default_factory=list)
    births: list[Heard] = field(default_factory=list)
    states: list[Heard] = field(default_factory=list)
    subscriptions: int = 0

    def __post_init__(self) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._take

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(self.path.topic(kind), 1) for kind in (TopicKind.BIRTH, TopicKind.STATE, TopicKind.DATA)])

    def _subscribed(self, *_: Any) -> None:
        self.subscriptions += 1

    def _take(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        heard = Heard(time.monotonic(), bytes(message.payload), message.retain)
        {"data": self.frames, "birth": self.births, "state": self.states}[kind].append(heard)
        if kind == "data" and self.obliging:
            header = frame.peek(heard.payload)
            self.ack(stored=[[header.sequence, header.sequence]], boot=header.boot)

    def connect(self) -> None:
        """Listen, in a thread of its own, from the moment this returns."""
        self._client.connect("127.0.0.1", self.port, keepalive=5)
        self._client.loop_start()
        wait_until(lambda: self.subscriptions == 1, 10, "the fake collector subscribes")

    def close(self) -> None:
        """Stop."""
        self._client.disconnect()
        self._client.loop_stop()

    def ack(self, **fields: Any) -> None:
        """Publish an acknowledgement of the current boot, with these fields."""
        self.say(json.dumps({"boot": BOOT, **fields}).encode())

    def say(self, payload: bytes) -> None:
        """Publish anything on the ack topic."""
        self._client.publish(self.path.topic(TopicKind.ACK), payload, qos=1)

    def sequences(self) -> list[int]:
        """The numbers of the frames, in the order they came."""
        return [frame.peek(heard.payload).sequence for heard in list(self.frames)]

    def online(self) -> list[bool]:
        """What the states said, in order."""
        return [bool(json.loads(heard.payload)["online"]) for heard in list(self.states)]


@contextmanager
def fake_collector(port: int, path: GatewayPath, *, obliging: bool = False) -> Iterator[FakeCollector]:
    """A collector that listens, for as long as the context lasts."""
    collector = FakeCollector(port, path, obliging)
    collector.connect()
    try:
        yield collector
    finally:
        collector.close()


@dataclass
class Bench:
    """A real outbox in a folder, and uplinks over it."""

    outbox: Outbox
    datings: Datings
    path: GatewayPath
    port: int

    async def append(self, count: int, *, first: int = 0, **frames: Any) -> list[int]:
        """That many frames on disk."""
        settings = {"boot": BOOT, "epoch": EPOCH, **frames}
        return await self.outbox.append([make_frame(first + number, **settings) for number in range(count)])

    @asynccontextmanager
    async def sending(self, mqtt: dict[str, Any] | None = None, **publish: Any) -> AsyncIterator[Uplink]:
        """An uplink that runs. `mqtt` and `publish` are settings of the configuration's sections."""
        settings = {"host": "127.0.0.1", "port": self.port, "keepalive_s": 5, "reconnect_max_s": 0.5, **(mqtt or {})}
        uplink = Uplink(
            self.path,
            self.outbox,
            MqttSection.model_validate(settings),
            PublishSection.model_validate({"ack_timeout_s": 60, **publish}),
            boot=BOOT,
            epoch=EPOCH,
            datings=self.datings,
        )
        task = asyncio.create_task(uplink.run())
        try:
            yield uplink
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def fresh_datings(outbox: Outbox) -> Datings:
    """Those of a machine that does not know the time yet."""
    datings = Datings(outbox.load_note, outbox.save_note, "this machine")
    datings.begin(BOOT, 0, 0)
    return datings


@asynccontextmanager
async def bench(folder: Path, port: int, gateway: str) -> AsyncIterator[Bench]:
    """A bench whose clock is known; `gateway` keeps tests on one broker apart."""
    outbox = Outbox.open(folder / "outbox", max_bytes=64 * MIB, state=lambda: b"state", min_free_bytes=0)
    outbox.save_birth(EPOCH, BIRTH)
    datings = fresh_datings(outbox)
    datings.settle(0)
    try:
        yield Bench(outbox, datings, GatewayPath("test", "east", "first", gateway), port)
    finally:
        await outbox.close()


async def until(condition: Callable[[], bool], seconds: float = 10, what: str = "the condition") -> None:
    """Poll until `condition()`."""
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)

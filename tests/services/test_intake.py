"""The collector on a real broker: what is not acknowledged stays with the broker, and comes again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import paho.mqtt.client as mqtt
import pytest
from cloud_frames import ScriptedGateway, make_birth
from paho.mqtt.enums import CallbackAPIVersion
from servers import Mosquitto, free_port, wait_until

from cloud.cli import main
from cloud.config import Collector, Mqtt
from cloud.intake import Intake, Message
from cloud.ledger_read import read_file
from cloud.stores.base import Selector
from cloud.stores.specs import EmbeddedSpec, make_store
from contract import ack
from contract.topics import GatewayPath, TopicKind

pytestmark = pytest.mark.services


class WireGateway:
    """A gateway on the wire: publishes births and frames, remembers what was acknowledged."""

    def __init__(self, port: int, path: GatewayPath, n_streams: int = 2) -> None:
        self.path = path
        self.script = ScriptedGateway(make_birth(n_streams, path=path))
        self.stored: set[int] = set()
        self.rejected: dict[int, str] = {}
        self.unknown: set[int] = set()
        self.frames: dict[int, bytes] = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"gw-{uuid.uuid4().hex[:8]}")
        self._client.max_inflight_messages_set(1000)
        self._client.on_message = self._on_ack
        self._client.on_connect = lambda client, *_: client.subscribe(path.topic(TopicKind.ACK), qos=1)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_ack(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        answer = ack.decode(bytes(message.payload))
        for low, high in answer.stored:
            self.stored.update(range(low, high + 1))
        self.rejected.update(dict(answer.rejected))
        self.unknown.update(answer.unknown_epochs)

    def birth(self) -> None:
        self._client.publish(self.path.topic(TopicKind.BIRTH), self.script.birth.encode(), qos=1, retain=True)

    def state(self) -> None:
        unacknowledged = sorted(set(self.frames) - self.stored)
        state = {
            "online": True,
            "boot": 1,
            "next_sequence": self.script.sequence,
            "oldest_sequence": unacknowledged[0] if unacknowledged else None,
        }
        self._client.publish(self.path.topic(TopicKind.STATE), json.dumps(state), qos=1, retain=True)

    def send(self, count: int) -> None:
        for _ in range(count):
            sequence = self.script.sequence
            self.frames[sequence] = self.script.payload(3)
            self._client.publish(self.path.topic(TopicKind.DATA), self.frames[sequence], qos=1)

    def send_again(self) -> None:
        for sequence in sorted(set(self.frames) - self.stored):
            self._client.publish(self.path.topic(TopicKind.DATA), self.frames[sequence], qos=1)

    def wait_for_more_than(self, count: int) -> None:
        wait_until(lambda: len(self.stored) > count, 20, "one more acknowledgement")

    def raw(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1)


class CollectorProcess:
    """weinao-cloud as a process."""

    def __init__(self, folder: Path, port: int, *, command: str = "collect", embedded: str = "false") -> None:
        self.folder = folder
        self.command = command
        self.config = folder / "cloud.yaml"
        self.config.write_text(
            f"mqtt: {{port: {port}, embedded: {embedded}, reconnect_max_s: 1, session_expiry_s: 2}}\n"
            f"collector: {{name: c-{uuid.uuid4().hex[:8]}}}\n"
            "store: {kind: embedded, path: points.duckdb}\ndata: {directory: data}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cloud.cli", self.command, str(self.config), "--ready-file", str(ready)],
                stderr=log,
                cwd=Path(__file__).parents[2],
            )
        wait_until(lambda: ready.exists() or self.process is None or self.process.poll() is not None, 30, "a start")
        assert self.process.poll() is None, self.log

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@pytest.fixture
def path() -> GatewayPath:
    return GatewayPath("city", "district", "street", f"gw-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def collector(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[CollectorProcess]:
    made = CollectorProcess(tmp_path, mosquitto.port)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def test_frames_are_acknowledged_and_a_stop_is_clean(
    collector: CollectorProcess, mosquitto: Mosquitto, path: GatewayPath, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.start()
    with WireGateway(mosquitto.port, path) as gateway:
        gateway.send(1)  # before the birth
        wait_until(lambda: gateway.unknown == {gateway.script.birth.epoch}, 10, "a question for the birth")
        gateway.birth()
        gateway.send(199)
        gateway.send_again()
        wait_until(lambda: gateway.stored == set(gateway.frames), 20, "every acknowledgement")
        gateway.raw(path.topic(TopicKind.DATA), b"garbage")
        gateway.raw(path.topic(TopicKind.DATA), gateway.script.payload(3)[:-9])
        wait_until(lambda: gateway.rejected.keys() == {201}, 10, "a rejection")
        assert main(["status", str(collector.config), "--json"]) == 0
        status = json.loads(capsys.readouterr().out)
        assert (status["subscribed"], status["collector"]["rejected"]) == (True, 1)
        assert status["quarantine"]["entries"] == 2
        assert main(["ledger", str(collector.config), "--stream", path.gateway, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [row["stored"] for row in told["streams"]] == [600, 600]
    assert collector.stop() == 0, collector.log
    assert main(["ledger", str(collector.config)]) == 0


def test_killed_again_and_again_nothing_is_lost_or_counted_twice(
    collector: CollectorProcess, mosquitto: Mosquitto, path: GatewayPath
) -> None:
    """kill -9 under load at different instants: between store and ledger, ledger and ack, ack and PUBACK."""
    with WireGateway(mosquitto.port, path) as gateway:
        gateway.birth()
        for delay_s in (0.0, 0.02, 0.05, 0.1):
            collector.start()
            seen = len(gateway.stored)
            gateway.send(150)
            gateway.wait_for_more_than(seen)
            time.sleep(delay_s)
            collector.kill()
        collector.start()
        deadline = time.monotonic() + 30
        while gateway.stored != set(gateway.frames) and time.monotonic() < deadline:
            gateway.send_again()
            time.sleep(0.5)
        assert gateway.stored == set(gateway.frames)
        gateway.state()
    assert collector.stop() == 0, collector.log
    report = read_file(collector.folder / "data" / "ledger.sqlite", stream=path.gateway)
    assert [(row.expected, row.stored, row.unexplained) for row in report.rows] == [(1800, 1800, 0)] * 2
    assert report.closes
    counts = asyncio.run(count_points(collector.folder / "points.duckdb", path))
    assert counts == {(path.gateway, "meter", "s0"): 1800, (path.gateway, "meter", "s1"): 1800}


async def count_points(file: Path, path: GatewayPath) -> dict[tuple[str, str, str], int]:
    store = make_store(EmbeddedSpec(path=file))
    await store.open()
    try:
        return await store.count(Selector(gateway=path.gateway))
    finally:
        await store.close()


async def test_what_is_not_acknowledged_comes_again(mosquitto: Mosquitto, path: GatewayPath) -> None:
    settings = Mqtt(port=mosquitto.port, share=False)
    collector = Collector(name=f"c-{uuid.uuid4().hex[:8]}")
    topic = path.topic(TopicKind.DATA)

    async def session(expected: list[bytes], accept: int) -> None:
        intake = Intake(settings, collector)
        running = asyncio.create_task(intake.run())
        try:
            async with asyncio.timeout(20):
                await intake.subscribed.wait()
                for number in range(3) if expected == first else ():
                    assert intake.publish(topic, b"%d" % number)
                got: list[Message] = []
                while len(got) < len(expected):
                    taken = await intake.take(10, 10_000, 0)
                    got += [message for message in taken if message.topic == topic]
                assert [message.payload for message in got] == expected
                intake.done(got[:accept])
                await asyncio.sleep(0.2)  # the PUBACK travels
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    first = [b"0", b"1", b"2"]
    await session(first, 1)
    await session([b"1", b"2"], 2)


@pytest.mark.parametrize("version", [5, 3])
async def test_memory_is_bounded_and_the_rest_comes_later(
    mosquitto: Mosquitto, path: GatewayPath, version: int
) -> None:
    settings = Mqtt.model_validate({"port": mosquitto.port, "share": False, "version": version})
    collector = Collector(name=f"c-{uuid.uuid4().hex[:8]}", queue_frames=20)
    intake = Intake(settings, collector)
    running = asyncio.create_task(intake.run())
    topic = path.topic(TopicKind.DATA)
    seen: set[bytes] = set()
    try:
        async with asyncio.timeout(30):
            await intake.subscribed.wait()
            with WireGateway(mosquitto.port, path) as gateway:
                for number in range(100):
                    await asyncio.to_thread(gateway.raw, topic, b"%d" % number)
                while intake.waiting < 20:  # noqa: ASYNC110 - a number has no event
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.3)
                assert (intake.waiting, intake.counts.withheld) == (20, 0)  # the rest is with the broker or TCP
                while len(seen) < 100:
                    messages = await intake.take(50, 10**6, 0)
                    seen |= {message.payload for message in messages if message.topic == topic}
                    intake.done(messages)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert seen == {b"%d" % number for number in range(100)}


async def test_after_long_stillness_the_rest_is_withheld_and_births_come_once(
    mosquitto: Mosquitto, path: GatewayPath
) -> None:
    """A store that is away for longer than the keep-alive: the connection stays, and the next one brings the rest."""
    settings = Mqtt.model_validate({"port": mosquitto.port, "share": False, "version": 3, "keepalive_s": 5})
    collector = Collector(name=f"c-{uuid.uuid4().hex[:8]}", queue_bytes=65536)
    intake = Intake(settings, collector)
    running = asyncio.create_task(intake.run())
    topic = path.topic(TopicKind.DATA)
    seen: list[bytes] = []
    births = 0
    try:
        async with asyncio.timeout(30):
            await intake.subscribed.wait()
            with WireGateway(mosquitto.port, path) as gateway:
                gateway.birth()
                while not births:
                    messages = await intake.take(50, 10**6, 0)
                    births = sum(message.topic == path.topic(TopicKind.BIRTH) for message in messages)
                    intake.done(messages)
                for number in range(100):
                    await asyncio.to_thread(gateway.raw, topic, b"%02d" % number * 1000)
                while not intake.counts.withheld:  # noqa: ASYNC110 - a number has no event
                    await asyncio.sleep(0.05)
                assert intake.subscribed.is_set()
                while len(set(seen)) < 100:
                    messages = await intake.take(50, 10**6, 0)
                    seen += [message.payload[:2] for message in messages if message.topic == topic]
                    births += sum(message.topic == path.topic(TopicKind.BIRTH) for message in messages)
                    intake.done(messages)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert intake.counts.connections == 2
    assert births == 1


async def test_a_broker_that_goes_and_comes_back_is_logged_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path) as broker:
        intake = Intake(Mqtt(port=broker.port, reconnect_max_s=0.2), Collector(name="c"))
        running = asyncio.create_task(intake.run())
        try:
            async with asyncio.timeout(30):
                await intake.subscribed.wait()
                await asyncio.to_thread(broker.kill)
                while intake.subscribed.is_set():  # noqa: ASYNC110 - an event has no way to wait for its clearing
                    await asyncio.sleep(0.01)
                await asyncio.sleep(1.5)
                assert not intake.publish("weinao/v1/ack/a/b/c/d", b"x")
                await asyncio.to_thread(broker.start)
                await intake.subscribed.wait()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    told = [record.message.split(":")[0] for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2, told
    assert "is back" in caplog.records[-1].message
    assert intake.counts.connections == 2


def test_a_dead_broker_of_its_own_ends_the_process_with_1(tmp_path: Path) -> None:
    process = CollectorProcess(tmp_path, free_port(), command="run", embedded="auto")
    process.start()
    assert process.process is not None
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    (broker,) = [int(pid) for pid in children]
    os.kill(broker, signal.SIGKILL)
    assert process.process.wait(timeout=20) == 1
    assert "the broker of this process is gone: mosquitto ended with code" in process.log

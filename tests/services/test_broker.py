"""The demo's brokers: they serve, stay on this machine, and end with us."""

import asyncio
import gc
import logging
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_port

from cloud.broker import ChildBroker, InProcessBroker, find_mosquitto, make_broker, resolve
from cloud.config import Collector, Mqtt
from cloud.intake import Intake
from contract.errors import Fatal

pytestmark = [
    pytest.mark.services,
    # amqtt leaves sockets of clients that dropped to the garbage collector, which says so.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _amqtts_garbage_is_collected_here() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.parametrize("embedded", [True, "auto"])
async def test_a_collector_subscribes_and_hears_itself(tmp_path: Path, embedded: object) -> None:
    settings = Mqtt.model_validate({"port": free_port(), "embedded": embedded})
    broker = make_broker(settings, tmp_path)
    assert isinstance(broker, ChildBroker if embedded == "auto" else InProcessBroker)
    await broker.start()
    intake = Intake(settings, Collector())
    running = asyncio.create_task(intake.run())
    try:
        async with asyncio.timeout(20):
            await intake.subscribed.wait()
            assert intake.publish("weinao/v1/data/a/b/c/d", b"hello")
            (message,) = await intake.take(10, 1000, 0)
            assert (message.topic, message.payload) == ("weinao/v1/data/a/b/c/d", b"hello")
            intake.done([message])
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await broker.stop()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", settings.port))


async def test_half_open_clients_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    settings = Mqtt(port=free_port(), embedded=True)
    broker = InProcessBroker(settings)
    await broker.start()
    try:
        for data in (b"", b"\x10", b"\x10\x0c\x00\x04MQTT\x04", b"GET / HTTP/1.1\r\n\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", settings.port)
            writer.write(data)
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.3)  # amqtt notices in its own time
    finally:
        await broker.stop()
    assert all("Traceback" not in record.message and record.exc_info is None for record in caplog.records)
    assert {record.name for record in caplog.records if record.levelno >= logging.WARNING} <= {"cloud.broker"}


@pytest.mark.parametrize("kind", ["child", "in process"])
async def test_a_taken_port_is_fatal_and_says_so(tmp_path: Path, kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Mqtt(port=taken.getsockname()[1], embedded=True)
        program = find_mosquitto()
        assert program is not None
        broker = ChildBroker(program, settings, tmp_path) if kind == "child" else InProcessBroker(settings)
        with pytest.raises(Fatal, match="in use"):
            await broker.start()
        await broker.stop()


async def test_a_child_that_dies_is_noticed(tmp_path: Path) -> None:
    settings = resolve(Mqtt(port=free_port(), embedded="auto"))
    broker = make_broker(settings, tmp_path)
    assert isinstance(broker, ChildBroker)
    await broker.start()
    died = asyncio.create_task(broker.died())
    broker.kill()
    assert "mosquitto ended with code" in await died

"""Serial devices that answer when asked, on real pseudo terminals: the test holds the device's end."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from serial_adapter import TEMPERATURE, Adapter, scans_of, spec_of

from contract.errors import DeviceUnavailable
from contract.readings import GOOD, Reason, gap
from drivers.base import Scan
from drivers.serial import PolledSerialBus


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    adapter = Adapter(tmp_path)
    yield adapter
    adapter.unplug()


def polled_device(name: str, address: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "mode": "poll",
        "request": rf"{address}?\r\n",
        "text": {"kind": "regex", "pattern": rf"{address} T=(?P<t>\S+)(?: H=(?P<h>\S+))?"},
        "streams": [TEMPERATURE, {"name": "h", "quantity": "humidity", "unit": "%", "field": "h"}],
        **more,
    }


def polled(
    adapter: Adapter, *devices: dict[str, Any], timeout_s: float = 2.0
) -> tuple[PolledSerialBus, Sequence[Scan]]:
    spec = spec_of(adapter, *devices, timeout_s=timeout_s)
    scans = scans_of(spec)
    return PolledSerialBus(spec, scans), scans


async def test_devices_take_turns_and_foreign_or_stale_answers_are_not_taken(adapter: Adapter) -> None:
    bus, (one, two) = polled(adapter, polled_device("one", "01"), polled_device("two", "02"))
    await bus.open()
    adapter.say(b"01 T=99\r\n")  # stale: before the question
    asking = asyncio.ensure_future(bus.poll(one))
    assert await adapter.heard(5) == b"01?\r\n"
    adapter.say(b"01?\r\n02 T=98\r\n01 T=20.5 H=45\r\n")  # the adapter's echo, a foreign answer, the answer
    first = await asking
    asking = asyncio.ensure_future(bus.poll(two))
    assert await adapter.heard(5) == b"02?\r\n"
    adapter.say(b"02 T=-3.25\r\n")
    second = await asking
    await bus.close()
    assert first.floats.tolist() == [20.5, 45]
    assert second.floats[0] == -3.25
    assert second.status.tolist() == [GOOD, gap(Reason.UNDECODABLE)]


async def test_silence_is_a_timeout_and_noise_is_garbage(adapter: Adapter) -> None:
    bus, (scan,) = polled(adapter, polled_device("one", "01"), timeout_s=0.1)
    await bus.open()
    asking = asyncio.ensure_future(bus.poll(scan))
    await adapter.heard(5)
    adapter.say(b"\x00\xff half an answ")
    with pytest.raises(DeviceUnavailable, match="no valid message") as noisy:
        await asking
    with pytest.raises(DeviceUnavailable, match="no answer") as silent:
        await bus.poll(scan)
    assert (silent.value.reason, silent.value.whole_bus) == (Reason.TIMEOUT, False)
    assert (noisy.value.reason, noisy.value.whole_bus) == (Reason.GARBAGE, False)
    adapter.unplug()
    with pytest.raises(DeviceUnavailable) as gone:
        await bus.poll(scan)
    await bus.close()
    assert (gone.value.reason, gone.value.whole_bus) == (Reason.DISCONNECTED, True)


async def test_a_late_answer_is_not_taken_for_the_next_one(adapter: Adapter) -> None:
    bus, (scan,) = polled(adapter, polled_device("one", "01"), timeout_s=0.1)
    await bus.open()
    with pytest.raises(DeviceUnavailable):
        await bus.poll(scan)
    await adapter.heard(5)
    asking = asyncio.ensure_future(bus.poll(scan))
    adapter.say(b"01 T=99\r\n")  # the first question's answer
    await adapter.heard(5)
    adapter.say(b"01 T=20\r\n")
    block = await asking
    with pytest.raises(ValueError, match="writes no values"):
        await bus.write(scan, scan.streams[0], 1.0)
    await bus.close()
    assert block.floats[0] == 20


async def test_an_answer_that_comes_after_the_next_question_is_not_taken_either(adapter: Adapter) -> None:
    bus, (scan, other) = polled(adapter, polled_device("one", "01"), polled_device("two", "02"), timeout_s=0.3)
    await bus.open()
    with pytest.raises(DeviceUnavailable, match="no answer"):
        await bus.poll(scan)
    await adapter.heard(5)
    with pytest.raises(DeviceUnavailable, match="may yet answer an earlier request") as waiting:
        await bus.poll(scan)
    asking = asyncio.ensure_future(bus.poll(other))
    assert await adapter.heard(5) == b"02?\r\n", "nothing was asked of the first, and the second does not wait"
    adapter.say(b"02 T=5\r\n")
    assert (await asking).floats[0] == 5
    adapter.say(b"01 T=99\r\n")  # the first question's answer, nearly three timeouts late
    asking = asyncio.ensure_future(bus.poll(scan))
    assert await adapter.heard(5) == b"01?\r\n"
    adapter.say(b"01 T=20\r\n")
    block = await asking
    await bus.close()
    assert waiting.value.reason is Reason.TIMEOUT
    assert block.floats[0] == 20


async def test_a_device_that_missed_one_question_is_asked_again_when_nothing_late_can_come(adapter: Adapter) -> None:
    bus, (scan,) = polled(adapter, polled_device("one", "01"), timeout_s=0.1)
    await bus.open()
    with pytest.raises(DeviceUnavailable, match="no answer"):
        await bus.poll(scan)
    await adapter.heard(5)
    tries, answered = 0, None
    while answered is None:
        tries += 1
        asking = asyncio.ensure_future(bus.poll(scan))
        if await adapter.asked(5, within_s=0.08):
            adapter.say(b"01 T=20\r\n")
        with contextlib.suppress(DeviceUnavailable):
            answered = await asking
    await bus.close()
    assert answered.floats[0] == 20
    assert tries >= 2, "it was left alone for a while"


async def test_an_adapter_that_only_echoes_is_a_timeout(adapter: Adapter) -> None:
    bus, (scan,) = polled(adapter, polled_device("one", "01"), timeout_s=0.1)
    await bus.open()
    asking = asyncio.ensure_future(bus.poll(scan))
    adapter.say(await adapter.heard(5))
    with pytest.raises(DeviceUnavailable) as silent:
        await asking
    await bus.close()
    assert silent.value.reason is Reason.TIMEOUT

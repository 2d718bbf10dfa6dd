"""A gateway in a cabinet reconnects for years: two hundred times leave no descriptor, no task and no thread behind."""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from modbus_make import device, registers, scans_of, serial_bus, tcp_bus
from modbus_wire import Image, Peer, Turn, serve_pty, serve_tcp

from contract.errors import DeviceUnavailable
from drivers.modbus import ModbusBus
from drivers.serial_port import Line, SerialPort

TIMES = 200
Counts = tuple[int, int, int]


async def counts() -> Counts:
    """Open descriptors, tasks and threads, after what was closed has had its chance to go."""
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks()), threading.active_count()


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """What happens inside leaves nothing behind; the executor's threads are bounded and no growth."""
    before = await counts()
    yield
    await asyncio.sleep(0.05)  # the other side of a connection notices in its own time
    descriptors, tasks, threads = await counts()
    assert descriptors <= before[0] + 1
    assert tasks <= before[1]
    assert threads <= before[2] + (os.cpu_count() or 1) + 4


@pytest.mark.parametrize(
    "turn", [Turn(close=True), Turn(hang_up=True), Turn(raw=b"\xff" * 12)], ids=lambda t: repr(t)[:40]
)
async def test_a_device_that_ends_its_connections(turn: Turn) -> None:
    peer = Peer(Image())
    async with serve_tcp(peer) as port:
        spec = tcp_bus(port, device(*registers(range(4))))
        [scan] = scans_of(spec)
        bus = ModbusBus(spec, [scan])
        await bus.open()
        await bus.poll(scan)
        async with nothing_left():
            for _ in range(TIMES):
                peer.turns.append(turn)
                try:
                    await bus.poll(scan)
                except DeviceUnavailable:
                    await bus.close()
                    await bus.open()
                await asyncio.sleep(0.001)  # the news of a hang-up has to come
                assert (await bus.poll(scan)).ints.tolist() == [0, 1, 2, 3]
        assert peer.connections >= TIMES
        await bus.close()


async def test_a_port_that_refuses() -> None:
    async with serve_tcp(Peer(Image())) as port:
        pass
    spec = tcp_bus(port, device(*registers(range(4))))
    bus = ModbusBus(spec, list(scans_of(spec)))
    async with nothing_left():
        for _ in range(TIMES):
            with pytest.raises(DeviceUnavailable):
                await bus.open()
            await bus.close()


async def test_a_modbus_adapter_that_is_pulled_and_plugged_in(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    spec = serial_bus(str(link), device(*registers(range(4))))
    [scan] = scans_of(spec)
    bus = ModbusBus(spec, [scan])
    async with nothing_left():
        for _ in range(TIMES):
            with serve_pty(Peer(Image(), rtu=True)) as (path, unplug):
                link.symlink_to(path)
                await bus.open()
                assert (await bus.poll(scan)).ints.tolist() == [0, 1, 2, 3]
                unplug()
                link.unlink()
                with pytest.raises(DeviceUnavailable):
                    await bus.poll(scan)
                await bus.close()
                with pytest.raises(DeviceUnavailable):
                    await bus.open()


async def test_a_serial_adapter_that_is_pulled_and_plugged_in(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    port = SerialPort(Line(str(link)))
    async with nothing_left():
        for _ in range(TIMES):
            with serve_pty(Peer({}, rtu=True)) as (path, unplug):
                link.symlink_to(path)
                await port.open()
                unplug()
                link.unlink()
                with pytest.raises(DeviceUnavailable):
                    await port.read(5)
                with pytest.raises(DeviceUnavailable):
                    await port.open()
    await port.close()


async def test_openings_that_are_cancelled() -> None:
    with serve_pty(Peer(Image(), rtu=True)) as (path, _):
        spec = serial_bus(path, device(*registers(range(4))))
        [scan] = scans_of(spec)
        bus = ModbusBus(spec, [scan])
        port = SerialPort(Line(path))
        async with nothing_left():
            for _ in range(TIMES // 10):
                for opening in (bus.open, port.open):
                    task = asyncio.create_task(opening())
                    await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    await bus.close()
                    await port.close()
            await bus.open()
            assert (await bus.poll(scan)).ints.tolist() == [0, 1, 2, 3]
            await bus.close()

import asyncio
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from modbus_make import device, registers, scans_of, serial_bus, stream, tcp_bus
from modbus_wire import Image, Peer, Turn, serve_pty, serve_tcp

from contract.errors import DeviceUnavailable
from contract.readings import Reason
from drivers.base import Scan
from drivers.modbus import ModbusBus
from drivers.modbus_channel import SerialChannel, open_serial


@contextmanager
def line(peer: Peer, *devices: dict[str, Any], **keys: Any) -> Iterator[tuple[ModbusBus, list[Scan], Any]]:
    with serve_pty(peer) as (port, unplug):
        spec = serial_bus(port, *devices, **keys)
        scans = list(scans_of(spec))
        bus = ModbusBus(spec, scans)
        try:
            yield bus, scans, unplug
        finally:
            bus._link.close()


async def failure(bus: ModbusBus, scan: Scan) -> DeviceUnavailable:
    with pytest.raises(DeviceUnavailable) as caught:
        await bus.poll(scan)
    return caught.value


async def test_two_units_share_a_line() -> None:
    peer = Peer({1: Image(), 2: Image(holding=[9] * 200)}, rtu=True)
    with line(peer, device(*registers(range(100))), device(stream("s", 5), unit=2)) as (bus, [one, two], _):
        await bus.open()
        assert (await bus.poll(one)).ints.tolist() == list(range(100))
        assert (await bus.poll(two)).ints.tolist() == [9]
        assert (await bus.poll(one)).ints.tolist() == list(range(100))


@pytest.mark.parametrize(
    "turn",
    [
        Turn(before=b"\xff\x00\x13"),
        Turn(before=bytes.fromhex("01030005000185CB")[:3]),
        Turn(split_at=2),
        Turn(split_at=6),
        Turn(after=b"\x00"),
    ],
)
async def test_noise_around_a_reply_and_a_reply_in_pieces_do_no_harm(turn: Turn) -> None:
    peer = Peer(Image(), rtu=True)
    peer.turns.append(turn)
    with line(peer, device(stream("s", 5))) as (bus, [scan], _):
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert (await bus.poll(scan)).ints.tolist() == [5]


async def test_an_adapter_that_echoes_requests_does_no_harm() -> None:
    peer = Peer(Image(), rtu=True)
    with line(peer, device(stream("s", 0x0200))) as (bus, [scan], _):
        peer.turns.append(Turn(before=bytes((1,)) + bytes.fromhex("0302000001") + bytes.fromhex("85b2")))
        assert (await bus.poll(scan)).ints.tolist() == [512]


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (Turn(flip_crc=True), "wrong checksum"),
        (Turn(unit_off=1), "nothing but foreign or broken frames for unit 1"),
        (Turn(pdu=bytes((4, 2, 0, 0))), "nothing but foreign"),
        (Turn(pdu=bytes((3, 2, 0, 0))), "nothing but foreign"),
        (Turn(raw=b"\x55" * 100), "nothing but foreign"),
        (Turn(raw=b"\x55" * 3000), "no reply in them"),
    ],
)
async def test_a_broken_or_foreign_frame_is_garbage(turn: Turn, words: str) -> None:
    peer = Peer(Image(), rtu=True)
    peer.turns.append(turn)
    with line(peer, device(*registers([5, 6]))) as (bus, [scan], _):
        error = await failure(bus, scan)
        assert error.reason is Reason.GARBAGE
        assert words in str(error)
        assert (await bus.poll(scan)).ints.tolist() == [5, 6]


async def test_a_late_reply_is_never_the_answer_to_the_next_request() -> None:
    image = Image()
    peer = Peer(image, rtu=True)
    with line(peer, device(*registers(range(4)))) as (bus, [scan], _):
        await bus.open()
        peer.turns.extend([Turn(late_s=0.4), Turn(late_s=0.15)])
        assert (await failure(bus, scan)).reason is Reason.TIMEOUT
        image.holding[:4] = [7, 8, 9, 10]
        assert (await bus.poll(scan)).ints.tolist() == [7, 8, 9, 10]
        # The read of one register has a reply of its own size: it proved that the late one was past.
        assert peer.reads == [(3, 0, 4), (3, 0, 1), (3, 0, 4)]
        assert (await bus.poll(scan)).ints.tolist() == [7, 8, 9, 10]
        assert len(peer.requests) == 4


async def test_where_no_smaller_read_exists_the_unit_is_left_alone_until_nothing_late_can_come() -> None:
    image = Image()
    peer = Peer(image, rtu=True)
    with line(peer, device(stream("s", 0)), timeout_s=0.05) as (bus, [scan], _):
        await bus.open()
        peer.turns.append(Turn(late_s=0.1))
        assert (await failure(bus, scan)).reason is Reason.TIMEOUT
        image.holding[0] = 42
        assert "may yet answer an earlier request" in str(await failure(bus, scan))
        assert len(peer.requests) == 1
        async with asyncio.timeout(5):
            while True:
                try:
                    block = await bus.poll(scan)
                    break
                except DeviceUnavailable:
                    await asyncio.sleep(0.01)
        assert block.ints.tolist() == [42]


async def test_a_late_exception_is_not_taken_for_an_answer_either() -> None:
    peer = Peer(Image(), rtu=True)
    with line(peer, device(*registers(range(4)))) as (bus, [scan], _):
        await bus.open()
        peer.turns.extend([Turn(late_s=0.4, exception=2), Turn(late_s=0.2)])
        await failure(bus, scan)
        error = await failure(bus, scan)
        assert "may yet answer an earlier request" in str(error)
        assert bus.explain(scan) == {}


async def test_a_dead_unit_does_not_disturb_its_neighbour() -> None:
    peer = Peer({1: Image()}, rtu=True)
    with line(peer, device(stream("s", 5)), device(stream("s", 5), unit=2), timeout_s=0.2) as (bus, [live, dead], _):
        for _ in range(3):
            assert (await failure(bus, dead)).reason is Reason.TIMEOUT
            assert (await bus.poll(live)).ints.tolist() == [5]


async def test_a_line_that_never_falls_silent_fails_the_bus() -> None:
    peer = Peer(Image(), rtu=True)
    # A long silence is asked for, so that a busy machine's own pauses are not taken for one.
    keys = {"timeout_s": 0.6, "delay_between_requests_s": 0.2}
    with line(peer, device(stream("s", 5)), **keys) as (bus, [scan], _):

        async def babble() -> None:
            while True:
                peer.say(b"\x55")
                await asyncio.sleep(0.002)

        task = asyncio.create_task(babble())
        try:
            error = await failure(bus, scan)
        finally:
            task.cancel()
        assert (error.reason, error.whole_bus) == (Reason.GARBAGE, True)
        assert "never falls silent" in str(error)


async def test_a_pulled_adapter_fails_the_bus_and_a_missing_port_is_named() -> None:
    peer = Peer({}, rtu=True)
    with line(peer, device(stream("s", 5)), timeout_s=5) as (bus, [scan], unplug):
        await bus.open()
        asyncio.get_running_loop().call_later(0.05, unplug)
        error = await failure(bus, scan)
        assert (error.reason, error.whole_bus) == (Reason.DISCONNECTED, True)
        assert "lost" in str(error)
        with pytest.raises(DeviceUnavailable, match=r"serial port /dev/pts/\d+ does not exist"):
            await bus.open()


async def test_a_port_in_use_is_named() -> None:
    peer = Peer(Image(), rtu=True)
    with line(peer, device(stream("s", 5))) as (bus, scans, _):
        await bus.open()
        other = ModbusBus(bus._spec, scans)
        with pytest.raises(DeviceUnavailable, match="in use by another program"):
            await other.open()


async def test_rtu_over_tcp_reconnects_and_still_does_not_believe_a_late_reply_on_the_new_connection() -> None:
    image = Image()
    peer = Peer(image, rtu=True)
    async with serve_tcp(peer) as port:
        spec = tcp_bus(port, device(*registers(range(4))), transport="rtu-over-tcp")
        [scan] = scans_of(spec)
        bus = ModbusBus(spec, [scan])
        await bus.open()
        peer.turns.extend([Turn(late_s=0.4), Turn(late_s=0.15)])
        await failure(bus, scan)
        image.holding[:4] = [7, 8, 9, 10]
        assert (await bus.poll(scan)).ints.tolist() == [7, 8, 9, 10]
        assert peer.connections >= 2
        await bus.close()


class Ears:
    """A Listener that remembers."""

    def __init__(self) -> None:
        self.heard = asyncio.Queue[bytes]()
        self.lost = asyncio.Queue[str]()

    def on_data(self, data: bytes) -> None:
        self.heard.put_nowait(data)

    def on_lost(self, detail: str) -> None:
        self.lost.put_nowait(detail)


async def test_input_that_is_discarded_just_as_it_comes_is_no_lost_port() -> None:
    peer, ears = Peer({}, rtu=True), Ears()
    with serve_pty(peer) as (path, unplug):
        channel = await open_serial(serial_bus(path, device(*registers([0]))), ears)
        assert isinstance(channel, SerialChannel)
        peer.say(b"a late answer")
        select.select([channel._fd], [], [], 1)
        await asyncio.sleep(0)  # the loop has seen the bytes and will read them right after this
        channel.discard_input()
        await asyncio.sleep(0.01)
        assert ears.lost.empty()
        peer.say(b"more")
        assert await asyncio.wait_for(ears.heard.get(), 1) == b"more"
        unplug()
        assert "lost" in await asyncio.wait_for(ears.lost.get(), 1)
        channel.close()

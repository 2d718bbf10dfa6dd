import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from modbus_make import device, registers, scans_of, stream, tcp_bus
from modbus_wire import Image, Peer, Turn, serve_tcp

from contract.errors import DeviceUnavailable
from contract.readings import GOOD, Reason, gap
from drivers.base import Scan
from drivers.modbus import DRIVER, RETRY_MISSING_NS, ModbusBus


class Clock:
    now_ns = 1_000_000_000_000

    def __call__(self) -> int:
        self.now_ns += 1000
        return self.now_ns


@asynccontextmanager
async def bus_on(peer: Peer, *devices: dict[str, Any], **keys: Any) -> AsyncIterator[tuple[ModbusBus, list[Scan]]]:
    async with serve_tcp(peer) as port:
        spec = tcp_bus(port, *devices, **keys)
        scans = list(scans_of(spec))
        bus = ModbusBus(spec, scans, Clock())
        try:
            yield bus, scans
        finally:
            await bus.close()


async def failure(bus: ModbusBus, scan: Scan) -> DeviceUnavailable:
    with pytest.raises(DeviceUnavailable) as caught:
        await bus.poll(scan)
    return caught.value


async def test_a_hundred_registers_are_one_request() -> None:
    peer = Peer(Image())
    async with bus_on(peer, device(*registers(range(100)))) as (bus, [scan]):
        await bus.open()
        block = await bus.poll(scan)
    assert block.ints.tolist() == list(range(100))
    assert peer.reads == [(3, 0, 100)]
    assert block.time_ns == 1_000_000_000_000 + 1500


async def test_all_four_tables_and_one_based_addresses() -> None:
    peer = Peer(Image())
    streams = [
        stream("coil", 4, table="coil"),
        stream("discrete", 11, table="discrete"),
        stream("input", 40, table="input"),
        stream("holding", 50),
    ]
    async with bus_on(peer, device(*streams, zero_based=False)) as (bus, [scan]):
        block = await bus.poll(scan)
    assert block.ints.tolist() == [1, 1, 39, 49]
    assert peer.reads == [(1, 3, 1), (2, 10, 1), (3, 49, 1), (4, 39, 1)]


async def test_many_coils_across_byte_borders() -> None:
    peer = Peer(Image())
    coils = [stream(f"c{at}", at, table="coil") for at in (3, 10, 11, 12, 64, 99)]
    async with bus_on(peer, device(*coils)) as (bus, [scan]):
        assert (await bus.poll(scan)).ints.tolist() == [1, 0, 0, 1, 0, 1]
    assert peer.reads == [(1, 3, 97)]


async def test_a_late_reply_is_never_the_answer_to_the_next_request() -> None:
    image = Image()
    peer = Peer(image)
    peer.turns.append(Turn(late_s=0.35))
    async with bus_on(peer, device(*registers(range(3)))) as (bus, [scan]):
        error = await failure(bus, scan)
        assert error.reason is Reason.TIMEOUT
        assert not error.whole_bus
        peer.turns.append(Turn(late_s=0.15))  # the late reply arrives while this one is awaited
        image.holding[:3] = [7, 8, 9]
        assert (await bus.poll(scan)).ints.tolist() == [7, 8, 9]
        assert peer.connections == 2


async def test_a_reply_to_another_transaction_on_the_same_connection_is_passed_over() -> None:
    peer = Peer(Image())
    old = peer.frame(0x7777, 1, bytes((3, 2, 0xDE, 0xAD)))
    peer.turns.append(Turn(before=old))
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert peer.connections == 2  # such a connection is not trusted again


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (Turn(tid_off=1), "nothing but foreign or broken frames for unit 1"),
        (Turn(tid_off=-1), "nothing but foreign"),
        (Turn(unit_off=1), "unit 2 answered"),
        (Turn(pdu=bytes((4, 2, 0, 0))), "function code 4"),
        (Turn(pdu=bytes((3, 4, 0, 0, 0, 0))), "a reply to something else"),
        (Turn(pdu=bytes((3, 2, 0))), "a reply to something else"),
        (Turn(raw=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not a Modbus TCP header"),
        (Turn(raw=b"\0\1\0\0\0\1\1\3"), "not a Modbus TCP header"),
    ],
)
async def test_a_foreign_or_broken_reply_is_garbage_and_the_next_poll_is_right(turn: Turn, words: str) -> None:
    peer = Peer(Image())
    peer.turns.append(turn)
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        error = await failure(bus, scan)
        assert (error.reason, error.whole_bus) == (Reason.GARBAGE, False)
        assert words in str(error)
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert peer.connections == 2


@pytest.mark.parametrize("split", [1, 6, 7, 9])
async def test_a_reply_in_pieces_is_a_reply(split: int) -> None:
    peer = Peer(Image())
    peer.turns.append(Turn(split_at=split))
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert peer.connections == 1


async def test_half_a_reply_is_garbage_within_the_timeout() -> None:
    peer = Peer(Image())
    peer.turns.append(Turn(raw=bytes.fromhex("000100000005010302")))
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        assert (await failure(bus, scan)).reason is Reason.GARBAGE


async def test_a_silent_unit_is_named() -> None:
    peer = Peer({1: Image()})
    async with bus_on(peer, device(stream("s", 5), unit=3)) as (bus, [scan]):
        error = await failure(bus, scan)
    where = str(error).split(" on ")[1].split(" within")[0]
    assert str(error) == f"no answer from unit 3 on {where} within 0.3 s (holding register 5)"


async def test_a_dead_device_does_not_disturb_its_neighbour() -> None:
    peer = Peer({1: Image()})
    async with bus_on(peer, device(stream("s", 5)), device(stream("s", 5), unit=2)) as (bus, [live, dead]):
        for _ in range(2):
            assert (await failure(bus, dead)).reason is Reason.TIMEOUT
            assert (await bus.poll(live)).ints.tolist() == [5]


async def test_a_closed_connection_fails_the_bus_and_the_next_poll_connects_again() -> None:
    peer = Peer(Image())
    peer.turns.append(Turn(close=True))
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        error = await failure(bus, scan)
        assert (error.reason, error.whole_bus) == (Reason.DISCONNECTED, True)
        assert (await bus.poll(scan)).ints.tolist() == [5]


async def test_a_connection_closed_between_polls_is_no_failure() -> None:
    peer = Peer(Image())
    peer.turns.append(Turn(hang_up=True))
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        await bus.poll(scan)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not bus._link.is_open
        assert (await bus.poll(scan)).ints.tolist() == [5]
        assert peer.connections == 2


async def test_a_port_where_nobody_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    spec = tcp_bus(port, device(stream("s", 0)))
    bus = DRIVER.connect(spec, scans_of(spec))
    with pytest.raises(DeviceUnavailable, match=f"connection refused by 127.0.0.1:{port}") as caught:
        await bus.open()
    assert caught.value.whole_bus


async def test_a_host_that_does_not_exist_is_named() -> None:
    spec = tcp_bus(502, device(stream("s", 0)), host="no-such-host.invalid", timeout_s=5)
    with pytest.raises(DeviceUnavailable, match=r"host 'no-such-host\.invalid' cannot be resolved"):
        await ModbusBus(spec, scans_of(spec)).open()


async def test_a_cancelled_poll_leaves_nothing_for_the_next() -> None:
    image = Image()
    peer = Peer(image)
    peer.turns.append(Turn(late_s=0.05))
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await bus.poll(scan)
        image.holding[5] = 77
        assert (await bus.poll(scan)).ints.tolist() == [77]


async def test_the_illegal_register_is_found_named_once_and_then_left_out(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(Image(illegal={37}))
    caplog.set_level(logging.INFO)
    async with bus_on(peer, device(*registers(range(100)))) as (bus, [scan]):
        block = await bus.poll(scan)
        assert [at for at in range(100) if block.status[at] != GOOD] == [37]
        assert block.status[37] == gap(Reason.NO_REGISTER)
        assert block.ints.tolist() == [0 if at == 37 else at for at in range(100)]
        assert len(peer.requests) < 16
        peer.requests.clear()
        block = await bus.poll(scan)
        assert peer.reads == [(3, 0, 37), (3, 38, 62)]
        assert block.ints.tolist() == [0 if at == 37 else at for at in range(100)]
        assert bus.explain(scan)["r37"].startswith(
            "exception 2 (illegal data address) for holding register 37 of unit 1 on"
        )
    named = [record for record in caplog.records if "r37" in record.getMessage()]
    assert len(named) == 1


async def test_an_illegal_register_is_looked_for_again_and_taken_back() -> None:
    image = Image(illegal={1})
    peer = Peer(image)
    async with bus_on(peer, device(*registers(range(3)))) as (bus, [scan]):
        await bus.poll(scan)
        image.illegal.clear()
        clock = bus._clock_ns
        assert isinstance(clock, Clock)
        assert (await bus.poll(scan)).status[1] == gap(Reason.NO_REGISTER)
        clock.now_ns += RETRY_MISSING_NS
        await bus.poll(scan)
        peer.requests.clear()
        block = await bus.poll(scan)
        assert (block.ints.tolist(), set(block.status.tolist())) == ([0, 1, 2], {GOOD})
        assert peer.reads == [(3, 0, 3)]
        assert bus.explain(scan) == {}


async def test_a_hole_between_wanted_registers_is_not_read_again() -> None:
    peer = Peer(Image(illegal={5}))
    async with bus_on(peer, device(*registers([3, 4, 6, 7]))) as (bus, [scan]):
        for _ in range(2):
            peer.requests.clear()
            block = await bus.poll(scan)
            assert (block.ints.tolist(), set(block.status.tolist())) == ([3, 4, 6, 7], {GOOD})
        assert peer.reads == [(3, 3, 2), (3, 6, 2)]


async def test_a_device_that_reads_fewer_registers_at_once_than_configured_is_learned() -> None:
    peer = Peer(Image(most=30))
    async with bus_on(peer, device(*registers(range(100)))) as (bus, [scan]):
        for _ in range(6):
            peer.requests.clear()
            assert (await bus.poll(scan)).ints.tolist() == list(range(100))
        assert len(peer.requests) == 4


async def test_coils_found_by_halving_land_in_their_places() -> None:
    peer = Peer(Image(illegal={13}))
    coils = [stream(f"c{at}", at, table="coil") for at in range(9, 30)]
    async with bus_on(peer, device(*coils)) as (bus, [scan]):
        for _ in range(2):
            block = await bus.poll(scan)
            assert block.ints.tolist() == [int(at % 3 == 0 and at != 13) for at in range(9, 30)]
            assert [9 + at for at, code in enumerate(block.status) if code != GOOD] == [13]


async def test_when_no_register_exists_the_device_is_unavailable_and_every_poll_is_bounded() -> None:
    peer = Peer(Image(illegal=set(range(100))))
    async with bus_on(peer, device(*registers(range(100)))) as (bus, [scan]):
        for _ in range(10):
            before = len(peer.requests)
            error = await failure(bus, scan)
            assert len(peer.requests) - before <= 60
        assert error.reason is Reason.NO_REGISTER
        assert "for holding register 0 of unit 1" in str(error)
        assert len(peer.requests) == before + 1  # one register, to see whether it has come to exist


async def test_a_device_that_refuses_everything_while_it_starts_is_read_as_soon_as_it_is_ready() -> None:
    image = Image(illegal=set(range(100)))
    peer = Peer(image)
    async with bus_on(peer, device(*registers(range(3)), stream("far", 90))) as (bus, [scan]):
        assert (await failure(bus, scan)).reason is Reason.NO_REGISTER
        assert (await failure(bus, scan)).reason is Reason.NO_REGISTER
        image.illegal.clear()
        block = await bus.poll(scan)
        assert (block.ints.tolist(), set(block.status.tolist())) == ([0, 1, 2, 90], {GOOD})
        assert bus.explain(scan) == {}


async def test_what_was_refused_while_nothing_could_be_read_is_asked_again_once_something_can() -> None:
    image = Image(illegal=set(range(1000)))
    peer = Peer(image)
    async with bus_on(peer, device(*registers(range(100)))) as (bus, [scan]):
        assert (await failure(bus, scan)).reason is Reason.NO_REGISTER  # only some are named yet: a poll is bounded
        image.illegal = {7}
        for _ in range(3):
            block = await bus.poll(scan)
        assert [at for at in range(100) if block.status[at] != GOOD] == [7]
        peer.requests.clear()
        await bus.poll(scan)
        assert len(peer.requests) == 2


async def test_a_device_with_one_register_among_many_that_do_not_exist_settles() -> None:
    peer = Peer(Image(illegal=set(range(100)) - {63}))
    async with bus_on(peer, device(*registers(range(100)))) as (bus, [scan]):
        for _ in range(30):
            await asyncio.gather(bus.poll(scan), return_exceptions=True)
        block = await bus.poll(scan)
        assert [at for at in range(100) if block.status[at] == GOOD] == [63]
        peer.requests.clear()
        await bus.poll(scan)
        assert len(peer.requests) == 1


@pytest.mark.parametrize("code", [1, 3, 4, 99])
async def test_an_exception_is_a_gap_of_its_request_alone(code: int) -> None:
    peer = Peer(Image())
    peer.turns.append(Turn(exception=code))
    async with bus_on(peer, device(stream("a", 0), stream("b", 100))) as (bus, [scan]):
        block = await bus.poll(scan)
        assert block.status.tolist() == [gap(Reason.REFUSED), GOOD]
        assert block.ints.tolist() == [0, 100]
        assert f"exception {code} (" in bus.explain(scan)["a"]
        assert (await bus.poll(scan)).status.tolist() == [GOOD, GOOD]
        assert bus.explain(scan) == {}


@pytest.mark.parametrize("code", [5, 6, 10, 11])
async def test_a_busy_device_is_asked_nothing_more(code: int) -> None:
    peer = Peer(Image())
    peer.turns.extend([Turn(), Turn(exception=code)])
    streams = [stream("a", 0), stream("b", 100), stream("c", 200)]
    async with bus_on(peer, device(*streams)) as (bus, [scan]):
        assert (await bus.poll(scan)).status.tolist() == [GOOD, gap(Reason.REFUSED), gap(Reason.REFUSED)]
        assert len(peer.requests) == 2
        peer.turns.append(Turn(exception=code))
        error = await failure(bus, scan)
        assert (error.reason, error.whole_bus) == (Reason.REFUSED, False)
        assert f"exception {code}" in str(error)


async def test_a_block_that_never_answers_costs_one_timeout_and_starves_no_other() -> None:
    peer = Peer(Image())
    streams = [stream("a", 0), stream("b", 100), stream("c", 200)]
    async with bus_on(peer, device(*streams), timeout_s=0.2) as (bus, [scan]):
        peer.turns.extend([Turn(), Turn(silent=True)])
        assert (await bus.poll(scan)).status.tolist() == [GOOD, gap(Reason.TIMEOUT), gap(Reason.TIMEOUT)]
        peer.turns.extend([Turn(), Turn(), Turn(silent=True)])
        assert (await bus.poll(scan)).status.tolist() == [GOOD, gap(Reason.TIMEOUT), GOOD]


async def test_writes_reach_the_device_by_every_function() -> None:
    image = Image()
    peer = Peer(image)
    streams = [
        stream("f", 10, format="float32"),
        stream("n", 12, format="int16"),
        stream("c", 4, table="coil"),
        stream("i", 0, table="input"),
    ]
    async with bus_on(peer, device(*streams)) as (bus, [scan]):
        by_name = {one.name: one for one in scan.streams}
        await bus.write(scan, by_name["f"], 1.5)
        await bus.write(scan, by_name["n"], -2)
        await bus.write(scan, by_name["c"], True)
        assert image.holding[10:13] == [0x3FC0, 0, 0xFFFE]
        assert image.coils[4]
        assert [function for function, _, _ in peer.reads] == [16, 6, 5]
        with pytest.raises(ValueError, match="input register 0 is read-only"):
            await bus.write(scan, by_name["i"], 1)
        peer.turns.append(Turn(exception=4))
        with pytest.raises(DeviceUnavailable, match="device failure"):
            await bus.write(scan, by_name["n"], 1)
        peer.turns.append(Turn(pdu=bytes((6, 0, 13, 0, 1))))
        with pytest.raises(DeviceUnavailable, match="a reply to something else"):
            await bus.write(scan, by_name["n"], 1)


async def test_devices_without_functions_5_and_6_are_written_by_15_and_16() -> None:
    image = Image()
    peer = Peer(image)
    streams = [stream("n", 12), stream("c", 4, table="coil")]
    async with bus_on(peer, device(*streams, write_single=False)) as (bus, [scan]):
        await bus.write(scan, scan.streams[0], 5)
        await bus.write(scan, scan.streams[1], True)
    assert (image.holding[12], image.coils[4]) == (5, True)
    assert [function for function, _, _ in peer.reads] == [16, 15]


async def test_the_last_exchange_is_there_to_be_looked_at() -> None:
    peer = Peer(Image())
    async with bus_on(peer, device(stream("s", 5))) as (bus, [scan]):
        assert bus.last_exchange("unit-1") == ""
        await bus.poll(scan)
        assert bus.last_exchange("unit-1") == "00 01 00 00 00 06 01 03 00 05 00 01 | 03 02 00 05"

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from pymodbus.client import AsyncModbusTcpClient
from sim_client import PATIENCE_S, RawTcp, Street, running, until

from hardware_sim.devices.load import counter_value, read_number
from hardware_sim.faults import Kind
from hardware_sim.registers import Encoding, decode
from hardware_sim.world import World

SCENARIO = """\
seed: 42
ports:
  - name: tcp
    kind: modbus-tcp
    devices:
      - {name: meter, type: sdm630, unit: 1}
      - {name: lights, type: lights, unit: 2}
      - {name: pump, type: pump, unit: 3}
      - {name: climate, type: climate, unit: 4}
      - {name: counter, type: counter, unit: 5, format: float32}
      - {name: words, type: counter, unit: 6, format: uint16}
      - {name: ramp, type: ramp, unit: 7, registers: 300}
      - {name: gone, type: ramp, unit: 8, dead: true}
"""
METER, LIGHTS, PUMP, CLIMATE, COUNTER, WORDS, RAMP, GONE = range(1, 9)


@contextlib.asynccontextmanager
async def client_of(folder: Path) -> AsyncIterator[tuple[Street, RawTcp]]:
    async with running(folder, SCENARIO) as street, RawTcp.connected(street.port("tcp")) as client:
        yield street, client


def floats(words: tuple[int, ...]) -> list[float]:
    return list(struct.unpack(f">{len(words) // 2}f", struct.pack(f">{len(words)}H", *words)))


async def test_the_meter_shows_its_world_at_the_real_addresses(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        sensed = World(42).meter(0).sense(np.array([street.clock.world_s()]))
        block = floats((await client.read(METER, 4, 0, 18)).words)
        names = [f"{what}_l{n}" for what in ("voltage", "current", "power") for n in (1, 2, 3)]
        assert block == pytest.approx([sensed[name][0] for name in names], rel=1e-6)
        frequency, energy = floats((await client.read(METER, 4, 0x46, 4)).words)
        assert frequency == pytest.approx(sensed["frequency"][0], rel=1e-6)
        assert energy == pytest.approx(sensed["energy_import"][0], rel=1e-6)


async def test_a_reply_carries_the_request_back(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (_, client):
        for unit in (METER, RAMP):
            transaction = client.send(unit, struct.pack(">BHH", 4 if unit == METER else 3, 0, 2))
            reply = await client.receive()
            assert (reply.transaction, reply.protocol, reply.unit) == (transaction, 0, unit)
            assert reply.pdu[1] == 4


@pytest.mark.parametrize(
    ("unit", "pdu", "code"),
    [
        (METER, struct.pack(">BHH", 4, 0x6C, 2), 2),  # past the first block
        (METER, struct.pack(">BHH", 4, 0x6A, 4), 2),  # half of it
        (METER, struct.pack(">BHH", 4, 0, 82), 3),  # more than 40 parameters
        (METER, struct.pack(">BHH", 3, 0, 2), 2),  # not in that table
        (RAMP, struct.pack(">BHH", 3, 299, 2), 2),
        (RAMP, struct.pack(">BHH", 3, 65_535, 125), 2),
        (RAMP, struct.pack(">BHH", 3, 0, 126), 3),
        (RAMP, struct.pack(">BHH", 3, 0, 0), 3),
        (RAMP, b"\x03\x00", 3),
        (RAMP, b"\x2b\x0e\x01\x00", 1),
        (RAMP, struct.pack(">BHH", 6, 0, 1), 2),  # not writable
        (LIGHTS, struct.pack(">BHH", 5, 0, 0x1234), 3),  # neither on nor off
        (LIGHTS, struct.pack(">BHHB", 16, 0, 2, 3) + bytes(3), 3),  # byte count does not fit
        (LIGHTS, struct.pack(">BHH", 1, 0, 2001), 3),
    ],
)
async def test_what_is_wrong_gets_its_exception(tmp_path: Path, unit: int, pdu: bytes, code: int) -> None:
    async with client_of(tmp_path) as (street, client):
        assert (await client.ask(unit, pdu)).pdu == bytes((pdu[0] | 0x80, code))
        assert street.served() == []


@pytest.mark.parametrize("unit", [GONE, 99])
async def test_dead_and_unknown_units_never_answer(tmp_path: Path, unit: int) -> None:
    async with client_of(tmp_path) as (_, client):
        client.send(unit, struct.pack(">BHH", 3, 0, 1))
        assert await client.silent()


async def test_requests_in_pieces_and_in_one_lump(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (_, client):
        frame = struct.pack(">HHHBBHH", 7, 0, 6, RAMP, 3, 10, 1)
        for byte in frame:
            client.writer.write(bytes((byte,)))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.receive()).words == (10,)
        client.writer.write(frame * 50)
        assert [(await client.receive()).words for _ in range(50)] == [(10,)] * 50


async def test_bytes_that_are_not_modbus_end_the_connection(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.ended()
        async with RawTcp.connected(street.port("tcp")) as other:
            assert (await other.read(RAMP, 3, 0, 1)).words == (0,)


async def test_every_format_of_the_pump_station(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (_, client):
        words = (await client.read(PUMP, 3, 0, 10)).words
        level_m = words[0] / 1000
        assert 0.5 < level_m < 2.5
        assert decode(words[7:8], Encoding.BCD16) == pytest.approx(level_m * 100, abs=1)
        more = (await client.read(PUMP, 3, 20, 8)).words
        assert decode(words[1:3], Encoding.FLOAT32, "DCBA") == pytest.approx(decode(more[:4], Encoding.FLOAT64))
        assert decode(words[3:5], Encoding.UINT32, "CDAB") == decode(more[4:], Encoding.UINT64) > 1000
        assert 0 < decode(words[5:7], Encoding.FLOAT32, "BADC") < 4
        running = (await client.read(PUMP, 1, 0, 1)).pdu[2]
        assert words[8] & 1 == running
        serial_number = (await client.read(PUMP, 3, 10, 8)).pdu[2:]
        assert serial_number == b"WNP-pump        "
        assert (await client.read(PUMP, 3, 17, 4)).pdu == b"\x83\x02"


async def test_a_lamp_obeys_what_is_written(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        street.clock.start_s += 6 * 3600  # noon: all off
        assert (await client.read(LIGHTS, 1, 0, 4)).pdu == b"\x01\x01\x00"
        assert (await client.ask(LIGHTS, struct.pack(">BHH", 5, 2, 0xFF00))).pdu == b"\x05\x00\x02\xff\x00"
        assert (await client.ask(LIGHTS, struct.pack(">BHH", 6, 2, 50))).pdu == b"\x06\x00\x02\x00\x32"
        assert (await client.read(LIGHTS, 1, 0, 4)).pdu == b"\x01\x01\x04"
        assert (await client.read(LIGHTS, 3, 0, 4)).words[2] == 50
        assert (await client.read(LIGHTS, 3, 106, 1)).words[0] == pytest.approx(239, abs=12)  # half of 0.48 A, in mA
        many = await client.ask(LIGHTS, struct.pack(">BHHBB", 15, 0, 4, 1, 0b1001))
        assert many.pdu == b"\x0f\x00\x00\x00\x04"
        assert (await client.read(LIGHTS, 1, 0, 4)).pdu[2] == 0b1001
        levels = await client.ask(LIGHTS, struct.pack(">BHHB4H", 16, 0, 4, 8, 10, 20, 30, 40))
        assert levels.pdu == b"\x10\x00\x00\x00\x04"
        assert (await client.read(LIGHTS, 3, 0, 4)).words == (10, 20, 30, 40)


async def test_each_read_of_a_counter_can_be_told(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (_, client):
        for number in (1, 2, 3):
            values = floats((await client.read(COUNTER, 3, 0, 100)).words)
            assert values == [number * 1000 + i for i in range(50)]
            words = (await client.read(WORDS, 3, 0, 100)).words
            assert [read_number(Encoding.UINT16, word, i) for i, word in enumerate(words)] == [number] * 100
        part = floats((await client.read(COUNTER, 3, 10, 4)).words)
        assert part == [4005, 4006]
        await client.read(COUNTER, 3, 99, 2)  # illegal: no read
        assert floats((await client.read(COUNTER, 3, 0, 2)).words) == [5000]


@pytest.mark.parametrize("encoding", [Encoding.UINT16, Encoding.UINT32, Encoding.FLOAT32])
def test_counter_values_give_their_number_back(encoding: Encoding) -> None:
    for number in (1, 2, 999, 15_999):
        for index in (0, 1, 49):
            assert read_number(encoding, counter_value(encoding, number, index), index) == number


async def test_truth_is_what_a_client_got(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        got = []
        for unit, function, address, count in (
            (METER, 4, 0, 18),
            (COUNTER, 3, 0, 100),
            (CLIMATE, 4, 1, 2),
            (PUMP, 3, 0, 9),
        ):
            reply = await client.read(unit, function, address, count)
            got.append(("input" if function == 4 else "holding", address, reply.words))
        bits = (await client.read(LIGHTS, 1, 1, 3)).pdu[2]
        got.append(("coil", 1, tuple(bits >> i & 1 for i in range(3))))
        served = street.served()
    assert [(one.table, one.address, one.values) for one in served] == got
    assert [one.device for one in served] == ["meter", "counter", "climate", "pump", "lights"]
    assert [one.time_ns for one in served] == sorted(one.time_ns for one in served)


async def test_pymodbus_agrees(tmp_path: Path) -> None:
    async with running(tmp_path, SCENARIO) as street:
        client = AsyncModbusTcpClient("127.0.0.1", port=street.port("tcp"), timeout=PATIENCE_S)
        assert await client.connect()
        try:
            registers = (await client.read_input_registers(0, count=2, device_id=METER)).registers
            volts = client.convert_from_registers(registers, client.DATATYPE.FLOAT32)
            assert isinstance(volts, float)
            assert 215 < volts < 245
            assert (await client.read_input_registers(0x6C, count=2, device_id=METER)).exception_code == 2
            assert not (await client.write_coil(1, True, device_id=LIGHTS)).isError()
            assert (await client.read_coils(0, count=4, device_id=LIGHTS)).bits[1]
            assert (await client.read_holding_registers(250, count=3, device_id=RAMP)).registers == [250, 251, 252]
        finally:
            client.close()


async def wrong(street: Street, client: RawTcp, kind: Kind, **more: float) -> None:
    street.fault("ramp", kind, **more)
    client.send(RAMP, struct.pack(">BHH", 3, 0, 10))


async def test_timeout_is_silence_for_one_device_only(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        await wrong(street, client, Kind.TIMEOUT)
        assert await client.silent()
        assert len((await client.read(COUNTER, 3, 0, 100)).words) == 100
        street.simulator.clear("ramp")
        assert len((await client.read(RAMP, 3, 0, 10)).words) == 10
        assert [one.device for one in street.served()] == ["counter", "ramp"]
        assert street.simulator.status()["ramp"] == {
            "requests": 2,
            "spoiled": 1,
            "faults": [],
            "begun": {"timeout": 1},
        }


async def test_exception_has_the_code_told(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        await wrong(street, client, Kind.EXCEPTION, code=6)
        assert (await client.receive()).pdu == b"\x83\x06"
        assert street.served() == []


async def test_a_broken_check_is_another_protocol_on_tcp(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        await wrong(street, client, Kind.CRC_ERROR)
        assert (await client.receive()).protocol != 0
        assert street.served() == []


async def test_a_foreign_reply_answers_another_transaction(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        await wrong(street, client, Kind.FOREIGN_REPLY)
        reply = await client.receive()
        assert reply.transaction != 1
        assert (reply.unit, len(reply.words)) == (RAMP, 10)
        assert street.served() == []


@pytest.mark.parametrize(("kind", "size"), [(Kind.PARTIAL, 14), (Kind.GARBAGE, 29)])
async def test_half_a_frame_and_garbage(tmp_path: Path, kind: Kind, size: int) -> None:
    async with client_of(tmp_path) as (street, client):
        await wrong(street, client, kind)
        data = await asyncio.wait_for(client.reader.readexactly(size), PATIENCE_S)
        assert await client.silent()
        assert (data[:8] == struct.pack(">HHHBB", 1, 0, 23, RAMP, 3)) == (kind is Kind.PARTIAL)
        assert street.served() == []


async def test_a_late_reply_comes_after_others_and_is_marked(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        await wrong(street, client, Kind.LATE_REPLY, delay_s=0.2)
        await until(lambda: street.simulator.status()["ramp"]["spoiled"] == 1)
        assert (await client.read(COUNTER, 3, 0, 2)).transaction == 2
        late = await client.receive()
        assert late.transaction == 1
        assert [one.device for one in street.served()] == ["counter"]
        marked = [one for one in street.served(late=True) if one.late]
        assert [one.values for one in marked] == [late.words]


async def test_disconnect_closes_refuses_and_comes_back_on_the_same_port(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        port = street.port("tcp")
        street.fault("ramp", Kind.DISCONNECT, seconds=5)
        assert await client.ended()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        street.clock.now_s += 5
        await until(lambda: street.simulator.ports[0].is_open)
        async with RawTcp.connected(port) as again:
            assert (await again.read(RAMP, 3, 0, 1)).words == (5,)


async def served_volts(client: RawTcp) -> float:
    return floats((await client.read(METER, 4, 0, 2)).words)[0]


async def test_frozen_values_stay_while_the_world_goes_on(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        before = await served_volts(client)
        street.fault("meter", Kind.FROZEN, seconds=100)
        street.clock.now_s = 50
        assert await served_volts(client) == before
        street.clock.now_s = 101
        assert await served_volts(client) != before


async def test_out_of_range_drift_and_nan_reach_the_wire_and_the_truth(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        street.fault("meter", Kind.OUT_OF_RANGE, seconds=1)
        assert await served_volts(client) == 380
        street.clock.now_s = 2
        honest = await served_volts(client)
        street.fault("meter", Kind.DRIFT, seconds=100, drift=0.01)
        street.clock.now_s = 52
        assert 20 < await served_volts(client) - honest < 40  # half of a range of 60 V, and what the world did
        street.clock.now_s = 103
        street.fault("meter", Kind.NAN)
        assert math.isnan(await served_volts(client))
        street.fault("climate", Kind.NAN)
        assert (await client.read(CLIMATE, 4, 1, 2)).words == (0x8000, 0xFFFF)
        assert [one.values for one in street.served()][-2:] == [(0x7FC0, 0), (0x8000, 0xFFFF)]


async def test_a_client_that_does_not_read_gets_nothing_into_the_truth_unserved(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (street, client):
        client.writer.write(b"".join(struct.pack(">HHHBBHH", n, 0, 6, RAMP, 3, 0, 125) for n in range(60_000)))
        await asyncio.sleep(0.3)
        written = len(street.served())
        client.writer.transport.abort()
        await asyncio.sleep(0.05)
        assert 0 < written < 60_000
        assert len(street.served()) < 60_000


async def test_a_port_that_somebody_took_is_tried_until_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(tmp_path) as (street, client):
        port = street.port("tcp")
        street.fault("ramp", Kind.DISCONNECT, seconds=5)
        assert await client.ended()
        with socket.create_server(("127.0.0.1", port)):
            street.clock.now_s += 5
            await until(lambda: street.simulator.ports[0].stuck)
            await asyncio.sleep(0.15)  # several more attempts
        await until(lambda: street.simulator.ports[0].is_open)
    assert [record.levelname for record in caplog.records if "cannot come back" in record.message] == ["WARNING"]

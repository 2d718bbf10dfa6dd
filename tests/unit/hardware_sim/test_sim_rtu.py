import asyncio
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.framer.rtu import FramerRTU
from sim_client import PATIENCE_S, RawPty, running, until

from hardware_sim.faults import Kind
from hardware_sim.modbus_wire import crc16

BUS = """\
ports:
  - name: bus
    kind: modbus-rtu
    link: ttyBus
    devices:
      - {name: climate-1, type: climate, unit: 11}
      - {name: climate-2, type: climate, unit: 12, number: 1}
      - {name: gone, type: climate, unit: 13, dead: true}
      - {name: lights, type: lights, unit: 14}
  - name: over-tcp
    kind: modbus-rtu-tcp
    devices:
      - {name: meter, type: sdm630, unit: 1}
"""
READ_BOTH = struct.pack(">BHH", 4, 1, 2)


def framed(unit: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return body + struct.pack("<H", crc16(body))


def proper(frame: bytes) -> bool:
    return crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")


@pytest.mark.parametrize(
    ("frame", "crc"),
    [
        ("010400010001", "600a"),  # the transmitter's own manual
        ("01040201 31".replace(" ", ""), "7974"),
        ("0207", "4112"),  # the Modbus serial line specification's example
        ("", "ffff"),
    ],
)
def test_crc_of_known_frames(frame: str, crc: str) -> None:
    assert crc16(bytes.fromhex(frame)).to_bytes(2, "little").hex() == crc


@given(st.binary(max_size=256))
def test_crc_is_pymodbus_crc(data: bytes) -> None:
    assert crc16(data).to_bytes(2, "little") == FramerRTU.compute_CRC(data).to_bytes(2, "big")


async def test_units_of_one_bus_answer_in_turn_and_truth_has_it(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        with RawPty(street.run_dir / "ttyBus") as port:
            values = []
            for unit in (11, 12):
                port.write(framed(unit, READ_BOTH))
                frame = await port.read(9)
                assert proper(frame)
                assert frame[:3] == bytes((unit, 4, 4))
                values.append(struct.unpack(">hH", frame[3:7]))
            assert values[0] != values[1]
        assert [(one.device, one.values) for one in street.served()] == [
            ("climate-1", values[0]),
            ("climate-2", values[1]),
        ]


async def test_silence_for_the_dead_the_unknown_the_broken_and_broadcasts(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        with RawPty(street.run_dir / "ttyBus") as port:
            for frame in (
                framed(13, READ_BOTH),
                framed(99, READ_BOTH),
                framed(11, READ_BOTH)[:-1] + b"\0",
                framed(0, READ_BOTH),
            ):
                port.write(frame)
                assert await port.silent()
            port.write(framed(11, READ_BOTH))
            assert proper(await port.read(9))


async def test_a_request_in_pieces_and_after_noise(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        with RawPty(street.run_dir / "ttyBus") as port:
            port.write(b"\x55\xaa\x00" + framed(11, READ_BOTH))
            assert proper(await port.read(9))
            frame = framed(12, READ_BOTH)
            port.write(frame[:3])
            await asyncio.sleep(0.005)
            port.write(frame[3:])
            assert proper(await port.read(9))


async def test_an_exception_and_a_write_have_a_crc_too(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        with RawPty(street.run_dir / "ttyBus") as port:
            port.write(framed(11, struct.pack(">BHH", 4, 3, 1)))
            assert await port.read(5) == framed(11, b"\x84\x02")
            request = framed(14, struct.pack(">BHHB2H", 16, 0, 2, 4, 70, 80))
            port.write(request)
            assert await port.read(8) == framed(14, b"\x10\x00\x00\x00\x02")


@pytest.mark.parametrize(
    ("kind", "size", "valid", "unit"),
    [
        (Kind.CRC_ERROR, 9, False, 11),
        (Kind.FOREIGN_REPLY, 9, True, 12),
        (Kind.PARTIAL, 4, False, 11),
        (Kind.EXCEPTION, 5, True, 11),
    ],
)
async def test_faults_on_the_bus(tmp_path: Path, kind: Kind, size: int, *, valid: bool, unit: int) -> None:
    async with running(tmp_path, BUS) as street:
        street.fault("climate-1", kind)
        with RawPty(street.run_dir / "ttyBus") as port:
            port.write(framed(11, READ_BOTH))
            frame = await port.read(size)
            assert await port.silent()
        assert (len(frame), proper(frame), frame[0]) == (size, valid, unit)
        assert street.served() == []


async def test_garbage_and_timeout_on_the_bus(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        street.fault("climate-1", Kind.GARBAGE)
        street.fault("climate-2", Kind.TIMEOUT)
        with RawPty(street.run_dir / "ttyBus") as port:
            port.write(framed(11, READ_BOTH))
            assert not proper(await port.read(9))
            port.write(framed(12, READ_BOTH))
            assert await port.silent()


async def test_a_late_reply_on_the_bus(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        street.fault("climate-1", Kind.LATE_REPLY, delay_s=0.25)
        with RawPty(street.run_dir / "ttyBus") as port:
            port.write(framed(11, READ_BOTH))
            assert await port.silent()
            port.write(framed(12, READ_BOTH))
            assert (await port.read(9))[0] == 12
            assert (await port.read(9))[0] == 11
        assert [one.late for one in street.served(late=True)] == [False, True]


async def test_the_adapter_vanishes_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        link = street.run_dir / "ttyBus"
        with RawPty(link) as port:
            street.fault("climate-2", Kind.DISCONNECT, seconds=5)
            await until(lambda: not link.is_symlink())
            with pytest.raises(OSError, match="Input/output error"):
                port.write(b"x")
        street.clock.now_s = 5
        await until(lambda: link.is_symlink())
        with RawPty(link) as port:
            port.write(framed(11, READ_BOTH))
            assert proper(await port.read(9))
    assert not link.is_symlink()


async def test_what_one_program_left_unread_is_gone_for_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        with RawPty(street.run_dir / "ttyBus") as port:
            port.write(framed(11, READ_BOTH))
            await until(lambda: bool(street.served()))
        await asyncio.sleep(0.05)
        with RawPty(street.run_dir / "ttyBus") as port:
            assert await port.silent()


async def test_rtu_frames_over_tcp(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        reader, writer = await asyncio.open_connection("127.0.0.1", street.port("over-tcp"))
        writer.write(framed(1, struct.pack(">BHH", 4, 0x46, 2)))
        frame = await asyncio.wait_for(reader.readexactly(9), PATIENCE_S)
        writer.close()
        assert proper(frame)
        assert struct.unpack(">f", frame[3:7])[0] == pytest.approx(50, abs=0.1)
        assert [one.device for one in street.served()] == ["meter"]


async def test_pymodbus_agrees_on_a_pty(tmp_path: Path) -> None:
    async with running(tmp_path, BUS) as street:
        client = AsyncModbusSerialClient(str(street.run_dir / "ttyBus"), timeout=PATIENCE_S)
        assert await client.connect()
        try:
            reply = await client.read_input_registers(1, count=2, device_id=12)
            assert list(street.served()[-1].values) == reply.registers
            assert (await client.read_input_registers(9, count=1, device_id=11)).exception_code == 2
        finally:
            client.close()

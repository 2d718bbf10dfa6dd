"""The serial driver on real pseudo terminals: the test holds the device's end."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from serial_adapter import TEMPERATURE, Adapter, scans_of, spec_of

from contract.errors import DeviceUnavailable
from contract.readings import ABSENT, GOOD, Quality, Reason, gap, status
from drivers.base import Block
from drivers.registry import Registry
from drivers.serial import DRIVER, ListeningSerialBus, PolledSerialBus
from drivers.serial_port import Line, SerialPort, explain, ports_there


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    adapter = Adapter(tmp_path)
    yield adapter
    adapter.unplug()


def listening(
    adapter: Adapter, device: dict[str, Any], clock: Callable[[], int] | None = None, **more: Any
) -> ListeningSerialBus:
    spec = spec_of(adapter, {"name": "dev", **device}, **more)
    scans = scans_of(spec)
    return ListeningSerialBus(spec, scans, clock) if clock else ListeningSerialBus(spec, scans)


async def take(blocks: AsyncIterator[Block], count: int) -> list[Block]:
    async with asyncio.timeout(5):
        return [await anext(blocks) for _ in range(count)]


NMEA_WIND: dict[str, Any] = {
    "text": {"kind": "nmea"},
    "streams": [
        {
            "name": "speed",
            "quantity": "wind_speed",
            "unit": "m/s",
            "sentence": "MWV",
            "field": 3,
            "when": [{"field": 2, "equals": "R"}],
            "valid": {"field": 5, "equals": "A"},
            "missing_values": ["", "---"],
        },
        {"name": "status", "quantity": "status", "unit": "1", "type": "text", "sentence": "WIMWV", "field": 5},
        {
            "name": "pressure",
            "quantity": "air_pressure",
            "unit": "hPa",
            "sentence": "XDR",
            "transducer": {"type": "P", "unit": "H"},
        },
    ],
}


async def test_sentences_become_blocks_of_what_they_say(adapter: Adapter) -> None:
    bus = listening(adapter, NMEA_WIND)
    await bus.open()
    blocks = bus.listen()
    adapter.say(
        b"noise\xff$WIMWV,282,R,0.1,M,A*37\r\n"
        b"$GPGGA,1*4B\r\n"
        b"$WIMWV,282,T,0.1,M,A*31\r\n"  # true wind is not asked for; its status is
        b"$WIMWV,,R,,M,V*37\r\n"
        b"$WIMWV,282,R,0.1,M,V*20\r\n"
        b"$WIXDR,C,23.3,C,0,P,1009.5,H,0*47\r\n"
        b"$WIXDR,P,1.0095,B,0*61\r\n"  # bar, where hPa are declared
    )
    found = await take(blocks, 6)
    await bus.close()
    undecodable = gap(Reason.UNDECODABLE)
    # In the order of the scan: speed, pressure, status.
    assert [block.status.tolist() for block in found] == [
        [GOOD, ABSENT, GOOD],
        [ABSENT, ABSENT, GOOD],
        [undecodable, ABSENT, GOOD],
        [status(Quality.BAD, Reason.SENSOR_FAULT), ABSENT, GOOD],
        [ABSENT, GOOD, ABSENT],
        [ABSENT, undecodable, ABSENT],
    ]
    assert found[0].floats[0] == 0.1
    assert found[0].texts == ["A"]
    assert found[4].floats[1] == 1009.5
    assert bus.garbage_bytes == 6
    assert not found[0].dated


async def test_a_message_has_the_time_its_last_byte_arrived(adapter: Adapter) -> None:
    now_ns = 1_000_000_000_000
    bus = listening(
        adapter,
        {"text": {"kind": "csv", "columns": ["t"]}, "streams": [TEMPERATURE]},
        clock=lambda: now_ns,
        baud_rate=9600,
    )
    await bus.open()
    blocks = bus.listen()
    now_ns += 60_000_000_000
    adapter.say(b"1.5\n22.5\n")
    first, second = await take(blocks, 2)
    adapter.say(b"3\n4\n")
    third, fourth = await take(blocks, 2)
    await bus.close()
    assert second.time_ns == now_ns
    # Five bytes of ten bits at 9600 baud stood between them.
    assert second.time_ns - first.time_ns == 5 * (10 * 1_000_000_000 // 9600)
    # A clock that stands still does not make two samples share a time.
    assert second.time_ns < third.time_ns < fourth.time_ns


async def test_a_line_under_way_at_opening_is_not_taken_for_a_value(adapter: Adapter) -> None:
    device = {"text": {"kind": "csv", "columns": ["t"]}, "streams": [TEMPERATURE]}
    bus = listening(adapter, device, clock=lambda: 1)
    await bus.open()
    adapter.say(b"2.5\n12.5\n")  # no silence since the opening: was it 2.5 or 12.5?
    [block] = await take(bus.listen(), 1)
    await bus.close()
    assert block.floats[0] == 12.5


async def test_binary_fields_bits_and_sentinels(adapter: Adapter) -> None:
    device = {
        "binary": {"start": "AA", "length": 12, "checksum": {"kind": "crc16-modbus"}},
        "streams": [
            {"name": "f", "quantity": "q", "unit": "1", "at": 1, "format": "f32", "byte_order": "little"},
            {"name": "i", "quantity": "q", "unit": "1", "type": "int", "at": 5, "format": "i16"},
            {"name": "b", "quantity": "q", "unit": "1", "type": "bool", "at": 7, "format": "u8", "bit": 6},
            {
                "name": "m",
                "quantity": "q",
                "unit": "1",
                "type": "int",
                "at": 8,
                "format": "u16",
                "missing_values": [0xFFFF],
            },
        ],
    }
    bus = listening(adapter, device)
    await bus.open()
    # CRC-16/MODBUS over the ten bytes before it, low byte first.
    good, broken = bytes.fromhex("AA 0000C03F FFFE 40 FFFF B63E"), bytes.fromhex("AA 0000C03F FFFE 40 FFFF 0000")
    adapter.say(good + broken + good)
    block, _ = await take(bus.listen(), 2)
    await bus.close()
    assert bus.bad_checksums == 1
    assert block.floats.tolist() == [1.5]
    assert block.ints.tolist() == [-2, 1, 0]
    assert block.status.tolist() == [GOOD, GOOD, GOOD, gap(Reason.UNDECODABLE)]
    assert bus.garbage_bytes == 12


async def test_a_good_frame_behind_noise_that_looks_like_a_start_is_not_held_back_by_silence(adapter: Adapter) -> None:
    device = {
        "binary": {"start": "42", "length": 4, "checksum": {"kind": "sum8"}},
        "streams": [{"name": "v", "quantity": "q", "unit": "1", "type": "int", "at": 1, "format": "u16"}],
    }
    bus = listening(adapter, device)
    await bus.open()
    adapter.say(bytes.fromhex("42 00 42 00 07 49"))
    [block] = await take(bus.listen(), 1)
    await bus.close()
    assert block.ints.tolist() == [7]
    assert bus.garbage_bytes == 2


async def test_the_adapter_vanishes_and_comes_back(adapter: Adapter) -> None:
    bus = listening(adapter, {"text": {"kind": "csv", "columns": ["t"]}, "streams": [TEMPERATURE]}, clock=lambda: 1)
    for temperature in (1.0, 2.0):
        await bus.open()
        blocks = bus.listen()
        adapter.say(f"\n{temperature}\n9.9".encode())
        [block] = await take(blocks, 1)
        assert block.floats[0] == temperature
        adapter.unplug()
        with pytest.raises(DeviceUnavailable, match="is gone") as lost:
            await take(blocks, 1)
        assert (lost.value.reason, lost.value.whole_bus) == (Reason.DISCONNECTED, True)
        await bus.close()
        with pytest.raises(DeviceUnavailable, match="is the adapter plugged in"):
            await bus.open()
        adapter.plug_in()
    assert bus.garbage_bytes == 6  # the two unfinished lines did not become part of the next ones
    adapter.unplug()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_closing_frees_everything_and_may_be_repeated(adapter: Adapter) -> None:
    bus = listening(adapter, {"text": {"kind": "csv", "columns": ["t"]}, "streams": [TEMPERATURE]})
    before = open_files()
    for _ in range(5):
        await bus.open()
        await bus.close()
        await bus.close()
    assert open_files() == before


def from_profile(adapter: Adapter, name: str) -> ListeningSerialBus:
    device = Registry(installed=list).expand({"profile": name}, "serial")
    return listening(adapter, device, baud_rate=19200)


def values_of(blocks: Sequence[Block]) -> dict[str, float]:
    return {
        stream.name: (block.floats.tolist() + block.ints.tolist())[position]
        for block in blocks
        for position, stream in enumerate(block.scan.streams)
        if block.status[position] == GOOD
    }


async def test_a_frame_of_the_pms5003(adapter: Adapter) -> None:
    bus = from_profile(adapter, "plantower-pms5003")
    await bus.open()
    words = [11, 16, 18, 12, 17, 19, 2400, 650, 120, 13, 4, 1, 0x9700]
    frame = b"\x42\x4d\x00\x1c" + struct.pack(">13H", *words)
    frame += struct.pack(">H", sum(frame))
    adapter.say(frame[9:] + frame)
    found = await take(bus.listen(), 1)
    await bus.close()
    assert values_of(found) == {
        "pm1_cf1": 11,
        "pm2_5_cf1": 16,
        "pm10_cf1": 18,
        "pm1": 12,
        "pm2_5": 17,
        "pm10": 19,
        "particles_0_3um": 2400,
        "particles_0_5um": 650,
        "particles_1_0um": 120,
        "particles_2_5um": 13,
        "particles_5_0um": 4,
        "particles_10um": 1,
    }


async def test_the_sentences_of_the_wxt536_manual(adapter: Adapter) -> None:
    bus = from_profile(adapter, "vaisala-wxt536")
    await bus.open()
    adapter.say(
        b"$WIMWV,282,R,0.1,M,A*37\r\n"
        b"$WIXDR,C,23.3,C,0,C,24.0,C,1,H,50.1,P,0,P,1009.5,H,0*5C\r\n"
        b"$WIXDR,V,0.02,M,0,Z,30,s,0,R,2.7,M,0,V,0.0,M,1,Z,0,s,1,R,0.0,M,1,R,6.3,M,2,R,0.0,M,3*51\r\n"
    )
    found = await take(bus.listen(), 3)
    await bus.close()
    assert values_of(found) == {
        "wind_direction": 282,
        "wind_speed": 0.1,
        "air_temperature": 23.3,
        "humidity": 50.1,
        "pressure": 1009.5,
        "rain": 0.02,
        "rain_duration": 30,
        "rain_intensity": 2.7,
    }


async def test_a_port_in_use_is_named_so(adapter: Adapter) -> None:
    port, other = SerialPort(Line(str(adapter.path))), SerialPort(Line(str(adapter.path)))
    await port.open()
    with pytest.raises(DeviceUnavailable, match="in use by another process"):
        await other.open()
    await port.close()


async def test_what_is_no_serial_port_is_named_so(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_text("")
    with pytest.raises(DeviceUnavailable, match="is not a serial port"):
        await SerialPort(Line(str(plain))).open()


def test_a_missing_permission_names_the_group(tmp_path: Path) -> None:
    unavailable = explain(Line(str(tmp_path / "ttyUSB0")), PermissionError(13, "Permission denied"))
    assert "usermod -aG dialout" in str(unavailable)


def test_the_ports_that_are_there_are_listed(tmp_path: Path) -> None:
    (tmp_path / "usb-b").touch()
    (tmp_path / "usb-a").touch()
    assert [Path(port).name for port in ports_there(tmp_path)] == ["usb-a", "usb-b"]
    assert ports_there(tmp_path / "none") == []


async def test_what_nobody_reads_is_bounded_and_counted(adapter: Adapter) -> None:
    port = SerialPort(Line(str(adapter.path)))
    await port.open()
    async with asyncio.timeout(10):
        while port.overrun_bytes == 0:
            with contextlib.suppress(BlockingIOError):
                adapter.say(b"x" * 512)
            await asyncio.sleep(0)
    assert port._waiting_bytes <= 64 * 1024
    await port.close()


REGEX = {"text": {"kind": "regex", "pattern": "(?P<t>.*)"}}
BINARY = {"binary": {"start": "AA", "length": 8}}


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ({"streams": [TEMPERATURE]}, "exactly one of 'text' and 'binary'"),
        ({**REGEX, **BINARY, "streams": [TEMPERATURE]}, "exactly one of 'text' and 'binary'"),
        ({**REGEX, "streams": [{**TEMPERATURE, "field": "temp"}]}, "no field 'temp' in a line; it has: t"),
        ({**REGEX, "streams": [{**TEMPERATURE, "at": 3}]}, "'at' belongs to binary frames"),
        ({"text": {"kind": "nmea"}, "streams": [{**TEMPERATURE, "field": 1}]}, "missing 'sentence'"),
        ({**BINARY, "streams": [TEMPERATURE]}, "belong to text; give 'at'"),
        (
            {**BINARY, "streams": [{**TEMPERATURE, "field": None, "at": 6, "format": "f32"}]},
            "ends at byte 10, but a frame has at most 8",
        ),
        ({**REGEX, "mode": "poll", "streams": [TEMPERATURE]}, "exactly one of 'request' and 'request_hex'"),
        ({**REGEX, "request": "?", "streams": [TEMPERATURE]}, "with 'mode: poll' only"),
        ({**REGEX, "mode": "poll", "request_hex": "FF 0", "streams": [TEMPERATURE]}, "pairs of hexadecimal digits"),
    ],
)
def test_a_wrong_declaration_is_refused(adapter: Adapter, device: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        spec_of(adapter, {"name": "dev", **device})
    assert message in str(refused.value)


def test_a_listening_device_is_alone_on_its_port(adapter: Adapter) -> None:
    device = {"name": "a", **REGEX, "streams": [TEMPERATURE]}
    with pytest.raises(ValidationError, match="must be alone on its port"):
        spec_of(adapter, device, {**device, "name": "b"})


def test_the_driver_tells_whether_it_listens(adapter: Adapter) -> None:
    listens = spec_of(adapter, {"name": "dev", **REGEX, "streams": [TEMPERATURE]})
    polls = spec_of(adapter, {"name": "dev", "mode": "poll", "request": "?", **REGEX, "streams": [TEMPERATURE]})
    assert (DRIVER.listening(listens), DRIVER.listening(polls)) == (True, False)
    assert isinstance(DRIVER.connect(listens, scans_of(listens)), ListeningSerialBus)
    assert isinstance(DRIVER.connect(polls, scans_of(polls)), PolledSerialBus)

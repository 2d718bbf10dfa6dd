import asyncio
import struct
from functools import reduce
from operator import xor
from pathlib import Path

import pytest
from sim_client import HeldClock, RawPty, Street, running, until

from hardware_sim.faults import Kind

LINES = """\
seed: 42
ports:
  - {name: dust, kind: serial, link: ttyDust, devices: [{name: dust-1, type: pms5003, interval_s: 0.05}]}
  - {name: weather, kind: serial, link: ttyWeather, devices: [{name: weather-1, type: nmea-weather, interval_s: 0.05}]}
  - {name: text, kind: serial, link: ttyText, devices: [{name: text-1, type: text, interval_s: 0.05}]}
  - {name: csv, kind: serial, link: ttyCsv, devices: [{name: csv-1, type: text, style: csv, request: READ}]}
  - {name: gone, kind: serial, link: ttyGone, devices: [{name: gone-1, type: text, interval_s: 0.05, dead: true}]}
"""
DUST_NAMES = ["pm1_cf1", "pm2_5_cf1", "pm10_cf1", "pm1", "pm2_5", "pm10", "n0_3", "n0_5", "n1_0", "n2_5", "n5_0", "n10"]


class TickingClock(HeldClock):
    """Real time for the schedule of free-running devices."""

    def elapsed_s(self) -> float:
        return self.now_s + asyncio.get_running_loop().time()


def dust_values(frame: bytes) -> dict[str, float]:
    assert frame[:4] == b"\x42\x4d\x00\x1c"
    assert sum(frame[:30]) == int.from_bytes(frame[30:], "big")
    return dict(zip(DUST_NAMES, struct.unpack(">12H", frame[4:28]), strict=True))


def checked(line: bytes) -> list[str]:
    body, _, check = line.removesuffix(b"\r\n").removeprefix(b"$").partition(b"*")
    assert reduce(xor, body) == int(check, 16)
    return body.decode().split(",")


def named(street: Street, device: str) -> list[dict[str, float]]:
    return [one.named for one in street.served() if one.device == device]


async def test_dust_frames_are_whole_valid_plausible_and_in_the_truth(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        with RawPty(street.run_dir / "ttyDust") as port:
            got = [dust_values(await port.read(32)) for _ in range(3)]
        assert named(street, "dust-1")[:3] == got
        for values in got:
            assert 1 <= values["pm1"] <= values["pm2_5"] <= values["pm10"] < 500
            assert values["n0_3"] > values["n0_5"] > values["n1_0"] >= values["n2_5"] >= values["n10"]


def command(*body: int) -> bytes:
    data = bytes((0x42, 0x4D, *body))
    return data + sum(data).to_bytes(2, "big")


async def test_a_dust_sensor_in_passive_mode_speaks_when_asked(tmp_path: Path) -> None:
    async with running(tmp_path, LINES.replace("0.05}]}", "60}]}", 1), TickingClock()) as street:
        with RawPty(street.run_dir / "ttyDust") as port:
            port.write(command(0xE1, 0, 0))
            assert await port.read(8) == command(0, 4, 0xE1, 0)
            port.write(b"\x42\x00noise" + command(0xE2, 0, 0))
            dust_values(await port.read(32))
            port.write(command(0xE4, 0, 0) + command(0xE2, 0, 0))
            assert await port.silent()
            port.write(command(0xE4, 0, 1) + command(0xE2, 0, 0))
            dust_values(await port.read(32))
            port.write(command(0xE2, 0, 0)[:-1] + b"\0")
            assert await port.silent()


async def test_weather_sentences_agree_with_each_other_and_with_the_truth(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        with RawPty(street.run_dir / "ttyWeather") as port:
            wind, composite, more = [checked(await port.line()) for _ in range(3)]
        truth = named(street, "weather-1")[:3]
    assert wind[0] == "WIMWV"
    assert (wind[2], wind[4], wind[5]) == ("T", "N", "A")
    assert (composite[0], len(composite)) == ("WIMDA", 21)
    assert float(composite[3]) == pytest.approx(float(composite[1]) / 29.53, abs=1e-3)
    assert float(composite[17]) == pytest.approx(float(composite[19]) * 1.944, abs=0.15)
    assert [composite[index] for index in (2, 4, 6, 8, 12, 14, 16, 18, 20)] == [
        "I",
        "B",
        "C",
        "C",
        "C",
        "T",
        "M",
        "N",
        "M",
    ]
    assert more[:2] == ["WIXDR", "G"]
    assert truth[0] == {"MWV.direction": float(wind[1]), "MWV.speed": float(wind[3])}
    assert truth[1]["MDA.temperature"] == float(composite[5])
    assert truth[1]["MDA.humidity"] == float(composite[9])
    assert truth[1]["MDA.pressure_bar"] == float(composite[3])
    assert truth[1]["MDA.speed"] == float(composite[19])
    assert truth[2] == {"XDR.rain": float(more[2]), "XDR.illuminance": float(more[6])}


async def test_text_lines_by_itself_and_when_asked(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        with RawPty(street.run_dir / "ttyText") as port:
            pairs = dict(part.split("=") for part in (await port.line()).decode().strip().split(","))
        assert named(street, "text-1")[0] == {name: float(value) for name, value in pairs.items()}
        with RawPty(street.run_dir / "ttyCsv") as port:
            assert await port.silent()
            port.write(b"NONSENSE\r\nRE")
            assert await port.silent()
            port.write(b"AD\r\n")
            values = [float(value) for value in (await port.line()).split(b",")]
        assert list(named(street, "csv-1")[0].values()) == values


async def test_nobody_listens_nothing_is_served_or_kept(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        await asyncio.sleep(0.3)
        assert street.served() == []
        with RawPty(street.run_dir / "ttyText") as port:
            await port.line()
        count = len(named(street, "text-1"))
        assert 1 <= count <= 2
        with RawPty(street.run_dir / "ttyGone") as port:
            assert await port.silent()


async def test_broken_sums_and_checksums(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        for device in ("dust-1", "weather-1", "text-1"):
            street.fault(device, Kind.CRC_ERROR)
        with RawPty(street.run_dir / "ttyDust") as dust, RawPty(street.run_dir / "ttyWeather") as weather:
            frame = await dust.read(32)
            line = await weather.line()
        with RawPty(street.run_dir / "ttyText") as text:
            assert b"#" in await text.line()
        assert frame[:2] == b"\x42\x4d"
        assert sum(frame[:30]) != int.from_bytes(frame[30:], "big")
        with pytest.raises(AssertionError):
            checked(line)
        assert street.served() == []


@pytest.mark.parametrize("kind", [Kind.PARTIAL, Kind.GARBAGE])
async def test_broken_lines_spoil_no_other_line(tmp_path: Path, kind: Kind) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        for device in ("dust-1", "weather-1", "text-1"):
            street.fault(device, kind)
        with (
            RawPty(street.run_dir / "ttyDust") as dust,
            RawPty(street.run_dir / "ttyWeather") as weather,
            RawPty(street.run_dir / "ttyText") as text,
        ):
            broken = [await weather.line(), await text.line()]
            await dust.read(8)
            assert street.served() == []
            for device in ("dust-1", "weather-1", "text-1"):
                street.simulator.clear(device)
            while not named(street, "weather-1") or not named(street, "text-1"):
                broken += [await weather.line(), await text.line()]
            assert b"MWV" in b"".join([await weather.line() for _ in range(6)])
            data = await dust.read(96)
        for line in broken[:2]:
            assert not any(character in b"0123456789" for character in line) or b"*" not in line
        start = data.find(b"\x42\x4d\x00\x1c")
        while sum(data[start : start + 30]) != int.from_bytes(data[start + 30 : start + 32], "big"):
            start = data.find(b"\x42\x4d\x00\x1c", start + 1)
            assert start >= 0


async def test_value_faults_in_every_format(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        for device in ("dust-1", "weather-1", "csv-1"):
            street.fault(device, Kind.NAN)
        with RawPty(street.run_dir / "ttyDust") as dust:
            assert set(dust_values(await dust.read(32)).values()) == {0xFFFF}
        with RawPty(street.run_dir / "ttyWeather") as weather:
            assert checked(await weather.line()) == ["WIMWV", "", "T", "", "N", "V"]
        with RawPty(street.run_dir / "ttyCsv") as csv:
            csv.write(b"READ\r\n")
            assert (await csv.line()).split(b",")[0] == b"nan"
            street.simulator.clear("csv-1")
            street.fault("csv-1", Kind.OUT_OF_RANGE)
            street.clock.now_s += 1
            csv.write(b"READ\r\n")
            assert float((await csv.line()).split(b",")[0]) > 200


async def test_late_answers_are_marked_but_late_talk_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        street.fault("csv-1", Kind.LATE_REPLY, delay_s=0.2)
        street.fault("text-1", Kind.LATE_REPLY, delay_s=0.01)
        with RawPty(street.run_dir / "ttyCsv") as csv, RawPty(street.run_dir / "ttyText") as text:
            csv.write(b"READ\r\n")
            assert await csv.silent()
            await csv.line()
            await text.line()
        assert {one.device for one in street.served()} == {"text-1"}
        assert {one.device for one in street.served(late=True)} == {"text-1", "csv-1"}


async def test_a_timeout_is_silence(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        street.fault("csv-1", Kind.TIMEOUT, seconds=1)
        with RawPty(street.run_dir / "ttyCsv") as csv:
            csv.write(b"READ\r\n")
            assert await csv.silent()
            street.clock.now_s += 2
            csv.write(b"READ\r\n")
            assert await csv.line()


async def test_a_vanished_port_has_no_name(tmp_path: Path) -> None:
    async with running(tmp_path, LINES, TickingClock()) as street:
        link = street.run_dir / "ttyDust"
        street.fault("dust-1", Kind.DISCONNECT, seconds=100)
        await until(lambda: not link.is_symlink())
        street.simulator.clear("dust-1")
        await until(lambda: link.is_symlink())
        with RawPty(link) as port:
            dust_values(await port.read(32))

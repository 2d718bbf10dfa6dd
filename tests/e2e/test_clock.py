"""A gateway whose clock is wrong: at boot, over a kill, set back while it runs. Real processes, Debian's libfaketime.

Only the gateway lives in the wrong time: the simulator's truth, the collector and the database have the real one, so
every stored time is compared with the moment at which the device answered.
"""

import bisect
import json
import struct
import urllib.parse
from pathlib import Path

import pytest
from city import VALUES, Influx, Verdict
from edited_city import GATEWAY, assert_closed, edited_city
from programs import BIN
from servers import InfluxDB, Mosquitto, find_program

from hardware_sim import truth

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
SECOND = 1_000_000_000
WRONG_BY = "-3650d"
MARKER = "clock: {source: marker, sync_marker: synced}\n"
HEALTH = "health: {interval_s: 1}\n"


@pytest.fixture
def influx(influxdb: InfluxDB) -> Influx:
    return Influx(influxdb, influxdb.fresh_database())


class FakedClock:
    """The wall clock of one program: real time plus what `set` says. Its steady clocks are the real ones."""

    def __init__(self, folder: Path) -> None:
        find_program("faketime", "faketime")
        self._library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        self._file = folder / "faketime"

    def set(self, offset: str) -> None:
        """Such as `+0`, `-3600` (seconds) or `-3650d`."""
        passing = self._file.with_suffix(".new")
        passing.write_text(f"{offset}\n", encoding="ascii")
        passing.replace(self._file)

    def gateway(self) -> tuple[str, ...]:
        """The command that runs the gateway in this time."""
        return (
            "/usr/bin/env",
            f"LD_PRELOAD={self._library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            str(BIN / GATEWAY[0]),
            *GATEWAY[1:],
        )


def stored_times(influx: Influx) -> dict[tuple[str, int], dict[int, int]]:
    """When, by the database, each read of each stream was: {(device, place): {number of the read: time_ns}}."""
    query = urllib.parse.urlencode(
        {"db": influx.name, "epoch": "ns", "q": 'SELECT "value" FROM "test_load" GROUP BY "device","stream"'}
    )
    _, body = influx.server.request("GET", f"/query?{query}")
    found = {}
    for series in json.loads(body)["results"][0].get("series", []):
        place = int(series["tags"]["stream"][1:])
        found[series["tags"]["device"], place] = {round(value - place) // 1000: at for at, value in series["values"]}
    return found


def served_times(folder: Path) -> dict[str, dict[int, int]]:
    """When each read was answered, by the simulator: {device: {number of the read: time_ns}}."""
    found: dict[str, dict[int, int]] = {}
    for response in truth.responses(folder / "truth.tsv"):
        first = struct.unpack(">f", struct.pack(">HH", *response.values[:2]))[0]
        found.setdefault(response.device, {})[round(first) // 1000] = response.time_ns
    return found


def assert_whole(verdict: Verdict, at_least: int) -> None:
    assert_closed(verdict, at_least)
    assert verdict.missing == 0, str(verdict)


def assert_right_times(folder: Path, influx: Influx) -> None:
    """Every stored time is within a second of the truth."""
    served = served_times(folder)
    worst_ns = 0
    for (device, _), reads in stored_times(influx).items():
        for number, at in reads.items():
            worst_ns = max(worst_ns, abs(at - served[device][number]))
    print(f"worst time {worst_ns / 1e6:.0f} ms off")
    assert worst_ns < SECOND


def test_readings_wait_undated_until_the_clock_is_known(tmp_path: Path, mosquitto: Mosquitto, influx: Influx) -> None:
    clock = FakedClock(tmp_path)
    clock.set(WRONG_BY)
    with edited_city(tmp_path, mosquitto, influx, lambda text: text + MARKER, gateway=clock.gateway()) as town:
        town.run_for(5)
        town.wait(lambda: bool(town.outbox()["frames"] >= 4), 30, "sampling goes on to disk")
        assert town.outbox()["oldest_age_s"] < 60, "by the steady clock, for the other is ten years off"
        assert influx.values() == {}, "nothing is stored under a wrong time"
        clock.set("+0")  # NTP steps the clock, then says so
        (tmp_path / "synced").touch()
        town.run_for(4)
        verdict = town.finish()
    assert_whole(verdict, at_least=6_000)
    assert verdict.stored == verdict.served
    assert_right_times(tmp_path, influx)


def test_a_kill_while_undated_loses_nothing_that_was_on_disk(
    tmp_path: Path, mosquitto: Mosquitto, influx: Influx
) -> None:
    clock = FakedClock(tmp_path)
    clock.set(WRONG_BY)
    with edited_city(tmp_path, mosquitto, influx, lambda text: text + MARKER, gateway=clock.gateway()) as town:
        town.run_for(4)
        town.kill_gateway(1.0)
        town.run_for(4)
        assert influx.values() == {}
        clock.set("+0")
        (tmp_path / "synced").touch()
        town.run_for(3)
        verdict = town.finish()
    assert_whole(verdict, at_least=6_000)
    assert verdict.stored > 0.7 * verdict.served
    assert_right_times(tmp_path, influx)


def test_a_clock_set_back_never_puts_two_readings_on_one_timestamp(
    tmp_path: Path, mosquitto: Mosquitto, influx: Influx
) -> None:
    clock = FakedClock(tmp_path)
    clock.set("+0")
    with edited_city(tmp_path, mosquitto, influx, lambda text: text + HEALTH, gateway=clock.gateway()) as town:
        town.run_for(6)
        clock.set("-3600")
        town.run_for(6)
        clock.set("-4")  # an hour on again, into seconds that were lived before
        town.run_for(6)
        verdict = town.finish()
    assert_whole(verdict, at_least=6_000)
    assert verdict.stored == verdict.served, "a shared timestamp would have overwritten a point"
    served = served_times(tmp_path)
    off_s = sorted(
        (at - served[device][number]) / 1e9
        for (device, _), reads in stored_times(influx).items()
        for number, at in reads.items()
    )
    # Three spans: right, an hour early, four seconds early; it takes about a second until a step is noticed.
    assert 10 * VALUES * 4 < bisect.bisect(off_s, -3590) < len(off_s) * 2 / 3
    assert off_s[0] == pytest.approx(-3600, abs=1)
    assert off_s[-1] < 1
    assert 10 * VALUES * 4 < bisect.bisect(off_s, -3) - bisect.bisect(off_s, -3590) < len(off_s) * 2 / 3
    query = urllib.parse.urlencode({"db": influx.name, "q": 'SELECT "value" FROM "clock_step" WHERE "value" != 0'})
    _, body = influx.server.request("GET", f"/query?{query}")
    steps = sorted(row[1] for row in json.loads(body)["results"][0]["series"][0]["values"])
    assert steps == [pytest.approx(-3600, abs=1), pytest.approx(3596, abs=1)]

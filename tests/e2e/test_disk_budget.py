"""The broker is away longer than the disk lasts: old telemetry is thinned and counted, alarms and gaps stay whole."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from city import City, Influx, Series
from edited_city import assert_closed, edited_city
from programs import ask
from servers import InfluxDB, Mosquitto

from hardware_sim import truth

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
BUDGET_BYTES = 1024 * 1024
# Makes values that no decimals describe; with a row or two a frame little of that can be compressed.
LINGER_S = 0.03
SCALE = 0.1234567890123
ALARM = ("load-01", 0)
DEAF_MAX_S = 90.0
THINNED = 3000
FAULTY = "load-02"


@dataclass
class Scaled(Influx):
    """The database of a gateway that scales what it reads."""

    def values(self) -> dict[Series, list[float]]:
        return {series: [value / SCALE for value in values] for series, values in super().values().items()}


def edit(text: str) -> str:
    """Thirty reads a second of each device, the smallest outbox, an alarm among the streams."""
    for old, new, count in (
        ("max_bytes: 268435456", f"max_bytes: {BUDGET_BYTES}", 1),
        ("        interval_s: 0.5\n", f"        interval_s: 0.03\n        scale: {SCALE}\n", 10),
        ("{name: v0, ", "{name: v0, alarm: true, ", 1),
        ("publish: {", f"publish: {{linger_s: {LINGER_S}, ", 1),
    ):
        assert old in text
        text = text.replace(old, new, count)
    return text


def occupied(folder: Path) -> int:
    """What `du` says of the outbox, but for the births and notes that the budget does not count."""
    total = 0
    for path in folder.rglob("*"):
        if path.parent.name in {"births", "notes"}:
            continue
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def watch(town: City, seconds: float) -> int:
    """Let it work, looking at the disk five times a second; the most that was occupied."""
    most = 0
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        most = max(most, occupied(town.folder / "outbox"))
        time.sleep(0.2)
    assert town.gateway.alive, town.gateway.words()
    return most


def test_a_full_outbox_thins_counts_and_never_exceeds_its_budget(
    tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB
) -> None:
    influx = Scaled(influxdb, influxdb.fresh_database())
    with edited_city(tmp_path, mosquitto, influx, edit) as town:
        town.run_for(2)
        town.cable.cut()
        most = watch(town, 3)
        told = ask("weinao-sim", "fault", "sim.sock", "timeout", FAULTY, "--seconds", "4", folder=tmp_path)
        assert told.returncode == 0, told.stderr
        deadline_s = time.monotonic() + DEAF_MAX_S
        while (full := town.outbox())["thinned_readings"] < THINNED:
            assert time.monotonic() < deadline_s, full
            most = max(most, watch(town, 2))
        town.cable.mend()
        most = max(most, watch(town, 5))
        verdict = town.finish()
    rows = {(row["device"], row["stream"]): row for row in verdict.ledger["streams"]}
    thinned = sum(row["thinned"] for (device, _), row in rows.items() if device.startswith("load-"))
    print(f"most on disk {most} of {BUDGET_BYTES} bytes; thinned {thinned} readings")
    assert most <= BUDGET_BYTES
    assert_closed(verdict, at_least=40_000)
    assert thinned == verdict.missing >= THINNED, "what is not in the database is counted as thinned, to the reading"
    assert sum(rows[FAULTY, "v0"]["gaps"].values()) > 0, "the outage of a device came through the thinning as gaps"
    reads = sum(response.device == ALARM[0] for response in truth.responses(tmp_path / "truth.tsv"))
    alarm, telemetry = rows[ALARM[0], "v0"], rows[ALARM[0], "v1"]
    assert (len(influx.values()[ALARM]), alarm["stored"], alarm["thinned"]) == (reads, reads, 0)
    assert telemetry["stored"] + telemetry["thinned"] == reads > telemetry["stored"]

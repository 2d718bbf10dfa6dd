"""A day of the simulated street through the real gateway and collector at full speed: memory flat, ledger closed."""

import json
import urllib.parse
from pathlib import Path

import psutil
import pytest
from programs import Program, ask
from servers import InfluxDB, Mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
HOURS = 24
DEVICES = ("meter-1", "pump-1", "climate-1", "climate-2", "weather-1")
GROWTH = 1.15
SETTLED = 0.2


def gateway_yaml(columns: list[str], mqtt_port: int) -> str:
    devices: dict[str, list[str]] = {}
    for column in columns:
        device, _, stream = column.partition(".")
        devices.setdefault(device, []).append(
            f"          - {{name: {stream}, quantity: day, unit: '1', column: {column}}}"
        )
    text = "\n".join(
        f"      - name: {name}\n        interval_s: 1\n        streams:\n" + "\n".join(streams)
        for name, streams in devices.items()
    )
    return f"""gateway:
  id: gw-day
  area: {{city: test, district: east, street: first}}
mqtt: {{host: 127.0.0.1, port: {mqtt_port}}}
outbox: {{directory: outbox, min_free_bytes: 0}}
publish: {{max_readings: 20000}}
health: {{interval_s: 60}}
buses:
  - name: yesterday
    driver: replay
    file: day.csv
    time_column: time_ns
    devices:
{text}
"""


def waiting(folder: Path) -> int:
    """Frames that the gateway keeps because the database has not acknowledged them."""
    answer = ask("weinao-gateway", "outbox", "gateway.yaml", "--json", folder=folder)
    frames: int = json.loads(answer.stdout)["frames"]
    return frames


def resident(program: Program) -> int:
    found: int = psutil.Process(program.pid).memory_info().rss
    return found


def test_a_day_as_fast_as_possible(tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB) -> None:
    scenario = str(ROOT / "hardware-sim/scenarios/street.yaml")
    recorded = ask(
        *("weinao-sim", "record", scenario, "--hours", str(HOURS), "--interval", "1", "--out", "day.csv"),
        *("--devices", *DEVICES),
        folder=tmp_path,
    )
    assert recorded.returncode == 0, recorded.stderr
    with (tmp_path / "day.csv").open(encoding="utf-8") as file:
        columns = file.readline().strip().split(",")[2:]
    database = influxdb.fresh_database()
    (tmp_path / "gateway.yaml").write_text(gateway_yaml(columns, mosquitto.port), encoding="utf-8")
    (tmp_path / "cloud.yaml").write_text(
        f"mqtt: {{host: 127.0.0.1, port: {mosquitto.port}}}\n"
        f"store: {{kind: influxdb1, url: {influxdb.url}, database: {database}}}\n"
        "data: {directory: cloud}\n",
        encoding="utf-8",
    )
    expected = HOURS * 3600 * len(columns)
    ready, socket = tmp_path / "ready", tmp_path / "outbox" / "status.sock"
    collect = ("weinao-cloud", "collect", "cloud.yaml", "--ready-file", "ready")
    with (
        Program(tmp_path, "collector", *collect, ready=ready) as collector,
        Program(tmp_path, "gateway", "weinao-gateway", "run", "gateway.yaml", ready=socket) as gateway,
    ):

        def stored() -> int:
            answer = ask("weinao-cloud", "status", "cloud.yaml", "--json", folder=tmp_path)
            assert answer.returncode == 0, answer.stderr + collector.words()
            found: int = json.loads(answer.stdout)["collector"]["readings"]
            return found

        gateway.wait_for(lambda: stored() > expected * SETTLED, 300, "well under way")
        began = resident(gateway), resident(collector)
        gateway.wait_for(lambda: stored() >= expected, 400, "done with the day")
        ended = resident(gateway), resident(collector)
        gateway.wait_for(lambda: waiting(tmp_path) == 0, 60, "nothing waits on the disk")
        assert gateway.stop() == 0, gateway.words()
        ledger = ask("weinao-cloud", "ledger", "cloud.yaml", "--json", folder=tmp_path)
    report = json.loads(ledger.stdout)
    print(f"{expected} readings; RSS MB gateway {began[0] / 1e6:.0f} -> {ended[0] / 1e6:.0f}, ", end="")
    print(f"collector {began[1] / 1e6:.0f} -> {ended[1] / 1e6:.0f}; ledger {report['totals']}")
    assert ledger.returncode == 0, report["totals"]
    assert report["totals"]["unexplained"] == 0
    query = urllib.parse.urlencode({"db": database, "q": 'SELECT COUNT("value") FROM "day"'})
    _, body = influxdb.request("GET", f"/query?{query}")
    assert json.loads(body)["results"][0]["series"][0]["values"][0][1] == expected
    assert ended[0] < began[0] * GROWTH
    assert ended[1] < began[1] * GROWTH

"""The real commands, scraped over HTTP as Prometheus does it: the figures are true, and hold no secret."""

import json
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics_page import Answer, check, scrape
from programs import Program, ask
from servers import Mosquitto, VictoriaMetrics, free_port, wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
ROWS = 240
SECRET = "planted-7f3a9c"  # noqa: S105 - to be searched for


def write_configs(folder: Path, broker_port: int) -> None:
    """A gateway with a file to replay and a device that is not there, and a collector; secrets wherever one may be."""
    rows = "".join(f"2026-11-22T10:{n // 60:02}:{n % 60:02}Z,{n / 10},{n}\n" for n in range(ROWS))
    (folder / "well.csv").write_text("time,level,flow\n" + rows, encoding="utf-8")
    (folder / "page-password").write_text(f"{SECRET}-page\n", encoding="utf-8")
    mqtt = f"{{host: 127.0.0.1, port: {broker_port}, username: someone, password: {SECRET}-mqtt}}"
    (folder / "gateway.yaml").write_text(
        f"""
gateway: {{id: gw-metrics, area: {{city: test, district: east, street: first}}}}
mqtt: {mqtt}
outbox: {{directory: outbox, min_free_bytes: 0}}
publish: {{profile: realtime}}
metrics: {{port: 0, username: prom, password_file: page-password}}
buses:
  - name: logger
    driver: replay
    file: {folder}/well.csv
    devices:
      - name: well
        streams:
          - {{name: level, quantity: water_level, unit: m, resolution: 0.1, valid_range: [0, 20]}}
          - {{name: flow, quantity: flow, unit: m3/h, resolution: 1}}
  - name: cabinet
    driver: modbus
    transport: tcp
    host: 127.0.0.1
    port: {free_port()}
    devices:
      - name: pump
        unit: 1
        interval_s: 0.2
        streams: [{{name: level, quantity: water_level, unit: m, table: holding, address: 0}}]
""",
        encoding="utf-8",
    )
    (folder / "cloud.yaml").write_text(
        f"mqtt: {mqtt}\ncollector: {{name: c-metrics}}\nstore: {{kind: embedded}}\ndata: {{directory: cloud}}\n"
        "metrics: {port: 0}\n",
        encoding="utf-8",
    )


def told(folder: Path, *command: str) -> dict[str, Any]:
    """What `status` says of the metrics."""
    answer = ask(*command, "--json", folder=folder)
    assert answer.returncode in {0, 1}, answer.stderr  # 1: a device is ill
    assert SECRET not in answer.stdout
    shown: dict[str, Any] = json.loads(answer.stdout)["metrics"]
    return shown


def until(page: Callable[[], Answer], name: str, least: float, **labels: str) -> Answer:
    """Scrape until that sample is there and large enough."""
    pages: list[Answer] = []

    def there() -> bool:
        pages[:] = [page()]
        value = pages[0].value(name, **labels)
        return value is not None and value >= least

    wait_until(there, 30, f"{name} reaches {least}")
    return pages[0]


def firing(victoria: VictoriaMetrics, gateway: Answer, collector: Answer) -> set[str]:
    """The alerts whose queries find something on these pages; every one must be a query that a database accepts."""
    # A minute ago: a query sees nothing of the last half minute, for scrapes may be late.
    scraped_ms = (time.time_ns() // 1_000_000_000 - 60) * 1000
    for job, page in (("weinao-gateway", gateway), ("weinao-collector", collector)):
        labels = f"extra_label=job={job}&extra_label=instance=127.0.0.1:1&timestamp={scraped_ms}"
        status, body = victoria.request("POST", f"/api/v1/import/prometheus?{labels}", page.text.encode())
        assert status == 204, body
    victoria.flush()
    found: set[str] = set()
    for group in yaml.safe_load((ROOT / "configs/prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            query = urllib.parse.urlencode({"query": rule["expr"], "nocache": 1})
            status, body = victoria.request("GET", f"/api/v1/query?{query}")
            assert status == 200, f"{rule['alert']}: {body.decode()}"
            if json.loads(body)["data"]["result"]:
                found.add(rule["alert"])
    return found


def test_both_commands_show_what_happened_and_every_alert_is_a_query(
    tmp_path: Path, mosquitto: Mosquitto, victoria: VictoriaMetrics
) -> None:
    write_configs(tmp_path, mosquitto.port)
    collecting = Program(
        tmp_path,
        "collector",
        *("weinao-cloud", "collect", "cloud.yaml", "--ready-file", "cloud.ready"),
        ready=tmp_path / "cloud.ready",
    )
    sampling = Program(
        tmp_path, "gateway", "weinao-gateway", "run", "gateway.yaml", ready=tmp_path / "outbox/status.sock"
    )
    with collecting, sampling:
        edge = told(tmp_path, "weinao-gateway", "status", "gateway.yaml")
        cloud = told(tmp_path, "weinao-cloud", "status", "cloud.yaml")
        assert (edge["address"], edge["problem"], cloud["problem"]) == ("127.0.0.1", None, None)

        def gateway_page() -> Answer:
            return scrape(edge["port"], user="prom", password=f"{SECRET}-page")

        def collector_page() -> Answer:
            return scrape(cloud["port"])

        gateway = until(gateway_page, "weinao_gateway_outbox_committed_frames_total", 3)
        gateway = until(gateway_page, "weinao_gateway_gap_samples_total", 3, device="pump", reason="disconnected")
        collector = until(collector_page, "weinao_collector_stored_readings_total", 2 * ROWS)
        assert scrape(edge["port"]).status == 401
        assert scrape(edge["port"], user="prom", password=SECRET).status == 401
        assert scrape(cloud["port"], "/").status == 404
        for page in (gateway, collector):
            assert (page.status, SECRET in page.text) == (200, False)
            check(page.text)
        assert gateway.value("weinao_gateway_readings_total", device="well", quality="good") == 2 * ROWS - 39
        assert gateway.value("weinao_gateway_readings_total", device="well", quality="bad") == 39
        assert gateway.value("weinao_gateway_doubtful_readings_total", device="well", reason="out_of_range") == 39
        assert gateway.value("weinao_gateway_device_up", device="pump") == 0
        assert gateway.value("weinao_gateway_uplink_connected") == 1
        assert (gateway.value("weinao_gateway_outbox_sync_seconds_count") or 0) > 3
        assert collector.value("weinao_collector_mqtt_connected") == 1
        assert (collector.value("weinao_collector_store_writes_total", outcome="stored") or 0) > 0
        assert collector.value("weinao_ledger_unexplained_samples") == 0
        assert (collector.value("process_resident_memory_bytes") or 0) > 10e6
        assert firing(victoria, gateway, collector) >= {"WeinaoDeviceDown"}
        answer = ask("weinao-cloud", "ledger", "cloud.yaml", "--json", folder=tmp_path)
        assert json.loads(answer.stdout)["totals"]["unexplained"] == 0
        assert (sampling.stop(), collecting.stop()) == (0, 0)
        for program in (sampling, collecting):
            assert SECRET not in program.log.read_text(encoding="utf-8")

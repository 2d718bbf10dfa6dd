"""Why: a mobile contract is paid by the byte. What does a typical site cost a day, under each uplink profile?

The site: a three-phase meter (7 values), a lamp controller (5), a pump station (6) and two climate sensors, each once a
second, and the gateway's own health. One gateway a profile, all at once on the same devices, through a forwarder whose
socket tells what the kernel counted, both ways, headers of IP and TCP included (bench/tcp_meter.py). Floor: the frames'
payload alone. Reference: the same rows as JSON with names, zstd over each second's message, headers likewise.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import yaml

from bench import processes
from bench.observer import Observer
from bench.processes import ROOT, BenchFailed, folder, wait_for
from bench.report import Figure, Report
from bench.tcp_meter import HEADER_BYTES, TcpMeter, Traffic
from bench.town import Hub, hub
from bench.wire_codecs import json_rows, zstd
from bench.wire_data import Samples, mix

PROFILES = ("realtime", "balanced", "frugal")
DAY_S = 86_400
SCENARIO = """\
seed: 42
ports:
  - name: cabinet
    kind: modbus-tcp
    devices:
      - {name: meter-1, type: sdm630, unit: 1}
      - {name: lights-1, type: lights, unit: 2}
      - {name: pump-1, type: pump, unit: 3}
      - {name: climate-1, type: climate, unit: 11}
      - {name: climate-2, type: climate, unit: 12, number: 1}
"""


def run(report: Report, *, quick: bool) -> None:
    """Bytes a day of each profile."""
    # Two whole minutes hold two frames of the frugal profile, wherever they begin.
    seconds = 20.0 if quick else 120.0
    with folder() as where, hub(where) as town, ExitStack() as stack:
        stack.enter_context(processes.simulator(where, SCENARIO))
        meters: dict[str, TcpMeter] = {}
        for profile in PROFILES:
            meters[profile] = stack.enter_context(TcpMeter(town.broker.port))
            (where / f"{profile}.yaml").write_text(_config(where, profile, meters[profile].port), encoding="utf-8")
            stack.enter_context(processes.gateway(where, profile))
        wait_for(lambda: all(name in town.observer.births for name in PROFILES), 20, "every gateway tells its birth")
        time.sleep(3)
        before = {name: meter.total() for name, meter in meters.items()}
        began_ns, began_s = time.time_ns(), time.monotonic()
        time.sleep(seconds)
        spent = {name: meter.total() - before[name] for name, meter in meters.items()}
        took_s, until_ns = time.monotonic() - began_s, time.time_ns()
        time.sleep(1)
        for profile in PROFILES:
            _tell(report, town, profile, spent[profile], (began_ns, until_ns), took_s)


def _tell(report: Report, town: Hub, profile: str, spent: Traffic, window: tuple[int, int], took_s: float) -> None:
    payload, readings = _payload(town.observer, profile, *window)
    a_day = DAY_S / took_s / 1e6
    reference = None
    if profile == "balanced" and readings:
        reference = _json_bytes(max(1, round(readings / took_s))) * DAY_S / 1e6
    report.add(
        Figure(
            f"profiles/{profile}/mb_per_day",
            spent.wire_bytes * a_day,
            "MB",
            floor=payload * a_day,
            reference=reference,
            note=f"{readings / took_s:.0f} readings/s, {spent.segments / took_s:.1f} packets/s; floor: payload",
        )
    )


def _payload(observer: Observer, gateway: str, since_ns: int, until_ns: int) -> tuple[int, int]:
    """(bytes, readings) of the gateway's frames."""
    total = readings = 0
    for heard, found in observer.decoded(gateway, since_ns, until_ns):
        total += len(heard.payload)
        readings += sum(table.count() for table in found.tables)
    return total, readings


def _json_bytes(readings: int) -> float:
    """Bytes of a second's readings as one JSON message, zstd, with MQTT's headers and three packets."""
    samples = mix()
    columns = (samples.columns * (readings // len(samples.columns) + 1))[:readings]
    sizes = [len(zstd(json_rows(Samples(one.times, one.columns)))) for one in _rows(Samples(samples.times, columns))]
    topic_and_fixed = 60
    return sum(sizes) / len(sizes) + topic_and_fixed + 4 + 3 * HEADER_BYTES


def _rows(samples: Samples) -> list[Samples]:
    return [batch for number, batch in enumerate(samples.batches(1)) if number < 50]


def _config(where: Path, profile: str, mqtt_port: int) -> str:
    """The demo's cabinet, and two climate sensors, under this profile."""
    demo = yaml.safe_load((ROOT / "configs/demo/gateway.yaml").read_text(encoding="utf-8"))
    cabinet = next((bus for bus in demo["buses"] if bus["name"] == "cabinet"), None)
    sensors = next((bus for bus in demo["buses"] if bus["name"] == "rs485"), None)
    if cabinet is None or sensors is None:
        raise BenchFailed("configs/demo/gateway.yaml has no bus 'cabinet' or 'rs485' any more")
    ready = yaml.safe_load((where / "sim.json").read_text(encoding="utf-8"))
    cabinet["port"] = ready["ports"]["cabinet"]["port"]
    cabinet["devices"] += sensors["devices"]
    demo["gateway"]["id"] = profile
    demo["mqtt"] = {"host": "127.0.0.1", "port": mqtt_port}
    demo["outbox"] = {"directory": profile, "min_free_bytes": 0}
    demo["publish"] = {"profile": profile}
    demo["buses"] = [cabinet]
    text: str = yaml.safe_dump(demo, allow_unicode=True)
    return text

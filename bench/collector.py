"""Why: the city's readings all pass here. How near does a collector come to what its database takes?

Frames of 40 gateways (100 streams, 10 rows: 1,000 readings each, noisy values of 0.1) through a real mosquitto and real
collectors into real databases. A point counts when its frame was acknowledged. Floor: the same points as line protocol,
made beforehand, posted as fast as the database answers (bench/store_floors.py). Floor and collector take turns, and the
median of their ratios counts: a neighbour on the machine then disturbs both or is outvoted. All of it shares
the machine's cores, so what collector and broker use is taken from the database; `own_cores` says the same when the
database has half of the cores to itself, in both cases, as it has a machine of its own in a city. Reference: paho and
influxdb-client, JSON messages, 5,000 lines a write (bench/reference.py); it acknowledges MQTT before the database has
anything, which costs it data when it dies.
"""

import contextlib
import json
import os
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from programs import Program
from servers import HttpServer, InfluxDB, Mosquitto, NginxV2, VictoriaMetrics

from bench import processes, reference
from bench.cores import confined, halves
from bench.feeder import Feeder, Shape
from bench.processes import Child, Meter, folder, rss_mb, wait_for
from bench.report import Figure, Report, quantile
from bench.sites import cloud
from bench.store_floors import BEST, STEADY, Ingest, bodies, ingest

CPU_S, FLOOR_SHARE, VICTORIA_PER_S, GROWTH = 0.3, 0.8, 300_000.0, 0.1
DATABASE = "bench"
DATABASE_CORES, OTHER_CORES = halves()
REFERENCE_MESSAGES = 3_000
PATIENCE_S = 120.0


def run(report: Report, *, quick: bool) -> None:
    """All figures of the collector, for each database."""
    whole = Shape(rounds=25 if quick else 50)
    for name in ("victoria", "influxdb"):
        usual = _reference(name)
        pairs = _pairs(name, whole, 1 if quick else 3)
        _tell(report, name, pairs, usual)
        if name == "influxdb":
            with confined(OTHER_CORES):
                _tell_apart(report, name, _pairs(name, whole, 1 if quick else 3, apart=True))
        two = _collect(name, whole, collectors=2)
        floor = quantile((floor.points_per_s for floor, _ in pairs), 0.5)
        note = f"two collectors share; {_where(two)}"
        report.add(
            Figure(f"collector/{name}/two/points_per_s", two.points_per_s, "/s", floor=floor, higher=True, note=note),
            Figure(f"collector/{name}/two/cpu_s_per_100k", two.cpu_s_per_100k, "s", note="both together"),
        )
    little = _collect("victoria", Shape(streams=20, rows=5, rounds=100 if quick else 300), collectors=1)
    note = f"100 readings a frame, {little.points_per_s / 100:,.0f} frames/s; {_where(little)}"
    report.add(
        Figure("collector/victoria/small_frames/points_per_s", little.points_per_s, "/s", higher=True, note=note),
        Figure("collector/victoria/small_frames/cpu_s_per_100k", little.cpu_s_per_100k, "s"),
    )


@dataclass(frozen=True, slots=True)
class Base:
    """A running database. v2: where influxdb-client may write. store: the section of the collector's configuration."""

    server: HttpServer
    v2: HttpServer
    store: str


@contextlib.contextmanager
def _database(name: str, where: Path, *, apart: bool = False) -> Iterator[Base]:
    cores = DATABASE_CORES if apart else DATABASE_CORES | OTHER_CORES
    with ExitStack() as stack:
        if name == "victoria":
            with confined(cores):
                victoria = stack.enter_context(VictoriaMetrics(where / "victoria"))
            store = f"{{kind: influxdb2, url: {victoria.url}, bucket: {DATABASE}, reader: victoria}}"
            yield Base(victoria, victoria, store)
            return
        with confined(cores):
            influx = stack.enter_context(InfluxDB(where / "influxdb"))
        nginx = stack.enter_context(NginxV2(where / "nginx", influx))
        influx.request("POST", f"/query?q={urllib.parse.quote(f'CREATE DATABASE {DATABASE}')}")
        yield Base(influx, nginx, f"{{kind: influxdb1, url: {influx.url}, database: {DATABASE}}}")


@dataclass(frozen=True, slots=True)
class Pace:
    """What collectors did in the steady part of a run. cores: of each process; rss: MB, before and after it."""

    points_per_s: float
    cpu_s_per_100k: float
    cores: dict[str, float]
    rss_before_mb: float
    rss_after_mb: float


def _pairs(name: str, shape: Shape, count: int, *, apart: bool = False) -> list[tuple[Ingest, Pace]]:
    """Floor, collector, floor, collector, ..."""
    ready = bodies(shape, BEST[0])
    return [
        (
            _floor(name, shape, ready, connections=BEST[1], apart=apart),
            _collect(name, shape, collectors=1, apart=apart),
        )
        for _ in range(count)
    ]


def _floor(name: str, shape: Shape, ready: list[bytes], *, connections: int, apart: bool) -> Ingest:
    with folder() as where, _database(name, where, apart=apart) as base:
        return ingest(base.server, DATABASE, shape, ready, connections)


def _collect(name: str, shape: Shape, *, collectors: int, apart: bool = False) -> Pace:
    with folder() as where, ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(where / "mosquitto"))
        base = stack.enter_context(_database(name, where, apart=apart))
        programs: list[Program] = []
        for number in range(collectors):
            label = f"cloud-{number}"
            (where / f"{label}.yaml").write_text(cloud(broker.port, base.store, name=label), encoding="utf-8")
            programs.append(stack.enter_context(processes.collector(where, label)))
        feeder = stack.enter_context(Feeder(broker.port, shape))
        pids = {f"collector_{number}": program.pid for number, program in enumerate(programs)}
        feeder.begin()
        feeder.wait(STEADY[0], PATIENCE_S)
        meter, first = Meter.start(**pids, broker=broker.pid, database=base.server.pid), feeder.acknowledged
        before_mb = sum(rss_mb(pid) for pid in pids.values())
        feeder.wait(STEADY[1], PATIENCE_S)
        took_s, cpu, done = meter.seconds(), meter.cpu(), feeder.acknowledged - first
        after_mb = sum(rss_mb(pid) for pid in pids.values())
        feeder.wait(1.0, PATIENCE_S)
    points = done * shape.points
    ours = sum(cpu[label] for label in pids)
    cores = {label: seconds / took_s for label, seconds in cpu.items()}
    return Pace(points / took_s, ours / points * 1e5, cores, before_mb, after_mb)


def _where(pace: Pace) -> str:
    return "cores: " + ", ".join(f"{name} {cores:.2f}" for name, cores in pace.cores.items())


def _tell(report: Report, name: str, pairs: list[tuple[Ingest, Pace]], usual: tuple[float, float]) -> None:
    usual_per_s, usual_cpu = usual
    shares = [pace.points_per_s / floor.points_per_s for floor, pace in pairs]
    floor_per_s = quantile((floor.points_per_s for floor, _ in pairs), 0.5)
    floor_cpu = quantile((floor.cpu_s_per_100k for floor, _ in pairs), 0.5)
    middle = sorted((pace for _, pace in pairs), key=lambda pace: pace.points_per_s)[len(pairs) // 2]
    how = f"floor: {BEST[0]:,} lines a POST, {BEST[1]} connections, database {pairs[0][0].cores:.2f}"
    report.add(
        Figure(
            f"collector/{name}/points_per_s",
            middle.points_per_s,
            "/s",
            target=VICTORIA_PER_S if name == "victoria" else None,
            floor=floor_per_s,
            reference=usual_per_s,
            higher=True,
            note=f"{_where(middle)}; {how}",
        ),
        Figure(
            f"collector/{name}/ratio_to_floor",
            quantile(shares, 0.5),
            "",
            target=FLOOR_SHARE if name == "influxdb" else None,
            floor=1.0,
            reference=usual_per_s / floor_per_s,
            higher=True,
            note="of each turn: " + ", ".join(f"{share:.2f}" for share in shares),
        ),
        Figure(
            f"collector/{name}/cpu_s_per_100k",
            quantile((pace.cpu_s_per_100k for _, pace in pairs), 0.5),
            "s",
            target=CPU_S,
            floor=floor_cpu,
            reference=usual_cpu,
            note="floor: posting ready-made lines",
        ),
        Figure(f"collector/{name}/rss_mb", max(pace.rss_after_mb for _, pace in pairs), "MB"),
        Figure(
            f"collector/{name}/rss_growth_share",
            quantile((pace.rss_after_mb / pace.rss_before_mb - 1 for _, pace in pairs), 0.5),
            "",
            target=GROWTH,
            note="from a fifth of the run to its end",
        ),
    )


def _tell_apart(report: Report, name: str, pairs: list[tuple[Ingest, Pace]]) -> None:
    shares = [pace.points_per_s / floor.points_per_s for floor, pace in pairs]
    note = f"the database has {len(DATABASE_CORES)} of {os.cpu_count()} cores to itself; of each turn: "
    note += ", ".join(f"{share:.2f}" for share in shares)
    report.add(Figure(f"collector/{name}/own_cores/ratio_to_floor", quantile(shares, 0.5), "", higher=True, note=note))


def _reference(name: str) -> tuple[float, float]:
    """(points a second, CPU seconds per 100k) of the usual Python collector; what it has written counts."""
    registers = [2300 + number for number in range(reference.REGISTERS)]
    with folder() as where, ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(where / "mosquitto"))
        base = stack.enter_context(_database(name, where))
        arguments = ["collect", str(broker.port), base.v2.url, DATABASE]
        child = stack.enter_context(Child("bench.reference", arguments))
        child.line()
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(0)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        stack.callback(client.loop_stop)
        stack.callback(client.disconnect)
        began_ns = time.time_ns()
        for number in range(REFERENCE_MESSAGES):
            said = {"unit": number % 10, "time_ns": began_ns + number * 1000, "registers": registers}
            client.publish(f"{reference.TOPIC}/{number % 10}", json.dumps(said), qos=1)
        total = REFERENCE_MESSAGES * reference.REGISTERS
        wait_for(lambda: child.ask()["readings"] >= 0.2 * total, PATIENCE_S, "the reference writes")
        meter, before = Meter.start(child=child.pid), child.ask()["readings"]
        wait_for(lambda: child.ask()["readings"] >= 0.9 * total, PATIENCE_S, "the reference has written")
        done, took_s, cpu = child.ask()["readings"] - before, meter.seconds(), meter.cpu()["child"]
    return done / took_s, cpu / done * 1e5

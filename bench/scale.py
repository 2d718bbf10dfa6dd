"""Why: a city has thousands of gateways. How do CPU, memory and latency grow, and where is the end of one machine?

Gateways at frame level, each with an MQTT connection of its own, one frame every two seconds, through a real mosquitto
and a real collector into a real VictoriaMetrics. Latency is from a frame's publish to its acknowledgement. First more
gateways with 20 streams each (60 readings a frame), then more streams of 100 gateways.
The last lines say, by the largest case, what a city of nine million units at one reading a minute would need, and how
much one broker, one collector and one core of the database carry.
"""

import asyncio
import contextlib
import resource
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from servers import Mosquitto, VictoriaMetrics

from bench import processes
from bench.feeder import Shape, births, frames
from bench.fleet import Gateway, Tally, connect
from bench.processes import BenchFailed, Meter, cpu_s, folder, rss_mb
from bench.report import Figure, Report, quantile
from bench.sites import cloud
from bench.wire_data import TICK_NS
from contract import frame
from contract.catalogue import Birth

GATEWAYS = (1, 100, 500, 2000)
STREAMS = (10, 100, 1000)
PERIOD_S = 2.0
WARM_S = 2.0
COLD_S, SETTLE_S, LAST_S, IDLE_CORES = 60.0, 10.0, 20.0, 0.05
OTHER_FILES = 200  # that this process and the broker have open beside the gateways' connections
CITY_UNITS, CITY_PER_MINUTE = 9_000_000, 1


def run(report: Report, *, quick: bool) -> None:
    """All figures of scale."""
    rounds = 4 if quick else 6
    grown: list[Case] = []
    for count in GATEWAYS[:3] if quick else GATEWAYS:
        too_few = _files_missing(count + OTHER_FILES)
        if too_few is not None:
            report.add(Figure(f"scale/{count}/cpu_s_per_100k", None, "s", note=too_few))
            continue
        grown.append(_case(Shape(gateways=count, streams=20, rows=3, rounds=rounds)))
        _tell(report, f"scale/{count}", grown[-1], f"{count} gateways, {grown[-1].frames_per_s:,.0f} frames/s")
    wide = []
    for count in STREAMS:
        wide.append(_case(Shape(gateways=100, streams=count, rows=1, rounds=rounds)))
        _tell(
            report, f"scale/streams/{100 * count}", wide[-1], f"100 gateways x {count} streams, a reading each a frame"
        )
    if grown:
        _city(report, grown[-1])
    if len(grown) > 1:
        _growth(report, grown, wide)


def _files_missing(needed: int) -> str | None:
    """Let this process and its children open so many files; what is in the way, when something is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            return f"needs {needed:,} open files, this shell permits {hard:,}: raise `ulimit -Hn` and run again"
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return None


@dataclass(frozen=True, slots=True)
class Case:
    """What one case did in its steady part. cpu: seconds a 100k readings of each process; rss: MB of each.

    cold_s: from the first connection until a frame of every gateway is stored, none of them known before.
    """

    shape: Shape
    frames_per_s: float
    readings_per_s: float
    cpu: dict[str, float]
    rss: dict[str, float]
    p50_s: float
    p99_s: float
    cold_s: float
    births_asked: int
    resent: int
    unstored: int


def _case(shape: Shape) -> Case:
    crowd = _crowd(shape)
    with folder() as where, ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(where / "mosquitto", processes.BROKER))
        database = stack.enter_context(VictoriaMetrics(where / "victoria"))
        store = f"{{kind: influxdb2, url: {database.url}, bucket: weinao, reader: victoria}}"
        (where / "cloud.yaml").write_text(cloud(broker.port, store), encoding="utf-8")
        collector = stack.enter_context(processes.collector(where))
        pids = {"collector": collector.pid, "broker": broker.pid, "database": database.pid}
        return asyncio.run(_play(broker.port, crowd, shape, pids))


def _crowd(shape: Shape) -> list[tuple[Birth, list[tuple[int, bytes]]]]:
    end_ns = time.time_ns() // TICK_NS * TICK_NS
    return [
        (one, [(made.header.sequence, frame.encode(made)) for made in frames(shape, one, end_ns=end_ns, seed=number)])
        for number, one in enumerate(births(shape))
    ]


async def _play(
    port: int, crowd: Sequence[tuple[Birth, Sequence[tuple[int, bytes]]]], shape: Shape, pids: dict[str, int]
) -> Case:
    tally = Tally()
    began_s = time.monotonic()
    fleet = await connect(port, crowd, tally)
    repeating = asyncio.create_task(_send_late_again(fleet))
    for one in fleet:
        one.send(0)
    await _until(tally, shape.gateways, COLD_S)
    cold_s = time.monotonic() - began_s
    await _settled(pids["collector"])
    playing = [
        asyncio.create_task(one.play(PERIOD_S * number / len(fleet), PERIOD_S)) for number, one in enumerate(fleet)
    ]
    await asyncio.sleep(WARM_S)
    meter, first = Meter.start(**pids), tally.acknowledged
    tally.latencies_s.clear()
    await asyncio.sleep((shape.rounds - 1) * PERIOD_S - WARM_S)
    took_s, cpu, done = meter.seconds(), meter.cpu(), tally.acknowledged - first
    rss = {name: rss_mb(pid) for name, pid in pids.items()}
    latencies = list(tally.latencies_s)
    await asyncio.gather(*playing)
    with contextlib.suppress(BenchFailed):  # what is missing then is a figure
        await _until(tally, shape.frames, LAST_S)
    repeating.cancel()
    for one in fleet:
        one.close()
    readings = done * shape.points
    if not latencies:
        raise BenchFailed(f"no frame of {shape.gateways} gateways was acknowledged in {took_s:.0f} s")
    each = {name: seconds / max(readings, 1) * 1e5 for name, seconds in cpu.items()}
    p50_s, p99_s = quantile(latencies, 0.5), quantile(latencies, 0.99)
    return Case(
        shape,
        done / took_s,
        readings / took_s,
        each,
        rss,
        p50_s,
        p99_s,
        cold_s,
        tally.births_asked,
        tally.resent,
        shape.frames - tally.acknowledged,
    )


async def _send_late_again(fleet: Sequence[Gateway]) -> None:
    while True:
        await asyncio.sleep(1)
        for one in fleet:
            one.send_late_again()


async def _settled(pid: int) -> None:
    """Until the collector has dealt with what the start left behind: births again, frames again."""
    deadline_s = time.monotonic() + SETTLE_S
    busy = 1.0
    while busy > IDLE_CORES and time.monotonic() < deadline_s:
        before = cpu_s(pid)
        await asyncio.sleep(1)
        busy = cpu_s(pid) - before


async def _until(tally: Tally, stored: int, seconds: float) -> None:
    deadline_s = time.monotonic() + seconds
    while tally.acknowledged < stored:
        if time.monotonic() > deadline_s:
            raise BenchFailed(f"{tally.acknowledged} of {stored} frames acknowledged in {seconds:g} s")
        await asyncio.sleep(0.02)


def _tell(report: Report, prefix: str, found: Case, note: str) -> None:
    cold = "all connect, tell their births, have a frame stored"
    cold += f"; births asked for again: {found.births_asked}, frames sent again: {found.resent}"
    report.add(
        Figure(
            f"{prefix}/cpu_s_per_100k",
            found.cpu["collector"],
            "s",
            floor=found.cpu["broker"] + found.cpu["database"],
            note=f"the collector's; floor: broker and database; {note}, {found.readings_per_s:,.0f} readings/s",
        ),
        Figure(f"{prefix}/broker_cpu_s_per_100k", found.cpu["broker"], "s"),
        Figure(f"{prefix}/database_cpu_s_per_100k", found.cpu["database"], "s"),
        Figure(f"{prefix}/collector_rss_mb", found.rss["collector"], "MB"),
        Figure(f"{prefix}/broker_rss_mb", found.rss["broker"], "MB"),
        Figure(f"{prefix}/cold_start_s", found.cold_s, "s", note=cold),
        Figure(
            f"{prefix}/frames_not_stored",
            found.unstored,
            "",
            target=0.0,
            note=f"{LAST_S:.0f} s after the last was sent",
        ),
        Figure(f"{prefix}/p50_ms", found.p50_s * 1e3, "ms"),
        Figure(f"{prefix}/p99_ms", found.p99_s * 1e3, "ms"),
    )


def _city(report: Report, largest: Case) -> None:
    per_s = CITY_UNITS * CITY_PER_MINUTE / 60
    points = largest.shape.points
    for name, cpu in largest.cpu.items():
        note = f"{CITY_UNITS:,} units, {per_s:,.0f} readings/s in frames of {points}, at the cost of the largest case"
        report.add(Figure(f"scale/city/{name}_cores", per_s / 1e5 * cpu, "cores", note=note))
    notes = {
        "broker": "mosquitto has one thread: one core is its end",
        "collector": "one process is one core; another collector shares the subscription",
        "database": "of each core",
    }
    for name, cpu in largest.cpu.items():
        most = 1e5 / cpu
        note = f"{notes[name]}; {most / points:,.0f} frames/s"
        report.add(Figure(f"scale/limit/{name}_readings_per_s", most, "/s", higher=True, note=note))


def _growth(report: Report, grown: Sequence[Case], wide: Sequence[Case]) -> None:
    """What one more connection and one more stream cost in memory."""
    first, last = grown[0], grown[-1]
    more = last.shape.gateways - first.shape.gateways
    broker_kb = (last.rss["broker"] - first.rss["broker"]) * 1e3 / more
    report.add(Figure("scale/broker_kb_per_gateway", broker_kb, "kB", note=f"{more:,} more connections"))
    few, many = wide[0], wide[-1]
    more = (many.shape.streams - few.shape.streams) * many.shape.gateways
    collector_kb = (many.rss["collector"] - few.rss["collector"]) * 1e3 / more
    report.add(Figure("scale/collector_kb_per_stream", collector_kb, "kB", note=f"{more:,} more streams"))

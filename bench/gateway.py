"""Why: a gateway is a small machine on a pole. What does it need, how much can it carry, does it keep its time?

The real process against simulated devices over TCP, a real mosquitto and a real collector writing into a real
VictoriaMetrics. Reference and floor are bare loops (bench/reference.py) against the same devices, at the same time,
each a process of its own: the reference publishes JSON and keeps nothing on disk, the floor only reads.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from bench.observer import lateness
from bench.processes import BenchFailed, Child, Meter, cpu_s, folder, rss_mb, wait_for
from bench.report import Figure, Report
from bench.sites import REGISTERS, Site
from bench.town import Hub, Running, gateway, hub, site
from contract.readings import Reason

CPU_RATIO, MAX_READINGS, RSS_MB, FIRST_S, LATE_SHARE = 0.6, 200_000.0, 60.0, 1.0, 0.1
WARM_S = 3.0
BACKLOG_S = 3.0
FACTS = Site()
BUSY = Site(ports=10, units=4, interval_s=0.01)
SHARES = (0.9, 0.9, 0.75, 0.75, 0.6, 0.6, 0.45, 0.45)  # twice each: a neighbour on the machine costs turns


def run(report: Report, *, quick: bool) -> None:
    """All figures of the gateway."""
    with folder() as where, hub(where) as town:
        _steady(report, town, 8.0 if quick else 30.0)
        _highest(report, town, 3.0 if quick else 5.0)
        _punctual(report, town, 5.0 if quick else 10.0)


def _steady(report: Report, town: Hub, seconds: float) -> None:
    """The workload of facts.md, gateway, reference and floor side by side; and how soon the first reading is stored."""
    for profile in ("balanced", "realtime"):
        with site(town, FACTS) as ports, gateway(town, FACTS, ports, f"{{profile: {profile}}}") as running:
            found = _first_stored_s(town, running)
            target = FIRST_S if profile == "balanced" else None
            report.add(Figure(f"gateway/first_reading_s/{profile}", found, "s", target=target))
    with site(town, FACTS) as ports, gateway(town, FACTS, ports) as running, ExitStack() as stack:
        rest = ["10", "1.0"]
        loop = stack.enter_context(Child("bench.reference", ["loop", str(ports[0]), str(town.broker.port), *rest]))
        reads = stack.enter_context(Child("bench.reference", ["reads", str(ports[0]), *rest]))
        for child in (loop, reads):
            child.line()
        time.sleep(WARM_S)
        meter = Meter.start(gateway=running.pid, loop=loop.pid, reads=reads.pid)
        before = {"loop": loop.ask()["readings"], "reads": reads.ask()["readings"]}
        since_ns = time.time_ns()
        time.sleep(seconds)
        cpu, until_ns = meter.cpu(), time.time_ns()
        done = {"loop": loop.ask()["readings"], "reads": reads.ask()["readings"]}
        memory_mb = rss_mb(running.pid)
        time.sleep(2)  # the last frame arrives
        seen = town.observer.look(running.name, since_ns, until_ns)
    counts = {"gateway": seen.readings, **{name: done[name] - before[name] for name in done}}
    if not counts["gateway"]:
        raise BenchFailed(f"the gateway sent nothing:\n{running.program.words()}")
    each = {name: cpu[name] / counts[name] * 1e5 for name in cpu}
    figures = (each["gateway"], each["reads"], each["loop"])
    ratio, floor, _ = (figure / each["loop"] for figure in figures)
    report.add(
        Figure("gateway/1hz/cpu_ratio_to_reference", ratio, "", target=CPU_RATIO, floor=floor, reference=1.0),
        Figure("gateway/1hz/cpu_s_per_100k", each["gateway"], "s", floor=each["reads"], reference=each["loop"]),
        Figure("gateway/1hz/payload_bytes_per_reading", seen.payload_bytes / seen.readings, "B"),
        Figure("gateway/rss_mb", memory_mb, "MB", target=RSS_MB, note="10 units x 100 registers at 1 Hz, no vision"),
    )


def _first_stored_s(town: Hub, running: Running) -> float:
    def stored() -> int | None:
        return town.observer.first_stored_ns(running.name, running.started_ns)

    wait_for(lambda: stored() is not None, 20, f"a reading is stored:\n{running.program.words()}")
    return ((stored() or 0) - running.started_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Pace:
    """What a gateway did for some seconds. backlog_s: the age of the oldest frame that waits, at the end."""

    readings_per_s: float
    cpu_s_per_100k: float
    cores: float
    overrun: int
    thinned: int
    backlog_s: float

    @property
    def sustained(self) -> bool:
        """Nothing was late for its turn, nothing was given up, and the city keeps up."""
        return not self.overrun and not self.thinned and self.backlog_s <= BACKLOG_S


def _highest(report: Report, town: Hub, seconds: float) -> None:
    """First as fast as it goes, losing turns; then ever slower until no turn is lost."""
    with site(town, BUSY) as ports:
        flat_out = _pace(town, BUSY, ports, seconds)
        report.add(
            Figure(
                "gateway/flat_out/readings_per_s",
                flat_out.readings_per_s,
                "/s",
                higher=True,
                note=f"turns are lost; {flat_out.cores:.2f} cores of the gateway",
            )
        )
        found = None
        for share in SHARES:
            each = BUSY.ports * BUSY.units * REGISTERS
            interval_s = max(0.01, round(each / (flat_out.readings_per_s * share), 5))
            pace = _pace(town, Site(BUSY.ports, BUSY.units, interval_s=interval_s), ports, seconds)
            if pace.sustained:
                found = pace
                break
        loop_per_s = _bare_rate(["loop", str(ports[0]), str(town.broker.port), "4", "0"], seconds / 2)
        reads_per_s = _bare_rate(["reads", str(ports[0]), "4", "0"], seconds / 2)
    report.add(
        Figure(
            "gateway/max/readings_per_s",
            None if found is None else found.readings_per_s,
            "/s",
            target=MAX_READINGS,
            floor=reads_per_s,
            reference=loop_per_s,
            higher=True,
            note="no turn lost, backlog stays below 3 s; 10 buses x 4 units; collector and database on the same cores",
        )
    )
    if found is not None:
        report.add(Figure("gateway/max/cpu_s_per_100k", found.cpu_s_per_100k, "s", note=f"{found.cores:.2f} cores"))
    open_streams = town.ledger()["totals"]["unexplained"]
    report.add(Figure("gateway/max/unexplained_readings", float(open_streams), "", target=0.0, note="by the ledger"))


def _bare_rate(arguments: list[str], seconds: float) -> float:
    with Child("bench.reference", arguments) as child:
        child.line()
        before = child.ask()["readings"]
        began_s = time.monotonic()
        time.sleep(seconds)
        return (child.ask()["readings"] - before) / (time.monotonic() - began_s)


def _pace(town: Hub, what: Site, ports: list[int], seconds: float) -> Pace:
    with gateway(town, what, ports) as running:
        time.sleep(WARM_S)
        began_cpu, since_ns = cpu_s(running.pid), time.time_ns()
        time.sleep(seconds)
        cpu, until_ns = cpu_s(running.pid) - began_cpu, time.time_ns()
        waits = running.outbox()["oldest_age_s"] or 0.0
        running.program.stop()
        wait_for(lambda: _arrived(town, running, until_ns), 30, "the last frame arrives")
        seen = town.observer.look(running.name, since_ns, until_ns)
    took_s = (until_ns - since_ns) / 1e9
    each = cpu / max(seen.readings, 1) * 1e5
    return Pace(seen.readings / took_s, each, cpu / took_s, seen.gaps[Reason.OVERRUN], seen.thinned, waits)


def _arrived(town: Hub, running: Running, until_ns: int) -> bool:
    return any(heard.at_ns > until_ns and heard.gateway == running.name for heard in town.observer.frames)


def _punctual(report: Report, town: Hub, seconds: float) -> None:
    """Whether every cycle comes at its time, with devices as they are."""
    cases = {
        "100x10": (Site(units=100, registers=10), "one bus, 100 units x 10 registers"),
        "10x100_mixed": (Site(ports=10, units=1, mixed=True, dead=((7, 1),)), "10 buses, gaps, all formats, one dead"),
        "dead_on_the_bus": (Site(units=10, mixed=True, dead=((0, 8),)), "one bus for all, one device dead"),
    }
    for name, (what, note) in cases.items():
        with site(town, what) as ports, gateway(town, what, ports) as running:
            time.sleep(WARM_S)
            since_ns = time.time_ns()
            time.sleep(seconds)
            until_ns = time.time_ns()
            time.sleep(2)
            seen = town.observer.look(running.name, since_ns, until_ns)
        worst = max(lateness(times, what.interval_s) for times in seen.times.values())
        lost = seen.gaps[Reason.OVERRUN]
        target = None if name == "dead_on_the_bus" else LATE_SHARE
        report.add(
            Figure(
                f"gateway/{name}/late_share",
                max(worst, 1.0) if lost else worst,
                "of a cycle",
                target=target,
                note=f"{note}; turns lost: {lost}",
            )
        )

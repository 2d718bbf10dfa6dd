"""The parts of a real city that the gateway's benchmarks share: broker, database, collector, devices, gateways.

One city serves measurements one after the other; each gateway has a name, a folder and a catalogue of its own.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from programs import Program, ask
from servers import HttpServer, InfluxDB, Mosquitto, VictoriaMetrics

from bench import processes
from bench.observer import Observer
from bench.processes import BenchFailed
from bench.sites import Site, cloud

DATABASE = "weinao"


@dataclass
class Hub:
    """The city's side, which all measurements share: broker, database, one collector, an observer."""

    where: Path
    broker: Mosquitto
    database: HttpServer
    collector: Program
    observer: Observer
    _count: int = field(default=0)

    def fresh(self) -> tuple[str, Path]:
        """A name that no gateway had, and a folder for it."""
        self._count += 1
        name = f"gw-{self._count}"
        where = self.where / name
        where.mkdir()
        return name, where

    def ledger(self) -> dict[str, Any]:
        """What the collector's ledger says."""
        answer = ask("weinao-cloud", "ledger", "cloud.yaml", "--json", folder=self.where)
        found: dict[str, Any] = json.loads(answer.stdout)
        return found


@contextmanager
def hub(where: Path, *, queryable_at_once: bool = False) -> Iterator[Hub]:
    """A city that listens. queryable_at_once: with InfluxDB; VictoriaMetrics shows points about a second later."""
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(where / "mosquitto", processes.BROKER))
        if queryable_at_once:
            database: HttpServer = stack.enter_context(InfluxDB(where / "influxdb"))
            store = f"{{kind: influxdb1, url: {database.url}, database: {DATABASE}}}"
        else:
            database = stack.enter_context(VictoriaMetrics(where / "victoria"))
            store = f"{{kind: influxdb2, url: {database.url}, bucket: {DATABASE}, reader: victoria}}"
        (where / "cloud.yaml").write_text(cloud(broker.port, store), encoding="utf-8")
        collector = stack.enter_context(processes.collector(where))
        observer = stack.enter_context(Observer(broker.port))
        yield Hub(where, broker, database, collector, observer)


@contextmanager
def site(town: Hub, what: Site) -> Iterator[list[int]]:
    """The simulated devices of a site; yields the port of each bus."""
    _, where = town.fresh()
    with processes.simulator(where, what.scenario()):
        ports = json.loads((where / "sim.json").read_text(encoding="utf-8"))["ports"]
        yield [ports[f"bus-{number}"]["port"] for number in range(what.ports)]


@dataclass
class Running:
    """A gateway that runs."""

    name: str
    where: Path
    program: Program
    started_ns: int

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.program.pid

    def outbox(self) -> dict[str, Any]:
        """What `weinao-gateway outbox --json` says."""
        answer = ask("weinao-gateway", "outbox", f"{self.name}.yaml", "--json", folder=self.where)
        if answer.returncode:
            raise BenchFailed(f"weinao-gateway outbox: {answer.stderr}")
        found: dict[str, Any] = json.loads(answer.stdout)
        return found


@contextmanager
def gateway(town: Hub, what: Site, ports: list[int], publish: str = "{}") -> Iterator[Running]:
    """A gateway for a site, started now."""
    name, where = town.fresh()
    (where / f"{name}.yaml").write_text(what.gateway(name, town.broker.port, ports, publish), encoding="utf-8")
    program = processes.gateway(where, name)
    started_ns = time.time_ns()
    with program:
        yield Running(name, where, program, started_ns)

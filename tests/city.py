"""A small city of real processes for the end-to-end tests, and the judge that compares it with the truth.

simulator (1,000 readings/s, every one unique) -> gateway -> cable -> mosquitto -> collector -> database. The judge
reads the simulator's truth file and the database itself, with nothing of the product in between.
"""

import json
import struct
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from programs import Program, ask
from servers import HttpServer, InfluxDB, Mosquitto, VictoriaMetrics
from wire import Wire

from hardware_sim import truth

UNITS = 10
VALUES = 50
INTERVAL_S = 0.5
ROOT = Path(__file__).resolve().parent.parent
Series = tuple[str, int]


class Database(Protocol):
    """Where the collector writes, as the judge sees it."""

    @property
    def server(self) -> HttpServer:
        """The database's process."""

    def config(self) -> str:
        """The `store` section of the collector's configuration."""

    def values(self) -> dict[Series, list[float]]:
        """Every stored value by device and place in the block."""


@dataclass
class Influx:
    """A database of its own in a real InfluxDB 1.x, written through /write."""

    server: InfluxDB
    name: str

    def config(self) -> str:
        return f"{{kind: influxdb1, url: {self.server.url}, database: {self.name}}}"

    def values(self) -> dict[Series, list[float]]:
        query = urllib.parse.urlencode(
            {"db": self.name, "epoch": "ns", "q": 'SELECT "value" FROM "test_load" GROUP BY "device","stream"'}
        )
        _, body = self.server.request("GET", f"/query?{query}")
        return {
            (series["tags"]["device"], int(series["tags"]["stream"][1:])): [row[1] for row in series["values"]]
            for series in json.loads(body)["results"][0].get("series", [])
        }


@dataclass
class Victoria:
    """A real VictoriaMetrics, written through the v2 API by influxdb-client; `gateway` tells runs apart."""

    server: VictoriaMetrics
    gateway: str

    def config(self) -> str:
        return f"{{kind: influxdb2, url: {self.server.url}, bucket: weinao, reader: victoria}}"

    def values(self) -> dict[Series, list[float]]:
        self.server.flush()
        match = urllib.parse.quote(f'test_load_value{{gateway="{self.gateway}"}}')
        _, body = self.server.request("GET", f"/api/v1/export?match[]={match}")
        found: dict[Series, list[float]] = {}
        for line in body.splitlines():
            series = json.loads(line)
            key = series["metric"]["device"], int(series["metric"]["stream"][1:])
            found.setdefault(key, []).extend(series["values"])
        return found


@dataclass
class Verdict:
    """What the judge found. Counts are single readings; `missing` are those no allowed window covers."""

    served: int = 0
    stored: int = 0
    twice: int = 0
    foreign: int = 0
    missing: int = 0
    excused: int = 0
    ledger: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        totals = self.ledger.get("totals", {})
        return (
            f"served {self.served}, stored {self.stored}, lost {self.missing}, twice {self.twice}, "
            f"foreign {self.foreign}, while the gateway was dead {self.excused}; "
            f"ledger expected {totals.get('expected')}, unexplained {totals.get('unexplained')}, "
            f"in flight {totals.get('in_flight')}"
        )


class City:
    """All processes of one run. Use `city(...)`."""

    def __init__(self, folder: Path, broker: Mosquitto, database: Database, cable: Wire, gateway: str) -> None:
        self.folder = folder
        self.broker = broker
        self.database = database
        self.cable = cable
        self.gateway_name = gateway
        self.dead: list[tuple[int, int]] = []
        scenario = ROOT / "hardware-sim/scenarios/load.yaml"
        self.simulator = Program(
            folder,
            "simulator",
            *("weinao-sim", "run", str(scenario), "--truth", "truth.tsv", "--ready-file", "sim.json"),
            *("--run-dir", "run"),
            ready=folder / "sim.json",
        )
        self.collector = Program(
            folder,
            "collector",
            *("weinao-cloud", "collect", "cloud.yaml", "--ready-file", "cloud.ready"),
            ready=folder / "cloud.ready",
        )
        self.gateway = Program(
            folder, "gateway", "weinao-gateway", "run", "gateway.yaml", ready=folder / "outbox" / "status.sock"
        )

    def configure(self) -> None:
        """Write both configurations; the simulator runs already."""
        port = json.loads((self.folder / "sim.json").read_text(encoding="utf-8"))["ports"]["load"]["port"]
        (self.folder / "gateway.yaml").write_text(
            gateway_yaml(self.gateway_name, self.cable.port, port), encoding="utf-8"
        )
        (self.folder / "cloud.yaml").write_text(
            f"mqtt: {{host: 127.0.0.1, port: {self.broker.port}}}\n"
            f"store: {self.database.config()}\n"
            "data: {directory: cloud}\n",
            encoding="utf-8",
        )

    def kill_gateway(self, dead_s: float) -> None:
        """kill -9, stay dead a while, start again; what was served around it is excused, if the ledger explains it."""
        # What was sampled within the last linger second and a commit had not reached the disk yet.
        began_ns = time.time_ns() - 3_000_000_000
        self.gateway.kill()
        time.sleep(dead_s)
        self.gateway.start()
        self.dead.append((began_ns, time.time_ns() + 2_000_000_000))

    def ledger(self) -> dict[str, Any]:
        """What `weinao-cloud ledger --json` says."""
        answer = ask("weinao-cloud", "ledger", "cloud.yaml", "--json", folder=self.folder)
        assert answer.returncode in {0, 1}, answer.stderr
        report: dict[str, Any] = json.loads(answer.stdout)
        return report

    def finish(self) -> Verdict:
        """Let the backlog drain, stop the gateway politely, wait until nothing is in flight, and judge."""
        self.wait(lambda: self.outbox()["frames"] <= 3, 60, "the outbox drains")
        assert self.gateway.stop() == 0, self.gateway.words()
        self.wait(lambda: bool(self.ledger()["totals"]["in_flight"] == 0), 30, "nothing is in flight")
        report = self.ledger()
        assert self.simulator.stop() == 0, self.simulator.words()
        return judge(self.folder / "truth.tsv", self.database.values(), self.dead, report)

    def outbox(self) -> dict[str, Any]:
        """What `weinao-gateway outbox --json` says."""
        answer = ask("weinao-gateway", "outbox", "gateway.yaml", "--json", folder=self.folder)
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until `condition()`; every process must stay alive meanwhile."""
        deadline_s = time.monotonic() + seconds
        while not condition():
            words = f"\n{self.gateway.words()}\n{self.collector.words()}"
            assert time.monotonic() < deadline_s, f"not within {seconds} s: {what}{words}"
            time.sleep(0.1)

    def run_for(self, seconds: float) -> None:
        """Let it work."""
        time.sleep(seconds)
        for program in (self.simulator, self.collector, self.gateway):
            assert program.alive, f"{program.name} ended by itself:\n{program.words()}"


@contextmanager
def city(
    folder: Path,
    broker: Mosquitto,
    database: Database,
    gateway: str = "gw-load",
    configured: Callable[["City"], None] = lambda _: None,
) -> Iterator[City]:
    """A city that runs; everything is ended on the way out. configured: called when the configurations are there."""
    with ExitStack() as stack:
        cable = stack.enter_context(Wire(broker.port))
        town = City(folder, broker, database, cable, gateway)
        stack.enter_context(town.simulator)
        town.configure()
        configured(town)
        stack.enter_context(town.collector)
        stack.enter_context(town.gateway)
        yield town


def gateway_yaml(name: str, mqtt_port: int, modbus_port: int) -> str:
    """A gateway that reads UNITS counters of VALUES floats every INTERVAL_S: 1,000 readings a second."""
    streams = "\n".join(
        f"          - {{name: v{i}, quantity: test_load, unit: '1', table: holding, address: {2 * i}, format: float32}}"
        for i in range(VALUES)
    )
    devices = "\n".join(
        f"      - name: load-{unit:02}\n        unit: {unit}\n        interval_s: {INTERVAL_S}\n"
        f"        streams:\n{streams}"
        for unit in range(1, UNITS + 1)
    )
    return f"""gateway:
  id: {name}
  area: {{city: test, district: east, street: first}}
  owner: Waterworks
  grade: restricted
mqtt: {{host: 127.0.0.1, port: {mqtt_port}, keepalive_s: 5, reconnect_max_s: 2}}
outbox: {{directory: outbox, max_bytes: 268435456, min_free_bytes: 0}}
publish: {{ack_timeout_s: 5}}
buses:
  - name: load
    driver: modbus
    transport: tcp
    host: 127.0.0.1
    port: {modbus_port}
    devices:
{devices}
"""


def judge(
    truth_file: Path, stored: dict[Series, list[float]], dead: list[tuple[int, int]], report: dict[str, Any]
) -> Verdict:
    """Compare every value that a device served with every value in the database."""
    verdict = Verdict(ledger=report)
    served: dict[str, dict[int, int]] = {}
    for response in truth.responses(truth_file):
        first = struct.unpack(">f", struct.pack(">HH", *response.values[:2]))[0]
        served.setdefault(response.device, {})[round(first) // 1000] = response.time_ns
    for device, reads in served.items():
        verdict.served += len(reads) * VALUES
        for index in range(VALUES):
            counted = Counter(round(value - index) // 1000 for value in stored.get((device, index), []))
            verdict.stored += counted.total()
            verdict.twice += sum(count - 1 for count in counted.values())
            verdict.foreign += len(counted.keys() - reads.keys())
            for number in reads.keys() - counted.keys():
                excused = any(begin <= reads[number] <= end for begin, end in dead)
                verdict.excused += excused
                verdict.missing += not excused
    return verdict

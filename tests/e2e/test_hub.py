"""The hub under two hundred live clients while hub, database and broker are killed in turn: nobody misses a reading.

The judge is the database: each client's readings are those that are stored of its stream, from the first that it got to
the last, each once.
"""

import calendar
import json
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from city import UNITS, VALUES, City, Influx, city
from edited_city import assert_closed
from programs import Program, ask
from servers import InfluxDB, Mosquitto, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
CLIENTS = 200
OWNER = "Waterworks"


class Hub:
    """A hub process beside the collector, and a token that may read everything."""

    def __init__(self, town: City) -> None:
        self.town = town
        self.port = free_port()
        config = town.folder / "cloud.yaml"
        config.write_text(config.read_text(encoding="utf-8") + f"hub: {{port: {self.port}}}\n", encoding="utf-8")
        words = ("token", "create", "cloud.yaml", "--department", OWNER, "--purpose", "test", "--json")
        answer = ask("weinao-cloud", *words, folder=town.folder)
        assert answer.returncode == 0, answer.stderr
        self.token = str(json.loads(answer.stdout)["token"])
        ready = town.folder / "hub.ready"
        self.process = Program(
            town.folder, "hub", "weinao-cloud", "hub", "cloud.yaml", "--ready-file", "hub.ready", ready=ready
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=10)


@contextmanager
def town_with_hub(tmp_path: Path, mosquitto: Mosquitto, influx: Influx) -> Iterator[tuple[City, Hub]]:
    with ExitStack() as stack:
        hub: Hub | None = None

        def configure(made: City) -> None:
            nonlocal hub
            hub = Hub(made)

        town = stack.enter_context(city(tmp_path, mosquitto, influx, f"gw-{tmp_path.name}"[:60], configured=configure))
        assert hub is not None
        stack.enter_context(hub.process)
        yield town, hub


def newest_ns(hub: Hub) -> int:
    """When the newest value of the first stream was measured."""
    return as_ns(hub.get("/api/v1/latest?limit=1").json()["values"][0]["time"])


def stored_times(influx: Influx) -> dict[str, set[int]]:
    """When the points of each stream were measured, by `device/stream`, ns."""
    query = urllib.parse.urlencode(
        {"db": influx.name, "epoch": "ns", "q": 'SELECT "value" FROM "test_load" GROUP BY "device","stream"'}
    )
    _, body = influx.server.request("GET", f"/query?{query}")
    return {
        f"{series['tags']['device']}/{series['tags']['stream']}": {row[0] for row in series["values"]}
        for series in json.loads(body)["results"][0]["series"]
    }


def as_ns(text: str) -> int:
    whole, _, decimals = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000 + int(decimals.ljust(9, "0"))


def test_two_hundred_live_clients_miss_nothing_whatever_is_killed(
    tmp_path: Path, mosquitto: Mosquitto, influxdb: InfluxDB
) -> None:
    influx = Influx(influxdb, influxdb.fresh_database())
    with town_with_hub(tmp_path, mosquitto, influx) as (town, hub):
        town.wait(lambda: hub.get("/api/v1/latest?limit=1").json()["total"] >= UNITS * VALUES, 30, "all is catalogued")
        names = [f"load-{1 + n % UNITS:02}/v{n // UNITS % VALUES}" for n in range(CLIENTS)]
        base = f"test/east/first/{town.gateway_name}"
        (tmp_path / "streams.txt").write_text("\n".join(f"{base}/{name}" for name in names), encoding="utf-8")
        logs = tmp_path / "clients"
        logs.mkdir()
        script = str(Path(__file__).resolve().parents[1] / "hub_clients.py")
        clients = Program(tmp_path, "clients", sys.executable, script, hub.url, hub.token, "streams.txt", str(logs))
        with clients:
            town.wait(lambda: len(list(logs.iterdir())) == CLIENTS, 30, "every client listens")
            town.run_for(4)
            hub.process.kill()
            town.run_for(2)
            hub.process.start()
            town.run_for(5)
            influxdb.kill()
            killed_ns = time.time_ns()
            town.wait(lambda: newest_ns(hub) > killed_ns, 20, "values go on while the database is away")
            assert hub.get("/api/v1/catalogue?limit=1").status_code == 200
            influxdb.start()
            town.run_for(6)
            mosquitto.kill()
            mosquitto.forget()
            town.run_for(2)
            mosquitto.start()
            town.run_for(8)
            verdict = town.finish()
            town.wait(lambda: all_caught_up(logs, names, stored_times(influx)), 30, "every client has the last reading")
            assert clients.stop() == 0
        assert_closed(verdict, at_least=10_000)
        stored = stored_times(influx)
        told = 0
        for number, name in enumerate(names):
            lines = (logs / f"{number}.log").read_text(encoding="utf-8").splitlines()
            assert not [line for line in lines if line.startswith("!")], lines
            got = [as_ns(line.split()[1]) for line in lines]
            assert len(set(got)) == len(got), f"{name} was told something twice"
            first = min(got)
            expected = {time_ns for time_ns in stored[name] if time_ns >= first}
            assert set(got) == expected, f"{name}: missed {sorted(expected - set(got))[:5]}"
            told += len(got)
        print(f"{CLIENTS} clients were told {told} readings, each one of its stream's once; {verdict}")
        purge_beside_the_collector(town, hub, influx, f"{base}/load-01/v0")


def purge_beside_the_collector(town: City, hub: Hub, influx: Influx, name: str) -> None:
    """Collector and hub are two processes: both tell of themselves, and a purge is the hub's."""
    told = ask("weinao-cloud", "status", "cloud.yaml", "--json", folder=town.folder)
    status = json.loads(told.stdout)
    assert (status["pid"], status["hub"]["pid"]) == (town.collector.pid, hub.process.pid)
    assert status["hub"]["feed"]["lost"] == 0
    count = len(stored_times(influx)["load-01/v0"])
    words = ("purge", "cloud.yaml", "--stream", name, "--reason", "test", "--by", "test", "--yes", "--wait", "1")
    purged = ask("weinao-cloud", *words, "--json", folder=town.folder)
    assert purged.returncode == 1, "the gateway is off: it cannot have confirmed"
    certificate = json.loads(purged.stdout)
    assert certificate["places"]["store"] == {"before": count, "destroyed": count, "after": 0} | {
        "detail": "points of 1 series"
    }
    assert [gateway["state"] for gateway in certificate["gateways"]] == ["pending"]
    left = stored_times(influx)
    assert "load-01/v0" not in left
    assert len(left) == UNITS * VALUES - 1
    print(f"purged beside the collector: {count} points of {name}")


def all_caught_up(logs: Path, names: list[str], stored: dict[str, set[int]]) -> bool:
    for number, name in enumerate(names):
        lines = (logs / f"{number}.log").read_text(encoding="utf-8").splitlines()
        if not lines or as_ns(lines[-1].split()[1]) != max(stored[name]):
            return False
    return True

"""Why: the city looks at the present. How old is a reading when somebody can query it, and where did the time go?

1,000 readings a second (10 units x 100 registers), profile `realtime`: from the time that the value carries, taken when
its block was read, until a query of InfluxDB shows it. Floor: one line posted to InfluxDB and queried. Reference: bare
loops without disk, batches or acknowledgement: a read, a JSON message, a write of that message (bench/reference.py).
The database is asked every few ms, so each figure is up to one such pause too high.
"""

import http.client
import json
import time
import urllib.parse
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack

from servers import HttpServer, NginxV2

from bench.observer import Heard, Observer
from bench.processes import BenchFailed, Child, folder
from bench.report import Figure, Report, quantile
from bench.sites import Site
from bench.town import DATABASE, Hub, gateway, hub, site
from contract import ack, frame

P99_MS = 500.0
PAUSE_S = 0.003
WARM_S = 3.0
FACTS = Site()
OURS = """SELECT last("count") FROM "bench_load" WHERE "stream"='v0' AND time > {since} GROUP BY "device" """
THEIRS = """SELECT last("value") FROM "bench_reference" WHERE "register"='0' AND time > {since} GROUP BY "unit" """
FLOOR = """SELECT last("value") FROM "bench_floor" WHERE time >= {since} GROUP BY "a" """
Arrivals = dict[tuple[str, int], int]


def run(report: Report, *, quick: bool) -> None:
    """All figures of latency."""
    seconds = 8.0 if quick else 30.0
    with folder() as where, hub(where, queryable_at_once=True) as town:
        floor = _floor(town.database)
        usual = _reference(town, seconds / 2)
        for profile in ("realtime", "balanced"):
            with site(town, FACTS) as ports, gateway(town, FACTS, ports, f"{{profile: {profile}}}") as running:
                time.sleep(WARM_S)
                arrivals = _watch(town.database, OURS, seconds if profile == "realtime" else seconds / 2)
                time.sleep(2)
                _tell(report, profile, arrivals, floor, usual)
                if profile == "realtime":
                    _stages(report, town.observer, running.name, arrivals)


def _tell(report: Report, profile: str, arrivals: Arrivals, floor: list[float], usual: list[float]) -> None:
    ages = [(seen_ns - time_ns) / 1e6 for (_, time_ns), seen_ns in arrivals.items()]
    if not ages:
        raise BenchFailed("the database never showed a reading")
    for share, name in ((0.5, "p50_ms"), (0.99, "p99_ms")):
        report.add(
            Figure(
                f"latency/{profile}/{name}",
                quantile(ages, share),
                "ms",
                target=P99_MS if (profile, name) == ("realtime", "p99_ms") else None,
                floor=quantile(floor, share),
                reference=quantile(usual, share),
                note=f"{len(ages)} blocks of 100 readings",
            )
        )


def _stages(report: Report, observer: Observer, gateway_name: str, arrivals: Arrivals) -> None:
    """The mean time of each part of the way."""
    acks = _stored(observer, gateway_name)
    times: dict[str, list[float]] = {"gather": [], "disk_and_uplink": [], "collector_and_store": [], "query": []}
    for heard, found in observer.decoded(gateway_name):
        stored_ns = acks.get((found.header.boot, found.header.sequence))
        if stored_ns is None:
            continue
        for time_ns, seen_ns in _blocks(found, arrivals):
            moments = (time_ns, found.header.time_base_ns, heard.at_ns, stored_ns, max(seen_ns, stored_ns))
            for name, begin, end in zip(times, moments, moments[1:], strict=False):
                times[name].append((end - begin) / 1e6)
    total = sum(sum(each) for each in times.values())
    notes = {
        "gather": "read -> the frame is closed (linger)",
        "disk_and_uplink": "-> durable, published, at the broker's subscriber",
        "collector_and_store": "-> written, in the ledger, acknowledged",
        "query": "-> seen by a query that began after the acknowledgement; 0 when it was seen before",
    }
    for name, each in times.items():
        mean = sum(each) / len(each) if each else None
        share = sum(each) / total if total else 0.0
        report.add(Figure(f"latency/realtime/stage/{name}_ms", mean, "ms", note=f"{share:.0%}: {notes[name]}"))


def _blocks(found: frame.Frame, arrivals: Arrivals) -> Iterator[tuple[int, int]]:
    """(read, seen) of each block of a frame that the database was seen to have."""
    by_time = {time_ns: seen_ns for (_, time_ns), seen_ns in arrivals.items()}
    for table in found.tables:
        for time_ns in table.times.tolist():
            if time_ns in by_time:
                yield time_ns, by_time[time_ns]


def _stored(observer: Observer, gateway_name: str) -> dict[tuple[int, int], int]:
    """When each frame was acknowledged, by boot and sequence."""
    found: dict[tuple[int, int], int] = {}
    for heard in list(observer.acks):
        if heard.gateway == gateway_name:
            _note(found, heard)
    return found


def _note(found: dict[tuple[int, int], int], heard: Heard) -> None:
    answer = ack.decode(heard.payload)
    for low, high in answer.stored:
        for sequence in range(low, high + 1):
            found.setdefault((answer.boot, sequence), heard.at_ns)


class _Asker:
    """Asks InfluxDB over one connection."""

    def __init__(self, server: HttpServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def last(self, query: str) -> Iterator[tuple[str, int]]:
        """(series, time of its last point)."""
        fields = urllib.parse.urlencode({"db": DATABASE, "epoch": "ns", "q": query})
        self._connection.request("GET", f"/query?{fields}")
        answer = json.loads(self._connection.getresponse().read())
        for series in answer["results"][0].get("series", []):
            yield next(iter(series["tags"].values()), ""), int(series["values"][0][0])


def _watch(server: HttpServer, query: str, seconds: float) -> Arrivals:
    """When each new last point of each series was seen first; what was there at the beginning is left out."""
    asker = _Asker(server)
    latest: dict[str, list[int]] = {}
    found: Arrivals = {}
    began_s = time.monotonic()
    while time.monotonic() - began_s < seconds:
        since_ns = time.time_ns() - 5_000_000_000
        shown = list(asker.last(query.format(since=since_ns)))
        now_ns = time.time_ns()
        for series, time_ns in shown:
            known = latest.setdefault(series, [time_ns])
            if bisect_left(known, time_ns) == len(known):
                known.append(time_ns)
                found[series, time_ns] = now_ns
        time.sleep(PAUSE_S)
    return found


def _floor(server: HttpServer) -> list[float]:
    """ms from a line's post to a query that shows it, one connection each."""
    server.request("POST", f"/query?q={urllib.parse.quote(f'CREATE DATABASE {DATABASE}')}")
    asker = _Asker(server)
    ages = []
    for number in range(100):
        time_ns = time.time_ns()
        server.request(
            "POST", f"/write?db={DATABASE}&precision=n", f"bench_floor,a=b value={number} {time_ns}".encode()
        )
        while not list(asker.last(FLOOR.format(since=time_ns))):
            time.sleep(0.0005)
        ages.append((time.time_ns() - time_ns) / 1e6)
    return ages


def _reference(town: Hub, seconds: float) -> list[float]:
    """ms of the bare loops: read, JSON, a write each."""
    broker = str(town.broker.port)
    database = town.database
    with ExitStack() as stack:
        ports = stack.enter_context(site(town, FACTS))
        front = stack.enter_context(NginxV2(town.where / "nginx", database))  # type: ignore[arg-type]
        collect = stack.enter_context(Child("bench.reference", ["collect", broker, front.url, DATABASE, "--each"]))
        collect.line()
        loop = stack.enter_context(Child("bench.reference", ["loop", str(ports[0]), broker, "10", "1.0"]))
        loop.line()
        time.sleep(1)
        arrivals = _watch(database, THEIRS, seconds)
    if not arrivals:
        raise BenchFailed("the reference's readings never reached the database")
    return [(seen_ns - time_ns) / 1e6 for (_, time_ns), seen_ns in arrivals.items()]

"""What a database itself takes: the same line protocol, made beforehand, posted as fast as it answers."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from servers import HttpServer

from bench.feeder import Shape, births, frames
from bench.processes import BenchFailed, Meter
from bench.wire_data import TICK_NS
from cloud.stores.base import FramePoints, Series
from cloud.stores.http import Http
from cloud.stores.lines import Lines, Prefixes
from contract.readings import Kind

BEST = (20_000, 2)  # lines a POST, connections: the fastest of 5,000, 10,000, 20,000 lines and 1, 2, 4 connections
STEADY = (0.2, 0.95)  # the part of a run that counts, as with collectors


@dataclass(frozen=True, slots=True)
class Ingest:
    """How fast some ready lines went in. cpu_s_per_100k: of the poster, in its own process; cores: of the database."""

    points_per_s: float
    cpu_s_per_100k: float
    cores: float


def bodies(shape: Shape, lines: int) -> list[bytes]:
    """The shape's points as bodies of about `lines` lines, in the order of time."""
    end_ns = time.time_ns() // TICK_NS * TICK_NS
    prefixes = Prefixes()
    points: list[list[FramePoints]] = []
    for number, one in enumerate(births(shape)):
        series = tuple(
            Series(one.path, device.name, stream.name, stream.quantity, stream.unit, Kind.FLOAT)
            for device in one.devices
            for stream in device.streams
        )
        points.append(
            [
                FramePoints(one.path, made.header.boot, made.header.sequence, made.tables, (series,))
                for made in frames(shape, one, end_ns=end_ns, seed=number)
            ]
        )
    flow = (one for round_ in zip(*points, strict=True) for one in round_)
    made_bodies = []
    while batch := list(islice(flow, max(1, lines // shape.points))):
        made = Lines(prefixes)
        for index, one_frame in enumerate(batch):
            made.add(index, one_frame)
        made_bodies.append(made.body(range(len(made))))
    return made_bodies


def ingest(server: HttpServer, database: str, shape: Shape, ready: list[bytes], connections: int) -> Ingest:
    """Post `ready`, the shape's bodies, into a database that is empty."""
    http = Http(server.url, headers={}, timeout_s=60, ca_file=None, connections=connections)
    ended_s: list[float] = []

    def post(body: bytes) -> None:
        answer = http.post("/write", {"db": database, "precision": "n"}, body)
        if not answer.ok:
            raise BenchFailed(f"{server.url} refuses the floor's lines: {answer.status} {answer.detail}")
        ended_s.append(time.monotonic())

    began_cpu, meter = time.process_time(), Meter.start(database=server.pid)
    with ThreadPoolExecutor(connections) as threads:
        list(threads.map(post, ready))
    cpu, cores = time.process_time() - began_cpu, meter.cpu()["database"] / meter.seconds()
    http.close()
    first, last = (int(share * (len(ready) - 1)) for share in STEADY)
    points = shape.frames * shape.points
    steady = points * (last - first) / len(ready) / (ended_s[last] - ended_s[first])
    return Ingest(steady, cpu / points * 1e5, cores)

"""What a database itself takes: the same line protocol, made beforehand, posted as fast as it answers."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from bench.feeder import Shape, births, frames
from bench.processes import BenchFailed
from bench.wire_data import TICK_NS
from cloud.stores.base import FramePoints, Series
from cloud.stores.http import Http
from cloud.stores.lines import Lines, Prefixes
from contract.readings import Kind


@dataclass(frozen=True, slots=True)
class Ingest:
    """The best of some ways to post. cpu_s_per_100k: of the poster, in its own process."""

    points_per_s: float
    cpu_s_per_100k: float
    how: str


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


def ingest(url: str, database: str, shape: Shape) -> Ingest:
    """Post them 5,000 and 20,000 lines at a time, over one connection and two; the fastest counts."""
    found = [
        _post(url, database, bodies(shape, lines), shape, connections, lines)
        for lines in (5_000, 20_000)
        for connections in (1, 2)
    ]
    return max(found, key=lambda one: one.points_per_s)


def _post(url: str, database: str, ready: list[bytes], shape: Shape, connections: int, lines: int) -> Ingest:
    http = Http(url, headers={}, timeout_s=60, ca_file=None, connections=connections)

    def post(body: bytes) -> None:
        answer = http.post("/write", {"db": database, "precision": "n"}, body)
        if not answer.ok:
            raise BenchFailed(f"{url} refuses the floor's lines: {answer.status} {answer.detail}")

    points = shape.frames * shape.points
    began_s, began_cpu = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(connections) as threads:
        list(threads.map(post, ready))
    took_s, cpu = time.monotonic() - began_s, time.process_time() - began_cpu
    http.close()
    return Ingest(points / took_s, cpu / points * 1e5, f"{lines:,} lines a POST, {connections} connections")

"""The hub at the size of a district: 100,000 streams in the catalogue, 1,000 live clients, 50 history queries at once.

One real hub process over files as collectors write them: births of 200 gateways, a tail that frames are put to, and an
embedded store. Clients are in processes of their own. The floor of an answer is the hub's smallest one, `/api/v1/me`:
the same server, token and socket, and nothing looked up.
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

import httpx
import numpy as np
import psutil
from cloud_frames import ScriptedGateway
from programs import BIN, Program, ask
from servers import free_port

from bench.processes import BenchFailed, cpu_s, folder, wait_for
from bench.report import Figure, Report
from cloud.births import Births
from cloud.stores.base import FramePoints, Series
from cloud.stores.embedded import EmbeddedStore
from cloud.tail import Tail
from contract.catalogue import Area, Birth, Device, Grade, Stewardship, Stream
from contract.readings import Kind, Table
from contract.topics import GatewayPath, TopicKind

GATEWAYS, DEVICES, STREAMS = 200, 10, 50
QUICK_GATEWAYS = 20
OWNERS = ("Water", "Traffic", "Parks", "Works")
CLIENTS, QUICK_CLIENTS = 1000, 100
LIVE_S, QUICK_LIVE_S = 20, 5
RATE = 1000
HISTORY_STREAMS, HISTORY_POINTS, HISTORY_CLIENTS = 50, 20_000, 50
ASKED, AT_ONCE = 600, 4
READY_S = 180
TARGET_MS = 50.0


def run(report: Report, *, quick: bool) -> None:
    """Every figure of the hub."""
    gateways = [_gateway(number) for number in range(QUICK_GATEWAYS if quick else GATEWAYS)]
    total = len(gateways) * DEVICES * STREAMS
    with folder() as where:
        _write_births(where, gateways)
        asyncio.run(_write_history(where, gateways[0]))
        feeding = _Feeding(where / "cloud" / "tail.sqlite", gateways)
        began_s = time.monotonic()
        with _hub(where) as (program, url, token), feeding:
            wait_for(lambda: _total(url, token) == total, READY_S, "the catalogue is whole")
            report.add(Figure("hub/start_s", time.monotonic() - began_s, "s", note=f"{total} streams, births anew"))
            feeding.all_once()
            wait_for(lambda: _fresh(url, token, gateways[-1]), 60, "the newest values are there")
            report.add(
                Figure("hub/rss_mb", psutil.Process(program.pid).memory_info().rss / 1e6, "MB", note=f"{total} streams")
            )
            floor = _asked(url, token, lambda _: "/api/v1/me")
            for name, address in (("catalogue", _catalogue), ("latest", _latest)):
                _tell(report, name, _asked(url, token, address), floor, TARGET_MS)
            _tell(report, "history", _history(url, token, gateways[0]), floor, None)
            _live(report, where, program.pid, url, token, feeding, quick=quick)


def _gateway(number: int) -> ScriptedGateway:
    path = GatewayPath("city", f"district{number % 10}", f"street{number % 50}", f"gw{number:03}")
    devices = []
    for device in range(DEVICES):
        streams = tuple(
            Stream(
                id=device * STREAMS + at,
                name=f"s{at:02}",
                quantity=("level", "flow", "pressure", "temperature")[at % 4],
                unit="m",
                type=Kind.FLOAT,
                resolution=0.1,
                interval_s=60,
                stewardship=Stewardship(
                    owner=OWNERS[(number + at) % 4], contact="desk", grade=list(Grade)[at % 3], shared_with=("Water",)
                ),
            )
            for at in range(STREAMS)
        )
        devices.append(Device(name=f"dev{device}", streams=streams))
    area = Area(city=path.city, district=path.district, street=path.street)
    return ScriptedGateway(
        Birth(gateway=path.gateway, area=area, devices=tuple(devices)), start_ns=time.time_ns() - 10_000_000_000
    )


def _write_births(where: Path, gateways: list[ScriptedGateway]) -> None:
    births = Births(where / "cloud" / "births.sqlite")
    with births.together():
        for gateway in gateways:
            births.take(gateway.birth.path, gateway.birth.encode())
    births.close()


async def _write_history(where: Path, gateway: ScriptedGateway) -> None:
    """Some hours of one gateway's first streams, a reading a second."""
    store = EmbeddedStore(where / "cloud" / "store.duckdb")
    await store.open()
    path = gateway.birth.path
    streams = [(device.name, stream) for device in gateway.birth.devices for stream in device.streams][:HISTORY_STREAMS]
    series = tuple(Series(path, device, one.name, one.quantity, one.unit, one.type) for device, one in streams)
    times = time.time_ns() - np.arange(HISTORY_POINTS, 0, -1, dtype=np.int64) * 1_000_000_000
    values = np.random.default_rng(1).normal(20, 1, (HISTORY_POINTS, len(series)))
    table = Table(
        Kind.FLOAT,
        np.arange(len(series), dtype=np.int32),
        times,
        values,
        np.zeros((HISTORY_POINTS, len(series)), dtype=np.uint8),
    )
    await store.write([FramePoints(path, 1, 1, (table,), (series,))])
    await store.close()


@contextmanager
def _hub(where: Path) -> Iterator[tuple[Program, str, str]]:
    port = free_port()
    (where / "cloud.yaml").write_text(
        f"mqtt: {{host: 127.0.0.1, port: {free_port()}}}\n"
        "store: {kind: embedded, path: cloud/store.duckdb}\n"
        "data: {directory: cloud}\n"
        f"hub: {{port: {port}, republish: {{enabled: false}}}}\n",
        encoding="utf-8",
    )
    words = ("token", "create", "cloud.yaml", "--department", "Water", "--purpose", "bench", "--json")
    answer = ask("weinao-cloud", *words, folder=where)
    if answer.returncode:
        raise BenchFailed(f"no token: {answer.stderr}")
    command = ["weinao-cloud", "hub", "cloud.yaml", "--ready-file", "hub.ready"]
    with Program(where, "hub", *command, ready=where / "hub.ready") as program:
        yield program, f"http://127.0.0.1:{port}", json.loads(answer.stdout)["token"]


class _Feeding:
    """Puts frames to the tail, as a collector does, in a thread with an event loop."""

    def __init__(self, file: Path, gateways: list[ScriptedGateway]) -> None:
        self._file = file
        self._gateways = gateways
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _open(self) -> None:
        self._tail = Tail(self._file, max_bytes=2**30)
        self._writing = asyncio.create_task(self._tail.run())

    async def _close(self) -> None:
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)

    def all_once(self) -> None:
        """A reading of every stream."""
        asyncio.run_coroutine_threadsafe(self._all_once(), self._loop).result()

    async def _all_once(self) -> None:
        for gateway in self._gateways:
            gateway.now_ns = time.time_ns() - 1_000_000_000
            self._put(gateway)
        await self._tail.synced()

    def for_seconds(self, seconds: float) -> int:
        """RATE readings a second, each of a stream of its own; how many."""
        return asyncio.run_coroutine_threadsafe(self._for_seconds(seconds), self._loop).result()

    async def _for_seconds(self, seconds: float) -> int:
        sent, per_frame = 0, DEVICES * STREAMS
        began_s = self._loop.time()
        while (passed_s := self._loop.time() - began_s) < seconds:
            if sent <= passed_s * RATE:
                gateway = self._gateways[sent // per_frame % len(self._gateways)]
                gateway.now_ns = time.time_ns() - 1_000_000_000  # the frame's row is now
                self._put(gateway)
                sent += per_frame
            else:
                await asyncio.sleep(0.005)
        return sent

    def _put(self, gateway: ScriptedGateway) -> None:
        self._tail.put(gateway.birth.path.topic(TopicKind.DATA), gateway.payload(1))


def _get(url: str, token: str, path: str) -> httpx.Response:
    answer = httpx.get(f"{url}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
    answer.raise_for_status()
    return answer


def _total(url: str, token: str) -> int:
    return int(_get(url, token, "/api/v1/catalogue?limit=1").json()["total"])


def _fresh(url: str, token: str, gateway: ScriptedGateway) -> bool:
    found = _get(url, token, f"/api/v1/latest?gateway={gateway.birth.gateway}&limit=1").json()["values"]
    return bool(found) and found[0]["value"] is not None


def _asked(
    url: str, token: str, address: Callable[[random.Random], str], clients: int = AT_ONCE, count: int = ASKED
) -> list[float]:
    """Milliseconds of each of `count` questions by so many clients at once, each on a connection of its own."""

    def one(seed: int) -> list[float]:
        chance, took = random.Random(seed), []
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120) as client:
            client.get("/api/v1/me")
            for _ in range(count // clients):
                path = address(chance)
                began_s = time.perf_counter()
                answer = client.get(path)
                took.append((time.perf_counter() - began_s) * 1e3)
                if answer.status_code not in {200, 429}:
                    raise BenchFailed(f"{path}: {answer.status_code} {answer.text[:200]}")
        return took

    with ThreadPoolExecutor(clients) as pool:
        return [one for part in pool.map(one, range(clients)) for one in part]


def _catalogue(chance: random.Random) -> str:
    filters = [
        f"area=city/district{chance.randrange(10)}",
        f"owner={chance.choice(OWNERS)}&quantity=level",
        f"text=gw{chance.randrange(GATEWAYS):03}",
        f"text=dev{chance.randrange(10)}/s{chance.randrange(50):02}",
        "grade=restricted",
        f"gateway=gw{chance.randrange(GATEWAYS):03}",
    ]
    return f"/api/v1/catalogue?limit=100&{chance.choice(filters)}"


def _latest(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return f"/api/v1/latest?limit=100&gateway=gw{chance.randrange(GATEWAYS):03}"
    return f"/api/v1/latest?limit=100&area=city/district{chance.randrange(10)}&quantity=flow"


def _history(url: str, token: str, gateway: ScriptedGateway) -> list[float]:
    mine = [
        f"{gateway.birth.path}/{device.name}/{one.name}"
        for device in gateway.birth.devices
        for one in device.streams
        if one.stewardship.grade is not Grade.RESTRICTED or one.stewardship.owner == "Water"
    ][:20]

    def address(chance: random.Random) -> str:
        name = quote(chance.choice(mine))
        if chance.random() < 0.5:
            return f"/api/v1/history/{name}?limit=3600"
        return f"/api/v1/history/{name}?interval=5m&aggregate=mean&aggregate=max"

    return _asked(url, token, address, HISTORY_CLIENTS, HISTORY_CLIENTS * 4)


def _live(report: Report, where: Path, pid: int, url: str, token: str, feeding: _Feeding, *, quick: bool) -> None:
    clients = QUICK_CLIENTS if quick else CLIENTS
    script = Path(__file__).with_name("hub_followers.py")
    files = [where / f"live{number}.json" for number in range(2)]
    followers = [
        subprocess.Popen(
            [
                str(BIN / "python"),
                str(script),
                url,
                token,
                str(clients // 2),
                str(number),
                str(where / f"live{number}.json"),
            ],
            stdin=subprocess.PIPE,
        )
        for number in range(2)
    ]
    try:
        wait_for(lambda: _listening(pid) >= clients, 60, "every client listens")
        before_s, began_s = cpu_s(pid), time.monotonic()
        sent = feeding.for_seconds(QUICK_LIVE_S if quick else LIVE_S)
        time.sleep(2)
        cost = (cpu_s(pid) - before_s) / (time.monotonic() - began_s)
    finally:
        for follower in followers:
            follower.communicate(b"\n", timeout=30)
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    late = [ms for one in found for ms in one["late_ms"]]
    others = sum(one["others"] for one in found)
    note = f"{clients} clients, {sent} readings passed, {len(late)} told; {others} other events"
    report.add(
        Figure("hub/live/p50_ms", float(np.percentile(late, 50)), "ms", note=note),
        Figure("hub/live/p99_ms", float(np.percentile(late, 99)), "ms", note="from the tail to the client"),
        Figure("hub/live/cores", cost, "cores", note=f"the hub, at {RATE} readings a second"),
        Figure("hub/live/rss_mb", _rss_mb(pid), "MB"),
    )


def _rss_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def _listening(pid: int) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(pid).net_connections("tcp"))


def _tell(report: Report, name: str, took: list[float], floor: list[float], target: float | None) -> None:
    p50, p99 = np.percentile(took, [50, 99])
    low, high = np.percentile(floor, [50, 99])
    report.add(
        Figure(f"hub/{name}/p50_ms", float(p50), "ms", floor=float(low), note=f"{len(took)} answers"),
        Figure(f"hub/{name}/p99_ms", float(p99), "ms", target=target, floor=float(high)),
    )


if __name__ == "__main__":
    run(Report(sys.stdout, as_json=False), quick=True)

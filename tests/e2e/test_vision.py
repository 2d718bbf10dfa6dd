"""The eyes of a gateway under everything that happens to cameras and to the processes that look, by real processes.

The gateway samples a thousand registers a second meanwhile: none may be lost, doubled, or late because of a camera.
"""

import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from cameras import MjpegServer, RtspServer
from city import INTERVAL_S, City, Influx
from edited_city import assert_closed, edited_city
from servers import InfluxDB, Mosquitto
from vision_kit import (
    PictureServer,
    camera_bus,
    captures_of,
    colour_model,
    eventually,
    footprint,
    gaps_of,
    slow_model,
    states,
    status,
    stream_of,
    with_cameras,
    worker_of,
)

from hardware_sim import truth

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
SEED = 20261123
FAULTS_EACH = 10
SECOND = 1_000_000_000
READ_TIMEOUT_S = 2.0  # a busy machine may keep a good stream waiting for more than one
LATE_S = 0.25  # half an interval: what a reading may be off, on a machine whose cores others use, too


@pytest.fixture
def influx(influxdb: InfluxDB) -> Influx:
    return Influx(influxdb, influxdb.fresh_database())


@contextmanager
def town_with(
    tmp_path: Path,
    mosquitto: Mosquitto,
    influx: Influx,
    sources: dict[str, str],
    model: Callable[[Path], Path] = colour_model,
) -> Iterator[City]:
    """A city whose gateway has these cameras, all of them live."""
    models = model(tmp_path / "models")
    buses = [camera_bus(name, url, open_timeout_s=2, read_timeout_s=READ_TIMEOUT_S) for name, url in sources.items()]
    with edited_city(tmp_path, mosquitto, influx, lambda text: with_cameras(text, models, *buses)) as town:
        wait_live(town, 30)
        yield town


def wait_live(town: City, seconds: float) -> float:
    def live() -> bool:
        found = states(status(town.folder))
        return set(found.values()) == {"ok"}

    return eventually(live, seconds, f"all cameras are live: {status(town.folder)['cameras']}")


def lateness_s(folder: Path, since_ns: int, until_ns: int) -> list[float]:
    """How much each reading of a register block was off its interval, by what the simulator served."""
    served: dict[str, list[int]] = {}
    for response in truth.responses(folder / "truth.tsv"):
        if since_ns <= response.time_ns <= until_ns:
            served.setdefault(response.device, []).append(response.time_ns)
    return sorted(abs((b - a) / 1e9 - INTERVAL_S) for times in served.values() for a, b in pairwise(times))


def assert_sensors_unharmed(town: City, since_ns: int, until_ns: int) -> None:
    late = lateness_s(town.folder, since_ns, until_ns)
    p99_s = late[len(late) * 99 // 100]
    print(f"{len(late)} readings off their time by {statistics.median(late) * 1e3:.1f} ms, p99 {p99_s * 1e3:.0f} ms")
    assert p99_s < LATE_S


def spoil(server: RtspServer, chance: random.Random) -> None:
    """One of the three: a power cut, a silence that outlasts the read timeout, a restart within a breath."""
    match chance.choice(["kill", "stall", "restart"]):
        case "kill":
            server.kill()
            time.sleep(chance.uniform(0.5, 1.0))
            server.start()
        case "stall":
            server.stall()
            time.sleep(READ_TIMEOUT_S + 0.3)
            server.go_on()
        case _:
            server.kill()
            server.start()


def test_cameras_fail_fifty_times_and_nothing_leaks(tmp_path: Path, mosquitto: Mosquitto, influx: Influx) -> None:
    """Five RTSP cameras, ten faults each; one MJPEG camera and a thousand registers a second must not notice."""
    chance = random.Random(SEED)
    with ExitStack() as stack:
        servers = [stack.enter_context(RtspServer(fps=10)) for _ in range(5)]
        steady = stack.enter_context(MjpegServer(fps=10))
        sources = {f"cam-{number}": server.url for number, server in enumerate(servers)} | {"steady": steady.url}
        town = stack.enter_context(town_with(tmp_path, mosquitto, influx, sources))
        gateway, worker = town.gateway.pid, worker_of(town.gateway.pid)
        town.run_for(3)
        before, own = footprint(worker), footprint(gateway)
        since_ns = time.time_ns()
        for number in range(5 * FAULTS_EACH):
            spoil(servers[number % 5], chance)
        until_ns = time.time_ns()
        wait_live(town, 100)  # after ten faults a camera is asked every 30 s, and an answer may come late
        town.run_for(2.5)
        after, own_after, answer = footprint(worker), footprint(gateway), status(tmp_path)
        print(f"worker {before} -> {after}; gateway {own} -> {own_after}")
        assert worker_of(gateway) == worker, "the worker was replaced: it should have lived through all of this"
        assert len(captures_of(worker)) == len(sources)
        for key in ("files", "threads", "children"):
            assert after[key] == before[key], key
            assert own_after[key] <= own[key] + 2, key  # a status request of ours, an MQTT socket
        assert after["resident_kib"] < before["resident_kib"] * 1.05 + 2048
        assert own_after["resident_kib"] < own["resident_kib"] * 1.10 + 4096
        assert answer["cameras"]["steady"]["connections"] == 1
        connections = [answer["cameras"][f"cam-{number}"]["connections"] for number in range(5)]
        print(f"connections {connections}")
        assert min(connections) >= 4
        assert_sensors_unharmed(town, since_ns, until_ns)
        verdict = town.finish()
    assert_closed(verdict, at_least=5_000)
    assert verdict.missing == 0, str(verdict)
    for number in range(5):
        for stream, gaps in gaps_of(verdict.ledger, f"cam-{number}"):
            if stream == "occupancy.half":
                print(stream, gaps)
                assert set(gaps) <= {"timeout", "disconnected", "not_seen", "silent"}
                assert sum(gaps.values()) >= 1, "a fault shorter than an interval makes it half seen, not a gap"


def worker_killed(town: City) -> float:
    """kill -9 of the vision worker; how long it may take until it is replaced."""
    os.kill(worker_of(town.gateway.pid), signal.SIGKILL)
    return 15


def worker_stopped(town: City) -> float:
    """A worker that hangs: it is not heard any more, and that is noticed."""
    os.kill(worker_of(town.gateway.pid), signal.SIGSTOP)
    return 35


def capture_killed(town: City) -> float:
    """kill -9 of a capture process: the worker's own business."""
    os.kill(captures_of(worker_of(town.gateway.pid))[0], signal.SIGKILL)
    return 10


def test_the_processes_that_look_fail(tmp_path: Path, mosquitto: Mosquitto, influx: Influx) -> None:
    """Whoever of them dies or hangs is replaced, the hole is explained, and registers are read all the while."""
    with ExitStack() as stack:
        sources = {
            "rtsp": stack.enter_context(RtspServer(fps=10)).url,
            "mjpeg": stack.enter_context(MjpegServer(fps=10)).url,
        }
        town = stack.enter_context(town_with(tmp_path, mosquitto, influx, sources))
        town.run_for(3)
        since_ns = time.time_ns()
        for fault in (capture_killed, worker_killed, worker_stopped):
            worker = worker_of(town.gateway.pid)
            _fail(town, fault)
            assert (worker_of(town.gateway.pid) == worker) == (fault is capture_killed)
        until_ns = time.time_ns()
        town.run_for(2.5)
        assert len(captures_of(worker_of(town.gateway.pid))) == 2
        assert_sensors_unharmed(town, since_ns, until_ns)
        verdict = town.finish()
    assert_closed(verdict, at_least=5_000)
    assert verdict.missing == 0, str(verdict)
    for name in sources:
        gaps = dict(gaps_of(verdict.ledger, name))["coverage"]
        print(name, gaps)
        # Only the worker's own absence makes a gap of what a camera says of itself.
        assert set(gaps) <= {"disconnected", "silent"}
        assert sum(gaps.values()) >= 5
    assert not Path(f"/proc/{worker}").exists()


def _fail(town: City, fault: Callable[[City], float]) -> None:
    worker = worker_of(town.gateway.pid)
    patience_s = fault(town)
    if fault is capture_killed:
        eventually(
            lambda: any(camera.get("restarts") for camera in status(town.folder)["cameras"].values()),
            patience_s,
            "the capture is started again",
        )
    else:
        eventually(lambda: not Path(f"/proc/{worker}").exists(), patience_s, "the worker is gone")
    took_s = wait_live(town, patience_s)
    print(f"{fault.__name__}: live again {took_s:.1f} s later")


def test_a_stalled_camera_is_an_explained_gap_within_five_seconds(
    tmp_path: Path, mosquitto: Mosquitto, influx: Influx
) -> None:
    """And one that repeats its picture within thirty; other cameras count on."""
    with ExitStack() as stack:
        rtsp, frozen = stack.enter_context(RtspServer(fps=10)), stack.enter_context(PictureServer())
        steady = stack.enter_context(MjpegServer(fps=10))
        sources = {"stalls": rtsp.url, "freezes": frozen.url, "steady": steady.url}
        town = stack.enter_context(town_with(tmp_path, mosquitto, influx, sources))
        town.run_for(5)
        assert stream_of(status(tmp_path), "stalls", "crossings.middle.left")["quality"] == "good"
        frozen.freeze.set()
        froze_s = time.monotonic()
        rtsp.stall()
        took_s = eventually(lambda: gap_of(tmp_path, "stalls") == "timeout", 5, "the stalled camera's count is a gap")
        assert status(tmp_path)["cameras"]["stalls"]["state"] in {"stalled", "away"}
        assert "sent no picture" in status(tmp_path)["cameras"]["stalls"]["error"]
        rtsp.go_on()
        left_s = 30 - (time.monotonic() - froze_s)
        eventually(lambda: gap_of(tmp_path, "freezes") == "camera_blind", left_s, "the frozen picture is found")
        print(f"stalled: {took_s:.1f} s; frozen: {time.monotonic() - froze_s:.1f} s")
        assert states(status(tmp_path))["freezes"] == "frozen"
        frozen.freeze.clear()
        wait_live(town, 30)
        assert gap_of(tmp_path, "steady") == ""
        verdict = town.finish()
    assert_closed(verdict, at_least=5_000)
    assert dict(gaps_of(verdict.ledger, "freezes"))["crossings.middle.left"].keys() >= {"camera_blind"}
    assert dict(gaps_of(verdict.ledger, "stalls"))["crossings.middle.left"].keys() >= {"timeout"}
    assert set(dict(gaps_of(verdict.ledger, "steady"))["crossings.middle.left"]) <= {"not_seen"}


def test_under_overload_cameras_share_evenly_and_registers_keep_their_time(
    tmp_path: Path, mosquitto: Mosquitto, influx: Influx
) -> None:
    """Three cameras ask for fifteen looks a second of a model that can do a few."""
    with ExitStack() as stack:
        sources = {f"cam-{number}": stack.enter_context(PictureServer()).url for number in range(3)}
        town = stack.enter_context(town_with(tmp_path, mosquitto, influx, sources, slow_model))
        worker = worker_of(town.gateway.pid)
        town.run_for(4)
        before, since_ns = footprint(worker), time.time_ns()
        first = status(tmp_path)["cameras"]
        town.run_for(15)
        after, until_ns, answer = footprint(worker), time.time_ns(), status(tmp_path)
        dropped = [camera["dropped"] - first[name]["dropped"] for name, camera in answer["cameras"].items()]
        took_ms = answer["cameras"]["cam-0"]["inference_ms"]
        print(f"{took_ms} ms a look, dropped {dropped}, worker {before} -> {after}")
        assert took_ms > 100, "the model is not slow enough for this test on this machine"
        assert min(dropped) > 15, "of 75 looks that each camera would have had"
        assert max(dropped) - min(dropped) <= 8
        assert after["resident_kib"] < before["resident_kib"] + 4096
        assert stream_of(answer, "cam-0", "frames_dropped")["value"] > 0
        assert_sensors_unharmed(town, since_ns, until_ns)
        verdict = town.finish()
    assert_closed(verdict, at_least=5_000)
    assert verdict.missing == 0, str(verdict)


def gap_of(folder: Path, camera: str) -> str:
    """Why the newest count of a camera is not there; nothing when it is."""
    found = stream_of(status(folder), camera, "crossings.middle.left")
    return found["reason"] if found["quality"] == "missing" else ""

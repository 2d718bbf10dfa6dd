"""Speed: what a camera costs beside bare decoding and inference, how late its counts are, and what reconnecting leaves.

A whole vision worker with its capture and the bare loop of bench/vision_floor.py look at the same film at the same
time, each over its own RTSP connection, at the pace of the film: both are charged what waking up between two frames
costs. Traffic is dense, so that the motion gate saves nothing. The films are H.264 of a constant quantizer (x264
`veryfast`, QP 23, a key frame a second, one slice).
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.processes import ROOT, BenchFailed, Child, Meter, folder, gateway, wait_for
from bench.report import Figure, Report, quantile
from bench.town import Hub, hub
from bench.vision_film import MODEL, camera_of
from bench.vision_live import LiveWorker, bus_of
from hardware_sim.street.clip import make_clip
from hardware_sim.street.gst import ClipServer
from hardware_sim.street.scenes import make_scene

SEED = 7901
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
RUNS = (("720p", 15), ("1080p", 15), ("1080p", 5))
SECONDS, QUICK_SECONDS, WARM_S = 30.0, 8.0, 5.0
RATIO, CORES, P95_MS, GROWTH = 1.25, {5: 0.1, 15: 0.3}, 300.0, 1.0
PUBLISH_FPS = 15
PUBLISH_S, QUICK_PUBLISH_S = 40.0, 10.0
RECONNECTS, QUICK_RECONNECTS, EACH = 1000, 100, 50
MODEL_FILE = str(ROOT / "models" / f"{MODEL}.onnx")


def run(report: Report, *, quick: bool) -> None:
    """Every figure of speed."""
    with folder() as where:
        ratios = []
        for name, fps in RUNS:
            film, head = _film(where, name, fps, (QUICK_SECONDS if quick else SECONDS) + 2 * WARM_S + 5)
            cost = _cost(film, head, fps, QUICK_SECONDS if quick else SECONDS)
            ratios.append(_tell_cost(report, f"{name}_{fps}fps", cost, _flat_out(film)))
            if name == "1080p":
                note = "capture and vision worker; the camera sends as many frames as are looked at"
                target = CORES[fps]
                report.add(Figure(f"vision/speed/cores_at_1080p_{fps}fps", cost.cores, "cores", target, note=note))
        note = "the worst of the runs above"
        report.add(Figure("vision/speed/ratio_to_floor", max(ratios), "of the floor", target=RATIO, note=note))
        _tell_published(report, where, QUICK_PUBLISH_S if quick else PUBLISH_S)
        _tell_reconnects(report, where, QUICK_RECONNECTS if quick else RECONNECTS)


def _film(where: Path, name: str, fps: int, seconds: float) -> tuple[Path, dict[str, object]]:
    """A film of dense traffic and the first line of its truth."""
    file, truth = where / f"{name}-{fps}.mp4", where / f"{name}-{fps}.jsonl"
    make_clip(make_scene("dense", SEED, SIZES[name]), file, truth, seconds=seconds, fps=fps)
    with truth.open(encoding="utf-8") as lines:
        head: dict[str, object] = json.loads(lines.readline())
    return file, head


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU ms a frame of capture, worker and floor; cores of the first two."""

    capture_ms: float
    worker_ms: float
    floor_ms: float
    cores: float


def _cost(film: Path, head: dict[str, object], fps: int, seconds: float) -> Cost:
    """Both at once."""
    with ExitStack() as stack:
        server = stack.enter_context(ClipServer(film))
        worker = stack.enter_context(LiveWorker([bus_of(camera_of(head, fps=fps), server.url)]))
        bare = stack.enter_context(Child("bench.vision_floor", [server.url, MODEL_FILE]))
        bare.line()
        worker.wait_live()
        time.sleep(WARM_S)
        pid, *captures = worker.family()
        meter = Meter.start(
            worker=pid, floor=bare.pid, **{f"capture{number}": one for number, one in enumerate(captures)}
        )
        before, bare_before = _captured(worker), bare.ask()["frames"]
        time.sleep(seconds)
        spent, passed_s = meter.cpu(), meter.seconds()
        frames, bare_frames = _captured(worker) - before, bare.ask()["frames"] - bare_before
    if not frames or not bare_frames:
        raise BenchFailed("the film ended too soon")
    # The worker tells its frames once a second, so time says more exactly how many there were.
    frames = round(passed_s * fps) if abs(frames - passed_s * fps) <= fps else frames
    captured = sum(value for name, value in spent.items() if name.startswith("capture"))
    cores = (captured + spent["worker"]) / passed_s
    return Cost(captured / frames * 1e3, spent["worker"] / frames * 1e3, spent["floor"] / bare_frames * 1e3, cores)


def _captured(worker: LiveWorker) -> int:
    last = worker.last(0)
    return 0 if last is None else last.captured


def _flat_out(film: Path) -> dict[str, float]:
    """The floor's parts without pauses."""
    command = [sys.executable, "-m", "bench.vision_floor", "--flat-out", str(film), MODEL_FILE]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BenchFailed(f"the floor: {answer.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def _tell_cost(report: Report, name: str, cost: Cost, flat: dict[str, float]) -> float:
    """A run's row; how many times the floor it is."""
    whole_ms = cost.capture_ms + cost.worker_ms
    note = f"capture {cost.capture_ms:.1f}, worker {cost.worker_ms:.1f}; flat out the floor is "
    note += f"{flat['decode_ms']:.1f} + {flat['infer_ms']:.1f}"
    report.add(Figure(f"vision/speed/{name}/cpu_ms_a_frame", whole_ms, "ms", floor=cost.floor_ms, note=note))
    return whole_ms / cost.floor_ms


@contextmanager
def _watched(town: Hub, url: str, head: dict[str, object]) -> Iterator[str]:
    """A gateway with one camera, and its name."""
    name, where = town.fresh()
    camera = camera_of(head, fps=PUBLISH_FPS, interval_s=1.0)
    bus = bus_of(camera, url).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    bus["devices"] = [camera.model_dump(mode="json", exclude={"streams"}, exclude_none=True, exclude_defaults=True)]
    config = {
        "gateway": {"id": name, "area": {"city": "bench", "district": "east", "street": "first"}},
        "mqtt": {"host": "127.0.0.1", "port": town.broker.port},
        "outbox": {"directory": name, "min_free_bytes": 0},
        "publish": {"profile": "realtime"},
        "vision": {"models": str(ROOT / "models")},
        "buses": [bus],
    }
    (where / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with gateway(where, name):
        yield name


def _tell_published(report: Report, where: Path, seconds: float) -> None:
    """From the end of an interval to its counts at a subscriber of the broker."""
    home = where / "town"
    home.mkdir()
    film, head = _film(where, "1080p", PUBLISH_FPS, seconds + 10)
    with hub(home) as town, ClipServer(film) as server, _watched(town, server.url, head) as name:
        wait_for(lambda: len(_ages_ms(town, name)) >= 2, 30, "a camera's counts are published")
        first = len(_ages_ms(town, name))
        time.sleep(seconds)
        ages = _ages_ms(town, name)[first:]
    note = (
        f"{len(ages)} intervals of 1 s, profile realtime; from the interval's end, so with the wait for the frame that"
    )
    note += f" closes it, up to {1000 / PUBLISH_FPS:.0f} ms at {PUBLISH_FPS} fps"
    report.add(Figure("vision/speed/publish_p95_ms", quantile(ages, 0.95), "ms", target=P95_MS, note=note))
    report.add(Figure("vision/speed/publish_p50_ms", quantile(ages, 0.5), "ms"))


def _ages_ms(town: Hub, name: str) -> list[float]:
    """How old each interval of the camera was when a subscriber had it."""
    birth = town.observer.births.get(name)
    if birth is None:
        return []
    mine = {stream.id for device in birth.devices if device.name == "street" for stream in device.streams}
    return [
        (heard.at_ns - time_ns) / 1e6
        for heard, found in town.observer.decoded(name)
        for table in found.tables
        if mine & set(table.streams.tolist())
        for time_ns in table.times.tolist()
    ]


def _tell_reconnects(report: Report, where: Path, count: int) -> None:
    """Memory of a capture and its keeper, after the first fifty connections and after all."""
    film = where / "short.mp4"
    make_clip(make_scene("free-flow", SEED, (640, 360)), film, where / "short.jsonl", seconds=0.2, fps=25)
    said: list[dict[str, float]] = []
    with ClipServer(film) as server:
        command = ["bench.vision_reconnects", [server.url, str(count), str(EACH)]]
        with Child(str(command[0]), list(command[1])) as child:
            while len(said) < count // EACH:
                said.append(json.loads(child.line()))
    first, last = said[0]["rss_mb"], said[-1]["rss_mb"]
    note = f"{first:.2f} MB after {EACH}, {last:.2f} after {count}: capture process and its keeper"
    figure = 100 * (last / first - 1)
    report.add(Figure("vision/speed/reconnect_growth", figure, "%", target=GROWTH, note=note))

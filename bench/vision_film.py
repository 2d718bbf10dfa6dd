"""One drawn street, looked at as a gateway looks: drawn, encoded as H.264, decoded, painted, judged, tracked, counted.

`python -m bench.vision_film` works off tasks of bench/vision_pool.py. From the H.264 on everything is the gateway's own
code (painter, health, motion gate, detector, tracker, counter), called in the order of edge/vision/eye.py; only the
processes, the network and the clock are left out, so that five minutes of street take one. bench/vision_street.py
shows some of the same films to a whole worker over RTSP beside it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.processes import ROOT, folder
from bench.vision_pool import Task, serve
from bench.vision_scores import Verdicts, judge_boxes
from drivers.base_camera import THUMBNAIL, CameraDeviceSpec, Look
from drivers.camera_picture import Painter
from drivers.camera_ring import Slot, fit
from edge.vision.eye import in_picture
from edge.vision.lines import Crossing
from edge.vision.watcher import Watcher
from hardware_sim.street.clip import make_clip
from hardware_sim.street.conditions import Spoil
from hardware_sim.street.scenes import make_scene
from models import registry
from models.detector import Detector
from models.train.labels import MIN_HEIGHT_PX, MIN_VISIBLE, MIN_WIDTH_PX

MODEL = "street-small"
SIZE, FPS = (960, 540), 5
SECOND = 1_000_000_000
START_NS = 1000 * SECOND
WARM_S = 3.0
"""A counter that begins in the middle of traffic is asked for nothing before."""
INTERVAL_S = 15.0
SAMPLE_EACH = 10
"""One look of as many is also asked for all it can find, for average precision."""
LOWEST_SCORE = 0.02
LEAST_PX, LEAST_VISIBLE = (MIN_WIDTH_PX, MIN_HEIGHT_PX), MIN_VISIBLE
"""Width and height in the canvas, and the share that nothing hides: smaller things are neither asked for nor held
against the detector, as its card says."""


@dataclass
class Seen:
    """What came of a film. truth, said: [line, direction, class, seconds]. intervals: [from, to, share seen, gap].

    boxes: by class, [scores, right, wanted] of average precision. states: words of the camera's health, in order.
    """

    truth: list[list[Any]] = field(default_factory=list)
    said: list[list[Any]] = field(default_factory=list)
    intervals: list[list[Any]] = field(default_factory=list)
    boxes: dict[str, list[Any]] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)
    looks: int = 0


def camera_of(head: dict[str, Any], **more: Any) -> CameraDeviceSpec:
    """The configuration of a camera for a scene, from the first line of its truth."""
    lines = [{key: line[key] for key in ("name", "a", "b", "directions")} for line in head["lines"]]
    streams: list[dict[str, Any]] = [{"measure": "coverage"}]
    streams += [
        {"measure": "crossings", "line": line["name"], "direction": way} for line in lines for way in line["directions"]
    ]
    made = {"name": "street", "detector": MODEL, "fps": FPS, "interval_s": INTERVAL_S, "lines": lines}
    return CameraDeviceSpec.model_validate({**made, "ground": head["ground"], "streams": streams, **more})


def film(task: Task, detector: Detector) -> Seen:
    """Draw the film of a task and look at it. keep: where its files shall stay."""
    scene = make_scene(task["scene"], task["seed"], SIZE)
    spoils = {Spoil(name): grade for name, grade in task["spoils"].items()}
    with folder() as where:
        kept = Path(task["keep"]) if task.get("keep") else where
        file, truth = kept / "film.mp4", kept / "truth.jsonl"
        make_clip(scene, file, truth, seconds=WARM_S + task["seconds"], fps=FPS, spoils=spoils)
        head, *moments = (json.loads(line) for line in truth.read_text(encoding="utf-8").splitlines())
        seen = _Viewer(camera_of(head), detector).watch(file, moments)
    seen.truth = [passage for moment in moments for passage in passages_of(moment)]
    return seen


def passages_of(moment: dict[str, Any]) -> Iterator[list[Any]]:
    """[line, direction, class, seconds] of what crossed in a frame: the middle of the bottom edge of its box."""
    for one in moment.get("crossings", ()):
        if one["of"] == "box":
            yield [one["line"], one["direction"], one["kind"], one["t_s"]]


class _Viewer:
    """A gateway's eye for one film."""

    def __init__(self, spec: CameraDeviceSpec, detector: Detector) -> None:
        self._spec = spec
        self._detector = detector
        width, height = detector.input_size
        canvas = np.zeros((height, width, 3), np.uint8)
        self._slot = Slot(np.zeros(8, np.int64), canvas, np.zeros(THUMBNAIL[::-1], np.uint8))
        self._painter = Painter(detector.input_size, THUMBNAIL, spec.masks)
        self._watcher = Watcher(spec, detector.classes, aspect=SIZE[0] / SIZE[1])
        self._verdicts = {name: Verdicts() for name in detector.classes}
        self._open: list[Crossing] = []
        self._seen = Seen()

    def watch(self, file: Path, moments: list[dict[str, Any]]) -> Seen:
        """Look at every frame of a file."""
        interval_ns = round(INTERVAL_S * SECOND)
        ends_ns = START_NS + round(WARM_S * SECOND) + interval_ns
        began = False
        for number, (picture, moment) in enumerate(zip(frames(file), moments, strict=True)):
            time_ns = START_NS + number * SECOND // FPS
            if not began and time_ns >= ends_ns - interval_ns:
                began = True
                self._watcher.begin(ends_ns - interval_ns, ends_ns)
            while began and time_ns >= ends_ns:
                self._close(ends_ns - interval_ns, ends_ns)
                ends_ns += interval_ns
            self._look(number, time_ns, picture)
            if number % SAMPLE_EACH == 0:
                self._judge(moment)
        end_ns = START_NS + len(moments) * SECOND // FPS
        if ends_ns - end_ns < SECOND // FPS:
            self._close(ends_ns - interval_ns, ends_ns)
        self._settle()
        self._seen.boxes = {name: [one.scores, one.right, one.wanted] for name, one in self._verdicts.items()}
        return self._seen

    def _look(self, number: int, time_ns: int, picture: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self._painter.paint(picture, self._slot)
        size = (picture.shape[1], picture.shape[0])
        place = fit(size, self._detector.input_size)
        slot = self._slot
        look = Look(slot.canvas, slot.thumbnail, time_ns, 0, number, 0, place.scale, place.pad, size)
        wanted = self._watcher.glance(time_ns, look.thumbnail)
        state = self._watcher.health.verdict.state.value
        if not self._seen.states or self._seen.states[-1] != state:
            self._seen.states.append(state)
        if not wanted:
            return
        self._seen.looks += 1
        found = self._detector.detect(look.canvas, self._spec.confidence)
        boxes = in_picture(found, look)
        self._open += self._watcher.see(time_ns, boxes, found.scores.astype(np.float64), found.classes)

    def _close(self, from_ns: int, to_ns: int) -> None:
        """End an interval. Only then is the class of what crossed in it decided."""
        coverage, *counts = self._watcher.close(from_ns, to_ns)
        share = coverage.value if isinstance(coverage.value, float) else 0.0
        times = [(edge_ns - START_NS) / SECOND for edge_ns in (from_ns, to_ns)]
        self._seen.intervals.append([*times, share, any(one.value is None for one in counts)])
        self._settle()

    def _settle(self) -> None:
        for one in self._open:
            line = self._spec.lines[one.line]
            kind = self._detector.classes[one.track.kind]
            self._seen.said.append([line.name, line.directions[one.direction], kind, (one.time_ns - START_NS) / SECOND])
        self._open.clear()

    def _judge(self, moment: dict[str, Any]) -> None:
        """The detector alone on this picture, every class by itself."""
        found = self._detector.detect(self._slot.canvas, LOWEST_SCORE)
        place = fit(SIZE, self._detector.input_size)
        objects = moment["objects"]
        boxes = np.array([one[2:6] for one in objects]).reshape(-1, 4) * place.scale + (*place.pad, *place.pad)
        sides = boxes[:, 2:] - boxes[:, :2]
        hidden = np.array([one[6] < LEAST_VISIBLE for one in objects], np.bool_)
        ignore = hidden | (sides < LEAST_PX).any(axis=1)
        for kind, name in enumerate(self._detector.classes):
            mine, real = found.classes == kind, np.array([one[1] == name for one in objects], np.bool_)
            said, scores = found.boxes[mine].astype(np.float64), found.scores[mine].astype(np.float64)
            self._verdicts[name].add(judge_boxes(said, scores, boxes[real], ignore[real]))


def frames(file: Path) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Every picture of a file, by the gateway's decoder; each is valid until the next. Raises OSError."""
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise OSError(f"{file} cannot be decoded")
    picture = None
    try:
        while True:
            ok, picture = capture.read(picture)
            if not ok:
                return
            yield np.asarray(picture, np.uint8)
    finally:
        capture.release()


def main() -> None:
    """Work off tasks."""
    cv2.setNumThreads(1)
    detector = registry.load(ROOT / "models", MODEL)

    def work(task: Task) -> Any:
        seen = film(task, detector)
        return {name: getattr(seen, name) for name in Seen.__dataclass_fields__}

    serve(work)


if __name__ == "__main__":
    main()

"""Eyes without cameras: a capture that shows what a test puts before it, a finder that takes what time it is told."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from drivers.base_camera import CameraBusSpec, CaptureState, CaptureStatus, Grey, Look, Picture
from models.boxes import Detections

SECOND = 1_000_000_000
CANVAS = (64, 36)
LIVE = CaptureStatus(CaptureState.LIVE, "", captured=0, skipped=0, connections=1, restarts=0, last_frame_ns=0)


class Now:
    """A time that passes when it is told to."""

    def __init__(self, ns: int = 1000 * SECOND) -> None:
        self.ns = ns

    def __call__(self) -> int:
        return self.ns

    def seconds(self) -> float:
        return self.ns / SECOND

    def wait(self, seconds: float) -> None:
        self.ns += round(seconds * SECOND)


class ShownCapture:
    """Implements drivers.base_camera.Capture: has the looks that `show` gave it, the newest alone."""

    def __init__(self, size: tuple[int, int] = (640, 360)) -> None:
        self.size = size
        self.now = LIVE
        self.closed = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._look: Look | None = None
        self.draw: Callable[[], Grey] = self.noise
        self._chance = np.random.default_rng(1)

    def noise(self) -> Grey:
        """A thumbnail in which something always moves."""
        return self._chance.integers(0, 255, (180, 320), dtype=np.uint8)

    def show(self, time_ns: int) -> None:
        """A new picture as `draw` draws it."""
        waiting = self._look is not None
        captured = self.now.captured + 1
        self.now = replace(
            self.now, captured=captured, last_frame_ns=time_ns, dropped=self.now.dropped + waiting, skipped=0
        )
        thumbnail = self.draw()
        canvas = np.zeros((CANVAS[1], CANVAS[0], 3), np.uint8)
        scale = CANVAS[0] / self.size[0]
        self._look = Look(canvas, thumbnail, time_ns, 0, captured, 0, scale, (0, 0), self.size)
        os.eventfd_write(self._bell, 1)

    def fileno(self) -> int:
        return self._bell

    def look(self) -> Look | None:
        look, self._look = self._look, None
        if look is not None:
            os.eventfd_read(self._bell)
        return look

    def status(self) -> CaptureStatus:
        return self.now

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._bell)


@dataclass
class SetFinder:
    """Finds `boxes` (canvas pixels) in every picture. work: called at each, to let time pass."""

    boxes: list[list[float]] = field(default_factory=list)
    work: Callable[[], None] = lambda: None
    asked: int = 0
    classes: tuple[str, ...] = ("person", "car")
    input_size: tuple[int, int] = CANVAS

    def detect(self, canvas: Picture, confidence: float | None = None) -> Detections:
        assert canvas.shape == (CANVAS[1], CANVAS[0], 3)
        del confidence
        self.asked += 1
        self.work()
        count = len(self.boxes)
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        return Detections(boxes, np.full(count, 0.9, np.float32), np.ones(count, np.int64), 0)


def spec_of(name: str = "cam", **camera: object) -> CameraBusSpec:
    """A camera with a line in the middle and a zone that is everything; intervals of two seconds."""
    device = {
        "name": name,
        "detector": "any",
        "interval_s": 2,
        "lines": [{"name": "middle", "a": [0.5, 0.0], "b": [0.5, 1.0], "directions": ["left", "right"]}],
        "zones": [{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}],
        **camera,
    }
    return CameraBusSpec.model_validate(
        {"name": f"bus-{name}", "driver": "camera", "source": "rtsp://192.0.2.1/", "devices": [device]}
    )

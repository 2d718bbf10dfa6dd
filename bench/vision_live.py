"""A whole vision worker with its captures, as a gateway starts it, and everything it says: nothing of it is replaced.

The benchmark stands where the gateway would: it writes the order and reads the lines (edge/vision/wire.py).
"""

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import psutil

from bench.processes import ROOT, BenchFailed, wait_for
from drivers.base_camera import CameraBusSpec, CameraDeviceSpec
from edge.vision.bus import COMMAND
from edge.vision.wire import CameraOrder, Closed, Order, Refused, Said, Seen, decode, encode_order

SECOND = 1_000_000_000
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A line of the worker, and when it came (CLOCK_BOOTTIME, ns)."""

    at_ns: int
    said: Said


def bus_of(camera: CameraDeviceSpec, url: str, **more: Any) -> CameraBusSpec:
    """The connection to one camera."""
    made = {"name": f"bus-{camera.name}", "driver": "camera", "source": url, "devices": [camera.model_dump()]}
    return CameraBusSpec.model_validate({**made, **more})


class LiveWorker:
    """The worker of some cameras. A context manager. Raises BenchFailed when it refuses its order."""

    def __init__(self, buses: Sequence[CameraBusSpec]) -> None:
        self.heard: list[Heard] = []
        self._order = Order(
            [CameraOrder(bus.model_dump(mode="json"), 0, None) for bus in buses], str(ROOT / "models"), "cpu"
        )
        self._count = len(buses)
        self._process: subprocess.Popen[bytes] | None = None
        self._ear: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(encode_order(self._order) + b"\n")
        self._process.stdin.flush()
        self._ear = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._ear.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._ear is not None:
            self._ear.join(5)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout as lines:
            for line in lines:
                self.heard.append(Heard(now_ns(), decode(line)))

    @property
    def pid(self) -> int:
        """Of the worker."""
        if self._process is None or self._process.poll() is not None:
            raise BenchFailed("the vision worker has ended")
        return self._process.pid

    def family(self) -> list[int]:
        """The worker and its captures."""
        return [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]

    def wait_live(self) -> None:
        """Until every camera shows something."""
        wait_for(lambda: all(self._live(number) for number in range(self._count)), START_S, "every camera is live")

    def _live(self, camera: int) -> bool:
        for one in self.heard:
            if isinstance(one.said, Refused):
                raise BenchFailed("; ".join(one.said.problems))
        last = self.last(camera)
        return last is not None and last.last_frame_ns > 0 and last.state not in {"connecting", "away", "stalled"}

    def last(self, camera: int) -> Seen | None:
        """The newest word on a camera."""
        return next(
            (one.said for one in reversed(self.heard) if isinstance(one.said, Seen) and one.said.camera == camera), None
        )

    def intervals(self, camera: int) -> list[Heard]:
        """The intervals of a camera that have ended."""
        return [one for one in list(self.heard) if isinstance(one.said, Closed) and one.said.camera == camera]


def now_ns() -> int:
    """CLOCK_BOOTTIME, ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

"""Why: before a camera counts anything, a technician wants to know whether it shows anything, in words he can act on.

A probe opens a capture, waits for the first picture, watches for two seconds and says what came. No model is loaded.
"""

import asyncio
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from drivers.base_camera import (
    THUMBNAIL,
    CameraBusSpec,
    Capture,
    CaptureState,
    CaptureStatus,
    Grey,
    OpenCapture,
    StreamClock,
)
from edge.vision.health import BLACK_DEVIATION, BURNT
from edge.vision.scene import features

START_S = 10.0
"""For the capture process to start on a slow board, beyond the camera's own timeouts."""
WATCH_S = 2.0
_SLICE_S = 0.1
BRIGHT_MEAN = 235.0
"""Grey level of a picture that is too bright to find anything in."""

_CLOCKS = {
    StreamClock.NONE: "its stream has no clock, or has not been watched for long enough: pictures are dated on arrival",
    StreamClock.GOOD: "its stream's clock is good",
    StreamClock.WRONG: "its stream's clock runs wrong and is not followed: check the camera's time settings",
}


@dataclass(frozen=True, slots=True)
class Sight:
    """What a camera showed. problem: why nothing came, one sentence. first_ms: from opening it to the first picture.

    size: width and height of its pictures. fps: pictures it sends a second. hints: what is wrong with them.
    """

    problem: str = ""
    first_ms: float | None = None
    size: tuple[int, int] = (0, 0)
    fps: float = 0.0
    clock: StreamClock = StreamClock.NONE
    hints: list[str] = field(default_factory=list)

    def told(self) -> str:
        """One line for people."""
        return f"{self.size[0]} x {self.size[1]}, {self.fps:.1f} pictures/s; {_CLOCKS[self.clock]}"


def hints(thumbnail: Grey) -> list[str]:
    """What is wrong with a picture, by what can be seen of it alone; each with what to do.

    Blur and darkness are not among it: only a view that was learned tells a soft lens from fog, and nights are dark.
    """
    seen = features(thumbnail)
    if seen.deviation < BLACK_DEVIATION and seen.mean < BRIGHT_MEAN:
        return ["BLACK or one colour: take off the lens cap, clean the glass, check night mode"]
    if seen.burnt > BURNT or seen.mean > BRIGHT_MEAN:
        return ["OVEREXPOSED: turn it away from sun or lamp, lower the exposure, switch on WDR"]
    return []


def problem_of(status: CaptureStatus) -> str:
    """Why a capture that should have shown something did not; empty while it may still do so."""
    if status.state in {CaptureState.AWAY, CaptureState.STALLED}:
        return status.error or f"the camera is {status.state.value}"
    return ""


def look_once(
    spec: CameraBusSpec,
    open_capture: OpenCapture,
    *,
    watch_s: float = WATCH_S,
    now_s: Callable[[], float] | None = None,
) -> Sight:
    """Open the camera, wait for a picture, watch it for `watch_s`. Blocks for the camera's timeouts at most, and 12 s
    more. Raises OSError when the capture cannot be started."""
    now_s = now_s or time.monotonic
    began_s = now_s()
    capture = open_capture(spec, THUMBNAIL)
    try:
        until_s = began_s + START_S + spec.open_timeout_s + spec.read_timeout_s
        found = _first(capture, began_s, until_s, now_s)
        return found if found.problem else _watch(capture, found, now_s, watch_s)
    finally:
        capture.close()


def _first(capture: Capture, began_s: float, until_s: float, now_s: Callable[[], float]) -> Sight:
    while now_s() < until_s:
        select.select([capture.fileno()], [], [], _SLICE_S)
        if (look := capture.look()) is not None:
            return Sight(first_ms=round((now_s() - began_s) * 1e3, 1), size=look.size, hints=hints(look.thumbnail))
        if problem := problem_of(capture.status()):
            return Sight(problem)
    return Sight(capture.status().error or f"no picture came within {until_s - began_s:.0f} s")


def _watch(capture: Capture, first: Sight, now_s: Callable[[], float], watch_s: float) -> Sight:
    before = capture.status()
    until_s = now_s() + watch_s
    said = first.hints
    while (left_s := until_s - now_s()) > 0:
        select.select([capture.fileno()], [], [], min(_SLICE_S, left_s))
        if (look := capture.look()) is not None:
            said = hints(np.array(look.thumbnail))
    after = capture.status()
    if problem := problem_of(after):
        return Sight(f"showed a picture, then nothing more: {problem}", first.first_ms, first.size)
    took_s = (after.last_frame_ns - before.last_frame_ns) / 1e9
    fps = (after.captured - before.captured) / took_s if took_s > 0 else 0.0
    return replace(first, fps=round(fps, 1), clock=after.clock, hints=said)


async def probe(spec: CameraBusSpec, open_capture: OpenCapture) -> Sight:
    """`look_once` in a thread, so that other buses are probed meanwhile."""
    try:
        return await asyncio.to_thread(look_once, spec, open_capture)
    except OSError as error:
        return Sight(f"the capture cannot be started: {error.strerror or error}")

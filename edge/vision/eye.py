"""Why: between a capture that gives looks and a watcher that counts there is one camera's schedule.

An `Eye` serves one look at a time when the worker's rota says so, closes its intervals at their times, and says how the
camera is. It never waits: what is not there is booked as unseen.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import numpy as np

from contract.readings import Reason
from drivers.base_camera import CameraBusSpec, Capture, CaptureState, CaptureStatus, Look, Picture, StreamClock
from edge.vision.health import BLIND, LEARN_S, CameraState, View
from edge.vision.reasons import NOT_SEEN
from edge.vision.watcher import Watcher
from edge.vision.wire import SENTENCE_CHARS, WORD_CHARS, Closed, Confirmed, Learned, Said, Seen
from models.boxes import Detections

SECOND = 1_000_000_000
# Looks captured before the end of an interval get so long to be looked at; then the interval is closed without them.
GRACE_NS = 200_000_000
TELL_NS = SECOND
TELL_VIEW_NS = 600 * SECOND
_REASONS = {CaptureState.STALLED: int(Reason.TIMEOUT), CaptureState.AWAY: int(Reason.DISCONNECTED)}


class Finder(Protocol):
    """What finds objects in a canvas: models.detector.Detector."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of their numbers."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the canvas."""

    def detect(self, canvas: Picture, confidence: float | None = None) -> Detections:
        """The objects."""


class Eye:
    """One camera. number: what the gateway calls it. model: what the stream of that measure says.

    phase_ns: intervals end at this time, CLOCK_BOOTTIME, modulo their length.
    """

    def __init__(
        self,
        number: int,
        spec: CameraBusSpec,
        capture: Capture,
        finder: Finder,
        say: Callable[[Said], None],
        *,
        now_ns: int,
        phase_ns: int = 0,
        model: str = "",
        view: View | None = None,
    ) -> None:
        self.capture = capture
        self.served_ns = 0
        self._number = number
        self._camera = spec.devices[0]
        self._finder = finder
        self._say = say
        self._model = model
        self._interval_ns = round(self._camera.interval_s * SECOND)
        # The first interval began before anybody could look: that part of it is not seen, as start-up is.
        self._to_ns = now_ns + self._interval_ns - (now_ns - phase_ns) % self._interval_ns
        self._aspect = 16 / 9
        self._watcher = self._watch(view)
        self._connections = 0
        self._dropped = 0
        self._looks = self._told_looks = 0
        self._told_ns = self._learned_ns = now_ns
        self._told_state = ""
        self._told_verdict = self._watcher.health.verdict
        self._inference_ms = 0.0
        self._view_told = view is not None

    def _watch(self, view: View | None) -> Watcher:
        watcher = Watcher(
            self._camera,
            self._finder.classes,
            aspect=self._aspect,
            model=self._model,
            calibration=self._camera.calibration,
            view=view,
        )
        watcher.begin(self._to_ns - self._interval_ns, self._to_ns)
        return watcher

    @property
    def next_ns(self) -> int:
        """When `tick` has something to do, at the latest."""
        if self._watcher.health.verdict != self._told_verdict:
            return self._told_ns
        return min(self._to_ns + GRACE_NS, self._told_ns + TELL_NS)

    def serve(self, now_ns: int, time_s: Callable[[], float]) -> bool:
        """Look at the newest picture, if there is one that nobody looked at."""
        look = self.capture.look()
        if look is None:
            return False
        self.served_ns = now_ns
        while look.time_ns >= self._to_ns:
            self._close()
        self._shape(look)
        status = self.capture.status()
        if status.connections != self._connections:
            self._connections = status.connections
            self._watcher.reconnected()
        dropped, self._dropped = max(0, status.dropped - self._dropped), status.dropped
        stream_ns = look.stream_ns if status.clock is not StreamClock.NONE else 0
        self._looks += 1
        if not self._watcher.glance(look.time_ns, look.thumbnail, stream_ns=stream_ns, dropped=dropped):
            return True
        began_s = time_s()
        found = self._finder.detect(look.canvas, self._camera.confidence)
        self._inference_ms = (time_s() - began_s) * 1e3
        boxes, scores = in_picture(found, look), found.scores.astype(np.float64)
        self._watcher.see(look.time_ns, boxes, scores, found.classes, dropped=dropped)
        return True

    def _shape(self, look: Look) -> None:
        """A picture of another shape is another view: what was seen of this interval in the old one is not counted."""
        aspect = look.size[0] / look.size[1]
        if abs(aspect / self._aspect - 1) > 0.01:
            self._aspect = aspect
            self._watcher = self._watch(None if self._looks else self._watcher.health.view)

    def tick(self, now_ns: int) -> None:
        """Close what is over, book what nobody saw, say how the camera is."""
        status = self.capture.status()
        state = status.state.value
        if status.state is CaptureState.LIVE:
            state = self._watcher.health.verdict.state.value
        else:
            self._watcher.unseen(now_ns, _REASONS.get(status.state, NOT_SEEN), state)
        # Said before the interval that it explains.
        changed = state != self._told_state or self._watcher.health.verdict != self._told_verdict
        if changed or now_ns >= self._told_ns + TELL_NS:
            self._tell(now_ns, status, state)
        while now_ns >= self._to_ns + GRACE_NS:
            self._close()
        if now_ns >= self._learned_ns + TELL_VIEW_NS or not self._view_told:
            self._tell_view(now_ns)

    def confirm(self, turn: int, *, anyway: bool = False) -> None:
        """A person finds lines, zones and ground where they belong in what the camera shows now.

        It is learned anew and answered so, unless nothing can be seen; anyway: a view that seems covered counts.
        """
        problem = self._unseeing(anyway=anyway)
        if not problem:
            self._watcher.confirm()
            self._view_told = False
        self._say(Confirmed(self._number, turn, problem[:SENTENCE_CHARS], LEARN_S))

    def _unseeing(self, *, anyway: bool) -> str:
        status, seen = self.capture.status(), self._watcher.health.verdict.state
        if status.state is not CaptureState.LIVE:
            return f"it shows nothing just now ({status.error or status.state.value}): confirm when pictures come"
        if seen is CameraState.COVERED:
            return "" if anyway else "it seems covered: clear the view; is the street to be seen, then confirm --anyway"
        if seen in BLIND:
            return f"its picture is {seen.value} just now: confirm when the street is to be seen"
        return ""

    def _tell(self, now_ns: int, status: CaptureStatus, state: str) -> None:
        elapsed_s = max(now_ns - self._told_ns, 1) / SECOND
        fps = (self._looks - self._told_looks) / elapsed_s
        self._told_looks, self._told_ns, self._told_state = self._looks, now_ns, state
        self._told_verdict = self._watcher.health.verdict
        self._say(
            Seen(
                self._number,
                state[:WORD_CHARS],
                status.error[:SENTENCE_CHARS],
                fps=round(fps, 2),
                inference_ms=round(self._inference_ms, 2),
                captured=status.captured,
                skipped=status.skipped,
                dropped=status.dropped,
                connections=status.connections,
                restarts=status.restarts,
                last_frame_ns=status.last_frame_ns,
            )
        )

    def _close(self) -> None:
        found = self._watcher.close(self._to_ns - self._interval_ns, self._to_ns)
        values = [value[:WORD_CHARS] if isinstance(value, str) else value for value in (one.value for one in found)]
        self._say(Closed(self._number, self._to_ns, values, [one.status for one in found]))
        self._to_ns += self._interval_ns

    def _tell_view(self, now_ns: int) -> None:
        view = self._watcher.health.view
        if view is None:
            return
        self._learned_ns, self._view_told = now_ns, True
        with suppress(TypeError, ValueError):  # a view that cannot be told is learned again after a restart
            numbers = view.to_numbers()
            anchor, slow = numbers["anchor"], numbers["slow"]
            if isinstance(anchor, list) and isinstance(slow, list):
                calibration = self._camera.calibration
                self._say(Learned(self._number, calibration, anchor, slow, view.sharpness, view.burnt, view.still_s))


def in_picture(found: Detections, look: Look) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Boxes (n, 4) of the canvas as fractions of the picture, clipped to it."""
    left, top = look.pad
    size = np.array([*look.size, *look.size]) * look.scale
    boxes: np.ndarray[tuple[int, int], np.dtype[np.float64]] = (found.boxes - (left, top, left, top)) / size
    return np.clip(boxes, 0.0, 1.0)

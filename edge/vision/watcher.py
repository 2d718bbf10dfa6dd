"""Why: one camera's eyes in one place: from looks and boxes, with their times, to what its streams say.

The worker asks `glance` of every look whether a detector must see it: a blind camera needs none, a street where nothing
moves one now and then. If so it gives the boxes to `see`; if not, the look is booked already. `unseen` says that nobody
looked, and why. `close` ends an interval.

Times are ns of one clock that rises (CLOCK_BOOTTIME). Boxes are fractions of the picture.
"""

from collections.abc import Sequence

from drivers.base_camera import CameraDeviceSpec, Grey
from edge.vision.counter import Counter
from edge.vision.geometry import Floats
from edge.vision.health import BLIND, CameraHealth, Verdict, View
from edge.vision.lines import Crossing
from edge.vision.measures import Measured
from edge.vision.motion import MotionGate
from edge.vision.tracks import Numbers


class Watcher:
    """Watches one camera. view: what was learned of it before (`health.view`), None to learn it now.

    classes: the model's, in its order. aspect: width over height of the picture. model, calibration: what the streams
    of these measures say. Raises ValueError for a spec that cannot be counted.
    """

    def __init__(
        self,
        spec: CameraDeviceSpec,
        classes: Sequence[str],
        *,
        aspect: float = 16 / 9,
        model: str = "",
        calibration: str = "",
        view: View | None = None,
    ) -> None:
        self.counter = Counter(spec, classes, aspect=aspect, model=model, calibration=calibration)
        self.gate = MotionGate()
        self.health = CameraHealth(view)

    def begin(self, from_ns: int, to_ns: int) -> None:
        """The first interval. What was seen before it is forgotten."""
        self.counter.begin(from_ns, to_ns)

    def glance(self, time_ns: int, thumbnail: Grey, *, stream_ns: int = 0, dropped: int = 0) -> bool:
        """Whether a detector must see this look. When not, the look is booked: nothing moved, or nothing was seen.

        dropped: frames that were to be looked at since the last look and were not.
        """
        before = self.health.verdict
        verdict = self.health.look(time_ns, thumbnail, stream_ns)
        if verdict != before:
            self._changed(verdict)
        self._say(time_ns, verdict)
        if verdict.state in BLIND:
            self.counter.unseen(time_ns, verdict.reason, dropped=dropped)
            return False
        if self.gate.open(time_ns, thumbnail, restless=self.counter.tracker.restless):
            return True
        self.counter.still(time_ns, dropped=dropped)
        return False

    def see(self, time_ns: int, boxes: Floats, scores: Floats, kinds: Numbers, *, dropped: int = 0) -> list[Crossing]:
        """A detector's boxes of a look; the passages that became certain by it.

        boxes: (n, 4) xyxy, fractions. scores: (n,), 0 to 1. kinds: (n,), positions in `classes`.
        """
        return self.counter.see(time_ns, boxes, scores, kinds, dropped=dropped)

    def unseen(self, time_ns: int, reason: int, state: str, *, dropped: int = 0) -> None:
        """Nobody looked since the last look, for a reason of contract.readings; state: the camera's, as a word."""
        self.counter.unseen(time_ns, reason, dropped=dropped)
        self.counter.doubt(time_ns, 0, state)

    def reconnected(self) -> None:
        """The stream began anew."""
        self.health.reconnected()

    def confirm(self) -> None:
        """A person has looked at the view and found lines, zones and ground where they belong."""
        self.health.confirm()

    def close(self, from_ns: int, to_ns: int) -> list[Measured]:
        """End an interval; the next has the same length. What each stream says of it, in the spec's order."""
        return self.counter.close(from_ns, to_ns)

    def _changed(self, verdict: Verdict) -> None:
        """What came before the verdict was as bad: the delay is taken back."""
        if verdict.state in BLIND:
            self.counter.unsee(verdict.since_ns, verdict.reason)

    def _say(self, time_ns: int, verdict: Verdict) -> None:
        doubt = 0 if verdict.state in BLIND else verdict.reason
        self.counter.doubt(time_ns, doubt, verdict.state.value)

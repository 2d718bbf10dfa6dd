"""Why: a camera that shows nothing, or something else than it was set up for, delivers frames and confident zeros.

Judged once or twice a second on the thumbnail, against what this camera's view was learned to be. Each trouble has
limits measured on drawn streets (day, night, rain, fog; edge.vision.scene's figures beside them) and two delays, so
that a bus or a headlight is none. What is learned follows the seasons and the hour (`slow`) and stays bound to the view
that was calibrated (`anchor`): a camera that sags a little every day has moved in the end.

Frozen is not still. A still street through H.264 gives the same picture for seconds, until the next key frame or a
grain of noise; and a frozen camera behind an encoder alternates between a few, for a key frame is another picture than
those that refine it, again and again the same ones. So what counts is how long no picture came that was not seen
before: longer than this camera ever did while it was alive (and twenty seconds) is frozen.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from drivers.base_camera import Grey
from edge.vision.reasons import CAMERA_BLIND, CAMERA_MOVED, GOOD, VIEW_POOR
from edge.vision.scene import PROFILE_LENGTH, Features, Likeness, Profile, features, likeness, strength

LOOK_S = 0.5
"""Looks nearer to each other than this are not judged."""
PAUSE_S = 5.0
"""After so long without a look, what was seen before says nothing of how long a trouble lasts."""
LEARN_S = 30.0
"""A new view is learned for so long; until then black, overexposed and frozen alone are known."""
QUICK_S, CALM_S, SLOW_S = 1.0, 5.0, 600.0
"""Over which a profile is averaged to judge covering, to judge moving, and to follow the hour."""
FROZEN_S = 20.0
"""The shortest time without a new picture that is frozen: several groups of frames between key frames."""
FROZEN_MOST_S = 120.0
FROZEN_TIMES = 2.5
"""Times the longest that this camera had while it was alive."""
KNOWN_PICTURES = 32
"""So many are told from new ones: a group of frames is at most 16 s long at two looks a second."""
CLOCK_JUMP_S = 2.0
"""A stream's clock that has left ours by this since the connection began jumps or runs wrong."""
BLACK_DEVIATION = 2.0
BURNT = 0.4
"""Share of the picture burnt out, above what is usual for this camera."""
COVERED_STRENGTH, COVERED_LIKE = 0.55, 0.55
"""Edges lost and unlike: fog and night keep one of the two (0.5 and 0.62; 0.61 and 0.53)."""
BLURRED = 0.11
"""Sharpness over contrast, of the usual: fog of 30 m 0.13, a lens 0.35 % of the width out of focus 0.04."""
MOVED_POINTS, MOVED_BETTER, MOVED_LIKE = 4, 0.05, 0.5
"""Points of shift (1 % of the width), how much better the shifted view fits, and how well at least."""
OTHER_VIEW = 0.45
"""Less alike than this, with as many edges as ever, is another view."""
RETURNED_LIKE = 0.6


class CameraState(StrEnum):
    """What is wrong with a camera, the worst first. The driver adds its own: connecting, stalled, away."""

    FROZEN = "frozen"
    BLACK = "black"
    OVEREXPOSED = "overexposed"
    COVERED = "covered"
    MOVED = "moved"
    BLURRED = "blurred"
    CLOCK = "clock"
    OK = "ok"


BLIND = frozenset({CameraState.FROZEN, CameraState.BLACK, CameraState.OVEREXPOSED, CameraState.COVERED})
"""States in which nothing is counted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, and since when by the pictures: the delays are taken back."""

    state: CameraState
    since_ns: int

    @property
    def reason(self) -> int:
        """The reason code of edge.vision.reasons for what was measured meanwhile."""
        if self.state in BLIND:
            return CAMERA_BLIND
        if self.state is CameraState.MOVED:
            return CAMERA_MOVED
        return GOOD if self.state is CameraState.OK else VIEW_POOR


@dataclass(slots=True)
class View:
    """What a camera's view was learned to be: numbers that are no picture (edge.vision.scene).

    still_s: the longest time without a new picture while the camera was alive.
    """

    anchor: Profile
    slow: Profile
    sharpness: float
    burnt: float
    still_s: float = 0.0

    def to_numbers(self) -> dict[str, list[int] | float]:
        """For a file: the profiles as whole numbers from 0 to 255, and three more."""
        return {
            "anchor": np.clip(np.rint(self.anchor), 0, 255).astype(int).tolist(),
            "slow": np.clip(np.rint(self.slow), 0, 255).astype(int).tolist(),
            "sharpness": self.sharpness,
            "burnt": self.burnt,
            "still_s": self.still_s,
        }

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, object]) -> "View":
        """What to_numbers gave. Raises ValueError for anything else."""
        profiles = []
        for key in ("anchor", "slow"):
            values = np.array(numbers.get(key, ()), dtype=np.float32)
            if values.shape != (PROFILE_LENGTH,) or not np.isfinite(values).all():
                raise ValueError(f"{key}: expected {PROFILE_LENGTH} numbers")
            profiles.append(values)
        rest = [numbers.get(key) for key in ("sharpness", "burnt", "still_s")]
        known = [float(value) for value in rest if isinstance(value, (int, float))]
        if len(known) != len(rest):
            raise ValueError("sharpness, burnt, still_s: expected numbers")
        return cls(profiles[0], profiles[1], *known)


@dataclass(slots=True)
class _Watch:
    """One trouble: begins when it was there for `enter_s` without a break, ends when it was gone for `leave_s`."""

    enter_s: float
    leave_s: float
    active: bool = False
    since_ns: int = 0
    _turn_ns: int = -1

    def pause(self) -> None:
        """Nobody looked for a while: a turn that had begun begins anew."""
        self._turn_ns = -1

    def judge(self, time_ns: int, *, bad: bool) -> None:
        if bad == self.active:
            self._turn_ns = -1
            return
        if self._turn_ns < 0:
            self._turn_ns = time_ns
        if time_ns - self._turn_ns >= (self.enter_s if bad else self.leave_s) * 1e9:
            self.active, self.since_ns, self._turn_ns = bad, self._turn_ns, -1


def _watches() -> dict[CameraState, _Watch]:
    return {
        CameraState.BLACK: _Watch(2.0, 3.0),
        CameraState.OVEREXPOSED: _Watch(2.5, 4.0),
        CameraState.COVERED: _Watch(1.5, 4.0),
        CameraState.MOVED: _Watch(10.0, 60.0),
        CameraState.BLURRED: _Watch(12.0, 12.0),
        CameraState.CLOCK: _Watch(3.0, 60.0),
    }


@dataclass(slots=True)
class _Run:
    """Since when no new picture came. known: digests of the newest pictures, those seen last at the end."""

    since_ns: int = -1
    known: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def is_new(self, thumbnail: Grey) -> bool:
        """Whether this picture was not seen lately. 0.06 ms."""
        digest = hashlib.blake2b(thumbnail.tobytes(), digest_size=8).digest()
        new = digest not in self.known
        self.known[digest] = None
        self.known.move_to_end(digest)
        if len(self.known) > KNOWN_PICTURES:
            self.known.popitem(last=False)
        return new


class CameraHealth:
    """One camera's health. view: what was learned before, None to learn it anew."""

    def __init__(self, view: View | None = None) -> None:
        self.view = view
        self.verdict = Verdict(CameraState.OK, 0)
        self._watches = _watches()
        self._run = _Run()
        self._last_ns = -1
        self._learn_ns = -1
        self._quick: Profile | None = None
        self._calm: Profile | None = None
        self._offset_ns: int | None = None
        self._learned: list[Features] = []

    def look(self, time_ns: int, thumbnail: Grey, stream_ns: int = 0) -> Verdict:
        """Judge a thumbnail taken at a time; stream_ns: the stream's own clock then, 0 if it has none. 0.3 ms."""
        if self._last_ns >= 0 and time_ns - self._last_ns < LOOK_S * 1e9:
            return self.verdict
        elapsed_s = (time_ns - self._last_ns) * 1e-9 if self._last_ns >= 0 else LOOK_S
        self._last_ns = time_ns
        if elapsed_s >= PAUSE_S:  # the first picture after an outage may be one from before it: that is no freezing
            self._run = _Run()
            for watch in self._watches.values():
                watch.pause()
        frozen = self._repeats(time_ns, thumbnail)
        if not frozen:
            self._judge(time_ns, elapsed_s, features(thumbnail), stream_ns)
        active = [(state, watch) for state, watch in self._watches.items() if watch.active]
        if frozen:
            self.verdict = Verdict(CameraState.FROZEN, self._run.since_ns)
        elif active:
            self.verdict = Verdict(active[0][0], active[0][1].since_ns)
        elif self.verdict.state is not CameraState.OK:
            self.verdict = Verdict(CameraState.OK, time_ns)
        return self.verdict

    def confirm(self) -> None:
        """The view is right as it is now: a person has looked at it. It is learned anew."""
        self.view = None
        self._learn_ns = -1
        self._learned.clear()
        self._watches = _watches()
        self.verdict = Verdict(CameraState.OK, max(self._last_ns, 0))

    def reconnected(self) -> None:
        """The stream began anew: its clock may, and a picture that waited says nothing of freezing."""
        self._offset_ns = None
        self._run = _Run()

    def _repeats(self, time_ns: int, thumbnail: Grey) -> bool:
        run = self._run
        if not run.is_new(thumbnail):
            return time_ns - run.since_ns >= self._frozen_s() * 1e9
        still_s = (time_ns - run.since_ns) * 1e-9 if run.since_ns >= 0 else 0.0
        if self.view is not None and still_s < self._frozen_s():
            self.view.still_s = max(self.view.still_s, min(still_s, FROZEN_MOST_S))
        run.since_ns = time_ns
        return False

    def _frozen_s(self) -> float:
        still_s = self.view.still_s if self.view is not None else 0.0
        return min(max(FROZEN_S, FROZEN_TIMES * still_s), FROZEN_MOST_S)

    def _judge(self, time_ns: int, elapsed_s: float, seen: Features, stream_ns: int) -> None:
        watches = self._watches
        black = seen.deviation < BLACK_DEVIATION
        usual = self.view.burnt if self.view is not None else 0.2
        burnt = seen.burnt > usual + BURNT
        watches[CameraState.BLACK].judge(time_ns, bad=black)
        watches[CameraState.OVEREXPOSED].judge(time_ns, bad=burnt)
        watches[CameraState.CLOCK].judge(time_ns, bad=self._clock_wrong(time_ns, stream_ns))
        self._quick = _follow(self._quick, seen.profile, elapsed_s, QUICK_S)
        self._calm = _follow(self._calm, seen.profile, elapsed_s, CALM_S)
        if self.view is None:
            if not (black or burnt):
                self._learn(time_ns, seen)
            return
        covered = self._covered(self.view, self._quick)
        blurred = _sharpness(seen) < BLURRED * self.view.sharpness
        watches[CameraState.COVERED].judge(time_ns, bad=covered and not black and not burnt)
        watches[CameraState.BLURRED].judge(time_ns, bad=blurred and not (covered or black or burnt))
        if not (covered or black or burnt):
            moved = watches[CameraState.MOVED]
            anchor = likeness(self._calm, self.view.anchor)
            moved.judge(time_ns, bad=self._moved(self.view, anchor, self._calm, active=moved.active))
            if not moved.active and not blurred and not _elsewhere(anchor):
                self._adapt(self.view, seen, elapsed_s)

    def _learn(self, time_ns: int, seen: Features) -> None:
        if self._learn_ns < 0:
            self._learn_ns = time_ns
        self._learned.append(seen)
        if time_ns - self._learn_ns < LEARN_S * 1e9:
            return
        profile = np.mean([one.profile for one in self._learned], axis=0).astype(np.float32)
        sharpness = float(np.median([_sharpness(one) for one in self._learned]))
        burnt = float(np.median([one.burnt for one in self._learned]))
        self.view = View(profile, profile.copy(), sharpness, burnt)
        self._learned.clear()

    def _adapt(self, view: View, seen: Features, elapsed_s: float) -> None:
        """The hour and the weather change what is usual, slowly."""
        share = elapsed_s / SLOW_S
        view.slow = _follow(view.slow, seen.profile, elapsed_s, SLOW_S)
        view.sharpness += share * (_sharpness(seen) - view.sharpness)
        view.burnt += share * (seen.burnt - view.burnt)

    def _covered(self, view: View, profile: Profile) -> bool:
        def unlike(known: Profile) -> bool:
            weak = strength(profile) < COVERED_STRENGTH * strength(known)
            return weak and likeness(profile, known).here < COVERED_LIKE

        return unlike(view.slow) and unlike(view.anchor)

    def _moved(self, view: View, anchor: Likeness, profile: Profile, *, active: bool) -> bool:
        if active:
            return _elsewhere(anchor) or anchor.here < RETURNED_LIKE
        slow = likeness(profile, view.slow)
        if slow.best > anchor.best and anchor.best < MOVED_LIKE:
            anchor = slow  # the light is another than when the view was learned
        other = max(slow.here, anchor.here) < OTHER_VIEW
        return _elsewhere(anchor) or (other and strength(profile) > COVERED_STRENGTH * strength(view.slow))

    def _clock_wrong(self, time_ns: int, stream_ns: int) -> bool:
        if stream_ns == 0:
            return False
        if self._offset_ns is None:
            self._offset_ns = stream_ns - time_ns
        return abs(stream_ns - time_ns - self._offset_ns) > CLOCK_JUMP_S * 1e9


def _elsewhere(found: Likeness) -> bool:
    far = max(abs(found.across), abs(found.down)) >= MOVED_POINTS
    return far and found.best >= MOVED_LIKE and found.best - found.here >= MOVED_BETTER


def _sharpness(seen: Features) -> float:
    """Over contrast: a darker picture is not a blurred one."""
    return seen.sharpness / max(seen.deviation, 1.0) ** 2


def _follow(known: Profile | None, now: Profile, elapsed_s: float, over_s: float) -> Profile:
    if known is None:
        return now
    found: Profile = (known + np.float32(min(1.0, elapsed_s / over_s)) * (now - known)).astype(np.float32)
    return found

"""Why: a count is of things, and a detector knows boxes only: which boxes of successive looks are one thing.

Every step is over the real time between two captures, so that dropped frames and 2 or 15 fps need no other settings.
A track is a Kalman filter of constant velocity for the middle of the box's bottom edge, its width and its height,
all noises in sizes of the object itself. A box may continue a track that expects it there (normalised distance) or
whose expected box it overlaps; the pairs are chosen for all at once. A track counts after `confirm_hits` boxes, lives
on without boxes for a while, and what it is is voted by all its boxes. Bounded: `max_tracks`, the weakest go first
and are counted in `dropped`.

Lengths are in picture heights (edge.vision.geometry), times in ns of one clock that rises.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.vision.assign import Pair, match
from edge.vision.geometry import Flags, Floats, box_overlaps

Numbers = NDArray[np.int64]

PATH_LENGTH = 64
"""Points a track remembers: 12 s at 5 fps, 4 s at 15 fps; a crossing and its speed need 3 s."""


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How a tracker judges. Lengths in sizes of the object: the square root of its box's area."""

    confirm_hits: int = 3
    """Boxes before a track counts; what it did before is made up for. Three false boxes in a row are rare."""
    settled: float = 0.5
    """Sizes between two boxes of the same class and size within which they are enough."""
    tentative_s: float = 0.6
    """A track that does not count yet ends after so long without a box; so does one that was leaving the picture."""
    moving_coast_s: float = 1.5
    """A moving track ends after so long without a box: a van passes in front of a car in about this time."""
    standing_coast_s: float = 5.0
    """A standing one: it is expected where it was, so waiting costs nothing."""
    least_inside: float = 0.5
    """Share of the expected box that must be in the picture still for a track to wait for another box."""
    standing_speed: float = 0.25
    """Sizes a second below which a track stands."""
    first_speed: float = 3.0
    """Sizes a second (one sigma) that a new track may have: 50 km/h across the picture is 5."""
    acceleration: float = 0.5
    """Noise of the velocity, sizes/s per root second: braking at 3 m/s2 is 1 within a second."""
    box_noise: float = 0.06
    """Noise of the bottom's middle, in widths and heights of the box."""
    shape_noise: float = 0.15
    """Noise of width and height, as a share of them: passing behind a pole changes them."""
    pixel: float = 0.003
    """The least noise, picture heights: half a pixel of a detector 192 high."""
    gate: float = 18.0
    """Squared normalised distance (4 dimensions) beyond which a box is another thing: 0.1 % of true ones are."""
    sure: float = 7.0
    """The same for a first round among tracks that count: what surely belongs together is not shifted about so that one
    more pair comes off. An eighth of true pairs wait for the second round."""
    gate_area: float = 2.5
    """Things do not grow or shrink by more than this between two boxes."""
    coast_spread: float = 0.4
    """Sizes (one sigma) that the expected place is uncertain by at most: beyond that it is a guess."""
    gate_overlap: float = 0.4
    """Overlap with the expected box that is enough by itself: a box cut by another object jumps."""
    other_class: float = 2.0
    """What another class than the voted one costs, in units of the gate."""
    same_overlap: float = 0.75
    """Two boxes of one look that overlap more are one thing seen as two classes."""
    beside_overlap: float = 0.55
    """A box that overlaps one just taken by so much begins no track of its own."""
    max_tracks: int = 128
    """The street is full with fewer; noise never needs more."""


class PathPoint(NamedTuple):
    """Where a box was. whole: it did not touch the border of the picture."""

    time_ns: int
    x: float
    y: float
    size: float
    whole: bool


@dataclass(slots=True)
class Visit:
    """A stay in a zone. inside_ns: last seen in it; left_ns: the same, or halfway to the first look outside.

    whole: its beginning was seen. coasted_ns: counted since it was last really seen.
    """

    entered_ns: int
    inside_ns: int
    left_ns: int
    whole: bool
    coasted_ns: int = 0


@dataclass(slots=True, eq=False)
class Track:
    """One thing. `votes`: the scores of its boxes by class. `path`: the bottom's middle of its boxes, newest last."""

    number: int
    born_ns: int
    seen_ns: int
    votes: list[float]
    path: deque[PathPoint] = field(default_factory=lambda: deque(maxlen=PATH_LENGTH))
    hits: int = 0
    confirmed: bool = False
    ended: bool = False
    stands: bool = False
    sides: list[int] = field(default_factory=list)  # of each line: where it was clearly last; edge.vision.lines
    near_sides: list[int] = field(default_factory=list)
    met: list[PathPoint | None] = field(default_factory=list)
    visits: dict[int, Visit] = field(default_factory=dict)  # by zone; edge.vision.zones

    @property
    def kind(self) -> int:
        """The class most of its boxes, by score, said it is."""
        return self.votes.index(max(self.votes))


@dataclass(slots=True)
class Step:
    """What a look changed: tracks that count from now on, and such that did and are gone."""

    confirmed: list[Track] = field(default_factory=list)
    ended: list[Track] = field(default_factory=list)


class Tracker:
    """Tracks of one camera. fps: looks a second that are to be expected; waiting times stretch when it is low.
    horizon: (a, b, c) so that a x + b y + c is one over the distance of a point of the ground, in any unit.

    `tracks`, and in the same order the columns `place` (n, 4: x and y of the bottom's middle, width, height), `speed`
    (n, 4: its change a second), `drift` (n, 2: x and y of the speed, smoothed over a second) and `fresh` (n: has a box
    in this look). Columns are replaced, never kept by callers.
    """

    def __init__(
        self,
        classes: int,
        *,
        aspect: float,
        fps: float = 5.0,
        horizon: Floats | None = None,
        settings: TrackerSettings | None = None,
    ) -> None:
        self.settings = settings or TrackerSettings()
        self.tracks: list[Track] = []
        self.place, self.speed, self.drift = np.zeros((0, 4)), np.zeros((0, 4)), np.zeros((0, 2))
        self.fresh = np.zeros(0, dtype=np.bool_)
        self.dropped = 0
        self._spread = np.zeros((0, 3, 4))  # variances of place, covariances, variances of speed
        self._classes = classes
        self._aspect = aspect
        self._horizon = horizon
        # Below the horizon by a twentieth of the picture: nearer to it, distance is noise.
        self._horizon_least = 0.05 * float(np.hypot(*horizon[:2])) if horizon is not None else 0.0
        self._slowest_s = 3.0 / fps
        self._time_ns = 0
        self._next = 1

    def step(self, time_ns: int, boxes: Floats, scores: Floats, kinds: Numbers) -> Step:
        """Take one look: boxes (n, 4) xyxy, scores (n,), classes (n,). Looks older than the last change nothing."""
        change = Step()
        if time_ns <= self._time_ns and self._time_ns:
            return change
        elapsed_s = (time_ns - self._time_ns) * 1e-9 if self._time_ns else 0.0
        self._time_ns = time_ns
        self._predict(elapsed_s)
        self._end(change)
        boxes, votes = self._distinct(boxes, scores, kinds)
        measured = np.column_stack(
            [(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3], boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]]
        )
        pairs = self._pairs(measured, boxes, votes.argmax(axis=1))
        rows = np.array([row for row, _ in pairs], dtype=np.int64)
        columns = np.array([column for _, column in pairs], dtype=np.int64)
        self.fresh = np.zeros(len(self.tracks), dtype=np.bool_)
        self.fresh[rows] = True
        self._correct(rows, measured[columns], elapsed_s)
        whole = self._whole(boxes)
        for row, column in pairs:
            self._hit(self.tracks[row], time_ns, measured[column], votes[column], change, whole=bool(whole[column]))
        self._bear(time_ns, _others(len(boxes), columns), boxes, measured, votes, whole, taken=columns)
        self._bound(change)
        return change

    def hold(self, time_ns: int) -> None:
        """Nothing moved since the last look: whatever stood there stands there still."""
        if time_ns <= self._time_ns:
            return
        passed_ns, self._time_ns = time_ns - self._time_ns, time_ns
        self.speed[:] = 0.0
        self.drift[:] = 0.0
        self._spread[:, 1] = 0.0
        self._spread[:, 2] = np.minimum(self._spread[:, 2], (self._sizes()[:, None] * 0.5) ** 2)
        for track in self.tracks:
            track.seen_ns += passed_ns

    def clear(self) -> list[Track]:
        """Forget everything, the picture cannot be followed any more; the confirmed tracks that ended by it."""
        change = Step()
        self._keep(np.zeros(len(self.tracks), dtype=np.bool_), change)
        return change.ended

    @property
    def restless(self) -> bool:
        """Whether some track needs another look: it is new, or was missed in the last one."""
        return not all(track.confirmed for track in self.tracks) or not bool(self.fresh.all())

    def boxes(self) -> Floats:
        """Where the tracks are expected now: (n, 4) xyxy, what of it is in the picture."""
        return self._clipped(_corners(self.place))

    def standing(self, speeds: Floats | None = None, threshold: float | None = None) -> Flags:
        """Which tracks stand: by `speeds` (n,) against `threshold` where given, else by their own size."""
        own = np.hypot(self.drift[:, 0], self.drift[:, 1]) / self._sizes()
        if speeds is None or threshold is None:
            return own < self.settings.standing_speed
        return np.where(np.isfinite(speeds), speeds < threshold, own < self.settings.standing_speed)

    def _sizes(self) -> Floats:
        return np.sqrt(np.maximum(self.place[:, 2] * self.place[:, 3], 1e-8))

    def _predict(self, elapsed_s: float) -> None:
        if not len(self.tracks) or elapsed_s <= 0:
            return
        # x = X / Z with X and Z linear in time: the way is v dt / (1 - closing dt), and the speed grows by its square.
        nearer = 1 / np.clip(1 - self._closing() * elapsed_s, 0.4, 4.0)[:, None]
        way_s = elapsed_s * nearer
        self.place = self.place + self.speed * way_s
        self.place[:, 2:] = np.maximum(self.place[:, 2:], self.settings.pixel)
        self.speed = self.speed * nearer**2
        self.drift = self.drift * nearer**2
        noise = (self.settings.acceleration * self._sizes()[:, None] * _EASE) ** 2
        spread = self._spread
        spread[:, 0] += way_s * (2 * spread[:, 1] + way_s * spread[:, 2]) + noise * way_s**3 / 3
        spread[:, 1] = (spread[:, 1] + way_s * spread[:, 2]) * nearer**2 + noise * way_s**2 / 2
        spread[:, 2] = spread[:, 2] * nearer**4 + noise * way_s
        most = (self.settings.coast_spread * self._sizes()[:, None]) ** 2
        known = np.array([track.hits > 1 for track in self.tracks])
        wide = (spread[:, 0] > most) & known[:, None]
        if wide.any():
            # Shrinks all three alike, so that they stay the variances of something.
            shrink = np.where(wide, most / spread[:, 0], 1.0)
            spread *= shrink[:, None]

    def _pairs(self, measured: Floats, boxes: Floats, kinds: Numbers) -> list[Pair]:
        """(track, box): first what surely belongs together, then the rest."""
        if not len(self.tracks) or not len(measured):
            return []
        costs, distance = self._costs(measured, boxes, kinds)
        confirmed = np.array([track.confirmed for track in self.tracks])
        limit = self.settings.gate + _SLACK
        pairs = match(np.where((distance < self.settings.sure) & confirmed[:, None], costs, np.inf), limit)
        rows = _others(len(costs), [row for row, _ in pairs])
        columns = _others(len(boxes), [column for _, column in pairs])
        rest = match(costs[np.ix_(rows, columns)], limit)
        return pairs + [(int(rows[row]), int(columns[column])) for row, column in rest]

    def _closing(self) -> Floats:
        """How fast things come nearer, shares of their distance a second (n,): negative for those that go away."""
        if self._horizon is not None:
            depth = self.place[:, :2] @ self._horizon[:2] + self._horizon[2]
            by_depth: Floats = self.speed[:, :2] @ self._horizon[:2] / np.maximum(depth, self._horizon_least)
            return by_depth
        rates = self.speed[:, 2:] / self.place[:, 2:]
        doubt = self._spread[:, 2, 2:] / self.place[:, 2:] ** 2
        trust = _CLOSING**2 / (_CLOSING**2 + doubt)
        found: Floats = (rates * trust).sum(axis=1) / np.maximum(trust.sum(axis=1), 1e-9) * trust.mean(axis=1)
        return found

    def _costs(self, measured: Floats, boxes: Floats, kinds: Numbers) -> tuple[Floats, Floats]:
        """(tracks, boxes): what it costs to take them for one thing, infinity where they cannot be; and how far apart
        they are, squared and normalised."""
        noise = self._noise(self.place)
        variance = self._spread[:, 0] + noise
        offset = measured[None] - self.place[:, None]
        distance = (offset * offset / variance[:, None]).sum(axis=2)
        overlap = box_overlaps(_corners(self.place), boxes)
        costs = np.minimum(distance, np.where(overlap > self.settings.gate_overlap, self.settings.gate, np.inf))
        growth = np.log(measured[:, 2] * measured[:, 3])[None] - np.log(self.place[:, 2] * self.place[:, 3])[:, None]
        fits = (costs <= self.settings.gate) & (np.abs(growth) <= np.log(self.settings.gate_area))
        costs = np.where(fits, costs, np.inf)
        # Of a track that knows and one that only guesses, the one that knows has the right to the box.
        costs += np.log(variance / noise).sum(axis=1)[:, None] * 0.5
        costs -= 3.0 * overlap
        voted = np.array([track.kind for track in self.tracks])
        costs += self.settings.other_class * (voted[:, None] != kinds[None])
        return costs, distance

    def _noise(self, place: Floats) -> Floats:
        """Variances of what a box says, (n, 4)."""
        rules = self.settings
        share = np.array([rules.box_noise, rules.box_noise, rules.shape_noise, rules.shape_noise])
        extent = place[:, [2, 3, 2, 3]]
        found: Floats = (share * extent) ** 2 + rules.pixel**2
        return found

    def _correct(self, rows: Numbers, measured: Floats, elapsed_s: float) -> None:
        if not len(rows):
            return
        spread = self._spread[rows]
        total = spread[:, 0] + self._noise(self.place[rows])
        gain_place, gain_speed = spread[:, 0] / total, spread[:, 1] / total
        offset = measured - self.place[rows]
        self.place[rows] += gain_place * offset
        self.speed[rows] += gain_speed * offset
        spread[:, 2] -= gain_speed * spread[:, 1]
        spread[:, 1] *= 1 - gain_place
        spread[:, 0] *= 1 - gain_place
        self._spread[rows] = spread
        share = 1 - np.exp(-elapsed_s / _DRIFT_S)
        first = np.array([self.tracks[row].hits == 1 for row in rows.tolist()])
        shares = np.where(first, 1.0, share)[:, None]
        self.drift[rows] += shares * (self.speed[rows, :2] - self.drift[rows])

    def _hit(self, track: Track, time_ns: int, measured: Floats, votes: Floats, change: Step, *, whole: bool) -> None:
        x, y, width, height = measured.tolist()
        track.path.append(PathPoint(time_ns, x, y, float((width * height) ** 0.5), whole))
        track.seen_ns = time_ns
        track.hits += 1
        for kind, score in enumerate(votes.tolist()):
            track.votes[kind] += score
        if not track.confirmed and (track.hits >= self.settings.confirm_hits or self._settled(track)):
            track.confirmed = True
            change.confirmed.append(track)

    def _settled(self, track: Track) -> bool:
        """Whether two boxes are enough: the second is where the first was, as large, and of the same class."""
        if track.hits < 2 or sum(vote > 0 for vote in track.votes) > 1:
            return False
        old, new = track.path[-2], track.path[-1]
        way, growth = ((new.x - old.x) ** 2 + (new.y - old.y) ** 2) ** 0.5, new.size / old.size
        return way < self.settings.settled * old.size and 0.8 < growth < 1.25

    def _distinct(self, boxes: Floats, scores: Floats, kinds: Numbers) -> tuple[Floats, Floats]:
        """The boxes without those that show what a better one shows; their votes (n, classes) are added to its."""
        votes = np.zeros((len(boxes), self._classes))
        votes[np.arange(len(boxes)), kinds] = scores
        if len(boxes) < 2:
            return boxes, votes
        same = box_overlaps(boxes, boxes) > self.settings.same_overlap
        np.fill_diagonal(same, val=False)
        if not same.any():
            return boxes, votes
        kept: list[int] = []
        for index in np.argsort(-scores, kind="stable").tolist():
            better = [other for other in kept if same[index, other]]
            if better:
                votes[better[0]] += votes[index]
            else:
                kept.append(index)
        return boxes[kept], votes[kept]

    def _bear(
        self,
        time_ns: int,
        candidates: Numbers,
        boxes: Floats,
        measured: Floats,
        votes: Floats,
        whole: Flags,
        *,
        taken: Numbers,
    ) -> None:
        if len(candidates) and len(taken):
            beside = box_overlaps(boxes[candidates], boxes[taken]).max(axis=1) > self.settings.beside_overlap
            candidates = candidates[~beside]
        if not len(candidates):
            return
        places = measured[candidates]
        spread = np.zeros((len(candidates), 3, 4))
        spread[:, 0] = self._noise(places)
        sizes = np.sqrt(np.maximum(places[:, 2] * places[:, 3], 1e-8))
        spread[:, 2] = (self.settings.first_speed * sizes[:, None] * _EASE) ** 2
        self.place = np.concatenate([self.place, places])
        self.speed = np.concatenate([self.speed, np.zeros((len(candidates), 4))])
        self.drift = np.concatenate([self.drift, np.zeros((len(candidates), 2))])
        self.fresh = np.concatenate([self.fresh, np.ones(len(candidates), dtype=np.bool_)])
        self._spread = np.concatenate([self._spread, spread])
        for index in candidates.tolist():
            track = Track(self._next, time_ns, time_ns, [0.0] * self._classes)
            self._next += 1
            self.tracks.append(track)
            self._hit(track, time_ns, measured[index], votes[index], Step(), whole=bool(whole[index]))

    def _end(self, change: Step) -> None:
        """End what was not seen for too long, and what left the picture."""
        if not self.tracks:
            return
        rules, slow_s = self.settings, self._slowest_s
        standing = self.standing()
        left = self._clipped(_corners(self.place))
        area = (left[:, 2] - left[:, 0]) * (left[:, 3] - left[:, 1])
        gone = area < rules.least_inside * self.place[:, 2] * self.place[:, 3]
        alive = np.ones(len(self.tracks), dtype=np.bool_)
        for row, track in enumerate(self.tracks):
            if not track.confirmed or not track.path[-1].whole:
                wait_s = max(rules.tentative_s, slow_s)
            else:
                wait_s = max(rules.standing_coast_s if standing[row] else rules.moving_coast_s, slow_s)
            alive[row] = not gone[row] and (self._time_ns - track.seen_ns) * 1e-9 <= wait_s
        self._keep(alive, change)

    def _bound(self, change: Step) -> None:
        over = len(self.tracks) - self.settings.max_tracks
        if over <= 0:
            return
        weakest = sorted(range(len(self.tracks)), key=lambda row: _strength(self.tracks[row]))[:over]
        alive = np.ones(len(self.tracks), dtype=np.bool_)
        alive[weakest] = False
        self.dropped += over
        self._keep(alive, change)

    def _keep(self, alive: Flags, change: Step) -> None:
        if alive.all():
            return
        for row in np.flatnonzero(~alive).tolist():
            track = self.tracks[row]
            track.ended = True
            if track.confirmed:
                change.ended.append(track)
        self.tracks = [track for track, stays in zip(self.tracks, alive.tolist(), strict=True) if stays]
        self.place, self.speed, self.drift = self.place[alive], self.speed[alive], self.drift[alive]
        self._spread = self._spread[alive]
        self.fresh = self.fresh[alive] if len(self.fresh) == len(alive) else self.fresh

    def _clipped(self, corners: Floats) -> Floats:
        return np.clip(corners, 0.0, [self._aspect, 1.0, self._aspect, 1.0])

    def _whole(self, boxes: Floats) -> Flags:
        edge = self.settings.pixel
        found: Flags = (
            (boxes[:, 0] > edge) & (boxes[:, 1] > edge) & (boxes[:, 2] < self._aspect - edge) & (boxes[:, 3] < 1 - edge)
        )
        return found


_SLACK = 12.0
"""What the terms beside the distance may add before a pair inside the gate is refused."""
_DRIFT_S = 0.8
"""Time over which a track's drift is smoothed: standing is a matter of a second, not of a frame."""
_CLOSING = 0.5
"""Shares of their distance a second that things usually come nearer or go away by: 10 m/s at 20 m."""
_EASE = np.array([1.0, 1.0, 0.3, 0.3])
"""Width and height change less readily than the place."""


def _strength(track: Track) -> tuple[bool, int, int]:
    return track.confirmed, track.seen_ns, track.hits


def _corners(place: Floats) -> Floats:
    x, y, width, height = place.T
    return np.column_stack([x - width / 2, y - height, x + width / 2, y])


def kinds_of(tracks: Sequence[Track]) -> Numbers:
    """The voted class of each track."""
    return np.array([track.kind for track in tracks], dtype=np.int64)


def _others(count: int, taken: Sequence[int] | Numbers) -> Numbers:
    """The positions below `count` that are not taken; a fifth of what numpy's set difference costs."""
    free = np.ones(count, dtype=np.bool_)
    free[taken] = False
    return np.flatnonzero(free)

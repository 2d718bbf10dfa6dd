"""Why: boxes of one camera become counts of things in one place, interval by interval.

Time between two looks counts as seen when they are near enough for the tracker to bridge it. Events are booked by when
they happened, so an interval may be closed a moment after it ended and the next one has begun by then.

Times are ns of one clock that rises (CLOCK_BOOTTIME). Boxes are fractions of the picture.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from drivers.base_camera import CameraDeviceSpec
from edge.vision.geometry import Flags, Floats, Street
from edge.vision.intervals import Book
from edge.vision.lines import Crossing, Lines
from edge.vision.measures import Measured, Reckoner
from edge.vision.reasons import GOOD, NOT_SEEN
from edge.vision.speed import due_ns, speed_kmh
from edge.vision.tracks import Numbers, Step, Track, Tracker
from edge.vision.zones import Zones

STANDING_MPS = 0.5
"""Metres a second below which a thing stands, where the street is known: a queue that creeps is one still."""
FOREVER_NS = 2**63 - 1
PENDING = 256
"""Passages whose speed may wait for the rest of their path; the oldest is decided early."""
BRIDGE_S = 1.0
"""Looks no further apart than this, or than three at the camera's rate, saw the time between them."""


class Counter:
    """Counts on boxes. aspect: width over height of the picture.

    Raises ValueError for a spec that cannot be counted: unknown names, a line without length, four points on a line.
    """

    def __init__(
        self,
        spec: CameraDeviceSpec,
        classes: Sequence[str],
        *,
        aspect: float = 16 / 9,
        model: str = "",
        calibration: str = "",
    ) -> None:
        self._reckoner = Reckoner(spec, classes, model=model, calibration=calibration)
        self._keys = self._reckoner.keys()
        self._lines = Lines(spec.lines, aspect)
        self._zones = Zones(spec.zones, aspect)
        self._street = Street(spec.ground, aspect) if spec.ground else None
        horizon = self._street.horizon if self._street is not None else None
        self.tracker = Tracker(len(classes), aspect=aspect, fps=spec.fps, horizon=horizon)
        self._scale = np.array([aspect, 1.0, aspect, 1.0])
        self._wanted = np.array([name in (spec.classes or classes) for name in classes], dtype=np.bool_)
        self._bridge_ns = round(max(BRIDGE_S, 3.0 / spec.fps) * 1e9)
        self._book, self._later = Book(0, FOREVER_NS), None  # type: tuple[Book, Book | None]
        self._last_ns = -1
        self._blind = GOOD  # why nothing is seen since the last look; GOOD while it is
        self._counts = [0] * len(self._keys)
        self._pending: list[Crossing] = []

    def begin(self, from_ns: int, to_ns: int) -> None:
        """The first interval. What was seen before it is forgotten."""
        self._book, self._later = Book(from_ns, to_ns), None

    def see(self, time_ns: int, boxes: Floats, scores: Floats, kinds: Numbers, *, dropped: int = 0) -> list[Crossing]:
        """A detector's boxes of one look; the passages that became certain by it.

        boxes: (n, 4) xyxy, fractions. scores: (n,), 0 to 1. kinds: (n,), positions in `classes`. dropped: frames
        that were to be looked at since the last look and were not.
        """
        if time_ns <= self._last_ns:
            return []
        chosen = self._wanted[kinds]
        step = self.tracker.step(time_ns, boxes[chosen] * self._scale, scores[chosen], kinds[chosen])
        crossings = self._cross(time_ns)
        self._occupy(time_ns, step)
        self._frame(time_ns, dropped)
        return crossings

    def still(self, time_ns: int, *, dropped: int = 0) -> None:
        """A look in which nothing had moved since the last: what was there is there."""
        if time_ns <= self._last_ns:
            return
        self.tracker.hold(time_ns)
        self._occupy(time_ns, Step())
        self._frame(time_ns, dropped)

    def unseen(self, time_ns: int, code: int, *, dropped: int = 0) -> None:
        """Nothing was seen from the last look until now, for the reason `code`."""
        if time_ns <= self._last_ns:
            return
        self._miss(self._last_ns, time_ns, code)
        self._book_of(time_ns).dropped += dropped
        self._last_ns, self._blind = time_ns, code

    def unsee(self, since_ns: int, code: int) -> None:
        """What was taken for seen since then was not: the picture was frozen."""
        for book in (self._book, self._later):
            if book is not None:
                book.unsee(since_ns, code)

    def doubt(self, time_ns: int, code: int, state: str) -> None:
        """What is known against the view at a time: a reason, GOOD for nothing, and the camera's state as a word."""
        book = self._book_of(time_ns)
        book.doubt = code or book.doubt
        book.state = state

    def close(self, from_ns: int, to_ns: int) -> list[Measured]:
        """End the interval; the next one has the same length. What each stream of the camera says of it."""
        if 0 <= self._last_ns < to_ns:
            if self._blind == GOOD and to_ns - self._last_ns <= self._bridge_ns:
                self._count(self._last_ns, to_ns, self._counts)
            else:
                self._miss(self._last_ns, to_ns, self._blind or NOT_SEEN)
            self._last_ns = to_ns
        self._settle(to_ns, everything=True)
        book, later = self._book, self._later
        book.from_ns, book.to_ns = from_ns, to_ns
        self._book = later or Book(to_ns, 2 * to_ns - from_ns, state=book.state)
        self._later = None
        return self._reckoner.measure(book)

    def _frame(self, time_ns: int, dropped: int) -> None:
        book = self._book_of(time_ns)
        book.used += 1
        book.dropped += dropped
        self._settle(time_ns)
        self._last_ns, self._blind = time_ns, GOOD

    def _cross(self, time_ns: int) -> list[Crossing]:
        rows = [row for row in np.flatnonzero(self.tracker.fresh).tolist() if self.tracker.tracks[row].confirmed]
        tracks = [self.tracker.tracks[row] for row in rows]
        crossings = self._lines.advance(time_ns, tracks, self.tracker.place[rows])
        for crossing in crossings:
            self._book_of(crossing.time_ns).cross(crossing)
            if self._street is not None:
                self._pending.append(crossing)
        return crossings

    def _occupy(self, time_ns: int, step: Step) -> None:
        """Book the time since the last look, and who is in the zones now."""
        elapsed_ns = time_ns - self._last_ns if self._last_ns >= 0 else 0
        bridged = self._blind == GOOD and elapsed_ns <= self._bridge_ns
        book = self._book_of(time_ns)
        for track in step.ended:
            self._take_back(book, track)
            for dwell in self._zones.end(track):
                book.leave(dwell)
        rows = [row for row, track in enumerate(self.tracker.tracks) if track.confirmed]
        tracks = [self.tracker.tracks[row] for row in rows]
        place = self.tracker.place[rows]
        within = self._zones.inside(place[:, :2])
        for track, stands in zip(tracks, self._standing(rows, place).tolist(), strict=True):
            track.stands = stands
        passed_ns = elapsed_ns if bridged else 0
        for dwell in self._zones.advance(time_ns, passed_ns, tracks, within, self.tracker.fresh[rows]):
            book.leave(dwell)
        counts = self._members(book, tracks, within)
        if bridged and elapsed_ns:
            means = [(now + before) / 2 for now, before in zip(counts, self._counts, strict=True)]
            self._count(self._last_ns, time_ns, means)
        elif elapsed_ns:
            self._miss(self._last_ns, time_ns, self._blind or NOT_SEEN)
        for track in step.confirmed:
            self._make_up(book, track, time_ns - passed_ns // 2)
        self._counts = counts

    def _members(self, book: Book, tracks: Sequence[Track], within: Flags) -> list[int]:
        """How many are in each tally now."""
        counts = []
        for key in self._keys:
            zone, kind, standing = key
            members = [
                track.number
                for track, row in zip(tracks, within[:, zone].tolist(), strict=True)
                if row and (kind is None or track.kind == kind) and (track.stands or not standing)
            ]
            book.tally(key).meet(members)
            counts.append(len(members))
        return counts

    def _standing(self, rows: Sequence[int], place: Floats) -> Flags:
        if self._street is None or not rows:
            return self.tracker.standing()[list(rows)]
        velocities = self._street.velocities(place[:, :2], self.tracker.drift[list(rows)])
        speeds = np.hypot(velocities[:, 0], velocities[:, 1])
        return np.where(np.isfinite(speeds), speeds < STANDING_MPS, self.tracker.standing()[list(rows)])

    def _take_back(self, book: Book, track: Track) -> None:
        """A track that ended had gone when it was last seen."""
        for key in self._keys:
            visit = track.visits.get(key[0])
            if visit is not None and key[1] in {None, track.kind} and (track.stands or not key[2]):
                book.tally(key).take_back(visit.coasted_ns)

    def _make_up(self, book: Book, track: Track, until_ns: int) -> None:
        """A track that counts from now on had been in its zones before."""
        for key in self._keys:
            visit = track.visits.get(key[0])
            if visit is not None and not key[2] and key[1] in {None, track.kind}:
                book.tally(key).add(1, max(0, until_ns - visit.entered_ns))

    def _count(self, from_ns: int, to_ns: int, counts: Sequence[float]) -> None:
        for book, begin_ns, end_ns in self._pieces(from_ns, to_ns):
            book.see(begin_ns, end_ns)
            book.counted_ns += end_ns - begin_ns
            for key, count in zip(self._keys, counts, strict=True):
                book.tally(key).add(count, end_ns - begin_ns)

    def _miss(self, from_ns: int, to_ns: int, code: int) -> None:
        for book, begin_ns, end_ns in self._pieces(max(from_ns, self._book.from_ns), to_ns):
            book.miss(end_ns - begin_ns, code)

    def _settle(self, time_ns: int, *, everything: bool = False) -> None:
        """Measure the speed of those whose path after the crossing is complete, or will not be."""
        if self._street is None:
            return
        waiting = []
        for crossing in self._pending:
            early = everything and crossing.time_ns < time_ns
            if time_ns < due_ns(crossing) and not crossing.track.ended and not early:
                waiting.append(crossing)
                continue
            crossing.kmh = speed_kmh(crossing, self._street)
        self._pending = waiting[-PENDING:]

    def _book_of(self, time_ns: int) -> Book:
        """The book of a time; what is later than the next interval is booked there too, until somebody closes."""
        if time_ns < self._book.to_ns:
            return self._book
        if self._later is None:
            length_ns = self._book.to_ns - self._book.from_ns
            self._later = Book(self._book.to_ns, self._book.to_ns + length_ns, state=self._book.state)
        return self._later

    def _pieces(self, from_ns: int, to_ns: int) -> Iterator[tuple[Book, int, int]]:
        """A span cut at the end of the interval."""
        cut_ns = min(max(self._book.to_ns, from_ns), to_ns)
        if from_ns < cut_ns:
            yield self._book, from_ns, cut_ns
        if cut_ns < to_ns:
            yield self._book_of(cut_ns), cut_ns, to_ns

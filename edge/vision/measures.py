"""Why: a stream says of each interval one value, and what is known against it.

How much was seen decides first: below GAP_BELOW the value is a gap, for the reason that most of the unseen time had;
below GOOD_FROM it is UNCERTAIN (partial window). A count is never scaled up; a flow is over the time that was seen. A
moved camera or a poor picture make everything that depends on the view UNCERTAIN. A count from 1 to hide_below - 1 is
withheld and says so; a 0 is published, for it is about nobody. What is made of a withheld count (flow, speed, dwell) is
withheld with it, also where only the count's own stream asks for that: a mean speed of two is about two. A mean of
nobody is a gap that says so. What a stream says about the camera itself (coverage, frames, state, model, calibration)
is always good.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contract.readings import Value
from drivers.base_camera import CameraDeviceSpec, CameraStreamSpec, Measure
from edge.vision.intervals import Book, TallyKey
from edge.vision.lines import Crossing
from edge.vision.reasons import GOOD, NOBODY, PARTIAL, TOO_FEW, missing, uncertain
from edge.vision.tracks import Track

GOOD_FROM = 0.95
"""At most 5 % of a count can be missing: the accuracy that good counters of the field claim for themselves."""
GAP_BELOW = 0.1
"""Six seconds do not speak for a minute."""
HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """What a stream says of an interval. `value` is None exactly when `status` is a gap."""

    stream: str
    value: Value | None
    status: int


@dataclass(frozen=True, slots=True)
class Found:
    """A value before anything is known against it; None for a mean of nobody. about: how many things it is about.

    among: the count that it was made of, which may be larger: not of everybody the speed is known.
    """

    value: Value | None
    about: int
    among: int = 0


class Reckoner:
    """Turns a closed book into what the streams of a camera say. Raises ValueError for a name that nothing has."""

    def __init__(self, spec: CameraDeviceSpec, classes: Sequence[str], *, model: str, calibration: str) -> None:
        self._names = {Measure.MODEL: model, Measure.CALIBRATION: calibration}
        self._streams = [_Stream(stream, spec, classes) for stream in spec.streams]
        for stream in self._streams:
            if stream.spec.measure in _MADE_OF_COUNTS:
                stream.hide_below = max(other.hide_below for other in self._streams if other.place == stream.place)

    def keys(self) -> list[TallyKey]:
        """The tallies that a book must keep for these streams."""
        return sorted({stream.key for stream in self._streams if stream.key is not None}, key=str)

    def measure(self, book: Book) -> list[Measured]:
        """What each stream says, in the order of the streams."""
        return [self._measured(stream, book) for stream in self._streams]

    def _measured(self, stream: "_Stream", book: Book) -> Measured:
        name, measure = stream.spec.name, stream.spec.measure
        about_camera = self._about_camera(measure, book)
        if about_camera is not None:
            return Measured(name, about_camera, GOOD)
        coverage = book.coverage()
        found = _VALUES[measure](stream, book)
        gap = GOOD
        if coverage < GAP_BELOW:
            gap = book.why_unseen()
        elif 0 < found.about < stream.hide_below or 0 < found.among < stream.hide_below:
            gap = TOO_FEW
        elif found.value is None:
            gap = NOBODY
        if gap != GOOD:
            return Measured(name, None, missing(gap))
        code = book.doubt or (GOOD if coverage >= GOOD_FROM else PARTIAL)
        return Measured(name, found.value, uncertain(code) if code else GOOD)

    def _about_camera(self, measure: Measure, book: Book) -> Value | None:
        match measure:
            case Measure.COVERAGE:
                return book.coverage()
            case Measure.FRAMES_USED:
                return book.used
            case Measure.FRAMES_DROPPED:
                return book.dropped
            case Measure.CAMERA_STATE:
                return book.state
            case Measure.MODEL | Measure.CALIBRATION:
                return self._names[measure]
        return None


class _Stream:
    """A stream with its names resolved to positions; None: all."""

    def __init__(self, spec: CameraStreamSpec, camera: CameraDeviceSpec, classes: Sequence[str]) -> None:
        self.spec = spec
        self.hide_below = spec.hide_below or camera.hide_below or 0
        where = f"stream {spec.name!r}"
        self.line = _position(where, "line", spec.line, [line.name for line in camera.lines])
        self.zone = _position(where, "zone", spec.zone, [zone.name for zone in camera.zones])
        self.kind = _position(where, "object_class", spec.object_class, list(classes))
        directions = camera.lines[self.line].directions if self.line is not None else ()
        self.direction = _position(where, "direction", spec.direction, list(directions))
        self.place = (self.line, self.direction, self.zone)
        self.key: TallyKey | None = None
        if spec.measure in _ZONE_MEASURES:
            if self.zone is None:
                raise ValueError(f"{where}: {spec.measure.value} needs a zone")
            self.key = (self.zone, self.kind, spec.measure in {Measure.QUEUE, Measure.QUEUE_MAX})

    def counts(self, crossing: Crossing) -> bool:
        """Whether a passage is one of those this stream is about."""
        return (
            (self.line is None or crossing.line == self.line)
            and (self.direction is None or crossing.direction == self.direction)
            and self.is_kind(crossing.track)
        )

    def is_kind(self, track: Track) -> bool:
        """Whether a thing is of the class this stream is about."""
        return self.kind is None or track.kind == self.kind


_MADE_OF_COUNTS = frozenset({Measure.FLOW, Measure.SPEED, Measure.DWELL})
_ZONE_MEASURES = frozenset({Measure.OCCUPANCY, Measure.OCCUPANCY_MAX, Measure.QUEUE, Measure.QUEUE_MAX})


def _position(where: str, key: str, name: str | None, names: Sequence[str]) -> int | None:
    if name is None:
        return None
    if name not in names:
        raise ValueError(f"{where}: {key} {name!r} is none of {', '.join(map(repr, names)) or 'nothing'}")
    return names.index(name)


def _crossings(stream: _Stream, book: Book) -> Found:
    count = sum(stream.counts(crossing) for crossing in book.crossings)
    return Found(count, count)


def _flow(stream: _Stream, book: Book) -> Found:
    count = sum(stream.counts(crossing) for crossing in book.crossings)
    return Found(count * HOUR_NS / max(1, book.seen_ns()), count)


def _speed(stream: _Stream, book: Book) -> Found:
    crossed = [one for one in book.crossings if stream.counts(one)]
    return _mean([one.kmh for one in crossed if one.kmh is not None], len(crossed))


def _dwell(stream: _Stream, book: Book) -> Found:
    here = [dwell for dwell in book.dwells if stream.zone is None or dwell.zone == stream.zone]
    counted = book.tallies.get((stream.zone or 0, stream.kind, False))
    return _mean([dwell.seconds for dwell in here if stream.is_kind(dwell.track)], len(counted.who) if counted else 0)


def _mean(values: Sequence[float], among: int) -> Found:
    return Found(sum(values) / len(values) if values else None, len(values), among)


def _zone_mean(stream: _Stream, book: Book) -> Found:
    tally = book.tally(stream.key or (0, None, False))
    return Found(tally.area / max(1, book.counted_ns), len(tally.who))


def _zone_most(stream: _Stream, book: Book) -> Found:
    tally = book.tally(stream.key or (0, None, False))
    return Found(tally.most, len(tally.who))


_VALUES: dict[Measure, Callable[[_Stream, Book], Found]] = {
    Measure.CROSSINGS: _crossings,
    Measure.FLOW: _flow,
    Measure.SPEED: _speed,
    Measure.DWELL: _dwell,
    Measure.OCCUPANCY: _zone_mean,
    Measure.OCCUPANCY_MAX: _zone_most,
    Measure.QUEUE: _zone_mean,
    Measure.QUEUE_MAX: _zone_most,
}

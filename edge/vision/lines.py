"""Why: what a line has to count is passages, and a box that trembles on the line passes nothing.

A thing has crossed when it was clearly on one side and is clearly on the other: further from the line than a band
that grows with the thing's own size. Inside the band nothing is decided, so a car that stops, creeps or trembles
there counts once when it leaves on the far side, and not at all when it goes back. Where its path met the line last
decides whether that was within the line's ends, and when it was: for this a narrower band is enough, so that a car that
stops just behind the line crossed when it came and not when it went on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.base_camera import Line
from edge.vision.geometry import Floats, scaled
from edge.vision.tracks import PathPoint, Track

BAND = 0.12
"""Half width of the band, in sizes of the object: 0.3 m for a car, 0.1 m for a person; boxes tremble by a third."""
MET_BAND = 0.3
"""Share of the band beyond which the path has met the line."""
BAND_LEAST = 0.005
"""The same for very small objects, picture heights: one pixel of a detector 192 high."""


@dataclass(slots=True, eq=False)
class Crossing:
    """A passage. line: position in the list of lines. direction: 0 for the line's first, 1 for its second.

    time_ns: when the path met the line, between captures. known_ns: when it was certain. kmh: its speed, once its path
    after the line is known and if it says enough.
    """

    line: int
    direction: int
    time_ns: int
    known_ns: int
    track: Track
    kmh: float | None = None


class Lines:
    """The counting lines of one camera. Each track remembers the side it was clearly on last."""

    def __init__(self, lines: Sequence[Line], aspect: float) -> None:
        self._count = len(lines)
        self._from = scaled([line.a for line in lines], aspect)
        along = scaled([line.b for line in lines], aspect) - self._from
        lengths = np.hypot(along[:, 0], along[:, 1])
        if not (lengths > 0).all():
            raise ValueError(f"line {lines[int(lengths.argmin())].name!r}: its two ends are one point")
        self._along = along / np.maximum(lengths, 1e-12)[:, None]
        self._lengths = lengths
        # To the right hand of one who looks from a to b; y points down in a picture.
        self._right = np.column_stack([-self._along[:, 1], self._along[:, 0]])

    def advance(self, time_ns: int, tracks: Sequence[Track], places: Floats) -> list[Crossing]:
        """Take where confirmed tracks are now, (n, 4) as in Tracker.place; the passages that became certain."""
        if not self._count or not tracks:
            return []
        heights = self._heights(places[:, :2])
        bands = np.maximum(BAND * np.sqrt(np.maximum(places[:, 2] * places[:, 3], 0)), BAND_LEAST)[:, None]
        signs, sizes = np.sign(heights), np.abs(heights)
        near_sides = (signs * (sizes > MET_BAND * bands)).astype(np.int64).tolist()
        sides = (signs * (sizes > bands)).astype(np.int64).tolist()
        found = []
        for track, near, clear in zip(tracks, near_sides, sides, strict=True):
            if not track.sides:
                track.sides = self._first(track)
                track.near_sides, track.met = list(track.sides), [None] * self._count
            if near != track.near_sides:
                self._meet(track, near)
            if clear != track.sides:
                found += self._decide(track, clear, time_ns)
        return found

    def _meet(self, track: Track, near: list[int]) -> None:
        """Note where and when a path meets lines."""
        for line, side in enumerate(near):
            if side and side != track.near_sides[line]:
                track.met[line] = self._meeting(line, side, track)
                track.near_sides[line] = side

    def _decide(self, track: Track, clear: list[int], time_ns: int) -> list[Crossing]:
        """The passages of a track that is clearly on another side now."""
        found = []
        for line, side in enumerate(clear):
            before = track.sides[line]
            if not side or side == before:
                continue
            track.sides[line] = side
            met = track.met[line]
            if before and met is not None:
                place = (np.array([met.x, met.y]) - self._from[line]) @ self._along[line]
                if 0 <= place <= self._lengths[line]:
                    found.append(Crossing(line, 0 if side > 0 else 1, met.time_ns, time_ns, track))
        return found

    def _heights(self, points: Floats) -> Floats:
        """(points, lines): how far to the right of each line."""
        found: Floats = points @ self._right.T - (self._from * self._right).sum(axis=1)
        return found

    def _first(self, track: Track) -> list[int]:
        """The sides a track was on before it was confirmed: the earliest that were clear."""
        points = np.array([(point.x, point.y) for point in track.path])
        bands = np.array([max(BAND * point.size, BAND_LEAST) for point in track.path])[:, None]
        heights = self._heights(points)
        clear = np.sign(heights) * (np.abs(heights) > bands)
        firsts = (clear != 0).argmax(axis=0)
        return [int(clear[first, line]) for line, first in enumerate(firsts.tolist())]

    def _meeting(self, line: int, side: int, track: Track) -> PathPoint:
        """Where and when the path came to this side of the line last."""
        path = list(track.path)
        points = np.array([(point.x, point.y) for point in path])
        heights = _smooth(points @ self._right[line] - float(self._from[line] @ self._right[line])) * side
        before = np.flatnonzero((heights[:-1] <= 0) & (heights[1:] > 0))
        if not len(before):
            return path[-1]  # the filter is past the line and the boxes are not yet: it is about now
        low = int(before[-1])
        share = float(-heights[low] / (heights[low + 1] - heights[low]))
        x, y = (points[low] + share * (points[low + 1] - points[low])).tolist()
        time_ns = path[low].time_ns + round(share * (path[low + 1].time_ns - path[low].time_ns))
        return PathPoint(time_ns, x, y, path[low].size, path[low].whole)


def _smooth(heights: Floats) -> Floats:
    """A trembling path met the line once: weights 1, 2, 1, the ends as they are."""
    if len(heights) < 3:
        return heights
    found = heights.copy()
    found[1:-1] = (heights[:-2] + 2 * heights[1:-1] + heights[2:]) / 4
    return found


def around(path: Sequence[PathPoint], time_ns: int, reach_ns: int) -> list[PathPoint]:
    """The points of a path near a time, without those at the border of the picture: boxes are cut there."""
    return [point for point in path if point.whole and abs(point.time_ns - time_ns) <= reach_ns]

"""Why: who is in a zone, who of them stands, and how long those stayed who left.

Occupancy is a mean over time, so every look is worth the time since the one before. A thing that no box shows for a
moment is still there; when it turns out that it had gone, the time is taken back. A stay is a dwell only when both its
ends were seen: things that appear or vanish in the middle of a zone were lost, not arrived or gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.base_camera import Zone
from edge.vision.geometry import Flags, Floats, edge_distance, inside, scaled
from edge.vision.tracks import PathPoint, Track, Visit

OUTSIDE_NS = 1_000_000_000
"""So long outside is gone: boxes that tremble on the outline do not end a stay."""
NEAR_EDGE = 1.5
"""Sizes from the outline within which something may have come in or gone out between two looks."""


@dataclass(frozen=True, slots=True, eq=False)
class Dwell:
    """A stay that ended. zone: position in the list of zones."""

    zone: int
    seconds: float
    track: Track


class Zones:
    """The zones of one camera. Each track carries its own stays."""

    def __init__(self, zones: Sequence[Zone], aspect: float) -> None:
        self._polygons = [scaled(zone.polygon, aspect) for zone in zones]
        self.lost = 0

    def inside(self, points: Floats) -> Flags:
        """(n, zones): which of the points (n, 2) are in which zone."""
        if not self._polygons:
            return np.zeros((len(points), 0), dtype=np.bool_)
        return np.column_stack([inside(points, polygon) for polygon in self._polygons])

    def advance(
        self, time_ns: int, elapsed_ns: int, tracks: Sequence[Track], within: Flags, fresh: Flags
    ) -> list[Dwell]:
        """Take which confirmed tracks are in which zone now; the stays that ended."""
        ended: list[Dwell] = []
        if not self._polygons:
            return ended
        for track, row, seen in zip(tracks, within.tolist(), fresh.tolist(), strict=True):
            if not any(row) and not track.visits:
                continue
            for zone, is_inside in enumerate(row):
                visit = track.visits.get(zone)
                if visit is None:
                    if is_inside:
                        track.visits[zone] = self._enter(zone, time_ns - elapsed_ns // 2, track)
                    continue
                visit.coasted_ns = 0 if seen else visit.coasted_ns + elapsed_ns * is_inside
                if is_inside and seen:
                    visit.inside_ns = visit.left_ns = time_ns
                elif seen and visit.left_ns == visit.inside_ns:
                    visit.left_ns = (visit.inside_ns + time_ns) // 2
                if not is_inside and seen and time_ns - visit.inside_ns > OUTSIDE_NS:
                    ended += self._leave(zone, track, complete=True)
        return ended

    def end(self, track: Track) -> list[Dwell]:
        """A confirmed track ended; the stays that ended with it."""
        last = track.path[-1]
        ended: list[Dwell] = []
        for zone in list(track.visits):
            gone = not last.whole or not self._in(zone, last) or self._near(zone, last)
            ended += self._leave(zone, track, complete=gone)
        return ended

    def _enter(self, zone: int, time_ns: int, track: Track) -> Visit:
        """A stay begins; what happened before the track was confirmed is looked up in its path."""
        entered, born = time_ns, track.path[0]
        came = True
        if born.time_ns == track.born_ns and self._in(zone, born):
            entered, came = born.time_ns, not born.whole or self._near(zone, born)
        return Visit(entered, track.seen_ns, track.seen_ns, came)

    def _leave(self, zone: int, track: Track, *, complete: bool) -> list[Dwell]:
        visit = track.visits.pop(zone)
        if not complete:
            self.lost += 1
        if not complete or not visit.whole:
            return []
        return [Dwell(zone, (visit.left_ns - visit.entered_ns) * 1e-9, track)]

    def _in(self, zone: int, point: PathPoint) -> bool:
        return bool(inside(np.array([[point.x, point.y]]), self._polygons[zone])[0])

    def _near(self, zone: int, point: PathPoint) -> bool:
        return edge_distance((point.x, point.y), self._polygons[zone]) < NEAR_EDGE * point.size

"""Counting lines, zones and calibration points: laid out on the ground in metres, handed out as parts of the picture.

Picture points are fractions: (0, 0) is the top left corner, (1, 1) the bottom right one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hardware_sim.street.camera import Camera
from hardware_sim.street.types import Floats

Point = tuple[float, float]
DIGITS = 5


@dataclass(frozen=True)
class GroundLine:
    """From a to b. The first direction crosses from the left to the right hand of one who stands at a and sees b."""

    name: str
    a: Point
    b: Point
    directions: tuple[str, str]


@dataclass(frozen=True)
class GroundZone:
    """A polygon on the ground."""

    name: str
    corners: tuple[Point, ...]


@dataclass(frozen=True)
class PictureLine:
    """The same line in the picture."""

    name: str
    a: Point
    b: Point
    directions: tuple[str, str]


@dataclass(frozen=True)
class PictureZone:
    """The part of a zone that is in the picture."""

    name: str
    polygon: tuple[Point, ...]

    def holds(self, point: Point) -> bool:
        """Whether a point of the picture is inside."""
        corners = np.array(self.polygon, np.float32)
        return cv2.pointPolygonTest(corners, point, measureDist=False) >= 0


@dataclass(frozen=True)
class Calibration:
    """Four points of the picture and where they are on the ground, metres."""

    picture: tuple[Point, Point, Point, Point]
    metres: tuple[Point, Point, Point, Point]


def line_in(camera: Camera, line: GroundLine) -> PictureLine | None:
    """A line as a camera sees it; None unless both ends are in the picture."""
    pixels, depth = camera.see(np.array([(*line.a, 0.0), (*line.b, 0.0)]))
    ends = _fractions(camera, pixels)
    if depth.min() < 1 or any(not 0 <= value <= 1 for end in ends for value in end):
        return None
    return PictureLine(line.name, ends[0], ends[1], line.directions)


def zone_in(camera: Camera, zone: GroundZone) -> PictureZone | None:
    """A zone as a camera sees it, cut off at the picture's edges; None when too little of it is in the picture."""
    pixels = camera.see_polygon(np.array([(x, y, 0.0) for x, y in zone.corners]))
    if pixels is None:
        return None
    polygon = _cut_to_picture(pixels / np.array(camera.size))
    if len(polygon) < 3 or cv2.contourArea(np.array(polygon, np.float32)) < 0.003:
        return None
    return PictureZone(zone.name, tuple((round(x, DIGITS), round(y, DIGITS)) for x, y in polygon))


def calibration(camera: Camera) -> Calibration:
    """Four points well apart on the ground that the camera sees, not farther than 45 m."""
    low = [(0.12, 0.96), (0.88, 0.96)]
    for top in np.linspace(0.1, 0.9, 81):
        high = [(0.8, float(top)), (0.2, float(top))]
        found = camera.ground(np.array(high) * np.array(camera.size))
        if np.isfinite(found).all() and np.hypot(*(found - camera.position[:2]).T).max() < 45:
            break
    fractions = [(round(u, DIGITS), round(v, DIGITS)) for u, v in (*low, *high)]
    metres = [
        (round(x, 3), round(y, 3)) for x, y in camera.ground(np.array(fractions) * np.array(camera.size)).tolist()
    ]
    return Calibration(
        (fractions[0], fractions[1], fractions[2], fractions[3]), (metres[0], metres[1], metres[2], metres[3])
    )


def side(line: PictureLine, point: Point, aspect: float) -> tuple[float, float]:
    """How far right of a line's left-to-right axis a point is, and where along it (0 at a, 1 at b).

    The first number is in picture heights, positive on the right hand. aspect: width / height of the picture.
    """
    ax, ay, bx, by = line.a[0] * aspect, line.a[1], line.b[0] * aspect, line.b[1]
    px, py = point[0] * aspect - ax, point[1] - ay
    dx, dy = bx - ax, by - ay
    length = math.hypot(dx, dy)
    # With y down the right hand of one who looks along (dx, dy) is (-dy, dx).
    return (px * -dy + py * dx) / length, (px * dx + py * dy) / length**2


def _fractions(camera: Camera, pixels: Floats) -> list[Point]:
    return [(round(u, DIGITS), round(v, DIGITS)) for u, v in (pixels / np.array(camera.size)).tolist()]


def _cut_to_picture(polygon: Floats) -> list[Point]:
    points: list[Point] = [(u, v) for u, v in polygon.tolist()]
    for axis, bound, sign in ((0, 0.0, 1), (0, 1.0, -1), (1, 0.0, 1), (1, 1.0, -1)):
        points = _cut(points, axis, bound, sign)
    return points


def _cut(points: Sequence[Point], axis: int, bound: float, sign: int) -> list[Point]:
    kept: list[Point] = []
    for index, point in enumerate(points):
        before = points[index - 1]
        inside, was = sign * (point[axis] - bound) >= 0, sign * (before[axis] - bound) >= 0
        if inside != was:
            share = (bound - before[axis]) / (point[axis] - before[axis])
            cut = [before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])]
            cut[axis] = bound
            kept.append((cut[0], cut[1]))
        if inside:
            kept.append(point)
    return kept

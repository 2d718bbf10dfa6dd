"""Why: lines, zones and the street are drawn on the picture, and everything counted is asked where it is on them.

Points are in picture heights: fractions of the picture with x times the picture's aspect, so that a distance means
the same in every direction.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.base_camera import Ground

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def inside(points: Floats, polygon: Floats) -> Flags:
    """Which of `points` (n, 2) lie in `polygon` (k, 2): even-odd rule, so a bow tie has a hole."""
    ahead = np.roll(polygon, -1, axis=0)
    x, y = points[:, 0, None], points[:, 1, None]
    straddles = (polygon[:, 1] > y) != (ahead[:, 1] > y)
    rise = ahead[:, 1] - polygon[:, 1]
    slope = (ahead[:, 0] - polygon[:, 0]) / np.where(rise == 0, 1.0, rise)
    left = x < polygon[:, 0] + (y - polygon[:, 1]) * slope
    found: Flags = (np.count_nonzero(straddles & left, axis=1) & 1).astype(np.bool_)
    return found


def edge_distance(point: tuple[float, float], polygon: Floats) -> float:
    """How far a point is from the outline of a polygon."""
    along = np.roll(polygon, -1, axis=0) - polygon
    offset = np.array(point) - polygon
    share = np.clip((offset * along).sum(axis=1) / np.maximum((along * along).sum(axis=1), 1e-12), 0, 1)
    return float(np.hypot(*(offset - along * share[:, None]).T).min())


def box_overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of boxes xyxy: (n, 4) and (m, 4) give (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0.0)
    shared = sides[..., 0] * sides[..., 1]
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first, second)]
    found: Floats = shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-12)
    return found


class Street:
    """From the picture to metres on the street, by four points known in both.

    Raises ValueError when three of the four points lie on one line: nothing follows from such four.
    """

    def __init__(self, ground: Ground, aspect: float) -> None:
        picture = np.array(ground.picture, dtype=np.float64) * (aspect, 1.0)
        metres = np.array(ground.metres, dtype=np.float64)
        for name, points in (("picture", picture), ("metres", metres)):
            if _flatness(points) < 1e-4:
                raise ValueError(f"ground.{name}: three of the four points lie on one line")
        self._centre, self._span = metres.mean(axis=0), float(np.ptp(metres, axis=0).max())
        self._matrix = _homography(picture, (metres - self._centre) / self._span)
        depth = self._depth(picture)
        if (depth > 0).any() and (depth < 0).any():
            raise ValueError("ground: the points of the picture and those in metres are not in the same order")
        self._front = float(np.sign(depth[0]))

    @property
    def horizon(self) -> Floats:
        """(a, b, c): a x + b y + c is in proportion to one over the distance, and positive on the street."""
        found: Floats = self._matrix[2] * self._front
        return found

    def metres(self, points: Floats) -> Floats:
        """Where points (n, 2) of the picture are on the street, metres; NaN at or above the horizon."""
        projected = np.column_stack([points, np.ones(len(points))]) @ self._matrix.T
        depth = projected[:, 2] * self._front
        below = np.where(depth > 1e-9, depth, np.nan) * self._front
        found: Floats = projected[:, :2] / below[:, None] * self._span + self._centre
        return found

    def velocities(self, points: Floats, velocities: Floats) -> Floats:
        """Metres a second (n, 2) of points that move through the picture at `velocities` heights a second."""
        step_s = 1e-3
        found: Floats = (self.metres(points + velocities * step_s) - self.metres(points)) / step_s
        return found

    def _depth(self, points: Floats) -> Floats:
        found: Floats = np.column_stack([points, np.ones(len(points))]) @ self._matrix[2]
        return found


def _homography(source: Floats, target: Floats) -> Floats:
    """The 3 x 3 matrix that takes four points to four others exactly, its last element 1."""
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(source.tolist(), target.tolist(), strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    try:
        solved = np.linalg.solve(np.array(rows), target.reshape(-1))
    except np.linalg.LinAlgError as error:
        raise ValueError("ground: no view of a street puts these four points there") from error
    return np.append(solved, 1.0).reshape(3, 3)


def _flatness(points: Floats) -> float:
    """The smallest triangle of three of four points, as a share of the square over their extent."""
    extent = float(np.ptp(points, axis=0).max()) or 1.0
    areas: list[float] = []
    for left_out in range(4):
        a, b, c = np.delete(points, left_out, axis=0).tolist()
        areas.append(abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])) / 2)
    return min(areas) / extent**2


def median_slope(times: Floats, values: Floats) -> float:
    """The median of the slopes between all pairs (Theil and Sen): up to 29 % of the points may be nonsense."""
    first, second = np.triu_indices(len(times), 1)
    apart = times[second] - times[first]
    far = apart > 0
    return float(np.median((values[second] - values[first])[far] / apart[far]))


def scaled(points: Sequence[tuple[float, float]], aspect: float) -> Floats:
    """Fractions of the picture in picture heights, (n, 2)."""
    return np.array(points, dtype=np.float64).reshape(-1, 2) * (aspect, 1.0)

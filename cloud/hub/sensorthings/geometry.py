"""Places in filters: WKT literals, GeoJSON points, and how they lie to each other.

Everything that the hub locates is a point, so one side of a predicate is always a point; the plane is WGS84 degrees,
as other SensorThings services have it. A city is small: the straight line between two degrees is near enough.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Position = tuple[float, float]
_WKT = re.compile(
    r"\s*(?:SRID=\d+;)?\s*(POINT|LINESTRING|POLYGON)\s*(?:Z|M|ZM)?\s*(\(.*\))\s*", re.IGNORECASE | re.DOTALL
)
_NEAR = 1e-12


@dataclass(frozen=True, slots=True)
class Shape:
    """kind: point, line or polygon. rings: positions (longitude, latitude); a point and a line have one."""

    kind: str
    rings: tuple[tuple[Position, ...], ...]

    @property
    def position(self) -> Position:
        """The first position."""
        return self.rings[0][0]


class GeometryError(ValueError):
    """A literal that is no WKT of ours, or two shapes that cannot be compared."""


def parse_wkt(text: str) -> Shape:
    """The shape of a POINT, LINESTRING or POLYGON. Raises GeometryError."""
    match = _WKT.fullmatch(text)
    if match is None:
        raise GeometryError("POINT, LINESTRING or POLYGON in WKT")
    kind, body = match[1].upper(), match[2].strip()
    if kind == "POLYGON":
        inner = body[1:-1].strip()
        if not re.fullmatch(r"\([^()]*\)(?:\s*,\s*\([^()]*\))*", inner):
            raise GeometryError("POLYGON((longitude latitude, ...))")
        rings = tuple(_positions(ring) for ring in re.findall(r"\(([^()]*)\)", inner))
        if any(len(ring) < 3 for ring in rings):
            raise GeometryError("a POLYGON with rings of at least three positions")
        return Shape("polygon", rings)
    positions = _positions(body[1:-1])
    if kind == "POINT":
        if len(positions) != 1:
            raise GeometryError("POINT(longitude latitude)")
        return Shape("point", (positions,))
    if len(positions) < 2:
        raise GeometryError("a LINESTRING of at least two positions")
    return Shape("line", (positions,))


def _positions(text: str) -> tuple[Position, ...]:
    found = []
    for part in text.split(","):
        numbers = part.split()
        try:
            x, y = float(numbers[0]), float(numbers[1])
        except (ValueError, IndexError):
            raise GeometryError("positions as 'longitude latitude' in degrees") from None
        if len(numbers) > 4 or not (math.isfinite(x) and math.isfinite(y)):
            raise GeometryError("positions as 'longitude latitude' in degrees")
        found.append((x, y))
    return tuple(found)


def shape_of(value: object) -> Shape | None:
    """The shape of a literal, of a GeoJSON Point, or of a GeoJSON Feature holding one; None for all else."""
    if isinstance(value, Shape):
        return value
    if isinstance(value, dict):
        if value.get("type") == "Feature":
            return shape_of(value.get("geometry"))
        if value.get("type") == "Point":
            x, y = value["coordinates"][:2]
            return Shape("point", (((float(x), float(y)),),))
    return None


def _pairs(ring: tuple[Position, ...]) -> Iterable[tuple[Position, Position]]:
    return itertools.pairwise(ring)


def _segment_distance(point: Position, first: Position, second: Position) -> float:
    (x, y), (x1, y1), (x2, y2) = point, first, second
    dx, dy = x2 - x1, y2 - y1
    length = dx * dx + dy * dy
    along = 0.0 if length == 0 else max(0.0, min(1.0, ((x - x1) * dx + (y - y1) * dy) / length))
    return math.hypot(x - x1 - along * dx, y - y1 - along * dy)


def _closed(ring: tuple[Position, ...]) -> tuple[Position, ...]:
    return ring if ring[0] == ring[-1] else (*ring, ring[0])


def _inside(point: Position, shape: Shape) -> bool:
    """Even-odd over all rings, so that holes are outside."""
    x, y = point
    inside = False
    for ring in shape.rings:
        for (x1, y1), (x2, y2) in _pairs(_closed(ring)):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                inside = not inside
    return inside


def _edge_distance(point: Position, shape: Shape) -> float:
    if shape.kind == "point":
        return math.dist(point, shape.position)
    rings = shape.rings if shape.kind == "line" else tuple(_closed(ring) for ring in shape.rings)
    return min(_segment_distance(point, first, second) for ring in rings for first, second in _pairs(ring))


def _on_edge(point: Position, shape: Shape) -> bool:
    """On the boundary: the ends of a line, the rings of a polygon; a point has none."""
    if shape.kind == "point":
        return False
    if shape.kind == "line":
        return point in (shape.rings[0][0], shape.rings[0][-1])
    return _edge_distance(point, shape) <= _NEAR


def distance(first: Shape, second: Shape) -> float:
    """Degrees between a point and another shape; 0 inside a polygon. Raises GeometryError without a point."""
    point, other = _sorted(first, second)
    if other.kind == "polygon" and _inside(point.position, other):
        return 0.0
    return _edge_distance(point.position, other)


def length(shape: Shape) -> float:
    """Degrees along a line; 0 for a point, the circumference for a polygon."""
    rings = shape.rings if shape.kind != "polygon" else tuple(_closed(ring) for ring in shape.rings)
    return sum(math.dist(first, second) for ring in rings for first, second in _pairs(ring))


def intersects(first: Shape, second: Shape) -> bool:
    """They share a position."""
    return distance(first, second) <= _NEAR


def within(first: Shape, second: Shape) -> bool:
    """The first lies in the second, and not only on its boundary."""
    if first.kind != "point":
        return second.kind == "point" and all(position == second.position for ring in first.rings for position in ring)
    return intersects(first, second) and not _on_edge(first.position, second)


def touches(first: Shape, second: Shape) -> bool:
    """They share a boundary and nothing else."""
    point, other = _sorted(first, second)
    return _on_edge(point.position, other)


def equals(first: Shape, second: Shape) -> bool:
    """They are the same point."""
    _sorted(first, second)
    return first.kind == second.kind and first.position == second.position


def _never(first: Shape, second: Shape) -> bool:
    """A point neither overlaps nor crosses anything."""
    _sorted(first, second)
    return False


def _sorted(first: Shape, second: Shape) -> tuple[Shape, Shape]:
    if first.kind == "point":
        return first, second
    if second.kind == "point":
        return second, first
    raise GeometryError("a point on one side: every place of this service is a point")


PREDICATES: dict[str, Callable[[Shape, Shape], bool]] = {
    "geo.intersects": intersects,
    "st_intersects": intersects,
    "st_disjoint": lambda first, second: not intersects(first, second),
    "st_within": within,
    "st_contains": lambda first, second: within(second, first),
    "st_touches": touches,
    "st_equals": equals,
    "st_overlaps": _never,
    "st_crosses": _never,
}


def point_json(longitude: float, latitude: float) -> dict[str, Any]:
    """A GeoJSON Point."""
    return {"type": "Point", "coordinates": [longitude, latitude]}

"""Cars, lorries and buses as solids: plain boxes with sloping sides, and windows, lamps and wheels painted on them.

A mesh stands on z = 0 with its middle at the origin and looks along x. Its faces share no vertices: face i has the
vertices `starts[i]:starts[i + 1]`, so that a projected face is a slice. Faces of one part are listed in the order in
which they are painted; parts are painted by level, and within a level from the far one to the near one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import cache

import numpy as np

from hardware_sim.street.types import Floats, Ints


class Material(IntEnum):
    """What a face is made of: an index into an object's palette."""

    PAINT = 0
    SECOND = auto()  # a stripe, a roof, the cargo box
    GLASS = auto()
    DARK = auto()
    TYRE = auto()
    HUB = auto()
    HEADLAMP = auto()
    TAIL_LAMP = auto()
    PLATE = auto()
    SIGN = auto()


@dataclass(frozen=True)
class Mesh:
    """A solid of nominal size; see the top of this file. length, width, height: metres. lamps: front, then rear."""

    vertices: Floats  # n, 3
    starts: Ints  # faces + 1
    normals: Floats  # faces, 3
    centres: Floats  # faces, 3
    materials: Ints  # faces
    parts: tuple[tuple[int, int, int, float], ...]  # level, first face, end, x of the middle
    length: float
    width: float
    height: float
    lamps: Floats  # 4, 3


Quad = Floats  # 4, 3: bottom left, bottom right, top right, top left of one who stands outside


class _Builder:
    def __init__(self) -> None:
        self._polygons: list[Floats] = []
        self._normals: list[Floats] = []
        self._materials: list[int] = []
        self._parts: list[tuple[int, int, int, float]] = []
        self._first = 0

    def face(self, points: Floats, material: Material, outward: Floats | None = None) -> Floats:
        normal = np.cross(points[1] - points[0], points[2] - points[0]) if outward is None else outward
        self._polygons.append(points)
        self._normals.append(normal / np.linalg.norm(normal))
        self._materials.append(material)
        return points

    def panel(self, quad: Quad, material: Material, across: tuple[float, float], up: tuple[float, float]) -> None:
        """A rectangle painted on a face, in shares of the face from its bottom left corner."""
        corners = [(across[0], up[0]), (across[1], up[0]), (across[1], up[1]), (across[0], up[1])]
        low, high = quad[1] - quad[0], quad[2] - quad[3]
        points = [(1 - v) * (quad[0] + u * low) + v * (quad[3] + u * high) for u, v in corners]
        self.face(np.array(points), material)

    def box(
        self,
        bottom: tuple[float, float, float, float],
        top: tuple[float, float, float, float],
        material: Material,
        roof: Material | None = None,
    ) -> dict[str, Quad]:
        """A frustum. bottom, top: rear x, front x, half width, z. Returns its sides by name."""
        (r0, f0, w0, z0), (r1, f1, w1, z1) = bottom, top
        corners = np.array(
            [
                [(f0, -w0, z0), (f0, w0, z0), (f1, w1, z1), (f1, -w1, z1)],
                [(r0, w0, z0), (r0, -w0, z0), (r1, -w1, z1), (r1, w1, z1)],
                [(f0, w0, z0), (r0, w0, z0), (r1, w1, z1), (f1, w1, z1)],
                [(r0, -w0, z0), (f0, -w0, z0), (f1, -w1, z1), (r1, -w1, z1)],
                [(r1, w1, z1), (r1, -w1, z1), (f1, -w1, z1), (f1, w1, z1)],
            ]
        )
        sides = dict(zip(("front", "rear", "left", "right", "roof"), corners, strict=True))
        for name, quad in sides.items():
            self.face(quad, roof if name == "roof" and roof is not None else material)
        return sides

    def wheels(self, xs: Sequence[float], half_width: float, radius: float) -> None:
        angles = np.linspace(0, 2 * math.pi, 10, endpoint=False)
        for side in (1, -1):
            outward = np.array([0.0, side, 0.0])
            for x in xs:
                for share, material in ((1.0, Material.TYRE), (0.55, Material.HUB)):
                    ring = [
                        (x + share * radius * math.cos(a), side * half_width, radius + share * radius * math.sin(a))
                        for a in angles
                    ]
                    self.face(np.array(ring), material, outward)

    def end_part(self, level: int) -> None:
        end = len(self._polygons)
        middle = float(np.mean([polygon[:, 0].mean() for polygon in self._polygons[self._first : end]]))
        self._parts.append((level, self._first, end, middle))
        self._first = end

    def build(self, length: float, width: float, height: float, lamp_z: float) -> Mesh:
        normals, half = np.array(self._normals), 0.38 * width
        lamps = [(x, y, lamp_z) for x in (length / 2, -length / 2) for y in (half, -half)]
        return Mesh(
            vertices=np.concatenate(self._polygons),
            starts=np.cumsum([0, *(len(polygon) for polygon in self._polygons)]).astype(np.int32),
            normals=normals,
            centres=np.array([polygon.mean(axis=0) for polygon in self._polygons]),
            materials=np.array(self._materials, np.int32),
            parts=tuple(self._parts),
            length=length,
            width=width,
            height=height,
            lamps=np.array(lamps),
        )


@dataclass(frozen=True)
class _CarPlan:
    """Sizes in metres; shares run from the rear (0) to the front (1)."""

    length: float
    width: float
    height: float
    belt: float  # where the windows begin
    cabin: tuple[float, float]  # rear and front foot of the cabin
    roof: tuple[float, float]
    pillars: int = 2
    sign: bool = False


CARS = {
    "sedan": _CarPlan(4.7, 1.82, 1.46, 0.88, (0.12, 0.72), (0.26, 0.56)),
    "hatch": _CarPlan(4.1, 1.76, 1.50, 0.90, (0.02, 0.74), (0.10, 0.55)),
    "estate": _CarPlan(4.7, 1.84, 1.55, 0.92, (0.02, 0.72), (0.08, 0.56), 3),
    "suv": _CarPlan(4.6, 1.90, 1.72, 1.05, (0.02, 0.74), (0.07, 0.60), 3),
    "taxi": _CarPlan(4.6, 1.80, 1.48, 0.88, (0.12, 0.72), (0.26, 0.56), 2, sign=True),
    "minivan": _CarPlan(4.9, 1.88, 1.90, 1.05, (0.01, 0.86), (0.03, 0.68), 3),
}


@cache
def car(variant: str) -> Mesh:
    """A car: one of CARS, or van, pickup, truck."""
    if variant == "van":
        return _van()
    if variant in {"pickup", "truck"}:
        return _lorry(cargo=variant == "truck")
    plan = CARS[variant]
    make = _Builder()
    half, long = plan.width / 2, plan.length
    rear, front = -long / 2, long / 2
    body = make.box((rear, front, half, 0.2), (rear + 0.05, front - 0.12, half - 0.03, plan.belt), Material.PAINT)
    _nose(make, body)
    _tail(make, body)
    make.wheels((rear + 0.2 * long, rear + 0.8 * long), half, 0.32)
    make.end_part(0)
    foot = [rear + share * long for share in plan.cabin]
    top = [rear + share * long for share in plan.roof]
    cabin = make.box(
        (foot[0], foot[1], half - 0.06, plan.belt), (top[0], top[1], half - 0.22, plan.height), Material.PAINT
    )
    for side in ("left", "right"):
        width = 0.92 / plan.pillars
        for n in range(plan.pillars):
            make.panel(cabin[side], Material.GLASS, (0.05 + n * width, 0.02 + (n + 1) * width), (0.08, 0.86))
    make.panel(cabin["front"], Material.GLASS, (0.06, 0.94), (0.06, 0.92))
    make.panel(cabin["rear"], Material.GLASS, (0.1, 0.9), (0.15, 0.85))
    make.end_part(1)
    if plan.sign:
        middle = (top[0] + top[1]) / 2
        low = (middle - 0.15, middle + 0.15, 0.3, plan.height)
        make.box(low, (low[0], low[1], 0.25, plan.height + 0.16), Material.SIGN)
        make.end_part(2)
    return make.build(long, plan.width, plan.height, 0.65)


def _nose(make: _Builder, body: dict[str, Quad]) -> None:
    make.panel(body["front"], Material.DARK, (0.25, 0.75), (0.3, 0.6))
    make.panel(body["front"], Material.PLATE, (0.4, 0.6), (0.12, 0.28))
    make.panel(body["front"], Material.HEADLAMP, (0.04, 0.24), (0.58, 0.84))
    make.panel(body["front"], Material.HEADLAMP, (0.76, 0.96), (0.58, 0.84))


def _tail(make: _Builder, body: dict[str, Quad]) -> None:
    make.panel(body["rear"], Material.PLATE, (0.38, 0.62), (0.4, 0.58))
    make.panel(body["rear"], Material.DARK, (0.05, 0.95), (0.0, 0.18))
    make.panel(body["rear"], Material.TAIL_LAMP, (0.03, 0.22), (0.62, 0.88))
    make.panel(body["rear"], Material.TAIL_LAMP, (0.78, 0.97), (0.62, 0.88))


def _van() -> Mesh:
    make = _Builder()
    body = make.box((-2.65, 2.65, 0.98, 0.22), (-2.6, 2.45, 0.95, 1.15), Material.PAINT)
    _nose(make, body)
    _tail(make, body)
    make.wheels((-1.65, 1.7), 0.98, 0.34)
    make.end_part(0)
    upper = make.box((-2.6, 2.4, 0.95, 1.15), (-2.55, 1.5, 0.86, 2.25), Material.PAINT)
    for side, across in (("left", (0.08, 0.28)), ("right", (0.72, 0.92))):
        make.panel(upper[side], Material.GLASS, across, (0.08, 0.62))
    make.panel(upper["front"], Material.GLASS, (0.06, 0.94), (0.06, 0.8))
    make.panel(upper["rear"], Material.GLASS, (0.1, 0.46), (0.3, 0.75))
    make.panel(upper["rear"], Material.GLASS, (0.54, 0.9), (0.3, 0.75))
    make.end_part(1)
    return make.build(5.3, 1.96, 2.25, 0.75)


def _lorry(*, cargo: bool) -> Mesh:
    """A light lorry with a box, or a pickup with an open bed."""
    make = _Builder()
    length, width, height = (5.9, 2.05, 2.7) if cargo else (5.2, 1.9, 1.78)
    half, floor = width / 2, 0.75 if cargo else 0.95
    base = make.box((-length / 2, length / 2, half, 0.25), (-length / 2, length / 2 - 0.1, half, floor), Material.PAINT)
    _nose(make, base)
    _tail(make, base)
    make.wheels((-0.3 * length, 0.32 * length), half, 0.38)
    if not cargo:
        make.panel(base["roof"], Material.DARK, (0.08, 0.92), (0.03, 0.38))
    make.end_part(0)
    front, back = length / 2 - (0.1 if cargo else 1.5), length / 2 - (1.6 if cargo else 3.3)
    cab_top = 2.0 if cargo else height
    slope = 0.25 if cargo else 0.7
    cab = make.box((back, front, half - 0.06, floor), (back + 0.1, front - slope, half - 0.2, cab_top), Material.PAINT)
    for side in ("left", "right"):
        make.panel(cab[side], Material.GLASS, (0.15, 0.85), (0.15, 0.85))
    make.panel(cab["front"], Material.GLASS, (0.06, 0.94), (0.1, 0.88))
    make.panel(cab["rear"], Material.GLASS, (0.15, 0.85), (0.3, 0.85))
    make.end_part(1)
    if cargo:
        hold = make.box(
            (-length / 2, back - 0.1, half, floor), (-length / 2, back - 0.1, half, height), Material.SECOND
        )
        make.panel(hold["rear"], Material.DARK, (0.49, 0.51), (0.05, 0.95))
        make.end_part(1)
    return make.build(length, width, height, 0.7)


BUSES = {"city": (11.8, 2.55, 3.05), "coach": (12.0, 2.55, 3.5), "midi": (8.4, 2.4, 2.85), "double": (11.2, 2.55, 4.2)}


@cache
def bus(variant: str) -> Mesh:
    """A bus: one of BUSES."""
    length, width, height = BUSES[variant]
    half, decks = width / 2, 2 if variant == "double" else 1
    sill = 0.45 if variant == "coach" else 0.32
    make = _Builder()
    low = (-length / 2, length / 2, half, 0.28)
    body = make.box(low, (-length / 2 + 0.08, length / 2 - 0.12, half - 0.05, height), Material.PAINT, Material.SECOND)
    panes = round(length / 1.35)
    for side in ("left", "right"):
        make.panel(body[side], Material.SECOND, (0.0, 1.0), (0.06, 0.16))
        for deck in range(decks):
            up = (sill, 0.88) if decks == 1 else (0.2 + 0.42 * deck, 0.46 + 0.42 * deck)
            step = 0.96 / panes
            for n in range(panes):
                make.panel(body[side], Material.GLASS, (0.02 + n * step, 0.02 + (n + 0.88) * step), up)
    for along in ((0.83, 0.92), (0.42, 0.52)):  # doors stand on the kerb's side, which is the right
        make.panel(body["right"], Material.DARK, along, (0.04, 0.86 if decks == 1 else 0.44))
        make.panel(
            body["right"], Material.GLASS, (along[0] + 0.01, along[1] - 0.01), (0.12, 0.8 if decks == 1 else 0.4)
        )
    make.panel(body["front"], Material.GLASS, (0.05, 0.95), (0.3, 0.82))
    make.panel(body["front"], Material.SIGN, (0.2, 0.8), (0.86, 0.96))
    make.panel(body["front"], Material.HEADLAMP, (0.05, 0.2), (0.1, 0.18))
    make.panel(body["front"], Material.HEADLAMP, (0.8, 0.95), (0.1, 0.18))
    make.panel(body["front"], Material.PLATE, (0.42, 0.58), (0.06, 0.12))
    make.panel(body["rear"], Material.GLASS, (0.1, 0.9), (0.55, 0.85))
    make.panel(body["rear"], Material.DARK, (0.15, 0.85), (0.12, 0.4))
    make.panel(body["rear"], Material.SIGN, (0.4, 0.6), (0.88, 0.95))
    make.panel(body["rear"], Material.TAIL_LAMP, (0.02, 0.12), (0.15, 0.4))
    make.panel(body["rear"], Material.TAIL_LAMP, (0.88, 0.98), (0.15, 0.4))
    make.wheels((-0.28 * length, 0.3 * length), half, 0.48)
    make.end_part(0)
    return make.build(length, width, height, 0.7)

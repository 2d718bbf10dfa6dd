"""The scenes that a camera is judged on: a street, a pose, traffic, and what is counted where. All by name and seed.

Cameras stand in held-out poses (`views.pose_split`), at the kerb or over it, so that the counting line across the road
is well in the picture. The line is at x = 0; its first direction, "along", is that of the lanes along x.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from hardware_sim.street.bodies import Body, random_looks
from hardware_sim.street.camera import Camera
from hardware_sim.street.layout import Plant, Street, furnish
from hardware_sim.street.lens import Lens
from hardware_sim.street.light import Light, make_light
from hardware_sim.street.marks import (
    Calibration,
    GroundLine,
    GroundZone,
    PictureLine,
    PictureZone,
    calibration,
    line_in,
    zone_in,
)
from hardware_sim.street.traffic import Traffic
from hardware_sim.street.vehicles import Flow, Signal
from hardware_sim.street.views import pose_split
from hardware_sim.street.walkers import Feet

REACH_M = (-75.0, 95.0)
PARKED_ID = 900_001


@dataclass(frozen=True)
class _Recipe:
    """What makes a scene what it is. stop_at: x of the stop line of the lanes along x, with a crossing beyond it."""

    lanes: tuple[int, int]
    flow: Flow
    feet: Feet
    bike_m: float = 2.0
    stop_at: float | None = None
    parked: float = 0.0
    kerb_line: bool = False


_QUIET = Feet(along=40, cyclists=20)
SCENES: dict[str, _Recipe] = {
    "free-flow": _Recipe((2, 2), Flow(per_h=420), Feet(along=60, cyclists=70)),
    "queue": _Recipe(
        (2, 2), Flow(per_h=520, creep=True, speed_kmh=40), Feet(along=40, cyclists=40, crossers=90), stop_at=1.5
    ),
    "dense": _Recipe((2, 2), Flow(per_h=1050, buses=0.12, speed_kmh=38), Feet(along=90, cyclists=150)),
    "u-turn": _Recipe((2, 2), Flow(per_h=170, turns=0.75, turns_at=(-7.5, -2.0, 1.0, 4.0)), _QUIET),
    "parallel": _Recipe((1, 1), Flow(per_h=150), Feet(along=30, cyclists=0, beside=420), bike_m=2.4, kerb_line=True),
    "reverse": _Recipe((1, 1), Flow(per_h=150), Feet(along=30, cyclists=30, reversers=240, line_x=0.0), bike_m=0.0),
    "groups": _Recipe(
        (1, 1), Flow(per_h=240), Feet(along=110, groups=(2, 3, 3, 4, 5, 6), crossers=150, cyclists=40), stop_at=1.0
    ),
    "empty": _Recipe((2, 2), Flow(per_h=0), Feet(along=0, cyclists=0)),
    "parked": _Recipe((1, 1), Flow(per_h=0), Feet(along=0, cyclists=0), parked=0.75),
    "mixed": _Recipe(
        (2, 2), Flow(per_h=430, creep=True), Feet(along=90, groups=(1, 1, 2, 3), crossers=60, cyclists=90), stop_at=4.0
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One scene, whole. lines, zones: on the ground; `picture_lines` and `picture_zones` are what a config wants."""

    name: str
    seed: int
    camera: Camera
    street: Street
    light: Light
    lens: Lens
    flow: Flow
    feet: Feet
    signal: Signal | None
    parked: tuple[Body, ...]
    lines: tuple[GroundLine, ...]
    zones: tuple[GroundZone, ...]

    def traffic(self) -> Traffic:
        """Its traffic from the beginning."""
        return Traffic(self.street, self.flow, self.feet, self.signal, self.seed, REACH_M, self.parked)

    def picture_lines(self) -> tuple[PictureLine, ...]:
        """The lines that are wholly in the picture."""
        return tuple(found for line in self.lines if (found := line_in(self.camera, line)) is not None)

    def picture_zones(self) -> tuple[PictureZone, ...]:
        """What of the zones is in the picture."""
        return tuple(found for zone in self.zones if (found := zone_in(self.camera, zone)) is not None)

    def calibration(self) -> Calibration:
        """Four points for a homography."""
        return calibration(self.camera)


def make_scene(name: str, seed: int = 1, size: tuple[int, int] = (1280, 720)) -> Scene:
    """A scene of SCENES; the same for the same arguments. Raises ValueError."""
    if name not in SCENES:
        raise ValueError(f"no scene {name!r}, expected one of {', '.join(SCENES)}")
    recipe = SCENES[name]
    random = np.random.default_rng([seed, sum(name.encode()), 14])
    street = _street(recipe, random)
    lines = _lines(recipe, street)
    camera = _camera(random, street, lines[0], size)
    street = replace(street, plants=_out_of_sight(street.plants, camera))
    light = make_light("day", azimuth_deg=float(random.uniform(0, 360)), sunny=float(random.choice([0.0, 0.4, 0.9])))
    lens = Lens(noise=1.2, seed=seed)
    signal = None if recipe.stop_at is None else Signal()
    return Scene(
        name, seed, camera, street, light, lens, recipe.flow, recipe.feet, signal,
        _parked(recipe, street, random), lines, _zones(street),
    )  # fmt: skip


def _street(recipe: _Recipe, random: np.random.Generator) -> Street:
    stop = recipe.stop_at
    grey = float(random.uniform(75, 115))
    street = Street(
        lanes=recipe.lanes,
        lane_m=3.3,
        bike_m=recipe.bike_m,
        pavement_m=float(random.uniform(3.5, 5.5)),
        crossings=() if stop is None else (stop + 4.5,),
        stop_lines=() if stop is None else ((stop, 1), (stop + 9.0, -1)),
        asphalt=(grey, grey, grey + 2),
        paving=(grey + 40, grey + 46, grey + 50),
        middle="double" if sum(recipe.lanes) > 2 else "dashes",
        seed=int(random.integers(2**31)),
    )
    return furnish(street, random, trees=0.3)


def _lines(recipe: _Recipe, street: Street) -> tuple[GroundLine, ...]:
    right, left, walk = street.right_edge, street.left_edge, street.pavement_m
    ways = ("along", "against")
    road = GroundLine("road", (0.0, right - 0.6), (0.0, left + 0.6), ways)
    pavements = (
        GroundLine("pavement-right", (0.0, right - walk), (0.0, right - 0.1), ways),
        GroundLine("pavement-left", (0.0, left + 0.1), (0.0, left + walk), ways),
    )
    kerb = (
        GroundLine("kerb-right", (-9.0, right), (9.0, right), ("off", "onto")),
        GroundLine("kerb-left", (9.0, left), (-9.0, left), ("off", "onto")),
    )
    crossing = tuple(
        GroundLine("crossing", (x + 3.0, 0.0), (x - 3.0, 0.0), ("leftwards", "rightwards")) for x in street.crossings
    )
    return (road, *(kerb if recipe.kerb_line else pavements), *crossing)


def _zones(street: Street) -> tuple[GroundZone, ...]:
    right, left = street.right_edge, street.left_edge
    lanes = -street.lanes[0] * street.lane_m
    return (
        GroundZone("approach", ((-16.0, lanes - 0.5), (0.0, lanes - 0.5), (0.0, 0.0), (-16.0, 0.0))),
        GroundZone("road", ((-10.0, right), (10.0, right), (10.0, left), (-10.0, left))),
    )


def _camera(random: np.random.Generator, street: Street, road: GroundLine, size: tuple[int, int]) -> Camera:
    """A held-out pose that has the counting line well in the picture and looks down enough to see between cars."""
    while True:
        height, away = float(random.uniform(6, 9.9)), int(random.choice([-1, 1]))
        edge = street.right_edge if away < 0 else street.left_edge
        y = edge + away * float(random.uniform(0.3, 2.0))
        x = float(random.choice([-1, 1])) * float(random.uniform(9, 20))
        aim_x, aim_y = float(random.uniform(-3, 3)), float(random.uniform(-2, 2))
        yaw = math.degrees(math.atan2(aim_y - y, aim_x - x))
        pitch = math.degrees(math.atan2(height, math.hypot(aim_x - x, aim_y - y))) - float(random.uniform(-2, 4))
        fov = float(random.uniform(55, 85))
        camera = Camera(size, x, y, height, yaw, pitch, fov, float(random.normal(0, 0.8)))
        if pose_split(camera) != "heldout" or not 14 < pitch < 45:
            continue
        seen = line_in(camera, road)
        if seen is None:
            continue
        inside = all(0.05 < end[0] < 0.95 and 0.2 < end[1] < 0.93 for end in (seen.a, seen.b))
        if inside and math.hypot(seen.a[0] - seen.b[0], seen.a[1] - seen.b[1]) > 0.3:
            return camera


def _out_of_sight(plants: tuple[Plant, ...], camera: Camera) -> tuple[Plant, ...]:
    """Without the trees and shelters between the camera and what it counts: nobody mounts a camera behind a tree."""

    def hides(plant: Plant) -> bool:
        same_side = plant.y * camera.y > 0
        toward = -math.copysign(1.0, camera.x)
        return plant.kind in {"tree", "shelter"} and same_side and -6 < (plant.x - camera.x) * toward < 35

    return tuple(plant for plant in plants if not hides(plant))


def _parked(recipe: _Recipe, street: Street, random: np.random.Generator) -> tuple[Body, ...]:
    found: list[Body] = []
    if recipe.parked == 0:
        return ()
    for edge, heading in ((street.right_edge + 1.1, 0.0), (street.left_edge - 1.1, 180.0)):
        x = -22.0
        while x < 24:
            looks = random_looks("car", int(random.integers(2**31)))
            x += looks.length / 2
            if random.random() < recipe.parked:
                body = Body(PARKED_ID + len(found), looks, x, edge + float(random.normal(0, 0.1)), heading)
                body.parked = True
                found.append(body)
            x += looks.length / 2 + float(random.uniform(0.8, 2.0))
    return tuple(found)

"""Where a street has its lanes, kerbs, crossings, houses, trees and lamps. Metres; see camera.py for the axes.

Traffic keeps to the right: lanes below y = 0 run along x, those above against it.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hardware_sim.street.types import Colour

FAR_M = 220.0
"""How far the street is drawn to either side of x = 0."""


@dataclass(frozen=True)
class House:
    """A box along the street. y: of its front. away: +1 or -1, to which side it goes on. windows: BGR."""

    x0: float
    x1: float
    y: float
    away: int
    height: float
    wall: Colour
    windows: Colour
    floor_m: float
    seed: int


@dataclass(frozen=True)
class Plant:
    """A tree, a lamp post, a sign or a shelter; what stands before a road user hides it."""

    kind: Literal["tree", "lamp", "sign", "shelter", "bollard"]
    x: float
    y: float
    height: float
    colour: Colour
    seed: int


@dataclass(frozen=True)
class Street:
    """A straight street. lanes: along x, and against it. bike_m: width of a cycle lane at each kerb, or 0.

    crossings: x of the middles of zebra crossings. stop_lines: (x, 1 for lanes along x or -1 for those against it).
    side_x: x of the middle of a side street, or None; side_y: +1 or -1, on which side it leaves.
    """

    lanes: tuple[int, int] = (1, 1)
    lane_m: float = 3.3
    bike_m: float = 0.0
    pavement_m: float = 4.0
    crossings: tuple[float, ...] = ()
    stop_lines: tuple[tuple[float, int], ...] = ()
    side_x: float | None = None
    side_y: int = -1
    side_m: float = 8.0
    asphalt: Colour = (96, 96, 98)
    paving: Colour = (140, 146, 150)
    beyond: Colour = (88, 120, 105)
    bike_colour: Colour | None = None
    middle: Literal["double", "dashes", "island"] = "double"
    houses: tuple[House, ...] = ()
    plants: tuple[Plant, ...] = ()
    seed: int = 0

    @property
    def right_edge(self) -> float:
        """y of the kerb of the lanes along x."""
        return -self.lanes[0] * self.lane_m - self.bike_m

    @property
    def left_edge(self) -> float:
        """y of the kerb of the lanes against x."""
        return self.lanes[1] * self.lane_m + self.bike_m

    def lane_y(self, lane: int, direction: int) -> float:
        """The middle of a lane; lane 0 is next to the middle of the street."""
        return -direction * (lane + 0.5) * self.lane_m

    def bike_y(self, direction: int) -> float:
        """Where cyclists ride: the middle of the cycle lane, or the edge of the last lane."""
        if self.bike_m > 0:
            return -direction * (self.lanes[0 if direction > 0 else 1] * self.lane_m + self.bike_m / 2)
        return self.right_edge + 0.55 if direction > 0 else self.left_edge - 0.55


def random_street(random: np.random.Generator) -> Street:
    """Any street."""
    lanes = (int(random.choice([1, 2, 3], p=[0.35, 0.45, 0.2])), int(random.choice([1, 2, 3], p=[0.4, 0.45, 0.15])))
    bike_m = float(random.choice([0.0, random.uniform(1.5, 2.6)], p=[0.55, 0.45]))
    crossing = float(random.uniform(8, 40)) if random.random() < 0.5 else None
    grey = random.uniform(60, 125)
    street = Street(
        lanes=lanes,
        lane_m=float(random.uniform(2.9, 3.6)),
        bike_m=bike_m,
        pavement_m=float(random.uniform(2.2, 7)),
        crossings=() if crossing is None else (crossing,),
        stop_lines=() if crossing is None else ((crossing - 4, 1), (crossing + 4, -1)),
        side_x=float(random.uniform(10, 50)) if random.random() < 0.3 else None,
        side_y=int(random.choice([-1, 1])),
        side_m=float(random.uniform(5, 9)),
        asphalt=_colour(np.full(3, grey) + random.normal(0, 4, 3)),
        paving=_colour(random.uniform(100, 190) + random.normal(0, 14, 3)),
        beyond=_colour(np.array((70, 115, 95)) + random.normal(0, 25, 3)),
        bike_colour=_colour(random.uniform(50, 170, 3)) if bike_m and random.random() < 0.4 else None,
        middle=random.choice(["double", "dashes", "island"], p=[0.5, 0.35, 0.15]),
        seed=int(random.integers(2**31)),
    )
    return furnish(street, random)


def furnish(street: Street, random: np.random.Generator, *, trees: float | None = None) -> Street:
    """The same street with houses, trees, lamps and signs. trees: how likely one is at each place; None: any."""
    leafy = float(random.uniform(0, 0.9)) if trees is None else trees
    plants: list[Plant] = []
    houses: list[House] = []
    for away, edge in ((-1, street.right_edge), (1, street.left_edge)):
        leaf = np.array(random.choice([(45, 95, 60), (40, 120, 140), (60, 110, 85), (70, 85, 95)]), float)
        for x in np.arange(-80, 130, random.uniform(7, 14)):
            place = float(x + random.uniform(-1.5, 1.5))
            if street.side_x is not None and away == street.side_y and abs(place - street.side_x) < street.side_m:
                continue
            if random.random() < leafy:
                colour = _colour(leaf + random.normal(0, 10, 3))
                seed, height = int(random.integers(2**31)), float(random.uniform(4.5, 9))
                plants.append(Plant("tree", place, edge + away * 1.1, height, colour, seed))
            elif random.random() < 0.25:
                kind: Literal["sign", "bollard"] = "sign" if random.random() < 0.5 else "bollard"
                height = 2.8 if kind == "sign" else 0.9
                plants.append(Plant(kind, place, edge + away * 0.6, height, _colour(random.uniform(40, 230, 3)), 0))
        places = (np.arange(-70, 140, 28) + random.uniform(-9, 9)).tolist()
        steel = [_colour(random.uniform(90, 170, 3)) for _ in places]
        plants += [Plant("lamp", x, edge + away * 0.7, 8.0, tone, 0) for x, tone in zip(places, steel, strict=True)]
        if random.random() < 0.2:
            x = float(random.uniform(5, 40))
            plants.append(Plant("shelter", x, edge + away * 2.0, 2.5, _colour(random.uniform(60, 200, 3)), 0))
        houses += _houses(street, random, away, edge)
    return replace(street, houses=tuple(houses), plants=tuple(plants))


def _houses(street: Street, random: np.random.Generator, away: int, edge: float) -> list[House]:
    found = []
    x = -FAR_M / 2
    if random.random() < 0.15:
        return []
    setback = float(random.uniform(0, 6))
    while x < FAR_M:
        width = float(random.uniform(9, 32))
        gap = 0.0 if random.random() < 0.6 else float(random.uniform(2, 15))
        y = edge + away * (street.pavement_m + setback + float(random.uniform(0, 2)))
        blocked = street.side_x is not None and away == street.side_y
        if not (blocked and street.side_x is not None and x - 3 < street.side_x + street.side_m / 2 < x + width + 10):
            height = float(random.uniform(5, 28))
            wall = _colour(random.uniform(90, 215) + random.normal(0, 18, 3))
            windows, floor_m = _colour(random.uniform(40, 110, 3)), float(random.uniform(2.9, 3.8))
            found.append(House(x, x + width, y, away, height, wall, windows, floor_m, int(random.integers(2**31))))
        x += width + gap
    return found


def _colour(values: "np.ndarray[tuple[int], np.dtype[np.float64]] | float") -> Colour:
    blue, green, red = np.clip(np.broadcast_to(values, 3), 5, 250).tolist()
    return blue, green, red

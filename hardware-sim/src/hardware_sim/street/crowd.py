"""Road users for a random view: lanes that flow or stand, cyclists, people alone and in groups, parked cars.

They keep a constant speed, so who is where at a time needs no simulation; who shares a lane shares its speed. What has
to be true to traffic (queues, turns, crossings) is in traffic.py.
"""

from dataclasses import dataclass

import numpy as np

from hardware_sim.street.bodies import Body, Kind, Looks, random_looks
from hardware_sim.street.layout import Street

REACH_M = 75.0
"""Traffic runs from -REACH_M to REACH_M around the point where the camera looks, and starts again."""


@dataclass(frozen=True, slots=True)
class Mover:
    """Somebody at x0 at the time 0, with a constant speed; it comes again after the whole reach."""

    id: int
    looks: Looks
    x0: float
    y: float
    speed: float
    along: float  # heading: 0 along x, 180 against it, 90 across
    braking: bool = False
    parked: bool = False

    def at(self, t_s: float, middle: float, span: float) -> Body:
        """Where it is at a time. middle: the x around which it runs; span: half the way of one who crosses."""
        gone = self.speed * t_s
        if self.along in {90.0, -90.0}:
            way = 1 if self.along > 0 else -1
            y = (self.y + way * gone + span) % (2 * span) - span
            return Body(self.id, self.looks, self.x0, y, self.along, gone + self.x0, self.speed)
        way = 1 if abs(self.along) < 90 else -1
        x = (self.x0 + way * gone - middle + REACH_M) % (2 * REACH_M) - REACH_M + middle
        return Body(self.id, self.looks, x, self.y, self.along, gone + self.x0, self.speed, self.braking, self.parked)


class _Crowd:
    def __init__(self, random: np.random.Generator, street: Street, middle: float, density: float) -> None:
        self._random = random
        self._street = street
        self._middle = middle
        self._density = density
        self.movers: list[Mover] = []

    def _looks(self, kind: Kind) -> Looks:
        return random_looks(kind, int(self._random.integers(2**31)))

    def _add(self, looks: Looks, x: float, y: float, speed: float, along: float, state: str = "") -> None:
        number = len(self.movers) + 1
        self.movers.append(Mover(number, looks, x, y, speed, along, state == "braking", state == "parked"))

    def lane(self, direction: int, lane: int) -> None:
        """One lane: standing bumper to bumper, or flowing with gaps."""
        random, y = self._random, self._street.lane_y(lane, direction)
        queue = random.random() < 0.22
        speed = 0.0 if queue else float(random.uniform(4, 15))
        gap_m = 1.6 if queue else 34.0 / max(self._density, 0.15)
        buses = float(random.choice([0.06, 0.25], p=[0.7, 0.3]))
        x = -REACH_M + float(random.uniform(0, 12))
        while self._density > 0:
            looks = self._looks("bus" if random.random() < buses else "car")
            if x + looks.length > REACH_M - 6:
                return
            braking = queue or random.random() < 0.1
            along = (0.0 if direction > 0 else 180.0) + float(random.normal(0, 1.2))
            at = self._middle + x + looks.length / 2
            self._add(looks, at, y + float(random.normal(0, 0.18)), speed, along, "braking" if braking else "")
            x += looks.length + (float(random.uniform(0.8, 3.2)) if queue else 3 + float(random.exponential(gap_m)))

    def cyclists(self, direction: int) -> None:
        """Cyclists at one kerb."""
        random = self._random
        for _ in range(int(random.poisson(1.6 * max(self._density, 0.3)))):
            along = 0.0 if direction > 0 else 180.0
            if random.random() < 0.12:  # somebody always rides on the wrong side
                along = 180.0 - along
            y = self._street.bike_y(direction) + float(random.normal(0, 0.35))
            speed = float(random.uniform(2.5, 7)) if random.random() < 0.85 else 0.0
            x = self._middle + float(random.uniform(-35, 35))
            self._add(self._looks("cyclist"), x, y, speed, along + float(random.normal(0, 4)))

    def parked(self, direction: int) -> None:
        """Cars along one kerb."""
        random, street = self._random, self._street
        if random.random() > 0.3:
            return
        edge = street.right_edge - 1.1 if direction > 0 else street.left_edge + 1.1
        x = -REACH_M / 2
        while x < REACH_M / 2:
            looks = self._looks("car" if random.random() < 0.96 else "bus")
            if random.random() < 0.6:
                along = 0.0 if random.random() < 0.7 else 180.0
                at = self._middle + x + looks.length / 2
                self._add(
                    looks, at, edge + float(random.normal(0, 0.12)), 0, along + float(random.normal(0, 2)), "parked"
                )
            x += looks.length + float(random.uniform(0.7, 2.5))

    def walkers(self) -> None:
        """People on both pavements and on crossings, some of them in groups, some at the kerb, some on the road."""
        random, street = self._random, self._street
        for away, edge in ((-1, street.right_edge), (1, street.left_edge)):
            for _ in range(int(random.poisson(2.0 * max(self._density, 0.5)))):
                y = edge + away * float(random.uniform(0.4, max(0.8, street.pavement_m - 0.3)))
                self._group(self._middle + float(random.uniform(-30, 30)), y, float(random.choice([0.0, 180.0])))
        for x in street.crossings:
            for _ in range(int(random.poisson(1.5 * max(self._density, 0.5)))):
                y = float(random.uniform(street.right_edge - 2, street.left_edge + 2))
                self._group(x + float(random.uniform(-1.8, 1.8)), y, float(random.choice([90.0, -90.0])))
        for _ in range(int(random.poisson(0.6))):
            y = float(random.uniform(street.right_edge, street.left_edge))
            self._group(
                self._middle + float(random.uniform(-25, 25)), y, float(random.choice([0.0, 90.0, -90.0, 180.0]))
            )

    def _group(self, x: float, y: float, along: float) -> None:
        random = self._random
        speed = float(random.uniform(0.8, 1.7)) if random.random() < 0.85 else 0.0
        size = int(random.choice([1, 2, 3, 4, 6], p=[0.62, 0.2, 0.09, 0.05, 0.04]))
        for n in range(size):
            heading = along if speed > 0 or n == 0 else float(random.uniform(-180, 180))
            dx, dy = (0.0, 0.0) if n == 0 else random.normal(0, 0.75, 2).tolist()
            exact = heading if heading in {90.0, -90.0} else heading + float(random.normal(0, 5))
            self._add(self._looks("person"), x + dx, y + dy, speed, exact)


def random_crowd(random: np.random.Generator, street: Street, middle: float) -> tuple[Mover, ...]:
    """Any traffic around x = middle, also none at all."""
    density = float(random.choice([0.0, 0.4, 1.0, 2.2], p=[0.05, 0.33, 0.42, 0.2]))
    crowd = _Crowd(random, street, middle, density)
    if density == 0 and random.random() < 0.6:
        return ()
    for direction in (1, -1):
        for lane in range(street.lanes[0 if direction > 0 else 1]):
            crowd.lane(direction, lane)
        crowd.cyclists(direction)
        crowd.parked(direction)
    crowd.walkers()
    return tuple(crowd.movers)

"""People and cyclists: along the pavement, alone and in groups, over the crossing, and just beside a line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hardware_sim.street.bodies import Body, Kind, Looks, random_looks
from hardware_sim.street.layout import Street
from hardware_sim.street.vehicles import Signal

Point = tuple[float, float]
FIRST_ID = 100_001


@dataclass(frozen=True)
class Feet:
    """Who comes on foot and on two wheels, an hour. groups: how many walk together, picked at random.

    along: on the pavements. crossers: over the first crossing. reversers: walk over the line at `line_x`, stand, and go
    back. beside: walk and ride along the kerb line without stepping over it.
    """

    along: float = 60.0
    groups: Sequence[int] = (1, 1, 1, 2)
    crossers: float = 0.0
    reversers: float = 0.0
    beside: float = 0.0
    cyclists: float = 60.0
    line_x: float = 20.0


@dataclass(slots=True)
class _Goer:
    """Somebody on the way through points. pauses: seconds to stand at each; inf: until the light says walk."""

    id: int
    looks: Looks
    points: list[Point]
    pauses: list[float]
    speed: float
    x: float = 0.0
    y: float = 0.0
    heading: float = 0.0
    leg: int = 0
    waited_s: float = 0.0
    gone_m: float = 0.0
    stands: bool = False

    def body(self) -> Body:
        return Body(self.id, self.looks, self.x, self.y, self.heading, self.gone_m, 0.0 if self.stands else self.speed)

    def step(self, step_s: float, *, walk: bool) -> bool:
        """Move; False when there is nowhere left to go."""
        pause = self.pauses[self.leg]
        self.stands = False
        if (math.isinf(pause) and not walk) or (not math.isinf(pause) and self.waited_s < pause):
            self.waited_s += step_s
            self.stands = True
            return True
        if self.leg + 1 >= len(self.points):
            return False
        to_x, to_y = self.points[self.leg + 1]
        left, step = math.hypot(to_x - self.x, to_y - self.y), self.speed * step_s
        if left > 1e-6:
            self.heading = math.degrees(math.atan2(to_y - self.y, to_x - self.x))
        if left <= step:
            self.x, self.y, self.leg, self.waited_s = to_x, to_y, self.leg + 1, 0.0
        else:
            self.x += (to_x - self.x) / left * step
            self.y += (to_y - self.y) / left * step
        self.gone_m += min(step, left)
        return True


@dataclass
class Walkers:
    """Everybody on foot or on a bicycle. reach: x from where to where they come and go. begin_s: when it starts."""

    street: Street
    feet: Feet
    signal: Signal | None
    seed: int
    reach: tuple[float, float]
    begin_s: float
    _goers: list[_Goer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng([self.seed, 13])
        self._next_id = FIRST_ID
        feet = self.feet
        rates = {self._along: 2 * feet.along, self._across: feet.crossers, self._back: feet.reversers}
        self._sources = {**rates, self._beside: feet.beside, self._ride: 2 * feet.cyclists}
        self._due_s = {make: self.begin_s + self._wait(rate) for make, rate in self._sources.items()}

    def bodies(self) -> list[Body]:
        """Where all of them are."""
        return [goer.body() for goer in self._goers]

    def step(self, t_s: float, step_s: float) -> None:
        """Move everybody from t_s to t_s + step_s."""
        for make, rate in self._sources.items():
            while t_s >= self._due_s[make]:
                make()
                self._due_s[make] += self._wait(rate)
        walk = self.signal is None or self.signal.walk(t_s)
        self._goers = [goer for goer in self._goers if goer.step(step_s, walk=walk)]

    def _wait(self, rate: float) -> float:
        return float(self._random.exponential(3600 / rate)) if rate > 0 else math.inf

    def _add(self, kind: Kind, points: list[Point], pauses: list[float], speed: float) -> None:
        looks = random_looks(kind, int(self._random.integers(2**31)))
        x, y = points[0]
        self._goers.append(_Goer(self._next_id, looks, points, pauses, speed, x, y))
        self._next_id += 1

    def _group(self, points: list[Point], pauses: list[float], speed: float, size: int | None = None) -> None:
        """People who walk together, each at a place of their own in the group."""
        random = self._random
        count = int(random.choice(list(self.feet.groups))) if size is None else size
        for n in range(count):
            row, column = divmod(n, 2)
            dx, dy = 0.9 * row + float(random.normal(0, 0.1)), 0.65 * column + float(random.normal(0, 0.08))
            self._add("person", [(x + dx, y + dy) for x, y in points], pauses, speed)

    def _side(self) -> tuple[int, float]:
        away = -1 if self._random.random() < 0.5 else 1
        return away, self.street.right_edge if away < 0 else self.street.left_edge

    def _speed(self) -> float:
        return float(np.clip(self._random.normal(1.3, 0.2), 0.7, 2.0))

    def _along(self) -> None:
        away, edge = self._side()
        y = edge + away * float(self._random.uniform(0.8, max(1.0, self.street.pavement_m - 1.2)))
        begin, end = self.reach if self._random.random() < 0.5 else self.reach[::-1]
        self._group([(begin, y), (end, y)], [0.0, 0.0], self._speed())

    def _across(self) -> None:
        street = self.street
        if not street.crossings:
            return
        away, edge = self._side()
        other = street.left_edge if away < 0 else street.right_edge
        x = street.crossings[0] + float(self._random.uniform(-1.5, 1.5))
        begin = float(self._random.choice(self.reach))
        far = edge + away * float(self._random.uniform(1.2, max(1.4, street.pavement_m - 1)))
        points = [(begin, far), (x, far), (x, edge + away * 0.7), (x, other - away * 1.6), (-begin, other - away * 1.6)]
        self._group(points, [0.0, 0.0, math.inf, 0.0, 0.0], self._speed())

    def _back(self) -> None:
        """Over the line on the pavement, a stop, and back."""
        random = self._random
        away, edge = self._side()
        y = edge + away * float(random.uniform(0.8, max(1.0, self.street.pavement_m - 1.2)))
        begin = float(random.choice(self.reach))
        beyond = self.feet.line_x + math.copysign(float(random.uniform(1.5, 5)), self.feet.line_x - begin)
        before = self.feet.line_x - math.copysign(float(random.uniform(2, 6)), self.feet.line_x - begin)
        points, pauses = [(begin, y), (beyond, y)], [0.0, float(random.uniform(0.5, 4))]
        if random.random() < 0.4:  # and once more, undecided
            points += [(before, y), (beyond, y)]
            pauses += [float(random.uniform(0.5, 2)), float(random.uniform(0.5, 3))]
        self._group([*points, (begin, y)], [*pauses, 0.0], self._speed(), size=1)

    def _beside(self) -> None:
        """Along the kerb at less than a metre: on foot on the one side of it, on two wheels on the other."""
        away, edge = self._side()
        begin, end = self.reach if self._random.random() < 0.5 else self.reach[::-1]
        if self._random.random() < 0.6:
            y = edge + away * float(self._random.uniform(0.7, 1.1))
            self._group([(begin, y), (end, y)], [0.0, 0.0], self._speed(), size=1)
        else:
            y = edge - away * float(self._random.uniform(0.7, 1.1))
            self._add("cyclist", [(begin, y), (end, y)], [0.0, 0.0], float(self._random.uniform(2.5, 5.5)))

    def _ride(self) -> None:
        direction = 1 if self._random.random() < 0.5 else -1
        y = self.street.bike_y(direction) + float(self._random.normal(0, 0.2))
        begin, end = self.reach if direction > 0 else self.reach[::-1]
        self._add("cyclist", [(begin, y), (end, y)], [0.0, 0.0], float(np.clip(self._random.normal(4.5, 1), 2, 8)))

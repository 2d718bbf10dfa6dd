"""Cars and buses that follow one another: free, in a queue that creeps, round a U-turn.

Car following is the intelligent driver model (Treiber, Hennecke, Helbing 2000): a driver accelerates towards the wished
speed and keeps a gap that grows with speed and with how fast it closes. A red light is a standing car of no length.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from hardware_sim.street.bodies import Body, Looks, random_looks

ACCELERATION, BRAKING = 1.6, 2.2
HEADWAY_S = 1.3
HARDEST_MPS2 = 7.0
TURN_MPS = 4.0


@dataclass(frozen=True)
class Signal:
    """A light with a fixed cycle, seconds. Vehicles go from 0 to `green_s`; people may start to walk in `walk_s`."""

    cycle_s: float = 50.0
    green_s: float = 24.0
    walk_s: tuple[float, float] = (27.0, 36.0)

    def green(self, t_s: float) -> bool:
        """Whether vehicles may go."""
        return t_s % self.cycle_s < self.green_s

    def walk(self, t_s: float) -> bool:
        """Whether people may start to cross."""
        return self.walk_s[0] <= t_s % self.cycle_s < self.walk_s[1]


@dataclass(slots=True)
class Vehicle:
    """s: metres along its lane's direction, of its middle. wish: the speed it wants, m/s. gap_m: when it stands."""

    id: int
    looks: Looks
    s: float
    speed: float
    wish: float
    gap_m: float
    sway: float
    turn_at: float | None = None
    acceleration: float = 0.0
    gone_m: float = 0.0

    @property
    def rear(self) -> float:
        """Where its tail is."""
        return self.s - self.looks.length / 2

    @property
    def front(self) -> float:
        """Where its nose is."""
        return self.s + self.looks.length / 2

    def drive(self, ahead_m: float, ahead_mps: float, step_s: float) -> None:
        """One step behind something `ahead_m` metres in front of the nose that moves with `ahead_mps`."""
        gap = max(0.1, ahead_m)
        closing = self.speed - ahead_mps
        dynamic = self.speed * HEADWAY_S + self.speed * closing / (2 * math.sqrt(ACCELERATION * BRAKING))
        wanted = self.gap_m + max(0.0, dynamic)
        pull = ACCELERATION * (1 - (self.speed / self.wish) ** 4 - (wanted / gap) ** 2)
        self.acceleration = max(-HARDEST_MPS2, pull)
        before = self.speed
        self.speed = max(0.0, before + self.acceleration * step_s)
        if self.speed < 0.08 and self.acceleration <= 0.05:
            self.speed = 0.0
        step = (before + self.speed) / 2 * step_s
        self.s += step
        self.gone_m += step


@dataclass
class Lane:
    """One lane. direction: 1 along x, -1 against it. Vehicles from the foremost to the last. stop_s: the stop line."""

    y: float
    direction: int
    begin_s: float
    end_s: float
    stop_s: float | None = None
    vehicles: list[Vehicle] = field(default_factory=list)

    def body(self, vehicle: Vehicle) -> Body:
        """A vehicle of this lane, where it is."""
        x, heading = vehicle.s * self.direction, 0.0 if self.direction > 0 else 180.0
        return _body(vehicle, x, self.y + vehicle.sway, heading)


def _body(vehicle: Vehicle, x: float, y: float, heading: float) -> Body:
    braking = vehicle.acceleration < -0.6 or vehicle.speed < 0.3
    return Body(vehicle.id, vehicle.looks, x, y, heading, vehicle.gone_m, vehicle.speed, braking)


@dataclass(slots=True)
class _Turning:
    """A vehicle on the half circle of a U-turn. share: how far round, 0 to 1."""

    vehicle: Vehicle
    source: Lane
    target: Lane
    share: float = 0.0

    @property
    def radius(self) -> float:
        return abs(self.target.y - self.source.y) / 2

    def body(self) -> Body:
        angle = math.pi * self.share
        begin = (self.vehicle.turn_at or 0.0) * self.source.direction
        x = begin + self.source.direction * self.radius * math.sin(angle)
        side = math.copysign(1.0, self.target.y - self.source.y)
        y = self.source.y + side * self.radius * (1 - math.cos(angle))
        heading = (0.0 if self.source.direction > 0 else 180.0) + side * self.source.direction * math.degrees(angle)
        return _body(self.vehicle, x, y, heading)


@dataclass(frozen=True)
class Flow:
    """What drives in. per_h: vehicles an hour and lane. buses: their share. speed_kmh: mean wish.

    creep: whether the first at a red light rolls up to it bit by bit. turns_at: where drivers of the first lane along x
    turn round (x of the beginning of the half circle), one picked at random, for the share `turns`.
    """

    per_h: float = 500.0
    buses: float = 0.08
    speed_kmh: float = 45.0
    creep: bool = False
    turns: float = 0.0
    turns_at: tuple[float, ...] = ()


class Vehicles:
    """All lanes of a street. `step` moves them on; the same seed and steps give the same traffic.

    begin_s: the time of the first step.
    """

    def __init__(self, lanes: list[Lane], flow: Flow, signal: Signal | None, seed: int, begin_s: float) -> None:
        self.lanes = lanes
        self._flow = flow
        self._signal = signal
        self._random = np.random.default_rng([seed, 12])
        self._next_id = 1
        self._due_s = [begin_s + self._wait() for _ in lanes]
        self._creep_s = [4.0 for _ in lanes]
        self._turning: list[_Turning] = []

    def bodies(self) -> list[Body]:
        """Where all of them are."""
        found = [lane.body(vehicle) for lane in self.lanes for vehicle in lane.vehicles]
        return found + [turning.body() for turning in self._turning]

    def step(self, t_s: float, step_s: float) -> None:
        """Move everything from t_s to t_s + step_s."""
        for index, lane in enumerate(self.lanes):
            self._enter(index, lane, t_s)
            self._follow(index, lane, t_s, step_s)
            while lane.vehicles and lane.vehicles[0].s > lane.end_s:
                lane.vehicles.pop(0)
        for turning in list(self._turning):
            self._turn(turning, step_s)

    def _wait(self) -> float:
        return float(self._random.exponential(3600 / self._flow.per_h)) if self._flow.per_h > 0 else math.inf

    def _enter(self, index: int, lane: Lane, t_s: float) -> None:
        if t_s < self._due_s[index]:
            return
        last = lane.vehicles[-1] if lane.vehicles else None
        if last is not None and last.rear - lane.begin_s < 14:
            return  # no room: it waits outside, and nobody comes from nothing into a queue
        random, flow = self._random, self._flow
        looks = random_looks("bus" if random.random() < flow.buses else "car", int(random.integers(2**31)))
        slow = 0.85 if looks.kind == "bus" else 1.0
        wish = max(3.0, float(random.normal(flow.speed_kmh * slow, 0.1 * flow.speed_kmh)) / 3.6)
        speed = min(wish, last.speed + 2) if last is not None and last.rear - lane.begin_s < 40 else wish
        gap_m, sway = float(random.uniform(1.4, 2.8)), float(random.normal(0, 0.14))
        vehicle = Vehicle(self._next_id, looks, lane.begin_s, speed, wish, gap_m, sway)
        turns = flow.turns > 0 and index == 0 and random.random() < flow.turns and looks.kind == "car"
        if turns:
            vehicle.turn_at = float(random.choice(flow.turns_at))
        lane.vehicles.append(vehicle)
        self._next_id += 1
        self._due_s[index] = t_s + self._wait()

    def _follow(self, index: int, lane: Lane, t_s: float, step_s: float) -> None:
        stop = self._stop(index, lane, t_s)
        wishes = {id(one): one.wish for one in lane.vehicles}
        crossing = [other.vehicle for other in self._turning if other.target is lane]
        merge_s = [(one.turn_at or 0.0) * -lane.direction for one in crossing]
        leader: Vehicle | None = None
        for vehicle in list(lane.vehicles):
            ahead, ahead_mps = math.inf, vehicle.wish
            if leader is not None:
                ahead, ahead_mps = leader.rear - vehicle.front, leader.speed
            for barrier in [*merge_s, *([stop] if stop is not None else [])]:
                reach = barrier - vehicle.front + (vehicle.gap_m if barrier == stop else -3)
                if barrier - vehicle.front > -1.0 and reach < ahead and self._can_stop(vehicle, reach):
                    ahead, ahead_mps = reach, 0.0
            if vehicle.turn_at is not None:
                ahead, ahead_mps = self._approach_turn(vehicle, lane, ahead, ahead_mps)
            vehicle.drive(min(ahead, 500.0), ahead_mps, step_s)
            vehicle.wish = wishes[id(vehicle)]
            leader = vehicle
            if vehicle.turn_at is not None and vehicle.s >= vehicle.turn_at:
                lane.vehicles.remove(vehicle)
                target = next(other for other in reversed(self.lanes) if other.direction != lane.direction)
                self._turning.append(_Turning(vehicle, lane, target))

    def _stop(self, index: int, lane: Lane, t_s: float) -> float | None:
        """Where the first vehicle must stop now, or None. When drivers creep, the place moves up to the line."""
        if lane.stop_s is None or self._signal is None or self._signal.green(t_s):
            self._creep_s[index] = 4.0
            return None
        if self._flow.creep and self._random.random() < 0.012:
            self._creep_s[index] = max(0.0, self._creep_s[index] - float(self._random.uniform(0.6, 1.6)))
        return lane.stop_s - (self._creep_s[index] if self._flow.creep else 0.5)

    @staticmethod
    def _can_stop(vehicle: Vehicle, reach: float) -> bool:
        """Whether a driver still can: who cannot goes on."""
        return vehicle.speed**2 / (2 * 4.5) < max(reach, 0.3)

    def _approach_turn(self, vehicle: Vehicle, lane: Lane, ahead: float, ahead_mps: float) -> tuple[float, float]:
        left = (vehicle.turn_at or 0.0) - vehicle.s
        if left < 25:
            vehicle.wish = min(vehicle.wish, TURN_MPS + 0.18 * max(0.0, left))
        if left < 8 and not self._clear(vehicle, lane):
            return min(ahead, max(0.1, left + vehicle.gap_m - 0.5)), 0.0
        return ahead, ahead_mps

    def _clear(self, vehicle: Vehicle, lane: Lane) -> bool:
        """Whether nobody comes towards the half circle."""
        if any(turning.source is lane for turning in self._turning):
            return False
        for other in self.lanes:
            if other.direction == lane.direction:
                continue
            at = -(vehicle.turn_at or 0.0)
            if any(at - 38 < one.s < at + 9 for one in other.vehicles):
                return False
        return True

    def _turn(self, turning: _Turning, step_s: float) -> None:
        vehicle = turning.vehicle
        vehicle.speed = max(2.2, min(TURN_MPS, vehicle.speed + 0.8 * step_s))
        vehicle.acceleration = 0.0
        vehicle.gone_m += vehicle.speed * step_s
        turning.share += vehicle.speed * step_s / (math.pi * turning.radius)
        if turning.share < 1:
            return
        over_m = (turning.share - 1) * math.pi * turning.radius
        vehicle.s = (vehicle.turn_at or 0.0) * turning.source.direction * turning.target.direction + over_m
        vehicle.turn_at = None
        self._turning.remove(turning)
        turning.target.vehicles.append(vehicle)
        turning.target.vehicles.sort(key=lambda one: -one.s)

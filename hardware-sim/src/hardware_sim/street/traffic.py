"""Everybody in a street, moved on in fixed steps: the same seed gives the same street at the same time."""

from collections.abc import Sequence

from hardware_sim.street.bodies import Body
from hardware_sim.street.layout import Street
from hardware_sim.street.vehicles import Flow, Lane, Signal, Vehicles
from hardware_sim.street.walkers import Feet, Walkers

STEP_S = 0.05
WARM_UP_S = 90.0
"""The street has run for so long before its time 0, so that it begins full."""


class Traffic:
    """The road users of a street, over time. reach: x from where to where there is traffic.

    `at` goes forward only: each call's time is that of the one before or later. Between two steps everybody moves
    straight on, so the time of a crossing is as exact as one likes.
    """

    def __init__(
        self,
        street: Street,
        flow: Flow,
        feet: Feet,
        signal: Signal | None,
        seed: int,
        reach: tuple[float, float],
        parked: Sequence[Body] = (),
    ) -> None:
        lanes = [
            Lane(street.lane_y(lane, direction), direction, *_ends(reach, direction), _stop(street, direction))
            for direction in (1, -1)
            for lane in range(street.lanes[0 if direction > 0 else 1])
        ]
        self._vehicles = Vehicles(lanes, flow, signal, seed, -WARM_UP_S)
        self._walkers = Walkers(street, feet, signal, seed, reach, -WARM_UP_S)
        self._parked = list(parked)
        self._steps = round(-WARM_UP_S / STEP_S)
        self._now = self._snapshot()
        self._next = self._now
        while self._steps < 0:
            self._step()

    def at(self, t_s: float) -> list[Body]:
        """Who is where at a time, seconds from 0 on."""
        while t_s > self._steps * STEP_S:
            self._step()
        share = 1 - (self._steps * STEP_S - t_s) / STEP_S
        if share >= 1:
            return list(self._next.values())
        return [_between(body, self._next[number], share) for number, body in self._now.items() if number in self._next]

    def _step(self) -> None:
        t_s = self._steps * STEP_S
        self._vehicles.step(t_s, STEP_S)
        self._walkers.step(t_s, STEP_S)
        self._steps += 1
        self._now, self._next = self._next, self._snapshot()

    def _snapshot(self) -> dict[int, Body]:
        bodies = [*self._parked, *self._vehicles.bodies(), *self._walkers.bodies()]
        return {body.id: body for body in bodies}


def _ends(reach: tuple[float, float], direction: int) -> tuple[float, float]:
    return reach if direction > 0 else (-reach[1], -reach[0])


def _stop(street: Street, direction: int) -> float | None:
    return next((x * direction for x, way in street.stop_lines if way == direction), None)


def _between(a: Body, b: Body, share: float) -> Body:
    def mix(one: float, other: float) -> float:
        return one + (other - one) * share

    turn = (b.heading_deg - a.heading_deg + 180) % 360 - 180
    return Body(
        a.id, a.looks, mix(a.x, b.x), mix(a.y, b.y), a.heading_deg + share * turn, mix(a.stride_m, b.stride_m),
        mix(a.speed_mps, b.speed_mps), b.braking, a.parked,
    )  # fmt: skip

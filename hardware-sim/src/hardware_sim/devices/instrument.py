"""What every sensing device has inside: it looks at the world, and its value faults bend what it sees."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hardware_sim.clock import Clock
from hardware_sim.faults import Faults, Kind
from hardware_sim.waves import Floats
from hardware_sim.world import Sensed


@dataclass(frozen=True, slots=True)
class Signal:
    """One quantity as a device measures it.

    low, high: the range within which its values are plausible. decimals: what `record` writes. faulty: value faults
    bend it; states and counters stay as they are.
    """

    name: str
    low: float
    high: float
    decimals: int = 3
    faulty: bool = True


@dataclass(slots=True)
class Instrument:
    """The sensor behind a device: its signals now, with value faults.

    sense: the world's values at times (seconds since 1970). refresh_s: how often the device looks (real seconds);
    between two looks it tells the same values, as real devices do. commands: what somebody wrote to it, by signal.
    react: makes the other signals follow the commands.
    """

    name: str
    signals: tuple[Signal, ...]
    sense: Callable[[Floats], Sensed]
    faults: Faults
    clock: Clock
    refresh_s: float = 0.2
    react: Callable[[dict[str, float]], None] = lambda _values: None
    commands: dict[str, float] = field(default_factory=dict)
    _values: dict[str, float] = field(init=False, default_factory=dict)
    _fresh_until_s: float = field(init=False, default=-math.inf)

    def values(self) -> Mapping[str, float]:
        """Every signal by name. The same mapping object until the device looks again."""
        now_s = self.clock.elapsed_s()
        if now_s >= self._fresh_until_s:
            self._fresh_until_s = now_s + self.refresh_s
            self._values = self._look(now_s)
        return self._values

    def command(self, signal: str, value: float) -> None:
        """Somebody wrote this signal: it holds from the next look on, which is at once."""
        self.commands[signal] = value
        self._fresh_until_s = -math.inf

    def _look(self, now_s: float) -> dict[str, float]:
        active = self.faults.active(now_s)
        if self._values and any(one.fault.kind is Kind.FROZEN for one in active):
            return self._values
        sensed = self.sense(np.array([self.clock.world_s()]))
        values = {signal.name: float(sensed[signal.name][0]) for signal in self.signals}
        if self.commands:
            values.update(self.commands)
            self.react(values)
        for one in active:
            bend = self._bend(one.fault.kind, one.fault.drift * (now_s - one.since_s))
            if bend is not None:
                values.update({s.name: bend(s, values[s.name]) for s in self.signals if s.faulty})
        return values

    @staticmethod
    def _bend(kind: Kind, drifted: float) -> Callable[[Signal, float], float] | None:
        match kind:
            case Kind.OUT_OF_RANGE:
                return lambda signal, _value: signal.high + 2 * (signal.high - signal.low)
            case Kind.DRIFT:
                return lambda signal, value: value + drifted * (signal.high - signal.low)
            case Kind.NAN:
                return lambda _signal, _value: math.nan
            case _:
                return None

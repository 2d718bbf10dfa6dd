"""Where the simulator's time comes from, so that a test can hold it still or make it run."""

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Real seconds since the start, for faults and schedules; world seconds since 1970, for what is sensed."""

    def elapsed_s(self) -> float:
        """Real seconds since the simulator started."""

    def world_s(self) -> float:
        """The street's time, seconds since 1970 (UTC)."""


class RunningClock:
    """World time starts at `start_s` and runs `speed` times as fast as real time."""

    def __init__(self, start_s: float, speed: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._start_s = start_s
        self._speed = speed
        self._monotonic = monotonic
        self._zero = monotonic()

    def elapsed_s(self) -> float:
        """Real seconds since this clock was made."""
        return self._monotonic() - self._zero

    def world_s(self) -> float:
        """Seconds since 1970 in the world."""
        return self._start_s + self.elapsed_s() * self._speed

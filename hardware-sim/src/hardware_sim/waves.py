"""The mathematics the world is made of: bounded, seeded, and integrable in closed form.

A judge must not drift: an energy counter has to be the integral of the power that is shown beside it, at any speed
and from any start. So everything slow is a sum of sines or a daily step profile, both with exact integrals, and
everything fast is a hash of (seed, label, time). Nothing holds state.
"""

import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

DAY_S = 86_400.0


def generator(seed: int, label: str) -> np.random.Generator:
    """The random generator of one part of the world: the same for the same seed and label, on every machine."""
    return np.random.default_rng([seed, zlib.crc32(label.encode())])


class Waves:
    """A smooth random signal: mean plus sines whose amplitudes add up to `amplitude`, so it never leaves its band."""

    def __init__(
        self,
        random: np.random.Generator,
        *,
        mean: float,
        amplitude: float,
        slowest_s: float,
        fastest_s: float,
        count: int = 8,
    ) -> None:
        periods = np.geomspace(slowest_s, fastest_s, count) * random.uniform(0.85, 1.15, count)
        weights = np.sqrt(periods)
        self.mean = mean
        self._amplitudes = amplitude * weights / weights.sum()
        self._omegas = 2 * np.pi / periods
        self._phases = random.uniform(0, 2 * np.pi, count)

    def at(self, times_s: Floats) -> Floats:
        """The value at each time, within mean +- amplitude."""
        angles = np.multiply.outer(times_s, self._omegas) + self._phases
        values: Floats = self.mean + np.sin(angles) @ self._amplitudes
        return values

    def integral(self, times_s: Floats) -> Floats:
        """The exact integral of `at` from time 0, in value seconds."""
        angles = np.multiply.outer(times_s, self._omegas) + self._phases
        swing: Floats = (np.cos(self._phases) - np.cos(angles)) @ (self._amplitudes / self._omegas)
        return self.mean * times_s + swing


class DailySteps:
    """A level that changes at fixed hours of every day, as a time switch makes it.

    hours: where each level begins, ascending, the first one 0. levels: as many as hours.
    """

    def __init__(self, hours: Sequence[float], levels: Sequence[float]) -> None:
        self._edges_s = np.asarray([*hours, 24.0]) * 3600
        self._levels = np.asarray(levels, dtype=np.float64)
        self._sums = np.concatenate([[0.0], np.cumsum(np.diff(self._edges_s) * self._levels)])

    def at(self, local_s: Floats) -> Floats:
        """The level at each local time (seconds since a local midnight)."""
        index = np.searchsorted(self._edges_s, np.mod(local_s, DAY_S), side="right") - 1
        values: Floats = self._levels[index]
        return values

    def integral(self, local_s: Floats) -> Floats:
        """The exact integral of `at` from that midnight, in level seconds."""
        days, rest = np.divmod(local_s, DAY_S)
        values: Floats = days * self._sums[-1] + np.interp(rest, self._edges_s, self._sums)
        return values


class Noise:
    """What a sensor adds: independent of one 0.1 s tick to the next, within +- amplitude, a pure function of time."""

    def __init__(self, seed: int, label: str, amplitude: float) -> None:
        self._key = np.uint64(zlib.crc32(f"{seed}/{label}".encode()) << 32 | zlib.crc32(label.encode()))
        self._amplitude = amplitude

    def at(self, times_s: Floats) -> Floats:
        """The noise at each time, triangular around 0."""
        ticks = np.floor(np.atleast_1d(times_s) * 10).astype(np.int64).astype(np.uint64)
        # splitmix64: the standard finaliser, good enough that neighbouring ticks share nothing visible.
        mixed = (ticks + self._key) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        high = (mixed >> np.uint64(32)).astype(np.float64)
        low = (mixed & np.uint64(0xFFFFFFFF)).astype(np.float64)
        values: Floats = self._amplitude * ((high + low) / 2**32 - 1)
        return values.reshape(np.shape(times_s))

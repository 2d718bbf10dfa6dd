"""How long to leave a camera alone that gives no picture: shared by the capture process and the one that keeps it."""

import random


class Waits:
    """How long to leave a camera alone: doubles up to `most_s`, always shortened by jitter so that a street full of
    cameras behind one switch does not come back in step."""

    def __init__(self, first_s: float, most_s: float, rng: random.Random) -> None:
        self._first_s, self._most_s, self._rng = first_s, most_s, rng
        self._failures = 0

    def next_s(self) -> float:
        """Seconds until the next attempt."""
        whole_s = min(self._most_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return whole_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well."""
        self._failures = 0

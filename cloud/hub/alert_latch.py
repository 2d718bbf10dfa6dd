"""What keeps a swinging signal from ringing: many conditions side by side, each raised late and cleared late.

A condition is bad (1), good (0), or neither (-1): between two levels, or not known. Neither ends the wait for a raise
and the wait for a clear, and changes nothing else.
"""

import numpy as np
from numpy.typing import NDArray

from contract.readings import Ints

BAD, GOOD, NEITHER = 1, 0, -1
Conditions = NDArray[np.int8]


class Latch:
    """Conditions by index, from 0; grows as needed."""

    def __init__(self, *, duration_s: float, hold_s: float) -> None:
        self._duration_ns, self._hold_ns = round(duration_s * 1e9), round(hold_s * 1e9)
        self._bad_since: Ints = np.zeros(0, dtype=np.int64)
        self._good_since: Ints = np.zeros(0, dtype=np.int64)
        self.raised: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def grow(self, size: int) -> None:
        """Make room for the indices below `size`."""
        more = size - len(self.raised)
        if more > 0:
            self._bad_since = np.concatenate((self._bad_since, np.zeros(more, dtype=np.int64)))
            self._good_since = np.concatenate((self._good_since, np.zeros(more, dtype=np.int64)))
            self.raised = np.concatenate((self.raised, np.zeros(more, dtype=np.bool_)))

    def step(self, at: Ints, conditions: Conditions, now_ns: int) -> None:
        """The conditions now of the indices `at`, each once."""
        raised, bad, good = self.raised[at], conditions == BAD, conditions == GOOD
        bad_since = np.where(bad, np.where(self._bad_since[at] == 0, now_ns, self._bad_since[at]), 0)
        good_since = np.where(good & raised, np.where(self._good_since[at] == 0, now_ns, self._good_since[at]), 0)
        rise = bad & ~raised & (now_ns - bad_since >= self._duration_ns)
        fall = good & raised & (now_ns - good_since >= self._hold_ns)
        self.raised[at] = (raised | rise) & ~fall
        self._bad_since[at], self._good_since[at] = bad_since, np.where(fall, 0, good_since)

    def only(self, at: Ints) -> None:
        """Forget the indices that are not in `at`: their streams are gone."""
        gone = np.ones(len(self.raised), dtype=np.bool_)
        gone[at] = False
        self.raised[gone] = False
        self._bad_since[gone] = self._good_since[gone] = 0

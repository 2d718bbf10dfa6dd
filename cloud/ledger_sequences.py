"""Sequence numbers received, as ranges: a boot of a million frames that all arrived is one pair of numbers."""

import json
from bisect import bisect_right
from collections.abc import Iterable


class Sequences:
    """A set of whole numbers kept as inclusive ranges."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        for low, high in sorted(ranges):
            self._extend(low, high)

    def _extend(self, low: int, high: int) -> None:
        if self._highs and low <= self._highs[-1] + 1:
            self._highs[-1] = max(self._highs[-1], high)
        else:
            self._lows.append(low)
            self._highs.append(high)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number <= self._highs[at]

    def __len__(self) -> int:
        """How many numbers."""
        return sum(self._highs) - sum(self._lows) + len(self._lows)

    def ranges(self) -> list[tuple[int, int]]:
        """Inclusive ranges, ascending, never touching."""
        return list(zip(self._lows, self._highs, strict=True))

    def n_ranges(self) -> int:
        """How many ranges: what the set costs in memory."""
        return len(self._lows)

    @property
    def lowest(self) -> int:
        """The smallest number; the set must not be empty."""
        return self._lows[0]

    @property
    def highest(self) -> int:
        """The greatest number; the set must not be empty."""
        return self._highs[-1]

    def add(self, number: int) -> bool:
        """Put `number` in; False when it was there."""
        at = bisect_right(self._lows, number) - 1
        if at >= 0 and number <= self._highs[at]:
            return False
        joins_left = at >= 0 and self._highs[at] == number - 1
        joins_right = at + 1 < len(self._lows) and self._lows[at + 1] == number + 1
        if joins_left and joins_right:
            self._highs[at] = self._highs.pop(at + 1)
            del self._lows[at + 1]
        elif joins_left:
            self._highs[at] = number
        elif joins_right:
            self._lows[at + 1] = number
        else:
            self._lows.insert(at + 1, number)
            self._highs.insert(at + 1, number)
        return True

    def dump(self) -> str:
        """The ranges as JSON."""
        return json.dumps(self.ranges())


def load(text: str) -> Sequences:
    """What `dump` wrote."""
    return Sequences((low, high) for low, high in json.loads(text))


def union(sets: Iterable[Sequences]) -> Sequences:
    """Every number of any of them."""
    return Sequences(pair for one in sets for pair in one.ranges())


def missing(received: Sequences, low: int, high: int) -> list[tuple[int, int]]:
    """Inclusive ranges of the numbers from `low` to `high`, both inclusive, that are not in `received`."""
    holes = []
    at = low
    for first, last in received.ranges():
        if last < at:
            continue
        if first > high:
            break
        if first > at:
            holes.append((at, first - 1))
        at = last + 1
    if at <= high:
        holes.append((at, high))
    return holes

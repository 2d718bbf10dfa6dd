"""Which frames the embedded store has: a set of sequences per (gateway, boot), kept as ranges.

A gateway numbers its frames without holes, so a boot is soon one range, however many frames it had. What would grow
without bound is cut: the boots of a gateway that were heard of longest ago, and the lowest ranges of a boot with too
many holes. A frame that is forgotten and then sent again would be stored twice, so cuts are counted and only reach
what was acknowledged long before.
"""

from bisect import bisect_right

BOOTS_KEPT = 1_000
RANGES_KEPT = 10_000


class Ranges:
    """A set of integers as inclusive ranges, ascending and apart."""

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []

    def __len__(self) -> int:
        return len(self._lows)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number <= self._highs[at]

    def add(self, low: int, high: int) -> None:
        """Add low..high, both inclusive."""
        first = bisect_right(self._highs, low - 2)  # the first range that ends at low - 1 or later
        last = bisect_right(self._lows, high + 1)  # one behind the last range that begins at high + 1 or sooner
        if first < last:
            low, high = min(low, self._lows[first]), max(high, self._highs[last - 1])
        self._lows[first:last] = [low]
        self._highs[first:last] = [high]

    def forget_lowest(self, count: int) -> None:
        """Drop the `count` lowest ranges."""
        del self._lows[:count], self._highs[:count]

    def pairs(self) -> list[tuple[int, int]]:
        """The ranges."""
        return list(zip(self._lows, self._highs, strict=True))


class Receipts:
    """The frames stored, by gateway path and boot. `forgotten` counts the ranges that were cut."""

    def __init__(self, boots_kept: int = BOOTS_KEPT, ranges_kept: int = RANGES_KEPT) -> None:
        self.forgotten = 0
        self._boots_kept = boots_kept
        self._ranges_kept = ranges_kept
        self._gateways: dict[str, dict[int, Ranges]] = {}  # boots in the order they were last heard of

    def has(self, path: str, boot: int, sequence: int) -> bool:
        """Whether this frame is stored."""
        ranges = self._gateways.get(path, {}).get(boot)
        return ranges is not None and sequence in ranges

    def add(self, path: str, boot: int, low: int, high: int) -> None:
        """Remember the frames low..high of one boot."""
        boots = self._gateways.setdefault(path, {})
        ranges = boots.pop(boot, None) or Ranges()
        boots[boot] = ranges
        ranges.add(low, high)
        if len(ranges) > self._ranges_kept:
            ranges.forget_lowest(len(ranges) - self._ranges_kept)
            self.forgotten += 1
        while len(boots) > self._boots_kept:
            self.forgotten += len(boots.pop(next(iter(boots))))

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Everything, as (path, boot, low, high), in an order that `add` restores."""
        return [
            (path, boot, low, high)
            for path, boots in self._gateways.items()
            for boot, ranges in boots.items()
            for low, high in ranges.pairs()
        ]

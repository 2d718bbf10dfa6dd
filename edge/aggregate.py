"""Why: the city wants the mean of a minute, and wants to know whether the whole minute was seen.

Windows are aligned to UTC (to CLOCK_BOOTTIME while UTC is unknown) and published at their end: `name.mean` at 12:05:00
is made of the readings from 12:04:00 on, before 12:05:00. Readings that are BAD are left out. A window of which a
sample is missing or BAD, or which began before the gateway looked, is UNCERTAIN(PARTIAL_WINDOW). A window without any
usable reading is a gap, for the reason that most of its samples had.
"""

import numpy as np

from contract.readings import ABSENT, Bytes, Floats, Ints, Quality, Reason, gap, status
from edge.batch import Row
from edge.checks import BAD, Flags, Numbers, Quantiser
from edge.clock import PRECISION_NS
from edge.packer import Packer
from edge.streams import Indices, WindowLayout

_PARTIAL = status(Quality.UNCERTAIN, Reason.PARTIAL_WINDOW)
_UNCERTAIN = Quality.UNCERTAIN << 6
_REASONS = 64


class Window:
    """The window in progress of the aggregates of one scan. interval_ns: of the readings it is made of."""

    def __init__(self, layout: WindowLayout, interval_ns: int, packer: Packer) -> None:
        self._layout = layout
        self._interval_ns = interval_ns
        self._packer = packer
        self._quantiser = Quantiser(layout.resolutions)
        count = len(layout.positions)
        self._sum = np.zeros(count)
        self._count = np.zeros(count, dtype=np.int64)
        self._low, self._high, self._last = (_zeros(count, integer=layout.integer) for _ in range(3))
        self._worst = np.zeros(count, dtype=np.uint8)
        self._partial = np.zeros(count, dtype=np.bool_)
        self._reasons = np.zeros((count, _REASONS), dtype=np.int64)
        self._start_ns = -1
        self._seen_ns = 0
        self._era_ns = 0
        self._axis: tuple[bool, int] = (False, -1)

    def add(self, values: Numbers, codes: Bytes, time_ns: int, axis: tuple[bool, int]) -> None:
        """Take the readings of one scan. axis: (dated, generation of the clock) that `time_ns` belongs to."""
        self._roll(time_ns, axis)
        self._seen_ns = time_ns
        mine, taken = codes[self._layout.positions], values[self._layout.columns]
        usable = mine < BAD
        first = usable & (self._count == 0)
        self._sum += np.where(usable, taken, 0)
        self._count += usable
        np.copyto(self._low, taken, where=first | (usable & (taken < self._low)))
        np.copyto(self._high, taken, where=first | (usable & (taken > self._high)))
        np.copyto(self._last, taken, where=usable)
        if mine.any():
            np.copyto(self._worst, mine, where=usable & (mine >= _UNCERTAIN))
            lost = ~usable & (mine != ABSENT)
            self._partial |= lost
            self._reasons[np.flatnonzero(lost), mine[lost] & (_REASONS - 1)] += 1

    def miss(
        self,
        first_ns: int,
        last_ns: int,
        count: int,
        reason: Reason,
        *,
        axis: tuple[bool, int],
        positions: Indices | None,
    ) -> None:
        """Take `count` samples that are not there, evenly from first_ns to last_ns."""
        hit = slice(None) if positions is None else np.isin(self._layout.positions, positions)
        self._roll(first_ns, axis)
        self._seen_ns = max(self._seen_ns, last_ns)
        window_ns = self._layout.window_ns
        step_ns = (last_ns - first_ns) // max(1, count - 1) or 1
        here = min(count, max(1, -((first_ns - self._start_ns - window_ns) // step_ns)))
        self._lose(hit, here, reason)
        target_ns = last_ns // window_ns * window_ns
        if target_ns > self._start_ns:
            self._close(self._start_ns + window_ns + self._era_ns)
            between = (target_ns - self._start_ns) // window_ns - 1
            if between:
                first_end_ns = self._start_ns + 2 * window_ns + self._era_ns
                last_end_ns = target_ns + self._era_ns
                self._packer.miss(self._layout.group, first_end_ns, last_end_ns, between, reason, dated=self._axis[0])
            self._begin(target_ns, whole=True)
            self._lose(hit, 1, reason)

    def _lose(self, hit: slice | Flags, count: int, reason: Reason) -> None:
        self._partial[hit] = True
        self._reasons[hit, reason] += count

    def _roll(self, time_ns: int, axis: tuple[bool, int]) -> None:
        """Close what ended before `time_ns`."""
        window_ns = self._layout.window_ns
        start_ns = time_ns // window_ns * window_ns
        if self._start_ns < 0:
            self._axis = axis
            self._era_ns = time_ns % PRECISION_NS
            self._begin(start_ns, whole=time_ns - start_ns < self._interval_ns)
            return
        if axis != self._axis:
            self._change(start_ns, time_ns % PRECISION_NS, axis)
        elif start_ns > self._start_ns:
            skipped = (start_ns - self._start_ns) // window_ns - 1
            ended_ns = self._start_ns + window_ns
            self._close(ended_ns + self._era_ns)
            if skipped:
                first_ns = ended_ns + window_ns + self._era_ns
                self._packer.miss(
                    self._layout.group, first_ns, start_ns + self._era_ns, skipped, Reason.SILENT, dated=axis[0]
                )
            self._begin(start_ns, whole=True)

    def _change(self, start_ns: int, era_ns: int, axis: tuple[bool, int]) -> None:
        """The clock was set or became known. The same window of the same era goes on, for its end comes once."""
        same = axis[0] == self._axis[0] and era_ns == self._era_ns and start_ns <= self._start_ns
        self._partial[:] = True
        if not same:
            # Right after its last sample, and not at its end: the next window may end at that very time.
            self._close(self._seen_ns + PRECISION_NS)
            self._era_ns = era_ns
            self._begin(start_ns, whole=False)
        self._axis = axis

    def _begin(self, start_ns: int, *, whole: bool) -> None:
        self._start_ns = start_ns
        self._sum[:] = 0
        self._count[:] = 0
        self._worst[:] = 0
        self._partial[:] = not whole
        self._reasons[:] = 0

    def _close(self, time_ns: int) -> None:
        """Publish the window in progress at `time_ns`."""
        codes = np.where(self._partial, _PARTIAL, self._worst).astype(np.uint8)
        empty = self._count == 0
        if empty.any():
            main = self._reasons.argmax(axis=1)
            main[main == 0] = Reason.SILENT
            codes = np.where(empty, gap(Reason.NONE) | main, codes).astype(np.uint8)
        floats, ints, of = self._values(empty)
        row = Row(time_ns, floats, ints, [], codes[of])
        self._packer.take(self._layout.group, row, None, dated=self._axis[0])

    def _values(self, empty: Flags) -> tuple[Floats, Ints, Indices]:
        """The outputs in the order of the group's row, and of which column each is."""
        made: dict[str, Numbers] = {
            "mean": self._sum / np.maximum(self._count, 1),
            "count": self._count,
            "min": self._low,
            "max": self._high,
            "last": self._last,
        }
        layout = self._layout
        floats = np.array([made[function][index] for function, index in layout.floats], dtype=np.float64)
        ints = np.array([made[function][index] for function, index in layout.ints], dtype=np.int64)
        of = np.array([index for _, index in (*layout.floats, *layout.ints)], dtype=np.intp)
        hollow = empty[of]
        floats = np.where(hollow[: len(floats)], 0.0, floats)
        ints = np.where(hollow[len(floats) :], 0, ints)
        return self._quantiser.apply(floats), ints, of


def _zeros(count: int, *, integer: bool) -> Numbers:
    return np.zeros(count, dtype=np.int64) if integer else np.zeros(count, dtype=np.float64)

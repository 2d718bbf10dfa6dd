"""Why: what a device says is not yet a reading; here it gets its unit, time and quality, and its place in the books.

One line a scan: block -> scale -> quantise -> judge -> deadband -> packer, and beside it the window aggregates, which
see what the deadband holds back too. All streams of a scan at once. This is the supervisor's sink: it never waits.
"""

from typing import Any

import numpy as np

from contract.readings import ABSENT, Bytes, Floats, Ints, Kind, Quality, Reason, quality_of, reason_of, status
from drivers.base import Block, Scan
from edge.aggregate import Window
from edge.batch import Row
from edge.checks import MISSING, Flags, FloatChecks, IntChecks, TextChecks
from edge.clock import PRECISION_NS, TrustedClock
from edge.packer import Packer
from edge.streams import Indices, ScanLayout, StreamTable

# A source that dates its own readings may be out of order by this much before the correction is told.
DISORDER_NS = 1_000_000_000
_ESTIMATED = status(Quality.UNCERTAIN, Reason.CLOCK_ESTIMATED)
_SOURCE_CLOCK = -1


class Pipeline:
    """Everything between the buses and the packer, for every scan of `table`."""

    def __init__(self, table: StreamTable, clock: TrustedClock, packer: Packer) -> None:
        self._packer = packer
        self._lines = {scan: _Line(layout, clock, packer) for scan, layout in table.scans.items()}

    def take(self, block: Block) -> None:
        """Process what a scan brought."""
        self._lines[block.scan].take(block)

    def miss(
        self,
        scan: Scan,
        first_ns: int,
        last_ns: int,
        count: int,
        reason: Reason,
        *,
        positions: Indices | None = None,
        dated: bool = False,
    ) -> None:
        """Account `count` samples of the scan, due evenly from first_ns to last_ns, that are not there.

        Times are CLOCK_BOOTTIME, or UTC when `dated`. positions: only these of the scan's streams.
        """
        self._lines[scan].miss(first_ns, last_ns, count, reason, positions, dated=dated)

    async def room(self) -> None:
        """Wait until there is room for more: for sources that can wait."""
        await self._packer.room()

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """The latest value of every stream by device, as plain JSON values; unpublished streams included."""
        devices: dict[str, list[dict[str, Any]]] = {}
        for scan, line in self._lines.items():
            devices.setdefault(scan.device.name, []).extend(line.snapshot())
        return devices


class _Line:
    """The way of one scan, with the state of its streams."""

    def __init__(self, layout: ScanLayout, clock: TrustedClock, packer: Packer) -> None:
        scan = layout.scan
        self._layout = layout
        self._clock = clock
        self._packer = packer
        self._floats = slice(0, scan.n_floats)
        self._ints = slice(scan.n_floats, scan.n_floats + scan.n_ints)
        self._texts = slice(scan.n_floats + scan.n_ints, len(scan.streams))
        self._float_checks = FloatChecks(scan.device, scan.streams[self._floats])
        self._int_checks = IntChecks(scan.device, scan.streams[self._ints])
        self._text_checks = TextChecks(scan.streams[self._texts])
        interval_ns = round(scan.interval_s * 1e9)
        self._windows = [(window.integer, Window(window, interval_ns, packer)) for window in layout.windows]
        self._last_ns = 0
        self._axis = self._last_axis = (False, 0)
        self._latest = Row(
            0, np.zeros(scan.n_floats), np.zeros(scan.n_ints, np.int64), [""] * scan.n_texts, _none(scan)
        )
        self._latest_ns = np.zeros(len(scan.streams), dtype=np.int64)

    def take(self, block: Block) -> None:
        time_ns, late = self._stamp(block.time_ns, dated=block.dated)
        codes = block.status.copy()
        if late:
            np.copyto(codes, _ESTIMATED, where=codes == 0)
        with np.errstate(all="ignore"):
            floats, ints, quiet = self._check(block, codes)
            for integer, window in self._windows:
                window.add(ints if integer else floats, codes, time_ns, self._axis)
        row = Row(time_ns, floats, ints, block.texts, codes)
        self._remember(row)
        self._packer.take(self._layout.group, row, quiet, dated=self._axis[0])

    def _check(self, block: Block, codes: Bytes) -> tuple[Floats, Ints, Flags | None]:
        """Values as published and what the deadband holds back; worsens `codes`, a view a kind, in place."""
        scan, now_ns = block.scan, block.time_ns
        floats, ints = block.floats, block.ints
        held: list[tuple[slice, Flags]] = []
        if scan.n_floats:
            floats, quiet = self._float_checks.apply(block.floats, codes[self._floats], now_ns)
            if quiet is not None:
                held.append((self._floats, quiet))
        if scan.n_ints:
            ints, quiet = self._int_checks.apply(block.ints, codes[self._ints], now_ns)
            if quiet is not None:
                held.append((self._ints, quiet))
        if scan.n_texts:
            quiet = self._text_checks.apply(block.texts, codes[self._texts], now_ns)
            if quiet is not None:
                held.append((self._texts, quiet))
        if not held:
            return floats, ints, None
        all_quiet = np.zeros(len(codes), dtype=np.bool_)
        for part, quiet in held:
            all_quiet[part] = quiet
        return floats, ints, all_quiet

    def miss(
        self, first_ns: int, last_ns: int, count: int, reason: Reason, positions: Indices | None, *, dated: bool
    ) -> None:
        if dated:
            self._axis = (True, _SOURCE_CLOCK)
        else:
            (first_ns, known), (last_ns, _) = self._clock.stamp(first_ns), self._clock.stamp(last_ns)
            self._axis = (known, self._clock.generation)
        with np.errstate(all="ignore"):
            for _, window in self._windows:
                window.miss(first_ns, last_ns, count, reason, axis=self._axis, positions=positions)
        group = self._layout.group
        self._packer.miss(group, first_ns, last_ns, count, reason, dated=self._axis[0], positions=positions)
        hit = slice(None) if positions is None else positions
        self._latest.status[hit] = MISSING | reason

    def _stamp(self, time_ns: int, *, dated: bool) -> tuple[int, bool]:
        """When to publish it, always later than before, and whether that moved it noticeably. Sets the axis."""
        if dated:
            axis, time_ns = (True, _SOURCE_CLOCK), time_ns // PRECISION_NS * PRECISION_NS
        else:
            time_ns, known = self._clock.stamp(time_ns)
            axis = (known, self._clock.generation)
        late = False
        if axis == self._last_axis and time_ns <= self._last_ns:
            late = self._last_ns - time_ns > DISORDER_NS
            time_ns = self._last_ns + PRECISION_NS
        self._axis = self._last_axis = axis
        self._last_ns = time_ns
        return time_ns, late

    def _remember(self, row: Row) -> None:
        """Keep the latest of every stream for `status`; a stream that was not due keeps what it had."""
        latest, due = self._latest, row.status != ABSENT
        np.copyto(latest.floats, row.floats, where=due[self._floats])
        np.copyto(latest.ints, row.ints, where=due[self._ints])
        np.copyto(latest.status, row.status, where=due)
        np.copyto(self._latest_ns, row.time_ns, where=row.status < MISSING)
        for column, (text, here) in enumerate(zip(row.texts, due[self._texts].tolist(), strict=True)):
            if here:
                latest.texts[column] = text

    def snapshot(self) -> list[dict[str, Any]]:
        latest, scan = self._latest, self._layout.scan
        values: list[Any] = [*latest.floats.tolist(), *latest.ints.tolist(), *latest.texts]
        return [
            {
                "name": spec.name,
                "unit": spec.unit,
                "value": _plain(spec.type, value) if time_ns else None,
                "quality": quality_of(code).name.lower() if code != ABSENT else "unknown",
                "reason": reason_of(code).name.lower() if code != ABSENT else "none",
                "time_ns": time_ns or None,
                "dated": self._axis[0],
            }
            for spec, value, code, time_ns in zip(
                scan.streams, values, latest.status.tolist(), self._latest_ns.tolist(), strict=True
            )
        ]


def _none(scan: Scan) -> Bytes:
    return np.full(len(scan.streams), ABSENT, dtype=np.uint8)


def _plain(kind: Kind, value: Any) -> Any:
    """JSON knows no NaN and no infinity; a status page shows them as text."""
    if kind is Kind.BOOL:
        return bool(value)
    if kind is Kind.FLOAT and not np.isfinite(value):
        return str(value)
    return value

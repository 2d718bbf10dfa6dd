"""Why: what a device says is not yet a reading; here it gets its unit, time and quality, and its place in the books.

One line a scan: block -> scale -> quantise -> judge -> deadband -> packer, and beside it the window aggregates, which
see what the deadband holds back too. All streams of a scan at once. This is the supervisor's sink: it never waits.
"""

from typing import Any

import numpy as np

from contract.readings import ABSENT, GOOD, Bytes, Floats, Ints, Kind, Quality, Reason, quality_of, reason_of, status
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

    def expect(self, source: object, next_ns: int) -> None:
        """A source brings nothing before `next_ns`, CLOCK_BOOTTIME."""
        self._packer.expect(source, next_ns)

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
        self._borrowed = False
        self._latest_ns = np.zeros(len(scan.streams), dtype=np.int64)

    def take(self, block: Block) -> None:
        time_ns, late = self._stamp(block.time_ns, dated=block.dated)
        if late:
            block.status = np.where(block.status == GOOD, _ESTIMATED, block.status).astype(np.uint8)
        with np.errstate(all="ignore"):
            floats, ints, codes, quiet = self._check(block)
            for integer, window in self._windows:
                window.add(ints if integer else floats, codes, time_ns, self._axis)
        row = Row(time_ns, floats, ints, block.texts, codes, whole=codes is block.scan.good)
        self._remember(row)
        self._packer.take(self._layout.group, row, quiet, dated=self._axis[0])

    def _check(self, block: Block) -> tuple[Floats, Ints, Bytes, Flags | None]:
        """Values and statuses as published, and what the deadband holds back. The block stays as it is."""
        scan, now_ns, codes = block.scan, block.time_ns, block.status
        floats, ints = block.floats, block.ints
        judged: list[tuple[slice, Bytes, Bytes, Flags | None]] = []
        if scan.n_floats:
            before = codes[self._floats]
            floats, after, quiet = self._float_checks.apply(block.floats, before, now_ns)
            judged.append((self._floats, before, after, quiet))
        if scan.n_ints:
            before = codes[self._ints]
            ints, after, quiet = self._int_checks.apply(block.ints, before, now_ns)
            judged.append((self._ints, before, after, quiet))
        if scan.n_texts:
            before = codes[self._texts]
            after, quiet = self._text_checks.apply(block.texts, before, now_ns)
            judged.append((self._texts, before, after, quiet))
        all_quiet: Flags | None = None
        for part, before, after, quiet in judged:
            if after is not before:
                codes = codes.copy() if codes is block.status else codes
                codes[part] = after
            if quiet is not None:
                all_quiet = np.zeros(len(codes), dtype=np.bool_) if all_quiet is None else all_quiet
                all_quiet[part] = quiet
        return floats, ints, codes, all_quiet

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
        self._own_latest().status[slice(None) if positions is None else positions] = MISSING | reason

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
        if row.whole:
            self._latest = Row(row.time_ns, row.floats, row.ints, row.texts, row.status)
            self._borrowed = True
            self._latest_ns[:] = row.time_ns
            return
        latest, due = self._own_latest(), row.status != ABSENT
        np.copyto(latest.floats, row.floats, where=due[self._floats])
        np.copyto(latest.ints, row.ints, where=due[self._ints])
        np.copyto(latest.status, row.status, where=due)
        np.copyto(self._latest_ns, row.time_ns, where=row.status < MISSING)
        for column, (text, here) in enumerate(zip(row.texts, due[self._texts].tolist(), strict=True)):
            if here:
                latest.texts[column] = text

    def _own_latest(self) -> Row:
        """The latest values in arrays of our own, to be written to: those of a whole row are the packer's too."""
        if self._borrowed:
            old = self._latest
            self._latest = Row(old.time_ns, old.floats.copy(), old.ints.copy(), list(old.texts), old.status.copy())
            self._borrowed = False
        return self._latest

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

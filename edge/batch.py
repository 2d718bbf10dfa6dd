"""Why: between the pipeline and the disk there is one place that may drop readings, and it must count them.

A batch collects rows of every group, gaps and the books' numbers of one frame to come, all in bounded memory: rows are
thinned by every other one, gaps of one stream and reason are joined. What is left out is counted as thinned.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.frame import Counters, Frame, Gap, Header
from contract.readings import ABSENT, Bytes, Floats, Ints, Kind, Reason, Table
from edge.checks import MISSING
from edge.streams import Columns, Group

MAX_GAPS = 4096


@dataclass(slots=True)
class Row:
    """Readings of one group at one time: the values and statuses of its scan, unpublished streams included.

    whole: every value is there. The arrays may be shared; who changes one puts another in its place.
    """

    time_ns: int
    floats: Floats
    ints: Ints
    texts: list[str]
    status: Bytes
    whole: bool = False

    def change_status(self, status: Bytes) -> None:
        """Take another status; not every value is there any more."""
        self.status = status
        self.whole = False


@dataclass(slots=True)
class _OpenGap:
    streams: tuple[int, ...]
    first_ns: int
    last_ns: int
    count: int
    reason: Reason


class Batch:
    """One frame to come. streams: how many the gateway publishes. dated: whether its times are UTC."""

    def __init__(self, streams: int, *, dated: bool) -> None:
        self.dated = dated
        self.rows = 0
        self.readings = 0
        self.due = np.zeros(streams, dtype=np.int64)
        self.suppressed = np.zeros(streams, dtype=np.int64)
        self.thinned = np.zeros(streams, dtype=np.int64)
        self.until_ns = np.zeros(streams, dtype=np.int64)
        self._rows: dict[Group, list[Row]] = {}
        self._gaps: list[_OpenGap] = []
        self._latest: dict[tuple[tuple[int, ...], Reason], _OpenGap] = {}

    def __bool__(self) -> bool:
        return bool(self.due.any())

    @property
    def urgent(self) -> bool:
        """Whether it holds more than numbers of the books."""
        return bool(self._rows or self._gaps)

    def add_row(self, group: Group, row: Row) -> None:
        """Keep a row of which at least one reading is present."""
        self._rows.setdefault(group, []).append(row)
        self.rows += 1
        self.readings += len(group.entries)

    def add_gap(self, gap: Gap, near_ns: int) -> None:
        """Explain samples; the same streams' last gap goes on when this one begins within `near_ns` of its end."""
        known = self._latest.get((gap.streams, gap.reason))
        if known is not None and 0 <= gap.first_ns - known.last_ns <= near_ns:
            known.last_ns = gap.last_ns
            known.count += gap.count
            return
        fresh = _OpenGap(gap.streams, gap.first_ns, gap.last_ns, gap.count, gap.reason)
        self._latest[gap.streams, gap.reason] = fresh
        self._gaps.append(fresh)
        if len(self._gaps) > MAX_GAPS:
            self._join_gaps()

    def _join_gaps(self) -> None:
        """One gap a stream and reason: where exactly is lost, how many and why is not."""
        joined: dict[tuple[int, Reason], _OpenGap] = {}
        for gap in self._gaps:
            for stream in gap.streams:
                known = joined.get((stream, gap.reason))
                if known is None:
                    joined[stream, gap.reason] = _OpenGap((stream,), gap.first_ns, gap.last_ns, gap.count, gap.reason)
                else:
                    known.first_ns = min(known.first_ns, gap.first_ns)
                    known.last_ns = max(known.last_ns, gap.last_ns)
                    known.count += gap.count
        same: dict[tuple[int, int, int, Reason], list[int]] = {}
        for (stream, reason), gap in joined.items():
            same.setdefault((gap.first_ns, gap.last_ns, gap.count, reason), []).append(stream)
        self._gaps = [
            _OpenGap(tuple(streams), first_ns, last_ns, count, reason)
            for (first_ns, last_ns, count, reason), streams in same.items()
        ]
        self._latest = {(gap.streams, gap.reason): gap for gap in self._gaps}

    def thin(self, *, alarms: bool = False) -> int:
        """Drop every other row of telemetry (of everything with `alarms`), count it; returns rows dropped."""
        before = self.rows
        for group, rows in self._rows.items():
            drops = np.ones(group.width, dtype=np.bool_) if alarms else group.telemetry
            kept: list[Row] = []
            for number, row in enumerate(rows):
                # The newest row is always kept: it is what the city looks at.
                if (len(rows) - 1 - number) % 2 == 0:
                    kept.append(row)
                    continue
                present = row.status < MISSING
                self.thinned[group.span] += (present & drops)[group.positions]
                row.change_status(np.where(drops, ABSENT, row.status).astype(np.uint8))
                if (row.status[group.positions] < MISSING).any():
                    kept.append(row)
            self.rows -= len(rows) - len(kept)
            self.readings -= (len(rows) - len(kept)) * len(group.entries)
            self._rows[group] = kept
        return before - self.rows

    def drop_rows(self) -> int:
        """Drop every row, count it as thinned; returns how many."""
        dropped = self.rows
        for group, rows in self._rows.items():
            for row in rows:
                self.thinned[group.span] += (row.status < MISSING)[group.positions]
        self._rows.clear()
        self.rows = self.readings = 0
        return dropped

    def frame(self, header: Header, due: Ints) -> Frame:
        """The batch as a frame. due: the totals since boot, for every stream (N,), as of this frame."""
        moved = np.flatnonzero(self.due)
        counters = Counters(
            moved.astype(np.int32), due[moved], self.suppressed[moved], self.thinned[moved], self.until_ns[moved]
        )
        tables = tuple(table for group, rows in self._rows.items() for table in _tables(group, rows))
        return Frame(header, tables, tuple(self._explained()), counters)

    def _explained(self) -> Iterable[Gap]:
        for gap in self._gaps:
            yield Gap(gap.streams, gap.first_ns, gap.last_ns, gap.count, gap.reason)


def _tables(group: Group, rows: list[Row]) -> Iterable[Table]:
    if not rows:
        return
    times = np.array([row.time_ns for row in rows], dtype=np.int64)
    if all(row.whole for row in rows):
        for columns in group.tables:
            good = np.zeros((len(rows), len(columns.ids)), dtype=np.uint8)
            yield Table(columns.kind, columns.ids, times, _values(columns, rows), good, columns.decimals)
        return
    status = np.stack([row.status for row in rows])
    for columns in group.tables:
        codes = status[:, columns.positions]
        some = (codes < MISSING).any(axis=1)
        if not some.any():
            continue
        values = _values(columns, rows)
        if some.all():
            yield Table(columns.kind, columns.ids, times, values, codes, columns.decimals)
        else:
            yield Table(columns.kind, columns.ids, times[some], values[some], codes[some], columns.decimals)


def _values(columns: Columns, rows: list[Row]) -> NDArray[np.generic]:
    if columns.kind is Kind.FLOAT:
        floats = np.array([row.floats for row in rows])
        return floats if columns.every else floats[:, columns.columns]
    if columns.kind is Kind.TEXT:
        texts = np.array([row.texts for row in rows], dtype=object)
        chosen: NDArray[np.object_] = texts[:, columns.columns]
        return chosen
    ints = np.array([row.ints for row in rows])
    ints = ints if columns.every else ints[:, columns.columns]
    return ints.astype(np.bool_) if columns.kind is Kind.BOOL else ints

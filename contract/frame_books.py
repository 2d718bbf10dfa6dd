"""Gaps and counters in a frame's body. What the bytes mean is described in contract/frame.py."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.errors import FrameError
from contract.frame_layout import MAX_ID, Place, Reader, Writer, constant, filled, repeats, same
from contract.frame_types import MAX_CELLS, MAX_GAPS, Counters, Gap
from contract.readings import Ints, Table, reason_of

HAS_TABLES, HAS_GAPS, HAS_COUNTERS = 0x01, 0x02, 0x04
SAME_STREAMS, UNTIL_LAST, NOTHING_LEFT_OUT, ONE_DUE = 0x08, 0x10, 0x20, 0x40
KNOWN_FLAGS = {1: 0x7F, 2: 0xFF}


def write_gaps(out: Writer, gaps: tuple[Gap, ...]) -> None:
    """The gaps; raises FrameError when they are more than a decoder takes."""
    sets: dict[tuple[int, ...], int] = {}
    which = [sets.setdefault(gap.streams, len(sets)) for gap in gaps]
    if len(gaps) > MAX_GAPS:
        raise FrameError(f"{len(gaps)} gaps in a frame; {MAX_GAPS} is the most")
    out.number(len(gaps))
    out.number(len(sets))
    for streams in sets:
        out.number(len(streams))
        ids = np.array(streams, dtype=np.int64)
        _check_ids(ids)
        out.columns((ids - np.arange(len(ids)))[None, :])
    first = np.array([gap.first_ns for gap in gaps], dtype=np.int64)
    last = np.array([gap.last_ns for gap in gaps], dtype=np.int64)
    count = np.array([gap.count for gap in gaps], dtype=np.int64)
    if count.min() < 0:
        raise FrameError("a negative count of samples")
    reasons = np.array([int(gap.reason) for gap in gaps], dtype=np.int64)
    out.columns(np.stack([np.array(which, dtype=np.int64), first - out.time_base, last - first, count, reasons]))


def write_counters(out: Writer, counters: Counters, tables: tuple[Table, ...]) -> int:
    """The counters; the flags that tell how. Raises FrameError for numbers that no gateway can have."""
    count = len(counters.streams)
    if any(len(column) != count for column in (counters.due, counters.suppressed, counters.thinned, counters.until_ns)):
        raise FrameError("counters whose columns differ in length")
    flags, books = HAS_COUNTERS, []
    if same(_streams_of(tables), counters.streams):
        flags |= SAME_STREAMS
        if same(_last_times_of(tables), counters.until_ns):
            flags |= UNTIL_LAST
    else:
        _check_ids(counters.streams)
        out.number(count)
        out.columns((counters.streams - np.arange(count))[None, :])
    if count and constant(counters.due):
        flags |= ONE_DUE
        _check_books(counters.due[:1])
        out.number(int(counters.due[0]))
    else:
        books.append(counters.due)
    if np.count_nonzero(counters.suppressed) or np.count_nonzero(counters.thinned):
        books += [counters.suppressed, counters.thinned]
    else:
        flags |= NOTHING_LEFT_OUT
    if books:
        _check_books(np.array(books))
    if not flags & UNTIL_LAST:
        books.append(counters.until_ns - out.time_base)
    out.charge(4 * count)
    if books:
        out.columns(np.array(books))
    return flags


@dataclass(slots=True)
class BooksReader:
    """Reads gaps and counters: `plan` with the shape, after the tables; then `gaps` and `counters`."""

    data: Reader
    flags: int
    _gaps: int = 0
    _sets: list[Place] = field(default_factory=list)
    _gap_columns: Place | None = None
    _count: int = 0
    _ids: Place | None = None
    _due: int = 0
    _books: Place | None = None

    def plan(self, tables_streams: int) -> None:
        """Read the shape, given how many streams the tables have together; raises FrameError."""
        data = self.data
        if self.flags & HAS_GAPS:
            self._gaps = data.number(MAX_GAPS)
            for _ in range(data.number(MAX_GAPS)):
                self._sets.append(data.reserve(1, data.number(MAX_CELLS)))
            self._gap_columns = data.reserve(5, self._gaps)
        if not self.flags & HAS_COUNTERS:
            return
        self._count = tables_streams
        if not self.flags & SAME_STREAMS:
            self._count = data.number(MAX_CELLS)
            self._ids = data.reserve(1, self._count)
        data.charge(4 * self._count)
        columns = 4
        if self.flags & ONE_DUE:
            self._due = data.number(2**63 - 1)
            columns -= 1
        columns -= 2 * bool(self.flags & NOTHING_LEFT_OUT) + bool(self.flags & UNTIL_LAST)
        self._books = data.reserve(columns, self._count)

    def gaps(self) -> tuple[Gap, ...]:
        """Every gap; raises FrameError."""
        if self._gap_columns is None:
            return ()
        sets: list[tuple[int, ...]] = []
        for place in self._sets:
            ids = self.data.columns(place)[0] + np.arange(place.length)
            _check_ids(ids)
            sets.append(tuple(ids.tolist()))
        which, first, last, count, reason = self.data.columns(self._gap_columns)
        if self._gaps and (which.min() < 0 or which.max() >= len(sets) or count.min() < 0):
            raise FrameError("a gap of unknown streams or of a negative count")
        first = first + self.data.time_base
        return tuple(
            Gap(sets[at], begin, end, number, reason_of(code))
            for at, begin, end, number, code in zip(
                which.tolist(), first.tolist(), (last + first).tolist(), count.tolist(), reason.tolist(), strict=True
            )
        )

    def counters(self, tables: tuple[Table, ...], *, ids_follow: bool) -> Counters | None:
        """The counters, or None; raises FrameError. ids_follow: the tables number their streams without a gap."""
        if self._books is None:
            return None
        flags, count, left = self.flags, self._count, []
        if self._books.number:
            columns = self.data.columns(self._books)
            left = list(columns)
            _check_books(columns[: len(left) - (not flags & UNTIL_LAST)])
        streams = self._streams(tables, ids_follow=ids_follow)
        due = filled(count, self._due, np.int64) if flags & ONE_DUE else left.pop(0)
        if flags & NOTHING_LEFT_OUT:
            suppressed, thinned = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        else:
            suppressed, thinned = left.pop(0), left.pop(0)
        until = _last_times_of(tables) if flags & UNTIL_LAST else left.pop(0) + self.data.time_base
        if len(until) != count:
            raise FrameError("counters of tables without times")
        return Counters(streams, due, suppressed, thinned, until)

    def _streams(self, tables: tuple[Table, ...], *, ids_follow: bool) -> NDArray[np.int32]:
        if self._ids is None:
            if ids_follow:
                return np.arange(self._count, dtype=np.int32)
            ids = _streams_of(tables)
        else:
            wide = self.data.columns(self._ids)[0] + np.arange(self._count)
            _check_ids(wide)
            ids = wide.astype(np.int32)
        if repeats(ids):
            raise FrameError("counters name a stream twice")
        return ids


def _streams_of(tables: tuple[Table, ...]) -> NDArray[np.int32]:
    if not tables:
        return np.empty(0, dtype=np.int32)
    return np.concatenate([table.streams for table in tables])


def _last_times_of(tables: tuple[Table, ...]) -> Ints:
    """For each stream of the tables the last time of its table; too short when a table has none."""
    counts = [len(table.streams) if len(table.times) else 0 for table in tables]
    lasts = [int(table.times[-1]) if len(table.times) else 0 for table in tables]
    if len(set(lasts)) == 1:
        return filled(sum(counts), lasts[0], np.int64)
    return np.array(lasts, dtype=np.int64).repeat(counts)


def _check_books(books: Ints) -> None:
    if books.size and int(books.min()) < 0:
        raise FrameError("counters are not negative")


def _check_ids(ids: NDArray[np.int32] | Ints) -> None:
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) > MAX_ID):
        raise FrameError("a stream id out of range")

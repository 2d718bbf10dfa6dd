"""A book: what happened to every sample of some streams, as columns.

The receipt of one frame, the sum of an hour and the sum of a boot are the same thing, so there is one type and one
operation: merging. Books are what the ledger keeps in SQLite, packed:

    uint32 n, uint32 m, then the ten columns of the n streams, then the three of the m explained rows, each as
    int64 lowest, uint8 width, count integers of `width` bytes (0, 1, 2, 4: unsigned, above the lowest; 8: as they are)

so that what is the same for every stream, as most of a frame is, costs nine bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from contract.frame import Frame
from contract.readings import Ints, Reason

_HEAD = struct.Struct("<II")
_COLUMN = struct.Struct("<qB")
_WIDTHS: dict[int, type[np.integer[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.int64}
_NEVER = 1 << 62  # a first sequence that no frame has
_STREAM, _DUE, _SEQUENCE, _UNTIL, _STORED, _SUPPRESSED, _THINNED, _FIRST_DUE, _FIRST_SEQUENCE, _FIRST_UNTIL = range(10)
_COLUMNS = 10
_QUARANTINED = 256  # codes below are gaps, by contract.readings.Reason


class Quarantined(IntEnum):
    """Why the cloud put readings aside. Codes are in the ledger's file: never renumber."""

    UNKNOWN_STREAM = 1
    WRONG_KIND = 2
    IMPLAUSIBLE_TIME = 3
    SAME_TIME_TWICE = 4
    UNDATED = 5
    REFUSED_BY_STORE = 6
    REJECTED_FRAME = 7


def explained_by(code: int) -> tuple[str, str]:
    """('gap' or 'quarantined', the reason in small letters) of an explained row's code."""
    if code >= _QUARANTINED:
        return "quarantined", Quarantined(code - _QUARANTINED).name.lower()
    try:
        return "gap", Reason(code).name.lower()
    except ValueError:
        return "gap", f"reason_{code}"


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """Columns of streams, ascending, each once, and of what is explained, by (stream, code) ascending.

    streams: the ledger's own ids. due: cumulative since boot as of `sequence`, the highest sequence that moved the
    stream (-1: none did), and `until_ns` the time of its last sample then (0: not known exactly). first_due,
    first_sequence, first_until_ns: the same of the lowest sequence. All int64 (N,).
    """

    rows: Ints
    explained: Ints

    @property
    def streams(self) -> Ints:
        """Stream ids (N,)."""
        return self.rows[:, _STREAM]

    @property
    def due(self) -> Ints:
        """Samples accounted since boot (N,)."""
        return self.rows[:, _DUE]

    @property
    def stored(self) -> Ints:
        """Readings that the store confirmed (N,)."""
        return self.rows[:, _STORED]

    @property
    def suppressed(self) -> Ints:
        """Samples within the deadband (N,)."""
        return self.rows[:, _SUPPRESSED]

    @property
    def thinned(self) -> Ints:
        """Samples given up for the byte budget (N,)."""
        return self.rows[:, _THINNED]

    def accounted(self) -> Ints:
        """Stored, suppressed, thinned and explained together (N,)."""
        total = self.rows[:, _STORED] + self.rows[:, _SUPPRESSED] + self.rows[:, _THINNED]
        np.add.at(total, np.searchsorted(self.streams, self.explained[:, 0]), self.explained[:, 2])
        return total

    def span(self) -> tuple[Ints, Ints]:
        """(ns, samples) between the first and last exactly dated frames (N,); 0 where not known."""
        rows = self.rows
        known = (rows[:, _UNTIL] > 0) & (rows[:, _FIRST_SEQUENCE] < _NEVER) & (rows[:, _SEQUENCE] >= 0)
        span_ns = np.where(known, rows[:, _UNTIL] - rows[:, _FIRST_UNTIL], 0)
        return span_ns, np.where(known, rows[:, _DUE] - rows[:, _FIRST_DUE], 0)

    def pack(self) -> bytes:
        """The book as bytes. See the module."""
        parts = [_HEAD.pack(len(self.rows), len(self.explained))]
        for matrix in (self.rows, self.explained):
            if len(matrix):
                _pack_columns(matrix, parts)
        return b"".join(parts)


EMPTY = Book(np.zeros((0, _COLUMNS), dtype=np.int64), np.zeros((0, 3), dtype=np.int64))


def unpack(data: bytes) -> Book:
    """The book in `data`, which only this module wrote."""
    n_rows, n_explained = _HEAD.unpack_from(data)
    at, rows = _unpack_columns(data, _HEAD.size, n_rows, _COLUMNS)
    _, explained = _unpack_columns(data, at, n_explained, 3)
    return Book(rows, explained)


def _pack_columns(matrix: Ints, parts: list[bytes]) -> None:
    lows, highs = matrix.min(axis=0).tolist(), matrix.max(axis=0).tolist()
    for column, (low, high) in enumerate(zip(lows, highs, strict=True)):
        span = high - low
        width = next((width for width in (0, 1, 2, 4) if span < 1 << 8 * width), 8)
        parts.append(_COLUMN.pack(low, width))
        if width == 8:
            parts.append(matrix[:, column].tobytes())
        elif width:
            parts.append((matrix[:, column] - low).astype(_WIDTHS[width]).tobytes())


def _unpack_columns(data: bytes, at: int, count: int, n_columns: int) -> tuple[int, Ints]:
    matrix: Ints = np.empty((count, n_columns), dtype=np.int64)
    for column in range(n_columns) if count else ():
        low, width = _COLUMN.unpack_from(data, at)
        at += _COLUMN.size
        matrix[:, column] = low
        if width == 8:
            matrix[:, column] = np.frombuffer(data, np.int64, count, at)
        elif width:
            matrix[:, column] += np.frombuffer(data, _WIDTHS[width], count, at)
        at += count * width
    return at, matrix


def merge(books: Sequence[Book]) -> Book:
    """All of them as one: counts add up, the highest and lowest sequences speak for the cumulative columns."""
    if len(books) == 1:
        return books[0]
    return _group(
        np.concatenate([book.rows for book in books]) if books else EMPTY.rows,
        np.concatenate([book.explained for book in books]) if books else EMPTY.explained,
    )


def settle(book: Book) -> Book:
    """The book of a boot that is not kept apart any more: its due adds up with that of other boots."""
    rows = book.rows.copy()
    rows[:, _FIRST_SEQUENCE] = _NEVER
    return Book(rows, book.explained)


def merge_settled(books: Sequence[Book]) -> Book:
    """Settled books of different boots as one: cumulative due of each boot is a part of the sum."""
    merged = merge(books)
    rows = merged.rows.copy()
    every = np.concatenate([book.rows for book in books]) if books else EMPTY.rows
    rows[:, _DUE] = 0
    np.add.at(rows[:, _DUE], np.searchsorted(rows[:, _STREAM], every[:, _STREAM]), every[:, _DUE])
    return Book(rows, merged.explained)


def receipt(
    frame: Frame, rows_of: Ints, kept: Sequence[tuple[Ints, Ints]], quarantined: Sequence[tuple[int, Quarantined, int]]
) -> Book:
    """The book of one frame.

    rows_of: the ledger's id of each stream id of the epoch, -1 where there is none (n,). kept: for each table the
    ledger's ids and the readings stored of each. quarantined: (ledger id, reason, count).
    """
    moved, gaps = _moved(frame, rows_of), _gaps(frame, rows_of)
    if not quarantined and _add_kept(moved, kept, gaps):
        return Book(moved, gaps)
    parts = [_moved(frame, rows_of)]
    for streams, counts in kept:
        parts.append(_blank(streams))
        parts[-1][:, _STORED] = counts
    explained = [gaps]
    if quarantined:
        noted = np.array([(row, _QUARANTINED + reason, count) for row, reason, count in quarantined], dtype=np.int64)
        explained.append(noted)
    explained_all = np.concatenate(explained)
    parts.append(_blank(np.unique(explained_all[:, 0])))
    return _group(np.concatenate(parts), explained_all)


def _add_kept(moved: Ints, kept: Sequence[tuple[Ints, Ints]], gaps: Ints) -> bool:
    """The usual frame, without sorting: the counters name every stream, ascending. False when it is not so."""
    named = moved[:, _STREAM]
    if not len(named) or len(gaps) > 1 or not (named[1:] > named[:-1]).all():
        return False
    if len(gaps) and named[np.searchsorted(named[:-1], gaps[0, 0])] != gaps[0, 0]:
        return False
    for streams, counts in kept:
        at = np.searchsorted(named[:-1], streams)  # without the last: `at` is then always a place
        if (named[at] != streams).any():
            return False
        moved[at, _STORED] += counts
    return True


def _moved(frame: Frame, rows_of: Ints) -> Ints:
    counters, header = frame.counters, frame.header
    if counters is None:
        return EMPTY.rows
    streams = translate(counters.streams, rows_of)
    rows = _blank(streams)
    rows[:, _DUE] = rows[:, _FIRST_DUE] = counters.due
    rows[:, _SEQUENCE] = header.sequence
    rows[:, _SUPPRESSED], rows[:, _THINNED] = counters.suppressed, counters.thinned
    if not (header.undated or header.estimated):  # a guessed date proves nothing about missing samples
        rows[:, _UNTIL] = rows[:, _FIRST_UNTIL] = counters.until_ns
        rows[:, _FIRST_SEQUENCE] = header.sequence
    return rows[streams >= 0]


def _gaps(frame: Frame, rows_of: Ints) -> Ints:
    parts = [EMPTY.explained]
    for gap in frame.gaps:
        streams = translate(np.array(gap.streams, dtype=np.int64), rows_of)
        streams = streams[streams >= 0]
        part = np.empty((len(streams), 3), dtype=np.int64)
        part[:, 0], part[:, 1], part[:, 2] = streams, int(gap.reason), gap.count
        parts.append(part)
    return np.concatenate(parts)


def translate(streams: np.ndarray[tuple[int], np.dtype[np.signedinteger]], rows_of: Ints) -> Ints:
    """The ledger's ids of an epoch's stream ids, -1 where the birth does not name the stream."""
    known = (streams >= 0) & (streams < len(rows_of))
    found: Ints = np.full(len(streams), -1, dtype=np.int64)
    found[known] = rows_of[streams[known]]
    return found


def _blank(streams: Ints) -> Ints:
    rows: Ints = np.zeros((len(streams), _COLUMNS), dtype=np.int64)
    rows[:, _STREAM] = streams
    rows[:, _SEQUENCE] = -1
    rows[:, _FIRST_SEQUENCE] = _NEVER
    return rows


def _group(rows: Ints, explained: Ints) -> Book:
    """Rows of any order and repetition as a book."""
    if len(rows):
        by_first = np.lexsort((rows[:, _FIRST_SEQUENCE], rows[:, _STREAM]))
        by_last = np.lexsort((rows[:, _SEQUENCE], rows[:, _STREAM]))
        streams = rows[by_last, _STREAM]
        starts = np.flatnonzero(np.concatenate(([True], streams[1:] != streams[:-1])))
        ends = np.append(starts[1:], len(streams)) - 1
        merged = rows[by_last[ends]]
        sums = slice(_STORED, _THINNED + 1)
        merged[:, sums] = np.add.reduceat(rows[by_last, sums], starts, axis=0)
        firsts = slice(_FIRST_DUE, _FIRST_UNTIL + 1)
        merged[:, firsts] = rows[by_first[starts], firsts]
        rows = merged
    if len(explained) > 1:
        order = np.lexsort((explained[:, 1], explained[:, 0]))
        explained = explained[order]
        changed = (explained[1:, 0] != explained[:-1, 0]) | (explained[1:, 1] != explained[:-1, 1])
        starts = np.flatnonzero(np.concatenate(([True], changed)))
        counts = np.add.reduceat(explained[:, 2], starts)
        explained = explained[starts]
        explained[:, 2] = counts
    return Book(rows, explained)

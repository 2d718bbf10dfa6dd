"""Which frames are on disk and what became of each: the outbox's memory.

Columns, not objects: 38 bytes a frame, so an outbox of half a gigabyte in frames of 300 bytes costs 70 MB and no more.
The event loop leases and commits while the writer thread appends and thins: whoever touches an Index holds `lock`, and
holds it for microseconds.
"""

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.readings import Ints
from edge.outbox_disk import on_disk
from edge.outbox_segment import RECORD_BYTES, heads_at

# HELD: refused or damaged, and not yet safe in the dead letters, so its segment must stay.
PENDING, LEASED, HELD, DONE = 0, 1, 2, 3
MAX_SEQUENCE = 2**62

PLACE = np.dtype(
    [
        ("boot", "<u8"),
        ("time_ns", "<i8"),
        ("epoch", "<u4"),
        ("offset", "<u4"),
        ("length", "<u4"),
        ("undated", "?"),
    ]
)


class Rows(NamedTuple):
    """Frames: `sequence` int64 (n,), rising; `place` PLACE (n,), offset and length being the payload's in the file."""

    sequence: Ints
    place: NDArray[np.void]

    @classmethod
    def of(cls, data: bytes, offsets: Iterable[int]) -> "Rows":
        """The frames whose payloads begin at `offsets` of a segment's bytes."""
        at = np.fromiter(offsets, dtype=np.int64)
        return cls.read(heads_at(data, at), at)

    @classmethod
    def read(cls, heads: NDArray[np.void], offsets: Ints) -> "Rows":
        """The frames with these record headers."""
        place = np.empty(len(offsets), dtype=PLACE)
        for name in ("boot", "time_ns", "epoch", "length", "undated"):
            place[name] = heads[name]
        place["offset"] = offsets
        return cls(heads["sequence"].copy(), place)

    def moved(self, offsets: Ints) -> "Rows":
        """The same frames, elsewhere in the file."""
        place = self.place.copy()
        place["offset"] = offsets
        return Rows(self.sequence, place)


NO_ROWS = Rows(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=PLACE))


class Segment:
    """One file of frames. `size`: the file's, bytes. `level`: how often it was thinned. `busy`: being rewritten."""

    def __init__(self, first: int, path: Path, size: int, rows: Rows = NO_ROWS) -> None:
        self.first = first
        self.path = path
        self.size = size
        self.level = 0
        self.busy = False
        self.pending = len(rows.sequence)
        self.leased = 0
        self.held = 0
        self._length = len(rows.sequence)
        self._sequence = rows.sequence
        self._state = np.full(self._length, PENDING, dtype=np.uint8)
        self._place = rows.place

    def extend(self, rows: Rows, grown: int) -> None:
        """Take in frames that were appended to the file, which grew by `grown` bytes."""
        old, new = self._length, self._length + len(rows.sequence)
        if new > len(self._state):
            spare = max(new, 2 * len(self._state), 64) - old
            self._sequence = np.concatenate((self.sequence, np.zeros(spare, dtype=np.int64)))
            self._state = np.concatenate((self.state, np.zeros(spare, dtype=np.uint8)))
            self._place = np.concatenate((self.place, np.zeros(spare, dtype=PLACE)))
        self._sequence[old:new] = rows.sequence
        self._state[old:new] = PENDING
        self._place[old:new] = rows.place
        self._length = new
        self.pending += new - old
        self.size += grown

    @property
    def sequence(self) -> Ints:
        """int64 (n,), rising."""
        return self._sequence[: self._length]

    @property
    def state(self) -> NDArray[np.uint8]:
        """(n,): PENDING, LEASED, HELD or DONE."""
        return self._state[: self._length]

    @property
    def place(self) -> NDArray[np.void]:
        """(n,) of boot, time_ns, epoch, offset, length, undated."""
        return self._place[: self._length]

    @property
    def live(self) -> int:
        """Frames that still need their place on disk."""
        return self.pending + self.leased + self.held

    def dead_bytes(self) -> int:
        """What dropping the finished frames would free."""
        done = self.state == DONE
        return int(self.place["length"][done].sum()) + RECORD_BYTES * int(done.sum())

    def mark(self, positions: NDArray[np.intp] | NDArray[np.bool_] | int, state: int) -> None:
        """Put frames, by position or mask, into `state`."""
        if isinstance(positions, int):
            self._count(int(self._state[positions]), -1)
            self._count(state, 1)
            self._state[positions] = state
            return
        self.state[positions] = state
        self.pending = int(np.count_nonzero(self.state == PENDING))
        self.leased = int(np.count_nonzero(self.state == LEASED))
        self.held = int(np.count_nonzero(self.state == HELD))

    def _count(self, state: int, change: int) -> None:
        if state == PENDING:
            self.pending += change
        elif state == LEASED:
            self.leased += change
        elif state == HELD:
            self.held += change

    def pick(self, *, newest: bool, undated: bool) -> int | None:
        """The position of the newest or oldest pending frame; undated ones only when asked for."""
        if not self.pending or self.busy:
            return None
        wanted = self.state == PENDING
        if not undated:
            wanted &= ~self.place["undated"]
        found = np.flatnonzero(wanted)
        return int(found[-1 if newest else 0]) if found.size else None

    def position(self, sequence: int) -> int | None:
        """Where the frame with this number stands, or None."""
        at = int(np.searchsorted(self.sequence, sequence))
        return at if at < self._length and self.sequence[at] == sequence else None


class Index:
    """Every segment, oldest first. Hold `lock` around each use."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.segments: list[Segment] = []

    def bytes(self) -> int:
        """What all segment files occupy."""
        return sum(on_disk(segment.size) for segment in self.segments)

    def pick(self, *, newest: bool, undated: bool) -> tuple[Segment, int] | None:
        """The newest or oldest pending frame, as its segment and position."""
        for segment in reversed(self.segments) if newest else self.segments:
            position = segment.pick(newest=newest, undated=undated)
            if position is not None:
                return segment, position
        return None

    def find(self, sequence: int) -> tuple[Segment, int] | None:
        """The frame with this number, whatever its state, or None."""
        at = bisect_right(self.segments, sequence, key=_first) - 1
        if at < 0 or sequence > MAX_SEQUENCE:
            return None
        position = self.segments[at].position(sequence)
        return None if position is None else (self.segments[at], position)

    def finish(self, boot: int, low: int, high: int) -> Iterator[Ints]:
        """Mark the boot's unfinished frames of low..high (inclusive) as done; yields the sequences, an array a segment.

        Costs by what is here, never by how much a range claims.
        """
        low, high = max(low, 0), min(high, MAX_SEQUENCE)
        if low > high or not 0 <= boot < 2**64:
            return
        for segment in self.segments[max(bisect_right(self.segments, low, key=_first) - 1, 0) :]:
            if segment.first > high:
                return
            if not segment.live:
                continue
            begin, end = np.searchsorted(segment.sequence, (low, high + 1))
            wanted = (segment.state[begin:end] != DONE) & (segment.place["boot"][begin:end] == boot)
            if wanted.any():
                positions = begin + np.flatnonzero(wanted)
                segment.mark(positions, DONE)
                yield segment.sequence[positions]

    def spent(self) -> list[Segment]:
        """Segments without a live frame, taken out of the index. The newest stays: it carries state and numbering."""
        spent = [segment for segment in self.segments[:-1] if not segment.live and not segment.busy]
        for segment in spent:
            self.segments.remove(segment)
        return spent

    def replace(self, parts: list[Segment], new: Segment) -> None:
        """Put `new`, a rewritten copy of these neighbours, in their place, with what became of each frame meanwhile."""
        for part in parts:
            at = np.minimum(np.searchsorted(new.sequence, part.sequence), max(len(new.sequence) - 1, 0))
            kept = new.sequence[at] == part.sequence if len(new.sequence) else np.zeros(len(at), dtype=np.bool_)
            new.state[at[kept]] = part.state[kept]
        new.mark(np.zeros(0, dtype=np.intp), PENDING)
        begin = self.segments.index(parts[0])
        self.segments[begin : begin + len(parts)] = [new]

    def epochs(self) -> set[int]:
        """The catalogues that live frames refer to."""
        found: set[int] = set()
        for segment in self.segments:
            if segment.live:
                found.update(np.unique(segment.place["epoch"][segment.state != DONE]).tolist())
        return found

    def oldest_time_ns(self) -> int | None:
        """The time base of the oldest live frame."""
        for segment in self.segments:
            if segment.live:
                return int(segment.place["time_ns"][int(np.argmax(segment.state != DONE))])
        return None

    def oldest_sequence(self) -> int | None:
        """The number of the oldest live frame."""
        for segment in self.segments:
            if segment.live:
                return int(segment.sequence[int(np.argmax(segment.state != DONE))])
        return None


def _first(segment: Segment) -> int:
    return segment.first

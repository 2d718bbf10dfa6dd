"""How the outbox stays within its bytes: first free what nobody needs, then make the oldest telemetry coarser.

In this order, until the next write fits:
 1. delete segments whose every frame is acknowledged or rejected;
 2. rewrite segments that are a quarter dead without the dead; make one of two neighbours that fit, if thinned alike;
 3. thin: of one segment every second row of telemetry goes. Which one follows from age: a segment twice as old may be
    twice as coarse, so the next is the one with the largest log2(age) - (times thinned), age counted in segments. Six
    halvings, then the last rows.
Alarms, gaps and the books stay whole, sequence numbers stay the same, frames under way are not touched, and what is
taken is counted inside the frame, where the ledger finds it.

A rewrite is a new file, synced, renamed over the old one. Before it the reserve is let go, so it works on a disk
without a free block; afterwards the reserve is taken again.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from contract.errors import FrameError, OutboxFull
from contract.frame import Frame, Header
from edge.outbox_disk import Disk, Reserve, no_room
from edge.outbox_index import DONE, PENDING, Index, Rows, Segment
from edge.outbox_letters import DeadLetters, Letter
from edge.outbox_segment import FILE_BYTES, RECORD_BYTES, RecordType, file_header, payload_in, record

log = logging.getLogger(__name__)

# What each pass keeps: every second of the rows still there, at last none.
PASSES = (2, 2, 2, 2, 2, 2, 0)
# When others fill the disk our share may stay as it is, and may always be this many segments.
_FLOOR_SEGMENTS = 4


class FrameCodec(Protocol):
    """What the outbox needs of contract/frame.py; the module itself is one."""

    def peek(self, data: bytes) -> Header:
        """The frame's header; raises FrameError."""

    def decode(self, data: bytes) -> Frame:
        """The frame; raises FrameError."""

    def with_sequence(self, data: bytes, sequence: int) -> bytes:
        """The same frame under another sequence number."""

    def thin_counted(self, data: bytes, every: int, keep_whole: frozenset[int], phase: int = 0) -> tuple[bytes, int]:
        """The frame with every n-th row of telemetry, the first counting as row `phase` (0 keeps none), and how many
        readings that took; raises FrameError."""


@dataclass
class Tally:
    """What happened since the outbox was opened. Written under the index's lock."""

    appended: int = 0
    committed: int = 0
    thinned_readings: int = 0
    torn_bytes: int = 0
    corrupt_records: int = 0
    ignored_acks: int = 0


@dataclass
class _Draft:
    """A segment being rewritten: its bytes, where its payloads will begin, its size, and the readings thinned away."""

    pieces: list[bytes]
    offsets: list[int]
    size: int
    taken: int


class Room:
    """Makes room. Lives in the writer thread."""

    def __init__(
        self,
        directory: Path,
        *,
        index: Index,
        tally: Tally,
        letters: DeadLetters,
        reserve: Reserve,
        disk: Disk,
        codec: FrameCodec,
        keep_whole: Callable[[int], frozenset[int]],
        usable_bytes: int,
        min_free_bytes: int,
    ) -> None:
        self.pressed = False
        self._directory = directory
        self._index = index
        self._tally = tally
        self._letters = letters
        self._reserve = reserve
        self._disk = disk
        self._codec = codec
        self._keep_whole = keep_whole
        self._usable_bytes = usable_bytes
        self._min_free_bytes = min_free_bytes
        self._ceiling: int | None = None

    def make(self, needed: int, *, refused: bool = False) -> None:
        """Returns when `needed` bytes fit the budget and the disk. Raises OutboxFull, or OSError of a failing disk.

        refused: the disk has just said that it is full, so as much must be freed as is to be written.
        """
        self.reap()
        limit = self._limit(needed, refused=refused)
        if self._index.bytes() + needed <= limit:
            self._relax(limit - needed)
            return
        if not self.pressed:
            log.warning("the outbox has reached %d bytes: the oldest telemetry is thinned to make room", limit)
            self.pressed = True
        if needed > limit:
            raise OutboxFull(f"{needed} bytes do not fit into {limit}")
        self._reserve.release()
        try:
            while self._index.bytes() + needed > limit:
                if not self._shrink():
                    raise OutboxFull(f"{limit} bytes are full and nothing is left to thin")
        finally:
            self._reserve.establish()

    def reap(self) -> None:
        """Delete the segments that hold nothing any more. Raises OSError."""
        with self._index.lock:
            spent = self._index.spent()
        for segment in spent:
            self._disk.remove(segment.path)

    def _limit(self, needed: int, *, refused: bool) -> int:
        """What all segments together may occupy now."""
        spare = self._disk.free_bytes(self._directory) - needed - self._min_free_bytes
        if refused:
            self._ceiling = self._index.bytes()
        elif spare < 0 and self._ceiling is None:
            self._ceiling = max(self._index.bytes(), _FLOOR_SEGMENTS * self._reserve.size)
        elif spare >= self._reserve.size:
            self._ceiling = None
        return self._usable_bytes if self._ceiling is None else min(self._ceiling, self._usable_bytes)

    def _relax(self, limit: int) -> None:
        if self.pressed and self._index.bytes() < limit * 0.9:
            log.info("the outbox has room again: nothing is thinned any more")
            self.pressed = False

    def _shrink(self) -> bool:
        """Make something smaller, or find out that it cannot be. False when there is nothing left to try."""
        with self._index.lock:
            sealed = self._index.segments[:-1]
        for segment in sealed:
            if segment.dead_bytes() * 4 > segment.size:
                return self._rewrite([segment], None) is not None
        for older, newer in pairwise(sealed):
            if older.level == newer.level and older.size + newer.size <= self._reserve.size:
                return self._rewrite([older, newer], None) is not None
        worth = [
            (math.log2(len(sealed) - position) - segment.level, -position)
            for position, segment in enumerate(sealed)
            if segment.pending and segment.level < len(PASSES)
        ]
        if not worth:
            return False
        segment = sealed[-max(worth)[1]]
        thinned = self._rewrite([segment], PASSES[segment.level])
        if thinned is None:
            return False
        thinned.level = segment.level + 1
        return True

    def _rewrite(self, parts: list[Segment], every: int | None) -> Segment | None:
        """Make one segment of these neighbours, without their dead, thinned when `every` is given.

        None when there is no room even for that.
        """
        with self._index.lock:
            for part in parts:
                part.busy = True
        try:
            draft = self._draft(parts, every)
            data = b"".join(draft.pieces)
            new = Segment(parts[0].first, parts[0].path, draft.size, Rows.of(data, draft.offsets))
            new.level = parts[0].level
            # A crash between the rename and the deletion leaves frames twice: recovery takes those of the older file.
            self._disk.write_file(new.path, data)
            with self._index.lock:
                self._index.replace(parts, new)
                self._tally.thinned_readings += draft.taken
            for part in parts[1:]:
                self._disk.remove(part.path)
        except OSError as error:
            if not no_room(error):
                raise
            return None
        finally:
            with self._index.lock:
                for part in parts:
                    part.busy = False
        self.reap()
        return new

    def _draft(self, parts: list[Segment], every: int | None) -> "_Draft":
        draft = _Draft([file_header(parts[0].first)], [], FILE_BYTES, 0)
        for part in parts:
            data = part.path.read_bytes()
            with self._index.lock:
                sequences, states, places = part.sequence.copy(), part.state.copy(), part.place.copy()
            for position in np.flatnonzero(states != DONE).tolist():
                sequence, place = int(sequences[position]), places[position]
                begin, length, epoch = int(place["offset"]) - RECORD_BYTES, int(place["length"]), int(place["epoch"])
                whole = data[begin : begin + RECORD_BYTES + length]
                payload = payload_in(whole, sequence)
                if payload is None:
                    self._bury(part, position, whole)
                    continue
                if every is not None and states[position] == PENDING:
                    # Frames of one row each: at every level every second of those that are still there goes.
                    thinned, count = self._thin(payload, every, epoch, phase=sequence >> part.level)
                    if count:
                        whole = record(RecordType.FRAME, sequence, thinned, self._codec.peek(thinned))
                        draft.taken += count
                draft.offsets.append(draft.size + RECORD_BYTES)
                draft.pieces.append(whole)
                draft.size += len(whole)
        return draft

    def _thin(self, payload: bytes, every: int, epoch: int, *, phase: int) -> tuple[bytes, int]:
        """The thinned frame and how many readings that took; the frame as it is where thinning gains nothing."""
        try:
            thinned, taken = self._codec.thin_counted(payload, every, self._keep_whole(epoch), phase)
        except FrameError as error:
            log.warning("a queued frame cannot be thinned and stays whole: %s", error)
            return payload, 0
        return (thinned, taken) if len(thinned) < len(payload) else (payload, 0)

    def _bury(self, segment: Segment, position: int, data: bytes) -> None:
        sequence, boot = int(segment.sequence[position]), int(segment.place[position]["boot"])
        self._letters.add(Letter(f"{sequence:020d}", sequence, boot, "damaged on this gateway's disk", data))
        with self._index.lock:
            segment.mark(position, DONE)
            self._tally.corrupt_records += 1
        log.error("frame %d was damaged on disk: its bytes are in the dead letters", sequence)

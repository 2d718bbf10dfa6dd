"""The outbox: readings wait here, durably, until the database has them. The heart of the gateway.

    append    a frame is on disk, synced, under a number of its own, before the call returns
    lease     a frame is handed to the uplink, newest or oldest first; release puts it back
    commit    the database has frames; only now is their disk space free
    reject    the cloud will never take a frame; it moves to the dead letters

The format and its invariants are prose at the top of edge/outbox_segment.py, the order in which room is made in
edge/outbox_thinning.py, the reasons in docs/adr/0003-outbox-format.md.

Threads: every method here belongs to the event loop; one writer thread owns the files (edge/outbox_writer.py).
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contract import frame as contract_frame
from contract.errors import ConfigError, Fatal, WeinaoError
from edge.outbox_disk import Disk, Reserve, read_at
from edge.outbox_files import KeyFiles
from edge.outbox_index import DONE, HELD, LEASED, PENDING, Index, Segment
from edge.outbox_journal import Journal, runs
from edge.outbox_letters import DeadLetters, Letter
from edge.outbox_recovery import Recoverer, Recovery, lock
from edge.outbox_segment import RECORD_BYTES, payload_in
from edge.outbox_thinning import FrameCodec, Room, Tally
from edge.outbox_writer import Acknowledged, Append, Refused, Writer

log = logging.getLogger(__name__)

_KIB, _MIB = 1024, 1024 * 1024
_MIN_FREE_BYTES = 64 * _MIB
_SEGMENT_BYTES = (16 * _KIB, 4 * _MIB)
_JOURNAL_BYTES = (16 * _KIB, 1 * _MIB)


@dataclass(frozen=True, slots=True)
class Leased:
    """A frame under way. `data` carries its sequence; `undated` times are CLOCK_BOOTTIME of `boot`."""

    sequence: int
    boot: int
    epoch: int
    time_base_ns: int
    undated: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """How the outbox is.

    frames: neither acknowledged nor rejected, of them `leased` under way. bytes: on disk, all but births and notes.
    oldest_time_ns: time base of the oldest of the frames. full: room is being made by thinning. The counts from
    thinned_readings on are since the outbox was opened, but for dead_letters: those in the folder.
    """

    frames: int
    leased: int
    bytes: int
    max_bytes: int
    oldest_time_ns: int | None
    full: bool
    thinned_readings: int
    dead_letters: int
    dropped_dead_letters: int
    torn_bytes: int
    corrupt_records: int
    appended: int
    committed: int
    ignored_acks: int


@dataclass(frozen=True)
class _Parts:
    """What `open` put together."""

    index: Index
    tally: Tally
    room: Room
    journal: Journal
    letters: DeadLetters
    reserve: Reserve
    writer: Writer
    recovery: Recovery
    lock: int


class Outbox(KeyFiles):
    """One directory of frames. Made by `open`, ended by `close`."""

    def __init__(
        self,
        directory: Path,
        parts: _Parts,
        *,
        max_bytes: int,
        state: Callable[[], bytes],
        codec: FrameCodec,
        disk: Disk,
    ) -> None:
        super().__init__(directory, disk, parts.index)
        self.recovery = parts.recovery
        self._max_bytes = max_bytes
        self._state = state
        self._codec = codec
        self._parts = parts
        self._writer = parts.writer
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        max_bytes: int,
        state: Callable[[], bytes],
        keep_whole: Callable[[int], frozenset[int]] = lambda _epoch: frozenset(),
        segment_bytes: int | None = None,
        min_free_bytes: int = _MIN_FREE_BYTES,
        codec: FrameCodec = contract_frame,
        disk: Disk | None = None,
    ) -> "Outbox":
        """Take the directory, recover what is in it, and be ready. Blocks for as long as reading it takes.

        max_bytes: all files but births and notes stay below. state: the gateway's checkpoint; called on the event loop
        within `append`, it accounts for every frame whose `append` has returned. It is written at the head of a
        segment, before the frames of that append, so one appender at a time loses nothing between the two.
        keep_whole: the alarm streams of an epoch, never thinned; called in the writer thread. min_free_bytes: below
        so much free disk the outbox does not grow.

        Raises ConfigError: the directory is in use, cannot be used, or is of a newer format.
        """
        disk = disk or Disk()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            held = lock(directory)
            try:
                parts = _assemble(
                    directory,
                    max_bytes,
                    segment_bytes,
                    min_free_bytes,
                    keep_whole=keep_whole,
                    codec=codec,
                    disk=disk,
                    held=held,
                )
                outbox = cls(directory, parts, max_bytes=max_bytes, state=state, codec=codec, disk=disk)
            except (OSError, WeinaoError):
                os.close(held)
                raise
        except OSError as error:
            raise ConfigError([f"outbox.directory: {directory} cannot be used: {error}"]) from error
        parts.writer.start()
        return outbox

    @property
    def next_sequence(self) -> int:
        """The number that the next frame on disk will have."""
        return self._writer.next_sequence

    @property
    def oldest_sequence(self) -> int | None:
        """The number of the oldest frame that is neither acknowledged nor rejected, or None."""
        with self._index.lock:
            return self._index.oldest_sequence()

    async def append(self, frames: Sequence[bytes]) -> list[int]:
        """Number the frames and make them durable; their sequences, in order. All of them or none.

        An append of nothing returns when everything handed over before is done: acknowledgements noted, space freed.
        Raises OutboxFull (thinning found no room), FrameError (not a frame), Fatal (the disk fails). Cancelled, the
        frames are either on disk, whole, or not there at all.
        """
        if self._closed or self._writer.broken is not None:
            raise Fatal(str(self._writer.broken or "the outbox is closed"))
        headers = [self._codec.peek(data) for data in frames]
        job = Append(frames, headers, None)
        size = job.bytes()
        if frames and self._writer.wants_state(self._queued_bytes + size):
            job.state = self._state()
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[None] = loop.create_future()
        self._queued_bytes += size

        def land() -> None:
            self._queued_bytes -= size
            self._arrived.set()
            if not landed.done():
                landed.set_result(None)

        def tell(_: object) -> None:
            with suppress(RuntimeError):  # the loop may have ended before the disk had
                loop.call_soon_threadsafe(land)

        job.done.add_done_callback(tell)
        self._writer.put(job)
        try:
            await landed
        except asyncio.CancelledError:
            job.done.cancel()
            raise
        return job.done.result()

    def lease(self, *, newest: bool, undated: bool = False) -> Leased | None:
        """The newest or oldest frame that waits, now under way; None when none does.

        undated: frames whose times are not UTC yet are wanted too. Raises Fatal when the file cannot be opened.
        """
        with self._index.lock:
            while (found := self._index.pick(newest=newest, undated=undated)) is not None:
                segment, position = found
                place = segment.place[position]
                sequence, boot, epoch = int(segment.sequence[position]), int(place["boot"]), int(place["epoch"])
                raw = self._read(segment, position)
                data = payload_in(raw, sequence)
                if data is None:
                    log.error("frame %d was damaged on disk: its bytes go to the dead letters", sequence)
                    self._parts.tally.corrupt_records += 1
                    self._bury(segment, position, raw, "damaged on this gateway's disk")
                    continue
                segment.mark(position, LEASED)
                return Leased(sequence, boot, epoch, int(place["time_ns"]), bool(place["undated"]), data)
        return None

    def release(self, sequence: int) -> None:
        """A frame is not under way any more and waits again. Nothing happens to one that is finished."""
        with self._index.lock:
            found = self._index.find(sequence)
            if found is not None and found[0].state[found[1]] == LEASED:
                found[0].mark(found[1], PENDING)

    def release_all(self) -> None:
        """No frame is under way any more."""
        with self._index.lock:
            for segment in self._index.segments:
                if segment.leased:
                    segment.mark(segment.state == LEASED, PENDING)

    def commit(self, boot: int, ranges: Sequence[tuple[int, int]]) -> int:
        """The database has the boot's frames in these inclusive ranges; how many of them waited here.

        A range that frees nothing (another boot, unknown, a repeat) is counted in `ignored_acks`.
        """
        freed: list[tuple[int, int]] = []
        count = 0
        with self._index.lock:
            for low, high in ranges:
                before = count
                for sequences in self._index.finish(boot, low, high):
                    count += sequences.size
                    freed += runs(sequences)
                self._parts.tally.ignored_acks += before == count
            self._parts.tally.committed += count
        if freed:
            self._writer.put_later(Acknowledged(freed))
        return count

    def reject(self, boot: int, sequence: int, reason: str) -> None:
        """The cloud will never take this frame: it moves to the dead letters. Unknown ones are counted and ignored."""
        with self._index.lock:
            found = self._index.find(sequence)
            if found is not None:
                segment, position = found
                if segment.state[position] in {PENDING, LEASED} and int(segment.place[position]["boot"]) == boot:
                    raw = self._read(segment, position)
                    self._bury(segment, position, payload_in(raw, sequence) or raw, reason)
                    return
            self._parts.tally.ignored_acks += 1

    def stats(self) -> OutboxStats:
        """How the outbox is now."""
        parts, tally = self._parts, self._parts.tally
        with self._index.lock:
            segments = self._index.segments
            return OutboxStats(
                frames=sum(segment.live for segment in segments),
                leased=sum(segment.leased for segment in segments),
                bytes=self._index.bytes() + parts.letters.bytes() + parts.journal.bytes() + parts.reserve.held_bytes,
                max_bytes=self._max_bytes,
                oldest_time_ns=self._index.oldest_time_ns(),
                full=parts.room.pressed,
                thinned_readings=tally.thinned_readings,
                dead_letters=len(parts.letters),
                dropped_dead_letters=parts.letters.dropped,
                torn_bytes=tally.torn_bytes,
                corrupt_records=tally.corrupt_records,
                appended=tally.appended,
                committed=tally.committed,
                ignored_acks=tally.ignored_acks,
            )

    async def arrived(self) -> None:
        """Returns when frames were appended since the last return. Look with `lease` first, then wait."""
        await self._arrived.wait()
        self._arrived.clear()

    async def close(self) -> None:
        """Finish what was handed over, then let go of the directory. Repeating it does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._writer.stop)
        os.close(self._parts.lock)

    def _read(self, segment: Segment, position: int) -> bytes:
        """The record's bytes, sound or not; none where the disk cannot read them."""
        place = segment.place[position]
        try:
            return read_at(segment.path, int(place["offset"]) - RECORD_BYTES, int(place["length"]) + RECORD_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:
                raise Fatal(f"the outbox cannot be read: {error}") from error
            return b""

    def _bury(self, segment: Segment, position: int, data: bytes, reason: str) -> None:
        """Have the frame moved to the dead letters; its segment stays until that is durable. The lock is held."""
        sequence, boot = int(segment.sequence[position]), int(segment.place[position]["boot"])
        segment.mark(position, HELD)
        self._writer.put(Refused(Letter(f"{sequence:020d}", sequence, boot, reason, data), sequence))


def _assemble(
    directory: Path,
    max_bytes: int,
    segment_bytes: int | None,
    min_free_bytes: int,
    *,
    keep_whole: Callable[[int], frozenset[int]],
    codec: FrameCodec,
    disk: Disk,
    held: int,
) -> _Parts:
    """Divide the budget, recover, and wire the parts."""
    if segment_bytes is None:
        # A budget larger than the disk must not make segments that a small disk cannot hold several of.
        real = min(max_bytes, disk.free_bytes(directory) + _size(directory))
        segment_bytes = min(max(real // 64, _SEGMENT_BYTES[0]), _SEGMENT_BYTES[1])
    letters = DeadLetters(directory, max_bytes // 16, disk)
    journal = Journal(directory, min(max(max_bytes // 64, _JOURNAL_BYTES[0]), _JOURNAL_BYTES[1]), disk)
    journal.load()
    reserve = Reserve(directory, segment_bytes, disk)
    reserve.release()  # repairing what a crash left needs a little room, also on a full disk
    recoverer = Recoverer(directory, journal=journal, letters=letters, disk=disk)
    recoverer.run()
    index, recovery = recoverer.index, recoverer.recovery
    done = [segment.sequence[segment.state == DONE] for segment in index.segments]
    journal.rewrite(runs(np.concatenate(done)) if done else [])
    reserve.establish()
    tally = Tally(torn_bytes=recovery.torn_bytes, corrupt_records=recovery.corrupt_records)
    room = Room(
        directory,
        index=index,
        tally=tally,
        letters=letters,
        reserve=reserve,
        disk=disk,
        codec=codec,
        keep_whole=keep_whole,
        usable_bytes=max_bytes - letters.max_bytes - 2 * journal.max_bytes - segment_bytes,
        min_free_bytes=min_free_bytes,
    )
    writer = Writer(
        directory,
        index=index,
        tally=tally,
        room=room,
        journal=journal,
        letters=letters,
        disk=disk,
        codec=codec,
        segment_bytes=segment_bytes,
        next_sequence=recovery.next_sequence,
    )
    return _Parts(index, tally, room, journal, letters, reserve, writer, recovery, held)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())

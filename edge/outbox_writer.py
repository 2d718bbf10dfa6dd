"""The one thread that writes: group commit, rotation, acknowledgements, dead letters.

Jobs come through a queue. All appends that wait are numbered, written together and synced once, so a hundred waiting
appends cost one sync. The event loop never waits for a disk.
"""

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np

from contract.errors import Fatal, OutboxFull
from contract.frame import Header
from edge.outbox_disk import Disk, no_room, on_disk
from edge.outbox_index import DONE, HELD, Index, Rows, Segment
from edge.outbox_journal import Journal, runs
from edge.outbox_letters import DeadLetters, Letter
from edge.outbox_segment import FILE_BYTES, RECORD_BYTES, RecordType, file_header, path_of, record
from edge.outbox_thinning import FrameCodec, Room, Tally

log = logging.getLogger(__name__)

# One write gathers at most this much: the memory it takes, and how long the first of a group waits for the last.
_GROUP_BYTES = 8 * 1024 * 1024
# A checkpoint stands at the head of each segment, which is at least so many times as large.
_STATE_SHARE = 4
# Acknowledgements that wait for an append to come; a gateway that samples appends every few seconds.
_MOST_LATER = 64


@dataclass
class Append:
    """Frames to be made durable. `state`: a checkpoint, in case they begin a segment. `done`: their sequences."""

    frames: Sequence[bytes]
    headers: Sequence[Header]
    state: bytes | None
    done: Future[list[int]] = field(default_factory=Future)

    def bytes(self) -> int:
        """What they will add to a file."""
        return sum(map(len, self.frames)) + RECORD_BYTES * len(self.frames)


@dataclass
class Acknowledged:
    """Ranges that the database has, to be remembered."""

    ranges: list[tuple[int, int]]


@dataclass
class Refused:
    """A held frame, to be moved to the dead letters."""

    letter: Letter
    sequence: int


Job = Append | Acknowledged | Refused


class Writer:
    """Owns the files from the moment they are recovered until `stop`."""

    def __init__(
        self,
        directory: Path,
        *,
        index: Index,
        tally: Tally,
        room: Room,
        journal: Journal,
        letters: DeadLetters,
        disk: Disk,
        codec: FrameCodec,
        segment_bytes: int,
        next_sequence: int,
    ) -> None:
        self.next_sequence = next_sequence
        self.broken: Fatal | None = None
        self._directory = directory
        self._index = index
        self._tally = tally
        self._room = room
        self._journal = journal
        self._letters = letters
        self._disk = disk
        self._codec = codec
        self._segment_bytes = segment_bytes
        self._active: Segment | None = None
        self._descriptor = -1
        self._in_hand: list[Append] = []
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._later: deque[Acknowledged] = deque()
        self._thread = Thread(target=self._run, name="outbox-writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Have it done, after everything put before."""
        self._queue.put(job)

    def put_later(self, job: Acknowledged) -> None:
        """Have it done with the next job that is put: waking the thread costs more than what there is to do."""
        if len(self._later) < _MOST_LATER:
            self._later.append(job)
        else:
            self._queue.put(job)

    def wants_state(self, coming_bytes: int) -> bool:
        """Whether appending so much more may begin a new segment, which needs a checkpoint."""
        active = self._active
        return active is None or active.size + coming_bytes > self._segment_bytes

    def stop(self) -> None:
        """Do what was put, then end. Blocks; call it once."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        orderly = False
        try:
            while self._turn():
                pass
            orderly = True
        finally:
            if self.broken is None:
                self.broken = Fatal("the outbox is closed" if orderly else "the outbox's writer died of a defect")
            self._fail_rest()
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._journal.close()

    def _turn(self) -> bool:
        """Wait for jobs and do them. False after the last."""
        jobs = self._gather()
        appends = [job for job in jobs if isinstance(job, Append) and job.done.set_running_or_notify_cancel()]
        self._in_hand = appends
        for group, state in self._groups([job for job in appends if job.frames]):
            self._append(group, state)
        try:
            if self.broken is None:
                self._settle(jobs)
        except OSError as error:
            self._break(error)
        for job in appends:
            if not job.frames:
                job.done.set_result([])
        return None not in jobs

    def _gather(self) -> list[Job | None]:
        jobs = [self._queue.get()]
        size = 0
        try:
            while None not in jobs and size < _GROUP_BYTES:
                job = self._queue.get_nowait()
                jobs.append(job)
                size += job.bytes() if isinstance(job, Append) else 0
        except Empty:
            pass
        while self._later:  # last, so that what was said before the end is done before it
            jobs.append(self._later.popleft())
        return jobs

    def _fail_rest(self) -> None:
        """Nobody may wait for ever for a thread that has ended."""
        for left in self._in_hand:
            if not left.done.done():
                left.done.set_exception(self.broken)
        try:
            while True:
                job = self._queue.get_nowait()
                if isinstance(job, Append) and job.done.set_running_or_notify_cancel():
                    job.done.set_exception(self.broken)
        except Empty:
            pass

    def _groups(self, appends: list[Append]) -> Iterator[tuple[list[Append], bytes | None]]:
        """Appends that go into one segment, and the checkpoint when that segment is a new one."""
        group: list[Append] = []
        state: bytes | None = None
        size = self._active.size if self._active else 0
        for job in appends:
            if job.state is not None:
                limit = max(self._segment_bytes, _STATE_SHARE * len(job.state))
                if size == 0 or size + job.bytes() > limit:
                    if group:
                        yield group, state
                    group, state, size = [], job.state, FILE_BYTES + RECORD_BYTES + len(job.state)
            group.append(job)
            size += job.bytes()
        if group:
            yield group, state

    def _append(self, group: list[Append], state: bytes | None) -> None:
        """Number, write and sync a group; tell each append how it went."""
        refused = False
        while self.broken is None:
            data, rows = self._records(group, state)
            try:
                growth = self._growth(len(data), state)
                # Ask a disk that refused only after freeing something, even when the bytes fit a block it has.
                self._room.make(max(growth, on_disk(len(data))) if refused else growth, refused=refused)
                self._write(data, rows, state)
            except OutboxFull as full:
                self._too_much(group, state, full)
                return
            except OSError as error:
                if not no_room(error):
                    self._break(error)
                refused = True
            else:
                self._deliver(group, rows)
                return
        for job in group:
            job.done.set_exception(self.broken)

    def _too_much(self, group: list[Append], state: bytes | None, full: OutboxFull) -> None:
        """There is no room for the group: perhaps there is for some of it."""
        if len(group) == 1:
            group[0].done.set_exception(full)
            return
        for job in group:
            needs_state = self._active is None or (state is not None and job is group[0])
            self._append([job], (job.state or state) if needs_state else None)

    def _records(self, group: list[Append], state: bytes | None) -> tuple[bytes, Rows]:
        """The bytes to write, from sequence `next_sequence` on, and where the frames will stand."""
        sequence = self.next_sequence
        parts = [] if state is None else [file_header(sequence), record(RecordType.STATE, sequence, state)]
        base = self._active.size if state is None and self._active is not None else 0
        position, offsets = sum(map(len, parts)), []
        for job in group:
            for frame, header in zip(job.frames, job.headers, strict=True):
                payload = self._codec.with_sequence(frame, sequence)
                parts.append(record(RecordType.FRAME, sequence, payload, header))
                offsets.append(position + RECORD_BYTES)
                position += len(parts[-1])
                sequence += 1
        data = b"".join(parts)
        rows = Rows.of(data, offsets)
        return data, rows.moved(rows.place["offset"] + np.int64(base))

    def _growth(self, size: int, state: bytes | None) -> int:
        """What writing `size` bytes will take of the disk."""
        if state is not None or self._active is None:
            return on_disk(size)
        return on_disk(self._active.size + size) - on_disk(self._active.size)

    def _write(self, data: bytes, rows: Rows, state: bytes | None) -> None:
        """Durably at the active segment's end, or as a new segment. After an OSError nothing of it is there."""
        if state is not None:
            self._rotate(data, rows)
            return
        active = self._active
        if active is None:
            raise RuntimeError("the first append after opening carries a checkpoint")
        try:
            self._disk.write(self._descriptor, data, active.size)
            self._disk.sync(self._descriptor)
        except OSError:
            self._disk.truncate(self._descriptor, active.size)
            raise
        with self._index.lock:
            active.extend(rows, len(data))

    def _rotate(self, data: bytes, rows: Rows) -> None:
        path = path_of(self._directory, self.next_sequence)
        if self._index.segments and self._index.segments[-1].first >= self.next_sequence:
            raise RuntimeError(f"{path.name} exists already")
        passing = path.with_name(path.name + ".new")
        descriptor = self._disk.create(passing)
        try:
            self._disk.write(descriptor, data, 0)
            self._disk.sync(descriptor)
            self._disk.replace(passing, path)
        except OSError:
            os.close(descriptor)
            self._disk.remove(passing)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._active = Segment(self.next_sequence, path, len(data), rows)
        with self._index.lock:
            self._index.segments.append(self._active)

    def _deliver(self, group: list[Append], rows: Rows) -> None:
        count = len(rows.sequence)
        self.next_sequence += count
        with self._index.lock:
            self._tally.appended += count
        sequences = iter(rows.sequence.tolist())
        for job in group:
            job.done.set_result([next(sequences) for _ in job.frames])

    def _settle(self, jobs: list[Job | None]) -> None:
        """Everything that is no append: less urgent, and no one waits for it."""
        settled = False
        for job in jobs:
            if isinstance(job, Acknowledged):
                self._journal.add(job.ranges)
                settled = True
            elif isinstance(job, Refused):
                self._letters.add(job.letter)
                with self._index.lock:
                    found = self._index.find(job.sequence)
                    if found is not None and found[0].state[found[1]] == HELD:
                        found[0].mark(found[1], DONE)
                self._journal.add([(job.sequence, job.sequence)])
                settled = True
        if not settled:
            return
        self._room.reap()
        if self._journal.crowded:
            with self._index.lock:
                done = [segment.sequence[segment.state == DONE] for segment in self._index.segments]
            self._journal.rewrite(runs(np.concatenate(done)) if done else [])

    def _break(self, error: OSError) -> None:
        """Take no more. After a failed sync the kernel may have thrown the pages away and say yes the next time.

        So a failing disk is not retried: a new process reads what is really there.
        """
        log.error("the outbox's disk fails: %s", error)
        self.broken = Fatal(f"the outbox's disk fails: {error}")

"""Purging: readings that the city must destroy leave this gateway's disk, and nothing else changes.

What is touched: frames that wait or are under way, frames that are acknowledged but still on disk, and dead letters. A
frame keeps its number, its books and every other reading bit for bit; the destroyed ones count as thinned, so that the
ledger closes. Bytes that cannot be read, and so cannot be proven innocent, are destroyed and counted.

A segment is written anew without the readings and renamed over the old one, as in edge/outbox_thinning.py; what the
file system does with the freed blocks is its affair, so a gateway's disk should be encrypted.

The work happens in the outbox's writer thread, a segment at a time between its other jobs; this module is the outbox's
friend and the only one that looks into it.
"""

import asyncio
import base64
import binascii
import errno
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from contract import command as commands
from contract import frame as frames
from contract.catalogue import decode_birth
from contract.command import Command, Reply
from contract.errors import Fatal, FrameError
from edge.outbox import Outbox
from edge.outbox_disk import no_room
from edge.outbox_index import DONE, LEASED, Rows, Segment
from edge.outbox_letters import Letter
from edge.outbox_segment import FILE_BYTES, RECORD_BYTES, RecordType, file_header, record, scan
from edge.outbox_writer import Append

log = logging.getLogger(__name__)

# Readings that are in memory when the command comes reach the disk within linger_s and this.
SETTLE_S = 10.0
AGAIN_S = 5.0
AGAIN_MAX_S = 300.0
MAX_OPEN = 100
_MAX_ANSWERED = 256
_LETTERS_AT_ONCE = 50
_DESTROYED = "; its bytes were destroyed by a purge"
T = TypeVar("T")


@dataclass
class Purged:
    """What a pass did.

    readings: destroyed in frames that waited and in dead letters. frames, letters: how many were written anew.
    unreadable: frames and letters destroyed whole. under_way: frames sent before with the readings in them. left:
    frames that may still hold some, because their catalogue is lost, or the disk does not read or has no room for them.
    """

    readings: int = 0
    frames: int = 0
    letters: int = 0
    unreadable: int = 0
    left: int = 0
    under_way: set[int] = field(default_factory=set)

    def add(self, other: "Purged") -> None:
        """Take in what another pass did."""
        self.readings += other.readings
        self.frames += other.frames
        self.letters += other.letters
        self.unreadable += other.unreadable
        self.left += other.left
        self.under_way |= other.under_way


@dataclass
class _Draft:
    """A segment being written anew. changed: the numbers of the frames that are different now."""

    pieces: list[bytes]
    size: int = FILE_BYTES
    offsets: list[int] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    worth: bool = False

    def keep(self, whole: bytes, *, is_frame: bool) -> None:
        if is_frame:
            self.offsets.append(self.size + RECORD_BYTES)
        self.pieces.append(whole)
        self.size += len(whole)


class OutboxPurge:
    """Destroys readings in one outbox. Belongs to the event loop."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._parts = outbox._parts  # noqa: SLF001 - its friend, see above
        self._disk = outbox._files_disk  # noqa: SLF001
        self._letters = self._parts.letters._directory  # noqa: SLF001

    async def run(self, command: Command, *, first: int = 0) -> Purged:
        """Destroy what the command names in frames from number `first` on, and in every dead letter.

        Raises Fatal when the disk fails.
        """
        ids = lru_cache(64)(lambda epoch: self._ids(epoch, command))
        total, last = Purged(), self._outbox.next_sequence - 1
        at: int | None = first
        while at is not None and at <= last:
            at, purged = await self._in_writer(lambda at=at: self._segment(at, command, ids))  # type: ignore[misc]
            total.add(purged)
        names = await self._in_writer(lambda: sorted(path.name for path in self._letters.glob("*.json")))
        for begin in range(0, len(names), _LETTERS_AT_ONCE):
            some = names[begin : begin + _LETTERS_AT_ONCE]
            total.add(await self._in_writer(lambda some=some: self._open_letters(some, command, ids)))  # type: ignore[misc]
        return total

    def unfinished(self, sequences: Collection[int]) -> set[int]:
        """Those of these frames that the cloud has neither acknowledged nor rejected."""
        index = self._parts.index
        with index.lock:
            found = {sequence: index.find(sequence) for sequence in sequences}
            return {number for number, place in found.items() if place and place[0].state[place[1]] != DONE}

    async def _in_writer(self, work: Callable[[], T]) -> T:
        """Have it done in the writer thread: an append of nothing ends there, between jobs, when nothing is half done.

        Raises Fatal.
        """
        writer = self._parts.writer
        outcome: Future[T] = Future()

        def do(_: object) -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                if writer.broken is None:
                    outcome.set_result(work())
            except OSError as error:
                writer._break(error)  # noqa: SLF001 - which file the thread has in hand is not certain any more
            finally:
                if not outcome.done():
                    outcome.set_exception(writer.broken or Fatal("the purge died of a defect"))

        if writer.broken is not None:
            raise writer.broken
        job = Append([], [], None)
        job.done.add_done_callback(do)
        writer.put(job)
        return await asyncio.wrap_future(outcome)

    def _ids(self, epoch: int, command: Command) -> frozenset[int] | None:
        """The ids to destroy in frames of a catalogue; None when it is lost, so that nobody knows."""
        data = self._outbox.birth(epoch)
        try:
            return None if data is None else commands.chosen(decode_birth(data), command.streams)
        except FrameError:
            return None

    def _concerns(self, epoch: int, command: Command, ids: Callable[[int], frozenset[int] | None]) -> bool:
        """Whether frames of a catalogue may hold the readings."""
        return not command.streams or ids(epoch) is None or bool(ids(epoch))

    def _changed(
        self, payload: bytes, command: Command, ids: Callable[[int], frozenset[int] | None]
    ) -> tuple[bytes, int] | None:
        """The frame without the readings, and how many they were; None when nobody knows. Raises FrameError."""
        epoch = frames.peek(payload).epoch
        if not self._concerns(epoch, command, ids):
            return payload, 0
        wanted = ids(epoch) if command.streams else None
        if command.streams and wanted is None:
            return None
        after, count = commands.without(frames.decode(payload), wanted, command.until_ns)
        return (frames.encode(after), count) if count else (payload, 0)

    def _segment(
        self, first: int, command: Command, ids: Callable[[int], frozenset[int] | None]
    ) -> tuple[int | None, Purged]:
        """Write the segment of frame `first`, or of the next there is, anew; the number to go on from."""
        index, purged = self._parts.index, Purged()
        with index.lock:
            found = [one for one in index.segments if len(one.sequence) and one.sequence[-1] >= first]
            if not found:
                return None, purged
            segment, newest = found[0], found[0] is index.segments[-1]
            segment.busy = True
            going_on = int(segment.sequence[-1]) + 1
        self._parts.reserve.release()
        try:
            draft = self._draft(segment, command, ids, purged, newest=newest)
            if draft.worth:
                self._replace(segment, draft, purged)
        except OSError as error:
            if not no_room(error):
                raise
            purged = Purged(left=segment.live)
        finally:
            with index.lock:
                segment.busy = False
            self._parts.reserve.establish()
        return going_on, purged

    def _draft(
        self,
        segment: Segment,
        command: Command,
        ids: Callable[[int], frozenset[int] | None],
        purged: Purged,
        *,
        newest: bool,
    ) -> _Draft:
        """The segment without the readings. The newest keeps its finished frames: a start replays the books of them."""
        try:
            data = segment.path.read_bytes()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # Nothing is half written, so a bad sector is no reason to stop the gateway at every repeat of the command.
            purged.left += segment.live
            return _Draft([])
        found = scan(data)
        draft = _Draft([file_header(segment.first)], worth=bool(found.damaged))
        purged.unreadable += len(found.damaged)
        with self._parts.index.lock:
            done = set(segment.sequence[segment.state == DONE].tolist())
        for head, offset in zip(found.heads, found.offsets.tolist(), strict=True):
            number, end = int(head["sequence"]), offset + int(head["length"])
            whole = data[offset - RECORD_BYTES : end]
            is_frame = head["type"] == RecordType.FRAME
            if is_frame and self._concerns(int(head["epoch"]), command, ids):
                if number in done and not newest:
                    draft.worth = True
                    continue
                kept = self._record(number, whole, command, ids, purged, waits=number not in done)
                if kept is not whole:
                    draft.worth = True
                    draft.changed.add(number)
                if kept is None:
                    continue
                whole = kept
            draft.keep(whole, is_frame=bool(is_frame))
        return draft

    def _record(
        self,
        number: int,
        whole: bytes,
        command: Command,
        ids: Callable[[int], frozenset[int] | None],
        purged: Purged,
        *,
        waits: bool,
    ) -> bytes | None:
        """The frame's record without the readings; the same one when it has none, None when it cannot be read."""
        try:
            changed = self._changed(whole[RECORD_BYTES:], command, ids)
        except FrameError as error:
            log.warning("frame %d cannot be read and is destroyed by a purge: %s", number, error)
            purged.unreadable += 1
            return None
        if changed is None:
            purged.left += waits
            return whole
        payload, count = changed
        if not count:
            return whole
        purged.frames += 1
        purged.readings += count * waits
        return record(RecordType.FRAME, number, payload, frames.peek(payload))

    def _replace(self, segment: Segment, draft: _Draft, purged: Purged) -> None:
        """Put the draft in the segment's place, on disk and in the index. Raises OSError."""
        data = b"".join(draft.pieces)
        new = Segment(segment.first, segment.path, draft.size, Rows.of(data, draft.offsets))
        new.level = segment.level
        writer, index = self._parts.writer, self._parts.index
        active = writer._active is segment  # noqa: SLF001 - the thread that appends is this one
        if active:
            descriptor = self._write_open(segment.path, data)
        else:
            self._disk.write_file(segment.path, data)
        with index.lock:
            under_way = segment.sequence[segment.state == LEASED].tolist()
            purged.under_way |= draft.changed.intersection(under_way)
            index.replace([segment], new)
            if active:
                writer._active, writer._descriptor, descriptor = new, descriptor, writer._descriptor  # noqa: SLF001
        if active:
            os.close(descriptor)

    def _write_open(self, path: Path, data: bytes) -> int:
        """As write_file, and the file stays open, for the appends to come. Raises OSError."""
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
        return descriptor

    def _open_letters(self, names: list[str], command: Command, ids: Callable[[int], frozenset[int] | None]) -> Purged:
        """Write dead letters anew without the readings; those that cannot be read lose their bytes. Raises OSError."""
        purged = Purged()
        for path in (self._letters / name for name in names):
            try:
                letter = _letter(path)
            except FileNotFoundError:
                continue  # the oldest go when there is no room
            if not letter.data:
                continue
            try:
                changed = self._changed(letter.data, command, ids)
            except FrameError:
                changed = None
            data, count = changed or (b"", 0)
            if data is letter.data:
                continue
            purged.letters += 1
            purged.readings += count
            purged.unreadable += changed is None
            why = letter.reason + (_DESTROYED if changed is None else "")
            self._parts.letters.add(Letter(letter.name, letter.sequence, letter.boot, why, data))
        return purged


def _letter(path: Path) -> Letter:
    """A dead letter as it stands on disk; one that is no letter any more has bytes that nobody can read."""
    text = path.read_bytes()
    try:
        body = json.loads(text)
        data = base64.b64decode(body["frame"], validate=True)
        return Letter(path.stem, body["sequence"], body["boot"], str(body["reason"]), data)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return Letter(path.stem, None, None, "damaged on this gateway's disk", text)


@dataclass
class _Job:
    """A command under way. first: frames below are done. told: whether the cloud knows how it stands."""

    command: Command
    taken_s: float
    purged: Purged = field(default_factory=Purged)
    first: int = 0
    wait_s: float = AGAIN_S
    next_s: float = 0.0
    told: bool = False


class Commands:
    """Takes the cloud's commands, carries them out, and answers: once when it began, once when nothing is left.

    They survive a lost connection, not a restart of the gateway: the cloud sends again what is not answered as done.
    """

    def __init__(self, outbox: Outbox, *, settle_s: float = SETTLE_S, again_s: float = AGAIN_S) -> None:
        self.refused = 0
        self._outbox = outbox
        self._purge = OutboxPurge(outbox)
        self._settle_s = settle_s
        self._again_s = again_s
        self._open: OrderedDict[str, _Job] = OrderedDict()
        self._answered: OrderedDict[str, Reply] = OrderedDict()
        self._again: list[Reply] = []
        self._wake = asyncio.Event()

    def take(self, payload: bytes) -> None:
        """One message of the topic `cmd`. What is no command is counted and ignored."""
        try:
            command = commands.decode_command(payload)
        except FrameError as error:
            self._refuse(str(error))
            return
        if command.id in self._answered:
            self._again = [*self._again[-MAX_OPEN:], self._answered[command.id]]
        elif command.id in self._open:
            self._open[command.id].told = False
        elif len(self._open) >= MAX_OPEN:
            self._refuse(f"{MAX_OPEN} are under way")
        else:
            log.warning("the cloud orders purge %s: %s", command.id, _words(command))
            self._open[command.id] = _Job(command, time.monotonic())
        self._wake.set()

    async def run(self, reply: Callable[[bytes], Awaitable[None]]) -> None:
        """Work until cancelled: for as long as a connection lasts. Raises Fatal, and what `reply` raises."""
        while True:
            self._wake.clear()
            while self._again:
                await reply(commands.encode(self._again[0]))
                self._again.pop(0)
            for job in list(self._open.values()):
                await self._advance(job, reply)
            wait_s = min((job.next_s for job in self._open.values()), default=0.0) - time.monotonic()
            try:
                async with asyncio.timeout(max(wait_s, 0.01) if self._open else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _advance(self, job: _Job, reply: Callable[[bytes], Awaitable[None]]) -> None:
        now_s = time.monotonic()
        if now_s >= job.next_s:
            await self._pass(job, now_s)
        done = not job.purged.left and not job.purged.under_way and now_s - job.taken_s >= self._settle_s
        if job.told and not done:
            return
        answer = Reply(job.command.id, done, job.purged.readings, self._detail(job, done=done))
        if done:
            del self._open[job.command.id]
            self._answered[job.command.id] = answer
            while len(self._answered) > _MAX_ANSWERED:
                self._answered.popitem(last=False)
            log.warning("purge %s is done: %s", job.command.id, answer.detail)
            self._again.append(answer)  # told again after a connection that broke just now
        await reply(commands.encode(answer))
        job.told = True
        if done:
            self._again.remove(answer)

    async def _pass(self, job: _Job, now_s: float) -> None:
        before = self._outbox.next_sequence
        found = await self._purge.run(job.command, first=job.first)
        job.purged.left = 0
        job.purged.add(found)
        job.purged.under_way = self._purge.unfinished(job.purged.under_way)
        if found.left:
            job.wait_s = min(job.wait_s * 2, AGAIN_MAX_S)  # all of it again, ever less often
        else:
            job.first, job.wait_s = before, self._again_s
        job.next_s = now_s + job.wait_s

    def _detail(self, job: _Job, *, done: bool) -> str:
        purged = job.purged
        parts = [f"{purged.frames} frames and {purged.letters} dead letters written anew"]
        if purged.unreadable:
            parts.append(f"{purged.unreadable} unreadable ones destroyed")
        if purged.left:
            parts.append(f"{purged.left} frames may still hold some: no room, unreadable, or their catalogue is lost")
        if purged.under_way:
            parts.append(f"{len(purged.under_way)} frames on their way to the cloud")
        if not done and len(parts) == 1:
            parts.append("readings of the last seconds are still being gathered")
        return ", ".join(parts)[: commands.MAX_DETAIL_CHARS]

    def _refuse(self, why: str) -> None:
        if not self.refused:
            log.warning("a command of the cloud is ignored: %s", why)
        self.refused += 1


def _words(command: Command) -> str:
    if not command.streams:
        return "everything this gateway holds"
    device, stream = command.streams[0]
    more = f" and {len(command.streams) - 1} more" if len(command.streams) > 1 else ""
    return f"{device}/{stream or '*'}{more}"

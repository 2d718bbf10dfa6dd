"""Opening an outbox: who may, what is there, and what an unclean end left behind.

The layout and the rules of reading are in edge/outbox_segment.py. Everything is read once, a segment at a time.
"""

import fcntl
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.errors import ConfigError
from contract.readings import Ints
from edge.outbox_disk import Disk, no_room
from edge.outbox_index import DONE, Index, Rows, Segment
from edge.outbox_journal import Journal
from edge.outbox_letters import DeadLetters, Letter
from edge.outbox_segment import (
    FILE_BYTES,
    RECORD_BYTES,
    SUFFIX,
    VERSION,
    Damage,
    RecordType,
    file_header,
    heads_at,
    record,
    scan,
)

log = logging.getLogger(__name__)


@dataclass
class Recovery:
    """What opening found.

    last_state: the last checkpoint; None in a new outbox, or when damage took it. frames: those appended after it,
    oldest first, acknowledged ones too, about a segment of them; clear it when the books are replayed. pending: frames
    that wait to be sent. torn_bytes: cut off the end; their append never returned. corrupt_records: damaged stretches
    elsewhere, now dead letters.
    """

    last_state: bytes | None = None
    frames: list[bytes] = field(default_factory=list)
    next_sequence: int = 1
    pending: int = 0
    torn_bytes: int = 0
    corrupt_records: int = 0


def lock(directory: Path) -> int:
    """The directory for this process alone, until the descriptor is closed. Raises ConfigError naming who has it."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError([f"{directory}: this outbox is in use by another gateway, process {holder}"]) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


class Recoverer:
    """Reads a locked directory into an index. Raises ConfigError for a newer format, OSError for a failing disk."""

    def __init__(self, directory: Path, *, journal: Journal, letters: DeadLetters, disk: Disk) -> None:
        self.index = Index()
        self.recovery = Recovery()
        self._last = 0
        self._directory = directory
        self._journal = journal
        self._letters = letters
        self._disk = disk

    def run(self) -> None:
        """Read everything, repair what needs it, delete what is finished."""
        for passing in self._directory.glob("*.new"):
            self._disk.remove(passing)
        paths = sorted(
            path for path in self._directory.glob(f"*{SUFFIX}") if path.stem.isdecimal() and len(path.stem) == 20
        )
        for path in paths:
            # The last but one is replayed too, for the case that damage took the newest checkpoint.
            self._read(path, newest=path == paths[-1], replay=path in paths[-2:])
        for spent in self.index.spent():
            self._disk.remove(spent.path)
        self.recovery.pending = sum(segment.pending for segment in self.index.segments)

    def _read(self, path: Path, *, newest: bool, replay: bool) -> None:
        data = path.read_bytes()
        version, heads, offsets, damaged = scan(data)
        if version not in {None, VERSION}:
            raise ConfigError([f"{path}: written in format {version} by a newer Weinao; this one reads {VERSION}"])
        first = int(path.stem)
        if newest and damaged and damaged[-1].end == len(data):
            data = self._cut(path, data, damaged.pop(), int(heads["sequence"][-1]) if len(heads) else first)
            offsets = np.append(offsets, len(data))
            heads = heads_at(data, offsets)
        is_frame = heads["type"] == RecordType.FRAME
        rows = Rows.read(heads[is_frame], offsets[is_frame])
        if damaged or version is None:
            moved = self._repair(path, data, heads, offsets, damaged)
            rows = rows.moved(moved[is_frame])
        segment = Segment(first, path, path.stat().st_size, rows)
        # What an older segment has already is the leftover of two that were made one.
        segment.mark(self._journal.has(segment.sequence) | (segment.sequence <= self._last), DONE)
        self._last = max([self._last, *rows.sequence[-1:].tolist()])
        self.index.segments.append(segment)
        highest = max([first, *heads["sequence"][-1:].tolist()])
        self.recovery.next_sequence = max(self.recovery.next_sequence, highest + 1)
        if replay:
            self._replay(data, heads, offsets)

    def _cut(self, path: Path, data: bytes, tail: Damage, last: int) -> bytes:
        """Replace a torn tail by SPENT; what the file holds then. `last`: the highest number before the tail."""
        torn = tail.end - tail.start
        number = last + torn // RECORD_BYTES + 1
        spent = record(RecordType.SPENT, number, b"")
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._disk.write(descriptor, spent, tail.start)
            self._disk.truncate(descriptor, tail.start + len(spent))
            self._disk.sync(descriptor)
        except OSError as error:
            # A torn tail of less than SPENT's size, and no room for SPENT: the next start finds it again.
            if not no_room(error):
                raise
        finally:
            os.close(descriptor)
        self.recovery.torn_bytes += torn
        log.warning("%s: %d bytes of an append that was cut short are removed", path.name, torn)
        return data[: tail.start] + spent

    def _repair(self, path: Path, data: bytes, heads: NDArray[np.void], offsets: Ints, damaged: list[Damage]) -> Ints:
        """Move damage to the dead letters and rewrite the file without it; where the payloads begin then."""
        for start, end in damaged:
            log.error("%s: %d damaged bytes at %d are moved to the dead letters", path.name, end - start, start)
            name = f"{path.stem}-at-{start:010d}"
            self._letters.add(Letter(name, None, None, f"damaged on disk, in {path.name} at {start}", data[start:end]))
        self.recovery.corrupt_records += len(damaged)
        ends = offsets + heads["length"]
        parts = [data[begin:end] for begin, end in zip((offsets - RECORD_BYTES).tolist(), ends.tolist(), strict=True)]
        try:
            self._disk.write_file(path, b"".join([file_header(int(path.stem)), *parts]))
        except OSError as error:
            if not no_room(error):
                raise
            # The damage stays where it is and does no harm; the next start tries again.
            return offsets
        sizes = heads["length"].astype(np.int64) + RECORD_BYTES
        return FILE_BYTES + RECORD_BYTES + np.cumsum(sizes) - sizes

    def _replay(self, data: bytes, heads: NDArray[np.void], offsets: Ints) -> None:
        """Take the checkpoint of a segment, which replaces all before it, and the frames after it."""
        for kind, offset, length in zip(
            heads["type"].tolist(), offsets.tolist(), heads["length"].tolist(), strict=True
        ):
            payload = data[offset : offset + length]
            if kind == RecordType.STATE:
                self.recovery.last_state = payload
                self.recovery.frames.clear()
            elif kind == RecordType.FRAME:
                self.recovery.frames.append(payload)

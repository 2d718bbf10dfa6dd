"""Opening an outbox: who may, what is there, and what an unclean end left behind.

The layout and the rules of reading are in edge/outbox_segment.py. Everything is read once, a segment at a time.
"""

import fcntl
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from contract.errors import ConfigError, FrameError
from edge.outbox_disk import Disk, no_room
from edge.outbox_index import DONE, Index, Row, Segment
from edge.outbox_journal import Journal
from edge.outbox_letters import DeadLetters, Letter
from edge.outbox_segment import (
    RECORD_BYTES,
    SUFFIX,
    VERSION,
    Damage,
    Record,
    RecordType,
    file_header,
    record,
    scan,
)
from edge.outbox_thinning import FrameCodec

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

    def __init__(
        self, directory: Path, *, journal: Journal, letters: DeadLetters, disk: Disk, codec: FrameCodec
    ) -> None:
        self.index = Index()
        self.recovery = Recovery()
        self._last = 0
        self._directory = directory
        self._journal = journal
        self._letters = letters
        self._disk = disk
        self._codec = codec

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
        found = scan(data)
        if found.version not in {None, VERSION}:
            raise ConfigError(
                [f"{path}: written in format {found.version} by a newer Weinao; this one reads {VERSION}"]
            )
        damaged = list(found.damaged)
        records = found.records
        if newest and damaged and damaged[-1].end == len(data):
            data, spent = self._cut(path, data, damaged.pop(), records[-1].sequence if records else int(path.stem))
            records = [*records, spent]
        rows, records = self._rows(path, data, records, damaged)
        if damaged or found.version is None:
            rows = self._repair(path, data, records, rows, damaged)
        segment = Segment(int(path.stem), path, path.stat().st_size, rows)
        # What an older segment has already is the leftover of two that were made one.
        segment.mark(self._journal.has(segment.sequence) | (segment.sequence <= self._last), DONE)
        self._last = max(self._last, rows[-1].sequence if rows else 0)
        self.index.segments.append(segment)
        highest = max(segment.first, records[-1].sequence if records else 0)
        self.recovery.next_sequence = max(self.recovery.next_sequence, highest + 1)
        if replay:
            self._replay(data, records)

    def _cut(self, path: Path, data: bytes, tail: Damage, last: int) -> tuple[bytes, Record]:
        """Replace a torn tail by SPENT; what the file holds then, and that record."""
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
        return data[: tail.start] + spent, Record(RecordType.SPENT, number, tail.start + RECORD_BYTES, 0)

    def _rows(
        self, path: Path, data: bytes, records: list[Record], damaged: list[Damage]
    ) -> tuple[list[Row], list[Record]]:
        """The frames among the records, and the records that are understood; adds the others to `damaged`."""
        rows, sound = [], []
        for one in records:
            kind, sequence, offset, length = one
            if kind == RecordType.FRAME:
                try:
                    header = self._codec.peek(data[offset : offset + length])
                except FrameError as error:
                    log.warning("%s: frame %d is not readable: %s", path.name, sequence, error)
                    damaged.append(Damage(offset - RECORD_BYTES, offset + length))
                    continue
                rows.append(
                    Row(sequence, header.boot, header.time_base_ns, header.epoch, offset, length, header.undated)
                )
            sound.append(one)
        return rows, sound

    def _repair(
        self, path: Path, data: bytes, records: list[Record], rows: list[Row], damaged: list[Damage]
    ) -> list[Row]:
        """Move damage to the dead letters and rewrite the file without it; where the frames stand then."""
        for start, end in damaged:
            log.error("%s: %d damaged bytes at %d are moved to the dead letters", path.name, end - start, start)
            name = f"{path.stem}-at-{start:010d}"
            self._letters.add(Letter(name, None, None, f"damaged on disk, in {path.name} at {start}", data[start:end]))
        self.recovery.corrupt_records += len(damaged)
        parts, size, moved = [file_header(int(path.stem))], len(file_header(0)), {}
        for one in records:
            parts.append(data[one.offset - RECORD_BYTES : one.offset + one.length])
            moved[one.offset] = size + RECORD_BYTES
            size += len(parts[-1])
        try:
            self._disk.write_file(path, b"".join(parts))
        except OSError as error:
            if not no_room(error):
                raise
            # The damage stays where it is and does no harm; the next start tries again.
            return rows
        return [row._replace(offset=moved[row.offset]) for row in rows]

    def _replay(self, data: bytes, records: list[Record]) -> None:
        """Take the checkpoint of a segment, which replaces all before it, and the frames after it."""
        for kind, _, offset, length in records:
            payload = data[offset : offset + length]
            if kind == RecordType.STATE:
                self.recovery.last_state = payload
                self.recovery.frames.clear()
            elif kind == RecordType.FRAME:
                self.recovery.frames.append(payload)

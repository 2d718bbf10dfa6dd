"""The outbox on disk, byte by byte, and how a damaged file is read.

THE DIRECTORY
    <20 digits>.segment   frames, oldest first; the digits are the first sequence number the file may hold
    acked                 which sequences the database has (edge/outbox_journal.py)
    reserve               empty space, held for rewriting when the disk is full
    dead-letters/         frames the cloud refused, and damaged bytes, as JSON
    births/, notes/       small files, replaced whole
    lock                  flock of the one process that may work here, and its pid
    *.new                 something half made; deleted when the outbox opens

A SEGMENT, all integers little-endian
    header, 24 bytes
        0   8   magic "WNOUTBOX"
        8   4   version, 1
       12   8   the first sequence number it may hold
       20   4   CRC-32 of bytes 0..20
    then records, back to back
        0   4   marker F5 57 4E 52
        4   4   length of the payload
        8   8   sequence number
       16   8   boot               \
       24   8   time base, ns       | of the frame, so that a start reads no frame; zero in other records
       32   4   epoch               |
       36   1   1 when undated     /
       37   1   type: 1 STATE, 2 FRAME, 3 SPENT
       38   2   zero
       40   4   CRC-32 of the payload
       44   4   CRC-32 of bytes 0..44
       48   n   payload

    STATE: the gateway's own checkpoint, opaque here, under the number of the frame that follows. It is the first record
    of each segment, so the newest segment alone holds the last checkpoint and every frame since.
    FRAME: one frame of contract/frame.py, as it will travel, sequence number included.
    SPENT: empty; stands where a torn tail was cut off. No number up to its own is given again, because the lost bytes
    could have held it.

INVARIANTS
 1. Sequence numbers rise through a segment and from segment to segment, and are never given twice: the newest segment
    is never deleted, and SPENT stands where the end of it was lost.
 2. A segment appears whole (written and synced under another name, then renamed), grows only at its end, while it is
    the newest, and after a restart by SPENT at most. A sealed segment changes only by being replaced whole (thinning,
    dropping what is acknowledged, taking in its newer neighbour) or deleted (everything in it is acknowledged, rejected
    or in the neighbour that took it in: a frame found twice counts in the older file alone).
 3. `append` returns after fdatasync of the records, so only bytes whose append never returned can be torn.
 4. The header of a record has a checksum of its own: damage inside a payload costs that one frame; damage inside a
    header costs what lies before the next sound header.

READING
    Damage that reaches the end of the newest segment is a torn tail: cut off, counted. Damage anywhere else is rot: the
    bytes are moved to the dead letters, counted, and the file is rewritten without them. Neither stops the gateway.
"""

import struct
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from contract.frame import Header
from contract.readings import Ints

MAGIC = b"WNOUTBOX"
VERSION = 1
MARKER = b"\xf5WNR"
SUFFIX = ".segment"

HEAD = np.dtype(
    [
        ("marker", "S4"),
        ("length", "<u4"),
        ("sequence", "<i8"),
        ("boot", "<u8"),
        ("time_ns", "<i8"),
        ("epoch", "<u4"),
        ("undated", "?"),
        ("type", "u1"),
        ("zero", "<u2"),
        ("checksum", "<u4"),
        ("head_checksum", "<u4"),
    ]
)
_FILE = struct.Struct("<8sIQ")
_RECORD = struct.Struct("<4sIqQqI?B2xI")
_CHAIN = struct.Struct("<4xIq21xB2xII")  # what a reader must know of each record to find and check the next
_CRC = struct.Struct("<I")
FILE_BYTES = _FILE.size + _CRC.size
RECORD_BYTES = _RECORD.size + _CRC.size


class RecordType(IntEnum):
    """What a record's payload is."""

    STATE = 1
    FRAME = 2
    SPENT = 3


class Damage(NamedTuple):
    """Bytes from `start` to `end` (exclusive) that are no record."""

    start: int
    end: int


class Scan(NamedTuple):
    """A segment, read. `version` is None when the file's header itself is damaged.

    heads: HEAD (n,), the sound records. offsets: int64 (n,), where their payloads begin.
    """

    version: int | None
    heads: NDArray[np.void]
    offsets: Ints
    damaged: list[Damage]


def path_of(directory: Path, first: int) -> Path:
    """Where the segment that begins with sequence `first` lives."""
    return directory / f"{first:020d}{SUFFIX}"


def file_header(first: int) -> bytes:
    """The first bytes of a segment."""
    head = _FILE.pack(MAGIC, VERSION, first)
    return head + _CRC.pack(crc32(head))


def record(kind: RecordType, sequence: int, payload: bytes, of: Header | None = None) -> bytes:
    """One record, ready to be appended. of: the header of the frame that the payload is."""
    about = (of.boot, of.time_base_ns, of.epoch, of.undated) if of else (0, 0, 0, False)
    head = _RECORD.pack(MARKER, len(payload), sequence, *about, kind, crc32(payload))
    return b"".join((head, _CRC.pack(crc32(head)), payload))


def payload_in(data: bytes, sequence: int) -> bytes | None:
    """The payload of the one record that `data` is, or None when it is not the sound record of `sequence`."""
    found = _chain(data, 0)
    if found is None or found[1] != sequence or RECORD_BYTES + found[0] != len(data):
        return None
    payload = data[RECORD_BYTES:]
    return payload if crc32(payload) == found[3] else None


def scan(data: bytes) -> Scan:
    """Every sound record of a segment's bytes, and every stretch that is none. Takes any bytes; time is linear."""
    version: int | None = None
    position = 0
    if len(data) >= FILE_BYTES and data.startswith(MAGIC):
        _, found_version, _ = _FILE.unpack_from(data)
        if crc32(data[: _FILE.size]) == _CRC.unpack_from(data, _FILE.size)[0]:
            version, position = found_version, FILE_BYTES
    offsets: list[int] = []
    damaged: list[Damage] = []
    size, view, last = len(data), memoryview(data), -1
    while position < size:
        found = _chain(data, position)
        if found is None:
            end = _next_record(data, position + 1)
        else:
            length, sequence, kind, checksum = found
            payload = position + RECORD_BYTES
            end = payload + length
            if end <= size and sequence > last and crc32(view[payload:end]) == checksum:
                offsets.append(payload)
                if kind != RecordType.STATE:
                    last = sequence
                position = end
                continue
            end = min(end, size)
        if damaged and damaged[-1].end == position:
            position = damaged.pop().start
        damaged.append(Damage(position, end))
        position = end
    at = np.array(offsets, dtype=np.int64)
    return Scan(version, heads_at(data, at), at, damaged)


def heads_at(data: bytes, offsets: Ints) -> NDArray[np.void]:
    """HEAD (n,): the records' own headers, by where their payloads begin."""
    every = (offsets - RECORD_BYTES)[:, None] + np.arange(RECORD_BYTES)
    heads: NDArray[np.void] = np.frombuffer(data, dtype=np.uint8)[every].view(HEAD)
    return heads.reshape(len(offsets))


def _chain(data: bytes, position: int) -> tuple[int, int, int, int] | None:
    """(length, sequence, type, payload checksum) of the record at `position`, or None when no header stands there."""
    if not data.startswith(MARKER, position) or position + RECORD_BYTES > len(data):
        return None
    length, sequence, kind, checksum, check = _CHAIN.unpack_from(data, position)
    if crc32(data[position : position + _RECORD.size]) != check:
        return None
    return length, sequence, kind, checksum


def _next_record(data: bytes, position: int) -> int:
    """Where the next sound record header stands at or after `position`; the end of the data when none does."""
    while True:
        position = data.find(MARKER, position)
        if position < 0:
            return len(data)
        if _chain(data, position) is not None:
            return position
        position += 1

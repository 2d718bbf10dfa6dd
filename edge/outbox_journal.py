"""What the database has, remembered across restarts.

The file `acked`: magic "WNACKED1", then entries of 20 bytes, little-endian: first sequence (8), last sequence (8,
inclusive), CRC-32 of those sixteen (4). Never synced: an entry that a power cut takes only makes the gateway send those
frames again, and the cloud knows a frame by its boot and sequence. So a damaged entry is skipped and a disk without
room costs nothing but such repeats. Entries outlive their segments until the file is rewritten at half its bound.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.readings import Ints
from edge.outbox_disk import Disk, no_room, on_disk

log = logging.getLogger(__name__)

_MAGIC = b"WNACKED1"
_ENTRY = struct.Struct("<qqI")
_PAIR = struct.Struct("<qq")


class Journal:
    """The file of acknowledged ranges. Used by one thread at a time."""

    def __init__(self, directory: Path, max_bytes: int, disk: Disk) -> None:
        self.max_bytes = max_bytes
        self._path = directory / "acked"
        self._disk = disk
        self._descriptor = -1
        self._size = 0
        self._missing = False
        self._failing = False
        self._low: Ints = np.zeros(0, dtype=np.int64)
        self._high: Ints = np.zeros(0, dtype=np.int64)

    def load(self) -> None:
        """Read the file, if there is one, and forget what cannot be understood. Raises OSError."""
        data = self._path.read_bytes() if self._path.exists() else b""
        pairs: list[tuple[int, int]] = []
        if data.startswith(_MAGIC):
            end = len(data) - (len(data) - len(_MAGIC)) % _ENTRY.size
            for offset in range(len(_MAGIC), end, _ENTRY.size):
                low, high, checksum = _ENTRY.unpack_from(data, offset)
                if zlib.crc32(data[offset : offset + _PAIR.size]) == checksum and low <= high:
                    pairs.append((low, high))
        merged = _merge(pairs)
        self._low = np.array([low for low, _ in merged], dtype=np.int64)
        self._high = np.array([high for _, high in merged], dtype=np.int64)

    def has(self, sequences: Ints) -> NDArray[np.bool_]:
        """Bool, shaped as `sequences`: which of them `load` found acknowledged."""
        if not self._low.size:
            return np.zeros(sequences.shape, dtype=np.bool_)
        at = np.searchsorted(self._low, sequences, side="right") - 1
        known: NDArray[np.bool_] = (at >= 0) & (sequences <= self._high[np.maximum(at, 0)])
        return known

    @property
    def crowded(self) -> bool:
        """Whether the file should be rewritten with what still matters."""
        return self._missing or self._size > self.max_bytes * 3 // 4

    def rewrite(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin the file anew with as many of the newest `ranges` as half its bound allows. Does its best, as `add`."""
        most = (self.max_bytes // 2 - len(_MAGIC)) // _ENTRY.size
        data = _MAGIC + b"".join(_entry(*pair) for pair in _merge(ranges)[-most:])
        passing = self._path.with_name(self._path.name + ".new")
        descriptor = -1
        try:
            descriptor = self._disk.create(passing)
            self._disk.write(descriptor, data, 0)
            passing.replace(self._path)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            self._disk.remove(passing)
            self._failed(error)
        else:
            self.close()
            self._descriptor, self._size = descriptor, len(data)
            self._recovered()

    def add(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Remember more. Does its best: what does not fit is sent again after a restart, unless a `rewrite` follows."""
        data = b"".join(_entry(*pair) for pair in ranges)
        if self._descriptor < 0 or self._size + len(data) > self.max_bytes:
            self._missing = True
            return
        try:
            self._disk.write(self._descriptor, data, self._size)
        except OSError as error:
            self._disk.truncate(self._descriptor, self._size)
            self._failed(error)
        else:
            self._size += len(data)

    def bytes(self) -> int:
        """What the file occupies."""
        return on_disk(self._size)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _failed(self, error: OSError) -> None:
        if not no_room(error):
            raise error
        if not self._failing:
            log.warning("no room to note what the database has; after a restart those frames are sent again")
        self._missing = self._failing = True

    def _recovered(self) -> None:
        if self._failing:
            log.info("acknowledgements are noted on disk again")
        self._missing = self._failing = False


def runs(sequences: Ints) -> list[tuple[int, int]]:
    """Rising sequences as inclusive ranges."""
    if not sequences.size:
        return []
    cuts = np.flatnonzero(np.diff(sequences) != 1)
    lows = sequences[np.concatenate(([0], cuts + 1))].tolist()
    highs = sequences[np.concatenate((cuts, [sequences.size - 1]))].tolist()
    return list(zip(lows, highs, strict=True))


def _entry(low: int, high: int) -> bytes:
    pair = _PAIR.pack(low, high)
    return pair + zlib.crc32(pair).to_bytes(4, "little")


def _merge(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged

"""What the outbox's suites share: frames with honest books, a disk of any size, and ways to look at what is left."""

import errno
import os
from pathlib import Path

import numpy as np

from contract import frame
from contract.frame import Counters, Frame, Header
from contract.readings import GOOD, Kind, Table
from edge.outbox import Outbox
from edge.outbox_disk import Disk, on_disk

START_NS = 1_790_000_000_000_000_000
ALARM = 900
STREAMS = 4


def make_frame(
    number: int = 0,
    *,
    rows: int = 10,
    boot: int = 7,
    epoch: int = 1,
    undated: bool = False,
    noisy: bool = False,
    alarms: int = 0,
) -> bytes:
    """A frame of `rows` scans of four streams, and `alarms` rows of an alarm; noisy ones do not compress."""
    base_ns = START_NS + number * 1_000_000_000
    random = np.random.default_rng(number)
    tables = [_table(np.arange(STREAMS, dtype=np.int32), rows, base_ns, random if noisy else None)]
    streams, due = list(range(STREAMS)), [rows * (number + 1)] * STREAMS
    if alarms:
        tables.append(_table(np.array([ALARM], dtype=np.int32), alarms, base_ns, random if noisy else None))
        streams.append(ALARM)
        due.append(alarms * (number + 1))
    nothing = np.zeros(len(streams), dtype=np.int64)
    counters = Counters(
        np.array(streams, dtype=np.int32), np.array(due, dtype=np.int64), nothing, nothing, nothing + base_ns
    )
    header = Header(boot, 0, epoch, base_ns, undated=undated)
    return frame.encode(Frame(header, tuple(tables), counters=counters))


def _table(streams: "np.ndarray[tuple[int], np.dtype[np.int32]]", rows: int, base_ns: int, random: object) -> Table:
    shape = (rows, len(streams))
    if isinstance(random, np.random.Generator):
        values, decimals = random.standard_normal(shape), None
    else:
        values = np.round(20 + 0.1 * np.arange(rows * len(streams), dtype=np.float64), 1).reshape(shape)
        decimals = np.ones(len(streams), dtype=np.int8)
    times = base_ns + np.arange(rows, dtype=np.int64) * 1_000_000
    return Table(Kind.FLOAT, streams, times, values, np.full(shape, GOOD, dtype=np.uint8), decimals)


def books(data: bytes) -> tuple[int, int, int]:
    """(telemetry readings, alarm readings, thinned readings) of a frame."""
    found = frame.decode(data)
    alarm = sum(table.count() for table in found.tables if ALARM in table.streams)
    assert found.counters is not None
    return sum(table.count() for table in found.tables) - alarm, alarm, int(found.counters.thinned.sum())


def waiting(outbox: Outbox) -> dict[int, bytes]:
    """Every frame that waits, by sequence, undated ones too; they wait again afterwards."""
    found: dict[int, bytes] = {}
    while (leased := outbox.lease(newest=False, undated=True)) is not None:
        assert frame.peek(leased.data).sequence == leased.sequence
        found[leased.sequence] = leased.data
    for sequence in found:
        outbox.release(sequence)
    return found


def bytes_on_disk(directory: Path) -> int:
    """What the outbox's files occupy, but for births, notes and the lock."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "lock"]
    return sum(on_disk(path.stat().st_size) for path in files if path.parent.name not in {"births", "notes"})


class SmallDisk(Disk):
    """A disk of `capacity` bytes (None: the real one's) that fills, counts its syncs, and fails when told to."""

    def __init__(self, directory: Path, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.syncs = 0
        self.broken = False
        self._directory = directory

    def used(self) -> int:
        """Bytes in all files."""
        return sum(path.stat().st_size for path in self._directory.rglob("*") if path.is_file())

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """As on the real disk: what fits is written, then the error comes."""
        left = len(data)
        if self.capacity is not None:
            there = max(os.fstat(descriptor).st_size - offset, 0)
            left = min(there + max(self.capacity - self.used(), 0), len(data))
        super().write(descriptor, data[:left], offset)
        if left < len(data):
            raise OSError(errno.ENOSPC, "no space left on device")

    def sync(self, descriptor: int) -> None:
        """Counted."""
        self.syncs += 1
        if self.broken:
            raise OSError(errno.EIO, "input/output error")
        super().sync(descriptor)

    def allocate(self, path: Path, size: int) -> None:
        """All of it or nothing."""
        if self.capacity is not None and self.used() + size > self.capacity:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().allocate(path, size)

    def free_bytes(self, directory: Path) -> int:
        """What is left of the capacity."""
        return super().free_bytes(directory) if self.capacity is None else max(self.capacity - self.used(), 0)

"""Where the gateway listens to itself for metrics that nothing else counts. Wired in only when `metrics` is configured.

Both taps are off the path of the single reading: one hears of a frame, some times a second, the other of a disk sync.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from contract.frame import Frame
from contract.metrics_text import Histogram
from contract.readings import ABSENT, GOOD, Ints, Quality, Reason, Table, quality_of, reason_of
from edge.outbox_disk import Disk

ByDevice = dict[tuple[str, ...], float]


class TimedDisk(Disk):
    """The disk, with a watch: a storage card that dies becomes slow first."""

    def __init__(self) -> None:
        self.syncs = Histogram()
        self.written_bytes = 0
        self._lock = threading.Lock()

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """As Disk, counted."""
        super().write(descriptor, data, offset)
        with self._lock:
            self.written_bytes += len(data)

    def sync(self, descriptor: int) -> None:
        """As Disk, timed."""
        began_s = time.perf_counter()
        super().sync(descriptor)
        with self._lock:
            self.syncs.observe(time.perf_counter() - began_s)


class FrameTally:
    """What the frames that reached the disk hold, by device, since the process began. devices: of each stream id."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.bytes = 0
        self._names = list(dict.fromkeys(devices))
        numbers = {name: number for number, name in enumerate(self._names)}
        self._device_of = np.array([numbers[name] for name in devices], dtype=np.intp)
        self._codes: dict[int, Ints] = {GOOD: self._none()}
        self._gaps: dict[Reason, Ints] = {}
        self._suppressed, self._thinned = self._none(), self._none()
        self._due = np.zeros(len(devices), dtype=np.int64)

    def add(self, frame: Frame, size: int) -> None:
        """A frame of `size` bytes is on disk."""
        self.bytes += size
        for table in frame.tables:
            self._add_table(table)
        for gap in frame.gaps:
            counts = self._gaps.setdefault(gap.reason, self._none())
            np.add.at(counts, self._device_of[list(gap.streams)], gap.count)
        if frame.counters is not None:
            devices = self._device_of[frame.counters.streams]
            np.add.at(self._suppressed, devices, frame.counters.suppressed)
            np.add.at(self._thinned, devices, frame.counters.thinned)
            self._due[frame.counters.streams] = frame.counters.due

    def _add_table(self, table: Table) -> None:
        devices = self._device_of[table.streams]
        if not table.status.any():  # all GOOD, as most are
            np.add.at(self._codes[GOOD], devices, len(table.times))
            return
        for code in np.unique(table.status).tolist():
            if code != ABSENT:
                counts = self._codes.setdefault(code, self._none())
                np.add.at(counts, devices, np.count_nonzero(table.status == code, axis=0))

    def _none(self) -> Ints:
        return np.zeros(len(self._names), dtype=np.int64)

    def readings(self) -> ByDevice:
        """Readings by device and quality."""
        qualities = {quality: self._none() for quality in (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD)}
        for code, counts in self._codes.items():
            qualities[quality_of(code)] += counts
        return self._by_device({quality.name.lower(): counts for quality, counts in qualities.items()})

    def doubts(self) -> ByDevice:
        """Readings that are not GOOD by device and reason; no zeros."""
        reasons: dict[str, Ints] = {}
        for code, counts in self._codes.items():
            if code != GOOD:
                reasons.setdefault(reason_of(code).name.lower(), self._none())[:] += counts
        return self._by_device(reasons, zeros=False)

    def gaps(self) -> ByDevice:
        """Samples that were due and are not there, by device and reason; no zeros."""
        return self._by_device({reason.name.lower(): counts for reason, counts in self._gaps.items()}, zeros=False)

    def suppressed(self) -> ByDevice:
        """Samples within their deadband, by device."""
        return dict(self._rows(self._suppressed, zeros=True))

    def thinned(self) -> ByDevice:
        """Samples given up before they reached the disk, by device."""
        return dict(self._rows(self._thinned, zeros=True))

    def due(self) -> ByDevice:
        """Samples accounted by the books, by device."""
        totals = self._none()
        np.add.at(totals, self._device_of, self._due)
        return dict(self._rows(totals, zeros=True))

    def _by_device(self, columns: Mapping[str, Ints], *, zeros: bool = True) -> ByDevice:
        return {
            (*device, label): count
            for label, counts in columns.items()
            for device, count in self._rows(counts, zeros=zeros)
        }

    def _rows(self, counts: Ints, *, zeros: bool) -> Iterable[tuple[tuple[str], float]]:
        for name, count in zip(self._names, counts.tolist(), strict=True):
            if count or zeros:
                yield (name,), count


@dataclass(frozen=True)
class Taps:
    """Both taps of one gateway, and the folder of its outbox."""

    frames: FrameTally
    directory: Path
    disk: TimedDisk = field(default_factory=TimedDisk)

    def free_bytes(self) -> int | None:
        """What an ordinary process may still write there; None when the disk does not say."""
        try:
            return self.disk.free_bytes(self.directory)
        except OSError:
            return None

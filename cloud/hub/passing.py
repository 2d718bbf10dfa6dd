"""Frames of the tail as the hub needs them: decoded, checked as the collector checks them, streams by their numbers.

The same frame always comes to the same readings in the same order, so that the place of a reading in its frame can be
the second half of its event id, today and after any restart.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud.births_read import BirthsReader
from cloud.hub.parts import Entries, Sample
from cloud.tail import TailFrame
from cloud.validation import Catalogue, check, refuse_implausible
from contract import frame as frames
from contract.errors import FrameError
from contract.readings import Bytes, Ints, Value, gap, quality_of, reason_of
from contract.topics import GatewayPath

MAX_FUTURE_NS = 86_400 * 1_000_000_000
_MAX_CACHED = 2000
_MOST_STREAMS = 300_000


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The readings of one stream in a frame. places: each reading's number in the frame, for its event id."""

    number: int
    times: Ints
    values: list[Value]
    statuses: Bytes
    places: list[int]


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples of a stream were due until a time and are not there. status: contract.readings.gap."""

    number: int
    time_ns: int
    status: int


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """A frame that passed. `columns` in the order of its tables; only streams that the catalogue has.

    gaps: what the gateway says of samples that are not there. quiet: (number, time of the last sample) of those
    that stayed within their deadband for a while: they are alive, and have not moved.
    """

    id: int
    seen_ns: int
    path: GatewayPath
    boot: int
    sequence: int
    columns: tuple[Column, ...]
    gaps: tuple[Gap, ...] = ()
    quiet: tuple[tuple[int, int], ...] = ()


class UnknownEpoch(Exception):
    """The birth that this frame refers to is not there (yet)."""

    def __init__(self, path: GatewayPath, epoch: int) -> None:
        super().__init__(f"{path}: {epoch:08x}")
        self.path = path
        self.epoch = epoch


class Decoder:
    """Decodes frames of the tail, one at a time, in whatever thread. learned: how many births it has looked up."""

    def __init__(self, births: BirthsReader, entries: Entries) -> None:
        self.learned = 0
        self._births = births
        self._entries = entries
        self._catalogues: dict[tuple[GatewayPath, int], Catalogue] = {}
        self._streams = 0
        self._lock = threading.Lock()

    def decode(self, one: TailFrame) -> Passed | None:
        """The readings of a frame; None when it is none, or none that is believed. Raises UnknownEpoch."""
        with self._lock:
            return self._decode(one)

    def _decode(self, one: TailFrame) -> Passed | None:
        try:
            header = frames.peek(one.payload)
            catalogue = self._catalogue(one.path, header.epoch)
            decoded = frames.decode(one.payload)
            refuse_implausible(decoded)
        except FrameError:
            return None  # the collector answers it, and quarantines
        points = check(decoded, one.payload, one.path, catalogue, one.time_ns + MAX_FUTURE_NS).points
        columns: list[Column] = []
        place = 0
        for table, series in zip(points.tables, points.series, strict=True):
            present = table.present()
            numbered = np.cumsum(present.ravel()).reshape(present.shape) - 1 + place  # row by row, as times go
            place += int(np.count_nonzero(present))
            for at, named in enumerate(series):
                entry = self._entries.by_key((named.path, named.device, named.stream))
                rows = np.flatnonzero(present[:, at])
                if entry is None or not rows.size:
                    continue
                columns.append(
                    Column(
                        entry.number,
                        table.times[rows],
                        table.values[rows, at].tolist(),
                        table.status[rows, at],
                        numbered[rows, at].tolist(),
                    )
                )
        more = self._gaps(decoded.gaps, catalogue), self._quiet(decoded.counters, catalogue)
        return Passed(one.id, one.time_ns, one.path, header.boot, header.sequence, tuple(columns), *more)

    def _gaps(self, gaps: Sequence[frames.Gap], catalogue: Catalogue) -> tuple[Gap, ...]:
        return tuple(
            Gap(number, one.last_ns, gap(one.reason))
            for one in gaps
            for stream in one.streams
            if (number := self._number(stream, catalogue)) is not None
        )

    def _quiet(self, counters: frames.Counters | None, catalogue: Catalogue) -> tuple[tuple[int, int], ...]:
        if counters is None:
            return ()
        return tuple(
            (number, int(counters.until_ns[at]))
            for at in np.flatnonzero(counters.suppressed).tolist()
            if (number := self._number(int(counters.streams[at]), catalogue)) is not None
        )

    def _number(self, stream: int, catalogue: Catalogue) -> int | None:
        named = catalogue.series_of(stream)
        entry = None if named is None else self._entries.by_key((named.path, named.device, named.stream))
        return None if entry is None else entry.number

    def knows(self, path: GatewayPath, epoch: int) -> bool:
        """Whether the birth of this epoch was found."""
        return (path, epoch) in self._catalogues

    def _catalogue(self, path: GatewayPath, epoch: int) -> Catalogue:
        found = self._catalogues.get((path, epoch))
        if found is None:
            birth = self._births.get(path, epoch)
            if birth is None:
                raise UnknownEpoch(path, epoch)
            found = Catalogue(birth, np.zeros(0, dtype=np.int64), 0)
            self._streams += len(found)
            if len(self._catalogues) >= _MAX_CACHED or self._streams > _MOST_STREAMS:
                self._catalogues.clear()
                self._streams = len(found)
            self._catalogues[path, epoch] = found
            self.learned += 1
        return found


def sample(column: Column, at: int, seen_ns: int) -> Sample:
    """One reading of a column."""
    code = int(column.statuses[at])
    value: Value | None = column.values[at]
    if isinstance(value, float) and not np.isfinite(value):
        value = None  # quality and reason say it
    quality = quality_of(code)
    return Sample(int(column.times[at]), value, quality, reason_of(code), seen_ns)


def event_id(number: int, place: int) -> str:
    """What an event is called."""
    return f"{number}.{place}"


def read_event_id(text: str) -> tuple[int, int]:
    """The two numbers of an event id. Raises ValueError."""
    first, _, second = text.partition(".")
    if not (first.isascii() and first.isdigit() and second.isascii() and second.isdigit() and len(text) <= 40):
        raise ValueError(text)
    return int(first), int(second)

"""Why: the ledger can only close if every sample that was due is in somebody's books.

Every scheduled sample of a published stream has exactly one outcome: a reading, suppressed by its deadband, thinned, or
a gap with a reason. `due` counts them since boot. What was due while the gateway did not run is accounted too: the disk
keeps, per stream, until when the books were closed, and the first dated sample of the next boot explains the time
between as GATEWAY_OFF.

The checkpoint (`state()`) is MessagePack: {"device/stream": [until_ns, interval_ns, undated]}. until_ns: UTC of the
last sample in a dated frame that the outbox took. undated: samples accounted since then in frames without a date.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.catalogue import decode_birth
from contract.errors import FrameError
from contract.frame import Frame, Gap, decode
from contract.readings import Ints, Reason
from edge.streams import Entry

log = logging.getLogger(__name__)

Key = str


class Accounted(msgspec.Struct, array_like=True):
    """Until when a stream is accounted: UTC ns, its interval then, and the samples accounted without a date since."""

    until_ns: int
    interval_ns: int
    undated: int = 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """What an outbox says of the boots before. newest_ns: the newest UTC time in it, 0 for none."""

    streams: Mapping[Key, Accounted]

    @property
    def newest_ns(self) -> int:
        """The newest UTC time accounted, 0 for none."""
        return max((accounted.until_ns for accounted in self.streams.values()), default=0)


class Books:
    """What is accounted of every stream of this boot. Entries are those of the StreamTable, by id."""

    def __init__(self, entries: Sequence[Entry], resumed: Resumed | None = None) -> None:
        count = len(entries)
        self.due = np.zeros(count, dtype=np.int64)
        self._keys = [entry.key for entry in entries]
        self._interval_ns = np.array([round(entry.interval_s * 1e9) for entry in entries], dtype=np.int64)
        self._until_ns = np.zeros(count, dtype=np.int64)
        self._old_interval_ns = self._interval_ns.copy()
        self._undated = np.zeros(count, dtype=np.int64)
        self._settled_until_ns = np.zeros(count, dtype=np.int64)
        self._settled_undated = np.zeros(count, dtype=np.int64)
        for number, key in enumerate(self._keys):
            accounted = resumed.streams.get(key) if resumed else None
            if accounted is not None and accounted.until_ns > 0:
                self._until_ns[number] = self._settled_until_ns[number] = accounted.until_ns
                self._old_interval_ns[number] = max(1, accounted.interval_ns)
                self._undated[number] = self._settled_undated[number] = accounted.undated
        self._waiting = self._until_ns > 0
        self._any_waiting = bool(self._waiting.any())

    @property
    def resuming(self) -> bool:
        """Whether some stream of an earlier boot has not been seen with a date yet."""
        return self._any_waiting

    def resume(self, ids: NDArray[np.intp], time_ns: int, count: int, *, dated: bool) -> list[Gap]:
        """What is missing before the first dated sample of `ids`, which is at `time_ns`, as GATEWAY_OFF.

        count: the samples that are accounted with it. Undated ones are remembered, and taken off later.
        """
        waiting = ids[self._waiting[ids]]
        if not dated:
            self._undated[waiting] += count
            return []
        self._waiting[waiting] = False
        self._any_waiting = bool(self._waiting.any())
        interval_ns, until_ns = self._old_interval_ns[waiting], self._until_ns[waiting]
        missed = np.rint((time_ns - until_ns) / interval_ns).astype(np.int64) - 1 - self._undated[waiting]
        found: dict[tuple[int, int, int], list[int]] = {}
        for stream, times, until, interval in zip(
            waiting.tolist(), missed.tolist(), until_ns.tolist(), interval_ns.tolist(), strict=True
        ):
            if times > 0:
                found.setdefault((until + interval, until + times * interval, times), []).append(stream)
        return [
            Gap(tuple(streams), first_ns, last_ns, times, Reason.GATEWAY_OFF)
            for (first_ns, last_ns, times), streams in found.items()
        ]

    def close(self, due: Ints) -> Ints:
        """Add what one frame accounts, per stream (N,); returns the totals since boot."""
        self.due += due
        return self.due.copy()

    def settle(self, due: Ints, until_ns: Ints, *, undated: bool) -> None:
        """A frame that accounts `due` samples up to `until_ns` is on disk."""
        moved = due > 0
        if undated:
            self._settled_undated[moved] += due[moved]
            return
        self._settled_until_ns[moved] = until_ns[moved]
        self._settled_undated[moved] = 0

    def state(self) -> bytes:
        """The checkpoint as of the last frame that is on disk. Call it on the event loop."""
        known = np.flatnonzero(self._settled_until_ns)
        return msgspec.msgpack.encode(
            {
                self._keys[number]: Accounted(
                    int(self._settled_until_ns[number]),
                    int(self._interval_ns[number] if self.due[number] else self._old_interval_ns[number]),
                    int(self._settled_undated[number]),
                )
                for number in known.tolist()
            }
        )


def resume(state: bytes | None, frames: Iterable[bytes], birth: Callable[[int], bytes | None]) -> Resumed:
    """What is accounted on this disk: the last checkpoint, and every frame after it in order.

    birth: the catalogue of an epoch, or None. What cannot be read is logged and left out: its time becomes a gap.
    """
    streams: dict[Key, Accounted] = {}
    if state:
        try:
            streams = msgspec.msgpack.decode(state, type=dict[str, Accounted])
        except msgspec.MsgspecError as error:
            log.warning("the checkpoint of the books is not readable and is ignored: %s", error)
    epochs: dict[int, dict[int, tuple[Key, int]]] = {}
    for data in frames:
        try:
            frame = decode(data)
            epoch = frame.header.epoch
            if epoch not in epochs:
                epochs[epoch] = _names(birth(epoch))
        except FrameError as error:
            log.warning("a frame on disk is not readable, its samples are accounted as missing: %s", error)
            continue
        _account(frame, epochs[epoch], streams)
    return Resumed(streams)


def _names(data: bytes | None) -> dict[int, tuple[Key, int]]:
    """Key and interval_ns of every stream id of a birth."""
    if data is None:
        return {}
    return {
        stream.id: (f"{device.name}/{stream.name}", round(stream.interval_s * 1e9))
        for device in decode_birth(data).devices
        for stream in device.streams
    }


def _account(frame: Frame, names: Mapping[int, tuple[Key, int]], streams: dict[Key, Accounted]) -> None:
    if frame.counters is None:
        return
    undated = outcomes(frame) if frame.header.undated else {}
    for stream, until_ns in zip(frame.counters.streams.tolist(), frame.counters.until_ns.tolist(), strict=True):
        if stream not in names:
            continue
        key, interval_ns = names[stream]
        known = streams.get(key)
        if not frame.header.undated:
            streams[key] = Accounted(until_ns, interval_ns)
        elif known is not None:
            known.undated += undated.get(stream, 0)


def outcomes(frame: Frame) -> dict[int, int]:
    """Samples that a frame accounts, by stream: readings, gaps, suppressed and thinned. Not for the hot path."""
    total: dict[int, int] = {}

    def add(stream: int, count: int) -> None:
        total[stream] = total.get(stream, 0) + count

    for table in frame.tables:
        for stream, count in zip(table.streams.tolist(), table.present().sum(axis=0).tolist(), strict=True):
            add(stream, count)
    for gap in frame.gaps:
        for stream in gap.streams:
            add(stream, gap.count)
    if frame.counters is not None:
        left_out = (frame.counters.suppressed + frame.counters.thinned).tolist()
        for stream, count in zip(frame.counters.streams.tolist(), left_out, strict=True):
            add(stream, count)
    return total

"""How each device is at this moment, for thousands of devices at once: what the console's people watch.

A listener of the hub's feed: what passes leaves the newest status of its stream in columns by stream number, and once
a second a few comparisons of columns say how every device is. A device is as bad as its worst stream; gaps count as
soon as they pass, and silence by the clock.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.console.troubles import (
    FINE,
    GATEWAY_OFFLINE,
    NEVER_HEARD,
    OF_STATUS,
    STALE,
    TROUBLES,
    Trouble,
)
from cloud.hub.entries import Entry
from cloud.hub.health import GRACE_S, STALE_INTERVALS
from cloud.hub.parts import Entries, Newest
from cloud.hub.passing import Passed
from cloud.ledger_hours import opened
from contract.readings import Ints, Kind, Quality, Value, status
from contract.topics import GatewayPath

log = logging.getLogger(__name__)

LOOK_S = 0.5
STATES_S = 2.0
SPARK = 24
"""So many newest values of a device's first number are drawn."""
LEVELS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Device:
    """A device and how it is. entry: its first stream, which names its place, owner and contact.

    trouble: the worst of its streams; since_ns: since when that is the worst; worst: the stream it is about.
    good_ns: when a good value was last measured, 0: never seen. changed: the version of the watch that changed it.
    """

    place: int
    entry: Entry
    streams: tuple[Entry, ...]
    trouble: Trouble
    since_ns: int
    worst: Entry
    changed: int

    @property
    def id(self) -> str:
        """`city/district/street/gateway/device`."""
        return f"{self.entry.path}/{self.entry.device}"


class _Columns:
    """By stream number: the newest status byte, when its sample was due, and when a good value was last measured."""

    def __init__(self) -> None:
        self.status: NDArray[np.uint8] = np.zeros(1024, dtype=np.uint8)
        self.time_ns: Ints = np.zeros(1024, dtype=np.int64)
        self.good_ns: Ints = np.zeros(1024, dtype=np.int64)

    def grow(self, size: int) -> None:
        short = size - len(self.status)
        if short > 0:
            more = max(short, len(self.status))
            self.status = np.concatenate([self.status, np.zeros(more, dtype=np.uint8)])
            self.time_ns = np.concatenate([self.time_ns, np.zeros(more, dtype=np.int64)])
            self.good_ns = np.concatenate([self.good_ns, np.zeros(more, dtype=np.int64)])

    def take(self, number: int, time_ns: int, code: int) -> None:
        self.grow(number + 1)
        if time_ns >= self.time_ns[number]:
            self.time_ns[number], self.status[number] = time_ns, code
        if code >> 6 <= Quality.UNCERTAIN:
            self.good_ns[number] = max(int(self.good_ns[number]), time_ns)

    def stays(self, number: int, time_ns: int) -> None:
        """It was looked at until then, and had not moved."""
        self.grow(number + 1)
        if time_ns > self.time_ns[number] > 0:
            self.time_ns[number] = time_ns
            if self.status[number] >> 6 <= Quality.UNCERTAIN:
                self.good_ns[number] = max(int(self.good_ns[number]), time_ns)


class Watch:
    """All devices of the catalogue. One event loop; `run` must be running. version: rises with every change."""

    def __init__(
        self, entries: Entries, newest: Newest, ledger_file: Path, *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.version = 0
        self.devices: Sequence[Device] = ()
        self.online: Mapping[GatewayPath, bool | None] = {}
        self._entries = entries
        self._newest = newest
        self._ledger_file = ledger_file
        self._now_ns = now_ns
        self._columns = _Columns()
        self._catalogue = -1
        self._numbers: Ints = np.zeros(0, dtype=np.int64)
        self._device_of: Ints = np.zeros(0, dtype=np.int64)
        self._limit_ns: Ints = np.zeros(0, dtype=np.int64)
        self._sparks: dict[int, list[float]] = {}
        self._drawn: frozenset[int] = frozenset()
        self._at: dict[str, int] = {}

    def take(self, passed: Passed) -> None:
        """A frame passed."""
        for column in passed.columns:
            last = int(np.argmax(column.times))
            self._columns.take(column.number, int(column.times[last]), int(column.statuses[last]))
            if column.number in self._drawn:
                self._draw(column.number, column.values)
        for gap in passed.gaps:
            self._columns.take(gap.number, gap.time_ns, gap.status)
        for number, until_ns in passed.quiet:
            self._columns.stays(number, until_ns)

    def device(self, device_id: str) -> Device | None:
        """The device of this id, or None."""
        at = self._at.get(device_id)
        return None if at is None else self.devices[at]

    def spark(self, device: Device) -> str:
        """The newest values of the device's first number as levels from `0` to `z`; empty where there are none."""
        for entry in _drawn(device):
            if found := self._sparks.get(entry.number):
                low, high = min(found), max(found)
                span = (high - low) or 1.0
                return "".join(LEVELS[round((one - low) / span * 35) if high > low else 18] for one in found)
        return ""

    def good_ns(self, entry: Entry) -> int:
        """When a usable value of this stream was last measured; 0: not known."""
        return int(self._columns.good_ns[entry.number]) if entry.number < len(self._columns.good_ns) else 0

    async def run(self, ready: asyncio.Event) -> None:
        """Look twice a second until cancelled. ready: the feed knows what came before."""
        await ready.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_gateways(), name="console gateways")
            while True:
                self.look()
                await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """How every device is now. 10,000 devices of 100,000 streams: some milliseconds."""
        if self._entries.version != self._catalogue:
            self._follow_catalogue()
        if not self._numbers.size:
            return
        now_ns, columns = self._now_ns(), self._columns
        ranks = OF_STATUS[columns.status[self._numbers]]
        times = columns.time_ns[self._numbers]
        ranks = np.where(now_ns - times > self._limit_ns, np.maximum(ranks, STALE.rank), ranks)
        ranks = np.where(times == 0, NEVER_HEARD.rank, ranks)
        ranks = np.where(self._offline(), GATEWAY_OFFLINE.rank, ranks)
        worst = np.zeros(len(self.devices), dtype=np.int64)
        np.maximum.at(worst, self._device_of, ranks)
        known = np.array([device.trouble.rank for device in self.devices], dtype=np.int64)
        changed = np.flatnonzero(worst != known)
        if changed.size:
            self.version += 1
            devices = list(self.devices)
            for at in changed.tolist():
                devices[at] = self._judged(devices[at], int(worst[at]), ranks, now_ns)
            self.devices = devices

    def _judged(self, device: Device, rank: int, ranks: Ints, now_ns: int) -> Device:
        mine = np.flatnonzero(self._device_of == device.place)
        at = mine[np.argmax(ranks[mine])]
        entry = device.streams[int(at - mine[0])]
        trouble = TROUBLES[rank]
        since_ns = now_ns
        if trouble in (STALE, GATEWAY_OFFLINE) or trouble.gap:
            since_ns = self.good_ns(entry) or int(self._columns.time_ns[entry.number]) or now_ns
        return Device(device.place, device.entry, device.streams, trouble, since_ns, entry, self.version)

    def _offline(self) -> NDArray[np.bool_]:
        gone = {path for path, online in self.online.items() if online is False}
        if not gone:
            return np.zeros(len(self._numbers), dtype=np.bool_)
        flags = np.array([device.entry.path in gone for device in self.devices], dtype=np.bool_)
        return flags[self._device_of]

    def _follow_catalogue(self) -> None:
        self._catalogue = self._entries.version
        groups: dict[tuple[GatewayPath, str], list[Entry]] = {}
        for entry in self._entries.all():
            if entry.until_ns is None and (entry.scheduled or not entry.alarm):
                groups.setdefault((entry.path, entry.device), []).append(entry)
        before = {device.id: device for device in self.devices}
        self.version += 1
        devices: list[Device] = []
        for at, streams in enumerate(groups.values()):
            first = streams[0]
            old = before.get(f"{first.path}/{first.device}")
            trouble, since_ns = (FINE, 0) if old is None else (old.trouble, old.since_ns)
            worst = first if old is None else next((one for one in streams if one.number == old.worst.number), first)
            devices.append(Device(at, first, tuple(streams), trouble, since_ns, worst, self.version))
        self.devices = devices
        self._at = {device.id: device.place for device in devices}
        flat = [(entry, device.place) for device in devices for entry in device.streams]
        self._numbers = np.array([entry.number for entry, _ in flat], dtype=np.int64)
        self._device_of = np.array([at for _, at in flat], dtype=np.int64)
        limits = [(STALE_INTERVALS * entry.interval_s + GRACE_S) * _SECOND_NS for entry, _ in flat]
        self._limit_ns = np.array(limits, dtype=np.float64).clip(max=2.0**62).astype(np.int64)
        drawn = (
            next((one for one in device.streams if one.kind in (Kind.FLOAT, Kind.INT)), None) for device in devices
        )
        self._drawn = frozenset(entry.number for entry in drawn if entry is not None)
        self._sparks = {number: values for number, values in self._sparks.items() if number in self._drawn}
        if self._numbers.size:
            self._columns.grow(int(self._numbers.max()) + 1)
        self._remember(flat)

    def _remember(self, flat: Sequence[tuple[Entry, int]]) -> None:
        """What passed before this process watched."""
        for entry, _ in flat:
            if self._columns.time_ns[entry.number] == 0 and (sample := self._newest.get(entry.number)) is not None:
                self._columns.take(entry.number, sample.time_ns, status(sample.quality, sample.reason))

    def _draw(self, number: int, values: Sequence[Value]) -> None:
        kept = self._sparks.setdefault(number, [])
        kept += [float(one) for one in values[-SPARK:] if isinstance(one, int | float) and np.isfinite(one)]
        del kept[:-SPARK]

    async def _follow_gateways(self) -> None:
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError):  # no ledger yet: nobody is known to be offline
                self.online = await asyncio.to_thread(self._read_states)
            await asyncio.sleep(STATES_S)

    def _read_states(self) -> dict[GatewayPath, bool | None]:
        with opened(self._ledger_file) as ledger:
            return {state.path: state.online for state in ledger.states()}


def _drawn(device: Device) -> list[Entry]:
    """The stream whose newest values stand for the device: its first number, if it has one."""
    return [entry for entry in device.streams if entry.kind in (Kind.FLOAT, Kind.INT)][:1]

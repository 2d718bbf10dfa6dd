"""Why: a device that speaks when it likes cannot time out, so its silence must be noticed.

Each reading that arrives is one sample due. A stream that is silent for more than two of its intervals is missing
samples: one for each interval that passed, the last half interval left to the reading that may still come. The reason
is SILENT, or that of the bus when the connection is gone, or GARBAGE when something came that was no message. After
such a thing, and while the silence goes on, one and a half intervals are enough: that is no jitter any more.

A patient source (a file, a log) is read as fast as there is room; its holes are found in its own times.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import numpy as np

from contract.errors import DeviceUnavailable
from contract.readings import ABSENT, Ints, Reason
from drivers.base import Block, Scan
from edge.bus_task import BusConnection, Sink, as_listening, check_fits, guarded
from edge.clock import Clock
from edge.streams import Indices
from edge.tasks import pause

_CHECK_S = (0.05, 1.0)
SILENT_INTERVALS = 2
CERTAIN_INTERVALS = 1.5


@runtime_checkable
class HearsNoise(Protocol):
    """A listening bus that counts what came and was no message, so that noise is told from silence."""

    @property
    def garbage_bytes(self) -> int:
        """Bytes so far that belonged to no message."""

    @property
    def bad_checksums(self) -> int:
        """Messages so far whose checksum was wrong."""


class Silence:
    """Until when each stream of a scan is accounted, and what is missing since.

    `noise` is a count that rises with whatever the bus hears that is no message; `reason` the bus's own trouble.
    """

    def __init__(self, scan: Scan, sink: Sink, begin_ns: int | None) -> None:
        self._scan = scan
        self._sink = sink
        self._interval_ns = round(scan.interval_s * 1e9)
        # -1: nothing heard yet and no beginning to count from.
        self._last_ns: Ints = np.full(len(scan.streams), -1 if begin_ns is None else begin_ns, dtype=np.int64)
        self._noise: Ints = np.zeros(len(scan.streams), dtype=np.int64)
        self._missed = np.zeros(len(scan.streams), dtype=np.bool_)

    def heard(self, block: Block, now_ns: int, reason: Reason | None, noise: int, *, dated: bool) -> None:
        """A block came at `now_ns` (UTC when `dated`); what was missing before it is explained first."""
        due = block.status != ABSENT
        self.check(now_ns, reason, noise, due & (self._last_ns >= 0), dated=dated)
        # A file may step back in time; what is accounted stays accounted.
        self._last_ns[due] = np.maximum(self._last_ns[due], now_ns)
        self._noise[due] = noise
        self._missed[due] = False

    def check(
        self,
        now_ns: int,
        reason: Reason | None,
        noise: int,
        only: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None,
        *,
        dated: bool = False,
    ) -> int:
        """Explain what is missing at `now_ns`; returns how many samples."""
        spoiled = self._noise < noise
        patience = np.where(spoiled | self._missed, CERTAIN_INTERVALS, SILENT_INTERVALS) * self._interval_ns
        silent = now_ns - self._last_ns > patience
        if only is not None:
            silent &= only
        if not silent.any():
            return 0
        total = 0
        for noisy in (False, True):
            mine = silent & (spoiled == noisy)
            for last_ns in np.unique(self._last_ns[mine]).tolist():
                positions = np.flatnonzero(mine & (self._last_ns == last_ns))
                why = reason or (Reason.GARBAGE if noisy else Reason.SILENT)
                total += self._explain(positions, last_ns, now_ns, why, dated=dated)
        return total

    def _explain(self, positions: Indices, last_ns: int, now_ns: int, reason: Reason, *, dated: bool) -> int:
        """What these streams, last accounted at `last_ns`, have missed since; returns how many samples each."""
        count = (now_ns - last_ns - self._interval_ns // 2) // self._interval_ns
        until_ns = last_ns + count * self._interval_ns
        self._sink.miss(
            self._scan,
            last_ns + self._interval_ns,
            until_ns,
            count,
            reason,
            positions=None if len(positions) == len(self._last_ns) else positions,
            dated=dated,
        )
        self._last_ns[positions] = until_ns
        self._missed[positions] = True
        return count


class ListeningBusTask:
    """Runs one bus whose devices speak when they like."""

    def __init__(self, connection: BusConnection, sink: Sink, clock: Clock) -> None:
        self._connection = connection
        self._sink = sink
        self._clock = clock
        self._patient = connection.run.patient
        self._silences: dict[Scan, Silence] = {}
        self._check_s = min(_CHECK_S[1], max(_CHECK_S[0], *(scan.interval_s / 2 for scan in connection.run.scans)))

    async def run(self, stopping: asyncio.Event) -> None:
        """Listen until `stopping`, or until a patient source has ended."""
        begin_ns = None if self._patient else self._clock.boottime_ns()
        self._silences = {scan: Silence(scan, self._sink, begin_ns) for scan in self._connection.run.scans}
        listener = asyncio.create_task(self._listen(stopping), name=f"{self._connection.run.name}-listen")
        try:
            while not listener.done() and not await pause(self._clock, self._check_s, stopping):
                self._watch()
            if listener.done():
                listener.result()
        finally:
            listener.cancel()
            await asyncio.wait({listener})
            await self._connection.close()

    def _watch(self) -> None:
        if self._patient:
            return
        now_ns = self._clock.boottime_ns()
        for scan, silence in self._silences.items():
            count = silence.check(now_ns, self._connection.health.reason, self._noise())
            if count:
                self._connection.devices[scan.device.name].missed(count)

    def _noise(self) -> int:
        bus = self._connection.run.bus
        return bus.garbage_bytes + bus.bad_checksums if isinstance(bus, HearsNoise) else 0

    async def _listen(self, stopping: asyncio.Event) -> None:
        """Connect, listen, and connect again with backoff. Returns when a patient source has ended."""
        while not stopping.is_set():
            try:
                await self._connection.open()
                await self._hear(stopping)
            except DeviceUnavailable as error:
                await self._connection.failed(None, error)
            else:
                if self._patient or stopping.is_set():
                    return
                ended = DeviceUnavailable(Reason.DISCONNECTED, "the device's stream has ended", whole_bus=True)
                await self._connection.failed(None, ended)
            wait_s = (self._connection.health.until_ns - self._clock.boottime_ns()) / 1e9
            await pause(self._clock, wait_s, stopping)

    async def _hear(self, stopping: asyncio.Event) -> None:
        blocks = await guarded(self._blocks())
        while not stopping.is_set():
            block = await guarded(self._next(blocks), limit_s=None)
            if block is None:
                return
            # A source that knows the time but cannot wait is still watched by the gateway's own clock.
            now_ns = block.time_ns if self._patient else self._clock.boottime_ns()
            dated = block.dated and self._patient
            reason = self._connection.health.reason
            self._silences[block.scan].heard(block, now_ns, reason, self._noise(), dated=dated)
            self._connection.good(block.scan)
            self._sink.take(block)
            if self._patient:
                await self._sink.room()
            else:
                await asyncio.sleep(0)  # a device that never pauses would keep the event loop for itself

    async def _blocks(self) -> AsyncIterator[Block]:
        return aiter(as_listening(self._connection.run).listen())

    async def _next(self, blocks: AsyncIterator[Block]) -> Block | None:
        """The next block, or None when the source has ended. Raises TypeError for one that fits no scan of the bus."""
        async for block in blocks:
            if block.scan not in self._silences:
                raise TypeError(f"a block of a scan of {block.scan.device.name!r} that is not this bus's")
            check_fits(block, block.scan)
            return block
        return None

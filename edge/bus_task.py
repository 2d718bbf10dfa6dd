"""Why: a bus is one wire, so one task works it; what happens on it never reaches another bus.

`PolledBusTask` asks every scan at its ticks, t0 + k * interval on CLOCK_BOOTTIME. A tick always has an outcome:
a block, or `miss` with the reason. Ticks that pass while the bus is busy are OVERRUN; ticks of a device (or a whole
bus) that is left alone after a failure carry the reason of that failure.
"""

import asyncio
import heapq
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import numpy as np

from contract.errors import DeviceUnavailable
from contract.readings import Reason
from drivers.base import Block, Bus, ListeningBus, PolledBus, Scan, Tap, Tapped
from edge.clock import Clock
from edge.device import DeviceHealth
from edge.streams import Indices
from edge.tasks import pause

log = logging.getLogger(__name__)

T = TypeVar("T")
# A driver bounds its own calls by its timeouts, which may be many and long. Whatever takes longer than this hangs.
HUNG_S = 300.0
# The device did answer: what failed is this scan, and the others of the same device need not suffer.
_ANSWERED = frozenset({Reason.REFUSED, Reason.NO_REGISTER, Reason.UNDECODABLE})


_KINDS = (np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.uint8))


class Sink(Protocol):
    """Where outcomes go. It never makes the bus wait, but for sources that can."""

    def take(self, block: Block) -> None:
        """A scan brought this."""

    def miss(
        self,
        scan: Scan,
        first_ns: int,
        last_ns: int,
        count: int,
        reason: Reason,
        *,
        positions: Indices | None = None,
        dated: bool = False,
    ) -> None:
        """`count` samples of the scan (of these positions) due from first_ns to last_ns are not there."""

    async def room(self) -> None:
        """Wait until there is room for more."""

    def expect(self, source: object, next_ns: int) -> None:
        """A source brings nothing before `next_ns`, CLOCK_BOOTTIME: what came so far need not wait for it."""


@dataclass(frozen=True)
class BusRun:
    """One bus to run. listening: `bus` is a ListeningBus, else a PolledBus. patient: it can wait (Driver.patient)."""

    name: str
    bus: Bus
    scans: Sequence[Scan]
    listening: bool = False
    patient: bool = False


class Defect(DeviceUnavailable):
    """A driver raised what no driver may: a bug, told apart so that its traceback is logged."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(Reason.INTERNAL, f"a defect of the driver: {type(cause).__name__}: {cause}")
        self.defect = cause


async def guarded(work: Awaitable[T], limit_s: float | None = HUNG_S) -> T:
    """What a driver's call returns. Raises DeviceUnavailable, and turns everything unexpected into Defect.

    limit_s: a call that takes longer is cancelled and is a defect, too; None for those that may wait for ever.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except DeviceUnavailable:
        raise
    except Exception as error:  # drivers are other people's code; one may not stop the gateway
        raise Defect(error) from error


class BusConnection:
    """The open or closed connection of a bus, and the health of the bus, its devices, and a device's several scans."""

    def __init__(self, run: BusRun, clock: Clock, *, max_backoff_s: float, rng: random.Random) -> None:
        self.run = run
        self.is_open = False
        self.health = DeviceHealth(f"bus {run.name}", 1.0, max_backoff_s, rng)
        fastest: dict[str, float] = {}
        for scan in run.scans:
            name = scan.device.name
            fastest[name] = min(scan.interval_s, fastest.get(name, scan.interval_s))
        self.devices = {name: DeviceHealth(name, seconds, max_backoff_s, rng) for name, seconds in fastest.items()}
        counts = Counter(scan.device.name for scan in run.scans)
        self._scans = {
            scan: DeviceHealth(f"{scan.device.name} every {scan.interval_s:g} s", scan.interval_s, max_backoff_s, rng)
            for scan in run.scans
            if counts[scan.device.name] > 1
        }
        self._clock = clock

    def healths(self, scan: Scan) -> Iterator[DeviceHealth]:
        """Whatever may keep the scan from being asked, the whole first."""
        yield self.health
        yield self.devices[scan.device.name]
        if scan in self._scans:
            yield self._scans[scan]

    async def open(self) -> None:
        """Connect when not connected; raises DeviceUnavailable for the whole bus."""
        if self.is_open:
            return
        try:
            await guarded(self.run.bus.open())
        except DeviceUnavailable as error:
            error.whole_bus = True
            raise
        self.is_open = True

    async def close(self) -> None:
        """Disconnect. A driver that fails even at this is logged, and the bus goes on without it."""
        self.is_open = False
        try:
            await guarded(self.run.bus.close())
        except DeviceUnavailable as error:
            log.warning("bus %s: could not be closed properly: %s", self.run.name, error, exc_info=error.__cause__)

    async def failed(self, scan: Scan | None, error: DeviceUnavailable) -> None:
        """Book a failure of a scan or the whole bus. After a defect the connection is in doubt, so it goes too."""
        whole = error.whole_bus or scan is None
        cause = error.defect if isinstance(error, Defect) else None
        health = self.health if whole or scan is None else self._ill(scan, error)
        health.failed(self._clock.boottime_ns(), error, cause)
        if scan is not None and health is not self.devices[scan.device.name]:
            self.devices[scan.device.name].missed(1)
        if whole or cause is not None:
            await self.close()

    def _ill(self, scan: Scan, error: DeviceUnavailable) -> DeviceHealth:
        """The device, or the scan alone when the device answers and another scan of it is well."""
        name = scan.device.name
        well = any(
            health.reason is None and health.last_good_ns is not None
            for other, health in self._scans.items()
            if other.device.name == name and other is not scan
        )
        return self._scans[scan] if well and error.reason in _ANSWERED else self.devices[name]

    def good(self, scan: Scan, latency_s: float | None = None) -> None:
        """A device answered, so the bus is well, too."""
        now_ns = self._clock.boottime_ns()
        if self.health.reason is not None or self.health.last_good_ns is None:
            self.health.good(now_ns)
        self.health.last_good_ns = now_ns
        self.devices[scan.device.name].good(now_ns, latency_s)
        if scan in self._scans:
            self._scans[scan].good(now_ns)


class _Agenda:
    """Whose turn it is. Of the scans that are due the one whose next tick comes first goes first: a scan every second
    need not wait for a hundred that are due every minute. Of those that are alike the ill go last, so that the others
    do not wait for an answer that does not come.

    All scans of a bus begin at once. Their turns on the wire follow each other anyhow, and a gateway that works in one
    go and then sleeps needs a third of the CPU of one that wakes for each device.
    """

    def __init__(self, scans: Sequence[Scan], begin_ns: int, ill: Callable[[Scan], bool]) -> None:
        self._scans = scans
        self._ill = ill
        self._intervals_ns = [round(scan.interval_s * 1e9) for scan in scans]
        self._waiting = [(begin_ns, number) for number in range(len(scans))]
        self._due: list[tuple[int, bool, int, int]] = []

    @property
    def next_ns(self) -> int:
        """When the next scan is due. Only while none is due now."""
        return self._waiting[0][0]

    def put(self, number: int, due_ns: int) -> None:
        """A scan is due at this time."""
        heapq.heappush(self._waiting, (due_ns, number))

    def pop(self, now_ns: int) -> tuple[int, int] | None:
        """The scan to ask now and when it was due, or None when none is due yet."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            due_ns, number = heapq.heappop(self._waiting)
            next_ns, ill = due_ns + self._intervals_ns[number], self._ill(self._scans[number])
            heapq.heappush(self._due, (next_ns, ill, number, due_ns))
        if not self._due:
            return None
        _, _, number, due_ns = heapq.heappop(self._due)
        return number, due_ns


class PolledBusTask:
    """Runs one bus whose devices answer when asked."""

    def __init__(self, connection: BusConnection, sink: Sink, clock: Clock) -> None:
        self._connection = connection
        self._bus = cast("PolledBus", connection.run.bus)
        self._sink = sink
        self._clock = clock
        # A technician's test takes its turn between two polls, and none after the last.
        self._turn = asyncio.Lock()
        self._over = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until `stopping`; the poll in progress is finished."""
        scans = self._connection.run.scans
        agenda = _Agenda(scans, self._clock.boottime_ns(), lambda scan: self._excuse(scan) is not None)
        self._sink.expect(self, 0)
        try:
            while not stopping.is_set():
                now_ns = self._clock.boottime_ns()
                turn = agenda.pop(now_ns)
                if turn is None:
                    self._sink.expect(self, agenda.next_ns)
                    await pause(self._clock, (agenda.next_ns - now_ns) / 1e9, stopping)
                    continue
                number, due_ns = turn
                agenda.put(number, await self._tick(scans[number], due_ns))
        finally:
            self._over = True
            await self._connection.close()

    async def ask_now(self, scan: Scan, tap: Tap) -> tuple[Block, float]:
        """What a scan brings outside its schedule, when the poll in progress is over, and the seconds it took.

        tap: shown the bytes, where the driver can.

        Nothing was due, so no book and no stream knows of it; but a device that answers is well again at once. Ticks
        that it holds up are accounted as of any slow poll. Raises DeviceUnavailable, which is no reason to back off.
        """
        async with self._turn:
            if self._over:
                raise DeviceUnavailable(Reason.GATEWAY_OFF, "the gateway stops")
            try:
                await self._connection.open()
                began_ns = self._clock.boottime_ns()
                block = await guarded(_tapped(self._bus, scan, tap))
            except DeviceUnavailable as error:
                if error.whole_bus or isinstance(error, Defect):
                    await self._connection.failed(scan, error)
                raise
            took_s = (self._clock.boottime_ns() - began_ns) / 1e9
            self._connection.good(scan, took_s)
            return block, took_s

    async def _tick(self, scan: Scan, due_ns: int) -> int:
        """Give every tick up to now its outcome; returns when the next is due."""
        interval_ns = round(scan.interval_s * 1e9)
        now_ns = self._clock.boottime_ns()
        late = (now_ns - due_ns) // interval_ns
        resting = self._resting(scan, now_ns)
        if late:
            last_ns = due_ns + (late - 1) * interval_ns
            self._miss(scan, due_ns, last_ns, late, self._excuse(scan) or Reason.OVERRUN)
            due_ns += late * interval_ns
        if resting is not None:
            self._miss(scan, due_ns, due_ns, 1, resting)
            # Nothing here waits, so a bus at rest would otherwise keep the event loop for itself.
            await asyncio.sleep(0)
        else:
            await self._poll(scan, due_ns)
        return due_ns + interval_ns

    def _resting(self, scan: Scan, now_ns: int) -> Reason | None:
        return next((why for one in self._connection.healths(scan) if (why := one.resting(now_ns)) is not None), None)

    def _excuse(self, scan: Scan) -> Reason | None:
        """Why earlier ticks of the scan were not polled, when the bus, the device or the scan is ill."""
        return next((one.reason for one in self._connection.healths(scan) if one.reason is not None), None)

    def _miss(self, scan: Scan, first_ns: int, last_ns: int, count: int, reason: Reason) -> None:
        if reason is not Reason.OVERRUN:
            self._connection.devices[scan.device.name].missed(count)
        self._sink.miss(scan, first_ns, last_ns, count, reason)

    async def _poll(self, scan: Scan, due_ns: int) -> None:
        async with self._turn:
            try:
                await self._connection.open()
                began_ns = self._clock.boottime_ns()
                block = await guarded(_fitting(self._bus, scan))
            except DeviceUnavailable as error:
                await self._connection.failed(scan, error)
                self._sink.miss(scan, due_ns, due_ns, 1, error.reason)
                return
            self._connection.good(scan, (self._clock.boottime_ns() - began_ns) / 1e9)
        self._sink.take(block)


async def _tapped(bus: PolledBus, scan: Scan, tap: Tap) -> Block:
    if not isinstance(bus, Tapped):
        return await _fitting(bus, scan)
    bus.tap(tap)
    try:
        return await _fitting(bus, scan)
    finally:
        bus.tap(None)


async def _fitting(bus: PolledBus, scan: Scan) -> Block:
    block = await bus.poll(scan)
    check_fits(block, scan)
    return block


def check_fits(block: Block, scan: Scan) -> None:
    """Raises TypeError unless the block has the shapes and types of its scan."""
    shapes = (block.floats.shape, block.ints.shape, len(block.texts), block.status.shape)
    expected = ((scan.n_floats,), (scan.n_ints,), scan.n_texts, (len(scan.streams),))
    kinds = (block.floats.dtype, block.ints.dtype, block.status.dtype)
    if block.scan is not scan or shapes != expected or kinds != _KINDS:
        raise TypeError(f"a block of shapes {shapes} and types {kinds}; expected {expected} and {_KINDS}")


def as_listening(run: BusRun) -> ListeningBus:
    """The bus as what `listening` says it is."""
    return cast("ListeningBus", run.bus)

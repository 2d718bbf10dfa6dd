"""Why: a technician wants to see the bytes of one device now, and the city must not lose a sample for it.

A polled device is asked in turn with the others of its bus, through the running driver: the line is never opened a
second time. A device that speaks by itself is listened to while the gateway goes on reading it. One test at a time in
the whole gateway; everything is bounded, and nothing of it is published.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from contract.errors import DeviceUnavailable
from contract.readings import ABSENT, Quality, Reason, Value, quality_of, reason_of
from drivers.base import Block, Explains, Scan, Tapped
from edge.bus_task import BusConnection, PolledBusTask
from edge.clock import Clock
from edge.listen_task import ListeningBusTask

TRIAL_S = 30.0
HEAR_S = (3.0, 15.0)
HEAR_INTERVALS = 3
PAUSE_S = 1.0
MAX_LINES = 64
MAX_BYTES = 4096
MAX_KEPT = 64
_LOOK_S = 0.1

Worker = tuple[BusConnection, PolledBusTask | ListeningBusTask]


class Busy(Exception):
    """Another test is under way, or was a moment ago."""


class Kind(StrEnum):
    """How a device was tested."""

    ASKED = "asked"
    HEARD = "heard"
    NO_WIRE = "no_wire"


@dataclass(slots=True)
class Line:
    """Bytes that went one way without a turn. at_ms: since the test began. meaning: what a request asks for."""

    sent: bool
    at_ms: float
    data: bytearray
    meaning: str = ""


class WireTrace:
    """A drivers.base.Tap that keeps what it is shown: MAX_LINES turns and MAX_BYTES; what is more is counted."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.lines: list[Line] = []
        self.left_out = 0
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._room = MAX_BYTES

    def sent(self, data: bytes, meaning: str) -> None:
        """These bytes go out."""
        self._keep(data, meaning, sent=True)

    def heard(self, data: bytes) -> None:
        """These bytes came in; pieces that follow each other are one line."""
        self._keep(data, "", sent=False)

    def _keep(self, data: bytes, meaning: str, *, sent: bool) -> None:
        fresh = sent or not self.lines or self.lines[-1].sent
        if fresh and len(self.lines) == MAX_LINES:
            self.left_out += len(data)
            return
        if fresh:
            self.lines.append(Line(sent, (self._now_ns() - self._began_ns) / 1e6, bytearray(), meaning))
        kept = data[: self._room]
        self.lines[-1].data += kept
        self._room -= len(kept)
        self.left_out += len(data) - len(kept)


class Decoded(NamedTuple):
    """One value that came. why: the driver's words for one that did not."""

    name: str
    unit: str
    value: Value | None
    resolution: float | None
    quality: str
    reason: str
    why: str


@dataclass(slots=True)
class Trial:
    """What a test found. wall_s: when it began, Unix time. took_ms: of the answers; for a device that is listened to,
    until it was understood. reason and problem: why it failed, and the driver's own words."""

    device: str
    wall_s: float
    kind: Kind
    ok: bool = False
    took_ms: float | None = None
    reason: Reason | None = None
    problem: str = ""
    lines: list[Line] = field(default_factory=list)
    left_out: int = 0
    values: list[Decoded] = field(default_factory=list)

    def fail(self, reason: Reason, problem: str) -> None:
        """It went wrong like this; the first failure is the one that counts."""
        self.ok = False
        if self.reason is None:
            self.reason, self.problem = reason, problem


class Trials:
    """Tests devices. workers: of the supervisor. `latest`: the last test of each device, at most MAX_KEPT."""

    def __init__(self, workers: Callable[[], Sequence[Worker]], clock: Clock) -> None:
        self.latest: dict[str, Trial] = {}
        self._workers = workers
        self._clock = clock
        self._running = False
        self._free_ns = 0

    async def run(self, device: str) -> Trial:
        """Test a device. Raises KeyError when there is none of that name, Busy while another test is under way."""
        connection, task, scans = self._find(device)
        if self._running or self._clock.boottime_ns() < self._free_ns:
            raise Busy(device)
        self._running = True
        try:
            trial = await self._run(device, connection, task, scans)
        finally:
            self._running = False
            self._free_ns = self._clock.boottime_ns() + round(PAUSE_S * 1e9)
        self.latest.pop(device, None)
        self.latest[device] = trial
        while len(self.latest) > MAX_KEPT:
            del self.latest[next(iter(self.latest))]
        return trial

    def _find(self, device: str) -> tuple[BusConnection, PolledBusTask | ListeningBusTask, list[Scan]]:
        for connection, task in self._workers():
            scans = [scan for scan in connection.run.scans if scan.device.name == device]
            if scans:
                return connection, task, scans
        raise KeyError(device)

    async def _run(
        self, device: str, connection: BusConnection, task: PolledBusTask | ListeningBusTask, scans: Sequence[Scan]
    ) -> Trial:
        bus = connection.run.bus
        trial = Trial(device, time.time(), Kind.NO_WIRE)
        if isinstance(task, ListeningBusTask) and not isinstance(bus, Tapped):
            trial.ok = connection.devices[device].reason is None and connection.health.reason is None
            return trial
        trial.kind = Kind.ASKED if isinstance(task, PolledBusTask) else Kind.HEARD
        trace = WireTrace(self._clock.boottime_ns)
        if isinstance(task, PolledBusTask):
            await self._ask(trial, connection, task, scans, trace)
        elif isinstance(bus, Tapped):
            bus.tap(trace)
            try:
                await self._hear(trial, connection, trace, scans)
            finally:
                bus.tap(None)
        trial.lines, trial.left_out = trace.lines, trace.left_out
        return trial

    @staticmethod
    async def _ask(
        trial: Trial, connection: BusConnection, task: PolledBusTask, scans: Sequence[Scan], trace: WireTrace
    ) -> None:
        trial.ok = True
        try:
            async with asyncio.timeout(TRIAL_S):
                for scan in scans:
                    block, took_s = await task.ask_now(scan, trace)
                    trial.took_ms = (trial.took_ms or 0.0) + took_s * 1e3
                    bus = connection.run.bus
                    trial.values += decoded(block, bus.explain(scan) if isinstance(bus, Explains) else {})
        except DeviceUnavailable as error:
            trial.fail(error.reason, str(error))
        except TimeoutError:
            trial.fail(Reason.OVERRUN, f"the bus had no turn for a test within {TRIAL_S:g} s")
        missing = next((value for value in trial.values if value.quality == "missing"), None)
        if missing is not None:
            trial.fail(Reason[missing.reason.upper()], missing.why)

    async def _hear(self, trial: Trial, connection: BusConnection, trace: WireTrace, scans: Sequence[Scan]) -> None:
        """Listen until a message was understood, or for three of the device's intervals."""
        began_ns = self._clock.boottime_ns()
        patience_s = min(HEAR_S[1], max(HEAR_S[0], *(HEAR_INTERVALS * scan.interval_s for scan in scans)))
        health = connection.devices[trial.device]
        while (waited_s := (self._clock.boottime_ns() - began_ns) / 1e9) < patience_s:
            if trace.lines and health.last_good_ns is not None and health.last_good_ns > began_ns:
                trial.ok, trial.took_ms = True, waited_s * 1e3
                return
            await self._clock.sleep(_LOOK_S)
        if connection.health.reason is not None:
            trial.fail(connection.health.reason, connection.health.last_error)
        else:
            trial.fail(Reason.GARBAGE if trace.lines else Reason.SILENT, "")


def decoded(block: Block, explained: Mapping[str, str]) -> list[Decoded]:
    """What a block says of each of its streams, scaled as it would be published. explained: drivers.base.Explains."""
    device = block.scan.device
    raw: list[Value] = [*block.floats.tolist(), *block.ints.tolist(), *block.texts]
    found = []
    for stream, value, code in zip(block.scan.streams, raw, block.status.tolist(), strict=True):
        if code == ABSENT:
            continue
        shown: Value | None = value
        if quality_of(code) is Quality.MISSING:
            shown = None
        elif stream.type == "bool":
            shown = bool(value)
        elif isinstance(value, int | float):
            scaled = (value * device.scale + device.offset) * stream.scale + stream.offset
            shown = scaled if isinstance(value, float) else round(scaled)
        quality, reason = quality_of(code).name.lower(), reason_of(code).name.lower()
        found.append(
            Decoded(stream.name, stream.unit, shown, stream.resolution, quality, reason, explained.get(stream.name, ""))
        )
    return found

"""Why: a gateway that ails should say so before it fails, in the same streams, with the same books as any sensor.

The gateway is a device like others: a bus without a wire, polled by the supervisor at its own interval.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from contract.readings import Kind, Reason, Value, gap
from drivers.base import Block, DeviceSpec, Scan, StreamSpec
from edge.bus_task import BusRun
from edge.clock import TrustedClock
from edge.device import DeviceHealth
from edge.outbox import Outbox
from edge.streams import scans_of

DEVICE = "gateway"


class OutboxFigures(NamedTuple):
    """How much waits on this disk: frames, bytes, and the age of the oldest in seconds."""

    frames: int
    bytes: int
    age_s: float


class SystemFigures(NamedTuple):
    """How the machine is: free disk and resident memory in bytes, CPU of this process in percent of one core."""

    disk_free: int
    memory_rss: int
    cpu_percent: float


def system_figures(directory: Path) -> Callable[[], SystemFigures]:
    """Asks the machine; `directory` is on the disk that matters. Blocks for a system call or two."""
    process = psutil.Process()
    process.cpu_percent()

    def read() -> SystemFigures:
        return SystemFigures(shutil.disk_usage(directory).free, process.memory_info().rss, process.cpu_percent())

    return read


def health_device(asked: Sequence[str], interval_s: float = 10.0, *, heard: Sequence[str] = ()) -> DeviceSpec:
    """The device `gateway`: its own streams, the success of every device, and the latency of those that are `asked`.

    heard: devices that speak when they like, so nothing is asked that could be timed.
    """
    streams = [
        _stream("outbox.age_s", "age", "s", resolution=0.1),
        _stream("cpu.percent", "load", "%", resolution=0.1),
        _stream("clock.offset_s", "clock_offset", "s", resolution=0.001),
        _stream("clock.step", "clock_step", "s", resolution=0.001, deadband=0.0, alarm=True),
        *(_stream(f"{name}.success", "success", "%", resolution=0.1) for name in (*asked, *heard)),
        *(_stream(f"{name}.latency", "latency", "ms", resolution=0.1) for name in asked),
        _stream("outbox.frames", "frames", "{count}", kind=Kind.INT),
        _stream("outbox.bytes", "bytes", "By", kind=Kind.INT),
        _stream("disk.free", "disk", "By", kind=Kind.INT),
        _stream("memory.rss", "memory", "By", kind=Kind.INT),
    ]
    return DeviceSpec(name=DEVICE, manufacturer="weinao", interval_s=interval_s, streams=streams)


def _stream(
    name: str,
    quantity: str,
    unit: str,
    *,
    kind: Kind = Kind.FLOAT,
    resolution: float | None = None,
    deadband: float | None = None,
    alarm: bool = False,
) -> StreamSpec:
    return StreamSpec(
        name=name, quantity=quantity, unit=unit, type=kind, resolution=resolution, deadband=deadband, alarm=alarm
    )


class HealthBus:
    """A PolledBus without a wire. devices: asked at every poll, so it may be the supervisor's own."""

    def __init__(
        self,
        devices: Callable[[], Mapping[str, DeviceHealth]],
        clock: TrustedClock,
        outbox: Callable[[], OutboxFigures],
        system: Callable[[], SystemFigures],
    ) -> None:
        self._devices = devices
        self._clock = clock
        self._outbox = outbox
        self._system = system

    async def open(self) -> None:
        """Nothing to connect."""

    async def close(self) -> None:
        """Nothing to free."""

    async def write(self, scan: Scan, stream: StreamSpec, value: Value) -> None:
        """The gateway's health cannot be written: raises ValueError."""
        raise ValueError(f"{scan.device.name}/{stream.name} cannot be written to {value!r}")

    async def poll(self, scan: Scan) -> Block:
        """How the gateway is now. A device that was never asked, or never answered, is a gap."""
        system = await asyncio.to_thread(self._system)
        figures = self._figures(system)
        block = Block.empty(scan, self._clock.boottime_ns())
        for position, stream in enumerate(scan.streams):
            figure = figures.get(stream.name, Reason.SILENT)
            if isinstance(figure, Reason):
                block.status[position] = gap(figure)
            elif position < scan.n_floats:
                block.floats[position] = figure
            else:
                block.ints[position - scan.n_floats] = np.int64(figure)
        return block

    def _figures(self, system: SystemFigures) -> dict[str, float | Reason]:
        outbox = self._outbox()
        figures: dict[str, float | Reason] = {
            "outbox.frames": outbox.frames,
            "outbox.bytes": outbox.bytes,
            "outbox.age_s": outbox.age_s,
            "disk.free": system.disk_free,
            "memory.rss": system.memory_rss,
            "cpu.percent": system.cpu_percent,
            "clock.offset_s": self._clock.error_s,
            "clock.step": self._clock.take_step_s(),
        }
        for name, health in self._devices().items():
            success, latency_ms = health.success_percent, health.latency_p50_ms
            reason = Reason.SILENT if health.reason is None else health.reason
            figures[f"{name}.success"] = reason if success is None else success
            figures[f"{name}.latency"] = reason if latency_ms is None or health.reason is not None else latency_ms
        return figures


def health_scan(asked: Sequence[str], interval_s: float = 10.0, *, heard: Sequence[str] = ()) -> Scan:
    """The one scan of the device `gateway`."""
    (scan,) = scans_of(health_device(asked, interval_s, heard=heard))
    return scan


def health_scan_of(runs: Sequence[BusRun], interval_s: float) -> Scan:
    """The scan of the device `gateway` that watches these buses' devices."""

    def devices(*, listening: bool) -> list[str]:
        return list(dict.fromkeys(scan.device.name for bus in runs if bus.listening is listening for scan in bus.scans))

    return health_scan(devices(listening=False), interval_s, heard=devices(listening=True))


def outbox_figures(outbox: Outbox, clock: TrustedClock) -> Callable[[], OutboxFigures]:
    """Asks the outbox."""

    def read() -> OutboxFigures:
        stats = outbox.stats()
        return OutboxFigures(stats.frames, stats.bytes, clock.age_s(stats.oldest_time_ns) or 0.0)

    return read

"""What a running gateway shows to Prometheus: every figure that an operator or a benchmark would ask for.

Nothing here is counted while readings flow: at a scrape the parts are asked how they are, on the event loop, and the
page is written in a thread. docs/operator.md explains every metric.
"""

import asyncio
import contextlib
import importlib.metadata
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contract.metrics_config import Metrics
from contract.metrics_http import MetricsServer, serve
from contract.metrics_text import LoopLag, Page
from edge.clock import TrustedClock
from edge.config import GatewayFile
from edge.device import State
from edge.metrics_taps import Taps
from edge.outbox import Outbox, OutboxStats
from edge.packer import Packer
from edge.supervisor import Supervisor
from edge.uplink import Uplink, UplinkStats

PREFIX = "weinao_gateway_"


@dataclass(frozen=True, slots=True)
class _Seen:
    """The parts at one moment; ages in seconds."""

    outbox: OutboxStats
    outbox_age_s: float | None
    uplink: UplinkStats
    now_s: float
    pending_rows: int
    refusals: int
    clock: Mapping[str, float]
    buses: list[dict[str, Any]]
    devices: list[dict[str, Any]]


class GatewayMetrics:
    """Asks the parts of one gateway, and serves what they say."""

    def __init__(
        self,
        file: GatewayFile,
        taps: Taps,
        clock: TrustedClock,
        supervisor: Supervisor,
        packer: Packer,
        outbox: Outbox,
        uplink: Uplink,
    ) -> None:
        self._section = file.metrics or Metrics()
        self._gateway = file.gateway
        self._window_frames = file.publish.window_frames
        self._software = importlib.metadata.version("weinao")
        self._taps = taps
        self._clock = clock
        self._supervisor = supervisor
        self._packer = packer
        self._outbox = outbox
        self._uplink = uplink
        self._lag = LoopLag()
        self._answers: Mapping[int, int] = {}

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[MetricsServer]:
        """Answer scrapes while the context lasts. Raises ConfigError when the section's files cannot be read."""
        async with serve(self._section, self.page) as server:
            self._answers = server.answers
            measuring = asyncio.create_task(self._lag.run(), name="event loop lag")
            try:
                yield server
            finally:
                measuring.cancel()
                await asyncio.gather(measuring, return_exceptions=True)

    async def page(self) -> bytes:
        """Everything as of now, in Prometheus' text format."""
        seen = self._look()
        return await asyncio.to_thread(self._write, seen)

    def _look(self) -> _Seen:
        stats = self._outbox.stats()
        return _Seen(
            outbox=stats,
            outbox_age_s=self._clock.age_s(stats.oldest_time_ns),
            uplink=replace(self._uplink.stats),
            now_s=time.monotonic(),
            pending_rows=self._packer.pending_rows,
            refusals=self._packer.refusals,
            clock={
                "trusted": self._clock.trusted,
                "offset_s": self._clock.error_s,
                "steps": self._clock.steps,
                "era": self._clock.era,
            },
            **self._supervisor.snapshot(),
        )

    def _write(self, seen: _Seen) -> bytes:
        page = Page(PREFIX)
        page.info("1; which gateway this is.", {"gateway": self._gateway.id, **self._gateway.area.model_dump()})
        page.process("gateway", self._software, self._lag, dict(self._answers))
        self._sampling(page, seen)
        _devices(page, seen)
        self._stored(page, seen)
        self._sent(page, seen)
        return page.as_bytes()

    def _sampling(self, page: Page, seen: _Seen) -> None:
        frames = self._taps.frames
        by_device = ("device",)
        page.counter("samples_due", "Samples that were due, by the books.", frames.due(), by_device)
        page.counter("readings", "Readings on disk.", frames.readings(), ("device", "quality"))
        page.counter("doubtful_readings", "Readings that are not good.", frames.doubts(), ("device", "reason"))
        page.counter("gap_samples", "Samples that are not there.", frames.gaps(), ("device", "reason"))
        page.counter("suppressed_samples", "Samples within their deadband.", frames.suppressed(), by_device)
        page.counter(
            "thinned_samples", "Samples given up in memory, for the outbox was full.", frames.thinned(), by_device
        )
        page.gauge("pending_rows", "Scans in memory that are not on disk yet.", seen.pending_rows)
        page.gauge("clock_trusted", "1 when readings are dated.", seen.clock["trusted"])
        page.gauge(
            "clock_offset_seconds", "The system clock less the clock that dates readings.", seen.clock["offset_s"]
        )
        page.counter("clock_steps", "Jumps of the system clock.", seen.clock["steps"])
        page.gauge("clock_era", "How often the clock was ever set back.", seen.clock["era"])

    def _stored(self, page: Page, seen: _Seen) -> None:
        outbox, disk = seen.outbox, self._taps.disk
        page.gauge("outbox_frames", "Frames that the database does not have yet.", outbox.frames)
        page.gauge("outbox_bytes", "Bytes on disk.", outbox.bytes)
        page.gauge("outbox_limit_bytes", "Bytes that the outbox may take.", outbox.max_bytes)
        page.gauge("outbox_oldest_age_seconds", "Age of the oldest frame; absent without one.", seen.outbox_age_s)
        page.gauge("outbox_full", "1 while room is made by thinning.", outbox.full)
        page.counter("outbox_appended_frames", "Frames made durable.", outbox.appended)
        page.counter("outbox_appended_bytes", "Bytes of those frames.", self._taps.frames.bytes)
        page.counter("outbox_committed_frames", "Frames that the database has.", outbox.committed)
        page.counter("outbox_refusals", "Frames that found no room, and waited in memory.", seen.refusals)
        page.counter("outbox_thinned_readings", "Readings given up for the byte budget.", outbox.thinned_readings)
        page.gauge("outbox_dead_letters", "Frames kept here that the cloud will never take.", outbox.dead_letters)
        page.counter("outbox_dropped_dead_letters", "Dead letters that had to go.", outbox.dropped_dead_letters)
        page.counter("outbox_torn_bytes", "Bytes cut off when the outbox was opened.", outbox.torn_bytes)
        page.counter("outbox_corrupt_records", "Frames damaged on disk.", outbox.corrupt_records)
        page.counter("outbox_ignored_acks", "Acknowledgements that freed nothing.", outbox.ignored_acks)
        page.counter("outbox_written_bytes", "Bytes written to the outbox's files.", disk.written_bytes)
        page.histogram("outbox_sync_seconds", "Syncs of the outbox's files: how long each took.", disk.syncs)
        page.gauge("disk_free_bytes", "Free space of the outbox's disk.", self._taps.free_bytes())

    def _sent(self, page: Page, seen: _Seen) -> None:
        uplink = seen.uplink
        last_ack_s = None if uplink.last_ack_s is None else seen.now_s - uplink.last_ack_s
        page.gauge("uplink_connected", "1 while there is a connection to the broker.", uplink.connected)
        page.gauge("uplink_state_age_seconds", "Since when it is so.", seen.now_s - uplink.since_s)
        page.counter("uplink_connections", "Connections made.", uplink.connections)
        page.counter("uplink_failures", "Connections lost or not made.", uplink.failures)
        page.counter("uplink_sent_frames", "Frames sent, repeats included.", uplink.frames_sent)
        page.counter("uplink_sent_bytes", "Bytes of those frames.", uplink.bytes_sent)
        page.counter("uplink_retransmitted_frames", "Frames given back to be sent again.", uplink.retransmitted)
        page.counter("uplink_acknowledged_frames", "Frames that an acknowledgement freed.", uplink.acknowledged)
        page.counter("uplink_rejected_frames", "Frames that the cloud will never take.", uplink.rejected)
        page.counter("uplink_bad_acks", "Acknowledgements that were not understood.", uplink.bad_acks)
        page.gauge("uplink_last_ack_age_seconds", "Since the last acknowledgement; absent before it.", last_ack_s)
        page.gauge("uplink_in_flight_frames", "Frames sent and not acknowledged yet.", seen.outbox.leased)
        page.gauge("uplink_window_frames", "Frames that may be in flight.", self._window_frames)


def _devices(page: Page, seen: _Seen) -> None:
    buses: dict[tuple[str, ...], dict[str, Any]] = {(bus["name"],): bus for bus in seen.buses}
    devices: dict[tuple[str, ...], dict[str, Any]] = {(one["name"], one["bus"]): one for one in seen.devices}
    labels = ("device", "bus")

    def figure(key: str, scale: float = 1.0) -> dict[tuple[str, ...], float]:
        return {where: one[key] * scale for where, one in devices.items() if one[key] is not None}

    page.gauge("bus_open", "1 while the connection is.", {name: bus["open"] for name, bus in buses.items()}, ("bus",))
    failures = {name: bus["consecutive_failures"] for name, bus in buses.items()}
    page.gauge("bus_consecutive_failures", "Failures since the bus worked.", failures, ("bus",))
    up = {where: one["state"] == State.GOOD for where, one in devices.items()}
    page.gauge("device_up", "1 while it answers, or speaks.", up, labels)
    page.gauge("device_last_good_age_seconds", "Since it last answered; absent before.", figure("last_good_s"), labels)
    page.gauge("device_success_ratio", "Of its last 64 due samples.", figure("success_percent", 0.01), labels)
    page.gauge("device_latency_median_seconds", "Of its last 64 answers.", figure("latency_p50_ms", 0.001), labels)
    page.gauge("device_latency_max_seconds", "Of its last 64 answers.", figure("latency_max_ms", 0.001), labels)
    page.gauge("device_consecutive_failures", "Failures since it answered.", figure("consecutive_failures"), labels)

"""What a running collector shows to Prometheus: every figure that an operator or a benchmark would ask for.

Counts that the parts keep anyway are read at a scrape; what they do not keep, the taps do, a batch at a time.
docs/operator.md explains every metric.
"""

import asyncio
import contextlib
import importlib.metadata
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from cloud import metrics_ledger
from cloud.collector import Collector, Counts
from cloud.config import CloudConfig
from cloud.intake import Intake, IntakeCounts
from cloud.metrics_ledger import LedgerSums, LedgerWatch
from cloud.metrics_taps import CountedQuarantine, TimedSource, TimedStore
from contract.metrics_config import Metrics
from contract.metrics_http import MetricsServer, serve
from contract.metrics_text import LoopLag, Page

PREFIX = "weinao_collector_"
LEDGER_PREFIX = "weinao_ledger_"


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps of one collector, as they are wired in."""

    source: TimedSource
    store: TimedStore
    quarantine: CountedQuarantine


@dataclass(frozen=True, slots=True)
class _Seen:
    """The parts at one moment."""

    intake: IntakeCounts
    subscribed: bool
    waiting: int
    counts: Counts
    sums: LedgerSums | None


class CollectorMetrics:
    """Asks the parts of one collector, and serves what they say."""

    def __init__(self, config: CloudConfig, taps: Taps, intake: Intake, collector: Collector) -> None:
        self._section = config.metrics or Metrics()
        self._settings = config.collector
        self._store_kind = config.store.kind
        self._software = importlib.metadata.version("weinao")
        self._taps = taps
        self._intake = intake
        self._collector = collector
        self._ledger = LedgerWatch(config.data.ledger)
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
                await asyncio.gather(measuring, self._ledger.close(), return_exceptions=True)

    async def page(self) -> bytes:
        """Everything as of now, but for the ledger's sums, which tell their age. Prometheus' text format."""
        sums = await self._ledger.sums()
        intake, counts = replace(self._intake.counts), replace(self._collector.counts)
        seen = _Seen(intake, self._intake.subscribed.is_set(), self._intake.waiting, counts, sums)
        return await asyncio.to_thread(self._write, seen)

    def _write(self, seen: _Seen) -> bytes:
        page = Page(PREFIX)
        page.info("1; which collector this is.", {"collector": self._settings.name, "store": self._store_kind})
        page.process("collector", self._software, self._lag, dict(self._answers))
        self._came(page, seen)
        self._dealt_with(page, seen.counts)
        ledger = Page(LEDGER_PREFIX)
        metrics_ledger.write(ledger, seen.sums, now_s=time.monotonic(), failures=self._ledger.failures)
        return page.as_bytes() + ledger.as_bytes()

    def _came(self, page: Page, seen: _Seen) -> None:
        intake = seen.intake
        page.gauge("mqtt_connected", "1 while it is subscribed at the broker.", seen.subscribed)
        page.counter("mqtt_connections", "Connections made.", intake.connections)
        page.counter("received_messages", "Messages taken from the broker.", intake.received)
        page.counter("received_bytes", "Bytes of those messages.", intake.received_bytes)
        page.counter("withheld_messages", "Messages left with the broker, for the queue was full.", intake.withheld)
        page.counter("dropped_acks", "Acknowledgements that could not be sent.", intake.acks_dropped)
        page.gauge("queue_messages", "Messages that wait in memory.", seen.waiting)
        page.gauge("queue_limit_messages", "Messages that may wait.", self._settings.queue_frames)

    def _dealt_with(self, page: Page, counts: Counts) -> None:
        store, quarantine, source = self._taps.store, self._taps.quarantine, self._taps.source
        page.counter("batches", "Batches dealt with.", counts.batches)
        page.histogram("batch_seconds", "From taking a batch until it is acknowledged.", source.seconds)
        page.counter("stored_frames", "New frames stored.", counts.frames)
        page.counter("stored_readings", "Readings stored: points.", counts.readings)
        page.counter("duplicate_frames", "Frames that were known already.", counts.duplicates)
        page.counter("rejected_frames", "Frames refused for ever.", counts.rejected)
        page.counter("unknown_epochs", "Frames whose catalogue was asked for, by batch.", counts.unknown_epochs)
        page.counter("births", "Catalogues taken.", counts.births)
        page.gauge("store_available", "0 while the store, or our own disk, does not take.", counts.trouble is None)
        page.counter("store_writes", "Writes to the store, by what came of them.", dict(store.outcomes), ("outcome",))
        page.histogram("store_write_seconds", "Writes to the store: how long each took.", store.seconds)
        entries, readings = dict(quarantine.entries_by_reason), dict(quarantine.readings_by_reason)
        page.counter("quarantined_entries", "What was put aside by this process.", entries, ("reason",))
        page.counter("quarantined_readings", "Readings in it, where their number is known.", readings, ("reason",))
        totals = quarantine.totals()
        page.gauge("quarantine_entries", "Entries in the quarantine's file.", totals.entries)
        page.gauge("quarantine_bytes", "Bytes in the quarantine's file.", totals.bytes)
        page.counter("quarantine_dropped_entries", "Entries that ever had to go for new ones.", totals.dropped_entries)

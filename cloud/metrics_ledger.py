"""The ledger's sums for metrics: looked up beside the collector's own hand on the file, for a share of the time.

A ledger of thousands of gateways takes seconds to sum up. So it is read through a connection of its own, a gateway at
a time, in a thread, and rests twenty times as long as it took: a scrape in between gets the sums of the last look, and
their age.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cloud.ledger_read import each_gateway
from cloud.ledger_report import GatewayRow, LedgerReport
from contract.metrics_text import Page

# Of the time, at most.
DUTY = 0.05
# A scrape waits so long for a look that is quick, and takes the last one otherwise.
PATIENCE_S = 1.0
# Gateways told one by one; each is three series. The first by name; how many are left out is told.
MAX_GATEWAYS = 2000
_FRAMES = ("frames", "frames_in_flight", "frames_lost", "frames_rejected", "frames_skipped")


@dataclass(slots=True)
class LedgerSums:
    """The whole ledger in numbers. explained: samples by (kind, reason). unexplained: samples by gateway."""

    totals: Counter[str] = field(default_factory=Counter)
    explained: Counter[tuple[str, str]] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=lambda: Counter(online=0, offline=0, unheard=0))
    gateways: list[GatewayRow] = field(default_factory=list)
    unexplained: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    closes: bool = True
    took_s: float = 0.0
    at_s: float = 0.0

    def add(self, report: LedgerReport) -> None:
        """One gateway more."""
        self.totals.update(report.totals)
        self.closes = self.closes and report.closes
        for row in report.rows:
            self.explained["suppressed", "deadband"] += row.suppressed
            self.explained["thinned", "disk_budget"] += row.thinned
            self.explained.update({("gap", reason): count for reason, count in row.gaps.items()})
            self.explained.update({("quarantined", reason): count for reason, count in row.quarantined.items()})
        for one in report.gateways:
            self.states[{True: "online", False: "offline", None: "unheard"}[one.online]] += 1
            if len(self.gateways) < MAX_GATEWAYS:
                self.gateways.append(one)
                self.unexplained[one.gateway] = report.totals["unexplained"]
            else:
                self.left_out += 1


class LedgerWatch:
    """Looks at the ledger's file when asked and rested."""

    def __init__(self, file: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        self.failures = 0
        self._file = file
        self._now_s = now_s
        self._rests_until_s = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._sums: LedgerSums | None = None
        self._stop = threading.Event()

    async def sums(self) -> LedgerSums | None:
        """The latest, at most `PATIENCE_S` in coming; None before the first look is done."""
        if self._looking is None and self._now_s() >= self._rests_until_s:
            self._looking = asyncio.create_task(self._look(), name="ledger look")
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=PATIENCE_S)
        return self._sums

    async def close(self) -> None:
        """Give up a look that is under way."""
        self._stop.set()
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        began_s = self._now_s()
        try:
            sums = await asyncio.to_thread(self._sum_up)
        except (FileNotFoundError, ValueError):
            self.failures += 1
        else:
            sums.at_s = self._now_s()
            sums.took_s = sums.at_s - began_s
            self._sums = sums
        finally:
            now_s = self._now_s()
            self._rests_until_s = now_s + (now_s - began_s) / DUTY
            self._looking = None

    def _sum_up(self) -> LedgerSums:
        sums = LedgerSums()
        for report in each_gateway(self._file):
            if self._stop.is_set():
                break
            sums.add(report)
        return sums


def write(page: Page, sums: LedgerSums | None, *, now_s: float, failures: int) -> None:
    """The ledger's families; empty before the first look."""
    known = sums or LedgerSums()

    def figure(value: float) -> float | None:
        return None if sums is None else value

    page.gauge("expected_samples", "Samples that were due.", figure(known.totals["expected"]))
    page.gauge("stored_samples", "Samples that the database confirmed.", figure(known.totals["stored"]))
    page.gauge("explained_samples", "Samples not stored, and why.", dict(known.explained), ("kind", "reason"))
    page.gauge("in_flight_samples", "Samples of frames that may still come.", figure(known.totals["in_flight"]))
    page.gauge("unexplained_samples", "Samples that nothing accounts for.", figure(known.totals["unexplained"]))
    page.gauge("closed", "1 when everything came and is explained.", figure(known.closes))
    page.gauge("streams", "Streams known.", figure(known.totals["streams"]))
    for name in _FRAMES:
        fate = name.removeprefix("frames").removeprefix("_") or "received"
        page.gauge(f"{fate}_frames", f"Frames {fate.replace('_', ' ')}.", figure(known.totals[name]))
    page.gauge("gateways", "Gateways, by what they last said.", known.states if sums else None, ("state",))
    rows, label = known.gateways, ("gateway",)
    online = {one.gateway: one.online for one in rows if one.online is not None}
    page.gauge("gateway_online", "1 while its last word is that it is.", online, label)
    in_flight = {one.gateway: one.frames_in_flight for one in rows}
    page.gauge("gateway_in_flight_frames", "Its frames that may still come.", in_flight, label)
    page.gauge("gateway_unexplained_samples", "Its samples that nothing accounts for.", known.unexplained, label)
    page.gauge("unlisted_gateways", "Gateways beyond those told one by one.", figure(known.left_out))
    page.gauge("look_age_seconds", "Since these sums were made.", figure(now_s - known.at_s))
    page.gauge("look_seconds", "How long summing up took.", figure(known.took_s))
    page.counter("look_failures", "Looks at the ledger's file that failed.", failures)

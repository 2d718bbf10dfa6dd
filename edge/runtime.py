"""Runs the wired gateway: everything at once, and the end in two phases.

Phase one: the buses finish what they are reading, the last frame goes to disk. Then the uplink has a few seconds to
see it acknowledged, which is a courtesy: what is not acknowledged is on disk and goes with the next start.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import local_socket
from contract.errors import ConfigError, Fatal
from edge.clock import Clock, TrustedClock
from edge.config import GatewayConfig, GatewayFile
from edge.dating import Datings
from edge.eyes import Eyes
from edge.outbox import Outbox
from edge.packer import Packer
from edge.page_config import Page
from edge.status import Status
from edge.streams import Entry
from edge.supervisor import Supervisor
from edge.tasks import pause, run_together
from edge.uplink import Uplink

if TYPE_CHECKING:  # loaded only by a gateway that shows metrics
    from edge.metrics import GatewayMetrics
    from edge.metrics_taps import Taps
    from edge.page.server import PageServer  # ... by one that shows the technician's page

log = logging.getLogger(__name__)

DRAIN_S = 5.0


@dataclass(frozen=True)
class Parts:
    """The parts of one gateway, wired to each other. taps: what metrics are counted with, when they are wanted."""

    config: GatewayConfig
    machine: Clock
    clock: TrustedClock
    datings: Datings
    supervisor: Supervisor
    packer: Packer
    outbox: Outbox
    uplink: Uplink
    status: Status
    eyes: Eyes
    taps: "Taps | None"
    epoch: int


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Sample, keep and send until `stopping`. Raises Fatal when the disk fails."""
    try:
        await _run(parts, stopping)
    except BaseExceptionGroup as group:
        fatal: BaseException = group.subgroup(Fatal) or group
        while isinstance(fatal, BaseExceptionGroup) and fatal is not group:
            fatal = fatal.exceptions[0]
        raise fatal from None


async def _run(parts: Parts, stopping: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(parts.outbox.close)
        await stack.enter_async_context(
            local_socket.serve(parts.config.status_socket, _handlers(parts.status, parts.eyes))
        )
        if parts.taps is not None:
            parts.status.metrics = await stack.enter_async_context(_metrics(parts, parts.taps).serve())
        if parts.config.file.page is not None:
            parts.status.page = await stack.enter_async_context(_page(parts, parts.config.file.page))
        parts.clock.check()
        sending = asyncio.create_task(parts.uplink.run(), name="uplink")
        try:
            await _sample(parts, stopping, sending)
            await parts.packer.flush()
            await _drain(parts)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def taps_of(file: GatewayFile, entries: Sequence[Entry]) -> "Taps | None":
    """What counts for metrics; None when nobody wants them."""
    if file.metrics is None:
        return None
    from edge.metrics_taps import FrameTally, Taps

    return Taps(FrameTally([entry.device for entry in entries]), file.outbox.directory)


def _metrics(parts: Parts, taps: "Taps") -> "GatewayMetrics":
    from edge.metrics import GatewayMetrics

    return GatewayMetrics(
        parts.config.file, taps, parts.clock, parts.supervisor, parts.packer, parts.outbox, parts.uplink
    )


def _page(parts: Parts, settings: Page) -> AbstractAsyncContextManager["PageServer"]:
    try:
        from edge.page import server, site
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"edge", "contract", "drivers"}:
            raise  # a broken installation, not a missing extra
        raise ConfigError([f"page: the package {error.name!r} is missing; run: pip install 'weinao[page]'"]) from None
    shown = site.Site(parts.config, parts.status, parts.supervisor, parts.machine, parts.epoch)
    return server.serve(settings, shown)


def _handlers(status: Status, eyes: Eyes) -> Mapping[str, local_socket.Handler]:
    return {"status": status.status, "outbox": status.outbox, "confirm": eyes.confirm}


async def _sample(parts: Parts, stopping: asyncio.Event, sending: asyncio.Task[None]) -> None:
    """Until `stopping`, or until the uplink fails, which it never should: half a gateway must not look alive."""
    sending.add_done_callback(lambda _: stopping.set())
    jobs = {
        "supervisor": parts.supervisor.run(stopping),
        "packer": parts.packer.run(stopping),
        "clock": parts.clock.run(stopping),
        "dating": _settle(parts, stopping),
    }
    # The supervisor has a grace period of its own; the others follow it.
    await run_together(jobs, stopping, parts.machine, grace_s=10.0)
    if sending.done():
        await sending


async def _settle(parts: Parts, stopping: asyncio.Event) -> None:
    """Once the clock is trusted, decide how the undated frames of this machine's start are dated."""
    complained = False
    while not stopping.is_set():
        offset_ns = parts.clock.offset_ns
        if offset_ns is not None:
            try:
                parts.datings.settle(offset_ns)
            except OSError as error:
                if not complained:
                    log.warning("undated frames wait: how they are dated cannot be kept on disk: %s", error)
                complained = True
            else:
                return
        await pause(parts.machine, 0.2, stopping)


async def _drain(parts: Parts) -> None:
    """Wait a little for the last acknowledgements."""
    deadline_ns = parts.machine.boottime_ns() + round(DRAIN_S * 1e9)
    while parts.uplink.stats.connected and parts.outbox.stats().frames:
        if parts.machine.boottime_ns() > deadline_ns:
            break
        await parts.machine.sleep(0.05)
    left = parts.outbox.stats().frames
    log.info("stopped; %d frames wait on disk for the next start", left)

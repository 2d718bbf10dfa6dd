"""What the hub counts of itself: for `weinao-cloud status`, and for Prometheus.

Every place where an event, a message or a point can be left out has its number here. docs/operator.md explains each.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cloud.hub.alerts import Alerts
from cloud.hub.catalogue import Catalogue
from cloud.hub.feed import Feed
from cloud.hub.link import HubLink
from cloud.hub.live import Live
from cloud.hub.republish import Republisher
from cloud.hub.retention import Retainer
from cloud.purge import PendingPurges
from contract.errors import StoreUnavailable
from contract.metrics_config import Metrics
from contract.metrics_http import MetricsServer, serve
from contract.metrics_text import LoopLag, Page

PREFIX = "weinao_hub_"


@dataclass(slots=True)
class Figures:
    """Looks at the parts of one running hub; changes nothing."""

    catalogue: Catalogue
    feed: Feed
    live: Live
    link: HubLink
    republisher: Republisher | None
    retainer: Retainer
    alerts: Alerts
    purges: PendingPurges
    began_s: float = field(default_factory=time.monotonic)

    def told(self) -> dict[str, Any]:
        """Everything, for people and programs. Blocking: the database is asked how many alert messages wait."""
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self.began_s, 1),
            "streams": len(self.catalogue.all()),
            "births_refused": len(self.catalogue.refusals),
            "feed": {"ready": self.feed.ready.is_set(), **asdict(self.feed.counts)},
            "live": {"clients": self.live.clients, "dropped": self.live.dropped},
            "broker": {"connected": self.link.connected.is_set(), "connections": self.link.connections}
            | {"refused": self.link.refused},
            "republication": None
            if self.republisher is None
            else {"published": self.republisher.published, "skipped": self.republisher.skipped},
            "retention": asdict(self.retainer.counts),
            "alerts": {"unposted": self.alerts.unposted, "channels": self._channels()},
            "purges": {"bad_replies": self.purges.bad_replies},
        }

    def _channels(self) -> list[dict[str, Any]]:
        try:
            return self.alerts.deliverer.told()
        except StoreUnavailable:  # how many wait is not known then; the rest is
            return [{"channel": name, **asdict(one)} for name, one in self.alerts.deliverer.counts.items()]


@dataclass(slots=True)
class HubMetrics:
    """Serves the figures to Prometheus. `section` None: to nobody."""

    section: Metrics | None
    figures: Figures
    lag: LoopLag = field(default_factory=LoopLag)
    answers: Mapping[int, int] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[MetricsServer | None]:
        """Answer scrapes while the context lasts. Raises ConfigError when the section's files cannot be read."""
        if self.section is None:
            yield None
            return
        async with serve(self.section, self.page) as server:
            self.answers = server.answers
            measuring = asyncio.create_task(self.lag.run(), name="hub event loop lag")
            try:
                yield server
            finally:
                measuring.cancel()
                await asyncio.gather(measuring, return_exceptions=True)

    async def page(self) -> bytes:
        """Everything as of now, in Prometheus' text format."""
        return write(await asyncio.to_thread(self.figures.told), self.lag, dict(self.answers))


def write(told: Mapping[str, Any], lag: LoopLag, answers: Mapping[int, int]) -> bytes:
    """The page of what `Figures.told` says."""
    page = Page(PREFIX)
    page.process("hub", importlib.metadata.version("weinao"), lag, answers)
    feed, live, broker = told["feed"], told["live"], told["broker"]
    page.gauge("streams", "Streams in the catalogue, those that left included.", told["streams"])
    page.gauge("births_refused", "Gateways whose birth the catalogue does not take.", told["births_refused"])
    page.gauge("feed_ready", "1 when it is known what came before this process.", feed["ready"])
    page.counter("frames", "Frames followed.", feed["frames"])
    page.counter("readings", "Readings in them.", feed["readings"])
    page.counter("repeated_frames", "Frames that had passed already.", feed["twice"])
    page.counter("unreadable_frames", "Frames that could not be read.", feed["unreadable"])
    page.counter("unknown_epochs", "Frames whose birth was not known when they passed.", feed["unknown_epochs"])
    page.counter("lost_frames", "Frames that the collector could not hand over; the store has them.", feed["lost"])
    page.gauge("live_clients", "Clients that follow readings as they come.", live["clients"])
    page.counter("dropped_live_clients", "Clients that were too slow, and were told so.", live["dropped"])
    page.gauge("mqtt_connected", "1 while there is a connection to the broker.", broker["connected"])
    page.counter("mqtt_connections", "Connections made.", broker["connections"])
    page.counter("mqtt_refused_messages", "Messages that found no room on their way to the broker.", broker["refused"])
    republication = told["republication"]
    page.counter("republished", "Readings republished.", None if republication is None else republication["published"])
    page.counter(
        "republication_skipped",
        "Readings that a newer one overtook before they were republished.",
        None if republication is None else republication["skipped"],
    )
    retention = told["retention"]
    page.counter("retention_passes", "Passes over the whole catalogue.", retention["passes"])
    page.counter("retention_points", "Points deleted, for their class's time was over.", retention["points"])
    page.gauge("retention_unknown_class", "Streams whose retention class nobody defined.", retention["unknown"])
    page.counter("purge_bad_replies", "Answers to purges that were not understood.", told["purges"]["bad_replies"])
    _write_alerts(page, told["alerts"])
    return page.as_bytes()


def _write_alerts(page: Page, told: Mapping[str, Any]) -> None:
    def by_channel(key: str) -> dict[str, float]:
        return {one["channel"]: one[key] for one in told["channels"]}

    of = ("channel",)
    page.counter("alert_messages_sent", "Alert messages delivered.", by_channel("sent"), of)
    page.counter("alert_messages_failed", "Attempts that failed; they are tried again.", by_channel("failed"), of)
    page.counter("alert_messages_dropped", "Alert messages given up.", by_channel("dropped"), of)
    page.gauge("alert_messages_waiting", "Alert messages that wait.", by_channel("waiting"), of)
    page.counter("alert_messages_displaced", "Alert messages that had to go for newer ones.", told["unposted"])

"""The hub put together: its parts, their tasks, and the web server, inside whatever process it is part of."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from cloud.births_read import BirthsReader
from cloud.commands_purge import purge_handler
from cloud.commands_state import state_of
from cloud.config import CloudConfig
from cloud.console import api_devices
from cloud.console.sessions import Sessions
from cloud.console.watch import Watch
from cloud.hub import api_alerts, api_catalogue, api_history, api_ledger, api_live, api_quality, api_tokens
from cloud.hub.alert_store import AlertStore
from cloud.hub.alerts import Alerts
from cloud.hub.app import create_app
from cloud.hub.audit import Audit
from cloud.hub.catalogue import Catalogue
from cloud.hub.config import HubConfig
from cloud.hub.database import Database
from cloud.hub.deliver import Deliverer
from cloud.hub.feed import Feed
from cloud.hub.figures import Figures, HubMetrics
from cloud.hub.link import HubLink
from cloud.hub.live import Live
from cloud.hub.parts import Gate, Hub
from cloud.hub.passing import Decoder
from cloud.hub.quality import Quality
from cloud.hub.republish import Republisher
from cloud.hub.retention import Retainer
from cloud.hub.sensorthings import router as sensorthings
from cloud.hub.tokens import TokenBook
from cloud.purge import PendingPurges, Purger
from cloud.quarantine_purge import FilesPurge, Scope
from cloud.stores.base import Store
from cloud.tail import TailReader
from contract import local_socket
from contract.errors import ConfigError, Fatal, StoreUnavailable
from contract.topics import GatewayPath

log = logging.getLogger(__name__)

ROUTERS = (
    api_catalogue.router,
    api_live.router,
    api_history.router,
    api_ledger.router,
    api_quality.router,
    api_alerts.router,
    sensorthings.router,
    api_tokens.router,
    api_devices.router,
)
ANCHOR_S = 60.0
GRACE_S = 3
FRESH_S = 1.0
AGAIN_S = 5.0


@dataclass(slots=True)
class Parts:
    """Everything that must be closed or run."""

    database: Database
    births: BirthsReader
    tail: TailReader
    catalogue: Catalogue
    feed: Feed
    tokens: TokenBook
    audit: Audit
    hub: Hub
    quality: Quality
    alerts: Alerts
    link: HubLink
    republisher: Republisher | None
    retainer: Retainer
    purger: Purger
    purges: PendingPurges
    figures: Figures
    watch: Watch
    sessions: Sessions

    def close(self) -> None:
        """Release files and connections."""
        self.births.close()
        self.tail.close()
        self.database.close()


class _Server(uvicorn.Server):
    """The process has its own way to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are not the server's business."""
        yield


async def make(config: CloudConfig, store: Store) -> Parts:
    """The parts, with what the database remembers. Raises ConfigError, StoreUnavailable."""
    assert config.hub is not None  # noqa: S101 - who calls has looked
    settings = config.hub
    database = await asyncio.to_thread(state_of, config)
    births, tail = BirthsReader(config.data.births), TailReader(config.data.tail)
    catalogue = Catalogue(database, births)
    decoder = Decoder(births, catalogue)
    feed = Feed(tail, decoder, catalogue)
    tokens, audit = TokenBook(database), Audit(database)
    watch = Watch(catalogue, feed, config.data.ledger)
    feed.listeners.append(watch)
    live = Live(
        feed,
        tail,
        decoder,
        catalogue,
        max_clients=settings.live.max_clients,
        queue_events=settings.live.queue_events,
        may_go_on=tokens.still_good,
    )
    queries = Gate(settings.history.running, settings.history.waiting)
    sessions = Sessions(database, tokens)
    hub = Hub(catalogue, feed, live, store, audit, tokens, config.data.ledger, queries, sessions=sessions)
    link = HubLink(config.mqtt, f"{config.collector.name}-hub")
    quality = Quality(database, catalogue, config.data.ledger, settings.quality)
    feed.listeners.append(quality.observer)
    alert_store = AlertStore(database, queue=settings.alerts.queue)
    deliverer = Deliverer(settings.alerts, alert_store, publish=link.deliver)
    files = FilesPurge(config.data.quarantine, config.data.tail, births)
    republisher = _republisher(settings, catalogue, feed, link)
    purger = Purger(store, files, database, audit, forget=_forgetting(feed, republisher))
    purges = PendingPurges(purger, link.publish)
    link.heard.append(purges.heard)
    retainer = Retainer(settings.retention, catalogue, store, audit, database)
    alerts = Alerts(settings.alerts, alert_store, quality, feed, deliverer)
    await catalogue.load()
    figures = Figures(catalogue, feed, live, link, republisher, retainer, alerts, purges)
    return Parts(
        database, births, tail, catalogue, feed, tokens, audit, hub, quality, alerts, link, republisher, retainer,
        purger, purges, figures, watch, sessions,
    )  # fmt: skip


def _republisher(settings: HubConfig, catalogue: Catalogue, feed: Feed, link: HubLink) -> Republisher | None:
    if not settings.republish.enabled:
        return None
    shared = settings.republish.shared
    made = Republisher(catalogue, feed, link.publish_retained, lambda: link.connections, shared=shared)
    feed.listeners.append(made)
    return made


def _forgetting(feed: Feed, republisher: Republisher | None) -> Callable[[Scope], None]:
    def forget(scope: Scope) -> None:
        numbers = list(chain(*scope.numbers.values()))
        feed.forget(numbers)
        if republisher is not None:
            republisher.forget(numbers)

    return forget


@contextlib.asynccontextmanager
async def serving(config: CloudConfig, store: Store) -> AsyncIterator["asyncio.Task[None]"]:
    """The hub while the block runs, listening; the task ends only when something failed.

    On its local socket it answers `status` and `purge`.
    """
    assert config.hub is not None  # noqa: S101 - who calls has looked
    listening = _listen(config.hub)
    parts = await make(config, store)
    server = _server(config.hub, parts)
    running = asyncio.create_task(_run(parts, store, server, listening), name="hub")
    try:
        shown = config.hub.host if ":" not in config.hub.host else f"[{config.hub.host}]"
        log.info("the hub: %s://%s:%d", "https" if config.hub.tls else "http", shown, listening.getsockname()[1])
        handlers: dict[str, local_socket.Handler] = {
            "status": lambda _: asyncio.to_thread(parts.figures.told),
            "purge": purge_handler(parts.purger, parts.catalogue.all),
        }
        metrics = HubMetrics(config.hub.metrics, parts.figures)
        async with metrics.serving(), local_socket.serve(config.hub_socket, handlers):
            yield running
    finally:
        server.should_exit = True
        await asyncio.wait({running}, timeout=GRACE_S + 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        parts.close()
        listening.close()


async def _run(parts: Parts, store: Store, server: uvicorn.Server, listening: socket.socket) -> None:
    """All tasks of the hub; ends when the server does. Raises what any of them raises."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(parts.catalogue.watch(), name="hub catalogue"),
            group.create_task(_feeding(parts, store), name="hub feed"),
            group.create_task(_keep_tokens_fresh(parts.tokens), name="hub tokens"),
            group.create_task(_judging(parts), name="hub quality and alerts"),
            group.create_task(parts.link.run(), name="hub link"),
            group.create_task(_anchoring(parts), name="hub anchors"),
            group.create_task(parts.retainer.run(), name="hub retention"),
            group.create_task(parts.purges.run(), name="hub purges"),
            group.create_task(parts.watch.run(parts.feed.ready), name="hub watch"),
        ]
        if parts.republisher is not None:
            tasks.append(group.create_task(parts.republisher.run(), name="hub republication"))
        await server.serve([listening])
        for task in tasks:
            task.cancel()


async def _feeding(parts: Parts, store: Store) -> None:
    with contextlib.suppress(StoreUnavailable):  # the catalogue's own task says so, and tries again
        await parts.catalogue.refresh()
    await parts.feed.load(store)
    await parts.feed.run()


async def _judging(parts: Parts) -> None:
    """Figures and alerts, once it is known what came before."""
    await parts.feed.ready.wait()
    while True:
        try:
            await asyncio.to_thread(parts.quality.recall, parts.feed)
            break
        except StoreUnavailable as error:
            log.warning("the figures of before are not known yet: %s; trying again", error)
            await asyncio.sleep(AGAIN_S)
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.quality.run(), name="hub quality")
        group.create_task(parts.alerts.run(), name="hub alerts")
        group.create_task(_watch_births(parts), name="hub refused births")


async def _watch_births(parts: Parts) -> None:
    """A birth that the catalogue does not take is an alert's business."""
    told: set[GatewayPath] = set()
    while True:
        refused = {path: refusal.why for path, refusal in parts.catalogue.refusals.items()}
        for path, why in refused.items():
            parts.alerts.birth_refused(path, why)
        for path in told - refused.keys():
            parts.alerts.birth_taken(path)
        told = set(refused)
        await asyncio.sleep(FRESH_S)


async def _anchoring(parts: Parts) -> None:
    """The audit's head, retained at the broker, from time to time."""
    while True:
        with contextlib.suppress(StoreUnavailable):  # whoever wants a line written is told
            await parts.audit.anchor_every(parts.link.publish_retained, ANCHOR_S)
        await asyncio.sleep(AGAIN_S)


async def _keep_tokens_fresh(tokens: TokenBook) -> None:
    """Connections that go on ask what is in memory."""
    while True:
        with contextlib.suppress(StoreUnavailable):  # who asks for something is told
            await tokens.refresh()
        await asyncio.sleep(FRESH_S)


def _server(config: HubConfig, parts: Parts) -> uvicorn.Server:
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # not a line for each page that somebody opens
    app = create_app(parts.hub, ROUTERS, version=_version())
    app.state.quality, app.state.alerts, app.state.watch = parts.quality, parts.alerts, parts.watch
    settings = uvicorn.Config(
        _with_console(app, parts) if config.console.enabled else app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on" if config.console.enabled else "off",
        http="h11",  # its bound below; httptools has none
        root_path=config.root_path,
        timeout_graceful_shutdown=GRACE_S,
        ws_max_size=64 * 1024,
        h11_max_incomplete_event_size=64 * 1024,
        ssl_certfile=config.tls.certificate if config.tls else None,
        ssl_keyfile=str(config.tls.key) if config.tls else None,
    )
    try:
        settings.load()
    except OSError as error:
        raise ConfigError([f"hub.tls: {error}"]) from None
    return _Server(settings)


def _with_console(app: FastAPI, parts: Parts) -> ASGIApp:
    from cloud.console.app import beside
    from cloud.console.visit import Console

    return beside(app, Console(parts.hub, parts.watch, parts.quality, parts.alerts, parts.sessions, parts.tokens))


def _listen(config: HubConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the socket says TCP: else each answer waits 40 ms for an ACK.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((config.host, config.port))
    except OSError as error:
        made.close()
        raise Fatal(f"the hub cannot listen at {config.host}:{config.port}: {error.strerror}") from None
    made.listen(1024)
    return made


def _version() -> str:
    try:
        return version("weinao")
    except PackageNotFoundError:
        return "0"

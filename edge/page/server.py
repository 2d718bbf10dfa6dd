"""The page's server, on the event loop beside sampling: uvicorn without its signals, its log and its clock tick.

An address that is not there yet (the hotspot comes up later) is no reason to stop sampling: it is tried again.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from edge.page.guard import MAX_CONNECTIONS, Guard, Protocol
from edge.page.routes import make_app
from edge.page.site import Site
from edge.page_config import Page

log = logging.getLogger(__name__)

RETRY_S = 10.0
GRACE_S = 2.0
KEEP_ALIVE_S = 15
MAX_HEAD_BYTES = 16 * 1024


class _Server(uvicorn.Server):
    """Runs until `stop`: the process has its own way to end, and a gateway need not wake ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._over = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are not the server's business."""
        yield

    async def main_loop(self) -> None:
        """uvicorn's, without a tick."""
        self.server_state.default_headers = self.config.encoded_headers
        await self._over.wait()

    def stop(self) -> None:
        """End; who is being answered has a moment."""
        self.should_exit = True
        self._over.set()


class PageServer:
    """One listening address. Made by `serve`."""

    def __init__(self, settings: Page, config: uvicorn.Config) -> None:
        self.port: int | None = None
        self.problem = ""
        self._settings = settings
        self._server = _Server(config)
        self._scheme = "https" if settings.tls else "http"

    def told(self) -> dict[str, Any]:
        """For `status`: where it listens, or why it does not."""
        return {"address": self._settings.address, "port": self.port, "problem": self.problem or None}

    async def run(self, retry_s: float = RETRY_S) -> None:
        """Listen, as soon as the address can be had, until `stop`."""
        listening = self._listen()
        if listening is None:
            log.warning("no technician's page: %s; trying again, everything else goes on", self.problem)
        while listening is None:
            await asyncio.sleep(retry_s)
            listening = self._listen()
        self.port = int(listening.getsockname()[1])
        address = self._settings.address
        shown = f"[{address}]" if ":" in address else address
        log.info("technician's page at %s://%s:%d/", self._scheme, shown, self.port)
        await self._server.serve(sockets=[listening])

    def stop(self) -> None:
        """Listen no more."""
        self._server.stop()

    def _listen(self) -> socket.socket | None:
        address, port = self._settings.address, self._settings.port
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        # asyncio turns Nagle's algorithm off only where the socket says TCP.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, port))
            made.listen(MAX_CONNECTIONS)
        except OSError as error:
            made.close()
            self.problem = f"{address}:{port}: {error.strerror or error}"
            return None
        made.setblocking(False)
        self.problem = ""
        return made


@contextlib.asynccontextmanager
async def serve(settings: Page, site: Site, *, retry_s: float = RETRY_S) -> AsyncIterator[PageServer]:
    """Show the site while the context lasts. Raises ConfigError when password or certificate cannot be read."""
    password, context = await asyncio.to_thread(lambda: (settings.password(), settings.context()))
    app = Guard(make_app(site, password, settings.session_s, secure=context is not None))
    server = PageServer(settings, _config(app, context))
    running = asyncio.create_task(server.run(retry_s), name="page")
    running.add_done_callback(_ended)
    try:
        yield server
    finally:
        server.stop()
        if server.port is None:
            running.cancel()
        _, late = await asyncio.wait({running}, timeout=GRACE_S + 1)
        for task in late:
            task.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _ended(task: asyncio.Task[None]) -> None:
    # Sampling goes on without the page, but nobody should wonder where it is.
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the technician's page failed: %s", error, exc_info=error)


def _config(app: Guard, context: ssl.SSLContext | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(GRACE_S),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    config.load()
    config.ssl = context
    return config

"""The smallest HTTP server that Prometheus can scrape, and that a stranger cannot tire.

One page, GET and HEAD, one request a connection. A request has MAX_LINE_BYTES for its first line, MAX_HEADER_BYTES for
its headers and REQUEST_S for all of it; at most MAX_CONNECTIONS are open. It lives on the event loop beside sampling or
collecting, so a port that cannot be had is no reason to stop those: it is tried again until it can.
"""

import asyncio
import contextlib
import errno
import hmac
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from contract.metrics_config import Metrics

log = logging.getLogger(__name__)

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_LINE_BYTES = 4096
MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 64
MAX_CONNECTIONS = 16
REQUEST_S = 5.0
ANSWER_S = 30.0
RETRY_S = 10.0
# A guess costs the guesser this long and one of the connections.
WRONG_PASSWORD_S = 1.0
# What a refused request may still send while it reads our answer.
_DISCARD_BYTES = 64 * 1024
_DISCARD_S = 1.0
_ALLOWED = ("GET", "HEAD")

Render = Callable[[], Awaitable[bytes]]


class _Refusal(Exception):
    """A request that gets no page."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    head_only: bool = False

    def as_bytes(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}"]
        lines.append(f"Content-Type: {CONTENT_TYPE if self.status is HTTPStatus.OK else 'text/plain; charset=utf-8'}")
        lines += [f"Content-Length: {len(self.body)}", "Connection: close", "X-Content-Type-Options: nosniff"]
        if self.status is HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append(f"Allow: {', '.join(_ALLOWED)}")
        if self.status is HTTPStatus.UNAUTHORIZED:
            lines.append('WWW-Authenticate: Basic realm="metrics", charset="UTF-8"')
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        return head if self.head_only else head + self.body


@dataclass(slots=True)
class MetricsServer:
    """One listening address. `answers`: how many requests got which status. Made by `serve`."""

    settings: Metrics
    render: Render
    credentials: bytes | None
    tls: ssl.SSLContext | None
    request_s: float = REQUEST_S
    retry_s: float = RETRY_S
    answers: Counter[int] = field(default_factory=Counter)
    port: int | None = None
    problem: str = ""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _connections: int = 0

    def told(self) -> dict[str, Any]:
        """For `status`: where it listens, or why it does not."""
        return {"address": self.settings.address, "port": self.port, "path": PATH, "problem": self.problem or None}

    async def open(self) -> bool:
        """Listen; False, and `problem` says why, when the port or the address cannot be had now."""
        address, port = self.settings.address, self.settings.port
        handshake: dict[str, Any] = (
            {} if self.tls is None else {"ssl": self.tls, "ssl_handshake_timeout": self.request_s}
        )
        try:
            self._server = await asyncio.start_server(
                self._connected, address, port, limit=MAX_LINE_BYTES, backlog=MAX_CONNECTIONS, **handshake
            )
        except OSError as error:
            why = errno.errorcode.get(error.errno or 0, "") if error.strerror is None else error.strerror
            self.problem = f"{address}:{port}: {why or error}"
            return False
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.problem = ""
        shown = f"[{address}]" if ":" in address else address
        log.info("metrics at %s://%s:%d%s", "http" if self.tls is None else "https", shown, self.port, PATH)
        return True

    async def keep_trying(self) -> None:
        """Until it listens. Says so once, `open` says when it does."""
        log.warning("no metrics: %s; trying again, everything else goes on", self.problem)
        while True:
            await asyncio.sleep(self.retry_s)
            if await self.open():
                return

    async def close(self) -> None:
        """Listen no more, and end the requests at hand."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._connections += 1
        try:
            await self._talk(reader, writer)
            writer.close()
            async with asyncio.timeout(ANSWER_S):  # the last of the answer goes out
                await writer.wait_closed()
        except OSError:  # every way in which a peer or a network may fail us; TimeoutError and SSLError are two
            log.debug("a request for metrics was cut short")
        except asyncio.CancelledError:
            # Only `close` cancels; Python 3.11 logs a traceback for a connection's task that ends so.
            log.debug("a request for metrics was given up")
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(reader)
        except _Refusal as refusal:
            status = refusal.status
            answer = _Answer(status, f"{status.phrase}; GET {PATH}\n".encode())
        self.answers[answer.status.value] += 1
        async with asyncio.timeout(ANSWER_S):
            writer.write(answer.as_bytes())
            await writer.drain()
        if answer.status is not HTTPStatus.OK:
            await _let_go(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader) -> _Answer:
        if self._connections > MAX_CONNECTIONS:
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        request = await self._read_in_time(reader)
        if self.credentials is not None and not _knows(request, self.credentials):
            await asyncio.sleep(WRONG_PASSWORD_S if "authorization" in request.headers else 0)
            raise _Refusal(HTTPStatus.UNAUTHORIZED)
        if request.method not in _ALLOWED:
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        if request.path != PATH:
            raise _Refusal(HTTPStatus.NOT_FOUND)
        return _Answer(HTTPStatus.OK, await self.render(), head_only=request.method == "HEAD")

    async def _read_in_time(self, reader: asyncio.StreamReader) -> _Request:
        try:
            async with asyncio.timeout(self.request_s):
                return await _read(reader)
        except TimeoutError:
            raise _Refusal(HTTPStatus.REQUEST_TIMEOUT) from None


@contextlib.asynccontextmanager
async def serve(
    settings: Metrics, render: Render, *, request_s: float = REQUEST_S, retry_s: float = RETRY_S
) -> AsyncIterator[MetricsServer]:
    """Show `render()` while the context lasts. Raises ConfigError when password or certificate cannot be read.

    render: the page, made anew for each request. request_s: what a request may take to come. retry_s: the pause
    between two attempts to get the port.
    """
    credentials, tls = await asyncio.to_thread(lambda: (settings.credentials(), settings.context()))
    server = MetricsServer(settings, render, credentials, tls, request_s, retry_s)
    trying = None if await server.open() else asyncio.create_task(server.keep_trying(), name="metrics")
    try:
        yield server
    finally:
        if trying is not None:
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
        await server.close()


def _knows(request: _Request, credentials: bytes) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return hmac.compare_digest(token.strip().encode("latin-1"), credentials) and scheme.lower() == "basic"


async def _read(reader: asyncio.StreamReader) -> _Request:
    """The request's first line and headers; a body is not for us. Raises _Refusal, ConnectionError."""
    words = (await _line(reader, HTTPStatus.REQUEST_URI_TOO_LONG)).split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refusal(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    count = size = 0
    while line := await _line(reader, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE):
        count, size = count + 1, size + len(line)
        if count > MAX_HEADERS or size > MAX_HEADER_BYTES:
            raise _Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        name, colon, value = line.partition(":")
        if not colon:
            raise _Refusal(HTTPStatus.BAD_REQUEST)
        headers[name.strip().lower()] = value.strip()
    return _Request(words[0], words[1].partition("?")[0], headers)


async def _line(reader: asyncio.StreamReader, too_long: HTTPStatus) -> str:
    try:
        line = await reader.readline()
    except ValueError:  # longer than the stream's limit
        raise _Refusal(too_long) from None
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the peer went away within its request")
    return line.decode("latin-1").rstrip("\r\n")


async def _let_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read what a refused peer still sends, within bounds: closing on it would reset our answer away."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            if writer.can_write_eof():
                writer.write_eof()
            left = _DISCARD_BYTES
            while left > 0 and (data := await reader.read(min(left, MAX_LINE_BYTES))):
                left -= len(data)

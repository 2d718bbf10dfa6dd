"""TCP ports that can be taken away and given back, and connections that know when their bytes are the kernel's."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

from hardware_sim import truth

log = logging.getLogger(__name__)

MAX_WAITING = 10_000


class Connection(asyncio.Protocol):
    """One client. A subclass takes its bytes in `data_received`.

    A response is put down in the truth only when none of its bytes is left in user space: at once as a rule, else when
    the buffer has drained. A client that does not read is not read from either, so little can pile up.
    """

    def __init__(self, log_: truth.Log, connections: set["Connection"]) -> None:
        self._truth = log_
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[truth.Record] = deque(maxlen=MAX_WAITING)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - narrows for the type checker
        transport.set_write_buffer_limits(high=0)  # so resume_writing means: everything is the kernel's
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client went: what it did not take was never served."""
        self._connections.discard(self)
        self._waiting.clear()
        self._transport = None

    def pause_writing(self) -> None:
        """The client is slow: ask it nothing more."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Everything written so far is the kernel's."""
        while self._waiting:
            self._truth.add(self._waiting.popleft())
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def send(self, data: bytes, record: truth.Record | None) -> None:
        """Send, if the client is still there; then put the record down."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if record is None:
            return
        if transport.get_write_buffer_size():
            self._waiting.append(record)
        elif not transport.is_closing():
            self._truth.add(record)

    def drop(self) -> None:
        """Close at once; what was not sent yet is not sent."""
        if self._transport is not None:
            self._transport.abort()


class TcpPort:
    """A listening socket. Port 0 takes a free one and keeps it, also over `close` and `open`."""

    def __init__(self, host: str, port: int, make: Callable[[set[Connection]], Connection]) -> None:
        self.host = host
        self.port = port
        self._make = make
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._make(self._connections), self.host, self.port, backlog=256
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse new clients and drop the present ones."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._connections):
            connection.drop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)

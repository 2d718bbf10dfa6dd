"""What the hub's parts promise each other, and how an endpoint gets at them.

The endpoints (`api_*.py`, `sensorthings/`) know these interfaces and the rule of cloud.hub.access; cloud.hub.serve
makes the parts and puts them together. Every blocking call of a part runs in a thread of its own making: an endpoint
awaits, or calls what is in memory.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer

from cloud.hub.access import Reader, Role
from cloud.hub.catalogue_index import Index, Query
from cloud.hub.entries import Entry
from cloud.hub.problems import Busy, NotAllowed, NoToken
from cloud.stores.base import Store
from contract.readings import Quality, Reason, Value

SESSION = "weinao_session"
"""The console's cookie."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading as it is handed out. seen_ns: when the cloud received it, 0 when it was read back from the store."""

    time_ns: int
    value: Value | None
    quality: Quality
    reason: Reason
    seen_ns: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One thing a live client is told: a reading (with its event's id, JSON), or another event (no id)."""

    id: str
    event: str
    data: str


class Entries(Protocol):
    """The catalogue as it is now, in memory; and as it was, in the hub's database."""

    @property
    def version(self) -> int:
        """Rises with every change: what was computed from the entries may be kept until then."""

    def get(self, stream_id: str) -> Entry | None:
        """The stream of this id as it is now (or last was), or None."""

    def by_number(self, number: int) -> Entry | None:
        """The stream of this number, or None."""

    def by_key(self, key: tuple[Any, str, str]) -> Entry | None:
        """The stream of this (path, device, stream), or None."""

    def all(self) -> Sequence[Entry]:
        """Every stream's current version, those that left their birth too (`until_ns` is set), by number."""

    async def versions(self, number: int) -> list[Entry]:
        """Every version of a stream, oldest first."""


class Searchable(Entries, Protocol):
    """Entries that can be searched."""

    @property
    def index(self) -> Index:
        """The entries, ready to be searched; a second behind at most."""


class Newest(Protocol):
    """The newest reading of every stream, in memory: answers while the database is away."""

    def get(self, number: int) -> Sample | None:
        """The newest reading of the stream of this number, or None."""


class Events(Protocol):
    """Readings as they come: cloud.hub.live.Live."""

    async def ready(self) -> None:
        """Wait until event ids mean something. Raises Away."""

    def open(self) -> None:
        """Say whether one more may follow. Raises Busy."""

    def follow(
        self, reader: Reader, streams: Iterable[int] | None, query: Query | None, after: tuple[int, int] | None
    ) -> AsyncGenerator[list[Told] | None]:
        """See Live.follow."""


class Trail(Protocol):
    """The audit: append-only, hash-chained."""

    async def record(self, who: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Write one line, durably, before the answer goes out. who: the token's id and department, or `system`."""


class Tokens(Protocol):
    """The tokens of departments."""

    async def reader_of(self, secret: str, peer: str) -> Reader | None:
        """Whose this secret is; None when unknown, expired or revoked. Raises Busy after too many wrong ones of a peer.

        Answers from memory when it can, and notices a revocation at once.
        """


class Sessions(Protocol):
    """Who is logged in at the console."""

    async def reader_of(self, secret: str) -> Reader | None:
        """Who is behind the cookie; None when nobody is any more."""


class Gate:
    """So many at once, so many that wait; the rest is told to come later. One event loop."""

    def __init__(self, running: int = 8, waiting: int = 64) -> None:
        self._running = asyncio.Semaphore(running)
        self._most = waiting
        self._waiting = 0

    async def enter(self) -> None:
        """Take a place, when there is one. Raises Busy when too many wait already."""
        if self._waiting >= self._most and self._running.locked():
            raise Busy(f"{self._waiting} queries wait already", retry_after_s=5)
        self._waiting += 1
        try:
            await self._running.acquire()
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Give the place back."""
        self._running.release()


@dataclass(slots=True)
class Hub:
    """All parts of one running hub: `request.app.state.hub`."""

    catalogue: Searchable
    newest: Newest
    live: Events
    store: Store
    trail: Trail
    tokens: Tokens
    ledger_file: Path
    queries: Gate = field(default_factory=Gate)
    now_ns: Callable[[], int] = time.time_ns
    sessions: Sessions | None = None


def hub_of(connection: HTTPConnection) -> Hub:
    """The running hub, for an endpoint."""
    hub = connection.app.state.hub
    assert isinstance(hub, Hub)  # noqa: S101 - cloud.hub.serve puts it there
    return hub


_bearer = HTTPBearer(auto_error=False, description="A token of `weinao-cloud token create`")


async def reader_of(request: Request, _: Annotated[object, Depends(_bearer)]) -> Reader:
    """Who asks: `Authorization: Bearer TOKEN`, or Basic with the token as password. Raises NoToken.

    The console's cookie opens what only reads: so its pages link to downloads, and no other site can make changes.
    """
    hub = hub_of(request)
    secret = secret_in(request.headers.get("authorization", ""))
    cookie = request.cookies.get(SESSION)
    if not secret and cookie and hub.sessions is not None and request.method in {"GET", "HEAD"}:
        if (logged_in := await hub.sessions.reader_of(cookie)) is not None:
            return logged_in
        raise NoToken("this session is over; log in again")
    if not secret:
        raise NoToken("send the header 'Authorization: Bearer TOKEN'; your department's administrator has tokens")
    peer = request.client.host if request.client else ""
    found = await hub.tokens.reader_of(secret, peer)
    if found is None:
        raise NoToken("this token is unknown, expired or revoked")
    return found


def secret_in(header: str) -> str:
    """The token in an Authorization header; empty when there is none. Basic: old clients know nothing else."""
    scheme, _, rest = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            try:
                return base64.b64decode(rest, validate=True).decode("ascii").partition(":")[2]
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return ""
        case _:
            return ""


async def admin_of(reader: Annotated[Reader, Depends(reader_of)]) -> Reader:
    """An administrator. Raises NoToken or NotAllowed."""
    if reader.role is not Role.ADMIN:
        raise NotAllowed("this needs a token with the role 'admin'")
    return reader


async def operator_of(reader: Annotated[Reader, Depends(reader_of)]) -> Reader:
    """An operator or administrator. Raises NoToken or NotAllowed."""
    if reader.role is Role.READER:
        raise NotAllowed("this needs a token with the role 'operator' or 'admin'")
    return reader


HubPart = Annotated[Hub, Depends(hub_of)]
Asker = Annotated[Reader, Depends(reader_of)]
Operator = Annotated[Reader, Depends(operator_of)]
Admin = Annotated[Reader, Depends(admin_of)]

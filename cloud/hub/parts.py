"""What the hub's parts promise each other, and how an endpoint gets at them.

The endpoints (`api_*.py`, `sensorthings/`) know these interfaces and the rule of cloud.hub.access; cloud.hub.serve
makes the parts and puts them together. Every blocking call of a part runs in a thread of its own making: an endpoint
awaits, or calls what is in memory.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer

from cloud.hub.access import Reader, Role
from cloud.hub.entries import Entry
from cloud.hub.problems import NotAllowed, NoToken
from cloud.stores.base import Store
from contract.readings import Quality, Reason, Value


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading as it is handed out. seen_ns: when the cloud received it, 0 when it was read back from the store."""

    time_ns: int
    value: Value | None
    quality: Quality
    reason: Reason
    seen_ns: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One reading as it passes. id: rises, survives restarts, `<tail number>.<place in the frame>`."""

    id: str
    entry: Entry
    sample: Sample


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


class Newest(Protocol):
    """The newest reading of every stream, in memory: answers while the database is away."""

    def get(self, number: int) -> Sample | None:
        """The newest reading of the stream of this number, or None."""


class Events(Protocol):
    """Readings as they come."""

    def follow(self, reader: Reader, numbers: Iterable[int] | None, after: str | None) -> AsyncIterator[Event | str]:
        """Readings that `reader` may have, of these streams (None: all), beginning after event `after` or now."""


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


@dataclass(slots=True)
class Hub:
    """All parts of one running hub: `request.app.state.hub`."""

    catalogue: Entries
    newest: Newest
    events: Events
    store: Store
    trail: Trail
    tokens: Tokens
    ledger_file: Path


def hub_of(connection: HTTPConnection) -> Hub:
    """The running hub, for an endpoint."""
    hub = connection.app.state.hub
    assert isinstance(hub, Hub)  # noqa: S101 - cloud.hub.serve puts it there
    return hub


_bearer = HTTPBearer(auto_error=False, description="A token of `weinao-cloud token create`")


async def reader_of(request: Request, _: Annotated[object, Depends(_bearer)]) -> Reader:
    """Who asks, by `Authorization: Bearer`. Raises NoToken."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise NoToken("send the header 'Authorization: Bearer TOKEN'; your department's administrator has tokens")
    peer = request.client.host if request.client else ""
    found = await hub_of(request).tokens.reader_of(secret.strip(), peer)
    if found is None:
        raise NoToken("this token is unknown, expired or revoked")
    return found


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

"""Tokens and the audit over HTTP: for administrators, and for everybody the question who he is."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloud.hub.access import Reader, Role
from cloud.hub.audit import Audit
from cloud.hub.parts import Admin, Asker, HubPart
from cloud.hub.problems import NotThere
from cloud.hub.times import format_time
from cloud.hub.tokens import NEVER_NS, Token, TokenBook

router = APIRouter(prefix="/api/v1", tags=["tokens and audit"])

Words = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
AreaText = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\w.\- ]+(/[\w.\- ]+){0,2}$")]
DAY_S = 86_400.0


class NewToken(BaseModel):
    """What a token is to be for. areas: `city`, `city/district` or `city/district/street`; none: everywhere."""

    model_config = ConfigDict(extra="forbid")

    department: Words
    purpose: Words
    role: Role = Role.READER
    areas: list[AreaText] = Field([], max_length=100)
    expires_days: float = Field(365, gt=0, le=3660)


def who(reader: Reader) -> str:
    """How the audit names a reader."""
    return f"{reader.token} {reader.department}"


def _book(hub: HubPart) -> TokenBook:
    assert isinstance(hub.tokens, TokenBook)  # noqa: S101 - cloud.hub.serve makes it
    return hub.tokens


def _audit(hub: HubPart) -> Audit:
    assert isinstance(hub.trail, Audit)  # noqa: S101 - cloud.hub.serve makes it
    return hub.trail


Book = Annotated[TokenBook, Depends(_book)]
Chain = Annotated[Audit, Depends(_audit)]


@router.get("/me")
async def me(asker: Asker) -> dict[str, Any]:
    """Whose token this is, and what it opens."""
    return _of_reader(asker)


@router.get("/tokens")
async def listed(_: Admin, book: Book) -> list[dict[str, Any]]:
    """Every token, newest first; never a secret."""
    return [_of_token(token) for token in await asyncio.to_thread(book.listed)]


@router.post("/tokens", status_code=201)
async def create(order: NewToken, admin: Admin, hub: HubPart, book: Book) -> dict[str, Any]:
    """A new token. `token` holds its secret, this once."""
    made, secret = await asyncio.to_thread(
        book.create,
        order.department,
        order.purpose,
        role=order.role,
        areas=order.areas,
        lifetime_s=order.expires_days * DAY_S,
        by=who(admin),
    )
    detail = order.model_dump(mode="json")
    await hub.trail.record(who(admin), "token created", made.reader.token, detail)
    return {"token": secret, **_of_token(made)}


@router.delete("/tokens/{token}", status_code=204, responses={404: {"description": "no such token"}})
async def revoke(token: str, admin: Admin, hub: HubPart, book: Book) -> Response:
    """Refuse a token from now on."""
    if not await asyncio.to_thread(book.revoke, token[:64].replace("\x00", "")):
        raise NotThere("there is no token of this id that is not revoked")
    await hub.trail.record(who(admin), "token revoked", token[:64], {})
    return Response(status_code=204)


@router.get("/audit")
async def audit(
    _: Admin,
    chain: Chain,
    after: Annotated[int, Query(ge=0, le=2**62, description="lines with a number above this")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Lines of the audit, ascending, and the head of the chain."""
    lines = await asyncio.to_thread(chain.page, after=after, limit=limit)
    head = await asyncio.to_thread(chain.head)
    found = [
        {
            "seq": line.seq,
            "time": format_time(line.time_ns),
            "who": line.who,
            "action": line.action,
            "subject": line.subject,
            "detail": line.detail,
            "hash": line.hash,
        }
        for line in lines
    ]
    return {"lines": found, "head": {"seq": head.seq, "hash": head.hash}}


def _of_reader(reader: Reader) -> dict[str, Any]:
    return {
        "id": reader.token,
        "department": reader.department,
        "purpose": reader.purpose,
        "role": reader.role.value,
        "areas": list(reader.areas),
    }


def _of_token(token: Token) -> dict[str, Any]:
    return {
        **_of_reader(token.reader),
        "created": format_time(token.created_ns),
        "created_by": token.created_by,
        "expires": None if token.expires_ns == NEVER_NS else format_time(token.expires_ns),
        "revoked": None if token.revoked_ns is None else format_time(token.revoked_ns),
    }

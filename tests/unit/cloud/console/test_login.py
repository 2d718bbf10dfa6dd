"""Coming and going: who gets a session, for how long, and where a login may lead."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from hub_state import Clock, state_of

from cloud.console import login
from cloud.console.sessions import LASTS_S, Sessions
from cloud.console.visit import Console
from cloud.hub.audit import Audit
from cloud.hub.database import Database
from cloud.hub.parts import SESSION, Hub
from cloud.hub.tokens import WRONG_PER_PEER, TokenBook


class Door:
    """The login over a database, and a token."""

    def __init__(self, database: Database) -> None:
        self.clock = Clock()
        self.tokens = TokenBook(database, now_ns=self.clock.now_ns, clock_s=self.clock.now_s)
        self.made, self.secret = self.tokens.create("水务局", "duty", lifetime_s=30 * 86_400)
        self.sessions = Sessions(database, self.tokens, now_ns=self.clock.now_ns)
        hub = cast("Hub", SimpleNamespace(trail=Audit(database)))
        nothing = cast("Any", None)
        self.app = FastAPI()
        self.app.state.console = Console(hub, nothing, nothing, nothing, self.sessions, self.tokens)
        self.app.include_router(login.router)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://hub")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    database = state_of(tmp_path)
    yield Door(database)
    database.close()


async def enter(door: Door, token: str, to: str = "/") -> httpx.Response:
    async with door.client() as client:
        return await client.post("/login", data={"token": token, "to": to})


async def test_a_token_opens_a_session_that_is_over_in_time(door: Door) -> None:
    answer = await enter(door, f" {door.secret} ", "/health?kind=silent")
    assert (answer.status_code, answer.headers["location"]) == (303, "/health?kind=silent")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    secret = answer.cookies[SESSION]
    assert door.secret not in answer.headers["set-cookie"]
    found = await door.sessions.reader_of(secret)
    assert found is not None
    assert found.department == "水务局"
    door.clock.pass_s(LASTS_S + 1)
    assert await door.sessions.reader_of(secret) is None


async def test_a_revoked_token_ends_what_it_opened(door: Door) -> None:
    secret = (await enter(door, door.secret)).cookies[SESSION]
    assert await door.sessions.reader_of(secret) is not None
    await asyncio.to_thread(door.tokens.revoke, door.made.reader.token)
    assert await door.sessions.reader_of(secret) is None


async def test_a_session_lives_on_when_the_hub_starts_again(door: Door, tmp_path: Path) -> None:
    secret = (await enter(door, door.secret)).cookies[SESSION]
    database = state_of(tmp_path)
    again = TokenBook(database, now_ns=door.clock.now_ns, clock_s=door.clock.now_s)
    assert await Sessions(database, again, now_ns=door.clock.now_ns).reader_of(secret) is not None
    database.close()


async def test_logging_out_ends_the_session_for_every_process(door: Door) -> None:
    secret = (await enter(door, door.secret)).cookies[SESSION]
    async with door.client() as client:
        client.cookies.set(SESSION, secret)
        assert (await client.post("/logout")).headers["location"] == "/login"
    assert await door.sessions.reader_of(secret) is None


async def test_wrong_tokens_are_refused_and_guessing_is_slow(door: Door) -> None:
    for _ in range(WRONG_PER_PEER):
        answer = await enter(door, "wn_1_guess")
        assert answer.status_code == 401
        assert SESSION not in answer.cookies
    assert (await enter(door, door.secret)).status_code == 429


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "/a\r\nb"]
)
async def test_a_login_leads_nowhere_else(door: Door, to: str) -> None:
    assert (await enter(door, door.secret, to)).headers["location"] == "/"
    async with door.client() as client:
        assert (await client.get("/language", params={"to": "zh", "back": to})).headers["location"] == "/"


async def test_what_was_typed_is_never_markup(door: Door) -> None:
    answer = await enter(door, "wrong", '/"><script>alert(1)</script>')
    assert "<script" not in answer.text


@pytest.mark.parametrize("cookie", ["", "x", "é" * 10, "A" * 1_000_000])
async def test_no_other_cookie_opens_anything(door: Door, cookie: str) -> None:
    assert await door.sessions.reader_of(cookie) is None

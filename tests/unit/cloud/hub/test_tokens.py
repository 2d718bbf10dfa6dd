"""Who gets in with a token, and that nobody else does: guessed, expired, revoked elsewhere, the state away."""

import asyncio
from pathlib import Path

import pytest
from hub_state import Clock, state_of

from cloud.hub.access import Role
from cloud.hub.database import Database, database_url
from cloud.hub.problems import Busy
from cloud.hub.tokens import FRESH_S, STALE_S, WRONG_IN_ALL, WRONG_PER_PEER, WRONG_WITHIN_S, TokenBook
from contract.errors import StoreUnavailable


async def test_a_token_opens_for_its_department_until_it_expires(tmp_path: Path) -> None:
    clock = Clock()
    book = TokenBook(state_of(tmp_path), now_ns=clock.now_ns, clock_s=clock.now_s)
    made, secret = book.create("水务局", "report", role=Role.OPERATOR, areas=["city/east"], lifetime_s=60, by="admin")
    reader = await book.reader_of(secret, "here")
    assert reader == made.reader
    assert (reader.department, reader.purpose, reader.role, reader.areas) == (
        "水务局",
        "report",
        Role.OPERATOR,
        ("city/east",),
    )
    clock.pass_s(59)
    assert await book.reader_of(secret, "here") is not None
    clock.pass_s(1)
    assert await book.reader_of(secret, "here") is None


async def test_nobody_is_refused_while_a_hub_that_starts_still_reads_its_tokens(tmp_path: Path) -> None:
    database = state_of(tmp_path)
    _, secret = TokenBook(database).create("Works", "x")
    book = TokenBook(database)
    assert None not in await asyncio.gather(*(book.reader_of(secret, "here") for _ in range(20)))
    _, second = await asyncio.to_thread(book.create, "Works", "y")
    assert None not in await asyncio.gather(*(book.reader_of(second, "here") for _ in range(20)))


async def test_what_is_stored_does_not_open_anything(tmp_path: Path) -> None:
    database = state_of(tmp_path)
    _, secret = TokenBook(database).create("Works", "x")
    with database.reading() as db:
        (row,) = db.exec_driver_sql("SELECT * FROM hub_tokens").fetchall()
    assert not [value for value in row if isinstance(value, str) and secret.split("_", 2)[2] in value]


@pytest.mark.parametrize(
    "change",
    [
        lambda secret: secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        lambda secret: secret[:-1],
        lambda secret: secret + "A",
        lambda secret: secret.replace("wn_", "xx_"),
        lambda secret: "wn_ffffffffffff_" + secret.split("_", 2)[2],
        lambda _: "",
        lambda _: "wn__",
        lambda _: "wn_" + "é" * 20,
        lambda _: "wn_1_" + "A" * 1_000_000,
    ],
)
async def test_anything_else_does_not(tmp_path: Path, change: object) -> None:
    book = TokenBook(state_of(tmp_path))
    _, secret = book.create("Works", "x")
    assert callable(change)
    assert await book.reader_of(change(secret), "here") is None
    assert await book.reader_of(secret, "here") is not None


async def test_a_token_revoked_by_another_process_is_refused_within_a_quarter_second(tmp_path: Path) -> None:
    clock = Clock()
    book = TokenBook(state_of(tmp_path), now_ns=clock.now_ns, clock_s=clock.now_s)
    made, secret = book.create("Works", "x")
    _, other = book.create("Works", "y")
    assert (reader := await book.reader_of(secret, "here")) is not None
    elsewhere = TokenBook(Database(database_url(tmp_path / "hub.sqlite")))
    assert elsewhere.revoke(made.reader.token) is True
    assert elsewhere.revoke(made.reader.token) is False
    clock.pass_s(FRESH_S * 1.01)
    assert await book.reader_of(secret, "here") is None
    assert not book.still_good(reader)
    assert await book.reader_of(other, "here") is not None
    assert [token.revoked_ns is None for token in book.listed() if token.reader.token == made.reader.token] == [False]


async def test_who_guesses_is_not_listened_to_for_a_while_and_others_are(tmp_path: Path) -> None:
    clock = Clock()
    book = TokenBook(state_of(tmp_path), now_ns=clock.now_ns, clock_s=clock.now_s)
    _, secret = book.create("Works", "x")
    for _ in range(WRONG_PER_PEER):
        assert await book.reader_of("wn_1_guess", "guesser") is None
    with pytest.raises(Busy) as caught:
        await book.reader_of(secret, "guesser")
    assert caught.value.retry_after_s == pytest.approx(WRONG_WITHIN_S)
    assert await book.reader_of(secret, "honest") is not None
    clock.pass_s(WRONG_WITHIN_S)
    assert await book.reader_of(secret, "guesser") is not None


async def test_guessing_from_many_addresses_is_slowed_as_well(tmp_path: Path) -> None:
    clock = Clock()
    book = TokenBook(state_of(tmp_path), now_ns=clock.now_ns, clock_s=clock.now_s)
    for number in range(WRONG_IN_ALL):
        assert await book.reader_of("wn_1_guess", f"guesser {number}") is None
    with pytest.raises(Busy):
        await book.reader_of("wn_1_guess", "one more")


async def test_while_the_state_is_away_tokens_hold_for_a_while_and_then_do_not(tmp_path: Path) -> None:
    clock = Clock()
    database = state_of(tmp_path)
    book = TokenBook(database, now_ns=clock.now_ns, clock_s=clock.now_s)
    _, secret = book.create("Works", "x")
    assert await book.reader_of(secret, "here") is not None
    with database.begin() as db:
        db.exec_driver_sql("ALTER TABLE hub_tokens RENAME TO elsewhere")
    clock.pass_s(STALE_S - 1)
    assert await book.reader_of(secret, "here") is not None
    clock.pass_s(2)
    with pytest.raises(StoreUnavailable):
        await book.reader_of(secret, "here")

"""The hub's state on both databases it is sold for: the same promises, by the same tests."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_state import state_of
from postgres import PostgreSQL
from sqlalchemy import text

from cloud.hub.audit import Audit
from cloud.hub.database import Database, database_url
from cloud.hub.tokens import FRESH_S, TokenBook
from contract.errors import ConfigError, StoreUnavailable

pytestmark = pytest.mark.services
APPEND = """
import sys
from pathlib import Path
from cloud.hub.audit import Audit
from cloud.hub.database import Database, database_url
audit = Audit(Database(database_url(Path(sys.argv[1]) / "hub.sqlite", sys.argv[2] or None)))
for number in range(100):
    audit.write(sys.argv[3], "read", f"stream {number}", {"n": number})
"""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    with PostgreSQL(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, postgres: PostgreSQL) -> str:
    """The URL of a database of the test's own; empty for SQLite."""
    if request.param == "sqlite":
        return ""
    postgres.start()
    name = f"t{abs(hash(request.node.nodeid)):x}"
    admin = Database(database_url(Path(), postgres.url))
    with admin._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text(f"CREATE DATABASE {name}"))
    admin.close()
    return postgres.url.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def state(tmp_path: Path, url: str) -> Iterator[Database]:
    database = state_of(tmp_path, url or None)
    yield database
    database.close()


async def test_a_token_is_refused_at_once_when_another_process_revoked_it(
    tmp_path: Path, url: str, state: Database
) -> None:
    other = state_of(tmp_path, url or None)
    book, elsewhere = TokenBook(state), TokenBook(other)
    made, secret = book.create("水务局", "a report", areas=["city/东城"], lifetime_s=3600)
    assert await book.reader_of(secret, "here") == made.reader
    assert await elsewhere.reader_of(secret, "here") == made.reader
    assert elsewhere.revoke(made.reader.token)
    assert await elsewhere.reader_of(secret, "here") is None
    await asyncio.sleep(FRESH_S * 1.1)
    assert await book.reader_of(secret, "here") is None
    assert [token.revoked_ns is None for token in book.listed()] == [False]
    other.close()


def start_appending(folder: Path, url: str, number: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", APPEND, str(folder), url, f"child {number}"]
    return subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])


async def test_many_processes_write_one_chain(tmp_path: Path, url: str, state: Database) -> None:
    children = [start_appending(tmp_path, url, number) for number in range(2)]
    audit = Audit(state)
    await asyncio.gather(*(audit.record(f"here {number}", "read", "s", {}) for number in range(300)))
    assert [child.wait(60) for child in children] == [0, 0]
    head, wrong = audit.verify()
    assert (head.seq, wrong) == (500, None)


def test_an_altered_line_is_found(state: Database) -> None:
    audit = Audit(state)
    for number in range(5):
        audit.write("t", "read", f"s{number}", {"n": number})
    with state.begin() as db:
        db.execute(text("UPDATE hub_audit SET who = 'nobody' WHERE seq = 3"))
    assert audit.verify()[1] == "line 3 is not what was written, or not where it was"


def test_a_state_of_a_newer_version_is_left_alone(tmp_path: Path, url: str, state: Database) -> None:
    with state.begin() as db:
        db.execute(text("UPDATE hub_about SET version = 99"))
    with pytest.raises(ConfigError, match="newer version"):
        state_of(tmp_path, url or None)


async def test_a_database_that_goes_away_is_said_to_be_and_comes_back(tmp_path: Path, postgres: PostgreSQL) -> None:
    postgres.start()
    database = state_of(tmp_path, postgres.url)
    audit = Audit(database)
    await audit.record("t", "read", "s", {})
    postgres.kill()
    with pytest.raises(StoreUnavailable) as caught:
        await audit.record("t", "read", "s", {})
    assert "weinao@127.0.0.1" in str(caught.value)
    postgres.start()
    await audit.record("t", "read", "again", {})
    assert audit.verify() == (audit.head(), None)
    assert audit.head().seq == 2
    database.close()

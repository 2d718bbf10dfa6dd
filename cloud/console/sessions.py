"""Who is logged in at the console: a cookie that stands for a token, for some hours, over restarts of the hub.

The cookie holds 256 random bits; what is stored is their SHA-256 and the token's public id. A session is never worth
more than its token: one that is revoked or expired ends all of its sessions at once.
"""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from sqlalchemy import BigInteger, Column, Table, Text, delete, insert, select

from cloud.hub.access import Reader
from cloud.hub.database import Database, metadata
from cloud.hub.tokens import TokenBook

LASTS_S = 12 * 3600.0
KNOWN = 10_000
MAX_CHARS = 100

sessions = Table(
    "hub_sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("token", Text, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
)


class Sessions:
    """Everybody who is logged in. `open`, `close` and `lookup` block."""

    def __init__(self, database: Database, tokens: TokenBook, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._database = database
        self._tokens = tokens
        self._now_ns = now_ns
        self._known: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def open(self, reader: Reader) -> str:
        """A new session; what the cookie holds. Sessions that are over are forgotten. Raises StoreUnavailable."""
        secret, now_ns = secrets.token_urlsafe(32), self._now_ns()
        row = {"digest": _digest(secret), "token": reader.token, "until_ns": now_ns + round(LASTS_S * 1e9)}
        with self._database.begin() as db:
            db.execute(delete(sessions).where(sessions.c.until_ns < now_ns))
            db.execute(insert(sessions).values(row))
        return secret

    def close(self, secret: str) -> None:
        """Log out. Raises StoreUnavailable."""
        digest = _digest(secret)
        self._known.pop(digest, None)
        with self._database.begin() as db:
            db.execute(delete(sessions).where(sessions.c.digest == digest))

    def lookup(self, secret: str) -> str | None:
        """The public id of the session's token, None when there is no such session. Raises StoreUnavailable."""
        if not secret or len(secret) > MAX_CHARS:
            return None
        digest = _digest(secret)
        known = self._known.get(digest)
        if known is None:
            with self._database.reading() as db:
                row = db.execute(select(sessions).where(sessions.c.digest == digest)).one_or_none()
            if row is None:
                return None
            known = self._known[digest] = (row.token, row.until_ns)
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return known[0] if self._now_ns() < known[1] else None

    async def opened(self, reader: Reader) -> str:
        """As `open`, from a coroutine."""
        return await asyncio.to_thread(self.open, reader)

    async def closed(self, secret: str) -> None:
        """As `close`, from a coroutine."""
        await asyncio.to_thread(self.close, secret)

    async def reader_of(self, secret: str) -> Reader | None:
        """Who is behind the cookie; None when nobody is any more. Raises StoreUnavailable."""
        token = await asyncio.to_thread(self.lookup, secret)
        return None if token is None else await self._tokens.reader_by_id(token)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

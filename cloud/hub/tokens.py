"""The tokens of departments: who a secret belongs to, until when, and that it is refused at once when revoked.

A token is `wn_<id>_<secret>`: the id is public and names the row, the secret is 256 random bits. What is stored is the
SHA-256 of the secret. A slow hash would protect words that people choose; nobody guesses 256 random bits, and a slow
one would let anybody keep the hub busy. Comparison takes the same time whether the first byte is wrong or the last.

Tokens are kept in memory and the table's change number is looked at every `FRESH_S`, so that a token that another
process revoked (`weinao-cloud token revoke`) is refused within that time, and one revoked here at once. While the
database is away, what is in memory goes on being good for `STALE_S`.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import BigInteger, Column, Integer, Table, Text, func, insert, select, update

from cloud.hub.access import Reader, Role
from cloud.hub.database import Database, metadata
from cloud.hub.problems import Busy
from contract.errors import StoreUnavailable

PREFIX = "wn"
ID_BYTES, SECRET_BYTES = 6, 32
MAX_CHARS = 200
FRESH_S = 0.25
STALE_S = 300.0
WRONG_PER_PEER, WRONG_IN_ALL, WRONG_WITHIN_S = 20, 500, 60.0
PEERS = 10_000
_LOCK = 8471
NEVER_NS = 2**63 - 1  # the year 2262, the end of time in ns

tokens = Table(
    "hub_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("department", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("areas", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger),
    Column("change", Integer, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; never its secret."""

    reader: Reader
    created_ns: int
    created_by: str
    expires_ns: int
    revoked_ns: int | None

    def good(self, now_ns: int) -> bool:
        """Whether it opens anything now."""
        return self.revoked_ns is None and now_ns < self.expires_ns


class TokenBook:
    """All tokens. Coroutines belong to one event loop; create, revoke and listed block, in whatever thread."""

    def __init__(
        self,
        database: Database,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._now_ns = now_ns
        self._clock_s = clock_s
        self._known: dict[str, tuple[str, Token]] = {}
        self._change = -1
        self._looked_s = float("-inf")
        self._failed_s = float("-inf")
        self._wanted, self._had = 1, 0  # what was changed here, and how much of it was read back
        self._good_s = float("-inf")
        self._looking = asyncio.Lock()
        self._wrong = _Wrong(clock_s)

    async def reader_of(self, secret: str, peer: str) -> Reader | None:
        """Whose secret this is; None when unknown, expired or revoked. Raises Busy after too many wrong ones."""
        self._wrong.refuse(peer)
        await self._refresh()
        found = self._match(secret)
        if found is None:
            self._wrong.note(peer)
            return None
        return found.reader if found.good(self._now_ns()) else None

    async def reader_by_id(self, public: str) -> Reader | None:
        """Whose token this id names, while it is good. For sessions that a token opened."""
        await self._refresh()
        found = self._known.get(public)
        return found[1].reader if found is not None and found[1].good(self._now_ns()) else None

    def still_good(self, reader: Reader) -> bool:
        """Whether the token of a connection that goes on opens anything still, by what is in memory."""
        found = self._known.get(reader.token)
        return found is not None and found[1].good(self._now_ns())

    async def refresh(self) -> None:
        """Look at the table now, for who keeps connections open."""
        await self._refresh()

    def create(
        self,
        department: str,
        purpose: str,
        *,
        role: Role = Role.READER,
        areas: Sequence[str] = (),
        lifetime_s: float | None = None,
        by: str = "system",
    ) -> tuple[Token, str]:
        """A new token and its secret, which is shown this once. Raises StoreUnavailable."""
        now_ns = self._now_ns()
        public, secret = secrets.token_hex(ID_BYTES), _text(secrets.token_bytes(SECRET_BYTES))
        expires_ns = NEVER_NS if lifetime_s is None else min(NEVER_NS, now_ns + round(lifetime_s * 1e9))
        made = Token(Reader(public, department, purpose, role, tuple(areas)), now_ns, by, expires_ns, None)
        row = {
            "id": public,
            "digest": _digest(secret),
            "department": department,
            "purpose": purpose,
            "role": role.value,
            "areas": msgspec.json.encode(list(areas)).decode(),
            "created_ns": now_ns,
            "created_by": by,
            "expires_ns": expires_ns,
        }
        with self._database.begin() as db:
            self._database.alone(db, _LOCK)
            db.execute(insert(tokens).values(**row, change=_next_change()))
        self._wanted += 1
        return made, f"{PREFIX}_{public}_{secret}"

    def revoke(self, public: str) -> bool:
        """Refuse a token from now on; False when there is none of this id, or it is revoked already."""
        gone = update(tokens).where(tokens.c.id == public, tokens.c.revoked_ns.is_(None))
        with self._database.begin() as db:
            self._database.alone(db, _LOCK)
            done = db.execute(gone.values(revoked_ns=self._now_ns(), change=_next_change())).rowcount
        self._wanted += 1
        return done > 0

    def listed(self) -> list[Token]:
        """Every token, newest first."""
        with self._database.reading() as db:
            rows = db.execute(select(tokens).order_by(tokens.c.created_ns.desc(), tokens.c.id)).mappings().all()
        return [_token(dict(row)) for row in rows]

    def _match(self, secret: str) -> Token | None:
        parts = secret.split("_", 2) if len(secret) <= MAX_CHARS and secret.isascii() else []
        if len(parts) != 3 or parts[0] != PREFIX:
            return None
        digest, found = self._known.get(parts[1], ("", None))
        same = hmac.compare_digest(_digest(parts[2]), digest)  # also for an unknown id: it takes as long
        return found if same else None

    async def _refresh(self) -> None:
        """Nobody is judged before the first look is over, nor before one that sees what this process changed."""
        if self._fresh():
            return
        async with self._looking:
            if self._fresh():
                return
            now_s, wanted = self._clock_s(), self._wanted
            if now_s - self._failed_s < FRESH_S:
                raise StoreUnavailable("the tokens cannot be read")
            self._looked_s = now_s
            try:
                change, rows = await asyncio.to_thread(self._changed)
            except StoreUnavailable:
                if now_s - self._good_s <= STALE_S:
                    self._had = wanted
                    return
                self._failed_s = self._clock_s()
                self._known.clear()  # a revocation may have been missed for too long
                self._change = -1
                raise
            self._good_s = now_s
            self._change = change
            for row in rows:
                self._known[str(row["id"])] = (str(row["digest"]), _token(row))
            self._had = wanted

    def _fresh(self) -> bool:
        known = self._change >= 0 and self._had == self._wanted
        return known and self._clock_s() - self._looked_s < FRESH_S

    def _changed(self) -> tuple[int, list[dict[str, object]]]:
        with self._database.reading() as db:
            change = db.execute(select(func.coalesce(func.max(tokens.c.change), 0))).scalar_one()
            if change == self._change:
                return change, []
            rows = db.execute(select(tokens).where(tokens.c.change > self._change)).mappings().all()
        return change, [dict(row) for row in rows]


class _Wrong:
    """Wrong secrets of late: so many of one peer, or of all, and nobody is listened to for a while. Bounded."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._all = (0.0, 0)

    def refuse(self, peer: str) -> None:
        """Raises Busy when this peer, or all together, guessed too often."""
        now_s = self._clock_s()
        for (since_s, count), most in ((self._peers.get(peer, (0.0, 0)), WRONG_PER_PEER), (self._all, WRONG_IN_ALL)):
            left_s = since_s + WRONG_WITHIN_S - now_s
            if count >= most and left_s > 0:
                raise Busy("too many wrong tokens; wait", retry_after_s=left_s)

    def note(self, peer: str) -> None:
        """A wrong one of this peer."""
        now_s = self._clock_s()
        self._all = _counted(self._all, now_s)
        self._peers[peer] = _counted(self._peers.get(peer, (now_s, 0)), now_s)
        self._peers.move_to_end(peer)
        while len(self._peers) > PEERS:
            self._peers.popitem(last=False)


def _counted(before: tuple[float, int], now_s: float) -> tuple[float, int]:
    since_s, count = before
    return (now_s, 1) if now_s - since_s >= WRONG_WITHIN_S else (since_s, count + 1)


def _token(row: dict[str, object]) -> Token:
    areas = tuple(msgspec.json.decode(str(row["areas"]), type=list[str]))
    reader = Reader(str(row["id"]), str(row["department"]), str(row["purpose"]), Role(str(row["role"])), areas)
    revoked = row["revoked_ns"]
    return Token(
        reader,
        int(str(row["created_ns"])),
        str(row["created_by"]),
        int(str(row["expires_ns"])),
        None if revoked is None else int(str(revoked)),
    )


def _next_change() -> object:
    """The number after the last change, found in the statement that makes it."""
    return select(func.coalesce(func.max(tokens.c.change), 0) + 1).scalar_subquery()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

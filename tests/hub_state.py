"""The hub's state for tests: a database of the test's own, and a clock that moves when it is told."""

from pathlib import Path

from cloud.hub import audit, tokens
from cloud.hub.database import Database, database_url

__all__ = ["Clock", "audit", "state_of", "tokens"]


class Clock:
    """Monotonic seconds and UTC nanoseconds, together."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def now_s(self) -> float:
        return self._now_ns / 1e9

    def pass_s(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)


def state_of(folder: Path, url: str | None = None) -> Database:
    """A database with all tables that were imported by now."""
    database = Database(database_url(folder / "hub.sqlite", url))
    database.create()
    return database

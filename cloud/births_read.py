"""Reading the collector's births from beside it: what the hub follows, in the same process or another one."""

import sqlite3
import threading
from pathlib import Path
from typing import Any, NamedTuple

from contract.catalogue import Birth, decode_birth
from contract.errors import FrameError, StoreUnavailable
from contract.topics import GatewayPath


class SeenBirth(NamedTuple):
    """A gateway's newest birth. seen: rises with every birth that any gateway publishes. birth: None when refused."""

    path: GatewayPath
    epoch: int
    seen: int
    birth: Birth | None


class BirthsReader:
    """The births' file, read only. Blocking; from any thread. A file that is not there yet is empty."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._db: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def newest_since(self, seen: int, known: dict[GatewayPath, int]) -> list[SeenBirth]:
        """The newest birth of each gateway that published since `seen`, those of a known epoch left out."""
        rows = self._rows(
            "SELECT path, epoch, seen FROM births b WHERE seen > ? AND "
            "seen = (SELECT max(seen) FROM births WHERE path = b.path) ORDER BY seen",
            seen,
        )
        found = []
        for text, epoch, number in rows:
            path = GatewayPath(*text.split("/"))
            if known.get(path) != epoch:
                found.append(SeenBirth(path, epoch, number, self.get(path, epoch)))
        return found

    def last_seen(self) -> int:
        """The highest `seen`; cheap enough for every second."""
        return int(self._rows("SELECT coalesce(max(seen), 0) FROM births")[0][0]) if self._exists() else 0

    def get(self, path: GatewayPath, epoch: int) -> Birth | None:
        """The birth that this gateway's frames of `epoch` refer to, or None when it is not there."""
        rows = self._rows("SELECT birth FROM births WHERE path = ? AND epoch = ?", str(path), epoch)
        try:
            return decode_birth(rows[0][0]) if rows else None
        except FrameError:
            return None  # of another version of the contract

    def _exists(self) -> bool:
        return self._db is not None or self._file.exists()

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                if self._db is None:
                    if not self._file.exists():
                        return []
                    uri = f"{self._file.absolute().as_uri()}?mode=ro"
                    self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5, check_same_thread=False)
                return self._db.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if self._db is not None:
                    self._db.close()
                    self._db = None
                raise StoreUnavailable(f"{self._file}: {error}") from None

"""How the cloud opens its SQLite files, and what it does when the disk under them fails.

WAL, so that commands read while a collector writes. synchronous=FULL, because each commit here is followed by an
acknowledgement that lets a gateway free its own copy; NORMAL may take back the last commits at a power cut.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from contract.errors import StoreUnavailable

BUSY_TIMEOUT_S = 30


def connect(file: Path, schema: str) -> sqlite3.Connection:
    """A connection to `file`, made when it is not there, that any thread may use. Raises StoreUnavailable."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(file, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{file}: {error}") from None
    return db


def connect_read_only(file: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises FileNotFoundError."""
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file; has a collector run here?")
    uri = f"{file.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, processes taking turns. Raises StoreUnavailable when the disk is full, broken or locked.

    Inside another one it is a part of that: a hundred births then cost one sync of the disk.
    """
    if _begun(db):
        yield
        return
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if _begun(db):
            db.execute("ROLLBACK")
        raise StoreUnavailable(f"the collector's own files: {error}") from None


def _begun(db: sqlite3.Connection) -> bool:
    return db.in_transaction

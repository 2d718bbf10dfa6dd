"""Where the hub keeps what it must not forget: SQLite in one file, or PostgreSQL by URL.

Each part of the hub defines its own tables on `metadata`, in the module that uses them; this one knows how to reach the
database and what the two dialects disagree about. Blocking throughout: callers use a thread.

SQLite: WAL, so that commands read while the hub writes; synchronous=FULL, because an audit line is promised before the
answer goes out; `begin` takes the write lock at once, so that who reads and then writes is alone. In PostgreSQL a part
that needs the same calls `alone`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, event, insert, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from contract.errors import ConfigError, StoreUnavailable

VERSION = 1
BUSY_TIMEOUT_S = 30
POOL = 5
_LOCK = 8470
_READING = "weinao_reading"
_ROWS_AT_ONCE = 500  # SQLite takes 32,766 parameters a statement

metadata = MetaData()
_about = Table("hub_about", metadata, Column("version", Integer, nullable=False))


def database_url(file: Path, url: str | None = None, password: str | None = None) -> URL:
    """The address of the hub's state: `url` with its password, else the SQLite file. Raises ConfigError."""
    if url is None:
        return URL.create("sqlite", database=str(file))
    try:
        made = make_url(url).set(drivername="postgresql+psycopg")
    except SQLAlchemyError:
        raise ConfigError(["hub.state.url: expected postgresql://user@host:port/database"]) from None
    return made.set(password=password) if password is not None else made


class Database:
    """The hub's state. Every method may be called from any thread."""

    def __init__(self, url: URL | str) -> None:
        self._url = make_url(url)
        self.shown = self._url.render_as_string(hide_password=True)
        self._engine = _engine(self._url)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def create(self) -> None:
        """Make what tables are missing. Raises ConfigError when a newer version made it; it is closed then."""
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            self._create()
            failed.pop_all()

    def _create(self) -> None:
        if self.dialect == "sqlite" and self._url.database:
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.begin() as db:
            self.alone(db, _LOCK)  # two processes may start together
            known = select(_about.c.version)
            found = db.execute(known).scalar() if inspect(db).has_table(_about.name) else None
            if found is not None and found > VERSION:
                raise ConfigError([f"{self.shown}: written by a newer version ({found}); this one knows {VERSION}"])
            metadata.create_all(db)
            if found is None:
                db.execute(insert(_about).values(version=VERSION))

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end, undone when something is raised. Raises StoreUnavailable."""
        with self._translated(), self._engine.begin() as db:
            yield db

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One look that changes nothing, consistent in SQLite, beside whoever writes. Raises StoreUnavailable."""
        with self._translated(), self._engine.connect() as db, db.execution_options(**{_READING: True}).begin():
            yield db

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise StoreUnavailable(f"the hub's state ({self.shown}): {_words(error)}") from None
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise StoreUnavailable(f"the hub's state ({self.shown}): {_words(error)}") from None

    def alone(self, db: Connection, number: int) -> None:
        """Until this transaction ends, be the only one that asked for `number`. SQLite's writers are alone anyway."""
        if self.dialect == "postgresql":
            db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({int(number)})")

    def upsert(self, db: Connection, table: Table, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
        """Insert the rows; where one with the same `keys` is there already, replace its other columns."""
        make = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
        others = [name for name in (rows[0] if rows else ()) if name not in keys]
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            made = make(table).values([dict(row) for row in rows[first : first + _ROWS_AT_ONCE]])
            if others:
                db.execute(
                    made.on_conflict_do_update(index_elements=keys, set_={name: made.excluded[name] for name in others})
                )
            else:
                db.execute(made.on_conflict_do_nothing(index_elements=keys))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(
            url, pool_size=POOL, max_overflow=0, pool_pre_ping=True, connect_args={"connect_timeout": 5}
        )
    engine = create_engine(url, pool_size=POOL, max_overflow=0, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # sqlite3 begins nothing by itself: `_begin` does
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(db: Connection) -> None:
        db.exec_driver_sql("BEGIN" if db.get_execution_options().get(_READING) else "BEGIN IMMEDIATE")

    return engine


def _words(error: DBAPIError) -> str:
    """The driver's first line: never the statement, which may hold what was to be kept."""
    return str(error.orig).strip().splitlines()[0] if error.orig is not None and str(error.orig).strip() else "gone"

"""The embedded store's file: its tables, and how a batch of frames gets into them. Blocking.

    series(id, city, district, street, gateway, device, stream, quantity, unit, kind)
    points(series, time_ns, value, count, state, text, status)   one typed column is set, or none (NaN, infinity)
    receipts(path, boot, low, high)                              the frames stored, as ranges of sequences

Points go in as numpy columns, 0.1 s of CPU per 100,000 (bench: stores). DuckDB folds its log into the file whenever
the log has grown by 16 MiB, and on close.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from cloud.stores.base import FramePoints, Series
from cloud.stores.lines import FIELDS, NOT_A_NUMBER
from cloud.stores.receipts import Receipts
from contract.ack import ranges
from contract.errors import ConfigError, StoreUnavailable
from contract.readings import Kind, Table
from contract.topics import GatewayPath

log = logging.getLogger(__name__)

VERSION = 1
COMPACT_AFTER = 10_000
KNOWN_OBJECTS = 100_000
Fatal = duckdb.FatalException
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about(version INTEGER);
CREATE TABLE IF NOT EXISTS series(id INTEGER, city VARCHAR, district VARCHAR, street VARCHAR, gateway VARCHAR,
    device VARCHAR, stream VARCHAR, quantity VARCHAR, unit VARCHAR, kind VARCHAR);
CREATE TABLE IF NOT EXISTS points(series INTEGER, time_ns BIGINT, value DOUBLE, count BIGINT, state BOOLEAN,
    text VARCHAR, status UTINYINT);
CREATE TABLE IF NOT EXISTS receipts(path VARCHAR, boot UBIGINT, low UBIGINT, high UBIGINT);
"""
SERIES_COLUMNS = "city, district, street, gateway, device, stream, quantity, unit, kind"
Frames = dict[tuple[str, int], list[int]]
_INSERT_RECEIPTS = "INSERT INTO receipts SELECT path, boot, low, high FROM batch"


class DuckdbFile:
    """One open file. `write` belongs to one thread, `read` to another."""

    def __init__(self, path: Path, *, threads: int, memory_limit_bytes: int) -> None:
        self._path = path
        self._connection = _connect(path, threads, memory_limit_bytes)
        self._receipts = Receipts()
        self._series: dict[Series, int] = {}
        self._next_id = 0
        self._objects: dict[int, tuple[Series, int]] = {}
        self._receipt_rows = 0
        try:
            self._load()
            self._queries = self._connection.cursor()
        except duckdb.Error as error:
            self._connection.close()
            raise ConfigError([f"{path}: not a store of this program: {error}"]) from error
        except ConfigError:
            self._connection.close()
            raise

    def write(self, frames: Sequence[FramePoints]) -> None:
        """Store the frames without a receipt. Raises StoreUnavailable, or Fatal when the file must be reopened."""
        fresh, receipts = self._without_receipt(frames)
        if not receipts:
            return
        rows = [(path, boot, low, high) for (path, boot), some in receipts.items() for low, high in ranges(some)]
        known = len(self._series)
        try:
            with self._transaction():
                self._insert_frames(fresh)
                self._insert_receipts(rows)
        except BaseException:
            self._forget_series(known)
            raise
        for row in rows:
            self._receipts.add(*row)
        self._receipt_rows += len(rows)
        if self._receipt_rows > COMPACT_AFTER:
            self._compact()

    def read(self, sql: str, parameters: list[object]) -> list[tuple[Any, ...]]:
        """The rows of one statement that changes nothing. Raises StoreUnavailable."""
        with self._reading(sql):
            return self._queries.execute(sql, parameters).fetchall()

    def read_columns(self, sql: str, parameters: list[object]) -> dict[str, Any]:
        """As `read`, in numpy columns by name; those with NULLs are masked arrays."""
        with self._reading(sql):
            return self._queries.execute(sql, parameters).fetchnumpy()

    def delete(self, series: Series, before_ns: int | None) -> int:
        """Destroy the points of a series, whatever its unit, and its name when all go; returns how many there were.

        Receipts stay: a frame that is sent again is not stored again. No query finds the points any more; the blocks
        that held them are free, and hold the old bytes until DuckDB writes there again.
        Raises StoreUnavailable, or Fatal.
        """
        values = series_values(series)
        with self._transaction():
            rows = self._connection.execute(f"SELECT id FROM series WHERE {SAME_SERIES}", values).fetchall()  # noqa: S608
            ids = [row[0] for row in rows]
            points = "FROM points WHERE list_contains(?, series)"
            limits: list[object] = [ids]
            if before_ns is not None:
                points += " AND time_ns < ?"
                limits.append(before_ns)
            deleted = self._one(f"DELETE {points}", limits)
            if before_ns is None:
                self._connection.execute(f"DELETE FROM series WHERE {SAME_SERIES}", values)  # noqa: S608
        if before_ns is None:
            gone = set(ids)
            self._series = {one: number for one, number in self._series.items() if number not in gone}
            self._objects.clear()
        left = self._one(f"SELECT count(*) {points}", limits)
        if left:
            raise StoreUnavailable(f"{self._path}: {left} points are still there after they were deleted")
        return deleted

    def close(self) -> None:
        """Fold the log into the file and let it go."""
        with contextlib.suppress(duckdb.Error):
            self._queries.close()
        try:
            self._connection.close()
        except duckdb.Error as error:  # nothing is lost: what was committed is in the log, read at the next start
            log.warning("%s: could not be closed properly: %s", self._path, error)

    def _one(self, sql: str, parameters: list[object]) -> int:
        try:
            row = self._connection.execute(sql, parameters).fetchone()
        except Fatal:
            raise
        except duckdb.Error as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
        return int(row[0]) if row else 0

    @contextlib.contextmanager
    def _reading(self, sql: str) -> Iterator[None]:
        """A read-only transaction for one statement. DuckDB's errors become StoreUnavailable."""
        try:
            if len(duckdb.extract_statements(sql)) != 1:
                raise StoreUnavailable(f"{self._path}: one statement at a time")
            self._queries.execute("BEGIN TRANSACTION READ ONLY")
            try:
                yield
            finally:
                self._queries.rollback()
        except duckdb.Error as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _load(self) -> None:
        self._connection.execute("SET python_enable_replacements = false")
        self._connection.begin()  # a file that turns out to be somebody else's is left as it was
        self._connection.execute(_SCHEMA)
        versions = self._connection.execute("SELECT version FROM about").fetchall()
        if not versions:
            self._connection.execute("INSERT INTO about VALUES (?)", [VERSION])
        elif versions != [(VERSION,)]:
            raise ConfigError([f"{self._path}: has format {versions[0][0]}, this program knows {VERSION}"])
        for row in self._connection.execute(f"SELECT {SERIES_COLUMNS}, id FROM series ORDER BY id").fetchall():  # noqa: S608
            self._series[series_of(row[:-1])] = row[-1]
            self._next_id = row[-1] + 1
        for row in self._connection.execute("SELECT path, boot, low, high FROM receipts ORDER BY rowid").fetchall():
            self._receipts.add(*row)
            self._receipt_rows += 1
        self._connection.commit()

    def _without_receipt(self, frames: Sequence[FramePoints]) -> tuple[list[FramePoints], Frames]:
        """The frames to store, each once, and their sequences by (path, boot)."""
        fresh: list[FramePoints] = []
        receipts: Frames = {}
        seen: set[tuple[str, int, int]] = set()
        for frame in frames:
            key = (str(frame.path), frame.boot, frame.sequence)
            if key not in seen and not self._receipts.has(*key):
                seen.add(key)
                fresh.append(frame)
                receipts.setdefault(key[:2], []).append(frame.sequence)
        return fresh, receipts

    def _ids(self, series: tuple[Series, ...], added: list[Series]) -> NDArray[np.int32]:
        """Database ids; found by object identity first, because hashing a Series costs more than storing a point."""
        found = []
        for one in series:
            known = self._objects.get(id(one))
            if known is None or known[0] is not one:
                number = self._series.get(one)
                if number is None:
                    number = self._series[one] = self._next_id
                    self._next_id += 1
                    added.append(one)
                if len(self._objects) >= KNOWN_OBJECTS:
                    self._objects.clear()
                known = self._objects[id(one)] = (one, number)
            found.append(known[1])
        return np.array(found, dtype=np.int32)

    def _insert_frames(self, frames: list[FramePoints]) -> None:
        added: list[Series] = []
        columns: dict[Kind, list[_Columns]] = {}
        for frame in frames:
            for table, series in zip(frame.tables, frame.series, strict=True):
                if table.status.size:
                    columns.setdefault(table.kind, []).append(_Columns(table, self._ids(series, added)))
        self._insert_series(added)
        for kind, parts in columns.items():
            self._insert_points(kind, parts)

    def _forget_series(self, known: int) -> None:
        """Drop the series that a failed transaction would have added: all but the first `known`."""
        while len(self._series) > known:
            self._series.popitem()
        self._objects.clear()

    def _insert_series(self, added: list[Series]) -> None:
        if not added:
            return
        names = SERIES_COLUMNS.split(", ")
        rows = [
            (
                *(getattr(one.path, name) for name in names[:4]),
                *(getattr(one, name) for name in names[4:8]),
                one.kind.value,
            )
            for one in added
        ]
        batch: dict[str, NDArray[Any]] = {"id": np.array([self._series[one] for one in added], dtype=np.int32)}
        batch |= {name: _objects(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        self._insert("INSERT INTO series SELECT * FROM batch", batch)

    def _insert_points(self, kind: Kind, parts: "list[_Columns]") -> None:
        batch = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("series", "time_ns", "values", "status")
        }
        if kind is Kind.TEXT:
            batch["values"] = _objects([_clean(text) for text in batch["values"].tolist()])
        value = 'CASE WHEN isfinite("values") THEN "values" END' if kind is Kind.FLOAT else '"values"'
        self._insert(
            f"INSERT INTO points(series, time_ns, {FIELDS[kind]}, status) "  # noqa: S608
            f"SELECT series, time_ns, {value}, status FROM batch",
            batch,
        )

    def _insert_receipts(self, rows: list[tuple[str, int, int, int]]) -> None:
        paths, *numbers = zip(*rows, strict=True)
        boot, low, high = (np.array(column, dtype=np.uint64) for column in numbers)
        self._insert(_INSERT_RECEIPTS, {"path": _objects(paths), "boot": boot, "low": low, "high": high})

    def _insert(self, sql: str, batch: dict[str, NDArray[Any]]) -> None:
        self._connection.register("batch", batch)
        try:
            self._connection.execute(sql)
        finally:
            self._connection.unregister("batch")

    def _compact(self) -> None:
        """Rewrite the receipts as the fewest ranges, so that the next start does not read one row a frame."""
        rows = self._receipts.rows()
        with self._transaction():
            self._connection.execute("DELETE FROM receipts")
            self._insert_receipts(rows)
        self._receipt_rows = 0

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. DuckDB's errors become StoreUnavailable, but for Fatal."""
        try:
            self._connection.begin()
            yield
            self._connection.commit()
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):
                self._connection.rollback()
            if isinstance(error, duckdb.Error) and not isinstance(error, Fatal):
                raise StoreUnavailable(f"{self._path}: {error}") from error
            raise


SAME_SERIES = (
    "city = ? AND district = ? AND street = ? AND gateway = ? AND device = ? AND stream = ? AND quantity = ? "
    "AND kind = ?"
)


def series_values(series: Series) -> list[object]:
    """The parameters of SAME_SERIES: a series whose unit was corrected is still the same."""
    path = series.path
    place = [path.city, path.district, path.street, path.gateway]
    return [*place, series.device, series.stream, series.quantity, series.kind.value]


def series_of(row: tuple[Any, ...]) -> Series:
    """A series from its SERIES_COLUMNS."""
    city, district, street, gateway, device, stream, quantity, unit, kind = row
    return Series(GatewayPath(city, district, street, gateway), device, stream, quantity, unit, Kind(kind))


class _Columns:
    """The readings of one table as flat columns."""

    __slots__ = ("series", "status", "time_ns", "values")

    def __init__(self, table: Table, ids: NDArray[np.int32]) -> None:
        cells = np.flatnonzero(table.present().ravel())
        self.series = ids[cells % len(ids)]
        self.time_ns = table.times[cells // len(ids)]
        self.values = table.values.ravel()[cells]
        self.status = table.status.ravel()[cells]
        if table.kind is Kind.FLOAT:
            lost = ~np.isfinite(self.values.astype(np.float64, copy=False)) & (self.status == 0)
            if lost.any():
                self.status[lost] = NOT_A_NUMBER


def _connect(path: Path, threads: int, memory_limit_bytes: int) -> duckdb.DuckDBPyConnection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(
            str(path),
            config={
                "threads": threads,
                "memory_limit": f"{memory_limit_bytes // 2**20}MiB",
                "enable_external_access": False,
            },
        )
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        if "lock" in first.lower():
            raise ConfigError(
                [f"{path}: another process has this store open; the embedded store serves one process. {first}"]
            ) from error
        raise ConfigError([f"{path}: cannot be opened: {first}"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be opened: {error}"]) from error


def _objects(values: Sequence[object]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _clean(text: str) -> str:
    # Text off the wire is valid UTF-8; a lone surrogate could only be made inside the process.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()

"""What a store is: it takes frames' tables whole and tells the outcome; it answers range queries.

A point is (series, time): writing it again is the same point. `write` returns only when every point is durable in the
database, else raises what happened. Nothing is buffered behind the caller's back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contract.readings import Bytes, Ints, Kind, Table, Value
from contract.topics import GatewayPath


@dataclass(frozen=True, slots=True)
class Series:
    """What identifies a series in the database: the measurement is the quantity, the rest are tags."""

    path: GatewayPath
    device: str
    stream: str
    quantity: str
    unit: str
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False)
class FramePoints:
    """The points of one frame. `series[i]` maps the stream ids of `tables[i]` to series, in the table's order."""

    path: GatewayPath
    boot: int
    sequence: int
    tables: tuple[Table, ...]
    series: tuple[tuple[Series, ...], ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One stored point as read back. `value` is None where the database holds quality alone (NaN, infinity)."""

    time_ns: int
    value: Value | None
    quality: int
    reason: int


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Stored points of one series as columns of equal length, ascending in time.

    times: int64 ns. values: float64, int64, bool, or object holding str, by the series' kind; where the database holds
    quality alone the value carries no meaning and `valued` is False. status: uint8, as contract.readings has it.
    """

    times: Ints
    values: NDArray[np.generic]
    valued: NDArray[np.bool_]
    status: Bytes


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series: every field that is not None must match."""

    gateway: str | None = None
    device: str | None = None
    stream: str | None = None


class Writer(Protocol):
    """Where points go: all that a collector asks of a store."""

    async def write(self, frames: Sequence[FramePoints]) -> None:
        """Make every point durable.

        Raises PartialWrite when all but the named points are durable, StoreUnavailable when nothing may be assumed.
        """


class Store(Writer, Protocol):
    """One database."""

    async def open(self) -> None:
        """Connect and create what is missing. Raises StoreUnavailable, or ConfigError when it can never work."""

    async def close(self) -> None:
        """Free everything. Never raises."""

    async def series(self) -> list[Series]:
        """Every series the store holds, sorted."""

    async def read(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 10_000) -> list[Point]:
        """Points with start_ns <= time < end_ns, ascending, at most `limit`. Raises StoreUnavailable."""

    async def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int = 50_000) -> Columns:
        """As `read`, in columns: for answers of millions of points. Raises StoreUnavailable."""

    async def delete(self, series: Series, *, before_ns: int | None = None) -> int:
        """Destroy the points of a series (those with time < before_ns), for good; returns how many there were.

        Verified by reading back before it returns. Raises StoreUnavailable, also when some are still there.
        """

    async def count(self, selector: Selector) -> dict[tuple[str, str, str], int]:
        """Points by (gateway, device, stream). Raises StoreUnavailable."""

    async def latest(self, selector: Selector) -> dict[tuple[str, str, str], Point]:
        """The newest point by (gateway, device, stream). Raises StoreUnavailable."""

"""What every store's `columns` shares: empty columns, joined pages, and rows turned into columns."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud.stores.base import Columns
from contract.readings import Ints, Kind, Value

TYPES: dict[Kind, type[np.generic]] = {
    Kind.FLOAT: np.float64,
    Kind.INT: np.int64,
    Kind.BOOL: np.bool_,
    Kind.TEXT: np.object_,
}
FILLERS: dict[Kind, Value] = {Kind.FLOAT: np.nan, Kind.INT: 0, Kind.BOOL: False, Kind.TEXT: ""}


def empty(kind: Kind) -> Columns:
    """Columns without a point."""
    nothing = np.empty(0, dtype=np.int64)
    return Columns(nothing, np.empty(0, dtype=TYPES[kind]), np.empty(0, dtype=np.bool_), np.empty(0, dtype=np.uint8))


def joined(pages: Sequence[Columns], kind: Kind) -> Columns:
    """Pages that follow each other in time, as one."""
    if len(pages) == 1:
        return pages[0]
    if not pages:
        return empty(kind)
    return Columns(
        np.concatenate([page.times for page in pages]),
        np.concatenate([page.values for page in pages]),
        np.concatenate([page.valued for page in pages]),
        np.concatenate([page.status for page in pages]),
    )


def from_lists(
    kind: Kind,
    times: Sequence[int],
    values: Sequence[Value | None],
    quality: Sequence[int | None],
    reason: Sequence[int | None],
) -> Columns:
    """Columns of rows as a database's JSON has them, None where a field is not there."""
    valued = np.array([value is not None for value in values], dtype=np.bool_)
    column: NDArray[np.generic] = np.empty(len(times), dtype=TYPES[kind])
    column[:] = [FILLERS[kind] if value is None else value for value in values]
    marks: Ints = np.array([code or 0 for code in quality], dtype=np.int64)
    reasons: Ints = np.array([code or 0 for code in reason], dtype=np.int64)
    status = ((marks & 3) << 6 | (reasons & 0x3F)).astype(np.uint8)
    return Columns(np.array(times, dtype=np.int64), column, valued, status)

"""Numbers to bytes of text, fast: most of a city's numbers have few digits, and have been written before.

A float is written by repr, the shortest text that reads back as the same double: 0.2 us each. Where the catalogue
says how many decimals a stream has, its numbers are whole multiples of 0.1 or 0.01; the text of each such number is
made once and found again by numpy indexing, in a fifth of that. Whether a number is such a multiple is checked to the
last bit, so the text is that of repr in every case. Memory: 4 MB of references, and the texts of what occurred.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.readings import Ints

MOST_DECIMALS = 3
HALF = 1 << 16  # steps kept on each side of zero: whatever a 16-bit register can say
FEWEST, FEWEST_MIXED = 64, 256  # below so many numbers repr is quicker than numpy
_SPAN = 2 * HALF
_POWERS = np.array([10.0**decimals for decimals in range(MOST_DECIMALS + 1)], dtype=np.float64)
_COLUMNS_KEPT = 1000

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class _Columns(NamedTuple):
    """A table's columns. usable: those with few decimals. powers, offsets, limits: (S,), of any where not usable.

    limits: below which a number may have a place. limit: the lowest.
    """

    usable: Mask
    all_usable: bool
    powers: Floats
    offsets: Ints
    limits: Floats
    limit: float


class Decimals:
    """The texts of the numbers k / 10**d with |k| < HALF and d <= MOST_DECIMALS, each made when it first occurs.

    Several threads may share one: they may make the same text twice.
    """

    def __init__(self) -> None:
        self._texts = np.empty((MOST_DECIMALS + 1) * _SPAN, dtype=object)
        self._made = np.zeros((MOST_DECIMALS + 1) * _SPAN, dtype=np.bool_)
        self._columns: dict[bytes, _Columns] = {}

    def texts(self, values: Floats, decimals: NDArray[np.int8] | None) -> Sequence[bytes]:
        """repr of each of `values` (T, S), row by row. decimals: (S,), of each column; a hint, -1 where not known."""
        if decimals is None or values.size < FEWEST:
            return reprs(values)
        columns = self._known(decimals)
        places = self._all_places(values, columns) if columns.all_usable else None
        if places is not None:
            self._make(places)
            found: list[bytes] = self._texts.take(places.ravel()).tolist()
            return found
        return self._some(values, columns) if values.size >= FEWEST_MIXED else reprs(values)

    def _all_places(self, values: Floats, columns: _Columns) -> Ints | None:
        """Where the text of each number is, (T, S); None when one has no place."""
        if not np.abs(values).max() < columns.limit:  # also when one is NaN
            return None
        steps: Ints = np.rint(values * columns.powers).astype(np.int64)
        # Bit by bit, because -0.0 is not 0.0 and an almost equal number has another text.
        if not ((steps / columns.powers).view(np.int64) == values.view(np.int64)).all():
            return None
        return steps + columns.offsets

    def _some(self, values: Floats, columns: _Columns) -> Sequence[bytes]:
        """The same when only the numbers of some columns have a place."""
        quick = columns.usable & (np.abs(values).max(axis=0) < columns.limits)
        some, powers = values[:, quick], columns.powers[quick]
        steps: Ints = np.rint(some * powers).astype(np.int64)
        same = ((steps / powers).view(np.int64) == some.view(np.int64)).all(axis=0)
        places = (steps + columns.offsets[quick])[:, same]
        quick[quick] = same
        self._make(places)
        out = np.empty(values.shape, dtype=object)
        out[:, quick] = self._texts[places]
        rest = values[:, ~quick]
        out[:, ~quick] = np.array(reprs(rest), dtype=object).reshape(rest.shape)
        found: list[bytes] = out.ravel().tolist()
        return found

    def _known(self, decimals: NDArray[np.int8]) -> _Columns:
        key = decimals.tobytes()
        found = self._columns.get(key)
        if found is None:
            if len(self._columns) >= _COLUMNS_KEPT:
                self._columns.clear()
            usable: Mask = (decimals >= 0) & (decimals <= MOST_DECIMALS)
            each = np.where(usable, decimals, 0).astype(np.int64)
            powers: Floats = _POWERS[each]
            limits = (HALF - 1) / powers
            found = _Columns(usable, bool(usable.all()), powers, each * _SPAN + HALF, limits, float(limits.min()))
            self._columns[key] = found
        return found

    def _make(self, places: Ints) -> None:
        if self._made.take(places).all():
            return
        for place in np.unique(places[~self._made[places]]).tolist():
            decimals, step = divmod(place, _SPAN)
            self._texts[place] = repr((step - HALF) / 10.0**decimals).encode()
            self._made[place] = True  # after its text, for another thread


def reprs(values: NDArray[np.generic]) -> list[bytes]:
    """repr of each number, row by row."""
    if not values.size:
        return []
    return "\n".join(map(repr, values.ravel().tolist())).encode().split(b"\n")

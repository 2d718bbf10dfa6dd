"""Why: which box belongs to which track is decided for all at once, for the best pair alone may spoil two others.

Shortest augmenting paths with prices (Kuhn-Munkres as Jonker and Volgenant order it). Gating leaves most rows with one
possible column, so the matrix falls into small islands; only islands with a choice are solved. 30 tracks and boxes on
a street cost 60 us, 100 x 100 without any gating 8 ms (test_assign.py holds it against every permutation).
"""

import numpy as np
from numpy.typing import NDArray

Costs = NDArray[np.float64]
Flags = NDArray[np.bool_]
Pair = tuple[int, int]


def match(costs: Costs, limit: float) -> list[Pair]:
    """The pairs (row, column) that make the sum of costs smallest, where a row or column left alone costs `limit`.

    costs: (rows, columns), infinity for pairs that may not be. No pair costs `limit` or more. Sorted by row.
    """
    allowed = costs < limit
    rows, columns = np.nonzero(allowed)
    if not len(rows):
        return []
    alone = (allowed.sum(axis=1)[rows] == 1) & (allowed.sum(axis=0)[columns] == 1)
    pairs: list[Pair] = list(zip(rows[alone].tolist(), columns[alone].tolist(), strict=True))
    if not alone.all():
        for island_rows, island_columns in _islands(rows[~alone].tolist(), columns[~alone].tolist()):
            gains = np.minimum(costs[np.ix_(island_rows, island_columns)] - limit, 0.0)
            pairs += [(island_rows[row], island_columns[column]) for row, column in _solve(gains)]
    return sorted(pairs)


def _islands(rows: list[int], columns: list[int]) -> list[tuple[list[int], list[int]]]:
    """Rows and columns that reach each other through the given edges."""
    by_row: dict[int, list[int]] = {}
    by_column: dict[int, list[int]] = {}
    for row, column in zip(rows, columns, strict=True):
        by_row.setdefault(row, []).append(column)
        by_column.setdefault(column, []).append(row)
    found: list[tuple[list[int], list[int]]] = []
    while by_row:
        first, reached = by_row.popitem()
        island, seen, ahead = [first], set[int](), reached
        while ahead:
            column = ahead.pop()
            if column in seen:
                continue
            seen.add(column)
            for row in by_column[column]:
                beyond = by_row.pop(row, None)
                if beyond is not None:
                    island.append(row)
                    ahead += beyond
        found.append((sorted(island), sorted(seen)))
    return found


def _solve(gains: Costs) -> list[Pair]:
    """The pairs of the smallest sum of `gains`, all of which are 0 (no pair) or less."""
    if gains.shape[0] > gains.shape[1]:
        return [(row, column) for column, row in _solve(np.ascontiguousarray(gains.T))]
    if len(gains) == 1:
        return [(0, int(gains[0].argmin()))]
    count, width = gains.shape
    row_prices = np.zeros(count)
    column_prices = np.zeros(width)
    owner = np.full(width, -1, dtype=np.int64)
    for row in range(count):
        _augment(gains, row, row_prices, column_prices, owner)
    pairs = [(int(row), column) for column, row in enumerate(owner) if row >= 0]
    return [(row, column) for row, column in pairs if gains[row, column] < 0]


def _augment(gains: Costs, start: int, row_prices: Costs, column_prices: Costs, owner: NDArray[np.int64]) -> None:
    """Give `start` a column, moving others along the cheapest path. Keeps gains - prices >= 0, and 0 on owned pairs."""
    width = len(owner)
    distance = np.full(width, np.inf)
    before = np.full(width, -1, dtype=np.int64)
    done = np.zeros(width, dtype=np.bool_)
    row, column, reached = start, -1, 0.0
    while True:
        step = gains[row] - row_prices[row] - column_prices + reached
        nearer = ~done & (step < distance)
        distance[nearer] = step[nearer]
        before[nearer] = column
        column = int(np.where(done, np.inf, distance).argmin())
        reached = float(distance[column])
        if owner[column] < 0:
            break
        done[column] = True
        row = int(owner[column])
    passed = reached - distance[done]
    row_prices[start] += reached
    row_prices[owner[done]] += passed
    column_prices[done] -= passed
    while column >= 0:
        previous = int(before[column])
        owner[column] = start if previous < 0 else owner[previous]
        column = previous

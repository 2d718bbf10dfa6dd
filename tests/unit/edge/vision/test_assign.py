from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.vision.assign import match


def _best(costs: np.ndarray, limit: float) -> float:
    """The smallest sum there is, by trying everything."""
    rows, columns = costs.shape
    padded = np.full((rows + columns, rows + columns), 0.0)
    padded[:rows, :columns] = np.minimum(costs - limit, 0.0)
    wide = padded[:rows] if rows <= columns else padded[:, :columns].T
    few, many = wide.shape
    choices = permutations(range(min(many, few + max(rows, columns))), few)
    found: float = min(sum(wide[row, column] for row, column in enumerate(choice)) for choice in choices)
    return found


_cost = st.one_of(st.floats(0, 12), st.integers(0, 12).map(float), st.just(float("inf")))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 4).flatmap(
        lambda r: st.integers(0, 4).flatmap(
            lambda c: st.tuples(st.just((r, c)), st.lists(_cost, min_size=r * c, max_size=r * c))
        )
    )
)
def test_no_other_pairing_is_cheaper(drawn: tuple[tuple[int, int], list[float]]) -> None:
    shape, values = drawn
    costs, limit = np.array(values).reshape(shape), 9.0
    pairs = match(costs, limit)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(costs[pair] < limit for pair in pairs)
    assert sum(costs[pair] - limit for pair in pairs) == pytest.approx(_best(costs, limit), abs=1e-9)


@pytest.mark.parametrize("size", [7, 8])
def test_dense_matrices_without_any_gate(size: int) -> None:
    costs = np.random.default_rng(size).random((size, size))
    found = sum(costs[pair] for pair in match(costs, 100.0))
    rows = range(size)
    assert found == pytest.approx(min(costs[rows, list(order)].sum() for order in permutations(rows)))


def test_the_best_pair_alone_does_not_spoil_two_others() -> None:
    assert match(np.array([[1.0, 2.0], [2.0, 8.0]]), 9.0) == [(0, 1), (1, 0)]


def test_a_hundred_and_a_hundred_end_in_time_and_all_find_somebody() -> None:
    costs = np.random.default_rng(3).random((100, 100))
    assert len(match(costs, 10.0)) == 100

"""Numbers as text: always what repr says, whatever the resolution promises."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloud.stores.texts import FEWEST, FEWEST_MIXED, HALF, Decimals, reprs

NUMBERS = Decimals()
ODD = [0.0, -0.0, float("nan"), float("inf"), 1e300, 5e-324, 0.1 + 0.2, 21.049999999999997, 65535.0, -65536.0, 65536.5]


def steps(decimals: int) -> st.SearchStrategy[float]:
    """Whole multiples of the resolution, as a pipeline makes them, within the texts that are kept and beyond."""
    return st.integers(-2 * HALF, 2 * HALF).map(lambda step: round(step / 10.0**decimals, decimals))


@given(st.data())
def test_every_number_has_the_text_of_repr(data: st.DataObject) -> None:
    columns = data.draw(st.integers(1, 8))
    rows = -(-data.draw(st.sampled_from([FEWEST, FEWEST_MIXED])) // columns)
    decimals = data.draw(st.lists(st.integers(-1, 5), min_size=columns, max_size=columns))
    drawn = [
        data.draw(st.lists(steps(max(0, each)) | st.sampled_from(ODD) | st.floats(), min_size=2, max_size=2))
        for each in decimals
    ]
    values = np.array([[column[row % 2] for column in drawn] for row in range(rows)], dtype=np.float64)
    assert list(NUMBERS.texts(values, np.array(decimals, dtype=np.int8))) == reprs(values)


@given(st.lists(steps(2), min_size=1, max_size=20))
def test_numbers_with_a_resolution_have_the_text_of_repr(some: list[float]) -> None:
    values = np.resize(np.array(some), (FEWEST, 3))
    assert list(NUMBERS.texts(values, np.full(3, 2, dtype=np.int8))) == reprs(values)
    assert list(NUMBERS.texts(values, None)) == reprs(values)


def test_nothing_is_nothing() -> None:
    assert list(NUMBERS.texts(np.zeros((0, 3)), np.ones(3, dtype=np.int8))) == []

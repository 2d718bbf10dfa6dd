import itertools

from hypothesis import given
from hypothesis import strategies as st

from cloud.ledger_sequences import Sequences, load, missing, union

numbers = st.lists(st.integers(0, 60), max_size=60)


@given(numbers, numbers)
def test_ranges_are_the_set(some: list[int], more: list[int]) -> None:
    sequences, model = Sequences(), set()
    for number in some:
        assert sequences.add(number) == (number not in model)
        model.add(number)
    ranges = sequences.ranges()
    assert {number for low, high in ranges for number in range(low, high + 1)} == model
    assert all(high + 1 < low for (_, high), (low, _) in itertools.pairwise(ranges))
    assert (len(sequences), sequences.n_ranges()) == (len(model), len(ranges))
    assert all((number in sequences) == (number in model) for number in range(62))
    assert load(sequences.dump()).ranges() == ranges
    other = Sequences((number, number) for number in more)
    assert {n for low, high in union([sequences, other]).ranges() for n in range(low, high + 1)} == model | set(more)


@given(numbers, st.integers(0, 60), st.integers(0, 60))
def test_missing_is_the_rest(some: list[int], low: int, high: int) -> None:
    holes = missing(Sequences((number, number) for number in some), low, high)
    found = [number for first, last in holes for number in range(first, last + 1)]
    assert found == [number for number in range(low, high + 1) if number not in some]

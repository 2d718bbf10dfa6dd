"""Receipts against a plain set, and what happens at their bounds."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloud.stores.receipts import Ranges, Receipts

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6)), max_size=40)


@given(PAIRS)
def test_ranges_are_a_set_of_numbers_kept_apart(pairs: list[tuple[int, int]]) -> None:
    ranges, model = Ranges(), set[int]()
    for low, length in pairs:
        ranges.add(low, low + length)
        model |= set(range(low, low + length + 1))
    assert {number for number in range(-1, 70) if number in ranges} == model
    found = ranges.pairs()
    assert all(left[1] + 1 < right[0] for left, right in pairwise(found))


def test_a_million_frames_in_any_order_are_one_range() -> None:
    receipts = Receipts()
    for low in (500_000, 0, 250_000, 750_000):
        receipts.add("g", 1, low, low + 249_999)
    assert receipts.rows() == [("g", 1, 0, 999_999)]
    assert receipts.has("g", 1, 123_456)
    assert not receipts.has("g", 2, 123_456)
    assert not receipts.has("h", 1, 123_456)


def test_old_boots_and_low_holes_are_forgotten_and_counted() -> None:
    receipts = Receipts(boots_kept=2, ranges_kept=3)
    for sequence in (0, 10, 20, 30):
        receipts.add("g", 1, sequence, sequence)
    assert not receipts.has("g", 1, 0)
    assert receipts.has("g", 1, 30)
    assert receipts.forgotten == 1
    receipts.add("g", 2, 0, 0)
    receipts.add("g", 1, 31, 31)  # boot 1 was heard of again, so boot 2 is now the oldest
    receipts.add("g", 3, 0, 0)
    assert [receipts.has("g", boot, sequence) for boot, sequence in ((1, 30), (2, 0), (3, 0))] == [True, False, True]
    restored = Receipts()
    for row in receipts.rows():
        restored.add(*row)
    assert restored.rows() == receipts.rows()

"""Average precision against a slow, literal reading of its definition, and what ignored objects do to it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.train.labels import Truth, overlaps, too_hard
from models.train.score import Found, Verdicts, average_precision, by_class, judge, match, mean, operating_point

BOX = np.array([[10, 10, 30, 50]], np.float32)


def truth(*boxes: tuple[float, float, float, float], ignore: tuple[bool, ...] = (), kind: int = 0) -> Truth:
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.array(ignore or (False,) * len(rows), np.bool_)
    return Truth(rows, np.full(len(rows), kind, np.int64), flags)


def found(*rows: tuple[float, float, float, float, float], kind: int = 0) -> Found:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Found(table[:, :4], table[:, 4], np.full(len(table), kind, np.int64))


def literal_average_precision(scores: list[float], right: list[bool], wanted: int) -> float:
    """For each of 101 recalls the best precision of any threshold that reaches it."""
    points = []
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    for n in range(1, len(order) + 1):
        hits = sum(right[i] for i in order[:n])
        points.append((hits / wanted, hits / n))
    best = [max((p for r, p in points if r >= step / 100 - 1e-12), default=0.0) for step in range(101)]
    return sum(best) / 101


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 20))
def test_equals_the_definition(right: list[bool], missed: int) -> None:
    wanted = sum(right) + missed
    if not wanted:
        return
    scores = [1 - i / 100 for i in range(len(right))]
    ours = average_precision(Verdicts(np.array(scores), np.array(right, np.bool_), wanted))
    # searchsorted may take a recall that is one rounding below; then a whole step of 1/101 moves
    assert ours == pytest.approx(literal_average_precision(scores, right, wanted), abs=0.0101)


def test_perfect_is_one_and_silence_is_nought() -> None:
    assert by_class([found((10, 10, 30, 50, 0.9))], [truth(*BOX.tolist())])[0] == 1.0
    assert by_class([found()], [truth(*BOX.tolist())])[0] == 0.0


def test_nothing_to_find_is_no_figure() -> None:
    values = by_class([found()], [truth()])
    assert all(math.isnan(value) for value in values)
    assert math.isnan(mean(values))
    assert mean([0.5, math.nan, 1.0]) == 0.75


def test_a_second_box_on_one_object_is_wrong() -> None:
    verdict = match(overlaps(np.repeat(BOX, 2, 0), BOX), np.array([False]))
    assert verdict.tolist() == [1, 0]


def test_a_box_on_an_ignored_object_is_neither_right_nor_wrong() -> None:
    what = found((10, 10, 30, 50, 0.9), (100, 100, 120, 140, 0.8))
    real = truth((10, 10, 30, 50), (100, 100, 120, 140), ignore=(False, True))
    verdicts = judge([what], [real], 0, None)
    assert (verdicts.scores.tolist(), verdicts.wanted) == ([pytest.approx(0.9)], 1)


def test_an_object_that_counts_comes_before_an_ignored_one_that_overlaps_more() -> None:
    beside = BOX + np.array([0, 0, 6, 0], np.float32)
    verdict = match(overlaps(BOX, np.concatenate([beside, BOX])), np.array([False, True]))
    assert verdict.tolist() == [1]


def test_another_class_is_wrong() -> None:
    verdicts = judge([found((10, 10, 30, 50, 0.9), kind=1)], [truth((10, 10, 30, 50), kind=0)], 1, None)
    assert (verdicts.right.tolist(), verdicts.wanted) == ([False], 0)


def test_a_range_of_heights_neither_wants_nor_blames_others() -> None:
    what = found((10, 10, 30, 50, 0.9), (200, 10, 204, 22, 0.8), (100, 10, 105, 23, 0.7))
    real = truth((10, 10, 30, 50), (200, 10, 204, 22))
    low = judge([what], [real], 0, (10, 16))
    assert low.wanted == 1
    assert low.right.tolist() == [True, False]  # the box of 40 px is not blamed, the false one of 13 px is


def test_precision_and_recall_at_a_threshold() -> None:
    what = found((10, 10, 30, 50, 0.9), (200, 10, 240, 60, 0.6), (100, 10, 140, 60, 0.2))
    real = truth((10, 10, 30, 50), (100, 10, 140, 60))
    assert operating_point([what], [real], 0, 0.5) == (0.5, 0.5)


def test_what_is_too_hard() -> None:
    boxes = np.array([[0, 0, 9, 15.9], [0, 0, 5.9, 20], [0, 0, 9, 16], [0, 0, 9, 16]], np.float32)
    assert too_hard(boxes, np.array([1, 1, 0.24, 0.25], np.float32)).tolist() == [True, True, True, False]

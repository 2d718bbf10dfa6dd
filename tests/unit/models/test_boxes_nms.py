"""Each object once, and nothing that is no box: against a reference that is too slow to be wrong."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_heads import brute_force

from models.boxes import MAX_CANDIDATES, Candidates, clean, nms
from models.types import Array

SIZE = (320, 192)


coarse = st.integers(0, 12)  # few places: equal boxes, and IoUs of exactly 1/2, 1/3, are common
box = st.tuples(coarse, coarse, st.integers(1, 6), st.integers(1, 6)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
fine = st.integers(0, 40 * 256).map(lambda n: n / 256)
fine_box = st.tuples(fine, fine, fine, fine).map(lambda b: (b[0], b[1], b[0] + b[2] + 1 / 256, b[1] + b[3] + 1 / 256))
thresholds = st.sampled_from([0.25, 1 / 3, 0.45, 0.5, 0.6, 0.7, 0.75])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(box, st.integers(0, 2)), max_size=90), thresholds)
def test_the_kept_boxes_are_those_of_the_definition_ties_included(found: list[tuple[Array, int]], iou: float) -> None:
    boxes, classes = [list(b) for b, _ in found], [c for _, c in found]
    kept = nms(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64), iou)
    assert kept.tolist() == brute_force(boxes, classes, iou)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(fine_box, st.integers(0, 1)), max_size=40), st.floats(0.01, 0.99))
def test_so_are_those_at_any_place_and_threshold(found: list[tuple[Array, int]], iou: float) -> None:
    boxes, classes = [list(b) for b, _ in found], [c for _, c in found]
    kept = nms(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64), iou)
    assert kept.tolist() == brute_force(boxes, classes, iou)


def test_across_many_blocks_it_agrees_with_the_definition_and_with_opencv() -> None:
    random = np.random.RandomState(3)
    centres = random.rand(60, 2) * (300, 170)
    corner = np.repeat(centres, 15, axis=0) + random.randn(900, 2) * 3
    boxes = np.concatenate([corner, corner + 8 + random.rand(900, 2) * 20], axis=1)
    scores, classes = random.rand(900).astype(np.float32), random.randint(0, 4, 900).astype(np.int64)
    found = clean(Candidates(boxes, scores, classes, 0), SIZE)
    kept = nms(found.boxes, found.classes, 0.5)
    assert kept.tolist() == brute_force(found.boxes.tolist(), found.classes.tolist(), 0.5)
    sides = found.boxes.astype(np.float64)
    sides[:, 2:] -= sides[:, :2]
    theirs = cv2.dnn.NMSBoxesBatched(sides.tolist(), found.scores.tolist(), found.classes.tolist(), -1.0, 0.5)
    assert kept.tolist() == sorted(np.asarray(theirs).ravel().tolist())


def test_an_overlap_of_exactly_the_threshold_is_two_objects() -> None:
    boxes = np.array([[0, 0, 4, 3], [0, 1, 4, 4], [0, 0, 4, 2.99]], np.float32)  # 8/16, and a little more than 11/12
    assert nms(boxes, np.zeros(3, np.int64), 0.5).tolist() == [0, 1]


def test_one_box_each_class_stays_where_two_classes_agree() -> None:
    boxes = np.array([[0, 0, 9, 9]] * 4, np.float32)
    assert nms(boxes, np.array([1, 0, 1, 0]), 0.5).tolist() == [0, 1]


def test_equal_scores_stay_in_the_order_of_the_model() -> None:
    boxes = np.array([[x, 0, x + 5, 5] for x in (40, 10, 30, 20)], np.float64)
    found = clean(Candidates(boxes, np.full(4, 0.5, np.float32), np.arange(4), 0), SIZE)
    assert found.classes.tolist() == [0, 1, 2, 3]


def test_what_is_no_box_is_dropped_and_counted() -> None:
    good = [10, 10, 20, 20]
    boxes = [
        good,
        [np.nan, 0, 5, 5],
        [0, 0, np.inf, 5],
        [0, -np.inf, 5, 5],
        [20, 10, 10, 20],
        [5, 5, 5, 9],
        [400, 0, 500, 9],
    ]
    scores = [0.9] * len(boxes) + [np.nan, np.inf, -0.5, 1.5]
    boxes += [good] * 4
    found = clean(Candidates(np.array(boxes), np.array(scores, np.float32), np.zeros(len(boxes), np.int64), 2), SIZE)
    assert found.boxes.tolist() == [good]
    assert found.dropped == 2 + len(boxes) - 1


def test_a_box_half_outside_ends_at_the_edge() -> None:
    boxes = np.array([[-8.0, 100.0, 40.0, 1e30]])
    found = clean(Candidates(boxes, np.ones(1, np.float32), np.zeros(1, np.int64), 0), SIZE)
    assert found.boxes.tolist() == [[0, 100, 40, 192]]


def test_a_picture_of_nothing_but_objects_is_bounded_by_the_best() -> None:
    random = np.random.RandomState(0)
    corner = random.rand(25_000, 2) * 150
    boxes = np.concatenate([corner, corner + 20], axis=1)
    scores = random.rand(25_000).astype(np.float32)
    found = clean(Candidates(boxes, scores, np.zeros(25_000, np.int64), 0), SIZE)
    assert len(found.scores) == MAX_CANDIDATES
    assert found.dropped == 25_000 - MAX_CANDIDATES
    assert found.scores[-1] == np.sort(scores)[-MAX_CANDIDATES]
    assert (np.diff(found.scores) <= 0).all()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.floats(width=32)] * 5), max_size=20))
def test_any_floats_come_out_as_boxes_inside_the_canvas(rows: list[tuple[float, ...]]) -> None:
    numbers = np.array(rows, np.float32).reshape(-1, 5)
    found = clean(Candidates(numbers[:, :4], numbers[:, 4], np.zeros(len(rows), np.int64), 0), SIZE)
    assert len(found.scores) + found.dropped == len(rows)
    x0, y0, x1, y1 = found.boxes.T
    assert ((x0 >= 0) & (x0 < x1) & (x1 <= 320) & (y0 >= 0) & (y0 < y1) & (y1 <= 192)).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()

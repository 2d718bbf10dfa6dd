"""Anchors and who answers for what: against loops over every anchor."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.train.assign import ANCHORS_PER_OBJECT, RADIUS, REACH, STRIDES, align, anchors_of, candidates, silenced
from models.train.labels import Floats

SIZE = (128, 96)
ANCHORS = anchors_of(SIZE)


@st.composite
def boxes(draw: st.DrawFn) -> Floats:
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        width, height = draw(st.floats(2, 120)), draw(st.floats(2, 90))
        x, y = draw(st.floats(0, SIZE[0] - width)), draw(st.floats(0, SIZE[1] - height))
        rows.append((x, y, x + width, y + height))
    return np.array(rows, np.float32)


def test_anchors_are_the_centres_of_all_cells_level_by_level() -> None:
    assert len(ANCHORS.centres) == sum((128 // s) * (96 // s) for s in STRIDES)
    assert ANCHORS.centres[:2].tolist() == [[2, 2], [6, 2]]
    assert ANCHORS.centres[ANCHORS.starts[1]].tolist() == [4, 4]
    assert ANCHORS.centres[-1].tolist() == [112, 80]
    assert ANCHORS.strides[[0, -1]].tolist() == [4, 32]


@given(boxes())
def test_candidates_are_near_the_centre_inside_and_of_a_level_for_the_size(real: Floats) -> None:
    objects, places = candidates(real, ANCHORS)
    got = set(zip(objects.tolist(), places.tolist(), strict=True))
    assert len(got) == len(objects)
    levels = np.searchsorted(ANCHORS.starts, np.arange(len(ANCHORS.strides)), side="right") - 1
    low, high = np.array(REACH)[levels].T
    centres, stride = ANCHORS.centres.astype(np.float64), ANCHORS.strides
    for number, (x0, y0, x1, y1) in enumerate(real):
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        longest = max(x1 - x0, y1 - y0)
        level = (low * stride <= longest) & (longest <= high * stride)
        inside = (centres > (x0, y0)).all(1) & (centres < (x1, y1)).all(1)
        near = np.abs(centres - middle).max(1) < RADIUS * stride
        home = (np.floor(middle / stride[:, None]) == np.floor(centres / stride[:, None])).all(1)
        wanted = np.flatnonzero(level & ((inside & near) | home)).tolist()
        assert sorted(place for one, place in got if one == number) == wanted


@given(boxes())
def test_every_object_has_a_candidate(real: Floats) -> None:
    assert set(candidates(real, ANCHORS)[0].tolist()) == set(range(len(real)))


def test_no_object_has_no_candidates() -> None:
    objects, places = candidates(np.zeros((0, 4), np.float32), ANCHORS)
    kept, targets = align(objects, places, np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert len(kept) == len(targets) == 0


@given(st.integers(0, 2**32 - 1))
def test_aligned_pairs_are_the_best_of_each_object_and_no_anchor_serves_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation([(o, p) for o in range(4) for p in range(15)])[: rng.integers(1, 60)]
    objects, places = pairs.T
    scores, overlap = rng.random(len(pairs), np.float32), rng.random(len(pairs), np.float32)
    kept, targets = align(objects, places, scores, overlap)
    assert len(set(places[kept])) == len(kept)
    metric = (scores + 1e-4) ** 0.5 * (overlap + 1e-2) ** 6
    for number in set(objects[kept]):
        mine = kept[objects[kept] == number]
        assert len(mine) <= ANCHORS_PER_OBJECT
        bar = np.sort(metric[objects == number])[::-1][:ANCHORS_PER_OBJECT].min()
        assert metric[mine].min() >= bar
        top = targets[objects[kept] == number]
        assert np.isclose(top.max() ** 2, overlap[mine].max())
        assert np.argmax(top) == np.argmax(metric[mine])
    assert (targets > 0).all()
    assert (targets <= 1).all()


def test_an_anchor_wanted_twice_goes_to_the_object_it_overlaps_most() -> None:
    kept, _ = align(np.array([0, 1]), np.array([7, 7]), np.array([0.9, 0.1]), np.array([0.4, 0.5]))
    assert kept.tolist() == [1]


@given(boxes())
def test_all_anchors_inside_are_silenced_and_none_far_outside(real: Floats) -> None:
    quiet = silenced(real, ANCHORS)
    x, y, stride = ANCHORS.centres[:, 0], ANCHORS.centres[:, 1], ANCHORS.strides
    inside, around = np.zeros_like(quiet), np.zeros_like(quiet)
    for x0, y0, x1, y1 in real:
        inside |= (x > x0) & (x < x1) & (y > y0) & (y < y1)
        around |= (x > x0 - 2 * stride) & (x < x1 + 2 * stride) & (y > y0 - 2 * stride) & (y < y1 + 2 * stride)
    assert (quiet >= inside).all()
    assert (quiet <= around).all()

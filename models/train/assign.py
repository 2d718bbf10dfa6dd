"""Which anchor answers for which object, decided anew at each step from what the network says (TOOD, Feng et al. 2021).

Numpy alone: candidates are the few anchors near an object's centre on the levels that suit its size, so that a batch
is a list of some ten thousand pairs instead of a table of millions.
"""

from dataclasses import dataclass

import numpy as np

from models.train.labels import Bools, Floats, Ints

STRIDES = (4, 8, 16, 32)
RADIUS = 2.5
"""Candidates lie this many strides around an object's centre, and inside its box."""
REACH = ((0.0, 14.0), (1.0, 14.0), (1.5, 14.0), (2.0, np.inf))
"""Longest side that a level answers for, in its strides, from and to."""
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
ANCHORS_PER_OBJECT = 8


@dataclass(frozen=True, slots=True, eq=False)
class Anchors:
    """All anchors of a canvas: centres (n, 2) in pixels, strides (n), and where each level begins (levels + 1)."""

    centres: Floats
    strides: Floats
    starts: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]  # rows, columns of each level


def anchors_of(size: tuple[int, int]) -> Anchors:
    """The anchors of a canvas of width and height `size`, multiples of 32."""
    width, height = size
    shapes = tuple((height // s, width // s) for s in STRIDES)
    centres = []
    for (rows, columns), stride in zip(shapes, STRIDES, strict=True):
        y, x = np.mgrid[:rows, :columns]
        centres.append((np.stack([x, y], 2).reshape(-1, 2) + 0.5) * stride)
    counts = [rows * columns for rows, columns in shapes]
    starts = (0, *(int(n) for n in np.cumsum(counts)))
    strides = np.repeat(np.asarray(STRIDES, np.float32), counts)
    return Anchors(np.concatenate(centres).astype(np.float32), strides, starts, shapes)


def candidates(boxes: Floats, anchors: Anchors) -> tuple[Ints, Ints]:
    """Pairs (object, anchor): inside the box, within RADIUS of its centre, on levels for its size.

    An object always has one candidate on each of its levels: the cell that holds its centre.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    longest = (boxes[:, 2:] - boxes[:, :2]).max(1)
    window = np.arange(-3, 4)
    step_y, step_x = (grid.ravel() for grid in np.meshgrid(window, window, indexing="ij"))
    objects, chosen = [], []
    for level, (stride, (rows, columns), reach) in enumerate(zip(STRIDES, anchors.shapes, REACH, strict=True)):
        who = np.flatnonzero((longest >= reach[0] * stride) & (longest <= reach[1] * stride))
        home = np.floor(centre[who] / stride).astype(np.int64).clip(0, (columns - 1, rows - 1))
        x, y = home[:, :1] + step_x, home[:, 1:] + step_y
        at_x, at_y = (x + 0.5) * stride, (y + 0.5) * stride
        box = boxes[who, :, None]
        good = (at_x > box[:, 0]) & (at_x < box[:, 2]) & (at_y > box[:, 1]) & (at_y < box[:, 3])
        good &= np.maximum(abs(at_x - centre[who, :1]), abs(at_y - centre[who, 1:])) < RADIUS * stride
        good |= (step_x == 0) & (step_y == 0)
        good &= (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        row, column = np.nonzero(good)
        objects.append(who[row])
        chosen.append(anchors.starts[level] + y[row, column] * columns + x[row, column])
    return np.concatenate(objects), np.concatenate(chosen)


def align(objects: Ints, places: Ints, scores: Floats, overlap: Floats) -> tuple[Ints, Floats]:
    """Which pairs are chosen (indices into the pairs), and the score each is to learn, 0..1.

    objects: the object of each pair; places: its anchor, unique over the whole batch; scores: what the network gives
    the object's class there; overlap: of its box with the object's. Each object gets its ANCHORS_PER_OBJECT best; an
    anchor wanted by several goes to the one that it overlaps most. An object's best anchor learns the root of its
    overlap, the others less in proportion: with the overlap itself, small things that boxes do not fit yet are told
    to be quiet, and take twice as long to be found at all.
    """
    if not len(objects):
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    metric = (scores + 1e-4) ** SCORE_POWER * (overlap + 1e-2) ** OVERLAP_POWER
    order = np.lexsort((-metric, objects))
    first = np.r_[True, objects[order][1:] != objects[order][:-1]]
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    kept = order[rank < ANCHORS_PER_OBJECT]
    by_place = kept[np.lexsort((-overlap[kept], places[kept]))]
    winner = np.r_[True, places[by_place][1:] != places[by_place][:-1]]
    kept = by_place[winner]
    count = int(objects.max()) + 1
    best_metric, best_overlap = np.zeros(count), np.zeros(count)
    np.maximum.at(best_metric, objects[kept], metric[kept])
    np.maximum.at(best_overlap, objects[kept], overlap[kept])
    target = metric[kept] / best_metric[objects[kept]] * np.sqrt(best_overlap[objects[kept]])
    return kept, target.astype(np.float32)


def silenced(boxes: Floats, anchors: Anchors) -> Bools:
    """The anchors inside any of these boxes: what the network says there is not judged."""
    quiet = np.zeros(len(anchors.centres), np.bool_)
    for x0, y0, x1, y1 in boxes:
        for (rows, columns), stride, start in zip(anchors.shapes, STRIDES, anchors.starts, strict=False):
            level = quiet[start : start + rows * columns].reshape(rows, columns)
            top, left = max(0, round(y0 / stride)), max(0, round(x0 / stride))
            level[top : round(y1 / stride) + (y1 - y0 < stride), left : round(x1 / stride) + (x1 - x0 < stride)] = True
    return quiet

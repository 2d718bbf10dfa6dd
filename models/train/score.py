"""How good detections are: average precision at an overlap of one half, by class, condition and height of the object.

Matching is COCO's: detections in order of score, each takes the free object of its class that it overlaps most; one
that only meets an ignored object is neither right nor wrong. Precision is read at 101 recalls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.train.labels import CLASSES, Bools, Floats, Ints, Truth, overlaps

MIN_OVERLAP = 0.5
HEIGHTS = ((16, 26), (26, 38), (38, 64), (64, 288))
"""Height of an object, pixels of the canvas, from and below."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a detector says about one picture: boxes (n, 4) x0 y0 x1 y1, scores (n), classes (n)."""

    boxes: Floats
    scores: Floats
    classes: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """One class over many pictures: score of each detection that counts, whether it is right; objects to find."""

    scores: Floats
    right: Bools
    wanted: int


def judge(found: Sequence[Found], truths: Sequence[Truth], kind: int, heights: tuple[float, float] | None) -> Verdicts:
    """Matches detections of one class with objects. heights: only objects of that height count, others are ignored."""
    scores, right, wanted = [], [], 0
    for what, truth in zip(found, truths, strict=True):
        mine, real = what.classes == kind, truth.classes == kind
        boxes, ignore = truth.boxes[real], truth.ignore[real]
        said, order = what.boxes[mine], np.argsort(-what.scores[mine], kind="stable")
        if heights is not None:
            ignore = ignore | outside(boxes, heights)
        wanted += int((~ignore).sum())
        verdict = match(overlaps(said[order], boxes), ignore)
        if heights is not None:
            verdict = np.where((verdict == 0) & outside(said[order], heights), -1, verdict)
        scores.append(what.scores[mine][order][verdict >= 0])
        right.append(verdict[verdict >= 0] == 1)
    return Verdicts(np.concatenate([*scores, []]), np.concatenate([*right, np.zeros(0, np.bool_)]), wanted)


def outside(boxes: Floats, heights: tuple[float, float]) -> Bools:
    """Whether the boxes are lower than the first height, or not lower than the second."""
    tall = boxes[:, 3] - boxes[:, 1]
    return (tall < heights[0]) | (tall >= heights[1])


def match(overlap: Floats, ignore: Bools) -> Ints:
    """1 right, 0 wrong, -1 not judged, for each detection; overlap: (detections by falling score, objects)."""
    verdict = np.zeros(len(overlap), np.int64)
    free = np.ones(len(ignore), np.bool_)
    for row, share in enumerate(overlap):
        good = share >= MIN_OVERLAP
        takers = good & free & ~ignore
        if takers.any():
            free[np.where(takers, share, -1).argmax()] = False
            verdict[row] = 1
        elif (good & ignore).any():
            verdict[row] = -1
    return verdict


def average_precision(verdicts: Verdicts) -> float:
    """The area under precision over recall, 0..1; NaN when there is nothing to find."""
    if not verdicts.wanted:
        return float("nan")
    right = verdicts.right[np.argsort(-verdicts.scores, kind="stable")]
    hits = np.cumsum(right)
    recall, precision = hits / verdicts.wanted, hits / np.arange(1, len(right) + 1)
    best_after = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(best_after, 0.0)[place.clip(max=len(right))].mean())


def by_class(
    found: Sequence[Found], truths: Sequence[Truth], heights: tuple[float, float] | None = None
) -> list[float]:
    """Average precision of each class of `CLASSES`."""
    return [average_precision(judge(found, truths, kind, heights)) for kind in range(len(CLASSES))]


def operating_point(
    found: Sequence[Found], truths: Sequence[Truth], kind: int, threshold: float
) -> tuple[float, float]:
    """Precision and recall of one class when scores below `threshold` are dropped; NaN for nothing said or wanted."""
    verdicts = judge(found, truths, kind, None)
    right = verdicts.right[verdicts.scores >= threshold]
    said, hits = len(right), int(right.sum())
    return hits / said if said else float("nan"), hits / verdicts.wanted if verdicts.wanted else float("nan")


def mean(values: Sequence[float]) -> float:
    """The mean of those that are numbers; NaN when none is."""
    known = [value for value in values if value == value]  # noqa: PLR0124 - NaN differs from itself
    return sum(known) / len(known) if known else float("nan")

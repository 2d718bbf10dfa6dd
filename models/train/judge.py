"""A detector against held-out scenes: other seeds and other camera poses than it learned from.

Answers are read exactly as the gateway reads them (models/), only with a lower threshold: average precision wants the
doubtful ones, too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.boxes import clean, nms
from models.decode_dense import Yolov8Decoder
from models.train.labels import CANVAS, CLASSES, Floats, Truth
from models.train.scenes import FRAME, Shard, drawn_shards, on_canvas, open_shard
from models.train.score import HEIGHTS, Found, by_class, mean, operating_point

LOWEST_SCORE = 0.02
MOST_BOXES = 100
NMS_OVERLAP = 0.5
PICTURES_AT_ONCE = 20
CLEAN = "clean light"
"""Day and dusk without rain or fog; what is on or in the lens is not asked."""

Canvases = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]
Answer = Callable[[Canvases], Floats]
"""Canvases (n, height, width, 3) BGR to (n, 4 + classes, anchors): x y w h in pixels of the canvas, scores 0..1."""


@dataclass(frozen=True, slots=True)
class Report:
    """mAP50: overall, of each class of `CLASSES`, of each condition, of each range of `HEIGHTS` (also by class).

    at_threshold: by class, precision and recall at the score that the card proposes.
    """

    mean: float
    classes: list[float]
    conditions: dict[str, float]
    heights: dict[str, float]
    class_heights: dict[str, list[float]]
    at_threshold: list[tuple[float, float]]
    scenes: int
    objects: int


def read(row: Floats) -> Found:
    """The detections in one answer (4 + classes, anchors)."""
    candidates = Yolov8Decoder((None,), len(CLASSES)).decode([row[None]], LOWEST_SCORE)
    boxes, scores, classes, _ = clean(candidates, CANVAS)
    kept = nms(np.asarray(boxes, np.float32), classes, NMS_OVERLAP)[:MOST_BOXES]
    return Found(boxes[kept], scores[kept], classes[kept])


def detect(answer: Answer, shard: Shard) -> Iterator[Found]:
    """What is found in each picture of a shard, in pixels of the canvas."""
    for begin in range(0, len(shard.pictures), PICTURES_AT_ONCE):
        pictures = shard.pictures[begin : begin + PICTURES_AT_ONCE]
        for row in answer(np.stack([on_canvas(np.asarray(picture)) for picture in pictures])):
            yield read(row)


def on_canvas_truth(truth: Truth) -> Truth:
    """The objects of a frame where `on_canvas` puts them."""
    top = (CANVAS[1] - FRAME[1]) // 2
    return Truth(truth.boxes + np.array([0, top, 0, top], np.float32), truth.classes, truth.ignore)


def evaluate(answer: Answer, folder: Path, threshold: float, shards: int | None = None) -> Report:
    """Figures over the held-out shards of a folder, or the first few of them."""
    found: list[Found] = []
    truths: list[Truth] = []
    conditions: list[str] = []
    for number in drawn_shards(folder)[:shards]:
        shard = open_shard(folder, number)
        found += detect(answer, shard)
        truths += [on_canvas_truth(shard.truth(index)) for index in range(len(shard.pictures))]
        conditions += shard.conditions
    return report(found, truths, conditions, threshold)


def report(found: Sequence[Found], truths: Sequence[Truth], conditions: Sequence[str], threshold: float) -> Report:
    """All figures of what was found in pictures with their truth and condition."""
    classes = by_class(found, truths)
    by_condition: dict[str, float] = {}
    for condition in sorted({*conditions, *(name.split()[-1] for name in conditions)}):
        # "rain" stands for rain at any hour, "day" for a day without rain or fog.
        which = [i for i, name in enumerate(conditions) if condition in (name, name.split()[-1])]
        by_condition[condition] = mean(by_class([found[i] for i in which], [truths[i] for i in which]))
    which = [i for i, name in enumerate(conditions) if name in ("day", "dusk")]
    by_condition[CLEAN] = mean(by_class([found[i] for i in which], [truths[i] for i in which]))
    ranges = {f"{low}-{high}" if high < CANVAS[1] else f"{low}+": (float(low), float(high)) for low, high in HEIGHTS}
    class_heights = {name: by_class(found, truths, limits) for name, limits in ranges.items()}
    return Report(
        mean=mean(classes),
        classes=classes,
        conditions=by_condition,
        heights={name: mean(values) for name, values in class_heights.items()},
        class_heights=class_heights,
        at_threshold=[operating_point(found, truths, kind, threshold) for kind in range(len(CLASSES))],
        scenes=len(truths),
        objects=sum(int((~truth.ignore).sum()) for truth in truths),
    )

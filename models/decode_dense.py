"""Heads that answer at every place of a grid: YOLOv5, YOLOv8 and YOLOX, as their own exporters write them.

Each looks at the scores first: of thousands of places a few dozen are left, and only those are made boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.boxes import Candidates
from models.decode import corners, quiet, reaching, shape_problem
from models.types import Array, Floats


@dataclass(frozen=True, eq=False)
class Yolov8Decoder:
    """(1, 4 + classes, N): all first coordinates, all second ones, ..., so that a score is one contiguous row."""

    outputs: tuple[str | None, ...]
    classes: int

    def problem(self, outputs: Sequence[Array]) -> str:
        """See Decoder."""
        wrong = shape_problem("the output", outputs[0], (1, 4 + self.classes, "N"))
        return wrong and f"{wrong}: 4 and the card's {self.classes} classes"

    def decode(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """See Decoder."""
        rows = outputs[0][0]
        with quiet():
            keep, dropped = reaching(rows[4:].max(axis=0), confidence)
            kept = rows[:, keep]
            scores = kept[4:]
            return Candidates(corners(kept[:4].T, "cxcywh"), scores.max(axis=0), scores.argmax(axis=0), dropped)


@dataclass(frozen=True, eq=False)
class Yolov5Decoder:
    """(1, N, 5 + classes); the score is objectness x the best class score."""

    outputs: tuple[str | None, ...]
    classes: int

    def problem(self, outputs: Sequence[Array]) -> str:
        """See Decoder."""
        wrong = shape_problem("the output", outputs[0], (1, "N", 5 + self.classes))
        return wrong and f"{wrong}: 5 and the card's {self.classes} classes"

    def decode(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """See Decoder."""
        with quiet():
            kept, scores, dropped, _ = _objects(outputs[0][0], confidence)
            best, classes = scores.max(axis=1), scores.argmax(axis=1)
            return Candidates(corners(kept[:, :4], "cxcywh"), best, classes, dropped)


@dataclass(frozen=True, eq=False)
class YoloxDecoder:
    """(1, N, 5 + classes), N the cells of all strides, row by row, the finest first.

    centre = (offset + cell) x stride, side = e^size x stride (Ge et al. 2021, section 2.1).
    """

    outputs: tuple[str | None, ...]
    classes: int
    size: tuple[int, int]
    strides: tuple[int, ...]
    _cells: Floats = field(init=False)  # (N, 3): column, row, stride

    def __post_init__(self) -> None:
        parts = []
        for stride in self.strides:
            y, x = np.mgrid[: self.size[1] // stride, : self.size[0] // stride]
            parts.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
        object.__setattr__(self, "_cells", np.concatenate(parts).astype(np.float32))

    def problem(self, outputs: Sequence[Array]) -> str:
        """See Decoder."""
        wrong = shape_problem("the output", outputs[0], (1, len(self._cells), 5 + self.classes))
        strides = ", ".join(str(stride) for stride in self.strides)
        return wrong and f"{wrong}: the cells of strides {strides}, 5 and the card's {self.classes} classes"

    def decode(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """See Decoder."""
        with quiet():
            kept, scores, dropped, places = _objects(outputs[0][0], confidence)
            best, classes = scores.max(axis=1), scores.argmax(axis=1)
            cells = self._cells[places]
            stride = cells[:, 2:]
            boxes = np.concatenate([(kept[:, :2] + cells[:, :2]) * stride, np.exp(kept[:, 2:4]) * stride], axis=1)
            return Candidates(corners(boxes, "cxcywh"), best, classes, dropped)


def _objects(rows: Array, confidence: float) -> tuple[Floats, Floats, int, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Rows whose objectness x best class reaches `confidence`, their class scores, how many were NaN, and where."""
    hopeful, dropped = reaching(rows[:, 4], confidence)  # class scores are at most 1
    near = rows[hopeful].astype(np.float32)
    scores = near[:, 5:] * near[:, 4:5]
    keep, more = reaching(scores.max(axis=1), confidence)
    return near[keep], scores[keep], dropped + more, hopeful[keep]

"""Heads that speak of the whole picture: what it shows (classify), and how much of it shows what (segment)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.card_heads import Classify, Segment
from models.decode import quiet, shape_problem, sigmoid, softmax
from models.types import Array, Floats


class Classification(NamedTuple):
    """What the picture shows. scores: float32 (classes,); best: position of the class, None when none is sure."""

    scores: Floats
    best: int | None


class Segmentation(NamedTuple):
    """How much of the picture shows what. shares: float32 (classes,), of its pixels; unknown: the share whose numbers
    made no sense. They add up to 1."""

    shares: Floats
    unknown: float


@dataclass(frozen=True, eq=False)
class ClassifyDecoder:
    """(1, classes)."""

    outputs: tuple[str | None, ...]
    classes: int
    head: Classify

    def problem(self, outputs: Sequence[Array]) -> str:
        """What is wrong with the outputs' shapes; empty when they fit."""
        wrong = shape_problem("the output", outputs[0], (1, self.classes))
        return wrong and f"{wrong}: the card's {self.classes} classes"

    def decode(self, outputs: Sequence[Array], confidence: float) -> Classification:
        """The best class if its score is between `confidence` and 1."""
        with quiet():
            row = outputs[0][0].astype(np.float32)
            scores = softmax(row) if self.head.activation == "softmax" else row
            best = int(np.argmax(scores))  # a NaN comes first, and is not sure
            return Classification(scores, best if confidence <= scores[best] <= 1 else None)


@dataclass(frozen=True, eq=False)
class SegmentDecoder:
    """(1, classes, h, w), (1, 1, h, w) or (1, h, w)."""

    outputs: tuple[str | None, ...]
    classes: int
    size: tuple[int, int]
    head: Segment

    def problem(self, outputs: Sequence[Array]) -> str:
        """What is wrong with the outputs' shapes; empty when they fit."""
        found = outputs[0]
        if found.ndim == 4 and found.shape[1] == 1 and self.classes == 2:
            return ""
        wrong = shape_problem("the output", found, (1, self.classes, "h", "w"))
        if not wrong or not shape_problem("the output", found, (1, "h", "w")):
            return ""
        return f"{wrong}: the card's {self.classes} classes"

    def decode(
        self, outputs: Sequence[Array], confidence: float, frame: tuple[int, int, int, int] | None = None
    ) -> Segmentation:
        """The shares within `frame`, x0 y0 x1 y1 in canvas pixels; None: the whole canvas.

        With one channel a pixel is the second class from `confidence` on; with several it is the best one.
        """
        with quiet():
            labels: Array
            known: Array
            numbers = self._crop(outputs[0][0], frame)
            if numbers.ndim == 2:
                labels, known = numbers, np.asarray((numbers >= 0) & (numbers < self.classes))
            elif len(numbers) == 1:
                scores = sigmoid(numbers[0]) if self.head.activation == "sigmoid" else numbers[0]
                labels, known = np.asarray(scores >= confidence), np.asarray((scores >= 0) & (scores <= 1))
            else:
                labels, known = numbers.argmax(axis=0), np.asarray(np.isfinite(numbers).all(axis=0))
            counts = np.bincount(labels[known].astype(np.int64), minlength=self.classes)
        pixels = max(known.size, 1)
        return Segmentation((counts / pixels).astype(np.float32), 1.0 - int(counts.sum()) / pixels)

    def _crop(self, numbers: Array, frame: tuple[int, int, int, int] | None) -> Array:
        """The frame's part of the output, at least one of its pixels."""
        if frame is None:
            return numbers
        rows, columns = numbers.shape[-2:]
        (x0, x1), (y0, y1) = (
            (min(int(low * cells / side), cells - 1), max(int(high * cells / side), 1))
            for low, high, cells, side in (
                (frame[0], frame[2], columns, self.size[0]),
                (frame[1], frame[3], rows, self.size[1]),
            )
        )
        return numbers[..., y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]

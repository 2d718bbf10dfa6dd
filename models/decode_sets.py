"""Heads that answer with a list: SSD before NMS, exports with NMS inside, RT-DETR and its relatives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.boxes import Candidates
from models.card_heads import Nms, Rtdetr, Ssd
from models.decode import corners, in_pixels, quiet, reaching, shape_problem, sigmoid, softmax
from models.types import Array, Ints

Head = Ssd | Nms | Rtdetr


@dataclass(frozen=True, eq=False)
class ScoredDecoder:
    """Boxes (1, N, 4) and a score a class (1, N, classes): the best class of each row. SSD, RT-DETR's queries.

    Also as one output (1, N, 4 + classes). `extra`: what the scores hold beside the classes.
    """

    outputs: tuple[str | None, ...]
    classes: int
    size: tuple[int, int]
    head: Ssd | Rtdetr

    @property
    def _extra(self) -> tuple[int, int]:
        """Scores of "nothing" before and after those of the classes."""
        if isinstance(self.head, Ssd):
            return (1, 0) if self.head.background else (0, 0)
        return (0, 1) if self.head.activation == "softmax" else (0, 0)

    def problem(self, outputs: Sequence[Array]) -> str:
        """See Decoder."""
        columns = self.classes + sum(self._extra)
        listed = f"the card's {self.classes} classes" + (" and 'nothing'" if sum(self._extra) else "")
        if len(outputs) == 1:
            wrong = shape_problem("the output", outputs[0], (1, "N", 4 + columns))
            return wrong and f"{wrong}: 4, {listed}"
        boxes, scores = outputs
        wrong = shape_problem("boxes", boxes, (1, "N", 4)) or shape_problem("scores", scores, (1, "N", columns))
        if not wrong and boxes.shape[1] != scores.shape[1]:
            return f"there are {boxes.shape[1]} boxes and {scores.shape[1]} rows of scores"
        return wrong and f"{wrong}: {listed}"

    def decode(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """See Decoder."""
        boxes, scores = (outputs[0][0, :, :4], outputs[0][0, :, 4:]) if len(outputs) == 1 else (o[0] for o in outputs)
        with quiet():
            if self.head.activation == "softmax":
                scores = softmax(scores)
            elif self.head.activation == "sigmoid":
                scores = sigmoid(scores)
            before, _ = self._extra
            scores = scores[:, before : before + self.classes]
            best = scores.max(axis=1)
            keep, dropped = reaching(best, confidence)
            found = in_pixels(corners(boxes[keep], self.head.format), self.head.unit, self.size)
            return Candidates(found, best[keep], scores[keep].argmax(axis=1), dropped)


@dataclass(frozen=True, eq=False)
class FinishedDecoder:
    """Boxes (1, N, 4), scores (1, N) and labels (1, N), the 1 perhaps missing: nothing is left to do but to choose."""

    outputs: tuple[str | None, ...]
    classes: int
    size: tuple[int, int]
    head: Nms | Rtdetr

    def problem(self, outputs: Sequence[Array]) -> str:
        """See Decoder."""
        for name, output, expected in zip(
            ("boxes", "scores", "labels"), outputs, (("N", 4), ("N",), ("N",)), strict=False
        ):
            wrong = shape_problem(name, output, (1, *expected))
            if wrong and shape_problem(name, output, expected):
                return wrong
        boxes, scores, labels = (_rows(output, ndim) for output, ndim in zip(outputs[:3], (2, 1, 1), strict=True))
        if not len(boxes) == len(scores) == len(labels):
            return f"there are {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels"
        if len(outputs) > 3 and outputs[3].size != 1:
            return f"count holds {outputs[3].size} numbers, expected one"
        return ""

    def decode(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """See Decoder."""
        boxes, scores, labels = (_rows(output, ndim) for output, ndim in zip(outputs[:3], (2, 1, 1), strict=True))
        if len(outputs) > 3:
            told = float(outputs[3].ravel()[0])
            rows = int(min(max(told, 0), len(scores))) if np.isfinite(told) else 0
            boxes, scores, labels = boxes[:rows], scores[:rows], labels[:rows]
        return _choose(boxes, scores, labels, confidence, self)


@dataclass(frozen=True, eq=False)
class RowsDecoder:
    """One output, a row a detection, whose columns the card names: (1, N, 6), (N, 7), (1, 1, N, 7)."""

    outputs: tuple[str | None, ...]
    classes: int
    size: tuple[int, int]
    head: Nms

    @property
    def _at(self) -> dict[str, int]:
        """Where each part begins, and where the last ends."""
        at: int = 0
        found: dict[str, int] = {}
        for name in self.head.columns or ():
            found[name] = at
            at += 4 if name == "box" else 1
        found["end"] = at
        return found

    def problem(self, outputs: Sequence[Array]) -> str:
        """See Decoder."""
        found, columns = outputs[0], self._at["end"]
        if found.ndim < 2 or found.shape[-1] != columns or any(length != 1 for length in found.shape[:-2]):
            wrong = shape_problem("the output", found, (1, "N", columns))
            return f"{wrong}: columns {', '.join(self.head.columns or ())}"
        return ""

    def decode(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """See Decoder."""
        at = self._at
        rows = outputs[0].reshape(-1, at["end"])
        box = at["box"]
        return _choose(rows[:, box : box + 4], rows[:, at["score"]], rows[:, at["class"]], confidence, self)


def _rows(output: Array, ndim: int) -> Array:
    return output[0] if output.ndim > ndim else output


def _choose(
    boxes: Array, scores: Array, labels: Array, confidence: float, decoder: FinishedDecoder | RowsDecoder
) -> Candidates:
    """Those that reach `confidence` and have a label that is a class; the others of them are dropped and counted."""
    head = decoder.head
    first = head.first_class if isinstance(head, Nms) else 0
    with quiet():
        keep, dropped = reaching(scores, confidence)
        wanted = labels[keep].astype(np.float64) - first
        known = (wanted >= 0) & (wanted < decoder.classes) & (wanted == np.floor(wanted))
        dropped += len(keep) - int(np.count_nonzero(known))
        keep = keep[known]
        classes: Ints = wanted[known].astype(np.int64)
        found = in_pixels(corners(boxes[keep], head.format), head.unit, decoder.size)
        return Candidates(found, scores[keep], classes, dropped)

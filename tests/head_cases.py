"""Every head that a detector's export can have, each as a model of fixed outputs, with the reference that reads them.

What the tests of models/decode_* and `python -m bench vision-decoding` share.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import model_kit
import numpy as np
import slow_heads as slow

from models import seal
from models.detector import Detector
from models.types import Array

SIZE = WIDTH, HEIGHT = 96, 64
KINDS = 3
CONFIDENCE, IOU = 0.35, 0.5
CELLS = sum((WIDTH // s) * (HEIGHT // s) for s in (8, 16, 32))
N = 120


class Case(NamedTuple):
    """An export: its outputs, the card's head, how the reference reads them, and whether boxes are suppressed."""

    outputs: dict[str, Array]
    head: Any
    rows: Callable[[], Iterator[slow.Row]]
    suppress: bool = True


def crowd(seed: int, n: int = N) -> tuple[Array, Array]:
    """Boxes (n, 4) as centre and sides in pixels, in clusters, some over the edge; scores (n, KINDS)."""
    random = np.random.RandomState(seed)
    centres = (random.rand(12, 2) * (WIDTH, HEIGHT))[random.randint(0, 12, n)]
    boxes = np.concatenate([centres + random.randn(n, 2) * 2, 6 + random.rand(n, 2) * 24], axis=1)
    return boxes.astype(np.float32), (random.rand(n, KINDS) ** 2).astype(np.float32)


def logits(scores: Array) -> Array:
    numbers: Array = np.log(scores / (1 - scores) + 1e-6).astype(np.float32)
    return numbers


def fractions(boxes: Array) -> Array:
    """Centre and sides as corners, as shares of the canvas."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    return (np.concatenate([low, high], axis=1) / (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(np.float32)


def yolov5() -> Case:
    boxes, scores = crowd(1)
    output = np.concatenate([boxes, np.sqrt(scores.max(axis=1, keepdims=True)), scores], axis=1)[None]
    return Case({"output": output}, "yolov5", lambda: slow.yolov5(output))


def yolov8() -> Case:
    boxes, scores = crowd(2)
    output = np.ascontiguousarray(np.concatenate([boxes, scores], axis=1).T)[None]
    return Case({"output0": output}, "yolov8", lambda: slow.yolov8(output))


def yolov8_half() -> Case:
    boxes, scores = crowd(3)
    output = np.ascontiguousarray(np.concatenate([boxes, scores], axis=1).T).astype(np.float16)[None]
    return Case({"output0": output}, {"kind": "yolov8", "output": "output0"}, lambda: slow.yolov8(output))


def yolox() -> Case:
    random = np.random.RandomState(4)
    near = random.randn(CELLS, 4) * (0.6, 0.6, 0.5, 0.5)
    scores = random.rand(CELLS, KINDS + 1) ** 0.5
    output = np.concatenate([near, scores], axis=1).astype(np.float32)[None]
    return Case({"output": output}, "yolox", lambda: slow.yolox(output, SIZE, (8, 16, 32)))


def ssd() -> Case:
    boxes, scores = crowd(5)
    nothing = np.full((N, 1), 0.99, np.float32)
    outputs = {"boxes": fractions(boxes)[None], "scores": np.concatenate([nothing, scores], axis=1)[None]}
    return Case(outputs, "ssd", lambda: slow.ssd(outputs["boxes"], outputs["scores"], SIZE, softmax=False))


def ssd_logits() -> Case:
    boxes, _ = crowd(6)
    numbers = (np.random.RandomState(6).randn(1, N, KINDS + 1) * 2).astype(np.float32)
    outputs = {"loc": fractions(boxes)[None], "conf": numbers}
    head = {"kind": "ssd", "boxes": "loc", "scores": "conf", "activation": "softmax"}
    return Case(outputs, head, lambda: slow.ssd(outputs["loc"], numbers, SIZE, softmax=True))


def finished(seed: int) -> tuple[list[slow.Row], Array, Array, Array]:
    """Rows, and the same as corners in pixels, scores and labels; a few are under the threshold."""
    boxes, scores = crowd(seed, 20)
    corners = (fractions(boxes) * np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)).astype(np.float32)
    best, labels = scores.max(axis=1), scores.argmax(axis=1)
    rows = [
        (*box, score, kind) for box, score, kind in zip(corners.tolist(), best.tolist(), labels.tolist(), strict=True)
    ]
    return rows, corners, best, labels


def nms_six_columns() -> Case:
    rows, corners, scores, labels = finished(7)
    output = np.concatenate([corners, scores[:, None], labels[:, None]], axis=1).astype(np.float32)[None]
    return Case({"output0": output}, {"kind": "nms", "columns": ["box", "score", "class"]}, lambda: iter(rows), False)


def nms_seven_columns() -> Case:
    rows, corners, scores, labels = finished(8)
    output = np.concatenate([np.zeros((20, 1)), corners, labels[:, None], scores[:, None]], axis=1).astype(np.float32)
    head = {"kind": "nms", "columns": ["picture", "box", "class", "score"]}
    return Case({"output": output}, head, lambda: iter(rows), False)


def nms_detection_output() -> Case:
    rows, corners, scores, labels = finished(9)
    boxes = corners / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    output = np.concatenate([np.zeros((20, 1)), labels[:, None] + 1, scores[:, None], boxes], axis=1)
    padding = np.tile([-1, 0, 0, 0, 0, 0, 0], (5, 1))  # OpenVINO fills up with rows of picture -1 and score 0
    output = np.concatenate([output, padding]).astype(np.float32)[None, None]
    columns = ["picture", "class", "score", "box"]
    head = {"kind": "nms", "columns": columns, "unit": "fractions", "first_class": 1}
    return Case({"detection_out": output}, head, lambda: iter(rows), False)


def nms_torchvision() -> Case:
    rows, corners, scores, labels = finished(10)
    outputs = {"boxes": corners, "labels": (labels + 1).astype(np.int64), "scores": scores}
    head = {"kind": "nms", "boxes": "boxes", "scores": "scores", "labels": "labels", "first_class": 1}
    return Case(outputs, head, lambda: iter(rows), False)


def nms_tensorflow() -> Case:
    rows, corners, scores, labels = finished(11)
    boxes = (corners / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT]))[:, [1, 0, 3, 2]]
    ones = np.ones((6, 4))  # beyond the count there is what was there before
    outputs = {
        "num_detections": np.array([20], np.float32),
        "detection_boxes": np.concatenate([boxes, ones * 0.5]).astype(np.float32)[None],
        "detection_scores": np.concatenate([scores, np.ones(6)]).astype(np.float32)[None],
        "detection_classes": np.concatenate([labels + 1, np.ones(6)]).astype(np.float32)[None],
    }
    head: dict[str, Any] = {
        "kind": "nms",
        "boxes": "detection_boxes",
        "scores": "detection_scores",
        "labels": "detection_classes",
    }
    head |= {"count": "num_detections", "format": "yxyx", "unit": "fractions", "first_class": 1}
    return Case(outputs, head, lambda: iter(rows), False)


def rtdetr_queries() -> Case:
    boxes, scores = crowd(12)
    outputs = {
        "logits": logits(scores)[None],
        "pred_boxes": (boxes / (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(np.float32)[None],
    }
    head = {"kind": "rtdetr", "boxes": "pred_boxes", "scores": "logits", "activation": "sigmoid"}
    return Case(outputs, head, lambda: slow.queries(outputs["pred_boxes"], outputs["logits"], SIZE, "sigmoid"), False)


def detr_queries() -> Case:
    boxes, _ = crowd(13)
    numbers = (np.random.RandomState(13).randn(1, N, KINDS + 1) * 2).astype(np.float32)
    outputs = {"logits": numbers, "pred_boxes": (boxes / (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(np.float32)[None]}
    head = {"kind": "rtdetr", "boxes": "pred_boxes", "scores": "logits", "activation": "softmax"}
    return Case(outputs, head, lambda: slow.queries(outputs["pred_boxes"], numbers, SIZE, "softmax"), False)


def rtdetr_one_output() -> Case:
    boxes, scores = crowd(14)
    shares = (boxes / (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(np.float32)
    output = np.concatenate([shares, scores], axis=1)[None]
    return Case({"output0": output}, "rtdetr", lambda: slow.queries(shares[None], scores[None], SIZE, "none"), False)


def rtdetr_finished() -> Case:
    rows, corners, scores, labels = finished(15)
    outputs = {"labels": labels.astype(np.int64)[None], "boxes": corners[None], "scores": scores[None]}
    head = {"kind": "rtdetr", "boxes": "boxes", "scores": "scores", "labels": "labels"}
    return Case(outputs, head | {"format": "xyxy", "unit": "pixels"}, lambda: iter(rows), False)


CASES = (
    yolov5, yolov8, yolov8_half, yolox, ssd, ssd_logits, nms_six_columns, nms_seven_columns, nms_detection_output,
    nms_torchvision, nms_tensorflow, rtdetr_queries, detr_queries, rtdetr_one_output, rtdetr_finished,
)  # fmt: skip


def loaded(folder: Path, outputs: dict[str, Array], head: Any) -> Detector:
    """The model of constant outputs, sealed with a picture where its head wants one."""
    spec = model_kit.CARD["input"] | {"width": WIDTH, "height": HEIGHT}
    limits = {"confidence": CONFIDENCE, "iou": IOU, "max_detections": 200}
    model_kit.fixed(folder, outputs, input=spec, head=head, thresholds=limits, classes=["red", "green", "blue"])
    cv2.imwrite(str(folder / "picture.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    kind = head if isinstance(head, str) else head["kind"]
    detector = seal.seal(folder, "fixed", folder / "picture.png" if kind in {"nms", "rtdetr"} else None)
    assert isinstance(detector, Detector)
    return detector

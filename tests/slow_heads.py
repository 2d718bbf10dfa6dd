"""How each export's outputs are to be read, as its documentation says it: place by place, in plain Python.

The reference for models/decode_*: nothing is shared with them. A row is (x0, y0, x1, y1, score, class) in pixels.
"""

import math
from collections.abc import Iterator, Sequence

from models.types import Array

Row = tuple[float, float, float, float, float, int]


def around(cx: float, cy: float, w: float, h: float, score: float, kind: int) -> Row:
    return (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, kind)


def best(scores: Sequence[float]) -> tuple[float, int]:
    top = max(scores)
    return top, list(scores).index(top)


def yolov5(output: Array) -> Iterator[Row]:
    for cx, cy, w, h, objectness, *kinds in output[0].tolist():
        score, kind = best(kinds)
        yield around(cx, cy, w, h, objectness * score, kind)


def yolov8(output: Array) -> Iterator[Row]:
    for place in range(output.shape[2]):
        cx, cy, w, h, *kinds = (float(row[place]) for row in output[0])
        score, kind = best(kinds)
        yield around(cx, cy, w, h, score, kind)


def yolox(output: Array, size: tuple[int, int], strides: Sequence[int]) -> Iterator[Row]:
    place = 0
    for stride in strides:
        for row in range(size[1] // stride):
            for column in range(size[0] // stride):
                dx, dy, w, h, objectness, *kinds = output[0][place].tolist()
                place += 1
                score, kind = best(kinds)
                cx, cy = (dx + column) * stride, (dy + row) * stride
                yield around(cx, cy, math.exp(w) * stride, math.exp(h) * stride, objectness * score, kind)


def ssd(boxes: Array, scores: Array, size: tuple[int, int], *, softmax: bool) -> Iterator[Row]:
    width, height = size
    for (x0, y0, x1, y1), numbers in zip(boxes[0].tolist(), scores[0].tolist(), strict=True):
        kinds = numbers
        if softmax:
            total = sum(math.exp(number) for number in numbers)
            kinds = [math.exp(number) / total for number in numbers]
        score, kind = best(kinds[1:])
        yield x0 * width, y0 * height, x1 * width, y1 * height, score, kind


def queries(boxes: Array, scores: Array, size: tuple[int, int], activation: str) -> Iterator[Row]:
    width, height = size
    for (cx, cy, w, h), numbers in zip(boxes[0].tolist(), scores[0].tolist(), strict=True):
        kinds = numbers
        if activation == "sigmoid":
            kinds = [1 / (1 + math.exp(-number)) for number in numbers]
        elif activation == "softmax":
            total = sum(math.exp(number) for number in numbers)
            kinds = [math.exp(number) / total for number in numbers[:-1]]
        score, kind = best(kinds)
        yield around(cx * width, cy * height, w * width, h * height, score, kind)


def wanted(rows: Iterator[Row], size: tuple[int, int], confidence: float, iou: float | None) -> list[Row]:
    """Those of at least `confidence`, clipped to the canvas, the surest first; each object once when there is `iou`."""
    width, height = size
    found: list[Row] = []
    for row in rows:
        if row[4] >= confidence and inside(row, size):
            x0, y0, x1, y1 = row[:4]
            found.append((max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)), row[4], row[5]))
    found.sort(key=lambda row: -row[4])
    kept: list[Row] = []
    for row in found:
        if iou is None or not any(row[5] == other[5] and overlap(row, other) > iou for other in kept):
            kept.append(row)
    return kept


def inside(row: Row, size: tuple[int, int]) -> bool:
    """Whether some of the box lies in the canvas."""
    return row[0] < size[0] and row[1] < size[1] and row[2] > 0 and row[3] > 0


def overlap(a: Row, b: Row) -> float:
    common = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def brute_force(boxes: Sequence[Sequence[float]], classes: Sequence[int], iou: float) -> list[int]:
    """Greedy NMS as its definition reads: box by box, the surest first."""
    kept: list[int] = []
    for at, (x0, y0, x1, y1) in enumerate(boxes):
        for other in kept:
            u0, v0, u1, v1 = boxes[other]
            common = max(min(x1, u1) - max(x0, u0), 0.0) * max(min(y1, v1) - max(y0, v0), 0.0)
            union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - common
            if classes[at] == classes[other] and common > iou * union:
                break
        else:
            kept.append(at)
    return kept

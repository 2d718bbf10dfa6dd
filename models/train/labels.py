"""What the detector is asked to find, and which objects it is neither asked for nor blamed for.

Training, evaluation and the bench share these rules, so that a figure means the same wherever it stands.
"""

from dataclasses import dataclass

import numpy as np

CLASSES = ("person", "cyclist", "car", "bus")
CANVAS = (320, 192)
"""Width and height of the model's input, pixels."""

MIN_HEIGHT_PX = 10.0
MIN_WIDTH_PX = 4.0
MIN_VISIBLE = 0.25

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The objects of one picture. boxes: (n, 4) x0 y0 x1 y1 in its pixels. ignore: those that do not count."""

    boxes: Floats
    classes: Ints
    ignore: Bools


def too_hard(boxes: Floats, visible: Floats) -> Bools:
    """Those that are ignored: under 10 px high or 4 px wide in the canvas, or less than a quarter visible."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return (height < MIN_HEIGHT_PX) | (width < MIN_WIDTH_PX) | (visible < MIN_VISIBLE)


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of each box of `a` (n, 4) with each of `b` (m, 4), as (n, m)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = sides.clip(0).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return np.asarray(shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9), np.float32)

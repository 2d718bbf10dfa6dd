"""What the detector is asked to find, and which objects it is neither asked for nor blamed for.

Training, evaluation and the bench share these rules, so that a figure means the same wherever it stands.
"""

from dataclasses import dataclass

import numpy as np

CLASSES = ("person", "cyclist", "car", "bus")
CANVAS = (512, 288)
"""Width and height of the model's input, pixels."""

MIN_HEIGHT_PX = 16.0
MIN_WIDTH_PX = 6.0
MIN_VISIBLE = 0.25
LEARNED_HEIGHT_PX, LEARNED_WIDTH_PX = 11.0, 4.0
"""Learning begins below what is asked for: a network that never saw a smaller box makes those at the limit too big."""

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
    """Those that are ignored: under 16 px high or 6 px wide in the canvas, or less than a quarter visible."""
    return too_small(boxes, MIN_WIDTH_PX, MIN_HEIGHT_PX) | (visible < MIN_VISIBLE)


def too_small(boxes: Floats, least_width_px: float, least_height_px: float) -> Bools:
    """Those that are narrower or lower."""
    return (boxes[:, 2] - boxes[:, 0] < least_width_px) | (boxes[:, 3] - boxes[:, 1] < least_height_px)


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of each box of `a` (n, 4) with each of `b` (m, 4), as (n, m)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = sides.clip(0).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return np.asarray(shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9), np.float32)

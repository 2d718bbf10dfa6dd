"""One drawn scene becomes many: mirrored, nearer, elsewhere, in other light, through a worse lens, cut together.

Everything is uint8 and OpenCV, about a millisecond a picture, so that the two cores learn instead of preparing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from models.train.labels import CANVAS, LEARNED_HEIGHT_PX, LEARNED_WIDTH_PX, Bools, Floats, Truth, too_small
from models.train.scenes import FRAME, Picture

GREY = 114
MIN_LEFT = 0.4
"""An object of which a cut leaves less than this share is ignored."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How far augmentation goes: range of zoom, share of canvases cut together from several scenes, and the window of
    the canvas (width, height, multiples of 32) that is learned from: half of it has three quarters of the objects."""

    zoom: tuple[float, float] = (0.75, 1.3)
    patchwork: float = 0.15
    window: tuple[int, int] = (256, 160)


def place(frame: Picture, truth: Truth, rng: np.random.Generator, zoom: tuple[float, float]) -> tuple[Picture, Truth]:
    """The frame on the canvas, perhaps mirrored, zoomed and shifted; its objects with it."""
    (width, height), (frame_width, frame_height) = CANVAS, FRAME
    mirror = bool(rng.random() < 0.5)
    factor, left, top = 1.0, 0.0, (height - frame_height) / 2  # as the gateway does it
    if rng.random() < 0.7:
        factor = float(np.exp(rng.uniform(*np.log(zoom))))
        left = rng.random() * (width - frame_width * factor)
        top = rng.random() * (height - frame_height * factor)
    across = -factor if mirror else factor
    begin = left + frame_width * factor if mirror else left
    # OpenCV counts from the middle of the first pixel, boxes from its corner.
    matrix = np.array([[across, 0, begin + across / 2 - 0.5], [0, factor, top + factor / 2 - 0.5]])
    canvas = cv2.warpAffine(frame, matrix, CANVAS, flags=cv2.INTER_LINEAR, borderValue=(GREY, GREY, GREY))
    boxes = truth.boxes * factor
    if mirror:
        boxes[:, [0, 2]] = frame_width * factor - boxes[:, [2, 0]]
    boxes += np.array([left, top, left, top], np.float32)
    return np.asarray(canvas, np.uint8), cut(Truth(boxes, truth.classes, truth.ignore), (0, 0, width, height))


def cut(truth: Truth, window: tuple[int, int, int, int]) -> Truth:
    """The objects inside a window x0 y0 x1 y1: clipped to it, ignored where too little is left of them."""
    x0, y0, x1, y1 = window
    boxes = truth.boxes.clip((x0, y0, x0, y0), (x1, y1, x1, y1)).astype(np.float32)
    sides, before = boxes[:, 2:] - boxes[:, :2], truth.boxes[:, 2:] - truth.boxes[:, :2]
    inside: Bools = sides.min(1) > 0.5
    share = sides.prod(1) / np.maximum(before.prod(1), 1e-6)
    hard = truth.ignore | (share < MIN_LEFT) | too_small(boxes, LEARNED_WIDTH_PX, LEARNED_HEIGHT_PX)
    return Truth(boxes[inside], truth.classes[inside], hard[inside])


def patchwork(parts: list[tuple[Picture, Truth]], rng: np.random.Generator) -> tuple[Picture, Truth]:
    """Four canvases, one quarter of each around a random point: other neighbours, other cuts, the sizes unchanged."""
    width, height = CANVAS
    x, y = int(rng.integers(width // 4, 3 * width // 4)), int(rng.integers(height // 4, 3 * height // 4))
    windows = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    canvas = np.empty((height, width, 3), np.uint8)
    kept = []
    for (picture, truth), window in zip(parts, windows, strict=True):
        x0, y0, x1, y1 = window
        canvas[y0:y1, x0:x1] = picture[y0:y1, x0:x1]
        kept.append(cut(truth, window))
    return canvas, Truth(
        np.concatenate([truth.boxes for truth in kept]),
        np.concatenate([truth.classes for truth in kept]),
        np.concatenate([truth.ignore for truth in kept]),
    )


def recolour(picture: Picture, rng: np.random.Generator) -> Picture:
    """Other light and another sensor: gain of each channel, gamma, contrast; now and then no colour at all."""
    levels = np.arange(256, dtype=np.float32) / 255
    gains = rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3)
    gamma, lift = np.exp(rng.uniform(-0.25, 0.25)), rng.uniform(-0.04, 0.04)
    table = ((levels[:, None] ** gamma * gains + lift) * 255).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.03:
        picture = np.asarray(cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    return np.asarray(cv2.LUT(picture, table[:, None].reshape(1, 256, 3)), np.uint8)


def worsen(picture: Picture, rng: np.random.Generator) -> Picture:
    """What lenses, sensors and encoders do: blur, shake, noise, JPEG; each now and then."""
    dice = rng.random(4)
    if dice[0] < 0.06:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.6)), np.uint8)
    if dice[1] < 0.03:
        length = int(rng.integers(3, 7))
        kernel = np.full((1, length) if rng.random() < 0.7 else (length, 1), 1 / length, np.float32)
        picture = np.asarray(cv2.filter2D(picture, -1, kernel), np.uint8)
    if dice[2] < 0.12:
        noise = np.empty(picture.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
        cv2.randn(noise, np.zeros(3), np.full(3, rng.uniform(2, 14)))
        picture = np.asarray(cv2.add(picture, noise, dtype=cv2.CV_8U), np.uint8)
    if dice[3] < 0.2:
        _, packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        picture = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return picture


def look_at(picture: Picture, truth: Truth, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Picture, Truth]:
    """A window of the canvas around an object; of the classes that are there, each as often as any other."""
    (width, height), (all_width, all_height) = size, CANVAS
    if size == CANVAS:
        return picture, truth
    x, y = rng.integers(0, CANVAS)
    real = np.flatnonzero(~truth.ignore)
    if len(real):
        kind = rng.choice(np.unique(truth.classes[real]))
        box = truth.boxes[rng.choice(real[truth.classes[real] == kind])]
        x, y = ((box[:2] + box[2:]) / 2).astype(np.int64)
    left = int(np.clip(x - rng.integers(width // 8, width * 7 // 8), 0, all_width - width))
    top = int(np.clip(y - rng.integers(height // 8, height * 7 // 8), 0, all_height - height))
    seen = cut(truth, (left, top, left + width, top + height))
    boxes = seen.boxes - np.array([left, top, left, top], np.float32)
    window = np.ascontiguousarray(picture[top : top + height, left : left + width])
    return window, Truth(boxes, seen.classes, seen.ignore)


def sample(
    pick: Callable[[np.random.Generator], tuple[Picture, Truth]], rng: np.random.Generator, strength: Strength
) -> tuple[Picture, Truth]:
    """One picture to learn from, `strength.window` large. `pick` gives a random frame with its objects."""
    if rng.random() < strength.patchwork:
        picture, truth = patchwork([place(*pick(rng), rng, strength.zoom) for _ in range(4)], rng)
    else:
        picture, truth = place(*pick(rng), rng, strength.zoom)
    picture, truth = look_at(picture, truth, rng, strength.window)
    return worsen(recolour(picture, rng), rng), truth


def shares(counts: Floats) -> Floats:
    """How often each picture is picked, summing to 1: those with rare classes more often.

    counts: (pictures, classes). A class that makes up share f of the objects gives its pictures weight sqrt(1/f)
    relative to the commonest, at most 4; empty pictures weigh half.
    """
    total = counts.sum(0)
    weight = np.sqrt(total.max() / np.maximum(total, 1)).clip(1, 4)
    chosen = np.where(counts.sum(1) > 0, ((counts > 0) * weight).max(1), 0.5)
    return np.asarray(chosen / chosen.sum(), np.float32)

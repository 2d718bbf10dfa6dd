"""The self-test of a model: what it must answer on this machine, whatever processor and provider run it.

A wrong driver, a half-precision accelerator or a broken build gives plausible boxes that are wrong. So each card holds
an answer that was once known good, and loading compares.
"""

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np

from contract.errors import ConfigError
from models.boxes import Detections
from models.cards import MAX_GOLDEN_BYTES, CardFile, Golden, GoldenSamples, Input, inside, read_limited
from models.types import Array, Canvas

SAMPLES = 48
_LEAST_IOU = 0.9


def picture(seed: int, size: tuple[int, int]) -> Canvas:
    """The canvas drawn from `seed`: coarse tiles of colour under fine grain. (height, width, 3) of `size` (w, h)."""
    width, height = size
    random = np.random.RandomState(seed)  # frozen for ever by numpy's compatibility policy, unlike default_rng
    tiles = random.randint(0, 224, (8, 12, 3))
    y, x = np.arange(height) * 8 // height, np.arange(width) * 12 // width
    grain = random.randint(0, 32, (height, width, 3))
    drawn: Canvas = (tiles[y][:, x] + grain).astype(np.uint8)
    return drawn


def sample(output: Array) -> GoldenSamples:
    """An output's shape and up to SAMPLES values, evenly spaced over the flat tensor."""
    flat = output.ravel()
    chosen = flat[_places(flat.size)].astype(np.float64)
    return GoldenSamples(shape=output.shape, samples=tuple(float(f"{value:.6g}") for value in chosen))


def compare(golden: Golden, names: list[str], outputs: list[Array]) -> str:
    """What differs from the card's samples, in words; empty when nothing does.

    A value may differ by `tolerance` of itself, and by a hundredth of that near zero.
    """
    for name, output in zip(names, outputs, strict=True):
        expected = golden.outputs.get(name)
        if expected is None:
            return f"there are no samples of output {name!r}"
        if tuple(output.shape) != expected.shape:
            return f"output {name!r} has shape {tuple(output.shape)}, expected {expected.shape}"
        wanted = np.array(expected.samples)
        places = _places(output.size)
        if len(places) != len(wanted):
            return f"output {name!r} has {len(wanted)} samples, expected {len(places)}"
        found = output.ravel()[places].astype(np.float64)
        wrong = np.flatnonzero(~np.isclose(found, wanted, rtol=golden.tolerance, atol=golden.tolerance / 100))
        if len(wrong):
            first = wrong[0]
            text = f"at {places[first]} is {found[first]:.6g}, expected {wanted[first]:.6g}"
            return f"{len(wrong)} of {len(wanted)} values differ; output {name!r} {text}"
    return ""


def _places(size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.linspace(0, size - 1, min(size, SAMPLES)).astype(np.int64) if size else np.zeros(0, np.int64)


def write_file(path: Path, canvas: Canvas, found: Detections) -> None:
    """Write a golden file: the canvas as PNG, and what is to be found in it. Raises ConfigError if it is too large."""
    _, png = cv2.imencode(".png", canvas, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    packed = BytesIO()
    np.savez_compressed(packed, png=png, boxes=found.boxes, scores=found.scores, classes=found.classes)
    content = packed.getvalue()
    if len(content) > MAX_GOLDEN_BYTES:
        text = f"would be {len(content):,} bytes, at most {MAX_GOLDEN_BYTES:,}; choose a calmer or softer picture"
        raise ConfigError([f"{path}: {text}"])
    path.write_bytes(content)


def read_file(file: CardFile, name: str) -> tuple[Canvas, Detections]:
    """The canvas and the detections of a golden file. Raises ConfigError."""
    path = inside(file.path.parent, name)
    content = read_limited(file.path.parent, name, MAX_GOLDEN_BYTES)
    try:
        with np.load(BytesIO(content), allow_pickle=False) as held:
            png, boxes, scores, classes = (np.asarray(held[key]) for key in ("png", "boxes", "scores", "classes"))
        canvas = _decode_png(png.astype(np.uint8).tobytes(), file.card.input)
        found = Detections(boxes.reshape(-1, 4), scores.reshape(len(boxes)), classes.reshape(len(boxes)), 0)
    except (ValueError, KeyError, OSError, EOFError, BadZipFile, cv2.error) as error:
        raise ConfigError([f"{path}: not a golden file: {error}"]) from None
    if not len(boxes):
        raise ConfigError([f"{path}: there is nothing to be found in it"])
    return canvas, found


def _decode_png(png: bytes, spec: Input) -> Canvas:
    """The picture, if its header says the card's size: a small file can claim a gigabyte. Raises ValueError."""
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    if (width, height) != (spec.width, spec.height):
        raise ValueError(f"its picture is {width} x {height}, the card's canvas {spec.width} x {spec.height}")
    canvas = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if canvas is None:
        raise ValueError("its picture is no PNG")
    return canvas.astype(np.uint8)


def missed(expected: Detections, found: Detections, tolerance: float) -> str:
    """What was expected and not found, or found and not expected, in words; empty when nothing was.

    Found is the same class with an IoU of 0.9 and a score within `tolerance`.
    """
    for box, score, kind in zip(expected.boxes, expected.scores, expected.classes, strict=True):
        near = (found.classes == kind) & (np.abs(found.scores - score) <= tolerance)
        if not (_iou(found.boxes[near], box) >= _LEAST_IOU).any():
            corners = ", ".join(f"{side:.1f}" for side in box)
            return f"class {kind} at ({corners}) with score {score:.3f} was not found; {len(found.scores)} others were"
    # The file holds everything above its least score; what is surely above it and not of the file is too much.
    extra = int(np.count_nonzero(found.scores > expected.scores.min() + tolerance)) - len(expected.scores)
    return f"{extra} more were found than expected" if extra > 0 else ""


def _iou(boxes: Array, box: Array) -> Array:
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    share: Array = common / np.maximum(area - common, 1e-9)
    return share

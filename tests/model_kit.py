"""Models for tests: a folder with an ONNX file of ours and its card, sealed or not."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx_make
import yaml

from models.types import Array, Canvas

CARD: dict[str, Any] = {
    "task": "detect",
    "about": "Finds bright cells by colour.",
    "input": {
        "name": "images",
        "width": 64,
        "height": 32,
        "layout": "NCHW",
        "dtype": "float32",
        "colour": "RGB",
        "normalise": {"divide_by": 255.0},
    },
    "classes": ["red", "green", "blue"],
    "head": "yolov8",
    "thresholds": {"confidence": 0.9, "iou": 0.5, "max_detections": 20},
    "licence": "Apache-2.0",
    "training_data": "none",
    "accuracy": "not measured",
    "limits": ["Knows three colours."],
}
UNSEALED = {"golden": {"seed": 1, "outputs": {"output0": {"shape": [1], "samples": [0.0]}}}}


def write(folder: Path, name: str, content: bytes, **changes: Any) -> Path:
    """Put a model and its card into a folder; the card has the right hash, and `changes`. The card's path."""
    (folder / f"{name}.onnx").write_bytes(content)
    card = {**CARD, "sha256": hashlib.sha256(content).hexdigest(), **UNSEALED, **changes}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return path


def colours(folder: Path, name: str = "colours", *, content: bytes | None = None, **changes: Any) -> Path:
    """The colour finder, 64x32."""
    made = content or onnx_make.colour_finder(64, 32, "NCHW", "float32")
    return write(folder, name, made, **changes)


def canvas(width: int = 64, height: int = 32) -> Canvas:
    """Grey, with a red, a green and a blue cell (BGR) at columns 1, 3, 6 and rows 0, 2, 3 of 8x8 cells."""
    drawn = np.full((height, width, 3), 114, np.uint8)
    for column, row, channel in ((1, 0, 2), (3, 2, 1), (6, 3, 0)):
        drawn[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8, channel] = 255
    return drawn


FOUND = {"red": (8, 0, 16, 8), "green": (24, 16, 32, 24), "blue": (48, 24, 56, 32)}
"""What is on `canvas()`."""


def fixed(folder: Path, outputs: dict[str, Array], name: str = "fixed", **changes: Any) -> Path:
    """A model that always answers `outputs`."""
    spec = CARD["input"] | changes.get("input", {})
    content = onnx_make.constant(outputs, onnx_make.port("images", "float32", (1, 3, spec["height"], spec["width"])))
    return write(folder, name, content, **changes)

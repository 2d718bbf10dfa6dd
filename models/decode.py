"""From a head of a card to what reads the outputs, and the steps that all heads share."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from models.boxes import Candidates
from models.types import Array, Floats, Ints


class Shaped(Protocol):
    """Knows the shapes of the outputs that it reads."""

    @property
    def outputs(self) -> tuple[str | None, ...]:
        """The outputs it reads, in its order; None: the model's first."""

    def problem(self, outputs: Sequence[Array]) -> str:
        """What is wrong with the outputs' shapes: expected and found; empty when they fit."""


class Decoder(Shaped, Protocol):
    """Reads candidates out of a model's outputs."""

    def decode(self, outputs: Sequence[Array], confidence: float) -> Candidates:
        """What reaches `confidence`. Boxes in canvas pixels. Never raises, whatever the numbers are."""


def reaching(scores: Array, confidence: float) -> tuple[Ints, int]:
    """Positions of the scores of at least `confidence`, and how many are NaN, which are not among them."""
    return np.flatnonzero(scores >= confidence), int(np.count_nonzero(np.isnan(scores)))


def corners(boxes: Array, box_format: str) -> Floats:
    """(n, 4) x0 y0 x1 y1 of boxes in a card's format."""
    a, b, c, d = boxes.astype(np.float32).T
    if box_format == "xyxy":
        parts = (a, b, c, d)
    elif box_format == "yxyx":
        parts = (b, a, d, c)
    elif box_format == "xywh":
        parts = (a, b, a + c, b + d)
    else:
        parts = (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    return np.stack(parts, axis=1)


def in_pixels(boxes: Floats, unit: str, size: tuple[int, int]) -> Floats:
    """The boxes in canvas pixels, from a card's unit."""
    return boxes * np.array([*size, *size], np.float32) if unit == "fractions" else boxes


def softmax(logits: Array) -> Floats:
    """Along the last axis. NaN where the row holds a number that is not finite, but for -inf."""
    shifted = logits.astype(np.float32) - np.max(logits, axis=-1, keepdims=True).astype(np.float32)
    powers = np.exp(shifted)
    total: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return total


def sigmoid(logits: Array) -> Floats:
    """1 / (1 + e^-x) without overflow."""
    result: Floats = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float32)))
    return result


def shape_problem(name: str, found: Array, expected: Sequence[int | str]) -> str:
    """Empty when the shape is the expected one; a word there stands for any length."""
    fits = found.ndim == len(expected) and all(
        isinstance(want, str) or want == have for want, have in zip(expected, found.shape, strict=True)
    )
    shown = ", ".join(str(want) for want in expected)
    have = ", ".join(str(length) for length in found.shape)
    return "" if fits else f"{name} has shape ({have}), expected ({shown})"


def quiet() -> Any:
    """Hostile numbers are dropped and counted where they matter; numpy need not warn of them."""
    return np.errstate(invalid="ignore", over="ignore", divide="ignore")

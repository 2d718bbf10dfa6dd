"""From a canvas to the model's input tensor: the picture is already scaled and padded, so only numbers change.

Everything is written into one tensor made at start; at 320x192 a float NCHW tensor costs .05 ms, bytes .01 or nothing.
A transpose, a division and a cast in plain numpy cost .17 to .85.
"""

from collections.abc import Callable

import cv2
import numpy as np

from models.cards import Input
from models.types import Array, Canvas


class PictureWriter:
    """Writes canvases into the tensor that a card describes. Not for several threads at once."""

    def __init__(self, spec: Input) -> None:
        self._shape = (spec.height, spec.width, 3)
        planes_first = spec.layout == "NCHW"
        shape = (1, 3, spec.height, spec.width) if planes_first else (1, spec.height, spec.width, 3)
        self._tensor: Array = np.zeros(shape, spec.dtype)
        inner = self._tensor[0]
        self._targets = [inner[channel] if planes_first else inner[:, :, channel] for channel in range(3)]
        # Where blue, green and red go.
        self._order = (2, 1, 0) if spec.colour == "RGB" else (0, 1, 2)
        self._factor, self._shift = _line(spec)
        # What a byte becomes, by channel: many processors look half precision up faster than they round to it.
        levels = np.arange(256, dtype=np.float32)
        self._tables = [(levels * k + d).astype(spec.dtype) for k, d in zip(self._factor, self._shift, strict=True)]
        self._planes = [np.zeros(self._shape[:2], np.uint8) for _ in range(3)]
        if spec.dtype == "uint8":
            self._write: Callable[[Canvas], Array] = self._bytes_planes if planes_first else self._bytes_pixels
        else:
            self._write = self._halves if spec.dtype == "float16" else self._floats

    def write(self, canvas: Canvas) -> Array:
        """The tensor of a canvas, uint8 (height, width, 3) BGR; valid until the next call.

        Raises ValueError when the canvas has another shape or type: whoever made it did not ask the card.
        """
        if canvas.shape != self._shape or canvas.dtype != np.uint8:
            raise ValueError(f"a canvas is uint8 {self._shape}, found {canvas.dtype} {canvas.shape}")
        return self._write(canvas)

    def _bytes_pixels(self, canvas: Canvas) -> Array:
        if self._order == (0, 1, 2):
            return np.ascontiguousarray(canvas)[None]
        cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB, self._tensor[0])
        return self._tensor

    def _bytes_planes(self, canvas: Canvas) -> Array:
        cv2.split(canvas, [self._targets[channel] for channel in self._order])
        return self._tensor

    def _floats(self, canvas: Canvas) -> Array:
        cv2.split(canvas, self._planes)
        for plane, channel in zip(self._planes, self._order, strict=True):
            target = self._targets[channel]
            np.multiply(plane, self._factor[channel], out=target)
            if self._shift[channel]:
                np.add(target, self._shift[channel], out=target)
        return self._tensor

    def _halves(self, canvas: Canvas) -> Array:
        cv2.split(canvas, self._planes)
        for plane, channel in zip(self._planes, self._order, strict=True):
            np.take(self._tables[channel], plane, out=self._targets[channel], mode="clip")
        return self._tensor


def _line(spec: Input) -> tuple[list[np.float32], list[np.float32]]:
    """Normalisation as pixel x factor + shift, one each a channel of the tensor."""
    if spec.normalise == "in graph":
        return [np.float32(1)] * 3, [np.float32(0)] * 3
    rule = spec.normalise
    factor = [np.float32(1 / (rule.divide_by * std)) for std in rule.std]
    return factor, [np.float32(-mean / std) for mean, std in zip(rule.mean, rule.std, strict=True)]

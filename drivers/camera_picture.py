"""What becomes of a frame before anybody looks at it: masked, scaled into the model's canvas, and a grey thumbnail.

Masks come first, on the frame itself, so that no pixel of them reaches a scaled neighbour. Scaling is linear: area
averaging costs twenty times as much at 1080p and the detectors are no better for it. Into a canvas of 512 x 288 a frame
costs 0.6 ms, at 720p as at 1080p; the copy that `retrieve` makes of it, 0.07 and 0.17 ms, is more than a mask adds.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from drivers.camera_ring import GREY, Fit, Image, Slot, fit

Points = Sequence[Sequence[float]]
_SHIFT = 4  # cv2 takes corners in sixteenths of a pixel


class Painter:
    """Draws frames into slots. masks: polygons in fractions of the picture."""

    def __init__(self, canvas: tuple[int, int], thumbnail: tuple[int, int], masks: Sequence[Points]) -> None:
        self._canvas = canvas
        self._thumbnail = thumbnail
        self._fractions = [np.array(mask, dtype=np.float64) for mask in masks]
        self._size = (0, 0)
        self._masks: list[np.ndarray[tuple[int, ...], np.dtype[np.int32]]] = []
        self._fit = Fit(1.0, (0, 0), canvas)
        self._grey = np.empty((canvas[1], canvas[0]), np.uint8)

    def paint(self, frame: Image, slot: Slot) -> None:
        """Fill the slot's canvas and thumbnail. Blanks the masks in `frame` itself."""
        height, width = frame.shape[:2]
        if (width, height) != self._size:
            self._resized((width, height))
        for mask in self._masks:
            cv2.fillPoly(frame, [mask], (0, 0, 0), cv2.LINE_8, _SHIFT)
        (left, top), (wide, high) = self._fit.pad, self._fit.size
        canvas = slot.canvas
        canvas[:top] = canvas[top + high :] = GREY
        canvas[top : top + high, :left] = canvas[top : top + high, left + wide :] = GREY
        inside = canvas[top : top + high, left : left + wide]
        cv2.resize(frame, (wide, high), dst=inside, interpolation=cv2.INTER_LINEAR)
        # The thumbnail is made of the canvas, which is in the cache: a quarter of what the frame of 1080p costs again.
        grey = self._grey[:high, :wide]
        cv2.cvtColor(inside, cv2.COLOR_BGR2GRAY, dst=grey)
        cv2.resize(grey, self._thumbnail, dst=slot.thumbnail, interpolation=cv2.INTER_LINEAR)

    def _resized(self, size: tuple[int, int]) -> None:
        self._size = size
        self._fit = fit(size, self._canvas)
        # Corners are fractions of the picture's edges; cv2 counts from the middle of the first pixel.
        to_pixels = np.array(size) * (1 << _SHIFT)
        half = (1 << _SHIFT) // 2
        self._masks = [np.rint(mask * to_pixels - half).astype(np.int32) for mask in self._fractions]

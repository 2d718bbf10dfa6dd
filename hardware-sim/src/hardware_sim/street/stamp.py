"""The number of a frame, written into its picture: what tells a receiver which frame it has, whatever the clocks say.

A row of 24 squares in the top left corner, white for 1, black for 0, the highest bit first, and two more squares that
are always white and black. They survive H.264 and JPEG. The picture must be 26 squares wide.
"""

import numpy as np

from hardware_sim.street.types import Bytes

BITS = 24


def square_px(width: int) -> int:
    """The side of a square in a picture of that width."""
    return max(8, width // 80)


def write(bgr: Bytes, number: int) -> None:
    """Write a number, modulo 2**24, into a picture."""
    side = square_px(bgr.shape[1])
    bits = [1, 0, *(number >> bit & 1 for bit in reversed(range(BITS)))]
    bgr[:side, : side * len(bits)] = np.repeat(np.array(bits, np.uint8) * 255, side)[None, :, None]


def read(bgr: Bytes) -> int | None:
    """The number in a picture; None when there is none."""
    side = square_px(bgr.shape[1])
    inner = bgr[side // 4 : side - side // 4, : side * (BITS + 2)].mean(axis=(0, 2))
    levels = inner.reshape(BITS + 2, side)[:, side // 4 : side - side // 4].mean(axis=1)
    if levels[0] < 160 or levels[1] > 96 or ((levels > 96) & (levels < 160)).any():
        return None
    return int("".join("1" if level > 128 else "0" for level in levels[2:]), 2)

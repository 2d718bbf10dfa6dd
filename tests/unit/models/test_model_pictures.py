"""The tensor of a canvas is what the card says, pixel for pixel."""

import itertools
from typing import Any

import numpy as np
import pytest

from models.cards import Input
from models.pictures import PictureWriter
from models.types import Array, Canvas

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec(**changes: Any) -> Input:
    return Input.model_validate(
        {"name": "x", "width": 40, "height": 24, "layout": "NCHW", "dtype": "float32", "colour": "RGB"}
        | {"normalise": "in graph"}
        | changes
    )


def drawn(seed: int = 0) -> Canvas:
    return np.random.RandomState(seed).randint(0, 256, (24, 40, 3)).astype(np.uint8)


def plainly(canvas: Canvas, card: Input) -> Array:
    """As the exporters' examples write it: one thing after the other, in double precision."""
    pixels = canvas.astype(np.float64)
    if card.colour == "RGB":
        pixels = pixels[:, :, ::-1]
    if card.normalise != "in graph":
        pixels = (pixels / card.normalise.divide_by - card.normalise.mean) / card.normalise.std
    if card.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return pixels[None]


@pytest.mark.parametrize(
    ("layout", "colour", "dtype", "normalise"),
    [
        *itertools.product(("NCHW", "NHWC"), ("RGB", "BGR"), ("uint8", "float32"), ("in graph",)),
        *itertools.product(
            ("NCHW", "NHWC"),
            ("RGB", "BGR"),
            ("float32", "float16"),
            ({"divide_by": 255.0}, {"divide_by": 255.0, "mean": MEAN, "std": STD}, {"mean": (103.5, 116.3, 123.7)}),
        ),
    ],
)
def test_every_way_in_is_the_plain_one(layout: str, colour: str, dtype: str, normalise: Any) -> None:
    card = spec(layout=layout, colour=colour, dtype=dtype, normalise=normalise)
    writer = PictureWriter(card)
    writer.write(drawn(1))  # what was there before leaves no trace
    tensor = writer.write(drawn())
    assert tensor.dtype == dtype
    wanted = plainly(drawn(), card)
    assert tensor.shape == wanted.shape
    np.testing.assert_allclose(
        tensor, wanted, rtol=2e-3 if dtype == "float16" else 1e-5, atol=1e-5 if dtype != "float16" else 2e-3
    )


def test_a_canvas_seen_through_a_window_is_read_right() -> None:
    wide = np.random.RandomState(5).randint(0, 256, (30, 50, 3)).astype(np.uint8)
    window = wide[3:27, 5:45]
    for layout, colour, dtype in itertools.product(("NCHW", "NHWC"), ("RGB", "BGR"), ("uint8", "float32")):
        card = spec(layout=layout, colour=colour, dtype=dtype)
        np.testing.assert_array_equal(PictureWriter(card).write(window), plainly(window, card))


@pytest.mark.parametrize(
    "wrong", [np.zeros((40, 24, 3), np.uint8), np.zeros((24, 40), np.uint8), np.zeros((24, 40, 3))]
)
def test_a_canvas_of_another_shape_is_a_mistake_of_the_caller(wrong: Array) -> None:
    with pytest.raises(ValueError, match=r"a canvas is uint8 \(24, 40, 3\)"):
        PictureWriter(spec()).write(wrong)

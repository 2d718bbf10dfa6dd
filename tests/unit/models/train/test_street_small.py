"""The detector that is committed: small enough, and worth its card on drawn streets it never saw."""

from pathlib import Path

import cv2
import numpy as np

from hardware_sim.street.views import random_view
from models.registry import load
from models.train.labels import CANVAS, CLASSES, overlaps, too_hard
from models.train.scenes import FRAME, on_canvas, scale_down

FOLDER = Path(__file__).resolve().parents[4] / "models"


def test_it_is_small_and_says_what_it_is() -> None:
    detector = load(FOLDER, "street-small")
    assert (FOLDER / "street-small.onnx").stat().st_size < 2_000_000
    assert detector.classes == CLASSES
    assert detector.input_size == CANVAS
    assert "drawn streets" in detector.card.limits[0]


def test_it_finds_the_cars_of_streets_it_never_saw() -> None:
    cv2.setNumThreads(1)
    detector = load(FOLDER, "street-small")
    wanted = hit = 0
    for seed in range(9_500_000, 9_500_012):
        drawn = random_view(seed, FRAME, "heldout").picture(3.0)
        found = detector.detect(on_canvas(scale_down(drawn.bgr)))
        boxes = np.array([one.box for one in drawn.objects], np.float32).reshape(-1, 4)
        visible = np.array([one.visible for one in drawn.objects], np.float32)
        cars = np.array([one.kind == "car" for one in drawn.objects], np.bool_) & ~too_hard(boxes, visible)
        real = boxes[cars]
        share = overlaps(real, found.boxes[found.classes == CLASSES.index("car")])
        wanted += len(real)
        hit += int((share.max(1, initial=0) >= 0.5).sum())
    assert wanted > 40
    assert hit / wanted > 0.7

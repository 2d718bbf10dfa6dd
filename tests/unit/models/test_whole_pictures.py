"""Classifiers and segmenters: what the picture shows, and how much of it."""

from pathlib import Path
from typing import Any

import model_kit
import numpy as np
import pytest

from contract.errors import ConfigError
from models import seal
from models.registry import load, load_classifier, load_segmenter
from models.types import Array

CANVAS = model_kit.canvas()
FLOOD: dict[str, Any] = {"task": "segment", "classes": ["clear", "flooded"], "thresholds": {"confidence": 0.5}}


def classify(folder: Path, row: list[float], activation: str = "none") -> tuple[list[float], int | None, int]:
    model_kit.fixed(
        folder,
        {"scores": np.array([row], np.float32)},
        task="classify",
        head={"kind": "classify", "activation": activation},
        thresholds={"confidence": 0.6},
    )
    seal.seal(folder, "fixed")
    classifier = load_classifier(folder, "fixed")
    found = classifier.classify(CANVAS)
    return found.scores.tolist(), found.best, classifier.usage.dropped


def test_the_best_class_is_told_when_it_is_sure(tmp_path: Path) -> None:
    assert classify(tmp_path, [0.1, 0.7, 0.2])[1] == 1
    assert classify(tmp_path, [0.3, 0.5, 0.2])[1] is None


def test_logits_become_probabilities(tmp_path: Path) -> None:
    scores, best, _ = classify(tmp_path, [1000.0, 1001.0, 0.0], "softmax")
    assert scores == pytest.approx([0.26894, 0.73106, 0], abs=1e-4)
    assert best == 1


def test_logits_taken_for_probabilities_are_never_sure(tmp_path: Path) -> None:
    assert classify(tmp_path, [1.5, 7.0, 2.0])[1] is None


def segment(folder: Path, output: Array, activation: str = "none") -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    model_kit.fixed(folder, {"mask": output}, **FLOOD, head={"kind": "segment", "activation": activation})
    seal.seal(folder, "fixed")
    found = load_segmenter(folder, "fixed").segment(CANVAS)
    assert found.shares.sum() + found.unknown == pytest.approx(1)
    return found.shares


def pool(rows: int = 8, columns: int = 16) -> Array:
    """1 where a quarter of the picture is under water: its lower left."""
    water = np.zeros((rows, columns), np.float32)
    water[rows // 2 :, : columns // 2] = 1
    return water


def test_the_flooded_share_is_the_same_however_a_model_says_it(tmp_path: Path) -> None:
    water = pool()
    assert segment(tmp_path, np.stack([1 - water, water])[None]).tolist() == [0.75, 0.25]
    assert segment(tmp_path, water[None, None] * 0.8 + 0.1).tolist() == [0.75, 0.25]
    assert segment(tmp_path, water[None, None] * 8 - 4, "sigmoid").tolist() == [0.75, 0.25]
    assert segment(tmp_path, water[None].astype(np.int64)).tolist() == [0.75, 0.25]
    assert segment(tmp_path, water[None].astype(np.uint8)).tolist() == [0.75, 0.25]


def test_padding_does_not_dilute_it(tmp_path: Path) -> None:
    model_kit.fixed(tmp_path, {"mask": pool()[None].astype(np.int64)}, **FLOOD, head="segment")
    seal.seal(tmp_path, "fixed")
    segmenter = load_segmenter(tmp_path, "fixed")
    assert segmenter.segment(CANVAS, (0, 0, 64, 32)).shares.tolist() == [0.75, 0.25]
    assert segmenter.segment(CANVAS, (0, 16, 64, 32)).shares.tolist() == [0.5, 0.5]
    assert segmenter.segment(CANVAS, (0, 16, 32, 32)).shares.tolist() == [0, 1]
    assert segmenter.segment(CANVAS, (63, 31, 64, 32)).shares.tolist() == [1, 0]
    assert segmenter.classes == ("clear", "flooded")


def test_pixels_that_make_no_sense_are_unknown_not_clear(tmp_path: Path) -> None:
    labels = pool()[None].astype(np.int64)
    labels[0, 0, :4] = 7
    labels[0, 1, :4] = -1
    model_kit.fixed(tmp_path, {"mask": labels}, **FLOOD, head="segment")
    seal.seal(tmp_path, "fixed")
    segmenter = load_segmenter(tmp_path, "fixed")
    found = segmenter.segment(CANVAS)
    assert found.unknown == pytest.approx(8 / 128)
    assert found.shares.tolist() == pytest.approx([88 / 128, 32 / 128])
    assert segmenter.usage.dropped == 1


def test_an_output_that_is_no_mask_is_refused(tmp_path: Path) -> None:
    model_kit.fixed(tmp_path, {"mask": np.zeros((1, 5, 4, 8), np.float32)}, **FLOOD, head="segment")
    expected = r"head: segment: the output has shape \(1, 5, 4, 8\), expected \(1, 2, h, w\): the card's 2 classes"
    with pytest.raises(ConfigError, match=expected):
        load_segmenter(tmp_path, "fixed")


def test_a_segmenter_is_no_detector(tmp_path: Path) -> None:
    model_kit.fixed(tmp_path, {"mask": pool()[None].astype(np.int64)}, **FLOOD, head="segment")
    with pytest.raises(ConfigError, match="task: is 'segment', but a model with task 'detect' is wanted here"):
        load(tmp_path, "fixed")

"""Layer B: what a decode head makes of a model's numbers, beside an independent decoder that is too slow to be wrong.

Fifteen exports of detectors (tests/head_cases.py), through a real onnxruntime, are held against tests/slow_heads.py,
which reads place by place in plain Python and shares nothing with models/; so is every answer of our own detector to
drawn streets. Suppression is held against its definition, box by box, on clusters, ties and overlaps of exactly the
threshold. Classification and segmentation have references of their own here.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import head_cases
import model_kit
import numpy as np
import slow_heads as slow

from bench.processes import ROOT, BenchFailed, folder
from bench.report import Figure, Report
from bench.vision_film import MODEL
from hardware_sim.street.views import random_view
from models import registry, seal
from models.boxes import Detections, nms
from models.detector import Detector
from models.types import Array, Canvas

VIEWS, QUICK_VIEWS, CROWDS = 40, 6, 200
FIRST_VIEW = 8_000


def run(report: Report, *, quick: bool) -> None:
    """Every figure of layer B."""
    off, boxes, equal = [0.0], 0, True
    with folder() as where:
        for make in head_cases.CASES:
            home = where / make.__name__
            home.mkdir()
            case = make()
            detector = head_cases.loaded(home, case.outputs, case.head)
            found = detector.detect(np.zeros((head_cases.HEIGHT, head_cases.WIDTH, 3), np.uint8))
            limit = head_cases.IOU if case.suppress else None
            expected = slow.wanted(case.rows(), head_cases.SIZE, head_cases.CONFIDENCE, limit)
            error, same = compare(found, expected)
            report.add(Figure(f"vision/B/{make.__name__}/box_error_px", error, "px", note=_told(expected, same=same)))
            off.append(error)
            boxes, equal = boxes + len(expected), equal and same
        whole = _whole_pictures(where)
    own_off, own_boxes, own_equal = _own(QUICK_VIEWS if quick else VIEWS)
    report.add(Figure(f"vision/B/{MODEL}/box_error_px", own_off, "px", note=f"{own_boxes} boxes on drawn streets"))
    note = f"largest of {boxes + own_boxes} boxes, {len(head_cases.CASES)} exports and our own detector"
    report.add(Figure("vision/B/box_error_px", max([*off, own_off]), "px", target=0.5, note=note))
    note = "1: the boxes that are left are the same in every case"
    report.add(Figure("vision/B/kept_equal", float(equal and own_equal), "", target=1.0, higher=True, note=note))
    rounds = CROWDS // 10 if quick else CROWDS
    wrong, count = suppressions(rounds)
    note = f"of {rounds} crowds, {count} boxes, ties and overlaps of exactly the threshold among them"
    report.add(Figure("vision/B/nms_unequal", float(wrong), "", target=0.0, note=note))
    report.add(
        Figure("vision/B/whole_pictures_error", whole, "", target=0.001, note="classify and segment: of a share")
    )


def compare(found: Detections, expected: Sequence[slow.Row]) -> tuple[float, bool]:
    """The largest difference of an edge, pixels, and whether the same boxes of the same classes are there."""
    if found.classes.tolist() != [row[5] for row in expected]:
        return math.inf, False
    if not expected:
        return 0.0, True
    wanted = np.array([row[:4] for row in expected])
    scores = np.array([row[4] for row in expected])
    return float(np.abs(found.boxes - wanted).max()), bool(np.allclose(found.scores, scores, atol=1e-3))


def _told(expected: Sequence[slow.Row], *, same: bool) -> str:
    return f"{len(expected)} boxes" if same else "other boxes than the reference's"


def _own(views: int) -> tuple[float, int, bool]:
    """Our own detector on drawn streets of held-out poses: largest error, boxes, whether all are the same."""
    detector = registry.load(ROOT / "models", MODEL)
    off, boxes, equal = 0.0, 0, True
    for seed in range(FIRST_VIEW, FIRST_VIEW + views):
        canvas: Canvas = np.asarray(random_view(seed, detector.input_size, "heldout").picture(1.0).bgr, np.uint8)
        found = detector.detect(canvas)
        error, same = _own_answer(detector, detector.network.outputs(canvas)[0], found)
        off, boxes, equal = max(off, error), boxes + len(found.boxes), equal and same
    if not boxes:
        raise BenchFailed(f"{MODEL} found nothing in {views} streets")
    return off, boxes, equal


def _own_answer(detector: Detector, output: Array, found: Detections) -> tuple[float, bool]:
    limits = detector.card.thresholds
    expected = slow.wanted(slow.yolov8(output), detector.input_size, limits.confidence, limits.iou)
    return compare(found, expected[: limits.max_detections])


def suppressions(rounds: int) -> tuple[int, int]:
    """In how many random crowds the boxes that stay are others than by definition, and of how many boxes in all."""
    wrong = count = 0
    for seed in range(rounds):
        rng = np.random.default_rng((seed, 21))
        size = int(rng.integers(2, 160))
        # On a coarse grid equal boxes and overlaps of exactly the threshold are common; off it, they are not.
        scale = 1.0 if seed % 2 else 1 / 64
        corner = np.round(rng.normal(20, 6, (size, 2)) / scale) * scale
        boxes = np.concatenate([corner, corner + np.round(rng.integers(1, 9, (size, 2)) / scale) * scale], axis=1)
        classes = rng.integers(0, 3, size)
        limit = float(rng.choice([0.25, 1 / 3, 0.5, 0.6, 0.75]))
        kept = nms(boxes.astype(np.float32), classes.astype(np.int64), limit).tolist()
        wrong += kept != slow.brute_force(boxes.tolist(), classes.tolist(), limit)
        count += size
    return wrong, count


def _whole_pictures(where: Path) -> float:
    """Classification and segmentation: the largest error of a share or probability."""
    rng = np.random.default_rng(31)
    canvas = model_kit.canvas()
    errors = []
    for number in range(8):
        home = where / f"classify-{number}"
        home.mkdir()
        numbers = rng.normal(0, 3, 3).astype(np.float32)
        model_kit.fixed(
            home,
            {"scores": numbers[None]},
            task="classify",
            head={"kind": "classify", "activation": "softmax"},
            thresholds={"confidence": 0.1},
        )
        seal.seal(home, "fixed")
        scores = registry.load_classifier(home, "fixed").classify(canvas).scores.tolist()
        total = sum(math.exp(one) for one in numbers.tolist())
        errors += [abs(math.exp(one) / total - score) for one, score in zip(numbers.tolist(), scores, strict=True)]
        errors.append(_segment_error(where / f"segment-{number}", rng.normal(0, 1, (1, 2, 8, 16)).astype(np.float32)))
    return float(max(errors))


def _segment_error(home: Path, numbers: Array) -> float:
    home.mkdir()
    facts: dict[str, Any] = {"task": "segment", "classes": ["clear", "flooded"], "thresholds": {"confidence": 0.5}}
    model_kit.fixed(home, {"mask": numbers}, **facts, head={"kind": "segment", "activation": "none"})
    seal.seal(home, "fixed")
    found = registry.load_segmenter(home, "fixed").segment(model_kit.canvas()).shares.tolist()
    dry = wet = 0
    for clear, flooded in zip(numbers[0][0].ravel().tolist(), numbers[0][1].ravel().tolist(), strict=True):
        dry, wet = dry + (clear >= flooded), wet + (clear < flooded)
    return float(max(abs(found[0] - dry / (dry + wet)), abs(found[1] - wet / (dry + wet))))

"""Writes the detector's card: what it is, what it saw, how well it does, and what it must not be trusted with."""

from collections.abc import Sequence
from typing import Any

import yaml

from models.train.judge import NMS_OVERLAP, Report
from models.train.labels import CANVAS, CLASSES, MIN_HEIGHT_PX, MIN_VISIBLE, MIN_WIDTH_PX
from models.train.scenes import FIRST_SEED, MOMENTS

THRESHOLD = 0.3
"""Scores learn the root of the box's overlap, not a probability. A compromise: on training scenes F1 of people is best
at 0.2, of cars at 0.4."""
INPUT, OUTPUT = "pictures", "answers"
JUDGED = f"at least {MIN_HEIGHT_PX:.0f} px high, {MIN_WIDTH_PX:.0f} px wide and {MIN_VISIBLE:.0%} visible"

ABOUT = "Finds people, cyclists, cars and buses in the streets that Weinao's simulator draws. Not for real cameras."
LIMITS = (
    (
        "It knows only drawn streets and has never seen a photograph: on a real camera its counts mean nothing."
        " A city brings a model of its own (docs/bring-a-model.md)."
    ),
    (
        f"In training and in every figure here an object counts only if it is {JUDGED} in the canvas; others are"
        " neither asked for nor held against it. What is smaller is mostly missed."
    ),
    "Four classes. Vans and lorries are drawn as cars; there are no motorcycles, trams, animals or wheelchairs.",
    (
        "It finds vehicles far better than people: many people and cyclists under 38 px, in groups, at night or partly"
        " hidden are missed, and two people side by side may become a cyclist. Counts of people from it are too low."
    ),
    "Cameras 4 to 10 m above the ground, pitched 4 to 55 degrees, 42 to 92 degrees wide. Other poses: not measured.",
    "Its scores are learned overlaps, not probabilities: use thresholds of 0.25 to 0.4.",
)


def card(report: Report, steps: int, scenes: int, milliseconds: float) -> dict[str, Any]:
    """The card as a mapping, without hash and self-test, which models.seal adds."""
    return {
        "task": "detect",
        "about": ABOUT,
        "input": {
            "name": INPUT,
            "width": CANVAS[0],
            "height": CANVAS[1],
            "layout": "NHWC",
            "dtype": "uint8",
            "colour": "BGR",
            "normalise": "in graph",
        },
        "classes": list(CLASSES),
        "head": {"kind": "yolov8", "output": OUTPUT},
        "thresholds": {"confidence": THRESHOLD, "iou": NMS_OVERLAP, "max_detections": 100},
        "licence": "that of Weinao",
        "training_data": training_data(steps, scenes),
        "accuracy": accuracy(report, milliseconds),
        "limits": list(LIMITS),
    }


def training_data(steps: int, scenes: int) -> str:
    """What it learned from, in a sentence or two."""
    return (
        f"{scenes:,} pictures drawn by hardware_sim.street.views (split train, seeds from {FIRST_SEED['train']:,}"
        f" on), {MOMENTS} a view: day, dusk and night, sun and shadow, rain, fog, blur, noise, droplets, occlusion."
        f" {steps:,} steps of models/train with mirroring, zoom, cuts, colour, blur, noise and JPEG. No photograph,"
        " no other network."
    )


def accuracy(report: Report, milliseconds: float) -> list[dict[str, Any]]:
    """All figures, each with its data."""
    data = f"{report.scenes:,} held-out drawn pictures, {report.objects:,} objects"
    rows = [("mAP50", report.mean)]
    rows += [(f"AP50 {name}", value) for name, value in zip(CLASSES, report.classes, strict=True)]
    rows += [(f"mAP50 {name}", value) for name, value in report.conditions.items()]
    rows += [(f"mAP50 of objects {name} px high", value) for name, value in report.heights.items()]
    for name, (precision, recall) in zip(CLASSES, report.at_threshold, strict=True):
        rows += [(f"precision {name} at {THRESHOLD}", precision), (f"recall {name} at {THRESHOLD}", recall)]
    figures = [{"measure": name, "value": round(value, 3), "data": data} for name, value in rows if value == value]  # noqa: PLR0124 - NaN differs from itself
    first = f"{data}; other seeds and other cells of camera height, pitch and yaw than in training; {JUDGED}"
    figures[0]["data"] = first
    speed = {"measure": "milliseconds an inference", "value": round(milliseconds, 1)}
    return [*figures, speed | {"data": "onnxruntime, one thread of a shared AMD EPYC core, median of 300"}]


def as_text(mapping: dict[str, Any]) -> str:
    """The card's YAML."""
    return yaml.safe_dump(mapping, default_flow_style=None, sort_keys=False, allow_unicode=True, width=110)


def table(report: Report) -> Sequence[str]:
    """The figures as lines of Markdown, for the training log."""
    head = "| objects | mAP50 | " + " | ".join(CLASSES) + " |"
    rows = [("all", report.mean, report.classes)]
    rows += [(f"{name} px high", report.heights[name], values) for name, values in report.class_heights.items()]
    lines = [head, "|---" * (2 + len(CLASSES)) + "|"]
    lines += [
        f"| {name} | {total:.3f} | " + " | ".join(f"{v:.3f}" for v in values) + " |" for name, total, values in rows
    ]
    sure = " | ".join(f"{precision:.2f} / {recall:.2f}" for precision, recall in report.at_threshold)
    return [
        *lines,
        f"| precision / recall at {THRESHOLD} | | {sure} |",
        "",
        "| condition | mAP50 |",
        "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in report.conditions.items()),
    ]

"""People and cyclists as strokes: limbs between joints, a ball for the head, rings for wheels.

At the size of a street camera a figure is some dozen pixels high; what tells it is its outline and how it moves. Points
are metres in the figure's own frame: x forward, y left, z up from the ground under its middle.
"""

import math
from dataclasses import dataclass

import numpy as np

from hardware_sim.street.bodies import Body, Looks
from hardware_sim.street.types import Floats

SKIN, HAIR, UPPER, LOWER, SHOES, EXTRA, FRAME, HELMET = range(8)
STRIDE_M = 1.4
"""Metres of a whole step cycle."""
PEDAL_M = 5.0
"""Metres of a turn of the pedals."""
WHEEL_M = 0.34


@dataclass(frozen=True, slots=True)
class Stroke:
    """From a to b. across, along: half widths seen from the front and from the side. ring: radius of a ring, or 0."""

    a: tuple[float, float, float]
    b: tuple[float, float, float]
    across: float
    along: float
    colour: int
    ring: float = 0.0


def strokes(body: Body) -> list[Stroke]:
    """The strokes of a figure as it is now, of nominal size: multiply by the scale of its looks."""
    if body.kind == "person":
        return _person(body.looks, body.stride_m, moving=body.speed_mps > 0.1)
    return _cyclist(body.looks, body.stride_m, moving=body.speed_mps > 0.3)


def _person(looks: Looks, gone_m: float, *, moving: bool) -> list[Stroke]:
    phase = 2 * math.pi * gone_m / (STRIDE_M * looks.scale) + looks.seed % 7
    swing = 0.42 * math.sin(phase) if moving else 0.06
    found: list[Stroke] = []
    for side, angle in ((1, swing), (-1, -swing)):
        y = 0.09 * side
        hip, knee = (0.0, y, 0.88), (0.44 * math.sin(angle), y, 0.46)
        bend = max(0.0, -angle) * 1.1
        foot = (knee[0] + 0.42 * math.sin(angle - bend), y, 0.05 + 0.12 * bend)
        found += [Stroke(hip, knee, 0.085, 0.095, LOWER), Stroke(knee, foot, 0.065, 0.075, LOWER)]
        found.append(Stroke(foot, (foot[0] + 0.16, y, foot[2]), 0.05, 0.05, SHOES))
        arm = -angle
        shoulder = (0.0, 0.21 * side, 1.38)
        elbow = (0.28 * math.sin(arm), 0.24 * side, 1.11)
        hand = (elbow[0] + 0.24 * math.sin(arm + 0.35), 0.23 * side, 0.87)
        found += [Stroke(shoulder, elbow, 0.055, 0.055, UPPER), Stroke(elbow, hand, 0.045, 0.045, UPPER)]
    low = 0.55 if "coat" in looks.traits else 0.85
    found.append(Stroke((0, 0, low), (0, 0, 1.42), 0.19, 0.125, UPPER))
    if "skirt" in looks.traits:
        found.append(Stroke((0, 0, 0.52), (0, 0, 0.95), 0.22, 0.2, LOWER))
    found += _head(looks, (0.02, 0.0, 1.58))
    if "bag" in looks.traits:
        found.append(Stroke((-0.2, 0, 1.0), (-0.2, 0, 1.36), 0.15, 0.09, EXTRA))
    if "umbrella" in looks.traits:
        found += [Stroke((0.12, 0, 1.1), (0.12, 0, 1.95), 0.015, 0.015, FRAME)]
        found += [Stroke((0.12, 0, 1.86), (0.12, 0, 2.04), 0.5, 0.5, HELMET)]
    if "trolley" in looks.traits:
        found += [Stroke((-0.55, 0.2, 0.1), (-0.5, 0.2, 0.62), 0.12, 0.18, EXTRA)]
        found += [Stroke((-0.5, 0.2, 0.6), (-0.15, 0.22, 0.9), 0.015, 0.015, FRAME)]
    return found


def _head(looks: Looks, at: tuple[float, float, float]) -> list[Stroke]:
    x, y, z = at
    top = HELMET if {"helmet", "hat"} & looks.traits else HAIR
    return [
        Stroke((x, y, z - 0.16), (x, y, z), 0.06, 0.06, SKIN),
        Stroke((x, y, z - 0.03), (x + 0.02, y, z + 0.02), 0.1, 0.11, SKIN),
        Stroke((x - 0.02, y, z + 0.07), (x, y, z + 0.1), 0.105, 0.12, top),
    ]


def _cyclist(looks: Looks, gone_m: float, *, moving: bool) -> list[Stroke]:
    scooter = looks.variant == "scooter"
    half = 0.62 if scooter else 0.52
    wheel = 0.26 if scooter else WHEEL_M
    saddle, bars = (-0.18, 0.0, 0.78 if scooter else 0.93), (0.42, 0.0, 1.0)
    found = [
        Stroke((x, 0, wheel), (x, 0, wheel), 0.05 if scooter else 0.02, 0, SHOES if scooter else FRAME, ring=wheel)
        for x in (-half, half)
    ]
    if scooter:
        found += [
            Stroke((-0.6, 0, 0.45), (-0.05, 0, 0.5), 0.16, 0.16, FRAME),
            Stroke((-0.1, 0, 0.32), (0.4, 0, 0.3), 0.13, 0.06, FRAME),
            Stroke((0.38, 0, 0.3), (0.5, 0, 0.95), 0.15, 0.08, FRAME),
        ]
    else:
        crank = (-0.05, 0.0, 0.3)
        axles = (-half, 0.0, wheel), (half, 0.0, wheel)
        tubes = (saddle, crank), (crank, bars), (saddle, bars), (crank, axles[0]), (bars, axles[1])
        found += [Stroke(a, b, 0.022, 0.022, FRAME) for a, b in tubes]
    found.append(Stroke((0.42, 0.28, 1.02), (0.42, -0.28, 1.02), 0.02, 0.02, SHOES))
    found += _rider(looks, saddle, gone_m if moving else 0.0, scooter=scooter)
    if "box" in looks.traits:
        found.append(Stroke((-0.55, 0, 0.72), (-0.55, 0, 1.22), 0.24, 0.24, EXTRA))
    elif "basket" in looks.traits:
        found.append(Stroke((0.58, 0, 0.72), (0.58, 0, 0.98), 0.17, 0.14, EXTRA))
    return found


def _rider(looks: Looks, saddle: tuple[float, float, float], gone_m: float, *, scooter: bool) -> list[Stroke]:
    lean = 0.1 if scooter else 0.12 + 0.2 * (looks.seed % 3) / 2
    neck = (saddle[0] + lean, 0.0, saddle[2] + 0.55)
    turn = 2 * math.pi * gone_m / PEDAL_M
    found = [Stroke((saddle[0], 0, saddle[2] - 0.03), neck, 0.19, 0.14, UPPER)]
    for side in (1, -1):
        y = 0.12 * side
        angle = turn if side > 0 else turn + math.pi
        if scooter:
            knee, foot = (saddle[0] + 0.42, y, 0.72), (saddle[0] + 0.42, y, 0.34)
        else:
            foot = (-0.05 + 0.17 * math.cos(angle), y, 0.3 + 0.17 * math.sin(angle))
            knee = ((saddle[0] + foot[0]) / 2 + 0.26, y, (saddle[2] + foot[2]) / 2 + 0.1)
        found += [
            Stroke((saddle[0], y, saddle[2]), knee, 0.085, 0.085, LOWER),
            Stroke(knee, foot, 0.065, 0.065, LOWER),
            Stroke(foot, (foot[0] + 0.14, y, foot[2]), 0.045, 0.045, SHOES),
            Stroke((neck[0], 0.2 * side, neck[2] - 0.03), (0.36, 0.24 * side, 1.04), 0.05, 0.05, UPPER),
        ]
    found += _head(looks, (neck[0] + 0.08, 0.0, neck[2] + 0.17))
    if "bag" in looks.traits:
        found.append(
            Stroke((saddle[0] - 0.16, 0, saddle[2] + 0.15), (neck[0] - 0.18, 0, neck[2] - 0.05), 0.15, 0.1, EXTRA)
        )
    return found


def joints(found: list[Stroke]) -> Floats:
    """All ends of strokes (2 a stroke, 3)."""
    return np.array([point for stroke in found for point in (stroke.a, stroke.b)])

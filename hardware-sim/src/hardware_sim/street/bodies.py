"""What moves in the street: its kind, its looks and where it is. Looks come from a seed, so an id keeps its colours."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from hardware_sim.street import shapes
from hardware_sim.street.shapes import Material, Mesh
from hardware_sim.street.types import Colour, Floats

Kind = Literal["person", "cyclist", "car", "bus"]
KINDS: tuple[Kind, ...] = ("person", "cyclist", "car", "bus")

CAR_VARIANTS = ("sedan", "hatch", "estate", "suv", "taxi", "minivan", "van", "pickup", "truck")
CAR_SHARES = (0.27, 0.14, 0.08, 0.22, 0.07, 0.06, 0.07, 0.04, 0.05)
BUS_VARIANTS = tuple(shapes.BUSES)
BUS_SHARES = (0.6, 0.15, 0.17, 0.08)


@dataclass(frozen=True)
class Looks:
    """What one road user looks like. scale: its size against the nominal one. seed: everything not listed here."""

    kind: Kind
    variant: str
    scale: float
    palette: Floats  # materials, 3 (BGR); of a figure: skin, hair, upper, lower, shoes, extra, frame, helmet
    seed: int
    traits: frozenset[str] = frozenset()

    @cached_property
    def mesh(self) -> Mesh:
        """The solid of a car or a bus."""
        return shapes.car(self.variant) if self.kind == "car" else shapes.bus(self.variant)

    @property
    def length(self) -> float:
        """Metres along its heading."""
        return {"person": 0.5, "cyclist": 1.75}.get(self.kind) or self.mesh.length * self.scale

    @property
    def width(self) -> float:
        """Metres across its heading."""
        return {"person": 0.55, "cyclist": 0.6}.get(self.kind) or self.mesh.width * self.scale

    @property
    def height(self) -> float:
        """Metres."""
        return {"person": 1.7, "cyclist": 1.7}.get(self.kind, 0) * self.scale or self.mesh.height * self.scale


@dataclass(slots=True)
class Body:
    """One road user at one moment. x, y: its middle, metres. heading_deg: 0 along x, 90 along y.

    stride_m: how far it has gone, which swings legs and pedals. braking: its rear lamps are bright.
    """

    id: int
    looks: Looks
    x: float
    y: float
    heading_deg: float
    stride_m: float = 0.0
    speed_mps: float = 0.0
    braking: bool = False
    parked: bool = field(default=False)

    @property
    def kind(self) -> Kind:
        """What it is."""
        return self.looks.kind

    def footprint(self) -> Floats:
        """The four corners it stands on (4, 2)."""
        cos, sin = math.cos(math.radians(self.heading_deg)), math.sin(math.radians(self.heading_deg))
        along, across = self.looks.length / 2, self.looks.width / 2
        corners = np.array([[along, across], [-along, across], [-along, -across], [along, -across]])
        return np.asarray(corners @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y))


# How cars are painted in most streets: white, grey and black above all.
_PAINTS: tuple[tuple[float, Colour], ...] = (
    (0.30, (235, 235, 232)), (0.20, (38, 36, 35)), (0.16, (150, 148, 145)), (0.08, (95, 92, 90)),
    (0.08, (40, 36, 150)), (0.08, (120, 72, 35)), (0.03, (70, 110, 60)), (0.03, (60, 150, 205)), (0.04, (70, 90, 120)),
)  # fmt: skip
_BUS_PAINTS: tuple[Colour, ...] = (
    (225, 225, 225), (60, 50, 190), (170, 95, 40), (80, 150, 60), (50, 150, 225), (190, 170, 60), (70, 60, 60),
)  # fmt: skip


def random_looks(kind: Kind, seed: int) -> Looks:
    """Looks of a kind; the same for the same seed."""
    random = np.random.default_rng([seed, KINDS.index(kind), 0x10015])
    if kind == "car":
        return _car(random, seed)
    if kind == "bus":
        return _bus(random, seed)
    return _figure(kind, random, seed)


def _vary(random: np.random.Generator, colour: Colour, spread: float) -> Floats:
    return np.clip(np.array(colour) + random.normal(0, spread, 3) + random.normal(0, spread), 4, 250)


def _vehicle_palette(random: np.random.Generator, paint: Floats, second: Floats) -> Floats:
    palette = np.zeros((len(Material), 3))
    palette[Material.PAINT] = paint
    palette[Material.SECOND] = second
    palette[Material.GLASS] = _vary(random, (70, 58, 48), 14)
    palette[Material.DARK] = _vary(random, (32, 32, 32), 6)
    palette[Material.TYRE] = (26, 26, 26)
    palette[Material.HUB] = _vary(random, (140, 140, 140), 40)
    palette[Material.HEADLAMP] = (225, 228, 225)
    palette[Material.TAIL_LAMP] = (30, 28, 150)
    palette[Material.PLATE] = (170, 95, 40) if random.random() < 0.5 else (205, 215, 215)
    palette[Material.SIGN] = (60, 190, 230)
    return palette


def _car(random: np.random.Generator, seed: int) -> Looks:
    variant = str(random.choice(CAR_VARIANTS, p=CAR_SHARES))
    if random.random() < 0.2:  # any colour at all, so that none is a rule
        paint = random.uniform(15, 240, 3)
    else:
        shares = np.array([share for share, _ in _PAINTS])
        paint = _vary(random, _PAINTS[random.choice(len(_PAINTS), p=shares / shares.sum())][1], 12)
    second = random.uniform(40, 240, 3) if random.random() < 0.5 else _vary(random, (215, 215, 215), 15)
    if variant in {"van", "truck"} and random.random() < 0.5:
        paint = _vary(random, (225, 225, 225), 12)
    return Looks("car", variant, float(random.uniform(0.92, 1.08)), _vehicle_palette(random, paint, second), seed)


def _bus(random: np.random.Generator, seed: int) -> Looks:
    variant = str(random.choice(BUS_VARIANTS, p=BUS_SHARES))
    first, second = random.choice(len(_BUS_PAINTS), 2, replace=False)
    paint = _vary(random, _BUS_PAINTS[first], 14) if random.random() < 0.8 else random.uniform(20, 240, 3)
    trim = _vary(random, _BUS_PAINTS[second], 14) if random.random() < 0.7 else paint * 0.9
    return Looks("bus", variant, float(random.uniform(0.94, 1.05)), _vehicle_palette(random, paint, trim), seed)


def _figure(kind: Kind, random: np.random.Generator, seed: int) -> Looks:
    tone = random.uniform(0.35, 1.0)
    palette = np.array(
        [
            np.array((150, 180, 225)) * tone,
            _vary(random, (30, 32, 40), 10) if random.random() < 0.8 else random.uniform(40, 200, 3),
            random.uniform(15, 240, 3) if random.random() < 0.75 else _vary(random, (45, 42, 42), 12),
            _vary(random, (70, 50, 45), 18) if random.random() < 0.6 else random.uniform(20, 210, 3),
            random.uniform(15, 200, 3),
            random.uniform(15, 230, 3),
            random.uniform(15, 220, 3),
            random.uniform(15, 240, 3),
        ]
    )
    traits = set()
    if kind == "person":
        chances = {"skirt": 0.15, "coat": 0.2, "bag": 0.25, "hat": 0.12, "umbrella": 0.04, "trolley": 0.05}
        child = random.random() < 0.1
        scale = random.uniform(0.6, 0.8) if child else random.uniform(0.9, 1.1)
        variant = "child" if child else "adult"
    else:
        chances = {"helmet": 0.45, "bag": 0.2, "box": 0.18, "basket": 0.2, "coat": 0.15}
        scale = random.uniform(0.92, 1.08)
        variant = "scooter" if random.random() < 0.35 else "bicycle"
    for trait, chance in chances.items():
        if random.random() < chance:
            traits.add(trait)
    return Looks(kind, variant, float(scale), palette, seed, frozenset(traits))

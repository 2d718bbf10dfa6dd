"""What the light and the air of a street are like: day, dusk or night, sun or cloud, rain, fog."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hardware_sim.street.types import Colour, Floats

Hour = Literal["day", "dusk", "night"]


@dataclass(frozen=True)
class Light:
    """Multipliers are of blue, green, red. sun: what falls on a face that looks at the sun, besides `ambient`.

    shadow: how much of the light a shadow takes, 0 none. fog_m: where an object has lost 63 % of its contrast.
    lamps: street lamps and headlamps are on. wet: how much the road mirrors. rain: how dense the streaks are.
    """

    hour: Hour
    ambient: Colour
    sun: Colour
    sun_towards: tuple[float, float, float]
    shadow: float
    zenith: Colour
    horizon: Colour
    fog_m: float = math.inf
    lamps: bool = False
    wet: float = 0.0
    rain: float = 0.0

    def shade(self, normals: Floats) -> Floats:
        """The light on faces with these normals: multipliers (n, 3)."""
        towards = np.maximum(0.0, normals @ np.array(self.sun_towards))
        skyward = 0.82 + 0.18 * normals[:, 2]
        lit: Floats = np.outer(skyward, self.ambient) + np.outer(towards, self.sun)
        return lit

    @property
    def flat(self) -> Floats:
        """The light on a thing without a face: a figure, a leaf."""
        return np.array(self.ambient) * 0.9 + np.array(self.sun) * 0.45

    def veil(self, distance_m: Floats) -> Floats:
        """The share of the fog's colour in what is that far away."""
        return 1 - np.exp(-distance_m / self.fog_m)


def make_light(hour: Hour, *, azimuth_deg: float = 130.0, sunny: float = 0.0) -> Light:
    """Light of an hour. sunny: 0 overcast to 1 hard sun. azimuth_deg: where the sun stands, as a yaw."""
    azimuth = math.radians(azimuth_deg)
    if hour == "day":
        height = math.radians(38)
        towards = (math.cos(height) * math.cos(azimuth), math.cos(height) * math.sin(azimuth), math.sin(height))
        ambient = 0.86 - 0.32 * sunny
        return Light(
            "day",
            (ambient * 1.04, ambient, ambient * 0.97),
            (0.62 * sunny, 0.70 * sunny, 0.74 * sunny),
            towards,
            0.18 + 0.42 * sunny,
            (205 + 10 * sunny, 185 - 20 * sunny, 175 - 70 * sunny),
            (225, 220, 215),
        )
    if hour == "dusk":
        height = math.radians(9)
        towards = (math.cos(height) * math.cos(azimuth), math.cos(height) * math.sin(azimuth), math.sin(height))
        return Light(
            "dusk", (0.46, 0.40, 0.40), (0.05 * sunny, 0.13 * sunny, 0.25 * sunny), towards,
            0.10 + 0.1 * sunny, (120, 84, 70), (120, 135, 190), lamps=True,
        )  # fmt: skip
    return Light("night", (0.19, 0.175, 0.175), (0, 0, 0), (0, 0, 1), 0.25, (26, 18, 14), (40, 34, 34), lamps=True)


def with_fog(light: Light, fog_m: float) -> Light:
    """The same light in fog: shadows go, everything turns towards the fog's grey."""
    bright = {"day": 205.0, "dusk": 120.0, "night": 52.0}[light.hour]
    grey = (bright * 1.01, bright, bright * 0.98)
    return replace(light, sun=(0, 0, 0), shadow=min(light.shadow, 0.15), fog_m=fog_m, horizon=grey, zenith=grey)


def with_rain(light: Light, rain: float) -> Light:
    """The same light in rain, 0 to 1."""
    dim = 1 - 0.25 * rain
    ambient = (light.ambient[0] * dim, light.ambient[1] * dim, light.ambient[2] * dim)
    sky = tuple(0.8 * value + 0.2 * 120 * (light.hour == "day") for value in light.horizon)
    return replace(
        light, ambient=ambient, sun=(0, 0, 0), shadow=min(light.shadow, 0.12), rain=rain, wet=0.3 + 0.6 * rain,
        fog_m=min(light.fog_m, 260 - 160 * rain), horizon=(sky[0], sky[1], sky[2]), zenith=(sky[0], sky[1], sky[2]),
    )  # fmt: skip


def random_light(random: np.random.Generator) -> Light:
    """Any light a camera may meet, the ordinary ones most often."""
    hour: Hour = random.choice(["day", "dusk", "night"], p=[0.56, 0.16, 0.28])
    sunny = float(random.uniform(0.3, 1)) if random.random() < 0.55 else 0.0
    light = make_light(hour, azimuth_deg=float(random.uniform(0, 360)), sunny=sunny)
    gain = float(random.uniform(0.8, 1.25) if hour == "day" else random.uniform(0.6, 1.5))
    tint = random.normal(1, 0.05, 3)
    ambient = tuple(float(value * gain * warm) for value, warm in zip(light.ambient, tint, strict=True))
    light = replace(light, ambient=(ambient[0], ambient[1], ambient[2]))
    weather = random.random()
    if weather < 0.18:
        light = with_rain(light, float(random.uniform(0.2, 1)))
    elif weather < 0.28:
        light = with_fog(light, float(random.uniform(25, 110)))
    return light

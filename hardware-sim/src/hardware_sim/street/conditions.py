"""What spoils a camera's picture, each in three grades: weather, dirt, vandals, and what the camera does to itself."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Any

import cv2
import numpy as np

from hardware_sim.street.bodies import Body, random_looks
from hardware_sim.street.camera import Camera
from hardware_sim.street.lens import Lens
from hardware_sim.street.light import Light, make_light, with_fog, with_rain
from hardware_sim.street.scenes import Scene
from hardware_sim.street.types import Bytes

GRADES = (1, 2, 3)
PARKED_BUS_ID = 910_001

# By grade, see Spoil.
_DIM, _DARK_NOISE = (1.5, 0.85, 0.5), (3.0, 6.0, 10.0)
_RAIN, _FOG_M = (0.3, 0.65, 1.0), (120.0, 60.0, 30.0)
_BLUR, _DROPS, _SHAKE = (0.0015, 0.0035, 0.008), (3, 8, 18), (0.002, 0.005, 0.012)
_GAIN, _COVER = (1.9, 0.35, 5.0), (0.7, 0.9, 1.0)
_YAW_DEG, _PITCH_DEG = (2.0, 5.0, 10.0), (0.5, 1.5, -2.0)


class Spoil(StrEnum):
    """What can be wrong with a picture. The comments give the three grades."""

    NIGHT = "night"  # lit street, dark street, darker and noisier; all with headlamps
    RAIN = "rain"  # light, steady, a downpour
    FOG = "fog"  # 120, 60, 30 m
    BLUR = "blur"  # of the focus: 0.15, 0.35, 0.8 % of the width
    DROPLET = "droplet"  # 3, 8, 18 drops on the glass
    OCCLUDED = "occluded"  # a bus stands at the near kerb: beside the line, on it, two double-deckers
    SHAKE = "shake"  # 0.2, 0.5, 1.2 % of the width
    EXPOSURE = "exposure"  # a step: twice as bright, a third as bright, burnt out
    BLACK = "black"  # with the sensor's noise, without it, and with a dead image of one grey level
    COVERED = "covered"  # 70, 90, 100 % of the picture by something dark and close
    MOVED = "moved"  # turned by 2, 5, 10 degrees
    FROZEN = "frozen"  # the last picture again and again


@dataclass(frozen=True)
class Setup:
    """How a scene is drawn now. shake: standard deviation, share of the width. cover: share. black: grade or 0."""

    camera: Camera
    light: Light
    lens: Lens
    bodies: tuple[Body, ...] = ()
    shake: float = 0.0
    cover: float = 0.0
    black: int = 0
    frozen: bool = False

    @property
    def stage_key(self) -> tuple[Camera, Light]:
        """What the street must be painted anew for."""
        return self.camera, self.light

    def spoil(self, bgr: Bytes, number: int) -> Bytes:
        """What happens to a picture behind the lens."""
        if self.black:
            return _black(bgr, self.black, number)
        if self.shake > 0:
            bgr = _shaken(bgr, self.shake, number)
        if self.cover > 0:
            bgr = _covered(bgr, self.cover, number)
        return bgr


def setup(scene: Scene, spoils: dict[Spoil, int]) -> Setup:
    """A scene with what spoils it, by grade 1 to 3. Raises ValueError for another grade."""
    made = Setup(scene.camera, scene.light, scene.lens)
    for spoil in Spoil:  # in one order, whatever order they came in
        if spoil in spoils:
            if spoils[spoil] not in GRADES:
                raise ValueError(f"{spoil}: expected a grade from 1 to 3, found {spoils[spoil]}")
            made = _with(made, scene, spoil, spoils[spoil] - 1)
    return made


def _with(made: Setup, scene: Scene, spoil: Spoil, grade: int) -> Setup:
    """One more thing wrong. grade: 0 to 2."""
    if spoil is Spoil.NIGHT:
        return _night(made, grade)
    if spoil in {Spoil.RAIN, Spoil.FOG}:
        light = made.light
        wet = with_rain(light, _RAIN[grade]) if spoil is Spoil.RAIN else with_fog(light, _FOG_M[grade])
        return replace(made, light=wet)
    if spoil is Spoil.MOVED:
        return replace(made, camera=scene.camera.turned(_YAW_DEG[grade], _PITCH_DEG[grade]))
    if spoil is Spoil.OCCLUDED:
        return replace(made, bodies=_buses(scene, grade))
    lenses: dict[Spoil, dict[str, Any]] = {
        Spoil.BLUR: {"blur_px": _BLUR[grade] * scene.camera.size[0]},
        Spoil.DROPLET: {"drops": _DROPS[grade]},
        Spoil.EXPOSURE: {"gain": _GAIN[grade]},
    }
    if spoil in lenses:
        return replace(made, lens=replace(made.lens, **lenses[spoil]))
    afterwards: dict[Spoil, dict[str, Any]] = {
        Spoil.SHAKE: {"shake": _SHAKE[grade]},
        Spoil.BLACK: {"black": grade + 1},
        Spoil.COVERED: {"cover": _COVER[grade]},
        Spoil.FROZEN: {"frozen": True},
    }
    return replace(made, **afterwards[spoil])


def _night(made: Setup, grade: int) -> Setup:
    dark = make_light("night")
    ambient = (dark.ambient[0] * _DIM[grade], dark.ambient[1] * _DIM[grade], dark.ambient[2] * _DIM[grade])
    return replace(made, light=replace(dark, ambient=ambient), lens=replace(made.lens, noise=_DARK_NOISE[grade]))


def _buses(scene: Scene, grade: int) -> tuple[Body, ...]:
    """Buses that stand in a bay at the kerb on the camera's side."""
    street, side = scene.street, 1 if scene.camera.y > 0 else -1
    edge = street.left_edge if side > 0 else street.right_edge
    places = ((4.5 if scene.camera.x < 0 else -4.5,), (0.0,), (-6.2, 6.2))[grade]
    wanted = ("midi", "city", "double")[grade]
    found = []
    for n, x in enumerate(places):
        seed = next(seed for seed in range(scene.seed, scene.seed + 999) if random_looks("bus", seed).variant == wanted)
        looks = random_looks("bus", seed)
        y = edge + side * (looks.width / 2 + 0.15)
        found.append(Body(PARKED_BUS_ID + n, looks, x, y, 0.0 if side < 0 else 180.0, parked=True))
    return tuple(found)


def _black(bgr: Bytes, grade: int, number: int) -> Bytes:
    if grade == 3:
        return np.full_like(bgr, 16)
    dark = np.zeros_like(bgr)
    if grade == 2:
        return dark
    return Lens(noise=1.0, seed=grade).take(dark, make_light("day"), number)


def _shaken(bgr: Bytes, share: float, number: int) -> Bytes:
    random = np.random.default_rng([number, 15])
    width = bgr.shape[1]
    dx, dy = (random.normal(0, share * width, 2)).tolist()
    turn = cv2.getRotationMatrix2D((width / 2, bgr.shape[0] / 2), float(random.normal(0, 60 * share)), 1.0)
    turn[:, 2] += (dx, dy)
    size = (width, bgr.shape[0])
    return np.asarray(
        cv2.warpAffine(bgr, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _covered(bgr: Bytes, share: float, number: int) -> Bytes:
    """Cloth or tape close to the glass: far out of focus, nearly one tone."""
    cloth, thick = _cloth(bgr.shape[1], bgr.shape[0], share)
    cloth = Lens(noise=1.5, seed=3).take(cloth, make_light("day"), number)
    if share >= 1:
        return cloth
    hidden = cv2.multiply(cloth, thick, scale=1 / 255)
    return np.asarray(cv2.add(hidden, cv2.multiply(bgr, 255 - thick, scale=1 / 255)), np.uint8)


@cache
def _cloth(width: int, height: int, share: float) -> tuple[Bytes, Bytes]:
    """The cloth, and how much of each pixel it hides."""
    random = np.random.default_rng(16)
    coarse = (random.normal(38, 7, (6, 10, 1)) + random.normal(0, 2, (6, 10, 3))).clip(0, 255).astype(np.uint8)
    cloth = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    edge = np.linspace(0, 1, width)[None, :] + 0.15 * np.linspace(0, 1, height)[:, None]
    soft = ((np.quantile(edge, share) - edge) / 0.06 + 0.5).clip(0, 1) * 255
    return cloth, np.repeat(soft.astype(np.uint8)[..., None], 3, axis=2)

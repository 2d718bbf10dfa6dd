"""What the camera itself does to a picture: exposure, colour, blur, noise, rain on its way, compression."""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from hardware_sim.street.light import Light
from hardware_sim.street.types import Bytes


@dataclass(frozen=True)
class Lens:
    """gain, gamma, contrast: exposure. tint: BGR. noise: standard deviation, grey levels. blur_px: of the focus.

    smear: length in pixels and angle in degrees of motion blur. jpeg: quality, or 0 for none. mono: without colour.
    vignette: how dark the corners are, 0 to 1. drops: how many droplets sit on the glass.
    """

    gain: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    noise: float = 1.5
    blur_px: float = 0.0
    smear: tuple[float, float] = (0.0, 0.0)
    jpeg: int = 0
    mono: bool = False
    vignette: float = 0.0
    drops: int = 0
    seed: int = 0

    def take(self, bgr: Bytes, light: Light, number: int) -> Bytes:
        """The picture as the camera delivers it. number: of the frame, for what is random in it."""
        random = np.random.default_rng([self.seed, number, 8])
        if light.rain > 0:
            bgr = _streaks(bgr, light.rain, light.hour == "night", random)
        if self.drops:
            bgr = _droplets(bgr, self.drops, self.seed)
        if self.blur_px > 0.2:
            bgr = np.asarray(cv2.GaussianBlur(bgr, (0, 0), self.blur_px), np.uint8)
        if self.smear[0] >= 2:
            bgr = np.asarray(cv2.filter2D(bgr, -1, _smear_kernel(*self.smear)), np.uint8)
        if self.saturation != 1.0 or self.mono:
            grey = cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            share = 0.0 if self.mono else self.saturation
            bgr = np.asarray(cv2.addWeighted(bgr, share, grey, 1 - share, 0), np.uint8)
        if self.vignette > 0.02:
            shade = _vignette(bgr.shape[1], bgr.shape[0], round(self.vignette, 2))
            bgr = np.asarray(cv2.multiply(bgr, shade, scale=1 / 255), np.uint8)
        bgr = np.asarray(cv2.LUT(bgr, self._curve()), np.uint8)
        if self.noise > 0.1:
            bgr = _noise(bgr, self.noise, random)
        if self.jpeg:
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])
            bgr = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return bgr

    def _curve(self) -> Bytes:
        levels = np.arange(256)[:, None] / 255 * np.array(self.tint) * self.gain
        levels = (levels.clip(0, None) ** self.gamma - 0.5) * self.contrast + 0.5
        return np.asarray((levels * 255).clip(0, 255).astype(np.uint8)[:, None, :].reshape(256, 1, 3))


@cache
def _grain(height: int, width: int) -> Bytes:
    """Noise of a standard deviation of 32 around 128, larger than the picture so that each one takes another part."""
    random = np.random.default_rng(9)
    shape = (height + 64, width + 64, 3)
    luma = random.normal(0, 26, (*shape[:2], 1)) + random.normal(0, 18, shape)
    return np.asarray((128 + luma).clip(0, 255).astype(np.uint8))


def _noise(bgr: Bytes, sigma: float, random: np.random.Generator) -> Bytes:
    height, width = bgr.shape[:2]
    dy, dx = random.integers(0, 64, 2).tolist()
    grain = _grain(height, width)[dy : dy + height, dx : dx + width]
    return np.asarray(cv2.addWeighted(bgr, 1.0, grain, sigma / 32, -128 * sigma / 32), np.uint8)


@cache
def _vignette(width: int, height: int, strength: float) -> Bytes:
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    shade = 255 * (1 - strength * (x**2 + y**2) / 2)
    return np.repeat(shade.astype(np.uint8)[..., None], 3, axis=2)


@cache
def _smear_kernel(length: float, angle_deg: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    size = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((size, size), np.float32)
    middle, reach = size // 2, length / 2
    dx, dy = reach * math.cos(math.radians(angle_deg)), reach * math.sin(math.radians(angle_deg))
    start, end = (round(middle - dx), round(middle - dy)), (round(middle + dx), round(middle + dy))
    cv2.line(kernel, start, end, 1.0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _streaks(bgr: Bytes, rain: float, night: bool, random: np.random.Generator) -> Bytes:  # noqa: FBT001 - a fact
    height, width = bgr.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    count = int(rain * 260)
    starts = random.uniform((0, -0.1 * height), (width, height), (count, 2))
    lengths = random.uniform(0.02, 0.09, count) * height
    slant = float(random.normal(0.12, 0.03))
    tones = random.uniform(25, 95 if not night else 60, count)
    for (x, y), length, tone in zip(starts.tolist(), lengths.tolist(), tones.tolist(), strict=True):
        cv2.line(layer, (int(x), int(y)), (int(x + slant * length), int(y + length)), tone, 1 if width < 900 else 2)
    layer = np.asarray(cv2.blur(layer, (1, 3)), np.uint8)
    return np.asarray(cv2.add(bgr, cv2.merge([layer, layer, layer])), np.uint8)


def _droplets(bgr: Bytes, count: int, seed: int) -> Bytes:
    """Drops on the glass: each shows a blurred, brightened piece of the picture."""
    height, width = bgr.shape[:2]
    random = np.random.default_rng([seed, 10])
    mask = np.zeros((height, width), np.uint8)
    for _ in range(count):
        at = (int(random.uniform(0, width)), int(random.uniform(0, height)))
        radius = random.uniform(0.012, 0.055) * width
        axes = (max(1, round(radius)), max(1, round(radius * random.uniform(0.9, 1.5))))
        cv2.ellipse(mask, at, axes, 0, 0, 360, 255, -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.6, width / 300)), np.uint8)
    small = cv2.resize(bgr, (max(8, width // 24), max(8, height // 24)), interpolation=cv2.INTER_AREA)
    blurred = cv2.add(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.full_like(bgr, 12))
    thick = cv2.merge([mask, mask, mask])
    return np.asarray(
        cv2.add(cv2.multiply(bgr, 255 - thick, scale=1 / 255), cv2.multiply(blurred, thick, scale=1 / 255)), np.uint8
    )


def random_lens(random: np.random.Generator, light: Light, width: int) -> Lens:
    """Any camera, good or bad. width: of the picture, so that blur is as large as it looks."""
    dark = light.hour != "day"
    pick = random.random
    noise = float(random.uniform(0.5, 3) if not dark else random.uniform(1.5, 11))
    tint = random.normal(1, 0.035, 3).tolist()
    return Lens(
        gain=float(random.uniform(0.85, 1.2)),
        gamma=float(random.uniform(0.8, 1.25)),
        contrast=float(random.uniform(0.8, 1.2)),
        tint=(tint[0], tint[1], tint[2]),
        saturation=float(random.uniform(0.5, 1.35)),
        noise=noise,
        blur_px=float(random.uniform(0.3, 1.1)) * width / 320 if pick() < 0.3 else 0.0,
        smear=(float(random.uniform(2, 5)) * width / 320, float(random.uniform(0, 180))) if pick() < 0.08 else (0, 0),
        jpeg=int(random.integers(35, 92)) if pick() < 0.6 else 0,
        mono=bool(pick() < (0.3 if light.hour == "night" else 0.03)),
        vignette=float(random.uniform(0, 0.5)) if pick() < 0.4 else 0.0,
        drops=int(random.integers(1, 9)) if light.rain > 0 and pick() < 0.35 else 0,
        seed=int(random.integers(2**31)),
    )

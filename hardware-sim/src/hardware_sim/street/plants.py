"""Trees, lamp posts, signs and shelters: painted once, and laid over whatever is behind them in every picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from hardware_sim.street.backdrop import Backdrop
from hardware_sim.street.camera import Camera
from hardware_sim.street.layout import Plant, Street
from hardware_sim.street.light import Light
from hardware_sim.street.types import Bytes, Floats

NEAREST_M = 7.0
"""What stands nearer to the camera's mast would hide half the street; nobody mounts a camera so."""


@dataclass(frozen=True)
class Sprite:
    """A piece of picture that stands at (x, y). box: left, top, right, bottom pixels. patch: h, w, 4, id 0."""

    x: float
    y: float
    distance_m: float
    box: tuple[int, int, int, int]
    patch: Bytes
    mask: Bytes

    def lay(self, picture: Bytes) -> None:
        """Put it over a picture."""
        left, top, right, bottom = self.box
        cv2.copyTo(self.patch, self.mask, picture[top:bottom, left:right])


def sprites(camera: Camera, street: Street, light: Light, backdrop: Backdrop) -> list[Sprite]:
    """All that is in view, far ones first."""
    found = []
    for plant in street.plants:
        if np.hypot(plant.x - camera.x, plant.y - camera.y) < NEAREST_M:
            continue
        sprite = _sprite(camera, plant, light, backdrop)
        if sprite is not None:
            found.append(sprite)
    return sorted(found, key=lambda sprite: -sprite.distance_m)


def _sprite(camera: Camera, plant: Plant, light: Light, backdrop: Backdrop) -> Sprite | None:
    ends = np.array([(plant.x, plant.y, 0.0), (plant.x, plant.y, plant.height)])
    pixels, depth = camera.see(ends)
    if depth.min() < 2:
        return None
    scale = camera.focal_px / float(depth[0])
    reach = {"tree": 0.42 * plant.height, "shelter": 2.6, "lamp": 1.8}.get(plant.kind, 0.7) * scale + 3
    width, height = camera.size
    left, right = max(0, int(pixels[:, 0].min() - reach)), min(width, int(pixels[:, 0].max() + reach) + 1)
    top, bottom = max(0, int(pixels[:, 1].min() - reach)), min(height, int(pixels[:, 1].max()) + 3)
    if right - left < 2 or bottom - top < 2 or right - left > 3 * width:
        return None
    patch = np.zeros((bottom - top, right - left, 3), np.uint8)
    mask = np.zeros(patch.shape[:2], np.uint8)
    sun, lamp = backdrop.light_at(float(pixels[0, 0]), float(pixels[0, 1]))
    shade = np.array(light.ambient) * 0.9 + np.array(light.sun) * 0.5 * sun + 0.5 * lamp
    distance = float(np.linalg.norm(ends[0] - camera.position))
    veil = float(light.veil(np.array(distance)))
    canvas = _Canvas(patch, mask, camera, np.array([left, top]), shade * (1 - veil), np.array(light.horizon) * veil)
    match plant.kind:
        case "tree":
            _tree(canvas, plant, scale)
        case "shelter":
            _shelter(canvas, plant)
        case _:
            _post(canvas, plant, scale, light)
    if not mask.any():
        return None
    whole = np.dstack([patch, np.zeros(mask.shape, np.uint8)])
    return Sprite(plant.x, plant.y, distance, (left, top, right, bottom), whole, mask)


@dataclass
class _Canvas:
    patch: Bytes
    mask: Bytes
    camera: Camera
    origin: Floats
    shade: Floats
    haze: Floats

    def at(self, x: float, y: float, z: float) -> tuple[int, int]:
        pixels, _ = self.camera.see(np.array([(x, y, z)]))
        u, v = np.rint(pixels[0] - self.origin).astype(int).tolist()
        return u, v

    def mixed(self, colour: Floats, bright: float = 1.0) -> tuple[float, float, float]:
        blue, green, red = (colour * self.shade * bright + self.haze).clip(0, 255).tolist()
        return blue, green, red

    def line(self, a: tuple[int, int], b: tuple[int, int], colour: tuple[float, float, float], thick: float) -> None:
        cv2.line(self.patch, a, b, colour, max(1, round(thick)))
        cv2.line(self.mask, a, b, 255, max(1, round(thick)))

    def disc(self, at: tuple[int, int], radius: float, colour: tuple[float, float, float]) -> None:
        cv2.circle(self.patch, at, max(1, round(radius)), colour, -1)
        cv2.circle(self.mask, at, max(1, round(radius)), 255, -1)

    def quad(self, points: list[tuple[int, int]], colour: tuple[float, float, float]) -> None:
        corners = np.array(points, np.int32)
        cv2.fillConvexPoly(self.patch, corners, colour)
        cv2.fillConvexPoly(self.mask, corners, 255)


def _tree(canvas: _Canvas, plant: Plant, scale: float) -> None:
    random = np.random.default_rng([plant.seed, 7])
    bark, leaf = np.array((55, 68, 82)), np.array(plant.colour)
    foot, fork = canvas.at(plant.x, plant.y, 0), canvas.at(plant.x, plant.y, 0.6 * plant.height)
    canvas.line(foot, fork, canvas.mixed(bark), 0.28 * scale)
    bare = random.random() < 0.12
    crown = 0.33 * plant.height
    for _ in range(14 if bare else 90):
        around = random.normal(0, 0.45, 3).clip(-0.95, 0.95) * crown
        z = 0.68 * plant.height + float(around[2])
        at = canvas.at(plant.x + float(around[0]), plant.y + float(around[1]), z)
        if bare:
            canvas.line(fork, at, canvas.mixed(bark), 0.06 * scale)
            continue
        bright = 0.65 + 0.5 * (z / plant.height) + random.normal(0, 0.12)
        canvas.disc(at, random.uniform(0.1, 0.28) * crown * scale, canvas.mixed(leaf, bright))


def _shelter(canvas: _Canvas, plant: Plant) -> None:
    colour = np.array(plant.colour)
    y0, y1 = plant.y, plant.y + (0.2 if plant.y > 0 else -0.2)
    for x in (plant.x - 1.8, plant.x + 1.8):
        canvas.line(canvas.at(x, y0, 0), canvas.at(x, y0, 2.4), canvas.mixed(colour, 0.6), 2)
    back = [canvas.at(plant.x + dx, y1, z) for dx, z in ((-1.8, 0.5), (1.8, 0.5), (1.8, 2.1), (-1.8, 2.1))]
    canvas.quad(back, canvas.mixed(colour, 0.75))
    roof = [canvas.at(plant.x + dx, plant.y + dy, 2.45) for dx, dy in ((-2, -0.8), (2, -0.8), (2, 0.8), (-2, 0.8))]
    canvas.quad(roof, canvas.mixed(colour))


def _post(canvas: _Canvas, plant: Plant, scale: float, light: Light) -> None:
    colour = np.array(plant.colour)
    thick = {"lamp": 0.16, "sign": 0.08}.get(plant.kind, 0.18)
    top = canvas.at(plant.x, plant.y, plant.height)
    steel = np.array((120, 120, 120)) if plant.kind == "sign" else colour
    canvas.line(canvas.at(plant.x, plant.y, 0), top, canvas.mixed(steel), thick * scale)
    if plant.kind == "lamp":
        toward = plant.y - (1.5 if plant.y > 0 else -1.5)
        head = canvas.at(plant.x, toward, plant.height)
        canvas.line(top, head, canvas.mixed(colour), 0.1 * scale)
        canvas.disc(head, 0.22 * scale, (215.0, 240.0, 255.0) if light.lamps else canvas.mixed(colour))
    elif plant.kind == "sign":
        half = 0.35
        corners = [
            canvas.at(plant.x, plant.y + dy, plant.height + dz)
            for dy, dz in ((-half, -half), (half, -half), (half, half), (-half, half))
        ]
        canvas.quad(corners, canvas.mixed(colour))

"""Lamps that dazzle: head and rear lamps, their beams on the road, street lamps, and all of them in a wet road.

Drawn on every fourth pixel and blurred, then added to the picture.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from hardware_sim.street.bodies import Body
from hardware_sim.street.camera import Camera
from hardware_sim.street.layout import Street
from hardware_sim.street.light import Light
from hardware_sim.street.types import Bytes

COARSE = 4
HEAD = (220, 245, 255)
TAIL = (15, 15, 140)
BRAKE = (40, 40, 255)


def street_lamps(camera: Camera, street: Street, light: Light) -> Bytes:
    """The glow of street lamps (h / 4, w / 4, 3): the same in every picture."""
    layer = _layer(camera)
    if not light.lamps:
        return layer
    for plant in street.plants:
        if plant.kind != "lamp":
            continue
        head = np.array([(plant.x, plant.y - math.copysign(1.5, plant.y), plant.height)])
        pixels, depth = camera.see(head)
        if depth[0] > 3:
            u, v = (pixels[0] / COARSE).tolist()
            radius = max(1, round(0.3 * camera.focal_px / depth[0] / COARSE))
            cv2.circle(layer, (int(u), int(v)), radius, (150, 190, 210), -1)
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), max(1.0, camera.size[0] / 240)), np.uint8)


def shine(bgr: Bytes, camera: Camera, light: Light, lamps: Bytes, bodies: Sequence[Body]) -> None:
    """Add everybody's lamps to a picture, in place."""
    layer = _layer(camera)
    bright = 1.0 if light.hour == "night" else 0.45
    for body in bodies:
        if body.kind in {"car", "bus"} and not body.parked:
            _vehicle(layer, camera, body, bright, light.wet)
        elif body.kind == "cyclist" and body.looks.variant == "scooter":
            _scooter(layer, camera, body, bright)
    spread = max(0.8, camera.size[0] / 500) * (2.2 if math.isfinite(light.fog_m) else 1.0)
    layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), spread), np.uint8)
    total = cv2.add(layer, lamps)
    cv2.add(bgr, cv2.resize(total, (bgr.shape[1], bgr.shape[0]), interpolation=cv2.INTER_LINEAR), bgr)


def _layer(camera: Camera) -> Bytes:
    return np.zeros((-(-camera.size[1] // COARSE), -(-camera.size[0] // COARSE), 3), np.uint8)


def _vehicle(layer: Bytes, camera: Camera, body: Body, bright: float, wet: float) -> None:
    mesh, scale = body.looks.mesh, body.looks.scale
    cos, sin = math.cos(math.radians(body.heading_deg)), math.sin(math.radians(body.heading_deg))
    world = [(body.x + scale * (x * cos - y * sin), body.y + scale * (x * sin + y * cos), z) for x, y, z in mesh.lamps]
    pixels, depth = camera.see(np.array(world))
    if depth.min() < 1:
        return
    away = math.hypot(camera.x - body.x, camera.y - body.y) or 1.0
    facing = ((camera.x - body.x) * cos + (camera.y - body.y) * sin) / away
    _beam(layer, camera, body, bright, mesh.length * scale / 2, (cos, sin))
    for index in range(4):
        front = index < 2
        share = facing if front else -facing
        if share < 0.05:
            continue
        strength = bright * min(1.0, 0.3 + share)
        colour = HEAD if front else BRAKE if body.braking else TAIL
        size = (0.28 if front else 0.16) * camera.focal_px / depth[index] / COARSE
        at = (int(pixels[index, 0] / COARSE), int(pixels[index, 1] / COARSE))
        blue, green, red = (strength * value for value in colour)
        cv2.circle(layer, at, max(1, round(size)), (blue, green, red), -1)
        if wet > 0:  # the road mirrors it: drawn out towards the viewer, as a rough surface does
            low = at[1] + round(1.4 * 0.7 * camera.focal_px / depth[index] / COARSE)
            axes = (max(1, round(0.8 * size)), max(1, round(3.5 * size)))
            dim = (0.5 * wet * blue, 0.5 * wet * green, 0.5 * wet * red)
            cv2.ellipse(layer, (at[0], low + axes[1]), axes, 0, 0, 360, dim, -1)


def _beam(layer: Bytes, camera: Camera, body: Body, bright: float, nose_m: float, ahead: tuple[float, float]) -> None:
    cos, sin = ahead
    for reach, wide, strength in ((14.0, 2.6, 16), (8.0, 1.8, 26)):
        points = [(nose_m, 0.8), (nose_m + reach, wide), (nose_m + reach, -wide), (nose_m, -0.8)]
        world = [(body.x + x * cos - y * sin, body.y + x * sin + y * cos, 0.0) for x, y in points]
        pixels = camera.see_polygon(np.array(world))
        if pixels is None:
            return
        patch = np.zeros_like(layer)
        cv2.fillPoly(
            patch, [np.rint(pixels / COARSE).astype(np.int32)], [strength * bright * c for c in (0.75, 0.95, 1)]
        )
        cv2.add(layer, patch, layer)


def _scooter(layer: Bytes, camera: Camera, body: Body, bright: float) -> None:
    cos, sin = math.cos(math.radians(body.heading_deg)), math.sin(math.radians(body.heading_deg))
    for ahead, colour in ((0.6, HEAD), (-0.65, TAIL)):
        pixels, depth = camera.see(np.array([(body.x + ahead * cos, body.y + ahead * sin, 0.8)]))
        facing = ((camera.x - body.x) * cos + (camera.y - body.y) * sin) * ahead
        if depth[0] < 1 or facing <= 0:
            continue
        at = (int(pixels[0, 0] / COARSE), int(pixels[0, 1] / COARSE))
        size = max(1, round(0.14 * camera.focal_px / depth[0] / COARSE))
        blue, green, red = (bright * value for value in colour)
        cv2.circle(layer, at, size, (blue, green, red), -1)

"""Endless different views of streets, to train and to judge a detector: every view is a function of its seed.

The two splits share neither seeds nor camera poses: the space of poses is cut into cells of height, pitch and yaw, and
each cell belongs to one of the two (`pose_split`), so that the held-out poses lie between those of training and are
none of them.
"""

import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from hardware_sim.street.bodies import Body
from hardware_sim.street.camera import Camera
from hardware_sim.street.crowd import Mover, random_crowd
from hardware_sim.street.layout import Street, random_street
from hardware_sim.street.lens import Lens, random_lens
from hardware_sim.street.light import Light, random_light
from hardware_sim.street.stage import Rendered, Seen, Stage
from hardware_sim.street.types import Bytes

__all__ = ["Rendered", "Seen", "View", "pose_split", "random_view"]

Split = Literal["train", "heldout"]
LIMIT_PX = 700
"""A view narrower than this is drawn twice as large and scaled down: edges as soft as those of a real camera."""


def pose_split(camera: Camera) -> Split:
    """The split a pose belongs to: a fifth of all cells of height, pitch and yaw is held out."""
    yaw = camera.yaw_deg % 360
    cell = f"{math.floor(camera.height_m)}/{math.floor(camera.pitch_deg / 6)}/{math.floor(yaw / 12)}"
    return "heldout" if zlib.crc32(cell.encode()) % 5 == 0 else "train"


@dataclass(frozen=True)
class View:
    """A street, a camera and its lens, a light, and traffic. `picture` is the same for the same time."""

    camera: Camera
    street: Street
    light: Light
    lens: Lens
    movers: tuple[Mover, ...]
    middle_x: float
    soft: bool

    @cached_property
    def _stage(self) -> Stage:
        return Stage(self.camera.scaled(2) if self.camera.size[0] < LIMIT_PX else self.camera, self.street, self.light)

    def bodies(self, t_s: float) -> list[Body]:
        """Who is where at a time."""
        span = max(-self.street.right_edge, self.street.left_edge) + self.street.pavement_m
        return [mover.at(t_s, self.middle_x, span) for mover in self.movers]

    def picture(self, t_s: float) -> Rendered:
        """The picture at a time, seconds from 0 on."""
        drawn = self._stage.picture(self.bodies(t_s))
        bgr, objects = drawn.bgr, drawn.objects
        factor = self.camera.size[0] / bgr.shape[1]
        if factor < 1:
            how = cv2.INTER_AREA if self.soft else cv2.INTER_LINEAR
            bgr = np.asarray(cv2.resize(bgr, self.camera.size, interpolation=how), np.uint8)
            objects = [_scaled(one, factor) for one in objects]
        taken: Bytes = self.lens.take(bgr, self.light, round(t_s * 1000))
        return Rendered(taken, objects)


def _scaled(one: Seen, factor: float) -> Seen:
    left, top, right, bottom = one.box
    return Seen(one.id, one.kind, (left * factor, top * factor, right * factor, bottom * factor), one.visible)


def random_view(seed: int, size: tuple[int, int] = (320, 192), split: Split = "train") -> View:
    """A view; the same for the same arguments. size: width and height, pixels."""
    random = np.random.default_rng([seed, 0 if split == "train" else 1, 11])
    street = random_street(random)
    light = random_light(random)
    camera = _random_camera(random, street, size, split)
    aim = camera.ground(np.array([[size[0] / 2, size[1] * 0.6]]))[0]
    middle = float(np.clip(aim[0], camera.x - 40, camera.x + 40)) if np.isfinite(aim[0]) else camera.x
    movers = random_crowd(random, street, middle)
    soft = bool(random.random() < 0.7)
    return View(camera, street, light, random_lens(random, light, size[0]), movers, middle, soft)


def _random_camera(random: np.random.Generator, street: Street, size: tuple[int, int], split: Split) -> Camera:
    """Cameras stand on the pavement or hang over the road, and see the road within 8 to 35 m."""
    while True:
        height = float(random.uniform(4, 10))
        side = random.random()
        if side < 0.75:
            away = -1 if random.random() < 0.5 else 1
            edge = street.right_edge if away < 0 else street.left_edge
            y = edge + away * float(random.uniform(0.4, max(0.8, street.pavement_m - 0.5)))
        else:
            y = float(random.uniform(street.right_edge, street.left_edge))
        target = float(random.uniform(8, 35))
        angle = float(random.uniform(-math.pi, math.pi))
        at_x, at_y = target * math.cos(angle), target * math.sin(angle)
        if not street.right_edge - 1 < y + at_y < street.left_edge + 1:
            continue
        yaw = math.degrees(math.atan2(at_y, at_x))
        pitch = math.degrees(math.atan2(height, target)) + float(random.uniform(-4, 6))
        if not 4 < pitch < 55:
            continue
        fov, roll = float(random.uniform(42, 92)), float(random.normal(0, 1.5))
        camera = Camera(size, float(random.uniform(-5, 5)), y, height, yaw, pitch, fov, roll)
        if pose_split(camera) == split:
            return camera

"""Where road users are in a camera's eye: projected, culled, boxed, without drawing anything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hardware_sim.street import figures
from hardware_sim.street.bodies import Body
from hardware_sim.street.camera import NEAR_M, Camera
from hardware_sim.street.types import Bools, Floats

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, from the corner of the picture."""


@dataclass(slots=True)
class Placed:
    """A body in the camera's eye. pixels: of its mesh's vertices or of its strokes' ends. turn: its own axes to the
    world's, scaled. shown: which faces look at the camera. box: left, top, right, bottom, not cut off."""

    body: Body
    turn: Floats
    pixels: Floats
    depth: Floats
    distance_m: float
    box: Floats
    normals: Floats | None = None
    shown: Bools | None = None
    strokes: list[figures.Stroke] = field(default_factory=list)
    half_widths: Floats | None = None
    side_on: float = 0.0
    """1: a figure is seen from its side; 0: from before or behind."""


class Sight:
    """One camera's eye."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._axes: list[list[float]] = camera.axes.tolist()
        self._reach = [size / 2 / camera.focal_px for size in camera.size]

    def boxes(self, bodies: Sequence[Body]) -> list[tuple[int, Box]]:
        """(id, box) of the bodies in view, boxes cut off at the picture's edges."""
        return [(one.body.id, self.clip(one.box)) for body in bodies if (one := self.place(body)) is not None]

    def clip(self, box: Floats) -> Box:
        """A box cut off at the picture's edges."""
        width, height = self.camera.size
        left, top, right, bottom = box.tolist()
        return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))

    def place(self, body: Body) -> Placed | None:
        """A body in this eye; None when it is out of view."""
        looks = body.looks
        if self._far_off(body):
            return None
        is_figure = looks.kind in {"person", "cyclist"}
        found = figures.strokes(body) if is_figure else []
        local = figures.joints(found) if is_figure else looks.mesh.vertices
        cos, sin = math.cos(math.radians(body.heading_deg)), math.sin(math.radians(body.heading_deg))
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) * looks.scale
        world = local @ turn + (body.x, body.y, 0.0)
        pixels, depth = self.camera.see(world)
        if depth.min() < NEAR_M:
            return None
        distance = math.hypot(body.x - self.camera.x, body.y - self.camera.y)
        one = Placed(body, turn, pixels, depth, distance, np.zeros(4), strokes=found)
        if is_figure:
            self._box_figure(one)
        else:
            self._box_mesh(one)
        low, high = one.box[:2], one.box[2:]
        if (high <= 1).any() or (low >= np.array(self.camera.size) - 1).any():
            return None
        return one

    def _far_off(self, body: Body) -> bool:
        """Whether a body is surely out of view: cheap, and right for most of those that are."""
        right, down, forward = self._axes
        dx, dy, dz = body.x - self.camera.x, body.y - self.camera.y, 1.0 - self.camera.height_m
        depth = forward[0] * dx + forward[1] * dy + forward[2] * dz
        reach = body.looks.length + 1.5
        if depth < NEAR_M:
            return True
        wide = self._reach[0] * (depth + reach) + reach
        high = self._reach[1] * (depth + reach) + reach + 1.5
        across = right[0] * dx + right[1] * dy + right[2] * dz
        return abs(across) > wide or abs(down[0] * dx + down[1] * dy + down[2] * dz) > high

    def _box_mesh(self, one: Placed) -> None:
        mesh, body = one.body.looks.mesh, one.body
        one.normals = mesh.normals @ (one.turn / body.looks.scale)
        centres = mesh.centres @ one.turn + (body.x, body.y, 0.0)
        one.shown = ((self.camera.position - centres) * one.normals).sum(axis=1) > 0
        drawn = one.pixels[np.repeat(one.shown, np.diff(mesh.starts))]
        if not len(drawn):
            drawn = one.pixels
        one.box = np.concatenate([drawn.min(axis=0), drawn.max(axis=0)])

    def _box_figure(self, one: Placed) -> None:
        looks = one.body.looks
        toward = math.atan2(one.body.y - self.camera.y, one.body.x - self.camera.x)
        side = one.side_on = math.sin(math.radians(one.body.heading_deg) - toward)
        across = np.array([stroke.across for stroke in one.strokes])
        along = np.array([stroke.along for stroke in one.strokes])
        metres = np.sqrt((across**2) * (1 - side**2) + (along**2) * side**2) * looks.scale
        per_m = self.camera.focal_px / one.depth[::2]
        wide = one.half_widths = metres * self.camera.focal_px / one.depth[::2]
        ring = np.array([stroke.ring for stroke in one.strokes]) * looks.scale * per_m
        margin = np.column_stack([ring * abs(side) + wide, ring + wide])
        low = np.minimum(one.pixels[::2] - margin, one.pixels[1::2] - wide[:, None])
        high = np.maximum(one.pixels[::2] + margin, one.pixels[1::2] + wide[:, None])
        one.box = np.concatenate([low.min(axis=0), high.max(axis=0)])

"""The pinhole through which a simulated camera sees the street, and its way back from a pixel to the ground.

World: metres, x along the road, y to the left of one who looks along x, z up; the ground is z = 0. Picture: pixels, x
to the right, y down, (0, 0) is the top left corner of the top left pixel.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hardware_sim.street.types import Floats, Ints

NEAR_M = 0.5
"""What is nearer to the camera's plane than this is not seen."""
SHIFT = 4
"""OpenCV's fixed-point coordinates have this many bits behind the point."""
FAR_PX = 30_000.0
"""Projected coordinates are held within this, so that OpenCV's fixed-point numbers cannot overflow."""


@dataclass(frozen=True)
class Camera:
    """A camera on a mast at (x, y), `height_m` above the ground.

    yaw_deg: 0 looks along x, 90 along y. pitch_deg: downwards. roll_deg: clockwise picture for a positive one.
    fov_deg: across the width of the picture. size: width and height of the picture, pixels.
    """

    size: tuple[int, int]
    x: float
    y: float
    height_m: float
    yaw_deg: float
    pitch_deg: float
    fov_deg: float = 65.0
    roll_deg: float = 0.0

    @cached_property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.size[0] / 2 / math.tan(math.radians(self.fov_deg) / 2)

    @cached_property
    def position(self) -> Floats:
        """Where the pinhole is."""
        return np.array([self.x, self.y, self.height_m])

    @cached_property
    def axes(self) -> Floats:
        """Rows: the picture's right, its down, and forward, as world vectors."""
        yaw, pitch, roll = (math.radians(angle) for angle in (self.yaw_deg, self.pitch_deg, self.roll_deg))
        forward = np.array([math.cos(pitch) * math.cos(yaw), math.cos(pitch) * math.sin(yaw), -math.sin(pitch)])
        right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
        down = np.cross(forward, right)
        turned = math.cos(roll) * right - math.sin(roll) * down, math.sin(roll) * right + math.cos(roll) * down
        return np.array([turned[0], turned[1], forward])

    def see(self, points: Floats) -> tuple[Floats, Floats]:
        """Pixels (n, 2) and depths (n,) of world points (n, 3). A depth below NEAR_M means the pixels mean nothing."""
        seen: Floats = (points - self.position) @ self.axes.T
        depth = seen[:, 2]
        scale = self.focal_px / np.maximum(depth, NEAR_M)
        pixels = seen[:, :2] * scale[:, None]
        pixels[:, 0] += self.size[0] / 2
        pixels[:, 1] += self.size[1] / 2
        return np.clip(pixels, -FAR_PX, FAR_PX), depth

    def see_polygon(self, points: Floats) -> Floats | None:
        """Pixels of a world polygon, cut off at the near plane; None when nothing of it is in front."""
        seen: Floats = (points - self.position) @ self.axes.T
        if (seen[:, 2] < NEAR_M).any():
            seen = np.asarray(_cut(seen), np.float64)
            if len(seen) < 3:
                return None
        pixels: Floats = seen[:, :2] * (self.focal_px / seen[:, 2:])
        return np.asarray(np.clip(pixels + np.array(self.size) / 2, -FAR_PX, FAR_PX), np.float64)

    @cached_property
    def ground_to_picture(self) -> Floats:
        """Homography: (x, y, 1) of the ground to a pixel."""
        centre = np.array([[self.focal_px, 0, self.size[0] / 2], [0, self.focal_px, self.size[1] / 2], [0, 0, 1]])
        columns = np.column_stack([self.axes[:, 0], self.axes[:, 1], -self.axes @ self.position])
        matrix: Floats = centre @ columns
        return matrix

    @cached_property
    def picture_to_ground(self) -> Floats:
        """Homography: a pixel (u, v, 1) to the ground's (x, y), which is right below the horizon only."""
        return np.asarray(np.linalg.inv(self.ground_to_picture), np.float64)

    def ground(self, pixels: Floats) -> Floats:
        """Ground points (n, 2) under pixels (n, 2); NaN for pixels at or above the horizon."""
        rays = np.column_stack([(pixels - np.array(self.size) / 2) / self.focal_px, np.ones(len(pixels))]) @ self.axes
        steps = np.where(rays[:, 2] < -1e-9, -self.height_m / np.minimum(rays[:, 2], -1e-9), np.nan)
        found: Floats = self.position[:2] + rays[:, :2] * steps[:, None]
        return found

    def scaled(self, factor: float) -> "Camera":
        """The same view with more or fewer pixels."""
        return replace(self, size=(round(self.size[0] * factor), round(self.size[1] * factor)))

    def turned(self, yaw_deg: float, pitch_deg: float = 0.0) -> "Camera":
        """The same camera, pushed out of its calibrated view."""
        return replace(self, yaw_deg=self.yaw_deg + yaw_deg, pitch_deg=self.pitch_deg + pitch_deg)


def fixed(pixels: Floats) -> Ints:
    """Pixels for OpenCV's drawing functions, which count from the middle of a pixel and not from its corner."""
    return np.asarray(np.rint((pixels - 0.5) * (1 << SHIFT)), np.int32)


def _cut(seen: Floats) -> Floats:
    """What of a polygon in camera coordinates lies beyond the near plane (Sutherland-Hodgman, one plane)."""
    kept = []
    for index, point in enumerate(seen):
        before = seen[index - 1]
        if (point[2] >= NEAR_M) != (before[2] >= NEAR_M):
            share = (NEAR_M - before[2]) / (point[2] - before[2])
            kept.append(before + share * (point - before))
        if point[2] >= NEAR_M:
            kept.append(point)
    return np.array(kept).reshape(-1, 3)

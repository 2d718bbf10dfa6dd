"""Puts road users into a painted street: perspective, shadows, who hides whom, lamps, and where each one is seen.

The picture has a fourth channel with a number for each road user, drawn with the same strokes, so what is visible of
one is counted and not guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hardware_sim.street import glow
from hardware_sim.street.backdrop import Backdrop, paint
from hardware_sim.street.bodies import Body, Kind
from hardware_sim.street.camera import NEAR_M, SHIFT, Camera, fixed
from hardware_sim.street.layout import Street
from hardware_sim.street.light import Light
from hardware_sim.street.order import paint_order
from hardware_sim.street.plants import Sprite, sprites
from hardware_sim.street.shapes import Material
from hardware_sim.street.sight import Box, Placed, Sight
from hardware_sim.street.types import Bytes, Floats, Ints

MAX_BODIES = 250
"""In one picture: they are numbered in a byte."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A road user in a picture. box: left, top, right, bottom pixels, clipped to the picture, as if nothing hid it.

    visible: the share of its pixels in the picture that nothing hides.
    """

    id: int
    kind: Kind
    box: Box
    visible: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture (h, w, 3, BGR) and who is in it."""

    bgr: Bytes
    objects: list[Seen]


class Stage:
    """A street, a camera and a light. Painted once; `picture` then costs a few microseconds a face."""

    def __init__(self, camera: Camera, street: Street, light: Light) -> None:
        self.camera = camera
        self.street = street
        self.light = light
        self.backdrop: Backdrop = paint(camera, street, light)
        self._sprites: list[Sprite] = sprites(camera, street, light, self.backdrop)
        self._sight = Sight(camera)
        self._lamps = glow.street_lamps(camera, street, light)

    def picture(self, bodies: Sequence[Body]) -> Rendered:
        """Draw road users. The same arguments give the same picture."""
        camera, light = self.camera, self.light
        placed = [one for body in bodies[:MAX_BODIES] if (one := self._sight.place(body)) is not None]
        canvas = self.backdrop.picture.copy()
        if light.shadow > 0:
            self._shadows(canvas, placed)
        order, count = self._order(placed), len(placed)
        full = [0] * count
        boxes = [self._sight.clip(one.box) for one in placed]
        for index in order:
            if index >= count:
                self._sprites[index - count].lay(canvas)
                continue
            one = placed[index]
            if one.body.looks.kind in {"car", "bus"}:
                self._draw_mesh(canvas, one, index + 1)
            else:
                self._draw_figure(canvas, one, index + 1)
            full[index] = _count(canvas, one.box, index + 1)
            if full[index] and boxes[index] != tuple(one.box.tolist()):
                boxes[index] = _drawn(canvas, boxes[index], index + 1)
        seen = [
            Seen(one.body.id, one.body.kind, boxes[index], _count(canvas, one.box, index + 1) / full[index])
            for index, one in enumerate(placed)
            if full[index]
        ]
        bgr = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR), np.uint8)
        if light.lamps:
            glow.shine(bgr, camera, light, self._lamps, [one.body for one in placed])
        return Rendered(bgr, seen)

    def _faces(self, one: Placed) -> list[tuple[int, int, list[float]]]:
        """The faces that look at the camera, in the order they are painted: (first, end vertex, BGR)."""
        mesh, body = one.body.looks.mesh, one.body
        colours = self._lit(one, body.looks.palette[mesh.materials], one.normals)
        if self.light.lamps or body.braking:
            _switch_lamps(colours, mesh.materials, braking=body.braking, lamps=self.light.lamps)
        shown = [] if one.shown is None else one.shown.tolist()
        ends, shades = mesh.starts.tolist(), colours.tolist()
        eye = (self.camera.position[:2] - (body.x, body.y)) @ one.turn[:2, :2].T
        parts = sorted(mesh.parts, key=lambda part: (part[0], -abs(part[3] - eye[0])))
        return [(ends[i], ends[i + 1], shades[i]) for _, first, end, _ in parts for i in range(first, end) if shown[i]]

    def _lit(self, one: Placed, colours: Floats, normals: Floats | None) -> Floats:
        """Colours in the light where the body stands, behind the fog."""
        light = self.light
        sun, lamp = self.backdrop.light_at((one.pixels[:, 0].mean()), float(one.pixels[:, 1].max()))
        shade = light.shade(normals) if normals is not None else light.flat[None]
        if sun < 0.99:
            dark = np.array(light.ambient) * 0.95
            shade = sun * shade + (1 - sun) * dark
        if lamp > 0:
            shade = shade + lamp * np.array((0.5, 0.68, 0.8))
        veil = float(light.veil(np.array(one.distance_m)))
        mixed: Floats = colours * shade * (1 - veil) + np.array(light.horizon) * veil
        return mixed.clip(0, 255)

    def _draw_mesh(self, canvas: Bytes, one: Placed, number: int) -> None:
        ends = fixed(one.pixels)
        for first, end, (blue, green, red) in self._faces(one):
            cv2.fillConvexPoly(canvas, ends[first:end], (blue, green, red, number), cv2.LINE_8, SHIFT)

    def _draw_figure(self, canvas: Bytes, one: Placed, number: int) -> None:
        looks = one.body.looks
        colours = self._lit(one, looks.palette, None).tolist()
        wide = [] if one.half_widths is None else one.half_widths.tolist()
        middle = (one.depth[::2] + one.depth[1::2]) / 2
        ends = fixed(one.pixels)
        squeeze = max(abs(one.side_on), 0.12)
        for i in np.argsort(-middle).tolist():
            stroke = one.strokes[i]
            blue, green, red = colours[stroke.colour]
            colour, a, b = (blue, green, red, number), ends[2 * i], ends[2 * i + 1]
            if stroke.ring > 0:
                radius = stroke.ring * looks.scale * self.camera.focal_px / one.depth[2 * i]
                thick = max(1, round(2 * wide[i])) if squeeze > 0.2 else max(1, round(2.5 * wide[i]))
                axes = (round(radius * squeeze * 2**SHIFT), round(radius * 2**SHIFT))
                points = cv2.ellipse2Poly((0, 0), axes, 0, 0, 360, 24) + a
                cv2.polylines(canvas, [points.astype(np.int32)], True, colour, thick, cv2.LINE_8, SHIFT)
            else:
                thick = max(1, round(2 * wide[i]))
                cv2.line(canvas, a.tolist(), b.tolist(), colour, thick, cv2.LINE_8, SHIFT)

    def _shadows(self, canvas: Bytes, placed: list[Placed]) -> None:
        """Let the shaded street show where the sun, or under clouds most of the sky, is hidden."""
        mask = np.zeros(canvas.shape[:2], np.uint8)
        hard = max(self.light.sun) > 0.05
        towards = self.light.sun_towards
        lean = (-towards[0] / towards[2], -towards[1] / towards[2]) if hard and towards[2] > 0.05 else (0.0, 0.0)
        for one in placed:
            height = one.body.looks.height * 0.85
            foot = one.body.footprint()
            top = foot + np.array(lean) * height
            if not hard:
                foot = (foot - (one.body.x, one.body.y)) * 1.08 + (one.body.x, one.body.y)
            outline = np.concatenate([foot, top]) if hard else foot
            pixels, depth = self.camera.see(np.column_stack([outline, np.zeros(len(outline))]))
            if depth.min() < NEAR_M:
                continue
            hull = cv2.convexHull(fixed(pixels))
            cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_8, SHIFT)
        cv2.copyTo(self.backdrop.shaded, mask, canvas)

    def _order(self, placed: list[Placed]) -> list[int]:
        """Bodies by index, sprites by len(placed) + index; what is painted first comes first."""
        if not placed:
            return list(range(len(self._sprites)))
        boxes = np.array([one.box for one in placed] + [sprite.box for sprite in self._sprites], float)
        overlap = (boxes[:, None, :2] < boxes[None, :, 2:]).all(axis=2)
        overlap &= overlap.T
        rows, columns = np.nonzero(np.triu(overlap, 1)[: len(placed)])
        corners: list[list[tuple[float, float]]] = [
            [(x, y) for x, y in one.body.footprint().tolist()] for one in placed
        ]
        corners += [[(sprite.x, sprite.y)] for sprite in self._sprites]
        distances = [one.distance_m for one in placed] + [sprite.distance_m for sprite in self._sprites]
        pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
        return paint_order(corners, distances, pairs, (self.camera.x, self.camera.y))


def _switch_lamps(colours: Floats, materials: Ints, *, braking: bool, lamps: bool) -> None:
    if lamps:
        colours[materials == Material.HEADLAMP] = (245, 252, 255)
        colours[materials == Material.SIGN] = (70, 200, 250)
    tail = (70, 70, 255) if braking else (30, 30, 190)
    colours[materials == Material.TAIL_LAMP] = tail


def _drawn(canvas: Bytes, box: Box, number: int) -> Box:
    """The box of what the picture's edge has left of a body, which is less than its box cut off at the edge."""
    left, top, right, bottom = (int(edge) for edge in box)
    mask = canvas[top : bottom + 1, left : right + 1, 3] == number
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        float(left + columns[0]),
        float(top + rows[0]),
        float(left + columns[-1] + 1),
        float(top + rows[-1] + 1),
    )


def _count(canvas: Bytes, box: Floats, number: int) -> int:
    height, width = canvas.shape[:2]
    left, top, right, bottom = box.tolist()
    rows = slice(max(0, int(top) - 2), min(height, int(bottom) + 3))
    columns = slice(max(0, int(left) - 2), min(width, int(right) + 3))
    return int(np.count_nonzero(canvas[rows, columns, 3] == number))

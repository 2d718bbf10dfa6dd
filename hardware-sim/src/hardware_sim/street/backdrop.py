"""The street without its users, painted once a view: ground, markings, houses, sky, and the light that falls on them.

Ground first, as plain colours; then its texture, its light (sun, the shade of houses and trees, street lamps) and its
fog, all of which vary from pixel to pixel; then houses, which have one light a wall.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from hardware_sim.street.camera import FAR_PX, NEAR_M, SHIFT, Camera, fixed
from hardware_sim.street.layout import FAR_M, House, Street
from hardware_sim.street.light import Light
from hardware_sim.street.types import Bools, Bytes, Colour, Floats

COARSE = 4
"""Light and fog are computed on every fourth pixel and drawn out."""

MARKING: Colour = (205, 212, 215)
YELLOW: Colour = (60, 175, 210)


@dataclass(frozen=True)
class Backdrop:
    """A painted street. picture, shaded: h, w, 4 (BGR and 0), the second as it is where a road user's shadow falls.

    sun_share, lamp_light: on every fourth pixel, what share of the sun and how much lamp light reaches the ground.
    """

    picture: Bytes
    shaded: Bytes
    sun_share: Floats
    lamp_light: Floats

    def light_at(self, u: float, v: float) -> tuple[float, float]:
        """Share of the sun and lamp light at a pixel."""
        rows, columns = self.sun_share.shape
        row = min(max(int(v) // COARSE, 0), rows - 1)
        column = min(max(int(u) // COARSE, 0), columns - 1)
        return float(self.sun_share[row, column]), float(self.lamp_light[row, column])


@dataclass
class Easel:
    """A picture under way. Polygons that are not in view cost a projection and no more."""

    camera: Camera
    picture: Bytes
    light: Light

    def polygon(self, points: Floats, colour: Colour) -> None:
        """A world polygon in a colour as given."""
        pixels = self.camera.see_polygon(points)
        if pixels is None or _outside(pixels, self.camera.size):
            return
        cv2.fillPoly(self.picture, [fixed(pixels)], colour, cv2.LINE_8, SHIFT)

    def ground(self, x0: float, x1: float, y0: float, y1: float, colour: Colour) -> None:
        """A rectangle on the ground."""
        self.polygon(np.array([(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)]), colour)

    def walls(self, quads: Floats, normal: tuple[float, float, float], colours: Floats, lit: Bools) -> None:
        """Rectangles of a house (n, 4, 3) under the light and behind the fog. lit: those that shine by themselves."""
        seen = (quads - self.camera.position) @ self.camera.axes.T
        depth = seen[..., 2]
        pixels = seen[..., :2] * (self.camera.focal_px / np.maximum(depth, NEAR_M))[..., None]
        pixels = np.clip(pixels + np.array(self.camera.size) / 2, -FAR_PX, FAR_PX)
        whole = depth.min(axis=1) >= NEAR_M
        inside = (pixels.max(axis=1) > 0).all(axis=1) & (pixels.min(axis=1) < np.array(self.camera.size)).all(axis=1)
        shade = np.where(lit[:, None], 1.0, self.light.shade(np.array([normal])))
        veil = self.light.veil(np.linalg.norm(quads.mean(axis=1) - self.camera.position, axis=1))[:, None]
        mixed = (colours * shade * (1 - veil) + np.array(self.light.horizon) * veil).tolist()
        corners = fixed(pixels)
        for i in np.flatnonzero((depth.max(axis=1) > NEAR_M) & (inside | ~whole)).tolist():
            if whole[i]:
                cv2.fillConvexPoly(self.picture, corners[i], mixed[i], cv2.LINE_8, SHIFT)
            else:
                self.polygon(quads[i], mixed[i])


def paint(camera: Camera, street: Street, light: Light) -> Backdrop:
    """Paint a street as a camera sees it. The same arguments give the same picture."""
    width, height = camera.size
    picture = np.full((height, width, 3), np.array(street.beyond, np.uint8))
    easel = Easel(camera, picture, light)
    _paint_ground(easel, street)
    ground, distance = _ground_map(camera)
    random = np.random.default_rng([street.seed, 1])
    _texture(picture, camera, distance, random)
    sun_share, lamp_light = _sun_share(ground, street, light), _lamp_light(ground, street, light)
    shaded = _light_ground(picture, light, sun_share, lamp_light, light.shadow)
    picture = _light_ground(picture, light, sun_share, lamp_light, 0.0)
    for layer in (picture, shaded):
        _fog(layer, light, distance)
        _sky(layer, camera, light, distance, np.random.default_rng([street.seed, 2]))
    easel.picture = picture
    before = picture.copy()
    for house in sorted(street.houses, key=lambda h: -abs((h.x0 + h.x1) / 2 - camera.x)):
        _house(easel, house)
    built = (picture != before).any(axis=2)
    shaded[built] = picture[built]
    return Backdrop(_with_ids(picture), _with_ids(shaded), sun_share, lamp_light)


def _with_ids(picture: Bytes) -> Bytes:
    return cv2.merge([*cv2.split(picture), np.zeros(picture.shape[:2], np.uint8)])  # type: ignore[return-value]


def _outside(pixels: Floats, size: tuple[int, int]) -> bool:
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    return bool(high[0] < 0 or high[1] < 0 or low[0] >= size[0] or low[1] >= size[1])


def _paint_ground(easel: Easel, street: Street) -> None:
    right, left = street.right_edge, street.left_edge
    easel.ground(-FAR_M, FAR_M, right - street.pavement_m, left + street.pavement_m, street.paving)
    grout = tuple(0.9 * value for value in street.paving)
    for x in np.arange(-30, 70, 2.0):
        for y0, y1 in ((right - street.pavement_m, right), (left, left + street.pavement_m)):
            easel.ground(x, x + 0.06, y0, y1, (grout[0], grout[1], grout[2]))
    easel.ground(-FAR_M, FAR_M, right - 0.25, left + 0.25, (165, 168, 170))
    if street.side_x is not None:
        far = street.side_y * FAR_M
        half = street.side_m / 2
        easel.ground(street.side_x - half, street.side_x + half, min(0.0, far), max(0.0, far), street.asphalt)
    easel.ground(-FAR_M, FAR_M, right, left, street.asphalt)
    random = np.random.default_rng([street.seed, 3])
    _wear(easel, street, random)
    if street.bike_colour is not None:
        easel.ground(-FAR_M, FAR_M, right, right + street.bike_m, street.bike_colour)
        easel.ground(-FAR_M, FAR_M, left - street.bike_m, left, street.bike_colour)
    _markings(easel, street, float(random.uniform(0.55, 1.0)))


def _wear(easel: Easel, street: Street, random: np.random.Generator) -> None:
    """Patches, tar seams, manholes: what makes one piece of asphalt differ from the next."""
    for _ in range(int(random.integers(2, 14))):
        x, y = random.uniform(-5, 60), random.uniform(street.right_edge, street.left_edge - 1)
        factor = random.uniform(0.8, 1.15)
        colour = tuple(factor * value for value in street.asphalt)
        easel.ground(x, x + random.uniform(0.3, 7), y, y + random.uniform(0.2, 2), (colour[0], colour[1], colour[2]))
    for _ in range(int(random.integers(0, 5))):
        x, y, tone = random.uniform(0, 40), random.uniform(street.right_edge, street.left_edge), random.uniform(45, 85)
        ring = np.array([(x + 0.35 * math.cos(a), y + 0.35 * math.sin(a), 0) for a in np.linspace(0, 6.2, 12)])
        easel.polygon(ring, (tone, tone, tone))


def _markings(easel: Easel, street: Street, paint_left: float) -> None:
    def worn(colour: Colour) -> Colour:
        blue, green, red = (paint_left * a + (1 - paint_left) * b for a, b in zip(colour, street.asphalt, strict=True))
        return blue, green, red

    white, yellow, lane = worn(MARKING), worn(YELLOW), street.lane_m
    gaps = sorted((x - 4.5, x + 4.5) for x in street.crossings)
    stretches = _between(-FAR_M, FAR_M, gaps)
    for x0, x1 in stretches:
        if street.middle == "island":
            easel.ground(x0, x1, -0.35, 0.35, street.beyond)
        elif street.middle == "double":
            easel.ground(x0, x1, 0.08, 0.2, yellow)
            easel.ground(x0, x1, -0.2, -0.08, yellow)
        dashed = [-lane * n for n in range(1, street.lanes[0])] + [lane * n for n in range(1, street.lanes[1])]
        if street.middle == "dashes":
            dashed.append(0.0)
        for y in dashed:
            for x in np.arange(max(x0, -60), min(x1, 140), 6.0):
                easel.ground(x, min(x + 2.4, x1), y - 0.07, y + 0.07, white)
        for y in (street.right_edge + street.bike_m, street.left_edge - street.bike_m):
            inward = 0.15 if street.bike_m == 0 else 0.0
            at = y + math.copysign(inward, -y)
            easel.ground(x0, x1, at - 0.07, at + 0.07, white)
    for x in street.crossings:
        for y in np.arange(street.right_edge + 0.3, street.left_edge - 0.5, 1.0):
            easel.ground(x - 2, x + 2, y, y + 0.5, white)
    for x, direction in street.stop_lines:
        edge = -street.lanes[0] * lane if direction > 0 else street.lanes[1] * lane
        easel.ground(x - 0.2, x + 0.2, min(0, edge), max(0, edge), white)


def _between(low: float, high: float, gaps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found = []
    for begin, end in gaps:
        found.append((low, begin))
        low = end
    return [*found, (low, high)]


def _ground_map(camera: Camera) -> tuple[Floats, Floats]:
    """On every fourth pixel: the ground's x and y (h, w, 2), and how far away it is (infinite above the horizon)."""
    width, height = -(-camera.size[0] // COARSE), -(-camera.size[1] // COARSE)
    u, v = np.meshgrid(np.arange(width) * COARSE + COARSE / 2, np.arange(height) * COARSE + COARSE / 2)
    ground = camera.ground(np.column_stack([u.ravel(), v.ravel()])).reshape(height, width, 2)
    distance = np.sqrt(((ground - camera.position[:2]) ** 2).sum(axis=2) + camera.height_m**2)
    return ground, np.where(np.isnan(distance), np.inf, distance)


@cache
def _tile(seed: int) -> Bytes:
    """A noise of many scales, 512 pixels square, that joins at its edges."""
    random = np.random.default_rng([seed, 4])
    total = np.zeros((512, 512), np.float32)
    for size, weight in ((4, 5), (16, 5), (64, 6), (256, 9), (512, 11)):
        noise = random.normal(0, weight, (size, size)).astype(np.float32)
        total += cv2.resize(noise, (512, 512), interpolation=cv2.INTER_LINEAR)
    return np.clip(128 + total, 0, 255).astype(np.uint8)


def _texture(picture: Bytes, camera: Camera, distance: Floats, random: np.random.Generator) -> None:
    """Roughen the ground in place; far away the grain would only flicker, so it fades."""
    pixels_per_m = float(random.uniform(8, 22))
    from_tile = camera.ground_to_picture @ np.diag([1 / pixels_per_m, 1 / pixels_per_m, 1])
    tile = _tile(int(random.integers(6)))
    grain = cv2.warpPerspective(tile, from_tile, camera.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    strength = float(random.uniform(0.3, 1.2)) * np.exp(-distance / 30)
    fade = cv2.resize((strength * 128).clip(0, 255).astype(np.uint8), camera.size)
    rough = cv2.multiply(cv2.subtract(grain, np.full_like(grain, 128)), fade, scale=1 / 128)
    smooth = cv2.multiply(cv2.subtract(np.full_like(grain, 128), grain), fade, scale=1 / 128)
    cv2.add(picture, cv2.merge([rough, rough, rough]), picture)
    cv2.subtract(picture, cv2.merge([smooth, smooth, smooth]), picture)


def _sun_share(ground: Floats, street: Street, light: Light) -> Floats:
    """How much of the sun reaches the ground: 0 in the shade of houses, dappled under trees."""
    share = np.ones(ground.shape[:2])
    towards = light.sun_towards
    if max(light.sun) <= 0.05 or towards[2] < 0.05:
        return share
    x, y = ground[..., 0], ground[..., 1]
    with np.errstate(invalid="ignore"):
        for house in street.houses:
            if not -60 < house.x0 < 120:
                continue
            near = (house.y - y) / _not_zero(towards[1])
            far = (house.y + 14 * house.away - y) / _not_zero(towards[1])
            left, right = (house.x0 - x) / _not_zero(towards[0]), (house.x1 - x) / _not_zero(towards[0])
            enter = np.maximum(np.minimum(near, far), np.minimum(left, right)).clip(0)
            leave = np.minimum(np.maximum(near, far), np.maximum(left, right))
            share[(enter < leave) & (enter * towards[2] < house.height)] = 0.0
        for plant in street.plants:
            if plant.kind != "tree":
                continue
            reach = 0.75 * plant.height / towards[2]
            at_x, at_y = plant.x - towards[0] * reach, plant.y - towards[1] * reach
            radius = 0.33 * plant.height
            distance = ((x - at_x) ** 2 + (y - at_y) ** 2) / radius**2
            dapple = 0.75 + 0.25 * np.sin(5 * x + plant.x) * np.sin(6 * y)
            share *= 1 - dapple * np.exp(-(distance**2))
    return np.where(np.isnan(share), 1.0, share)


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-6 else 1e-6


def _lamp_light(ground: Floats, street: Street, light: Light) -> Floats:
    total = np.zeros(ground.shape[:2])
    if not light.lamps:
        return total
    random = np.random.default_rng([street.seed, 5])
    power = float(random.uniform(0.15, 0.75)) * (0.4 if light.hour == "dusk" else 1.0)
    for plant in street.plants:
        if plant.kind == "lamp" and random.random() < 0.9:
            toward_road = plant.y - math.copysign(1.5, plant.y)
            squared = (ground[..., 0] - plant.x) ** 2 + (ground[..., 1] - toward_road) ** 2
            total += power / (1 + squared / 64) ** 2
    return np.nan_to_num(total)


def _light_ground(picture: Bytes, light: Light, sun_share: Floats, lamp_light: Floats, shadow: float) -> Bytes:
    """The ground's colours times the light. shadow: the share of ambient light that a road user's shadow takes."""
    warm = np.array((0.62, 0.86, 1.0))
    ambient = np.array(light.ambient)[None, None] * (1 - shadow * (0.75 if max(light.sun) < 0.05 else 0.35))
    sun = np.array(light.sun) * light.sun_towards[2] * (0.0 if shadow > 0 else 1.0)
    total = ambient + sun_share[..., None] * sun + lamp_light[..., None] * warm * (1 - 0.5 * shadow)
    total *= 1 - 0.35 * light.wet
    coarse = (total * 100).clip(0, 255).astype(np.uint8)
    lit = cv2.resize(coarse, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    shone = cv2.multiply(picture, lit, scale=0.01)
    if light.wet > 0:
        sky = np.array(light.horizon) * (0.25 * light.wet)
        shone = cv2.add(shone, np.full_like(picture, sky.clip(0, 255).astype(np.uint8)))
    return np.asarray(shone, np.uint8)


def _fog(picture: Bytes, light: Light, distance: Floats) -> None:
    if not math.isfinite(light.fog_m):
        return
    size = (picture.shape[1], picture.shape[0])
    veil = cv2.resize((light.veil(distance) * 255).astype(np.uint8), size)
    thick = cv2.merge([veil, veil, veil])
    haze = np.full_like(picture, np.array(light.horizon).clip(0, 255).astype(np.uint8))
    picture[:] = cv2.add(cv2.multiply(picture, 255 - thick, scale=1 / 255), cv2.multiply(haze, thick, scale=1 / 255))


def _sky(picture: Bytes, camera: Camera, light: Light, distance: Floats, random: np.random.Generator) -> None:
    above = ~np.isfinite(distance)
    if not above.any():
        return
    height, width = above.shape
    rows = np.linspace(0, 1, height)[:, None]
    blend = (1 - rows) * np.array(light.zenith) + rows * np.array(light.horizon)
    cloud = cv2.resize(_tile(6), (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)
    strength = float(random.uniform(0, 0.8)) if light.hour == "day" else 0.15
    painted = (blend[:, None, :] + (cloud[..., None] - 128) * strength).clip(0, 255).astype(np.uint8)
    # The horizon is straight: found on the coarse map, it is drawn out smoothly.
    mask = cv2.resize(above.astype(np.uint8) * 255, camera.size, interpolation=cv2.INTER_LINEAR)
    large = np.asarray(cv2.resize(painted, camera.size, interpolation=cv2.INTER_LINEAR), np.uint8)
    cv2.copyTo(large, np.where(np.asarray(mask) > 127, 255, 0).astype(np.uint8), picture)


def _house(easel: Easel, house: House) -> None:
    random = np.random.default_rng([house.seed, 6])
    camera, facing = easel.camera, -house.away
    back, wall, unlit = house.y + 14 * house.away, np.array([house.wall]), np.zeros(1, bool)
    for x, normal in ((house.x0, -1), (house.x1, 1)):
        if (camera.x - x) * normal > 0:
            corners = [(x, house.y, 0), (x, back, 0), (x, back, house.height), (x, house.y, house.height)]
            easel.walls(np.array([corners], float), (normal, 0, 0), wall, unlit)
    if (camera.y - house.y) * facing <= 0:
        return
    strips = np.arange(house.x0, house.x1, 8.0)
    front = _fronts(strips, np.minimum(strips + 8.0, house.x1), np.array(0.0), np.array(house.height), house.y)
    easel.walls(front, (0, facing, 0), np.repeat(wall, len(front), axis=0), np.zeros(len(front), bool))
    shops = random.random() < 0.5
    step, share = float(random.uniform(2.2, 4.2)), float(random.uniform(0.35, 0.8))
    floors = np.arange(int(house.height / house.floor_m))
    floor, x0 = (part.ravel() for part in np.meshgrid(floors, np.arange(house.x0 + 0.6, house.x1 - step * share, step)))
    low = np.where((floor == 0) & shops, 0.3, 0.28)
    high = np.where((floor == 0) & shops, 0.75, 0.8)
    panes = _fronts(x0, x0 + step * share, (floor + low) * house.floor_m, (floor + high) * house.floor_m, house.y)
    lit = (random.random(len(x0)) < np.where(floor == 0, 0.5, 0.22)) & easel.light.lamps
    tone = random.uniform(0.7, 1.3, (len(x0), 1))
    colours = np.where(lit[:, None], np.array((90, 165, 200)), np.array(house.windows)) * tone
    easel.walls(panes, (0, facing, 0), colours, lit)
    if shops:
        x0 = np.arange(house.x0, house.x1 - 3, 6.0) + 0.3
        z0, z1 = np.array(0.8 * house.floor_m), np.array(house.floor_m)
        signs = _fronts(x0, np.minimum(x0 + 5.4, house.x1), z0, z1, house.y)
        lit = (random.random(len(x0)) < 0.4) & easel.light.lamps
        easel.walls(signs, (0, facing, 0), random.uniform(30, 220, (len(x0), 3)), lit)


def _fronts(x0: Floats, x1: Floats, z0: Floats, z1: Floats, y: float) -> Floats:
    """Rectangles (n, 4, 3) in the plane of a front."""
    x0, x1, z0, z1 = np.broadcast_arrays(x0, x1, z0, z1)
    corners = [np.column_stack([x, np.full(len(x0), y), z]) for x, z in ((x0, z0), (x1, z0), (x1, z1), (x0, z1))]
    return np.stack(corners, axis=1)

"""A street in numbers: who drives and walks where, what a camera on a mast would put boxes around, and what a perfect
counter would have said. Kinematics alone, nothing is drawn: layer A asks about counting, not about seeing.

One carriageway with a lane each way, a traffic light with a queue that creeps, a crossing for pedestrians. In it the
passages that counters get wrong: U-turns just before and just after a line, people who walk along a line, who cross
and turn back, groups side by side, buses that hide what is behind them.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from drivers.base_camera import CameraDeviceSpec
from hardware_sim.street.camera import Camera

Floats = NDArray[np.float64]

CLASSES = ("person", "cyclist", "car", "bus")
SIZES_M = {"person": (0.5, 0.5, 1.75), "cyclist": (1.8, 0.6, 1.75), "car": (4.4, 1.8, 1.5), "bus": (11.0, 2.5, 3.1)}
STEP_S = 0.05
LENGTH_S = 120.0
STANDING_MPS = 0.5
ROAD_LINE_X, STOP_X, WALK_X, WALK_Y = 30.0, 20.0, 16.0, -6.0
FAR, WALK_FAR = 130.0, 22.0
"""Metres: from there people come and thither they go, out of the picture or too small to be seen."""
LEAST_HEIGHT = 0.03
"""Share of the picture's height below which nobody sees anything: 6 pixels of a detector 192 high."""
SIGNAL_S = (24.0, 20.0)
"""Red, green."""


@dataclass
class Mover:
    """Somebody: a path (n, 2) in metres every STEP_S from `start` on."""

    kind: str
    start: int
    path: Floats
    heading: Floats

    @property
    def speeds(self) -> Floats:
        """Metres a second at each step."""
        change = np.gradient(self.path, STEP_S, axis=0)
        found: Floats = np.hypot(change[:, 0], change[:, 1])
        return found


@dataclass(frozen=True)
class Passage:
    """What a perfect counter says of a line. t_s: since the beginning. mover: whose; -1 when a counter says it."""

    line: str
    direction: str
    kind: str
    t_s: float
    kmh: float
    mover: int = -1


@dataclass
class Truth:
    """A run. boxes (steps, movers, 4): fractions, NaN when out of the picture; seen: share not hidden by others;
    large: 1 where it is not too small to be seen at all, else 0.
    """

    spec: CameraDeviceSpec
    kinds: list[str]
    boxes: Floats
    seen: Floats
    large: Floats
    passages: list[Passage] = field(default_factory=list)
    occupancy: Floats = field(default_factory=lambda: np.zeros(0))
    queue: Floats = field(default_factory=lambda: np.zeros(0))


def street(seed: int, aspect: float = 16 / 9) -> Truth:
    """A run of LENGTH_S by a seed."""
    rng = np.random.default_rng(seed)
    camera = _camera(rng)
    movers = [*_lane(rng, forward=True), *_lane(rng, forward=False), *_walkers(rng), *_turns(rng)]
    spec = _spec(camera)
    boxes, depths, raw = _project(camera, movers)
    large = (boxes[..., 3] - boxes[..., 1] >= LEAST_HEIGHT).astype(np.float64)
    truth = Truth(spec, [mover.kind for mover in movers], boxes, _visible(boxes, depths), large)
    _judge(truth, movers, raw, aspect)
    return truth


def _camera(rng: np.random.Generator) -> Camera:
    side = rng.uniform(-16, -12)
    return Camera(
        (1280, 720), rng.uniform(0, 4), side, rng.uniform(6.5, 9), rng.uniform(22, 34), rng.uniform(17, 22), 68
    )


def _lane(rng: np.random.Generator, *, forward: bool) -> list[Mover]:
    """Cars that follow each other (intelligent driver model); those that come backward stop at the light."""
    steps = round(LENGTH_S / STEP_S)
    y, begin, end = (-1.75, -12.0, FAR) if forward else (1.75, FAR, -12.0)
    sign = 1.0 if forward else -1.0
    movers: list[Mover] = []
    active: list[dict[str, float]] = []
    paths: dict[int, list[float]] = {}
    starts: dict[int, int] = {}
    kinds: list[str] = []
    wait_s = rng.exponential(2.0)
    phase_s = rng.uniform(0, sum(SIGNAL_S))
    for step in range(steps):
        now_s = step * STEP_S
        wait_s -= STEP_S
        clear = not active or active[-1]["x"] - active[-1]["length"] > 9
        if wait_s <= 0 and clear:
            kind = str(rng.choice(["car", "bus", "cyclist"], p=[0.8, 0.1, 0.1]))
            wish = rng.uniform(4, 6.5) if kind == "cyclist" else rng.uniform(9, 14.5)
            number = len(kinds)
            kinds.append(kind)
            starts[number], paths[number] = step, []
            speed = min(wish, active[-1]["v"] + 2) if active else wish
            active.append({"x": 0.0, "v": speed, "wish": wish, "length": SIZES_M[kind][0], "number": number})
            wait_s = rng.exponential(4.5)
        red = not forward and (now_s + phase_s) % sum(SIGNAL_S) < SIGNAL_S[0]
        _drive(rng, active, abs(begin - STOP_X) - 1.0 if red else None)
        for car in active:
            paths[int(car["number"])].append(car["x"])
        active = [car for car in active if car["x"] < abs(end - begin)]
    for number, kind in enumerate(kinds):
        along = np.array(paths[number])
        wobble = 0.15 * np.sin(along / 17 + number)
        path = np.column_stack([begin + sign * along, y + (1.1 * -sign * (kind == "cyclist")) + wobble])
        movers.append(Mover(kind, starts[number], path, np.full(len(path), 0.0 if forward else math.pi)))
    return movers


def _drive(rng: np.random.Generator, active: list[dict[str, float]], stop_at: float | None) -> None:
    for index, car in enumerate(active):
        gaps = [(active[index - 1]["x"] - active[index - 1]["length"], active[index - 1]["v"])] if index else []
        nose = car["x"] + car["length"] / 2
        if stop_at is not None and nose < stop_at and stop_at - nose > car["v"] ** 2 / 9:
            gaps.append((stop_at - car["length"] / 2, 0.0))
        change = 1.6 * (1 - (car["v"] / car["wish"]) ** 4)
        for ahead, speed in gaps:
            gap = max(0.3, ahead - car["x"])
            want = 1.8 + max(0.0, car["v"] * 1.2 + car["v"] * (car["v"] - speed) / 4.4)
            change -= 1.6 * (want / gap) ** 2
        car["v"] = max(0.0, car["v"] + max(change, -6.0) * STEP_S)
        if car["v"] < 0.05 and gaps and gaps[0][0] - car["x"] > 2.5 and rng.random() < 0.004:
            car["v"] = 1.0  # creeps up a little
        car["x"] += car["v"] * STEP_S


def _walkers(rng: np.random.Generator) -> list[Mover]:
    movers: list[Mover] = []
    now_s = rng.uniform(0, 4)
    while now_s < LENGTH_S - 8:
        what = str(rng.choice(["single", "group", "back", "along"], p=[0.35, 0.3, 0.15, 0.2]))
        side = float(rng.choice([-1, 1]))
        x = WALK_X + rng.uniform(-1.5, 1.5)
        speed = rng.uniform(0.9, 1.6)
        start = np.array([x, side * WALK_FAR])
        points = [start, np.array([x + rng.uniform(-0.5, 0.5), -side * WALK_FAR])]
        if what == "back":
            points = [start, np.array([x, WALK_Y - side * rng.uniform(1.2, 3.0)]), start + np.array([0.8, 0.0])]
        elif what == "along":
            y = WALK_Y + float(rng.choice([-1, 1])) * rng.uniform(0.5, 0.8)
            points = [np.array([WALK_X - 25, y]), np.array([WALK_X + 14, y])][:: int(side)]
        shifts = [np.zeros(2)]
        if what == "group":
            shifts = [
                np.array([0.85 * n + rng.normal(0, 0.08), rng.normal(0, 0.25)]) for n in range(rng.integers(2, 5))
            ]
        for shift in shifts:
            path = _walk([point + shift for point in points], speed)
            movers.append(Mover("person", round(now_s / STEP_S), path, np.zeros(len(path))))
        now_s += rng.exponential(7.0) + 1.5
    return movers


def _walk(points: list[Floats], speed: float) -> Floats:
    parts = []
    for first, second in pairwise(points):
        count = max(2, round(float(np.hypot(*(second - first))) / speed / STEP_S))
        parts.append(first + (second - first) * np.linspace(0, 1, count, endpoint=False)[:, None])
    return np.concatenate(parts)


def _turns(rng: np.random.Generator) -> list[Mover]:
    """U-turns: the bottom of the car's box turns back before the road's line, or crosses it twice."""
    movers: list[Mover] = []
    now_s = rng.uniform(5, 20)
    while now_s < LENGTH_S - 25:
        turn_x = ROAD_LINE_X + (rng.uniform(-6.5, -4.5) if rng.random() < 0.5 else rng.uniform(4.0, 7.0))
        xs = np.arange(-12.0, turn_x, 0.25)
        angle = np.linspace(-math.pi / 2, math.pi / 2, 24)[1:-1]
        arc = np.column_stack([turn_x + 3.0 * np.cos(angle), 3.0 * np.sin(angle) + 1.25])
        track = np.concatenate(
            [np.column_stack([xs, np.full(len(xs), -1.75)]), arc, np.column_stack([xs[::-1], np.full(len(xs), 4.25)])]
        )
        lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(track, axis=0).T))])
        middle = float(lengths[len(xs)] + 4)
        along = [0.0]
        while along[-1] < lengths[-1]:
            along.append(along[-1] + STEP_S * min(8.0, max(2.5, abs(along[-1] - middle) / 2.2)))
        path = np.column_stack([np.interp(along, lengths, track[:, axis]) for axis in (0, 1)])
        turn = np.gradient(path, axis=0)
        movers.append(Mover("car", round(now_s / STEP_S), path, np.arctan2(turn[:, 1], turn[:, 0])))
        now_s += rng.uniform(25, 45)
    return movers


def _spec(camera: Camera) -> CameraDeviceSpec:
    def at(x: float, y: float) -> tuple[float, float]:
        pixels, _ = camera.see(np.array([[x, y, 0.0]]))
        u, v = (pixels[0] / np.array(camera.size)).tolist()
        return min(1.0, max(0.0, u)), min(1.0, max(0.0, v))

    corners = [(13.0, -3.5), (40.0, -3.5), (40.0, 3.5), (13.0, 3.5)]
    lines = [
        {"name": "road", "a": at(ROAD_LINE_X, 6.5), "b": at(ROAD_LINE_X, -4.2), "directions": ["in", "out"]},
        {"name": "stop", "a": at(STOP_X, 5.6), "b": at(STOP_X, -0.8), "directions": ["in", "out"]},
        {"name": "walk", "a": at(WALK_X - 4, WALK_Y), "b": at(WALK_X + 4, WALK_Y), "directions": ["right", "left"]},
    ]
    zone = {"name": "queue", "polygon": [at(STOP_X, 0.2), at(46, 0.2), at(46, 3.6), at(STOP_X, 3.6)]}
    ground = {"picture": [at(*corner) for corner in corners], "metres": corners}
    streams = [
        {"name": "occupancy", "measure": "occupancy", "zone": "queue"},
        {"name": "queue", "measure": "queue", "zone": "queue"},
    ]
    return CameraDeviceSpec.model_validate(
        {
            "name": "street",
            "detector": "truth",
            "lines": lines,
            "zones": [zone],
            "ground": ground,
            "streams": streams,
        }
    )


def _project(camera: Camera, movers: list[Mover]) -> tuple[Floats, Floats, Floats]:
    """Boxes clipped to the picture, distances, boxes as they are; (steps, movers, ...)."""
    steps = round(LENGTH_S / STEP_S)
    raw = np.full((steps, len(movers), 4), np.nan)
    depth = np.full((steps, len(movers)), np.inf)
    for index, mover in enumerate(movers):
        count = min(len(mover.path), steps - mover.start)
        if count <= 0:
            continue
        length, width, height = SIZES_M[mover.kind]
        corner = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (0.0, 1.0)])
        corner = corner * (length, width, height)
        turn = mover.heading[:count, None]
        cos, sin = np.cos(turn), np.sin(turn)
        x = mover.path[:count, :1] + corner[:, 0] * cos - corner[:, 1] * sin
        y = mover.path[:count, 1:] + corner[:, 0] * sin + corner[:, 1] * cos
        z = np.broadcast_to(corner[:, 2], x.shape)
        pixels, far = camera.see(np.stack([x, y, z], axis=2).reshape(-1, 3))
        pixels, far = (pixels / np.array(camera.size)).reshape(count, 8, 2), far.reshape(count, 8)
        boxes = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
        boxes[far.min(axis=1) < 1.0] = np.nan
        raw[mover.start : mover.start + count, index] = boxes
        depth[mover.start : mover.start + count, index] = far.min(axis=1)
    clipped = np.clip(raw, 0, 1)
    small = (clipped[..., 2] - clipped[..., 0] < 0.006) | (clipped[..., 3] - clipped[..., 1] < 0.012)
    clipped[small] = np.nan
    return clipped, depth, raw


def _visible(boxes: Floats, depths: Floats) -> Floats:
    """The share of a 5 x 5 grid in each box that no nearer box covers."""
    seen = np.zeros(depths.shape)
    spots = (np.arange(5) + 0.5) / 5
    for step in range(len(boxes)):
        here = np.flatnonzero(np.isfinite(boxes[step, :, 0]))
        box = boxes[step, here]
        x = box[:, :1] + (box[:, 2:3] - box[:, :1]) * np.tile(spots, 5)
        y = box[:, 1:2] + (box[:, 3:4] - box[:, 1:2]) * np.repeat(spots, 5)
        within = (x[:, :, None] > box[:, 0]) & (x[:, :, None] < box[:, 2])
        within &= (y[:, :, None] > box[:, 1]) & (y[:, :, None] < box[:, 3])
        within &= (depths[step, here][:, None] > depths[step, here][None] + 0.3)[:, None, :]
        seen[step, here] = 1 - within.any(axis=2).mean(axis=1)
    return seen


def _judge(truth: Truth, movers: list[Mover], raw: Floats, aspect: float) -> None:
    """What a perfect counter says: the bottom's middle of the whole box against lines and zones."""
    foot = np.stack([(raw[..., 0] + raw[..., 2]) / 2 * aspect, raw[..., 3]], axis=2)
    within_picture = np.isfinite(truth.boxes[..., 0])
    for line in truth.spec.lines:
        a, b = np.array(line.a) * (aspect, 1), np.array(line.b) * (aspect, 1)
        along = b - a
        height = (foot - a) @ np.array([-along[1], along[0]])
        share = (foot - a) @ along / (along @ along)
        for index, mover in enumerate(movers):
            sides = height[:, index]
            for step in np.flatnonzero(sides[:-1] * sides[1:] < 0).tolist():
                part = sides[step] / (sides[step] - sides[step + 1])
                position = share[step, index] + part * (share[step + 1, index] - share[step, index])
                if not 0 <= position <= 1 or not within_picture[step, index]:
                    continue
                kmh = 3.6 * float(mover.speeds[min(step - mover.start, len(mover.speeds) - 1)])
                direction = line.directions[0 if sides[step] < 0 else 1]
                when_s = float((step + part) * STEP_S)
                truth.passages.append(Passage(line.name, direction, mover.kind, when_s, kmh, index))
    polygon = np.array(truth.spec.zones[0].polygon) * (aspect, 1)
    ahead = np.roll(polygon, -1, axis=0)
    x, y = foot[..., 0, None], foot[..., 1, None]
    straddles = (polygon[:, 1] > y) != (ahead[:, 1] > y)
    edge = polygon[:, 0] + (y - polygon[:, 1]) * (ahead[:, 0] - polygon[:, 0]) / (ahead[:, 1] - polygon[:, 1])
    inside = (np.count_nonzero(straddles & (x < edge), axis=2) % 2 == 1) & within_picture
    speed = np.full(inside.shape, np.inf)
    for index, mover in enumerate(movers):
        count = min(len(mover.path), len(speed) - mover.start)
        speed[mover.start : mover.start + max(0, count), index] = mover.speeds[: max(0, count)]
    truth.occupancy = inside.sum(axis=1).astype(np.float64)
    truth.queue = (inside & (speed < STANDING_MPS)).sum(axis=1).astype(np.float64)

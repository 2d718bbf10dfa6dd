"""What really happened in a scene, as a camera could know it: who crossed what and when, who was where and how long.

A road user is where the middle of the bottom edge of its box stands on the ground: that is what a picture tells, and it
differs from the middle of the thing by up to half its length. Crossings of the true middle are witnessed beside it.

A crossing is one when somebody was CLEAR_M on one side and came CLEAR_M to the other; its time is that of its last step
over the line. Who only touches a line, or walks along it, has not crossed it.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from hardware_sim.street.bodies import Body, Kind
from hardware_sim.street.camera import Camera
from hardware_sim.street.marks import GroundLine, PictureZone, Point
from hardware_sim.street.scenes import Scene
from hardware_sim.street.sight import Box, Sight
from hardware_sim.street.stage import Seen

CLEAR_M = 0.5
STANDING_MPS = 0.5
"""Slower than this is standing: a queue that creeps is one."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Somebody crossed a line. of: "box" (the middle of its bottom edge) or "body" (the true middle)."""

    line: str
    t_s: float
    direction: str
    kind: Kind
    id: int
    speed_kmh: float
    of: Literal["box", "body"] = "box"


@dataclass(frozen=True, slots=True)
class Stay:
    """Somebody left a zone. whole: whether it was seen to come in, too."""

    zone: str
    id: int
    kind: Kind
    entered_s: float
    left_s: float
    whole: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame's truth. zones: by name, how many are in it and how many of those stand. bodies: those in view."""

    number: int
    t_s: float
    objects: tuple[Seen, ...]
    bodies: tuple[Body, ...]
    zones: dict[str, tuple[int, int]]
    crossings: tuple[Crossing, ...]
    stays: tuple[Stay, ...]

    def line(self) -> str:
        """As one line of JSON."""
        by_id = {body.id: body for body in self.bodies}
        rows = []
        for one in self.objects:
            body = by_id[one.id]
            box = [round(edge, 2) for edge in one.box]
            where = [round(body.x, 3), round(body.y, 3), round(body.speed_mps * 3.6, 2)]
            rows.append([one.id, one.kind, *box, round(one.visible, 3), *where])
        record: dict[str, Any] = {"frame": self.number, "t_s": round(self.t_s, 4), "objects": rows, "zones": self.zones}
        if self.crossings:
            record["crossings"] = [{**asdict(one), "t_s": round(one.t_s, 4)} for one in self.crossings]
        if self.stays:
            record["stays"] = [asdict(one) for one in self.stays]
        return json.dumps(record, separators=(",", ":"))


@dataclass(slots=True)
class _Passage:
    """One road user against one line. cleared: the side it was last clear on, -1 left, 1 right, 0 none yet."""

    cleared: int = 0
    offset: float = 0.0
    along: float = 0.0
    step_s: float = math.nan


@dataclass(slots=True)
class _Life:
    """What is remembered of one road user."""

    t_s: float
    passages: dict[tuple[str, str], _Passage] = field(default_factory=dict)
    inside: dict[str, tuple[float, bool]] = field(default_factory=dict)


class Witness:
    """Watches a scene frame by frame, in order of time. Its memory is of those in view."""

    def __init__(self, scene: Scene) -> None:
        names = {line.name for line in scene.picture_lines()}
        self._camera: Camera = scene.camera
        self._lines = [line for line in scene.lines if line.name in names]
        self._zones: tuple[PictureZone, ...] = scene.picture_zones()
        self._lives: dict[int, _Life] = {}
        self._begun = False

    def look(self, number: int, t_s: float, bodies: Sequence[Body], objects: Sequence[Seen]) -> Moment:
        """The truth of one frame. bodies: everybody; objects: those in view, with their boxes in pixels."""
        by_id = {body.id: body for body in bodies}
        crossings: list[Crossing] = []
        stays: list[Stay] = []
        zones = {zone.name: [0, 0] for zone in self._zones}
        grounds = self._grounds([one.box for one in objects])
        for one, ground in zip(objects, grounds, strict=True):
            body = by_id[one.id]
            life = self._lives.setdefault(one.id, _Life(t_s))
            crossings += self._crossings(life, body, ground, t_s)
            stays += self._zone_stays(life, body, one.box, t_s, zones)
            life.t_s = t_s
        seen = {one.id for one in objects}
        for gone in [number for number in self._lives if number not in seen]:
            life = self._lives.pop(gone)
            kind = by_id[gone].kind if gone in by_id else None
            if kind is not None:
                stays += [Stay(zone, gone, kind, at, life.t_s, whole) for zone, (at, whole) in life.inside.items()]
        self._begun = True
        counts = {name: (inside, standing) for name, (inside, standing) in zones.items()}
        shown = tuple(body for body in bodies if body.id in seen)
        return Moment(number, t_s, tuple(objects), shown, counts, tuple(crossings), tuple(stays))

    def _grounds(self, boxes: Sequence[Box]) -> list[Point]:
        if not boxes:
            return []
        feet = np.array([((left + right) / 2, bottom) for left, _, right, bottom in boxes])
        return [(x, y) for x, y in self._camera.ground(feet).tolist()]

    def _crossings(self, life: _Life, body: Body, ground: Point, t_s: float) -> Iterator[Crossing]:
        points: tuple[tuple[Literal["box", "body"], Point], ...] = (("box", ground), ("body", (body.x, body.y)))
        for of, point in points:
            if math.isnan(point[0]):
                continue
            for line in self._lines:
                passage = life.passages.get((line.name, of))
                offset, along = _side(line, point)
                if passage is None:
                    passage = life.passages[line.name, of] = _Passage(offset=offset, along=along)
                way = _pass(passage, offset, along, life.t_s, t_s)
                if way:
                    direction = line.directions[0 if way > 0 else 1]
                    speed_kmh = round(body.speed_mps * 3.6, 2)
                    yield Crossing(line.name, passage.step_s, direction, body.kind, body.id, speed_kmh, of)

    def _zone_stays(
        self, life: _Life, body: Body, box: Box, t_s: float, counts: dict[str, list[int]]
    ) -> Iterator[Stay]:
        width, height = self._camera.size
        foot = ((box[0] + box[2]) / 2 / width, box[3] / height)
        for zone in self._zones:
            if zone.holds(foot):
                counts[zone.name][0] += 1
                counts[zone.name][1] += body.speed_mps < STANDING_MPS
                life.inside.setdefault(zone.name, (t_s, self._begun))
            elif zone.name in life.inside:
                entered_s, whole = life.inside.pop(zone.name)
                yield Stay(zone.name, body.id, body.kind, entered_s, t_s, whole)


def _side(line: GroundLine, point: Point) -> tuple[float, float]:
    """Metres to the right of the line, and how far along it: 0 at a, 1 at b."""
    dx, dy = line.b[0] - line.a[0], line.b[1] - line.a[1]
    px, py = point[0] - line.a[0], point[1] - line.a[1]
    length = math.hypot(dx, dy)
    return (px * dy - py * dx) / length, (px * dx + py * dy) / length**2


def _pass(passage: _Passage, offset: float, along: float, before_s: float, t_s: float) -> int:
    """Take note of a step; 1 or -1 when it completes a crossing to the right or to the left."""
    if (offset > 0) != (passage.offset > 0):
        share = passage.offset / (passage.offset - offset)
        at = passage.along + share * (along - passage.along)
        passage.step_s = before_s + share * (t_s - before_s) if 0 <= at <= 1 else math.nan
    passage.offset, passage.along = offset, along
    if abs(offset) < CLEAR_M:
        return 0
    now = 1 if offset > 0 else -1
    way = now if passage.cleared == -now and not math.isnan(passage.step_s) else 0
    passage.cleared = now
    return way


def watch(scene: Scene, seconds: float, fps: float) -> Iterator[Moment]:
    """A scene's truth without its pictures: fast. Nothing hides anybody here: `visible` is 1."""
    sight, traffic, witness = Sight(scene.camera), scene.traffic(), Witness(scene)
    for number in range(round(seconds * fps)):
        t_s = number / fps
        bodies = traffic.at(t_s)
        kinds = {body.id: body.kind for body in bodies}
        objects = [Seen(one, kinds[one], box, 1.0) for one, box in sight.boxes(bodies)]
        yield witness.look(number, t_s, bodies, objects)

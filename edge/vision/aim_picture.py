"""Why: on a ladder, in sunlight, a technician must see at a glance what the camera sees and where his lines lie.

A picture is veiled first and drawn on afterwards. Veiled: it keeps no more detail than `PLAIN_WIDTH` pixels across, so
that people who are too small for the detector have no faces, and everything found in the last seconds is strongly
pixelated, whatever its class; when no detector can be had, all of it is. Masks were black before it came here.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.base_camera import CameraDeviceSpec, Look, Picture
from edge.vision.eye import Finder, in_picture

CANVAS = (1280, 720)
"""What aim asks the capture for."""
PLAIN_WIDTH = 480
COARSE_WIDTH = 48
"""Pixels across that are left of a picture, and of one in which nobody could look for people."""
CELLS = 5
"""Pixels across and down that are left of a thing that was found."""
MARGIN = 0.15
"""By how much a box is widened before it is pixelated: boxes tremble, and arms leave them."""
KEEP_NS = 2_000_000_000
"""How long what was found stays pixelated where it was: detectors flicker."""
VEIL_CONFIDENCE = 0.1
"""People are hidden on less evidence than they are counted."""

Boxes = NDArray[np.float64]
Point = tuple[float, float]
Shown = tuple[Boxes, float, str]
"""A box that counts, as fractions of the picture, its score and what it is."""
_WHITE, _BLACK, _RED = (255, 255, 255), (0, 0, 0), (40, 40, 255)
_LINE, _ZONE, _GROUND, _MASK, _BOX = (0, 255, 255), (255, 200, 0), (255, 80, 255), (190, 190, 190), (80, 255, 80)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the detector found: boxes as fractions of the picture (n, 4), scores (n,), classes (n,) and their names;
    all from VEIL_CONFIDENCE on."""

    boxes: Boxes
    scores: NDArray[np.float64]
    kinds: NDArray[np.int64]
    classes: tuple[str, ...]

    def counting(self, least: float, wanted: Sequence[str]) -> "Found":
        """Those that a camera with this confidence and these classes (none: all) would count."""
        good = self.scores >= least
        if wanted:
            good &= np.isin(self.kinds, [number for number, name in enumerate(self.classes) if name in wanted])
        return Found(self.boxes[good], self.scores[good], self.kinds[good], self.classes)

    def shown(self) -> list[Shown]:
        """Each with its name."""
        names = [self.classes[number] for number in self.kinds.tolist()]
        return list(zip(self.boxes, self.scores.tolist(), names, strict=True))


@dataclass(slots=True)
class Veil:
    """Hides people and plates; remembers where they were."""

    _past: deque[tuple[int, Boxes]] = field(default_factory=lambda: deque(maxlen=64))

    def over(self, picture: Picture, found: Found | None, time_ns: int) -> Picture:
        """The picture with everybody hidden. found: None when nobody could look."""
        height, width = picture.shape[:2]
        if found is None:
            return _pixelated(picture, COARSE_WIDTH, max(1, round(COARSE_WIDTH * height / width)))
        while self._past and self._past[0][0] < time_ns - KEEP_NS:
            self._past.popleft()
        self._past.append((time_ns, found.boxes))
        plain = _softened(picture)
        for _, boxes in self._past:
            for box in boxes:
                _hide(plain, box)
        return plain


def _softened(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    if width <= PLAIN_WIDTH:
        return picture.copy()
    small = cv2.resize(picture, (PLAIN_WIDTH, round(PLAIN_WIDTH * height / width)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _pixelated(part: Picture, across: int, down: int) -> Picture:
    height, width = part.shape[:2]
    small = cv2.resize(part, (min(across, width), min(down, height)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _hide(picture: Picture, box: Boxes) -> None:
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = box.tolist()
    more_x, more_y = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    left, right = max(0, int((x0 - more_x) * width)), min(width, int((x1 + more_x) * width) + 1)
    top, bottom = max(0, int((y0 - more_y) * height)), min(height, int((y1 + more_y) * height) + 1)
    if right > left and bottom > top:
        part = picture[top:bottom, left:right]
        part[:] = _pixelated(part, CELLS, CELLS)


def picture_of(look: Look) -> Picture:
    """The camera's picture without the grey around it; a copy."""
    left, top = look.pad
    wide, high = (max(1, round(side * look.scale)) for side in look.size)
    return look.canvas[top : top + high, left : left + wide].copy()


def find(picture: Picture, finder: Finder) -> Found:
    """What is in a picture, by a detector whose canvas is of another size."""
    height, width = picture.shape[:2]
    across, down = finder.input_size
    scale = min(across / width, down / height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (across - wide) // 2, (down - high) // 2
    canvas = np.full((down, across, 3), 114, np.uint8)
    canvas[top : top + high, left : left + wide] = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_LINEAR)
    said = finder.detect(canvas, VEIL_CONFIDENCE)
    where = Look(canvas, canvas[..., 0], 0, 0, 0, 0, scale, (left, top), (width, height))
    return Found(in_picture(said, where), said.scores.astype(np.float64), said.classes, tuple(finder.classes))


class Pen:
    """Draws on one picture, in fractions of it; strokes have a dark rim, so that they show on any ground."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.height, self.width = picture.shape[:2]
        self._unit = max(1.0, self.width / 640)

    def at(self, point: Point) -> tuple[int, int]:
        """Where a point is, in pixels."""
        return round(point[0] * (self.width - 1)), round(point[1] * (self.height - 1))

    def path(self, points: list[Point], colour: tuple[int, int, int], *, closed: bool = False) -> None:
        """A line through points."""
        pixels = np.array([self.at(point) for point in points], np.int32)
        for ink, thick in ((_BLACK, 3.0), (colour, 1.5)):
            cv2.polylines(self.picture, [pixels], closed, ink, round(thick * self._unit), cv2.LINE_AA)

    def arrow(self, start: tuple[int, int], end: tuple[int, int], colour: tuple[int, int, int]) -> None:
        """An arrow, in pixels."""
        for ink, thick in ((_BLACK, 3.0), (colour, 1.5)):
            cv2.arrowedLine(self.picture, start, end, ink, round(thick * self._unit), cv2.LINE_AA, tipLength=0.35)

    def dot(self, point: Point, colour: tuple[int, int, int]) -> None:
        """A point."""
        for ink, radius in ((_BLACK, 5.0), (colour, 3.5)):
            cv2.circle(self.picture, self.at(point), round(radius * self._unit), ink, -1, cv2.LINE_AA)

    def text(self, words: str, spot: tuple[int, int], colour: tuple[int, int, int], size: float = 0.45) -> None:
        """Words on a dark plate that begins at a spot (pixels), moved so that all of it is in the picture."""
        scale, thick = size * self._unit, max(1, round(0.9 * self._unit))
        (wide, high), below = cv2.getTextSize(words, _FONT, scale, thick)
        x = max(2, min(spot[0], self.width - wide - 4))
        y = max(high + 4, min(spot[1], self.height - below - 3))
        cv2.rectangle(self.picture, (x - 3, y - high - 4), (x + wide + 3, y + below + 2), _BLACK, -1)
        cv2.putText(self.picture, words, (x, y), _FONT, scale, colour, thick, cv2.LINE_AA)


@dataclass(frozen=True, slots=True)
class Notes:
    """What is written on a picture. words: along the top, the first line neutral; good: nothing is wrong with it.

    passed: how often each direction of each line was crossed since aiming began.
    """

    words: list[str]
    good: bool = True
    passed: dict[tuple[int, int], int] = field(default_factory=dict)


def annotate(picture: Picture, camera: CameraDeviceSpec, shown: Iterable[Shown], notes: Notes, *, grid: bool) -> None:
    """Draw the scene, the boxes that count, and words along the top."""
    pen = Pen(picture)
    if grid:
        _grid(pen)
    for number, mask in enumerate(camera.masks, 1):
        pen.path(list(mask), _MASK, closed=True)
        pen.text(f"mask {number}", pen.at(mask[0]), _MASK)
    for number, zone in enumerate(camera.zones, 1):
        pen.path(list(zone.polygon), _ZONE, closed=True)
        pen.text(_word(zone.name, f"zone {number}"), pen.at(zone.polygon[0]), _ZONE)
    if camera.ground is not None:
        for point, metres in zip(camera.ground.picture, camera.ground.metres, strict=True):
            pen.dot(point, _GROUND)
            x, y = pen.at(point)
            pen.text(f"{metres[0]:g}, {metres[1]:g} m", (x + 10, y), _GROUND, 0.35)
    for box, score, name in shown:
        x0, y0, x1, y1 = box.tolist()
        pen.path([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], _BOX, closed=True)
        pen.text(f"{_word(name, '?')} {score:.2f}", pen.at((x0, y0)), _BOX, 0.35)
    for number, line in enumerate(camera.lines):
        told = [_word(word, str(at + 1)) for at, word in enumerate(line.directions)]
        _line(pen, line.a, line.b, [f"{word}: {notes.passed.get((number, at), 0)}" for at, word in enumerate(told)])
        pen.text(_word(line.name, f"line {number + 1}"), pen.at(line.a), _LINE)
    for row, said in enumerate(notes.words):
        pen.text(said, (4, round(pen.width / 640 * 18 * (row + 1))), _RED if row and not notes.good else _WHITE, 0.5)


def card(size: tuple[int, int], words: list[str]) -> Picture:
    """A dark picture of width and height `size` that says why there is none."""
    picture = np.full((size[1], size[0], 3), 40, np.uint8)
    pen = Pen(picture)
    for row, said in enumerate(words):
        pen.text(said, (4, round(pen.width / 640 * 18 * (row + 2))), _RED if row else _WHITE, 0.5)
    return picture


def _word(name: str, otherwise: str) -> str:
    # OpenCV's letters are ASCII; the page and the terminal list the names.
    return name if name.isascii() else otherwise


def _line(pen: Pen, a: Point, b: Point, directions: list[str]) -> None:
    pen.path([a, b], _LINE)
    start, end = np.array(pen.at(a), float), np.array(pen.at(b), float)
    along = (end - start) / max(1e-6, float(np.hypot(*(end - start))))
    right = np.array([-along[1], along[0]])  # of one who looks from a to b: y points down
    reach = 0.07 * pen.width
    for share, side, name in zip((0.38, 0.62), (1, -1), directions, strict=True):
        middle = start + share * (end - start)
        tail, head = middle - 0.4 * reach * side * right, middle + 0.6 * reach * side * right
        pen.arrow((round(tail[0]), round(tail[1])), (round(head[0]), round(head[1])), _LINE)
        pen.text(name, (round(head[0]) + 8, round(head[1])), _LINE)


def _grid(pen: Pen) -> None:
    for tenth in range(1, 10):
        share = tenth / 10
        for a, b in (((share, 0.0), (share, 1.0)), ((0.0, share), (1.0, share))):
            cv2.line(pen.picture, pen.at(a), pen.at(b), _WHITE, 1)
        pen.text(f"x {share:g}", pen.at((share, 1.0)), _WHITE, 0.32)
        pen.text(f"y {share:g}", pen.at((0.0, share)), _WHITE, 0.32)

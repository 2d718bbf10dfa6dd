"""Drawn streets on disk: drawing takes longer than learning, so each scene is drawn once.

A folder of shards. `NNNN.npy` holds uint8 pictures (n, height, width, 3); `NNNN.npz` their objects, as columns.
Shards appear whole (written aside, then renamed), so drawing may be stopped, resumed, and go on while training runs.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from models.train.labels import CANVAS, CLASSES, MIN_VISIBLE, Floats, Ints, Truth, too_hard

Picture = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
Split = Literal["train", "heldout"]

FRAME = (512, 288)
"""Width and height that scenes are kept in: a 16:9 camera scaled into the canvas."""
SCENES_A_SHARD = 240
FIRST_SEED = {"train": 1_000_000, "heldout": 9_000_000}
CAMERA_SIZES = ((512, 288), (1280, 720), (512, 288), (1024, 576))
"""What cameras draw in before their picture is scaled down, by seed; the first is drawn twice as large, too."""
MOMENTS = 4
"""Pictures of one camera: painting its street costs ten times as much as its traffic."""


class SeenLike(Protocol):
    """An object of a drawn picture: its class, its box in pixels, and the share of it that nothing hides."""

    @property
    def kind(self) -> str:
        """One of CLASSES."""

    @property
    def box(self) -> Sequence[float]:
        """x0, y0, x1, y1, clipped to the picture."""

    @property
    def visible(self) -> float:
        """0..1."""


class RenderedLike(Protocol):
    """A drawn picture with its objects."""

    @property
    def bgr(self) -> Picture:
        """The picture."""

    @property
    def objects(self) -> Sequence[SeenLike]:
        """Everything in it, hidden or not."""


class LightLike(Protocol):
    """What makes a picture easy or hard."""

    @property
    def hour(self) -> str:
        """day, dusk or night."""

    @property
    def rain(self) -> float:
        """0..1."""

    @property
    def fog_m(self) -> float:
        """How far one sees; infinite without fog."""


class ViewLike(Protocol):
    """A camera on a street: draws what it sees at a time."""

    @property
    def light(self) -> LightLike:
        """Hour and weather."""

    def picture(self, t_s: float) -> RenderedLike:
        """What it sees at a time."""


class ViewMaker(Protocol):
    """Makes the camera and street of a seed, drawing in width and height `size`."""

    def __call__(self, seed: int, size: tuple[int, int], split: Split) -> ViewLike:
        """See the class."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Some scenes. Objects of picture i are rows starts[i]:starts[i + 1] of boxes, classes and visible."""

    pictures: np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]
    starts: Ints
    boxes: Floats  # in pixels of FRAME
    classes: Ints
    visible: Floats
    conditions: tuple[str, ...]

    def truth(self, index: int) -> Truth:
        """The objects of one picture, in pixels of FRAME; those that are too hard are ignored."""
        rows = self._rows(index)
        boxes = self.boxes[rows]
        return Truth(boxes, self.classes[rows], too_hard(boxes, self.visible[rows]))

    def lesson(self, index: int) -> Truth:
        """The same to learn from: only hidden ones are ignored, `augment.cut` judges sizes on the canvas."""
        rows = self._rows(index)
        return Truth(self.boxes[rows], self.classes[rows], self.visible[rows] < MIN_VISIBLE)

    def _rows(self, index: int) -> slice:
        return slice(int(self.starts[index]), int(self.starts[index + 1]))


def condition(light: LightLike) -> str:
    """The hour and the weather in one word or two: day, dusk rain, night fog."""
    weather = " rain" if light.rain > 0 else " fog" if math.isfinite(light.fog_m) else ""
    return light.hour + weather


def scale_down(picture: Picture, interpolation: int = cv2.INTER_LINEAR) -> Picture:
    """A frame of a camera in FRAME's size. Linear is what the gateway does: aliasing included."""
    return np.asarray(cv2.resize(picture, FRAME, interpolation=interpolation), np.uint8)


def draw_shard(folder: Path, number: int, split: Split, views: ViewMaker) -> None:
    """Draws shard `number` of a split unless it is there: MOMENTS of each of its cameras."""
    target = folder / f"{number:04d}.npz"
    if target.exists():
        return
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    pictures, starts, conditions = [], [0], []
    boxes: list[Sequence[float]] = []
    classes: list[int] = []
    visible: list[float] = []
    for scene in range(SCENES_A_SHARD):
        index = number * SCENES_A_SHARD + scene
        seed, moment = FIRST_SEED[split] + index // MOMENTS, index % MOMENTS
        rng = np.random.default_rng((seed, moment))
        size = CAMERA_SIZES[seed % len(CAMERA_SIZES)]
        if scene == 0 or moment == 0:
            view = views(seed, size, split)
        drawn = view.picture(float(rng.uniform(0, 600)))
        pictures.append(scale_down(drawn.bgr, cv2.INTER_AREA if seed % 5 == 0 else cv2.INTER_LINEAR))
        scale = FRAME[0] / size[0]
        boxes += [[side * scale for side in seen.box] for seen in drawn.objects]
        classes += [CLASSES.index(seen.kind) for seen in drawn.objects]
        visible += [seen.visible for seen in drawn.objects]
        starts.append(len(boxes))
        conditions.append(condition(view.light))
    _save(target, np.stack(pictures), starts, np.reshape(boxes, (-1, 4)), classes, visible, conditions)


def _save(
    target: Path,
    pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    starts: list[int],
    boxes: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    classes: list[int],
    visible: list[float],
    conditions: list[str],
) -> None:
    aside = target.with_name(f"{target.stem}.part.npz")
    np.save(target.with_suffix(".npy"), pictures)
    np.savez(
        aside,
        starts=np.asarray(starts, np.int64),
        boxes=boxes.astype(np.float32),
        classes=np.asarray(classes, np.int64),
        visible=np.asarray(visible, np.float32),
        conditions=np.frombuffer(json.dumps(conditions).encode(), np.uint8),
    )
    aside.rename(target)


def open_shard(folder: Path, number: int) -> Shard:
    """A shard whose pictures stay on disk."""
    pictures = np.load(folder / f"{number:04d}.npy", mmap_mode="r")
    with np.load(folder / f"{number:04d}.npz") as columns:
        conditions = json.loads(columns["conditions"].tobytes())
        return Shard(
            pictures, columns["starts"], columns["boxes"], columns["classes"], columns["visible"], tuple(conditions)
        )


def drawn_shards(folder: Path) -> list[int]:
    """The numbers of the shards that are complete, ascending."""
    return sorted(int(path.stem) for path in folder.glob("[0-9][0-9][0-9][0-9].npz"))


def on_canvas(frame: Picture, left: int = 0, top: int = (CANVAS[1] - FRAME[1]) // 2) -> Picture:
    """A frame of FRAME's size on the model's canvas, the rest grey 114."""
    canvas = np.full((CANVAS[1], CANVAS[0], 3), 114, np.uint8)
    canvas[top : top + FRAME[1], left : left + FRAME[0]] = frame
    return canvas

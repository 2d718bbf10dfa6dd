"""Scenes on disk, their augmentation and the batches made of them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.cards import Card
from models.train.augment import Strength, cut, look_at, patchwork, place, shares
from models.train.batches import Pool, make_batch, prepared
from models.train.card import as_text, card, table
from models.train.judge import Canvases, evaluate
from models.train.labels import CANVAS, CLASSES, Floats, Truth
from models.train.scenes import (
    FRAME,
    SCENES_A_SHARD,
    Picture,
    Split,
    condition,
    draw_shard,
    drawn_shards,
    on_canvas,
    open_shard,
)

BLUE = (250, 20, 20)


@dataclass(frozen=True)
class Box:
    kind: str
    box: tuple[float, float, float, float]
    visible: float = 1.0


@dataclass(frozen=True)
class Drawn:
    bgr: Picture
    objects: list[Box]


@dataclass(frozen=True)
class Sky:
    hour: str = "dusk"
    rain: float = 0.0
    fog_m: float = math.inf


@dataclass(frozen=True)
class Painter:
    """One blue box a picture, a car or, one view in eight, a bus, on grey."""

    seed: int
    size: tuple[int, int]

    @property
    def light(self) -> Sky:
        return Sky()

    def picture(self, t_s: float) -> Drawn:
        width, height = self.size
        bgr = np.full((height, width, 3), 90, np.uint8)
        left, top = width // 4 + int(t_s) % 8 * width // 64, height // 3
        box = (left, top, left + width // 5, top + height // 4)
        bgr[box[1] : box[3], box[0] : box[2]] = BLUE
        return Drawn(bgr, [Box("car" if self.seed % 8 else "bus", box)])


def painted(seed: int, size: tuple[int, int], split: Split) -> Painter:
    assert (seed >= 9_000_000) == (split == "heldout")
    return Painter(seed, size)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    draw_shard(folder / "train", 0, "train", painted)
    draw_shard(folder / "heldout", 0, "heldout", painted)
    return folder


def blue_box(picture: Picture) -> list[int]:
    rows, columns = np.nonzero((picture[..., 0] > 180) & (picture[..., 1] < 60))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_shard_keeps_boxes_where_the_picture_shows_them(scenes: Path) -> None:
    shard = open_shard(scenes / "train", 0)
    assert shard.pictures.shape == (SCENES_A_SHARD, FRAME[1], FRAME[0], 3)
    for index in (0, 4, 8, 13):  # drawn in several sizes, kept in one
        box = shard.truth(index).boxes[0]
        assert np.abs(box - blue_box(shard.pictures[index])).max() <= 1
    assert shard.conditions[0] == "dusk"


def test_a_shard_is_drawn_once(scenes: Path) -> None:
    before = (scenes / "train" / "0000.npz").stat().st_mtime_ns
    draw_shard(scenes / "train", 0, "train", painted)
    assert (scenes / "train" / "0000.npz").stat().st_mtime_ns == before
    assert drawn_shards(scenes / "train") == [0]


def test_a_shard_under_way_is_none(tmp_path: Path) -> None:
    (tmp_path / "0001.npy").touch()
    (tmp_path / "0001.part.npz").touch()
    assert drawn_shards(tmp_path) == []


def test_conditions_in_words() -> None:
    assert condition(Sky("night", rain=0.4, fog_m=200)) == "night rain"
    assert condition(Sky("day", fog_m=60)) == "day fog"
    assert condition(Sky("day")) == "day"


@pytest.mark.parametrize("seed", range(12))
def test_placed_boxes_follow_the_pixels(scenes: Path, seed: int) -> None:
    shard = open_shard(scenes / "train", 0)
    picture, truth = place(np.asarray(shard.pictures[3]), shard.truth(3), np.random.default_rng(seed), (0.7, 1.8))
    assert picture.shape == (CANVAS[1], CANVAS[0], 3)
    if len(truth.boxes):
        assert np.abs(truth.boxes[0] - blue_box(picture)).max() <= 1.5


def test_placing_leaves_the_scene_as_it_was(scenes: Path) -> None:
    shard = open_shard(scenes / "train", 0)
    place(np.asarray(shard.pictures[3]), shard.truth(3), np.random.default_rng(1), (0.7, 1.8))
    assert np.abs(shard.truth(3).boxes[0] - blue_box(shard.pictures[3])).max() <= 1


def test_a_cut_clips_ignores_and_drops() -> None:
    boxes = np.array([[0, 0, 40, 40], [90, 0, 130, 40], [140, 0, 180, 40], [70, 0, 110, 40]], np.float32)
    left = cut(Truth(boxes, np.arange(4), np.zeros(4, np.bool_)), (0, 0, 100, 100))
    assert left.classes.tolist() == [0, 1, 3]
    assert left.ignore.tolist() == [False, True, False]  # a quarter of it is left; three quarters are
    assert left.boxes[1].tolist() == [90, 0, 100, 40]


def test_patchwork_shows_and_lists_the_same_objects() -> None:
    canvas = np.full((CANVAS[1], CANVAS[0], 3), 90, np.uint8)
    canvas[2:32, 2:42] = BLUE  # in the first quarter wherever the point falls
    parts = [
        (canvas, Truth(np.array([[2, 2, 42, 32]], np.float32), np.array([n]), np.array([False]))) for n in range(4)
    ]
    picture, truth = patchwork(parts, np.random.default_rng(3))
    assert truth.classes.tolist() == [0]
    assert truth.boxes[0].tolist() == [2, 2, 42, 32] == blue_box(picture)


@pytest.mark.parametrize("seed", range(8))
def test_a_window_shows_the_object_it_was_chosen_for(seed: int) -> None:
    canvas = np.full((CANVAS[1], CANVAS[0], 3), 90, np.uint8)
    canvas[100:130, 200:240] = BLUE
    truth = Truth(np.array([[200, 100, 240, 130]], np.float32), np.array([2]), np.array([False]))
    picture, seen = look_at(canvas, truth, np.random.default_rng(seed), (128, 96))
    assert picture.shape == (96, 128, 3)
    assert seen.boxes.astype(int).tolist() == [blue_box(picture)]


def test_rare_classes_are_picked_more_often() -> None:
    counts = np.array([[0, 0, 9, 0]] * 90 + [[0, 0, 1, 1]] * 9 + [[0, 0, 0, 0]], np.float32)
    share = shares(counts)
    assert share.sum() == pytest.approx(1, abs=1e-5)
    assert share[90] / share[0] == pytest.approx(4)
    assert share[-1] / share[0] == pytest.approx(0.5)


def test_a_batch_is_the_same_for_the_same_step(scenes: Path) -> None:
    pool = Pool(scenes / "train")
    assert pool.refresh() == SCENES_A_SHARD
    one, same, other = (make_batch(pool, 4, 7, step, Strength()) for step in (1, 1, 2))
    assert (one.pictures == same.pictures).all()
    assert not (one.pictures == other.pictures).all()
    assert all((a.boxes == b.boxes).all() for a, b in zip(one.truths, same.truths, strict=True))


def test_prepared_batches_come_in_order_and_stop_when_left(scenes: Path) -> None:
    pool = Pool(scenes / "train")
    pool.refresh()
    with prepared(pool, 2, 7, range(3, 50), {0: Strength(), 4: Strength((1, 1.1), 0)}) as batches:
        first = next(batches)
    assert (first.pictures == make_batch(pool, 2, 7, 3, Strength()).pictures).all()


def oracle(canvases: Canvases) -> Floats:
    """Says where the blue box is, and that it is a car."""
    answers = np.zeros((len(canvases), 8, 2), np.float32)
    for answer, canvas in zip(answers, canvases, strict=True):
        x0, y0, x1, y1 = blue_box(canvas)
        answer[:, 0] = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0, 0, 0.9, 0]
    return answers


def test_the_judge_reads_answers_as_a_gateway_does(scenes: Path) -> None:
    report = evaluate(oracle, scenes / "heldout", 0.4)
    person, cyclist, car, bus = report.classes
    assert math.isnan(person)
    assert math.isnan(cyclist)
    assert 0.85 < car < 0.9  # right where there is a car, wrong where it is a bus
    assert bus == 0
    assert report.scenes == SCENES_A_SHARD
    assert report.at_threshold[CLASSES.index("car")] == pytest.approx((0.87, 1), abs=0.03)
    assert report.conditions["dusk"] == report.mean


def test_the_card_is_one_that_a_gateway_accepts(scenes: Path) -> None:
    report = evaluate(oracle, scenes / "heldout", 0.4)
    mapping = yaml.safe_load(as_text(card(report, 100, 240, 3.9)))
    golden = {"seed": 1, "outputs": {"answers": {"shape": [1, 8, 2], "samples": [0.5]}}}
    made = Card.model_validate(mapping | {"sha256": "0" * 64, "golden": golden})
    assert made.about.endswith("Not for real cameras.")
    assert "drawn streets" in made.limits[0]
    assert not any(math.isnan(figure.value) for figure in made.accuracy if not isinstance(figure, str))
    assert table(report)[2].startswith("| all | ")


def test_a_frame_lies_in_the_middle_of_the_canvas_and_the_rest_is_grey() -> None:
    canvas = on_canvas(np.zeros((FRAME[1], FRAME[0], 3), np.uint8))
    above = (CANVAS[1] - FRAME[1]) // 2
    assert canvas.shape == (CANVAS[1], CANVAS[0], 3)
    assert (canvas[:above] == 114).all()
    assert not canvas[above : above + FRAME[1]].any()
    assert (canvas[above + FRAME[1] :] == 114).all()

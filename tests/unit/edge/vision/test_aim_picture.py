"""What a technician is shown: people hidden, lines and boxes where the configuration put them, and words that fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base_camera import CameraDeviceSpec, Picture
from edge.vision.aim_page import page, preferred
from edge.vision.aim_picture import KEEP_NS, Found, Notes, Pen, Veil, annotate, card

NOISE = np.random.default_rng(1).integers(0, 256, (360, 640, 3), dtype=np.uint8)
SECOND = 1_000_000_000


def found(*boxes: tuple[float, float, float, float], score: float = 0.5, kind: int = 0) -> Found:
    return Found(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.full(len(boxes), score),
        np.full(len(boxes), kind, dtype=np.int64),
        ("person", "car"),
    )


def levels(picture: Picture) -> int:
    """How many colours there are: a part that was pixelated has few."""
    return len(np.unique(picture.reshape(-1, 3), axis=0))


@settings(deadline=None)
@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_wherever_somebody_is_found_nothing_of_him_is_left(corners: tuple[float, float, float, float]) -> None:
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    shown = Veil().over(NOISE, found((x0, y0, x1, y1)), 0)
    assert shown.shape == NOISE.shape
    inside = shown[int(y0 * 360) : int(y1 * 360) + 1, int(x0 * 640) : int(x1 * 640) + 1]
    assert levels(inside) <= 25


def test_what_a_detector_loses_for_a_moment_stays_hidden_and_not_for_ever() -> None:
    veil, box = Veil(), (0.4, 0.4, 0.6, 0.6)
    part = (slice(150, 210), slice(262, 378))
    veil.over(NOISE, found(box), 0)
    assert levels(veil.over(NOISE, found(), KEEP_NS)[part]) <= 25
    assert levels(veil.over(NOISE, found(), KEEP_NS + 1)[part]) > 1000


def test_a_picture_that_nobody_could_look_at_is_hidden_whole() -> None:
    assert levels(Veil().over(NOISE, None, 0)) <= 48 * 27


def test_the_picture_that_the_camera_gave_is_not_drawn_on() -> None:
    before = NOISE.copy()
    Veil().over(NOISE, found((0.1, 0.1, 0.9, 0.9)), 0)
    assert (before == NOISE).all()


def test_what_counts_is_the_cameras_confidence_and_classes() -> None:
    boxes = Found(np.zeros((3, 4)), np.array([0.2, 0.4, 0.9]), np.array([0, 1, 1]), ("person", "car"))
    assert [score for _, score, _ in boxes.counting(0.3, ()).shown()] == [0.4, 0.9]
    assert [name for *_, name in boxes.counting(0.0, ["person"]).shown()] == ["person"]


def camera(name: str = "junction") -> CameraDeviceSpec:
    return CameraDeviceSpec.model_validate(
        {
            "name": "cam",
            "detector": "street-small",
            "lines": [{"name": name, "a": [0.0, 0.5], "b": [1.0, 0.5], "directions": ["down", "up"]}],
            "zones": [{"name": "all", "polygon": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]}],
            "masks": [[[0.0, 0.0], [0.2, 0.0], [0.0, 0.2]]],
            "ground": {
                "picture": [[0.1, 0.9], [0.9, 0.9], [0.6, 0.4], [0.4, 0.4]],
                "metres": [[-4, 5], [4, 5], [4, 25], [-4, 25]],
            },
        }
    )


def test_the_arrow_of_the_first_direction_points_to_the_right_hand_of_one_who_looks_from_a_to_b() -> None:
    picture = np.zeros((360, 640, 3), np.uint8)
    annotate(picture, camera(), [], Notes(["cam"]), grid=False)
    yellow = (picture == (0, 255, 255)).all(axis=2)
    first, second = yellow[:, 200:290], yellow[:, 360:440]
    # From left to right, the right hand is down the picture: y grows. Heads are wider than tails.
    assert first[181:].sum() > first[:175].sum()
    assert second[:175].sum() > second[181:].sum()


@pytest.mark.parametrize("name", ["路口", "x" * 40, "停止线" * 13])
def test_any_name_and_any_words_are_drawn_without_an_error(name: str) -> None:
    picture = np.zeros((90, 160, 3), np.uint8)
    words = ["cam", "OVEREXPOSED: turn it away from sun or lamp, lower the exposure, switch on WDR"]
    annotate(picture, camera(name), found((0.0, 0.0, 1.0, 1.0)).shown(), Notes(words, good=False), grid=True)
    assert picture.any()
    assert card((160, 90), ["cam", *words]).shape == (90, 160, 3)


def test_points_at_the_edges_are_inside_the_picture() -> None:
    pen = Pen(np.zeros((90, 160, 3), np.uint8))
    assert (pen.at((0.0, 0.0)), pen.at((1.0, 1.0))) == ((0, 0), (159, 89))


def test_names_of_the_configuration_are_text_on_the_page_and_never_markup() -> None:
    hostile = '<script src="//x"></script>{0}%s&'
    text = page(hostile, [hostile], "en", reveal=False).decode()
    assert "<script" not in text
    assert text.count("&lt;script src=&quot;//x&quot;&gt;&lt;/script&gt;{0}%s&amp;") == 3


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,zh;q=0.5", "en"),
        ("fr, ZH-TW;q=0.1", "zh"),
        (";,,;=", "en"),
    ],
)
def test_the_page_is_chinese_for_who_reads_chinese(accept: str, language: str) -> None:
    assert preferred(accept) == language
    assert f'lang="{language}"'.encode() in page("t", [], preferred(accept), reveal=True)

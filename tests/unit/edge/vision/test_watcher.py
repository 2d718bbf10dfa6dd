"""What a camera says of an interval, and what it says against it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from contract.readings import Quality, Reason, quality_of
from drivers.base_camera import CameraDeviceSpec
from edge.vision.counter import Counter
from edge.vision.geometry import Street
from edge.vision.measures import Measured
from edge.vision.reasons import CAMERA_BLIND, CAMERA_MOVED, NOBODY, NOT_SEEN, PARTIAL, TOO_FEW
from edge.vision.watcher import Watcher

SECOND = 10**9
START = 100 * SECOND
LINE = {"name": "line", "a": (0.5, 0.1), "b": (0.5, 0.9), "directions": ["left", "right"]}
ZONE = {"name": "zone", "polygon": [(0.3, 0.1), (0.7, 0.1), (0.7, 0.9), (0.3, 0.9)]}
GROUND = {"picture": [(0, 0), (1, 0), (1, 1), (0, 1)], "metres": [(0, 0), (32, 0), (32, 18), (0, 18)]}
AT_LINE = {"line": "line", "direction": "right"}
STREAMS = [
    {"name": "crossings", "measure": "crossings", **AT_LINE},
    {"name": "flow", "measure": "flow", **AT_LINE},
    {"name": "speed", "measure": "speed", **AT_LINE},
    {"name": "occupancy", "measure": "occupancy", "zone": "zone"},
    {"name": "most", "measure": "occupancy_max", "zone": "zone"},
    {"name": "queue", "measure": "queue", "zone": "zone"},
    {"name": "dwell", "measure": "dwell", "zone": "zone"},
    {"name": "coverage", "measure": "coverage"},
    {"name": "used", "measure": "frames_used"},
    {"name": "dropped", "measure": "frames_dropped"},
    {"name": "state", "measure": "camera_state"},
    {"name": "model", "measure": "model"},
]


def _spec(**more: Any) -> CameraDeviceSpec:
    made = {
        "name": "c",
        "detector": "m",
        "lines": [LINE],
        "zones": [ZONE],
        "ground": GROUND,
        "streams": STREAMS,
        **more,
    }
    return CameraDeviceSpec.model_validate(made)


def _counter(**more: Any) -> Counter:
    counter = Counter(_spec(**more), ["person", "car"], model="abc")
    counter.begin(START, START + 60 * SECOND)
    return counter


def _box(x: float, y: float = 0.5) -> list[float]:
    return [x - 0.05, y - 0.1, x + 0.05, y]


def _see(counter: Counter, at_s: float, places: Sequence[float], dropped: int = 0) -> None:
    boxes = np.array([_box(x) for x in places]).reshape(-1, 4)
    ones = np.ones(len(places), dtype=np.int64)
    counter.see(START + round(at_s * 1e9), boxes, np.full(len(places), 0.9), ones, dropped=dropped)


def _minute(counter: Counter, until_s: float = 60.0, *, cars: bool = True) -> dict[str, Measured]:
    """A car at 0.1 widths a second crosses the picture in each ten seconds; 5 looks a second."""
    for number in range(round(until_s * 5)):
        at_s = number / 5
        x = (at_s % 10) / 10
        _see(counter, at_s, [x] if cars and 0.06 < x < 0.94 else [])
    return _closed(counter)


def _closed(counter: Counter) -> dict[str, Measured]:
    return {one.stream: one for one in counter.close(START, START + 60 * SECOND)}


def _reason(measured: Measured) -> int:
    return measured.status & 0x3F


def test_a_whole_minute_says_what_happened() -> None:
    said = _minute(_counter())
    assert (said["crossings"].value, said["crossings"].status) == (6, 0)
    assert said["flow"].value == pytest.approx(360)
    assert said["speed"].value == pytest.approx(0.1 * 32 * 3.6, rel=0.02)
    assert said["occupancy"].value == pytest.approx(0.4, abs=0.03)
    assert said["most"].value == 1
    assert said["dwell"].value == pytest.approx(4.0, abs=0.3)
    assert (said["used"].value, said["model"].value, said["state"].value) == (300, "abc", "ok")
    assert said["coverage"].value == pytest.approx(1.0, abs=0.001)


def test_nobody_came_is_a_zero_and_a_mean_of_nobody_is_a_gap_that_says_so() -> None:
    said = _minute(_counter(), cars=False)
    assert (said["crossings"].value, said["crossings"].status) == (0, 0)
    for name in ("speed", "dwell"):
        assert said[name].value is None
        assert _reason(said[name]) == NOBODY


def test_a_half_seen_minute_is_uncertain_and_its_flow_is_over_what_was_seen() -> None:
    said = _minute(_counter(), until_s=30.0)
    assert said["coverage"].value == pytest.approx(0.5, abs=0.01)
    assert (said["crossings"].value, quality_of(said["crossings"].status)) == (3, Quality.UNCERTAIN)
    assert _reason(said["crossings"]) == PARTIAL
    assert said["flow"].value == pytest.approx(360, rel=0.02)


def test_an_unseen_minute_is_a_gap_with_its_reason_and_never_a_zero() -> None:
    counter = _counter()
    assert {_reason(one) for one in _closed(counter).values() if one.value is None} == {NOT_SEEN}
    counter = _counter()
    _see(counter, 0.2, [])
    counter.unseen(START + 60 * SECOND, Reason.TIMEOUT)
    said = _closed(counter)
    assert (said["crossings"].value, _reason(said["crossings"])) == (None, Reason.TIMEOUT)
    assert said["coverage"].value == 0


def test_looks_too_far_apart_did_not_see_what_was_between() -> None:
    counter = _counter()
    for at_s in (0.0, 0.2, 0.4, 30.0, 30.2):
        _see(counter, at_s, [], dropped=3 if at_s == 30 else 0)
    said = _closed(counter)
    assert said["coverage"].value == pytest.approx(0.6 / 60, abs=0.001)
    assert said["dropped"].value == 3


def test_few_are_hidden_and_none_are_not() -> None:
    few = _minute(_counter(hide_below=7))
    for name in ("crossings", "flow", "dwell", "occupancy"):
        assert (few[name].value, _reason(few[name])) == (None, TOO_FEW), name
    assert _minute(_counter(hide_below=6))["crossings"].value == 6
    assert _minute(_counter(hide_below=7), cars=False)["crossings"].value == 0


def test_what_is_made_of_a_hidden_count_is_hidden_with_it() -> None:
    """Only the count's own stream asks for it; a flow of six an hour, or the mean speed of two, would tell it."""

    def streams(least: int) -> list[dict[str, Any]]:
        return [
            {**one, **({"hide_below": least} if one["name"] in {"crossings", "occupancy"} else {})} for one in STREAMS
        ]

    few = _minute(_counter(streams=streams(7)))
    for name in ("crossings", "flow", "speed", "occupancy", "dwell"):
        assert (few[name].value, _reason(few[name])) == (None, TOO_FEW), name
    many = _minute(_counter(streams=streams(6)))
    assert many["flow"].value == pytest.approx(360, rel=0.02)
    assert many["speed"].value is not None


def test_a_camera_without_lines_or_zones_says_how_it_is() -> None:
    counter = Counter(CameraDeviceSpec.model_validate({"name": "c", "detector": "m"}), ["person", "car"])
    counter.begin(START, START + 10 * SECOND)
    for number in range(51):
        _see(counter, number / 5, [0.5])
    said = {one.stream: one for one in counter.close(START, START + 10 * SECOND)}
    assert said["coverage"].value == pytest.approx(1.0)


def test_a_parked_car_stays_counted_while_nothing_moves() -> None:
    counter = _counter()
    for number in range(10):
        _see(counter, number / 5, [0.5])
    for number in range(10, 300):
        counter.still(START + number * SECOND // 5)
    said = _closed(counter)
    assert said["occupancy"].value == pytest.approx(1.0, abs=0.02)
    assert said["queue"].value == pytest.approx(1.0, abs=0.06)
    assert said["coverage"].value == pytest.approx(1.0)
    assert said["occupancy"].status == 0


def test_a_minute_may_be_closed_late() -> None:
    counter = _counter()
    for number in range(310):
        at_s = number / 5
        x = (at_s % 10) / 10
        _see(counter, at_s, [x] if 0.06 < x < 0.94 else [])
    assert {one.stream: one.value for one in counter.close(START, START + 60 * SECOND)}["used"] == 300
    later = {one.stream: one for one in counter.close(START + 60 * SECOND, START + 120 * SECOND)}
    assert later["used"].value == 10
    assert later["coverage"].value == pytest.approx(1.8 / 60, abs=0.02)


def test_classes_that_nobody_asked_for_are_not_counted() -> None:
    said = _minute(_counter(classes=["person"]))
    assert said["crossings"].value == 0


def _street(seed: int, shift: int = 0, noise: float = 1.5) -> np.ndarray:
    """A still street of walls and kerbs."""
    rng = np.random.default_rng(7)
    picture = np.full((180, 460), 90.0)
    for _ in range(60):
        x, y = rng.integers(0, 440), rng.integers(0, 170)
        picture[y : y + rng.integers(4, 60), x : x + rng.integers(4, 60)] = rng.uniform(30, 200)
    cut = picture[:, 70 + shift : 390 + shift] + np.random.default_rng(seed).normal(0, noise, (180, 320))
    return np.clip(cut, 0, 255).astype(np.uint8)


def _run(watcher: Watcher, from_s: float, to_s: float, picture: Any) -> int:
    """Glances twice a second; how many asked for a detector."""
    asked = 0
    for number in range(round(from_s * 2), round(to_s * 2)):
        time_ns = START + number * SECOND // 2
        if watcher.glance(time_ns, picture(number)):
            asked += 1
            watcher.see(time_ns, np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))
    return asked


def _watcher() -> Watcher:
    watcher = Watcher(_spec(fps=2), ["person", "car"])
    watcher.begin(START, START + 60 * SECOND)
    _run(watcher, 0, 40, _street)
    assert watcher.health.verdict.state == "ok"
    return watcher


def test_a_black_camera_is_a_gap_from_the_moment_it_went_black() -> None:
    watcher = _watcher()
    _run(watcher, 40, 60, lambda _: np.full((180, 320), 16, dtype=np.uint8))
    said = {one.stream: one for one in watcher.close(START, START + 60 * SECOND)}
    assert said["coverage"].value == pytest.approx(40 / 60, abs=0.02)
    assert said["state"].value == "black"
    watcher.close(START + 60 * SECOND, START + 61 * SECOND)
    _run(watcher, 61, 62, lambda _: np.full((180, 320), 16, dtype=np.uint8))
    next_second = {one.stream: one for one in watcher.close(START + 61 * SECOND, START + 62 * SECOND)}
    assert (next_second["crossings"].value, _reason(next_second["crossings"])) == (None, CAMERA_BLIND)


def test_a_frozen_picture_takes_its_time_back_and_a_still_street_does_not() -> None:
    watcher = _watcher()
    _run(watcher, 40, 60, lambda _: _street(79))
    _run(watcher, 60, 62, lambda _: _street(79))
    assert watcher.health.verdict.state == "frozen"
    said = {one.stream: one for one in watcher.close(START, START + 60 * SECOND)}
    assert said["coverage"].value == pytest.approx(39.5 / 60, abs=0.02)
    still = _watcher()
    _run(still, 40, 200, lambda number: _street(number // 8))  # a key frame each 4 s, bit-identical between
    assert still.health.verdict.state == "ok"


def test_a_picture_that_freezes_before_the_encoder_is_found() -> None:
    """Its key frames are other pictures than those between, again and again the same ones."""
    watcher = _watcher()
    _run(watcher, 40, 62, lambda number: _street(9001 if number % 8 == 0 else 9002))
    assert watcher.health.verdict.state == "frozen"


def test_the_first_picture_after_an_outage_may_be_one_from_before_it() -> None:
    """It may reach the eye before the word that the camera is back."""
    watcher = _watcher()
    _run(watcher, 40, 82, lambda _: _street(79))
    assert watcher.health.verdict.state == "frozen"
    _run(watcher, 130, 131, lambda _: _street(79))
    assert watcher.health.verdict.state == "ok"
    _run(watcher, 131, 155, lambda _: _street(79))
    assert watcher.health.verdict.state == "frozen", "a camera that came back frozen is found"


def test_a_moved_camera_makes_counts_uncertain_until_it_is_confirmed() -> None:
    watcher = _watcher()
    _run(watcher, 40, 70, lambda number: _street(number, shift=10))
    assert watcher.health.verdict.state == "moved"
    said = {one.stream: one for one in watcher.close(START, START + 60 * SECOND)}
    assert (quality_of(said["crossings"].status), _reason(said["crossings"])) == (Quality.UNCERTAIN, CAMERA_MOVED)
    watcher.confirm()
    _run(watcher, 70, 110, lambda number: _street(number, shift=10))
    assert watcher.health.verdict.state == "ok"


def test_a_camera_that_was_put_back_is_right_again() -> None:
    watcher = _watcher()
    _run(watcher, 40, 70, lambda number: _street(number, shift=-12))
    _run(watcher, 70, 150, _street)
    assert watcher.health.verdict.state == "ok"


def test_when_nothing_moves_few_looks_need_a_detector() -> None:
    watcher = Watcher(_spec(fps=5), ["person", "car"])
    watcher.begin(START, START + 60 * SECOND)
    asked = _run(watcher, 0, 100, _street)
    assert 45 <= asked <= 60


@pytest.mark.parametrize("bend", [0.0, 0.3])
def test_the_street_is_measured_in_metres_and_nothing_above_the_horizon(bend: float) -> None:
    spec = _spec(
        ground={
            "picture": [(0.2 + bend * 0.2, 0.4), (0.8 - bend * 0.2, 0.4), (1, 1), (0, 1)],
            "metres": [(0, 20), (10, 20), (10, 0), (0, 0)],
        }
    )
    assert spec.ground is not None
    street = Street(spec.ground, 16 / 9)
    corners = np.array(spec.ground.picture) * (16 / 9, 1)
    assert street.metres(corners) == pytest.approx(np.array(spec.ground.metres), abs=1e-6)
    assert all(math.isnan(value) for value in street.metres(np.array([[0.5, -2.0]]))[0])

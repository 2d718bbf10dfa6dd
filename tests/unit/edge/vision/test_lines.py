"""What a counting line must never do: the mistakes of others, one by one."""

from collections.abc import Sequence

import numpy as np
import pytest

from drivers.base_camera import CameraDeviceSpec
from edge.vision.counter import Counter
from edge.vision.lines import Crossing

LINE = {"name": "line", "a": (0.5, 0.2), "b": (0.5, 0.8), "directions": ["left", "right"]}
SIZE = np.array([0.06, 0.08])


def _spec(**more: object) -> CameraDeviceSpec:
    stream = {"name": "n", "measure": "crossings", "line": "line", "direction": "left"}
    made = {"name": "c", "detector": "m", "lines": [LINE], "streams": [stream], **more}
    return CameraDeviceSpec.model_validate(made)


def _box(x: float, y: float) -> list[float]:
    """A box whose bottom's middle is at (x, y)."""
    return [x - SIZE[0] / 2, y - SIZE[1], x + SIZE[0] / 2, y]


def _watch(
    path: Sequence[tuple[float, float]], *, fps: float = 5.0, tremble: float = 0.0, seed: int = 0, missed: float = 0.0
) -> list[Crossing]:
    """The crossings of one car that is at these places, look by look."""
    rng = np.random.default_rng(seed)
    counter, found = Counter(_spec(), ["car"]), []
    for number, (x, y) in enumerate(path):
        box = np.array([_box(x, y)]) + rng.normal(0, 1, (1, 4)) * tremble * np.tile(SIZE, 2)
        if rng.random() < missed:
            box = box[:0]
        time_ns = 10**9 + round(number / fps * 1e9)
        found += counter.see(time_ns, box, np.full(len(box), 0.9), np.zeros(len(box), dtype=np.int64))
    return found


def _drive(begin: float, end: float, looks: int, y: float = 0.5) -> list[tuple[float, float]]:
    return [(x, y) for x in np.linspace(begin, end, looks).tolist()]


def test_a_car_is_counted_once_in_its_direction_at_its_time() -> None:
    found = _watch(_drive(0.3, 0.7, 21))
    assert [one.direction for one in found] == [1]
    assert (found[0].time_ns - 10**9) * 1e-9 == pytest.approx(2.0, abs=0.05)
    assert [one.direction for one in _watch(_drive(0.7, 0.3, 21))] == [0]


def test_the_first_direction_goes_from_the_left_hand_to_the_right_hand() -> None:
    """Who stands at a, above, and looks at b, below, has the right of the picture on the left hand."""
    assert _watch(_drive(0.7, 0.3, 21))[0].direction == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_car_that_trembles_on_the_line_for_a_minute_is_counted_once(seed: int) -> None:
    stop = [*_drive(0.3, 0.497, 15), *[(0.5, 0.5)] * 300, *_drive(0.503, 0.7, 15)]
    found = _watch(stop, tremble=0.03, seed=seed, missed=0.1)
    assert [one.direction for one in found] == [1]


@pytest.mark.parametrize("seed", range(4))
def test_a_car_that_stops_before_the_line_and_trembles_is_not_counted(seed: int) -> None:
    stop = [*_drive(0.3, 0.492, 15), *[(0.492, 0.5)] * 300, *_drive(0.492, 0.3, 15)]
    assert _watch(stop, tremble=0.03, seed=seed) == []


def test_a_turn_before_the_line_counts_nothing_and_one_behind_it_counts_both() -> None:
    assert _watch([*_drive(0.3, 0.47, 12), *_drive(0.47, 0.3, 12)]) == []
    both = _watch([*_drive(0.3, 0.56, 16), *_drive(0.56, 0.3, 16)])
    assert [one.direction for one in both] == [1, 0]


def test_passing_beyond_the_end_of_the_line_counts_nothing() -> None:
    assert _watch(_drive(0.3, 0.7, 21, y=0.9)) == []
    around = [*_drive(0.4, 0.4, 3, y=0.7), *_drive(0.4, 0.6, 9, y=0.95), *_drive(0.6, 0.6, 3, y=0.7)]
    assert _watch(around) == []


def test_who_walks_along_the_line_is_not_counted() -> None:
    along = [(0.515, y) for y in np.linspace(0.25, 0.75, 60).tolist()]
    assert _watch(along, tremble=0.03) == []


@pytest.mark.parametrize("fps", [2.0, 5.0, 15.0, 30.0])
def test_any_rate_of_frames_counts_the_same(fps: float) -> None:
    found = _watch(_drive(0.2, 0.8, round(4 * fps) + 1), fps=fps, tremble=0.02)
    assert [one.direction for one in found] == [1]
    assert (found[0].time_ns - 10**9) * 1e-9 == pytest.approx(2.0, abs=0.15)


def test_a_car_that_stops_just_behind_the_line_crossed_when_it_came() -> None:
    found = _watch([*_drive(0.3, 0.504, 15), *[(0.504, 0.5)] * 200, *_drive(0.506, 0.7, 15)])
    assert len(found) == 1
    assert (found[0].time_ns - 10**9) * 1e-9 < 3.5


def test_crossing_while_the_track_was_not_yet_sure_is_made_up_for() -> None:
    assert [one.direction for one in _watch(_drive(0.47, 0.75, 8))] == [1]

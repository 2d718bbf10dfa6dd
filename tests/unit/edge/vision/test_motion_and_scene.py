import json
import time

import numpy as np
import pytest

from edge.vision.health import CameraHealth, CameraState, View
from edge.vision.motion import MotionGate
from edge.vision.scene import PROFILE_LENGTH, features, likeness

SECOND = 10**9


def _night(seed: int, noise: float = 4.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    picture = np.repeat(np.repeat(rng.uniform(20, 120, (12, 20)), 15, axis=0), 16, axis=1)
    return np.clip(picture + np.random.default_rng(seed).normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def _with_person(picture: np.ndarray, x: int) -> np.ndarray:
    """A person of two points by seven, 40 grey levels off."""
    changed = picture.astype(np.int64)
    changed[80:87, x : x + 2] += 40
    return np.clip(changed, 0, 255).astype(np.uint8)


def test_noise_lets_the_gate_sleep_and_a_forced_look_comes() -> None:
    gate = MotionGate()
    opened = [gate.open(number * SECOND // 5 + SECOND, _night(number)) for number in range(300)]
    assert sum(opened[50:]) == pytest.approx(25, abs=3)
    assert max(np.diff(np.flatnonzero(opened))) <= 10


def test_a_slow_small_pedestrian_opens_it() -> None:
    gate = MotionGate()
    for number in range(60):
        gate.open(number * SECOND // 5 + SECOND, _night(number, 1.5))
    opened = [
        gate.open((60 + number) * SECOND // 5 + SECOND, _with_person(_night(60 + number, 1.5), 100 + number // 4))
        for number in range(60)
    ]
    assert sum(opened) > 50


def test_the_gate_costs_less_than_the_facts_allow() -> None:
    gate, pictures = MotionGate(), [_night(number) for number in range(10)]
    began = time.process_time()
    for number in range(400):
        gate.open(number * SECOND, pictures[number % 10])
    assert (time.process_time() - began) / 400 * 1e3 < 0.055 * 4  # others use this machine too


@pytest.mark.parametrize(("across", "down"), [(8, 0), (-14, 4), (0, -6), (40, 8)])
def test_a_shift_is_found_and_measured(across: int, down: int) -> None:
    rng = np.random.default_rng(5)
    large = np.zeros((300, 460))
    for _ in range(90):
        x, y = rng.integers(0, 440), rng.integers(0, 280)
        large[y : y + rng.integers(4, 60), x : x + rng.integers(4, 60)] = rng.uniform(30, 220)
    here = large[60:240, 70:390].astype(np.uint8)
    there = large[60 + down : 240 + down, 70 + across : 390 + across].astype(np.uint8)
    found = likeness(features(there).profile, features(here).profile)
    assert (found.across, found.down) == (-across, -down)
    assert found.best - found.here > 0.05


def test_a_view_goes_to_a_file_as_small_numbers_and_comes_back() -> None:
    health = CameraHealth()
    for number in range(80):
        health.look(SECOND + number * SECOND // 2, _night(number))
    assert health.view is not None
    text = json.dumps(health.view.to_numbers())
    assert len(text) < 10_000
    back = CameraHealth(View.from_numbers(json.loads(text)))
    for number in range(40):
        verdict = back.look(SECOND + number * SECOND // 2, _night(1000 + number))
    assert verdict.state is CameraState.OK
    with pytest.raises(ValueError, match=f"expected {PROFILE_LENGTH} numbers"):
        View.from_numbers({"anchor": [1, 2, 3]})


def test_a_learned_view_holds_no_moment() -> None:
    """Somebody who stood there for a second of the half minute is a thirtieth of an edge: less than a rounding."""
    alone, visited = CameraHealth(), CameraHealth()
    for number in range(80):
        picture = _night(number, 1.0)
        alone.look(SECOND + number * SECOND // 2, picture)
        visited.look(SECOND + number * SECOND // 2, _with_person(picture, 100) if number in {20, 21} else picture)
    assert alone.view is not None
    assert visited.view is not None
    assert np.abs(alone.view.anchor - visited.view.anchor).max() < 0.5


def test_a_clock_that_jumps_is_wrong_and_a_new_connection_may_have_another() -> None:
    health = CameraHealth()
    for number in range(40):
        offset_s = 0 if number < 20 else 3600
        verdict = health.look(SECOND + number * SECOND, _night(number), SECOND * (5 + number + offset_s))
    assert verdict.state is CameraState.CLOCK
    fresh = CameraHealth()
    for number in range(40):
        if number == 20:
            fresh.reconnected()
        verdict = fresh.look(SECOND + number * SECOND, _night(number), SECOND * (5 + number + 3600 * (number >= 20)))
    assert verdict.state is CameraState.OK

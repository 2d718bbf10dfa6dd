"""The stream's clock against ours, on made-up arrivals."""

import random
from collections.abc import Callable

import pytest

from drivers.camera_clock import SECOND, StreamTime

MS = 1_000_000
START = 1000 * SECOND


def play(
    seconds: float,
    stream_of: Callable[[float], float],
    late_of: Callable[[float], float] = lambda _t: 0.0,
    fps: float = 15.0,
) -> tuple[StreamTime, list[tuple[float, int]]]:
    """Frames taken every 1 / fps; the clock, and when each was taken and was said to be taken (relative ns)."""
    clock, said, last = StreamTime(), [], 0
    for number in range(int(seconds * fps)):
        taken_s = number / fps
        arrived = max(START + round((taken_s + late_of(taken_s)) * SECOND), last + 1)
        last = arrived
        when = clock.when(arrived, round(stream_of(taken_s) * SECOND))
        assert when <= arrived
        said.append((taken_s, when - START))
    return clock, said


def test_jitter_of_the_network_does_not_reach_the_times() -> None:
    rng = random.Random(4)
    clock, said = play(30, lambda t: t + 5, lambda _t: 0.02 + rng.random() * 0.05)
    errors_ms = [abs(when / MS - (taken * 1000 + 20)) for taken, when in said if taken > 3]
    assert max(errors_ms) < 5
    assert clock.known
    assert (clock.jumps, clock.wrong(START + 30 * SECOND)) == (0, False)
    assert clock.rate == pytest.approx(1.0, abs=0.002)


def test_times_always_rise() -> None:
    rng = random.Random(5)
    _, said = play(20, lambda t: t + 5 + rng.choice([0, 0, 3, -4]), lambda _t: rng.random() * 0.3)
    whens = [when for _, when in said]
    assert whens == sorted(set(whens))


@pytest.mark.parametrize("rate", [0.9, 1.1, 0.5, 2.0])
def test_a_clock_of_another_speed_is_found_and_not_followed(rate: float) -> None:
    clock, said = play(20, lambda t: 5 + t * rate)
    assert clock.wrong(START + 20 * SECOND)
    assert clock.rate == pytest.approx(rate, abs=0.02)
    assert all(when == round(taken * SECOND) for taken, when in said if taken > 8)


@pytest.mark.parametrize("jump", [-3600, -2, 2, 3600])
def test_a_jump_is_counted_once_and_forgiven_after_a_minute(jump: float) -> None:
    clock, said = play(100, lambda t: 4000 + t + (jump if t > 20 else 0))
    assert clock.jumps == 1
    assert not clock.wrong(START + 100 * SECOND)
    assert all(abs(when - taken * SECOND) < MS for taken, when in said)
    clock, _ = play(40, lambda t: 4000 + t + (jump if t > 20 else 0))
    assert clock.wrong(START + 40 * SECOND)


def test_a_stall_of_the_network_is_no_jump() -> None:
    clock, said = play(60, lambda t: t + 5, lambda t: max(0.0, 22.5 - t) if 20 < t < 22.5 else 0.0)
    assert clock.jumps == 0
    assert not clock.wrong(START + 60 * SECOND)
    assert max(abs(when - taken * SECOND) for taken, when in said) < 0.6 * SECOND  # arrivals are off by up to 2.5 s


def test_old_pictures_at_the_start_are_no_jump() -> None:
    clock, _ = play(20, lambda t: t + 5, lambda t: max(0.0, 2 - 2 * t))
    assert (clock.jumps, clock.wrong(START + 20 * SECOND)) == (0, False)


def test_without_a_clock_the_arrival_counts() -> None:
    clock, said = play(10, lambda _t: 0, lambda t: 0.01 if round(t * 15) % 2 else 0.0)
    assert not clock.known
    assert not clock.wrong(START + 10 * SECOND)
    assert said[1][1] == round((1 / 15 + 0.01) * SECOND)

import time

import numpy as np
import pytest

from edge.vision.tracks import Step, Tracker, TrackerSettings

SECOND = 10**9


def _see(
    tracker: Tracker, at_s: float, *boxes: tuple[float, float, float, float], kinds: list[int] | None = None
) -> Step:
    return tracker.step(
        SECOND + round(at_s * 1e9),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.full(len(boxes), 0.8),
        np.array(kinds or [0] * len(boxes), dtype=np.int64),
    )


def _at(x: float, y: float = 0.5, width: float = 0.1, height: float = 0.1) -> tuple[float, float, float, float]:
    return x - width / 2, y - height, x + width / 2, y


def _tracker(**settings: float) -> Tracker:
    return Tracker(3, aspect=1.6, settings=TrackerSettings(**settings))  # type: ignore[arg-type]


def test_one_thing_keeps_its_number_through_dropped_frames() -> None:
    tracker = _tracker()
    for at_s in (0.0, 0.2, 0.4, 0.6, 1.4, 1.6, 2.4):
        _see(tracker, at_s, _at(0.2 + 0.4 * at_s))
    assert [(track.number, track.hits) for track in tracker.tracks] == [(1, 7)]


def test_a_false_box_alone_never_counts() -> None:
    tracker = _tracker()
    _see(tracker, 0.0, _at(0.5))
    for number in range(1, 10):
        _see(tracker, number * 0.2)
    assert tracker.tracks == []


def test_two_that_meet_and_part_keep_their_numbers() -> None:
    tracker = _tracker()
    for number in range(31):
        at_s = number * 0.2
        _see(tracker, at_s, _at(0.2 + 0.15 * at_s, 0.50), _at(1.1 - 0.15 * at_s, 0.56))
    places = {
        track.number: round(float(place[0]), 1) for track, place in zip(tracker.tracks, tracker.place, strict=True)
    }
    assert places == {1: 1.1, 2: 0.2}


def test_the_class_is_voted_and_two_boxes_of_one_thing_are_one() -> None:
    tracker = _tracker()
    for number in range(12):
        kinds = [2 if number % 4 == 0 else 1]
        _see(tracker, number * 0.2, _at(0.5), kinds=kinds)
    _see(tracker, 2.4, _at(0.5), _at(0.502), kinds=[1, 2])
    assert [track.kind for track in tracker.tracks] == [1]


def test_a_thing_that_goes_away_is_expected_where_perspective_puts_it() -> None:
    """12 m/s from 15 m on: in the picture it slows down; a straight guess would be a width off after 0.6 s."""
    tracker = _tracker()

    def seen(at_s: float) -> tuple[float, float, float, float]:
        far = 15 + 12 * at_s
        return _at(0.3 + 8 / far, 0.1 + 7 / far, 2 / far, 1.8 / far)

    for number in range(8):
        _see(tracker, number * 0.2, seen(number * 0.2))
    _see(tracker, 2.0)
    want = np.array(seen(2.0))
    assert np.abs(tracker.boxes()[0] - want).max() < 0.2 * (want[2] - want[0])


def test_what_stands_waits_longer_than_what_moves() -> None:
    tracker = _tracker()
    for number in range(10):
        _see(tracker, number * 0.2, _at(0.3), _at(0.6 + 0.05 * number, 0.9))
    _see(tracker, 4.0)
    assert [track.number for track in tracker.tracks] == [1]
    _see(tracker, 8.0)
    assert tracker.tracks == []


def test_while_nothing_moves_everything_stays() -> None:
    tracker = _tracker()
    for number in range(5):
        _see(tracker, number * 0.2, _at(0.3))
    for second in range(2, 600):
        tracker.hold(SECOND + second * SECOND)
    _see(tracker, 600.0, _at(0.3))
    assert [(track.number, track.hits) for track in tracker.tracks] == [(1, 6)]
    assert bool(tracker.standing()[0])


def test_state_is_bounded_and_what_is_dropped_is_counted() -> None:
    tracker = _tracker(max_tracks=16)
    spots = [_at(0.05 + 0.1 * column, 0.15 + 0.2 * row, 0.05, 0.08) for row in range(4) for column in range(15)]
    for number in range(4):
        _see(tracker, number * 0.2, *spots)
    assert len(tracker.tracks) == 16
    assert tracker.dropped >= 44
    assert all(len(track.path) <= 64 for track in tracker.tracks)


def test_an_older_look_changes_nothing() -> None:
    tracker = _tracker()
    _see(tracker, 1.0, _at(0.3))
    _see(tracker, 0.5, _at(0.9))
    assert len(tracker.tracks) == 1


def test_twenty_things_cost_less_than_a_tenth_of_a_frame() -> None:
    """Loops over boxes times tracks would show here; the bound is loose for a busy machine."""
    tracker = _tracker()
    rng = np.random.default_rng(1)
    spots = [_at(0.1 + 0.3 * (n % 5), 0.2 + 0.2 * (n // 5), 0.08, 0.08) for n in range(20)]
    began = time.process_time()
    for number in range(50):
        boxes = [tuple(np.array(spot) + rng.normal(0, 0.001, 4)) for spot in spots]
        _see(tracker, number * 0.2, *boxes)
    assert len(tracker.tracks) == 20
    assert (time.process_time() - began) / 50 * 1e3 < 15


@pytest.mark.parametrize("dt", [1 / 30, 0.2, 1.0])
def test_speed_is_per_second_whatever_the_rate(dt: float) -> None:
    tracker = Tracker(1, aspect=1.6, fps=1 / dt)
    for number in range(max(6, round(3 / dt))):
        _see(tracker, number * dt, _at(0.2 + 0.05 * number * dt))
    assert tracker.drift[0, 0] == pytest.approx(0.05, rel=0.25)

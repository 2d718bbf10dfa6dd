"""The window of frames under way, and the wait before the next attempt."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.flights import PATIENCE_MAX_S, UNCONFIRMED_BYTES, Backoff, Flights, merged


def flights(window: int = 8, *, sent: int = 0, ack_timeout_s: float = 10, boot: int = 1) -> Flights:
    made = Flights(window, ack_timeout_s)
    for sequence in range(sent):
        made.sent(sequence, boot, 5, 100)
        made.confirmed(sequence, 100, 0.0)
    return made


def test_the_backlog_leaves_a_quarter_of_the_window_to_live_frames() -> None:
    assert flights(8, sent=5).room(backlog=True)
    assert not flights(8, sent=6).room(backlog=True)
    assert flights(8, sent=7).room(backlog=False)
    assert not flights(8, sent=8).room(backlog=False)
    assert flights(1).room(backlog=True), "a window of one still lets the backlog drain"


def test_what_the_broker_has_not_confirmed_is_bounded_in_bytes_and_never_late() -> None:
    made = flights(100)
    made.sent(1, 1, 5, UNCONFIRMED_BYTES + 1)
    assert not made.room(backlog=False)
    assert made.late(1e9) == []
    made.confirmed(1, UNCONFIRMED_BYTES + 1, 1e9)
    assert made.room(backlog=False)
    assert made.late(1e9 + 11) == [1]


def test_patience_doubles_while_nobody_answers_and_is_bounded_for_ever() -> None:
    made = flights(4)
    patience, now_s = [], 0.0
    for _ in range(5000):  # days of silence
        made.sent(1, 1, 5, 100)
        made.confirmed(1, 100, now_s)
        patience.append(made.patience_s)
        now_s += made.patience_s + 0.001
        assert made.late(now_s) == [1]
    assert patience[:5] == [10, 20, 40, 60, 60]
    assert max(patience) == PATIENCE_MAX_S


def test_frames_that_are_late_together_double_patience_once() -> None:
    made = flights(8, sent=4)
    made.confirmed(3, 0, 1.0)
    assert sorted(made.late(10.5)) == [0, 1, 2]
    assert made.patience_s == 20
    assert made.late(11.5) == [3]
    assert made.patience_s == 20


def test_the_first_answer_after_a_silence_ends_the_long_waits() -> None:
    made = flights(8, sent=1)
    now_s = 0.0
    for _ in range(4):
        now_s += 100
        made.late(now_s)
        for sequence in (0, 1):
            made.sent(sequence, 1, 5, 100)
            made.confirmed(sequence, 100, now_s)
    assert made.patience_s == 60
    assert made.landed(1, [(0, 0)], now_s + 1) == 1
    assert made.patience_s == 10
    assert made.late(now_s + 12) == [1]


def test_an_acknowledgement_of_another_boot_lands_nothing() -> None:
    made = flights(8, sent=3, boot=1)
    assert made.landed(2, [(0, 2**70)], 0.0) == 0
    assert len(made) == 3
    assert made.of_epoch(1, 5) == [0, 1, 2]
    assert made.of_epoch(2, 5) == made.of_epoch(1, 6) == []


def test_a_confirmation_that_comes_after_the_acknowledgement_gives_the_bytes_back() -> None:
    made = flights(8)
    made.sent(1, 1, 5, UNCONFIRMED_BYTES)
    assert made.landed(1, [(1, 1)], 0.0) == 1
    assert not made.room(backlog=False)
    made.confirmed(1, UNCONFIRMED_BYTES, 0.0)
    assert made.room(backlog=False)
    assert 1 not in made


RANGES = st.lists(
    st.tuples(st.integers(-5, 40), st.integers(-5, 40)).map(lambda pair: (min(pair), max(pair))), max_size=12
)


@given(RANGES)
def test_landed_takes_exactly_what_the_ranges_name(ranges: list[tuple[int, int]]) -> None:
    made = flights(100, sent=30)
    named = {number for low, high in ranges for number in range(low, high + 1)} & set(range(30))
    assert made.landed(1, ranges, 0.0) == len(named)
    assert {number for number in range(30) if number in made} == set(range(30)) - named


@given(RANGES)
def test_merged_ranges_name_the_same_numbers_once(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert [number for low, high in found for number in range(low, high + 1)] == sorted(
        {number for low, high in ranges for number in range(low, high + 1)}
    )
    assert all(later[0] > sooner[1] + 1 for sooner, later in pairwise(found))


@pytest.mark.parametrize("max_s", [0.05, 2, 60])
def test_reconnects_are_spread_and_bounded(max_s: float) -> None:
    lasts = []
    for _ in range(200):
        backoff = Backoff(max_s)
        waits = [backoff.next_s() for _ in range(12)]
        assert waits[0] <= 0.5
        assert all(0 < wait_s <= max_s for wait_s in waits)
        lasts.append(waits[-1])
    assert min(lasts) < max_s * 0.2 or max_s < 1, "full jitter: a thousand gateways must not come back together"


def test_a_connection_that_held_ends_the_long_waits() -> None:
    backoff = Backoff(60)
    for _ in range(20):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.5

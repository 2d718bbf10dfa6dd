"""Who may open the technician's page: the password's holder, for a while; whoever guesses waits."""

import pytest

from edge.page.login import (
    FIRST_WAIT_S,
    FREE_GUESSES,
    GUESSES_A_MINUTE,
    LONGEST_WAIT_S,
    MAX_GUESSERS,
    MAX_SESSIONS,
    Door,
    Sessions,
)


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_login_counts_until_its_time_is_over_or_it_is_ended() -> None:
    clock = Clock()
    sessions = Sessions(60, clock)
    one, two = sessions.begin(), sessions.begin()
    assert sessions.knows(one)
    sessions.end(one)
    assert not sessions.knows(one)
    assert sessions.knows(two)
    clock.now += 60
    assert not sessions.knows(two)


def test_the_oldest_login_ends_when_there_are_too_many() -> None:
    sessions = Sessions(60, Clock())
    cookies = [sessions.begin() for _ in range(MAX_SESSIONS + 1)]
    assert [sessions.knows(cookie) for cookie in cookies] == [False] + [True] * MAX_SESSIONS


@pytest.mark.parametrize("cookie", ["", ".", "x.y", "é.é", "A" * 100_000])
def test_no_other_cookie_counts(cookie: str) -> None:
    sessions = Sessions(60, Clock())
    good = sessions.begin()
    assert not sessions.knows(cookie)
    assert not sessions.knows(good[:-1])
    assert not sessions.knows(Sessions(60, Clock()).begin()), "another process's"


def test_a_form_is_trusted_from_its_own_login_alone() -> None:
    sessions = Sessions(60, Clock())
    one, two = sessions.begin(), sessions.begin()
    assert sessions.trusts(one, sessions.form_token(one))
    assert not sessions.trusts(one, sessions.form_token(two))
    assert not sessions.trusts(one, "")


def test_the_password_opens_and_wrong_ones_make_their_address_wait() -> None:
    clock = Clock()
    door = Door("let me in, please", clock)
    assert door.opens("a", "let me in, please")
    for _ in range(FREE_GUESSES):
        assert door.wait_s("a") == 0
        assert not door.opens("a", "guess")
    assert door.wait_s("a") == FIRST_WAIT_S
    assert not door.opens("a", "let me in, please"), "not while it has to wait"
    assert door.opens("b", "let me in, please"), "somebody else is not kept out"
    clock.now += FIRST_WAIT_S
    assert not door.opens("a", "guess")
    assert door.wait_s("a") == 2 * FIRST_WAIT_S
    clock.now += LONGEST_WAIT_S
    assert door.opens("a", "let me in, please")
    assert door.wait_s("a") == 0


def test_many_addresses_together_get_no_more_guesses_and_no_more_memory() -> None:
    clock = Clock()
    door = Door("let me in, please", clock)
    tried = 0
    for number in range(10 * MAX_GUESSERS):
        who = f"fe80::{number:x}"
        if door.wait_s(who) == 0:
            tried += 1
            door.opens(who, "guess")
    assert tried == GUESSES_A_MINUTE
    clock.now += 61
    assert door.opens("fe80::1", "let me in, please")

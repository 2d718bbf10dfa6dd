import math

import pytest

from hardware_sim.faults import Chance, Fault, Faults, Kind, Plan, Planned, Rate

TIMEOUT = Fault(Kind.TIMEOUT)


def test_a_planned_fault_comes_and_goes_on_time() -> None:
    faults = Faults("d", plans=[Planned(TIMEOUT, 10, 5)])
    assert [faults.wire(now) for now in (0, 9.99)] == [None, None]
    assert [faults.wire(now) for now in (10, 14.99)] == [TIMEOUT, TIMEOUT]
    assert faults.wire(15) is None
    assert faults.begun == {Kind.TIMEOUT: 1}


def test_a_short_fault_is_counted_even_when_nobody_looked() -> None:
    faults = Faults("d", plans=[Planned(TIMEOUT, 10, 1)])
    assert faults.wire(100) is None
    assert faults.begun == {Kind.TIMEOUT: 1}


def history(faults: Faults) -> list[bool]:
    return [faults.wire(now) is not None for now in range(0, 36_000, 2)]


def test_random_faults_are_as_many_as_told_and_the_same_for_one_seed() -> None:
    plans: list[Plan] = [Rate(TIMEOUT, per_hour=30, seconds=(5, 15))]
    one = Faults("d", 1, plans)
    first = history(one)
    assert history(Faults("d", 1, plans)) == first
    assert history(Faults("d", 2, plans)) != first
    assert history(Faults("e", 1, plans)) != first
    assert 180 <= one.begun[Kind.TIMEOUT] <= 380  # 300 less the time that faults take themselves
    assert 0.03 < sum(first) / len(first) < 0.15


def test_one_random_fault_does_not_shift_another() -> None:
    timeouts = Rate(TIMEOUT, 20, (5, 5))
    alone = history(Faults("d", 1, [timeouts]))
    beside = Faults("d", 1, [timeouts, Rate(Fault(Kind.FROZEN), 50, (1, 9))])
    assert history(beside) == alone


def test_chance_spoils_its_share_of_answers() -> None:
    faults = Faults("d", 3, [Chance(Fault(Kind.CRC_ERROR), 0.1)])
    hits = sum(faults.wire(0) is not None for _ in range(5000))
    assert hits == pytest.approx(500, rel=0.2)
    assert faults.begun == {Kind.CRC_ERROR: hits}


def test_an_injected_fault_lasts_until_cleared() -> None:
    faults = Faults("d")
    faults.inject(TIMEOUT, 5)
    assert faults.wire(1e6) is TIMEOUT
    faults.clear(1e6)
    assert faults.wire(1e6) is None


def test_the_oldest_wire_fault_wins_and_value_faults_stay_off_the_wire() -> None:
    faults = Faults("d")
    faults.inject(Fault(Kind.NAN), 0)
    assert faults.wire(1) is None
    faults.inject(Fault(Kind.PARTIAL), 1, 10)
    faults.inject(TIMEOUT, 2, math.inf)
    first, then = faults.wire(3), faults.wire(12)
    assert first is not None
    assert first.kind is Kind.PARTIAL
    assert then is TIMEOUT


def test_down_while_disconnected() -> None:
    faults = Faults("d")
    faults.inject(Fault(Kind.DISCONNECT), 0, 3)
    assert [faults.down(now) for now in (0, 2.9, 3)] == [True, True, False]
    assert faults.wire(1) is None

"""Clock trust: dating, drift, steps, eras."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from virtual_clock import SECOND, START_NS, VirtualClock, run

from edge.clock import BUILT_NS, TrustedClock, ntp_source, system_source

MS = 1_000_000


def trusted(clock: VirtualClock, notes: dict[str, bytes], **settings: int) -> TrustedClock:
    made = TrustedClock(clock, lambda: True, notes.get, notes.__setitem__, **settings)
    made.check()
    return made


def in_virtual_time(test: Callable[[VirtualClock], Awaitable[None]]) -> Callable[[], None]:
    def runs() -> None:
        run(test)

    runs.__name__ = test.__name__
    return runs


@in_virtual_time
async def test_undated_until_trusted_then_whole_milliseconds(clock: VirtualClock) -> None:
    synced = False
    notes: dict[str, bytes] = {}
    trust = TrustedClock(clock, lambda: synced, notes.get, notes.__setitem__)
    trust.check()
    assert trust.stamp(5_123_456) == (5_000_000, False)
    assert trust.offset_ns is None
    synced = True
    trust.check()
    assert trust.stamp(5_123_456) == (START_NS + 5_000_000, True)
    assert trust.offset_ns == START_NS


@in_virtual_time
async def test_a_slow_drift_is_followed_without_a_step(clock: VirtualClock) -> None:
    trust = trusted(clock, {})
    clock.wall_offset_ns += 300 * MS
    trust.check()
    assert trust.offset_ns == START_NS + 5 * MS
    for _ in range(100):
        trust.check()
    assert (trust.offset_ns, trust.steps, trust.generation) == (START_NS + 300 * MS, 0, 1)


@in_virtual_time
async def test_a_step_forward_applies_at_once_and_is_told_once(clock: VirtualClock) -> None:
    trust = trusted(clock, {})
    clock.wall_offset_ns += 3600 * SECOND
    trust.check()
    trust.check()
    assert trust.offset_ns == START_NS + 3600 * SECOND
    assert (trust.steps, trust.era) == (1, 0)
    assert trust.take_step_s() == 3600.0
    assert trust.take_step_s() == 0.0


@in_virtual_time
async def test_a_step_back_opens_an_era_that_a_restart_remembers(clock: VirtualClock) -> None:
    notes: dict[str, bytes] = {}
    trust = trusted(clock, notes)
    before = trust.stamp(60 * SECOND)[0]
    clock.wall_offset_ns -= 60 * SECOND
    trust.check()
    after = trust.stamp(120 * SECOND)[0]
    assert after == before + 1000, "the same second, lived twice, is two points"
    assert trusted(clock, notes).stamp(120 * SECOND)[0] == after


@in_virtual_time
async def test_a_clock_behind_the_newest_reading_on_disk_opens_an_era(clock: VirtualClock) -> None:
    notes: dict[str, bytes] = {}
    assert trusted(clock, notes, newest_ns=clock.wall_ns() + 1).era == 1
    assert notes["clock-era"] == b"1"


@in_virtual_time
async def test_the_system_clock_is_believed_after_the_build_and_the_newest_reading(clock: VirtualClock) -> None:
    newest_ns = clock.wall_ns() + 50 * SECOND
    synced = system_source(clock, newest_ns, patience_s=600)
    assert not synced()
    await clock.sleep(51)
    assert synced()
    late = system_source(clock, clock.wall_ns() + 10**6 * SECOND, patience_s=600)
    assert not late()
    await clock.sleep(600)
    assert late(), "a wrong newest reading must not silence the gateway for ever"
    clock.wall_offset_ns = BUILT_NS - clock.boottime_ns() - 1
    assert not late()


class Interrupted(VirtualClock):
    """A clock on a busy machine: `torn_ns` pass while the wall clock is read."""

    torn_ns = 0

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(asyncio.get_running_loop())
        self._lost_ns = 0
        self.wall_offset_ns = clock.wall_offset_ns

    def boottime_ns(self) -> int:
        return super().boottime_ns() + self._lost_ns

    def wall_ns(self) -> int:
        seen = super().wall_ns()
        self._lost_ns += self.torn_ns
        return seen


@in_virtual_time
async def test_two_clocks_read_far_apart_say_nothing(clock: VirtualClock) -> None:
    busy = Interrupted(clock)
    trust = trusted(busy, {})
    busy.torn_ns = 2 * SECOND
    trust.check()
    assert (trust.steps, trust.error_s) == (0, 0.0)


def test_ntp_is_believed_by_its_marker(tmp_path: Path) -> None:
    marker = tmp_path / "synchronized"
    by_kernel = ntp_source(None)()
    assert ntp_source(marker)() is by_kernel
    marker.touch()
    assert ntp_source(marker)()


@pytest.mark.parametrize("steps_back", [1, 3])
def test_times_never_repeat_over_steps_back(steps_back: int) -> None:
    async def main(clock: VirtualClock) -> None:
        trust = trusted(clock, {})
        seen = set()
        for _ in range(steps_back + 1):
            for second in range(10):
                seen.add(trust.stamp(clock.boottime_ns() + second * SECOND)[0])
            await clock.sleep(10)
            clock.wall_offset_ns -= 10 * SECOND
            trust.check()
        assert len(seen) == 10 * (steps_back + 1)

    run(main)


@in_virtual_time
async def test_a_disk_that_cannot_keep_the_era_does_not_stop_the_clock(clock: VirtualClock) -> None:
    def refuse(_name: str, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    trust = TrustedClock(clock, lambda: True, lambda _name: None, refuse)
    trust.check()
    clock.wall_offset_ns -= 60 * SECOND
    trust.check()
    assert trust.era == 1

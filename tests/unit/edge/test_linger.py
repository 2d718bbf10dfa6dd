"""When a frame closes: after its linger, and at once when no bus has anything more to bring before that."""

import asyncio
from itertools import pairwise

from sampling import Rig, ScriptedBus, scan
from virtual_clock import SECOND, VirtualClock, run

from contract.frame import decode
from edge.bus_task import BusRun
from edge.supervisor import Supervisor


async def frames_of(clock: VirtualClock, rig: Rig, buses: list[BusRun], seconds: float) -> list[float]:
    """When frames reached the disk, in seconds since the start."""
    stopping, began_ns = asyncio.Event(), clock.boottime_ns()
    jobs = [Supervisor(buses, rig.pipeline, clock).run(stopping), rig.packer.run(stopping)]
    running = [asyncio.create_task(job) for job in jobs]
    times: list[float] = []
    while clock.boottime_ns() - began_ns < seconds * SECOND:
        await clock.sleep(0.005)
        times += [(clock.boottime_ns() - began_ns) / 1e9] * (len(rig.disk) - len(times))
    stopping.set()
    await asyncio.gather(*running)
    return times


def bus(clock: VirtualClock, delay_s: float) -> ScriptedBus:
    made = ScriptedBus(clock, lambda _s, _n: None)
    made.delay_s = lambda _number: delay_s
    return made


def test_a_round_leaves_when_its_last_device_has_answered_and_still_once_a_second() -> None:
    async def main(clock: VirtualClock) -> None:
        scans = [scan(device=f"d{number}") for number in range(10)]
        rig = Rig(clock, scans, linger_s=1.0)
        times = await frames_of(clock, rig, [BusRun("b", bus(clock, 0.02), scans)], 10)
        assert len(times) == 10
        assert all(0.2 <= time_s % 1 <= 0.23 for time_s in times), times
        assert {len(decode(data).tables) for data in rig.disk} == {10}

    run(main)


def test_a_quick_bus_waits_for_a_slow_one_and_both_go_together() -> None:
    async def main(clock: VirtualClock) -> None:
        quick, slow = scan(device="quick"), scan(device="slow")
        rig = Rig(clock, [quick, slow], linger_s=1.0)
        buses = [BusRun("q", bus(clock, 0.01), [quick]), BusRun("s", bus(clock, 0.5), [slow])]
        times = await frames_of(clock, rig, buses, 10)
        assert len(times) == 10
        assert all(0.5 <= time_s % 1 <= 0.53 for time_s in times), times

    run(main)


def test_a_bus_that_is_never_done_is_not_waited_for_beyond_the_linger() -> None:
    async def main(clock: VirtualClock) -> None:
        busy = [scan(device=f"d{number}") for number in range(4)]
        rig = Rig(clock, busy, linger_s=1.0)
        times = await frames_of(clock, rig, [BusRun("b", bus(clock, 0.3), busy)], 12)
        assert 8 <= len(times) <= 12
        assert max(later - before for before, later in pairwise(times)) <= 1.7

    run(main)


def test_a_long_linger_still_gathers_many_rounds() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = Rig(clock, [one], linger_s=60.0)
        times = await frames_of(clock, rig, [BusRun("b", bus(clock, 0.01), [one])], 181)
        assert len(times) == 3
        assert [len(decode(data).tables[0].times) for data in rig.disk[:3]] == [60, 60, 60]

    run(main)

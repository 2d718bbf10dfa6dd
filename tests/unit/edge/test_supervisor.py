"""The supervisor: schedule, backoff, gaps, two-phase stop, and books that balance whatever devices do."""

import asyncio
import logging
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import Rig, ScriptedBus, TalkingBus, block, scan, stream
from virtual_clock import SECOND, VirtualClock, run

from contract.errors import DeviceUnavailable
from contract.readings import Reason, gap
from drivers.base import Block, Scan
from edge.bus_task import BusRun
from edge.supervisor import Supervisor


async def sample(clock: VirtualClock, rig: Rig, buses: list[BusRun], seconds: float) -> Supervisor:
    """Run the buses for that long, then stop."""
    stopping = asyncio.Event()
    supervisor = Supervisor(buses, rig.pipeline, clock, rng=random.Random(1))
    running = [asyncio.create_task(supervisor.run(stopping)), asyncio.create_task(rig.packer.run(stopping))]
    await clock.sleep(seconds)
    stopping.set()
    await asyncio.gather(*running)
    return supervisor


def timeout(*, whole_bus: bool = False) -> DeviceUnavailable:
    return DeviceUnavailable(Reason.TIMEOUT, "no answer", whole_bus=whole_bus)


def test_every_tick_is_polled_once() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = ScriptedBus(clock, lambda _s, _n: None)
        rig = Rig(clock, [one])
        await sample(clock, rig, [BusRun("b", bus, [one])], 9.5)
        times = [time_ns for _, time_ns in bus.polls]
        assert len(times) == 10
        assert {later - before for before, later in pairwise(times)} == {SECOND}
        assert await rig.balance() == {"dev/t": 10}
        assert bus.closed == 1

    run(main)


def test_a_scan_every_second_need_not_wait_for_many_that_are_due_every_minute() -> None:
    async def main(clock: VirtualClock) -> None:
        slow = [scan(device=f"slow{number}", interval_s=60) for number in range(200)]
        quick = scan(device="quick")
        bus = ScriptedBus(clock, lambda _s, _n: None)
        bus.delay_s = lambda _number: 0.1
        rig = Rig(clock, [*slow, quick])
        await sample(clock, rig, [BusRun("b", bus, [*slow, quick])], 120)
        assert await rig.gaps("quick/t") == {}
        times = [time_ns for name, time_ns in bus.polls if name == "quick"]
        assert max(later - before for before, later in pairwise(times)) <= 1.1 * SECOND
        asked = [name for name, _ in bus.polls]
        assert min(asked.count(one.device.name) for one in slow) >= 2

    run(main)


def test_a_dead_device_is_asked_last_and_costs_the_others_of_its_bus_no_turn() -> None:
    async def main(clock: VirtualClock) -> None:
        scans = [scan(device="dead"), *(scan(device=f"well{number}") for number in range(5))]
        dying = timeout()
        bus = ScriptedBus(clock, lambda s, _n: dying if s is scans[0] else None)
        bus.delay_s = lambda number: 1.0 if bus.polls[number][0] == "dead" else 0.01
        rig = Rig(clock, scans)
        await sample(clock, rig, [BusRun("b", bus, scans)], 60.2)
        for one in scans[1:]:
            lost = await rig.gaps(f"{one.device.name}/t")
            assert lost.total() <= 1, f"{lost}: only the first time, when nobody knew"
            times = [time_ns for name, time_ns in bus.polls if name == one.device.name]
            assert max(later - before for before, later in pairwise(times[2:])) <= 1.1 * SECOND

    run(main)


def test_a_slow_poll_costs_exactly_the_ticks_it_covers() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = ScriptedBus(clock, lambda _s, _n: None)
        bus.delay_s = lambda number: 3.5 if number == 2 else 0.01
        rig = Rig(clock, [one])
        await sample(clock, rig, [BusRun("b", bus, [one])], 9.5)
        assert await rig.gaps("t") == {Reason.OVERRUN: 2}
        assert await rig.balance() == {"dev/t": 10}

    run(main)


def test_a_dead_device_costs_its_bus_one_timeout_a_backoff_period(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: VirtualClock) -> None:
        dead, alive = scan(device="dead"), scan(device="alive")
        dying = timeout()
        bus = ScriptedBus(clock, lambda s, _n: dying if s is dead else None)
        bus.delay_s = lambda _n: 0.5
        rig = Rig(clock, [dead, alive])
        supervisor = await sample(clock, rig, [BusRun("b", bus, [dead, alive])], 300.2)
        asked = [time_ns for name, time_ns in bus.polls if name == "dead"]
        waits = [(later - before) / 1e9 for before, later in pairwise(asked)]
        assert len(asked) <= 12
        assert max(waits) <= 61
        due = await rig.balance()
        assert due["dead/t"] == 300
        assert await rig.gaps("dead/t") == {Reason.TIMEOUT: 300}
        assert len(await rig.readings("alive/t")) == 301
        health = {device["name"]: device for device in supervisor.snapshot()["devices"]}
        assert health["dead"]["success_percent"] == 0
        assert health["dead"]["last_error"] == "no answer"
        assert health["alive"]["state"] == "good"
        assert health["alive"]["latency_p50_ms"] == 500.0

    with caplog.at_level(logging.WARNING):
        run(main)
    assert [record.getMessage() for record in caplog.records] == ["dead: no answer (timeout)"]


def test_failure_and_recovery_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = ScriptedBus(clock, lambda _s, n: timeout() if 2 <= n < 5 else None)
        rig = Rig(clock, [one])
        await sample(clock, rig, [BusRun("b", bus, [one])], 30)

    with caplog.at_level(logging.WARNING):
        run(main)
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0] == "dev: no answer (timeout)"
    assert texts[1].startswith("dev: answers again after ")
    assert len(texts) == 2


def test_a_lost_bus_is_closed_opened_again_and_explained_for_all_its_devices() -> None:
    async def main(clock: VirtualClock) -> None:
        one, two = scan(device="one"), scan(device="two")
        gone = DeviceUnavailable(Reason.DISCONNECTED, "unplugged", whole_bus=True)
        bus = ScriptedBus(clock, lambda _s, n: gone if n == 4 else None)
        other = ScriptedBus(clock, lambda _s, _n: None)
        far = scan(device="far")
        rig = Rig(clock, [one, two, far])
        await sample(clock, rig, [BusRun("b", bus, [one, two]), BusRun("c", other, [far])], 20.2)
        assert (bus.opened, bus.closed) == (2, 2)
        assert (await rig.gaps("one/t"))[Reason.DISCONNECTED] >= 1
        assert await rig.gaps("far/t") == {}
        due = await rig.balance()
        assert due == {"one/t": 21, "two/t": 21, "far/t": 21}

    run(main)


def test_a_bus_that_cannot_be_opened_leaves_no_sample_unexplained() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = ScriptedBus(clock, lambda _s, _n: None)
        bus.open_error = DeviceUnavailable(Reason.DISCONNECTED, "no such port")
        rig = Rig(clock, [one])
        supervisor = await sample(clock, rig, [BusRun("b", bus, [one])], 59.5)
        assert await rig.gaps("t") == {Reason.DISCONNECTED: 60}
        assert await rig.balance() == {"dev/t": 60}
        assert bus.polls == []
        device = supervisor.snapshot()["devices"][0]
        assert (device["state"], device["last_error"]) == ("backing off", "no such port")

    run(main)


@pytest.mark.parametrize("bad", ["raises", "shape", "none"])
def test_a_defect_of_a_driver_is_a_gap_with_one_traceback(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    def script(one: Scan, number: int) -> Block | Exception | None:
        if number != 1:
            return None
        if bad == "raises":
            return KeyError("register")
        made = block(one, 1.0, time_ns=0)
        made.floats = made.floats.astype("f4") if bad == "none" else made.floats.repeat(2)
        return made

    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = ScriptedBus(clock, script)
        rig = Rig(clock, [one])
        await sample(clock, rig, [BusRun("b", bus, [one])], 9.5)
        assert await rig.gaps("t") == {Reason.INTERNAL: 1}
        assert await rig.balance() == {"dev/t": 10}
        assert bus.opened == 2, "after a defect the connection is in doubt"

    with caplog.at_level(logging.WARNING):
        run(main)
    assert sum(record.exc_info is not None for record in caplog.records) == 1


def test_a_stop_lets_the_poll_in_progress_finish() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = ScriptedBus(clock, lambda _s, _n: None)
        bus.delay_s = lambda _n: 0.8
        rig = Rig(clock, [one])
        await sample(clock, rig, [BusRun("b", bus, [one])], 3.4)
        assert len(await rig.readings("t")) == 4

    run(main)


def test_a_poll_that_never_ends_is_cancelled_after_the_grace_period() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = ScriptedBus(clock, lambda _s, _n: None)
        bus.delay_s = lambda _n: 1e6
        rig = Rig(clock, [one])
        began_ns = clock.boottime_ns()
        await sample(clock, rig, [BusRun("b", bus, [one])], 1)
        assert (clock.boottime_ns() - began_ns) / 1e9 == pytest.approx(6, abs=0.1)
        assert bus.closed == 1

    run(main)


def test_silence_of_a_talking_device_is_counted() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(stream("a"), stream("b"))
        bus = TalkingBus()
        rig = Rig(clock, [], listening=[one])

        async def talk() -> None:
            for second in range(40):
                # Stream b is never heard; a falls silent from second 10 to 19.
                if not 10 <= second < 20:
                    bus.queue.put_nowait(block(one, 1.0, 0, time_ns=clock.boottime_ns(), status=[0, 0xFF]))
                await clock.sleep(1)

        talker = asyncio.create_task(talk())
        await sample(clock, rig, [BusRun("b", bus, [one], listening=True)], 39.9)
        await talker
        assert await rig.gaps("a") == {Reason.SILENT: 10}
        assert len(await rig.readings("a")) == 30
        assert sum((await rig.gaps("b")).values()) in {38, 39}
        await rig.balance()

    run(main)


def test_a_talking_device_whose_port_is_gone_is_disconnected() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = TalkingBus()
        rig = Rig(clock, [], listening=[one])
        bus.queue.put_nowait(block(one, 1.0, time_ns=clock.boottime_ns()))
        for _ in range(40):
            bus.queue.put_nowait(DeviceUnavailable(Reason.DISCONNECTED, "unplugged", whole_bus=True))
        supervisor = await sample(clock, rig, [BusRun("b", bus, [one], listening=True)], 120)
        gaps = await rig.gaps("t")
        assert set(gaps) == {Reason.DISCONNECTED}
        assert gaps[Reason.DISCONNECTED] in {118, 119}
        assert bus.opened < 12
        assert supervisor.snapshot()["buses"][0]["reason"] == "disconnected"

    run(main)


def test_a_source_with_its_own_clock_is_watched_by_the_gateways() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = TalkingBus()
        rig = Rig(clock, [], listening=[one])

        async def talk() -> None:
            for at_s in (0.0, 1.0, 2.9):
                bus.queue.put_nowait(block(one, at_s, time_ns=clock.wall_ns() + 3600 * SECOND, dated=True))
                await clock.sleep(3.2)

        talker = asyncio.create_task(talk())
        await sample(clock, rig, [BusRun("b", bus, [one], listening=True)], 6.6)
        await talker
        assert await rig.gaps("t") == {Reason.SILENT: 4}
        newest = max(gap.last_ns for frame in await rig.frames() for gap in frame.gaps)
        assert newest < clock.wall_ns()
        await rig.balance()

    run(main)


def test_a_patient_source_is_paused_while_the_outbox_is_full_and_loses_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = TalkingBus()
        rig = Rig(clock, [], listening=[one], max_readings=10)
        for number in range(200):
            # Two holes of three samples in the log.
            at_s = number + (3 if number >= 50 else 0) + (3 if number >= 150 else 0)
            bus.queue.put_nowait(block(one, float(number), time_ns=1_800_000_000 * SECOND + at_s * SECOND, dated=True))
        bus.queue.put_nowait(None)
        rig.full = True
        running = asyncio.create_task(sample(clock, rig, [BusRun("b", bus, [one], listening=True, patient=True)], 60))
        await clock.sleep(10)
        assert bus.queue.qsize() > 180
        rig.full = False
        await running
        assert [reading.value for reading in await rig.readings("t")] == list(range(200))
        assert await rig.gaps("t") == {Reason.SILENT: 6}
        assert await rig.balance() == {"dev/t": 206}

    run(main)


OUTCOMES = st.sampled_from(["ok", "same", "timeout", "refused", "partly", "absent", "bus", "defect", "slow", "nan"])


def outcome(what: str, one: Scan, number: int) -> Block | Exception:
    """What a device with a float and an int stream does at this poll."""
    errors = {
        "timeout": timeout(),
        "refused": DeviceUnavailable(Reason.REFUSED, "exception 2"),
        "bus": timeout(whole_bus=True),
        "defect": ZeroDivisionError("a bug"),
    }
    if what in errors:
        return errors[what]
    value = {"nan": float("nan"), "same": 5.0}.get(what, float(number))
    codes = {"partly": [gap(Reason.NO_REGISTER), 0], "absent": [0, gap(Reason.UNDECODABLE)]}.get(what)
    return block(one, value, 5 if what == "same" else number, time_ns=number * SECOND, status=codes)


@settings(max_examples=25, deadline=None)
@given(
    script=st.lists(OUTCOMES, min_size=1, max_size=12),
    devices=st.integers(1, 3),
    deadband=st.booleans(),
    full=st.booleans(),
    trust_at_s=st.sampled_from([0, 0, 7]),
)
def test_books_balance_whatever_devices_do(
    *, script: list[str], devices: int, deadband: bool, full: bool, trust_at_s: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        band = 0.5 if deadband else None
        aggregate = {"window_s": 5}
        scans = [
            scan(
                stream("f", deadband=band, resolution=0.1, aggregate=aggregate),
                stream("i", type="int", deadband=band),
                device=f"dev{number}",
            )
            for number in range(devices)
        ]
        bus = ScriptedBus(clock, lambda one, number: outcome(script[number % len(script)], one, number))
        bus.delay_s = lambda number: 2.7 if script[number % len(script)] == "slow" else 0.02
        rig = Rig(clock, scans, max_rows=40, trusted=trust_at_s == 0)
        rig.full = full
        began_ns = clock.boottime_ns()
        task = asyncio.create_task(sample(clock, rig, [BusRun("b", bus, scans)], 60.75))
        await clock.sleep(trust_at_s)
        rig.trust = True
        rig.clock.check()
        await clock.sleep(40)
        rig.full = False
        await task
        due = await rig.balance()
        ended_s = (clock.boottime_ns() - began_ns) / 1e9
        for number in range(devices):
            for name in ("f", "i"):
                # Ticks at every second: all up to the stop, but for what the last poll of the bus still covered.
                ticks = 61
                assert ticks - 9 <= due[f"dev{number}/{name}"] <= int(ended_s) + 1
        if "slow" not in script:
            assert all(due[f"dev{n}/{name}"] == 61 for n in range(devices) for name in ("f", "i"))

    run(main)

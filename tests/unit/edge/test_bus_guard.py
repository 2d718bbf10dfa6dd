"""A driver that hangs or breaks its promises costs its own bus some readings, and nobody else anything."""

import asyncio
import logging
import random

import pytest
from sampling import Rig, ScriptedBus, scan, stream
from virtual_clock import VirtualClock, run

from contract.errors import DeviceUnavailable
from contract.readings import Reason
from drivers.base import DeviceSpec
from edge.bus_task import HUNG_S, BusRun
from edge.streams import scans_of
from edge.supervisor import Supervisor


async def sample(clock: VirtualClock, rig: Rig, buses: list[BusRun], seconds: float) -> float:
    """Run the buses for that long; returns how long the stop took, in seconds."""
    stopping = asyncio.Event()
    supervisor = Supervisor(buses, rig.pipeline, clock, rng=random.Random(1))
    running = [asyncio.create_task(supervisor.run(stopping)), asyncio.create_task(rig.packer.run(stopping))]
    await clock.sleep(seconds)
    asked_ns = clock.boottime_ns()
    stopping.set()
    await asyncio.gather(*running)
    return (clock.boottime_ns() - asked_ns) / 1e9


def test_a_poll_that_never_returns_is_ended_explained_and_the_bus_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(clock: VirtualClock) -> None:
        one, far = scan(), scan(device="far")
        bus = ScriptedBus(clock, lambda _s, _n: None)
        bus.delay_s = lambda number: 1e9 if number == 10 else 0.01
        other = ScriptedBus(clock, lambda _s, _n: None)
        rig = Rig(clock, [one, far])
        await sample(clock, rig, [BusRun("b", bus, [one]), BusRun("c", other, [far])], HUNG_S + 99.5)
        ticks = round(HUNG_S) + 100
        gaps = await rig.gaps("dev/t")
        assert set(gaps) == {Reason.INTERNAL}
        assert HUNG_S <= gaps[Reason.INTERNAL] <= HUNG_S + 3
        assert await rig.balance() == {"dev/t": ticks, "far/t": ticks}
        assert await rig.gaps("far/t") == {}
        assert (bus.opened, bus.closed) == (2, 2)

    with caplog.at_level(logging.WARNING):
        run(main)
    assert "TimeoutError" in caplog.text


@pytest.mark.parametrize("whole_bus", [False, True])
def test_a_stop_while_something_is_left_alone_is_immediate(*, whole_bus: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(interval_s=60)
        bus = ScriptedBus(clock, lambda _s, _n: DeviceUnavailable(Reason.TIMEOUT, "no answer", whole_bus=whole_bus))
        rig = Rig(clock, [one])
        assert await sample(clock, rig, [BusRun("b", bus, [one])], 200) < 0.1
        assert await rig.balance() == {"dev/t": 4}

    run(main)


class Leaky(ScriptedBus):
    """A driver whose close() fails, or never returns, the first time."""

    hangs = False

    async def close(self) -> None:
        await super().close()
        if self.closed == 1:
            if self.hangs:
                await asyncio.Event().wait()
            raise OSError("close() never raises, they said")


@pytest.mark.parametrize("hangs", [False, True])
def test_a_close_that_fails_ends_neither_the_bus_nor_the_gateway(
    *, hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        gone = DeviceUnavailable(Reason.DISCONNECTED, "unplugged", whole_bus=True)
        bus = Leaky(clock, lambda _s, number: gone if number == 3 else None)
        bus.hangs = hangs
        rig = Rig(clock, [one])
        await sample(clock, rig, [BusRun("b", bus, [one])], HUNG_S + 60.5)
        assert bus.opened == 2
        assert len(await rig.readings("t")) >= 58
        assert sum((await rig.gaps("t")).values()) + len(await rig.readings("t")) == HUNG_S + 61

    with caplog.at_level(logging.WARNING):
        run(main)
    assert "could not be closed properly" in caplog.text


def test_a_scan_that_is_refused_costs_the_devices_other_scan_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: VirtualClock) -> None:
        fast, slow = scans_of(
            DeviceSpec(name="dev", streams=(stream("fast", interval_s=1), stream("slow", interval_s=10)))
        )
        refused = DeviceUnavailable(Reason.NO_REGISTER, "exception 2 for holding register 4000")
        bus = ScriptedBus(clock, lambda one, number: refused if one is slow and number < 200 else None)
        rig = Rig(clock, [fast, slow])
        await sample(clock, rig, [BusRun("b", bus, [fast, slow])], 299.5)
        assert await rig.gaps("fast") == {}
        assert len(await rig.readings("fast")) == 300
        assert (await rig.gaps("slow"))[Reason.NO_REGISTER] >= 18
        assert len(await rig.readings("slow")) >= 3
        assert (await rig.balance())["dev/slow"] == 30

    with caplog.at_level(logging.INFO):
        run(main)
    texts = [record.getMessage() for record in caplog.records if record.name == "edge.device"]
    assert len(texts) == 2, texts
    assert "register 4000" in texts[0]
    assert "answers again" in texts[1]


def test_a_device_that_refuses_everything_is_ill_itself() -> None:
    async def main(clock: VirtualClock) -> None:
        both = scans_of(DeviceSpec(name="dev", streams=(stream("fast", interval_s=1), stream("slow", interval_s=10))))
        refused = DeviceUnavailable(Reason.REFUSED, "exception 4")
        bus = ScriptedBus(clock, lambda _s, _n: refused)
        rig = Rig(clock, both)
        stopping = asyncio.Event()
        supervisor = Supervisor([BusRun("b", bus, both)], rig.pipeline, clock, rng=random.Random(1))
        running = asyncio.create_task(supervisor.run(stopping))
        await clock.sleep(100)
        assert supervisor.devices()["dev"].reason is Reason.REFUSED
        assert len(bus.polls) <= 10
        stopping.set()
        await running

    run(main)

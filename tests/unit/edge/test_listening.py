"""Devices that speak when they like: jitter is no silence, noise is told from it, and no driver stops the gateway."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator

import pytest
from sampling import Rig, TalkingBus, block, scan, stream
from virtual_clock import VirtualClock, run

from contract.readings import Reason
from drivers.base import Block, Scan
from edge.bus_task import BusRun
from edge.supervisor import Supervisor


class NoisyBus(TalkingBus):
    """A TalkingBus that counts what came and was no message."""

    def __init__(self) -> None:
        super().__init__()
        self.garbage_bytes = 0
        self.bad_checksums = 0


async def listen(clock: VirtualClock, rig: Rig, bus: TalkingBus, one: Scan, seconds: float) -> Supervisor:
    """Run one listening bus for that long."""
    stopping = asyncio.Event()
    supervisor = Supervisor([BusRun("b", bus, [one], listening=True)], rig.pipeline, clock, rng=random.Random(1))
    running = [asyncio.create_task(supervisor.run(stopping)), asyncio.create_task(rig.packer.run(stopping))]
    await clock.sleep(seconds)
    stopping.set()
    await asyncio.gather(*running)
    return supervisor


@pytest.mark.parametrize("seed", range(3))
def test_ten_minutes_of_jitter_make_no_gap(seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        one, bus = scan(), TalkingBus()
        rig = Rig(clock, [], listening=[one])

        async def talk() -> int:
            said, end_ns = 0, clock.boottime_ns() + 600 * 10**9
            while clock.boottime_ns() < end_ns:
                bus.queue.put_nowait(block(one, float(said), time_ns=clock.boottime_ns()))
                said += 1
                await clock.sleep(chance.uniform(0.9, 1.1))
            return said

        talker = asyncio.create_task(talk())
        await listen(clock, rig, bus, one, 601)
        said = await talker
        assert await rig.gaps("t") == {}
        assert await rig.balance() == {"dev/t": said}

    run(main)


@pytest.mark.parametrize("seed", range(5))
def test_jitter_and_long_silences_account_for_every_interval(seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        one, bus = scan(), TalkingBus()
        rig = Rig(clock, [], listening=[one])
        silences_s: list[float] = []

        async def talk() -> None:
            for _ in range(100):
                bus.queue.put_nowait(block(one, 1.0, time_ns=clock.boottime_ns()))
                pause_s = chance.uniform(0.9, 1.1)
                if chance.random() < 0.1:
                    pause_s = chance.uniform(2.1, 20)
                    silences_s.append(pause_s)
                await clock.sleep(pause_s)

        talker = asyncio.create_task(talk())
        await clock.sleep(0)
        began_s = clock.boottime_ns() / 1e9
        working = asyncio.create_task(listen(clock, rig, bus, one, 700))
        await talker
        spoke_s = clock.boottime_ns() / 1e9 - began_s
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        counted = (await rig.gaps("t"))[Reason.SILENT]
        # Each silence is counted to the nearest interval, the reading that ends it left out.
        assert abs(counted - sum(seconds - 1 for seconds in silences_s)) <= 0.5 * len(silences_s)
        assert (await rig.balance())["dev/t"] == pytest.approx(spoke_s, rel=0.1)

    run(main)


def test_noise_instead_of_a_message_is_garbage_and_not_silence() -> None:
    async def main(clock: VirtualClock) -> None:
        one, bus = scan(), NoisyBus()
        rig = Rig(clock, [], listening=[one])

        async def talk() -> None:
            for second in range(40):
                if 10 <= second < 15:
                    bus.bad_checksums += 1
                elif not 25 <= second < 30:
                    bus.queue.put_nowait(block(one, 1.0, time_ns=clock.boottime_ns()))
                await clock.sleep(1)

        talker = asyncio.create_task(talk())
        await listen(clock, rig, bus, one, 39.9)
        await talker
        assert await rig.gaps("t") == {Reason.GARBAGE: 5, Reason.SILENT: 5}
        assert await rig.balance() == {"dev/t": 40}

    run(main)


def test_a_single_spoiled_message_is_a_gap_though_the_next_one_is_early() -> None:
    async def main(clock: VirtualClock) -> None:
        one, bus = scan(), NoisyBus()
        rig = Rig(clock, [], listening=[one])

        async def talk() -> None:
            for number in range(20):
                if number % 5 == 3:
                    bus.garbage_bytes += 30
                else:
                    bus.queue.put_nowait(block(one, 1.0, time_ns=clock.boottime_ns()))
                await clock.sleep(0.95)

        talker = asyncio.create_task(talk())
        await listen(clock, rig, bus, one, 19)
        await talker
        assert await rig.gaps("t") == {Reason.GARBAGE: 4}
        assert await rig.balance() == {"dev/t": 20}

    run(main)


def test_one_spoiled_sentence_is_a_gap_of_its_own_streams_alone() -> None:
    async def main(clock: VirtualClock) -> None:
        one, bus = scan(stream("wind"), stream("air")), NoisyBus()
        rig = Rig(clock, [], listening=[one])

        async def talk() -> None:
            for second in range(20):
                bus.queue.put_nowait(block(one, 1.0, 0, time_ns=clock.boottime_ns(), status=[0, 0xFF]))
                await clock.sleep(0.01)
                if 5 <= second < 8:
                    bus.bad_checksums += 1
                else:
                    bus.queue.put_nowait(block(one, 0, 1.0, time_ns=clock.boottime_ns(), status=[0xFF, 0]))
                await clock.sleep(0.99)

        talker = asyncio.create_task(talk())
        await listen(clock, rig, bus, one, 19.9)
        await talker
        assert await rig.gaps("wind") == {}
        assert await rig.gaps("air") == {Reason.GARBAGE: 3}

    run(main)


class WrongBus(TalkingBus):
    """A driver with a defect of the given kind, the first time it listens."""

    def __init__(self, kind: str, one: Scan) -> None:
        super().__init__()
        self._kind = kind
        self._one = one

    async def close(self) -> None:
        await super().close()
        if self._kind == "close" and self.closed == 1:
            raise RuntimeError("close() never raises, they said")

    def listen(self) -> AsyncIterator[Block]:
        if self.opened == 1:
            if self._kind == "at once":
                raise KeyError("port")
            if self._kind == "foreign scan":
                self.queue.put_nowait(block(scan(device="other"), 1.0, time_ns=0))
            if self._kind == "close":
                self.queue.put_nowait(OSError("lost"))
        return super().listen()


@pytest.mark.parametrize("kind", ["at once", "foreign scan", "close"])
def test_a_defect_of_a_driver_costs_that_bus_a_second_and_the_gateway_nothing(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = WrongBus(kind, one)
        rig = Rig(clock, [], listening=[one])

        async def talk() -> None:
            await clock.sleep(5)
            for _ in range(5):
                bus.queue.put_nowait(block(one, 1.0, time_ns=clock.boottime_ns()))
                await clock.sleep(1)

        talker = asyncio.create_task(talk())
        await listen(clock, rig, bus, one, 9.9)
        await talker
        assert bus.opened == 2
        assert len(await rig.readings("t")) == 5
        assert (await rig.gaps("t"))[Reason.INTERNAL] >= 3

    with caplog.at_level(logging.WARNING):
        run(main)
    assert any(record.exc_info for record in caplog.records)


class Flood(TalkingBus):
    """A driver that always has something to say and never waits."""

    def __init__(self, one: Scan, clock: VirtualClock) -> None:
        super().__init__()
        self.one = one
        self.clock = clock
        self.said = 0

    async def listen(self) -> AsyncIterator[Block]:
        while self.said < 10_000:
            self.said += 1
            yield block(self.one, 1.0, time_ns=self.clock.boottime_ns())
        await self.queue.get()


def test_a_device_that_never_pauses_leaves_the_others_their_turn() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        bus = Flood(one, clock)
        rig = Rig(clock, [], listening=[one])
        stopping = asyncio.Event()
        supervisor = Supervisor([BusRun("b", bus, [one], listening=True)], rig.pipeline, clock)
        running = asyncio.create_task(supervisor.run(stopping))
        for _ in range(50):
            await asyncio.sleep(0)
        assert 0 < bus.said < 100
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main)


def test_a_stop_while_a_talking_device_is_left_alone_is_immediate() -> None:
    async def main(clock: VirtualClock) -> None:
        one, bus = scan(), TalkingBus()
        rig = Rig(clock, [], listening=[one])
        bus.queue.put_nowait(RuntimeError("gone"))
        began_ns = clock.boottime_ns()
        await listen(clock, rig, bus, one, 0.3)
        assert (clock.boottime_ns() - began_ns) / 1e9 < 0.35

    run(main)


def test_a_file_whose_rows_are_out_of_order_has_no_holes_but_its_own() -> None:
    async def main(clock: VirtualClock) -> None:
        one, bus = scan(), TalkingBus()
        rig = Rig(clock, [], listening=[one])
        start_ns = clock.boottime_ns() + clock.wall_offset_ns
        for second in (0, 1, 2, 30, 31, 5, 32, 33):
            bus.queue.put_nowait(block(one, float(second), time_ns=start_ns + second * 10**9, dated=True))
        bus.queue.put_nowait(None)
        stopping = asyncio.Event()
        supervisor = Supervisor([BusRun("b", bus, [one], listening=True, patient=True)], rig.pipeline, clock)
        await supervisor.run(stopping)
        assert await rig.gaps("t") == {Reason.SILENT: 27}
        assert await rig.balance() == {"dev/t": 8 + 27}

    run(main)

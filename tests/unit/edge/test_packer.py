"""The packer: when frames close, what an outbox that refuses costs, and that all of it is counted."""

import asyncio
import logging

import pytest
from sampling import Rig, scan, stream
from virtual_clock import SECOND, VirtualClock, run

from contract.frame import peek
from contract.readings import Reason, gap
from edge.packer import Packer


def test_a_frame_closes_after_the_linger_or_when_it_is_full() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = Rig(clock, [one], linger_s=2.0, max_readings=5)
        stopping = asyncio.Event()
        running = asyncio.create_task(rig.packer.run(stopping))
        rig.feed(one, 1.0, time_ns=SECOND)
        await clock.sleep(1.9)
        assert rig.disk == []
        await clock.sleep(0.2)
        assert len(rig.disk) == 1
        for number in range(5):
            rig.feed(one, 1.0, time_ns=(2 + number) * SECOND)
        await clock.sleep(0.1)
        assert len(rig.disk) == 2
        stopping.set()
        await running
        header = peek(rig.disk[1])
        assert (header.boot, header.sequence, header.epoch, header.undated) == (1, 0, 7, False)

    run(main)


def test_nothing_but_suppressed_readings_waits_longer() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(stream(deadband=1.0))
        rig = Rig(clock, [one], linger_s=1.0, idle_linger_s=10.0)
        stopping = asyncio.Event()
        running = asyncio.create_task(rig.packer.run(stopping))
        for _ in range(60):
            rig.feed(one, 1.0, time_ns=clock.boottime_ns())
            await clock.sleep(1)
        stopping.set()
        await running
        assert 5 <= len(rig.disk) <= 8
        assert await rig.balance() == {"dev/t": 60}

    run(main)


def test_an_outbox_that_refuses_costs_every_other_reading_counted_never_alarms(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(clock: VirtualClock) -> None:
        one, both = scan(), scan(stream("level"), stream("alarm", alarm=True), device="pump")
        rig = Rig(clock, [one, both], max_rows=100)
        rig.full = True
        stopping = asyncio.Event()
        running = asyncio.create_task(rig.packer.run(stopping))
        for number in range(1000):
            rig.feed(one, float(number), time_ns=clock.boottime_ns())
            if number % 20 == 0:
                rig.feed(both, 1.0, float(number), time_ns=clock.boottime_ns())
            await clock.sleep(0.1)
        assert rig.disk == []
        assert rig.packer.pending_rows <= 100
        rig.full = False
        stopping.set()
        await running
        assert [r.value for r in await rig.readings("alarm")] == [float(n) for n in range(0, 1000, 20)]
        kept = await rig.readings("dev/t")
        assert 20 <= len(kept) < 100
        assert kept[-1].value == 999.0, "the newest reading is never thinned"
        assert (await rig.balance())["dev/t"] == 1000

    with caplog.at_level(logging.WARNING):
        run(main)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert texts[0].startswith("the outbox is full")


def test_failing_ticks_in_a_row_are_one_gap_and_others_are_not() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(stream("a"), stream("b"))
        rig = Rig(clock, [one])
        lost = gap(Reason.NO_REGISTER)
        for second in range(10):
            rig.feed(one, 1.0, 1.0, time_ns=second * SECOND, status=[0, lost if second != 5 else 0])
        rig.pipeline.miss(one, 10 * SECOND, 12 * SECOND, 3, Reason.OVERRUN)
        rig.pipeline.miss(one, 13 * SECOND, 13 * SECOND, 1, Reason.OVERRUN)
        (frame,) = await rig.frames()
        assert [(g.streams, g.count, (g.last_ns - g.first_ns) // SECOND, g.reason) for g in frame.gaps] == [
            ((1,), 5, 4, Reason.NO_REGISTER),
            ((1,), 4, 3, Reason.NO_REGISTER),
            ((0, 1), 4, 3, Reason.OVERRUN),
        ]
        assert await rig.balance() == {"dev/a": 14, "dev/b": 14}

    run(main)


def test_gaps_stay_bounded_and_counted() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = Rig(clock, [one])
        for number in range(10_000):
            rig.pipeline.miss(one, number * 5 * SECOND, number * 5 * SECOND, 1, Reason.TIMEOUT)
        (frame,) = await rig.frames()
        assert len(frame.gaps) <= 4096
        assert await rig.gaps("t") == {Reason.TIMEOUT: 10_000}
        await rig.balance()

    run(main)


def test_dated_and_undated_readings_travel_apart() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = Rig(clock, [one], trusted=False)
        rig.feed(one, 1.0, time_ns=SECOND)
        rig.trust = True
        rig.clock.check()
        rig.feed(one, 2.0, time_ns=2 * SECOND)
        assert [frame.header.undated for frame in await rig.frames()] == [True, False]
        assert await rig.balance() == {"dev/t": 2}

    run(main)


def test_texts_beyond_the_format_are_thinned_not_fatal() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(stream(type="text", unit="1"))
        rig = Rig(clock, [one])
        for second in range(8):
            rig.feed(one, str(second) * 1_500_000, time_ns=second * SECOND)
        kept = await rig.readings("t")
        assert 1 <= len(kept) <= 2
        assert await rig.balance() == {"dev/t": 8}

    run(main)


def test_a_boot_is_a_random_number_of_48_bits() -> None:
    async def main(clock: VirtualClock) -> None:
        rig = Rig(clock, [scan()])
        boots = {Packer(rig.books, rig.clock, rig.append, epoch=1).boot for _ in range(8)}
        assert len(boots) == 8
        assert all(0 <= boot < 2**48 for boot in boots)

    run(main)

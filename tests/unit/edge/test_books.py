"""The books: across kill -9, power cuts and unknown clocks, every sample that was due is accounted once."""

import pytest
from sampling import EPOCH, Rig, scan, stream
from virtual_clock import SECOND, VirtualClock, run

from contract.catalogue import Area, Birth, Device, Stream
from contract.readings import Reason
from drivers.base import Scan
from edge.books import Resumed, resume
from edge.streams import StreamTable


def birth_of(table: StreamTable) -> bytes:
    streams = [
        Stream(
            id=e.id,
            name=e.spec.name,
            quantity=e.spec.quantity,
            unit=e.spec.unit,
            type=e.spec.type,
            interval_s=e.interval_s,
        )
        for e in table.entries
    ]
    area = Area(city="c", district="d", street="s")
    return Birth(gateway="g", area=area, devices=(Device(name="dev", streams=tuple(streams)),)).encode()


async def boot(clock: VirtualClock, one: Scan, resumed: Resumed | None, seconds: range, *, trusted: bool = True) -> Rig:
    """One life of the gateway that samples at these seconds of boottime and is then killed."""
    rig = Rig(clock, [one], resumed=resumed, trusted=trusted)
    for second in seconds:
        rig.feed(one, float(second), time_ns=second * SECOND)
        if second % 7 == 6:
            await rig.packer.flush()
    return rig


@pytest.mark.parametrize("checkpoint", [True, False])
def test_the_time_between_two_lives_is_explained_once(*, checkpoint: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        first = await boot(clock, one, None, range(100, 120))
        state = first.books.state() if checkpoint else None
        kept = first.disk[1:] if checkpoint else first.disk
        # Killed with some samples still in memory: they were due, and nobody has them.
        resumed = resume(state, kept, {EPOCH: birth_of(first.table)}.get)
        second = await boot(clock, one, resumed, range(150, 160))
        assert await second.gaps("t") == {Reason.GATEWAY_OFF: 150 - 118 - 1}
        assert await second.balance() == {"dev/t": 31 + 10}
        (gap, *_) = [gap for frame in await second.frames() for gap in frame.gaps]
        whole = await first.readings("t")
        assert gap.first_ns == next(r.time_ns for r in whole if r.value == 118.0) + SECOND

    run(main)


def test_a_quick_restart_leaves_no_gap_and_a_new_stream_has_no_past() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        first = await boot(clock, one, None, range(100, 105))
        await first.packer.flush()
        resumed = resume(first.books.state(), [], lambda _epoch: None)
        both = scan(stream("t"), stream("new"))
        second = Rig(clock, [both], resumed=resumed)
        second.feed(both, 1.0, 2.0, time_ns=105 * SECOND + SECOND // 3)
        assert await second.balance() == {"dev/t": 1, "dev/new": 1}

    run(main)


def test_streams_are_known_by_name_when_ids_change() -> None:
    async def main(clock: VirtualClock) -> None:
        old = scan(stream("a"), stream("b"))
        first = Rig(clock, [old])
        first.feed(old, 1.0, 2.0, time_ns=100 * SECOND)
        await first.packer.flush()
        first.feed(old, 1.0, 2.0, time_ns=101 * SECOND, status=[0, 0xFF])
        await first.packer.flush()
        resumed = resume(None, first.disk, {EPOCH: birth_of(first.table)}.get)
        turned = scan(stream("b"), stream("a"))
        second = Rig(clock, [turned], resumed=resumed)
        second.feed(turned, 1.0, 2.0, time_ns=110 * SECOND)
        assert await second.gaps("a") == {Reason.GATEWAY_OFF: 8}
        assert await second.gaps("b") == {Reason.GATEWAY_OFF: 9}

    run(main)


def test_samples_taken_before_the_clock_was_known_are_not_explained_again() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        first = await boot(clock, one, None, range(100, 110))
        await first.packer.flush()
        resumed = resume(first.books.state(), [], lambda _epoch: None)
        # Off for 10 s; then a life without a clock (12 samples); off for 5 s; then 3 samples until the clock is known.
        second = await boot(clock, one, resumed, range(120, 132), trusted=False)
        await second.packer.flush()
        assert await second.gaps("t") == {}
        for state, kept in ((second.books.state(), []), (first.books.state(), second.disk)):
            again = resume(state, kept, {EPOCH: birth_of(first.table)}.get)
            third = await boot(clock, one, again, range(137, 140), trusted=False)
            third.trust = True
            third.clock.check()
            third.feed(one, 1.0, time_ns=140 * SECOND)
            assert await third.gaps("t") == {Reason.GATEWAY_OFF: 10 + 5}
            assert await third.balance() == {"dev/t": 15 + 4}

    run(main)


def test_what_the_outbox_has_not_taken_is_not_in_the_checkpoint() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = await boot(clock, one, None, range(100, 104))
        await rig.packer.flush()
        before = rig.books.state()
        rig.full = True
        rig.feed(one, 1.0, time_ns=105 * SECOND)
        await rig.packer.flush()
        assert rig.books.state() == before

    run(main)


def test_an_unreadable_checkpoint_or_frame_is_a_gap_not_a_crash() -> None:
    assert resume(b"\xc1junk", [b"junk"], lambda _epoch: None).streams == {}

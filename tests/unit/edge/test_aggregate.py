"""Window aggregates: aligned, honest about what was not seen, in the books like any stream."""

from sampling import Rig, scan, stream
from virtual_clock import SECOND, START_NS, VirtualClock, run

from contract.readings import GOOD, Quality, Reason, gap, status
from drivers.base import Scan

PARTIAL = status(Quality.UNCERTAIN, Reason.PARTIAL_WINDOW)
STUCK = status(Quality.UNCERTAIN, Reason.STUCK)
FAULT = status(Quality.BAD, Reason.SENSOR_FAULT)
ALL = ("mean", "min", "max", "count", "last")
# START_NS is a multiple of 60 s, so boottime 60 s is a window's edge.


def windowed(**settings: object) -> Scan:
    return scan(stream("t", resolution=0.1, aggregate={"window_s": 10, "functions": ALL}, **settings))


def test_a_window_is_published_at_its_end_with_what_was_in_it() -> None:
    async def main(clock: VirtualClock) -> None:
        one = windowed()
        rig = Rig(clock, [one])
        for second in range(60, 71):
            rig.feed(one, float(second % 7), time_ns=second * SECOND)
        values = [float(second % 7) for second in range(60, 70)]
        expected = {"mean": sum(values) / 10, "min": 0.0, "max": 6.0, "count": 10, "last": values[-1]}
        for function, value in expected.items():
            (reading,) = await rig.readings(f"t.{function}")
            assert (reading.time_ns, reading.status) == (START_NS + 70 * SECOND, GOOD), function
            assert reading.value == value
            assert isinstance(reading.value, type(value))
        assert (await rig.balance())["dev/t.mean"] == 1

    run(main)


def test_what_was_not_seen_makes_a_window_uncertain_and_bad_readings_are_left_out() -> None:
    async def main(clock: VirtualClock) -> None:
        one = windowed()
        rig = Rig(clock, [one])
        codes = {72: gap(Reason.TIMEOUT), 83: FAULT, 95: STUCK}
        for second in range(65, 111):
            rig.feed(one, 1000.0 if second == 83 else 1.0, time_ns=second * SECOND, status=[codes.get(second, GOOD)])
        means = await rig.readings("t.mean")
        # Begun half-way; a gap; a bad reading; an uncertain reading; all well.
        assert [r.status for r in means] == [PARTIAL, PARTIAL, PARTIAL, STUCK, GOOD]
        assert [r.value for r in means] == [1.0] * 5
        assert [r.value for r in await rig.readings("t.count")] == [5, 9, 9, 10, 10]

    run(main)


def test_empty_windows_are_gaps_for_the_reason_that_prevailed() -> None:
    async def main(clock: VirtualClock) -> None:
        one = windowed()
        rig = Rig(clock, [one])
        rig.feed(one, 1.0, time_ns=60 * SECOND)
        rig.pipeline.miss(one, 61 * SECOND, 62 * SECOND, 2, Reason.OVERRUN)
        rig.pipeline.miss(one, 63 * SECOND, 158 * SECOND, 96, Reason.TIMEOUT)
        for second in range(159, 171):
            rig.feed(one, 1.0, time_ns=second * SECOND)
        means = await rig.readings("t.mean")
        assert [r.time_ns // SECOND - START_NS // SECOND for r in means] == [70, 160, 170]
        assert [r.status for r in means] == [PARTIAL, PARTIAL, GOOD]
        assert await rig.gaps("t.mean") == {Reason.TIMEOUT: 8}
        assert (await rig.balance())["dev/t.mean"] == 11

    run(main)


def test_a_window_of_bad_readings_only_is_a_gap_with_their_reason() -> None:
    async def main(clock: VirtualClock) -> None:
        one = windowed()
        rig = Rig(clock, [one])
        for second in range(60, 71):
            rig.feed(one, 1.0, time_ns=second * SECOND, status=[FAULT])
        assert await rig.gaps("t.count") == {Reason.SENSOR_FAULT: 1}

    run(main)


def test_integers_keep_their_kind_and_means_get_two_decimals() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(stream("n", type="int", unit="{count}", aggregate={"window_s": 3, "functions": ALL}))
        rig = Rig(clock, [one])
        for second, value in zip(range(60, 64), [2**60, 2**60 + 1, 5, 0], strict=True):
            rig.feed(one, value, time_ns=second * SECOND)
        assert [r.value for r in await rig.readings("n.max")] == [2**60 + 1]
        assert [r.value for r in await rig.readings("n.last")] == [5]
        (mean,) = await rig.readings("n.mean")
        assert isinstance(mean.value, float)
        resolutions = {entry.spec.name: entry.spec.resolution for entry in rig.table.entries}
        assert resolutions["n.mean"] == 0.01

    run(main)


def test_a_clock_set_back_or_forward_never_repeats_a_window() -> None:
    async def main(clock: VirtualClock) -> None:
        one = windowed()
        rig = Rig(clock, [one])
        for second in range(60, 200):
            if second in {95, 150}:
                clock.wall_offset_ns += (-12 if second == 95 else 3) * SECOND
                rig.clock.check()
            rig.feed(one, 1.0, time_ns=second * SECOND)
        means = await rig.readings("t.mean")
        assert len({r.time_ns for r in means}) == len(means)
        assert sum(r.value for r in await rig.readings("t.count")) >= 125  # type: ignore[misc]
        await rig.balance()

    run(main)


def test_windows_before_the_clock_is_known_are_undated_and_the_change_is_partial() -> None:
    async def main(clock: VirtualClock) -> None:
        one = windowed()
        rig = Rig(clock, [one], trusted=False)
        for second in range(60, 90):
            if second == 75:
                rig.trust = True
                rig.clock.check()
            rig.feed(one, 1.0, time_ns=second * SECOND)
        undated = [frame for frame in await rig.frames() if frame.header.undated]
        assert len(undated) == 1
        means = await rig.readings("t.mean")
        assert [r.status for r in means] == [GOOD, PARTIAL, PARTIAL]
        assert [r.time_ns for r in means][:2] == [70 * SECOND, 74 * SECOND + 1_000_000]
        await rig.balance()

    run(main)

"""The pipeline: exact decimals, quality, deadband; what a stream says of itself after it."""

import math
import timeit
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampling import Rig, block, scan, stream
from virtual_clock import SECOND, START_NS, VirtualClock, run

from contract.readings import GOOD, Quality, Reason, gap, status
from drivers.base import DeviceSpec, Scan
from edge.checks import FloatChecks, Quantiser
from edge.streams import StreamTable, decimal_step, scans_of

STUCK = status(Quality.UNCERTAIN, Reason.STUCK)
TOO_FAST = status(Quality.UNCERTAIN, Reason.RATE_OF_CHANGE)
OUT = status(Quality.BAD, Reason.OUT_OF_RANGE)
NAN = status(Quality.BAD, Reason.NOT_A_NUMBER)
FAULT = status(Quality.BAD, Reason.SENSOR_FAULT)


def published(
    one: Scan, values: list[float], *, step_s: float = 1, codes: list[int] | None = None
) -> list[tuple[float, int]]:
    """What comes out of one stream for these raw values, one every `step_s`."""

    async def main(clock: VirtualClock) -> list[tuple[float, int]]:
        rig = Rig(clock, [one])
        for number, value in enumerate(values):
            rig.feed(one, value, time_ns=round((100 + number * step_s) * 1e9), status=codes and [codes[number]])
        await rig.balance()
        return [(float(r.value), r.status) for r in await rig.readings(one.streams[0].name)]

    return run(main)


@given(st.floats(-1e6, 1e6), st.sampled_from([0.1, 0.01, 0.5, 0.25, 1e-6, 2.0, 100.0, 0.001]))
def test_a_quantised_value_is_the_double_nearest_to_its_decimal(value: float, resolution: float) -> None:
    (got,) = Quantiser([resolution]).apply(np.array([value])).tolist()
    m, d = decimal_step(resolution)
    k = round(Decimal(got) * 10**d / m)
    assert got == float(Decimal(k * m) / 10**d)
    assert abs(got - value) <= resolution * 0.5000001
    assert math.copysign(1, got) == 1 or got < 0, "never -0.0"


def test_values_too_large_or_without_resolution_stay_as_they_are() -> None:
    values = np.array([1e17 + 16, np.nan, np.inf, 0.1 + 0.2])
    with np.errstate(all="ignore"):
        got = Quantiser([0.1, 0.1, 0.1, None]).apply(values)
    assert got.tobytes() == values.tobytes()


def test_device_scale_comes_before_stream_scale() -> None:
    one = scan(stream(scale=2.0, offset=1.0, resolution=0.1), scale=0.1, offset=-40.0)
    assert published(one, [650.0]) == [(51.0, GOOD)]  # (650 * 0.1 - 40) * 2 + 1


def test_nan_range_and_device_status_the_worst_wins() -> None:
    one = scan(stream(valid_range=(-40.0, 85.0)))
    values = [20.0, math.nan, math.inf, 85.0, 85.5, 20.0, 99.0]
    codes = [GOOD, GOOD, GOOD, GOOD, GOOD, FAULT, FAULT]
    got = [code for _, code in published(one, values, codes=codes)]
    assert got == [GOOD, NAN, NAN, GOOD, OUT, FAULT, FAULT]


def test_rate_of_change_counts_real_time_over_gaps() -> None:
    one = scan(stream(max_rate_per_s=2.0))
    codes = [GOOD, GOOD, gap(Reason.TIMEOUT), GOOD, GOOD]
    got = published(one, [10.0, 13.0, 0.0, 17.0, 19.0], codes=codes)
    assert [code for _, code in got] == [GOOD, TOO_FAST, GOOD, GOOD]


def test_stuck_is_told_after_the_time_and_ends_with_a_change() -> None:
    one = scan(stream(stuck_after_s=3.0, resolution=1.0))
    got = published(one, [5.0, 5.0, 5.0, 5.0, 5.0, 5.001, 5.001])
    assert [code for _, code in got] == [GOOD, GOOD, GOOD, STUCK, STUCK, GOOD, GOOD]


def test_deadband_lets_first_changes_status_and_heartbeat_pass() -> None:
    one = scan(stream(deadband=0.1, heartbeat_s=5, resolution=0.1, valid_range=(0.0, 50.0)))
    values = [20.2, 20.3, 20.4, 20.5, 20.5, 20.5, 20.5, 20.5, 50.0, 50.1, 50.1]
    # 20.3 is within, 20.4 not; then quiet until the heartbeat 5 s later; then a change, and a change of status alone.
    assert published(one, values) == [(20.2, GOOD), (20.4, GOOD), (20.5, GOOD), (50.0, GOOD), (50.1, OUT)]


def test_integers_are_scaled_exactly_and_overflow_is_a_gap() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(
            stream("big", type="int", unit="W.h"),
            stream("tens", type="int", scale=10.0, unit="W.h"),
            stream("half", type="int", scale=0.5, unit="W.h"),
            stream("on", type="bool", unit="1"),
            stream("text", type="text", unit="1"),
        )
        rig = Rig(clock, [one])
        rig.feed(one, 2**62 + 1, 2**53 + 1, 5, 1, "水位", time_ns=SECOND)
        rig.feed(one, -(2**63), 2**62, 7, 0, "", time_ns=2 * SECOND)
        assert [r.value for r in await rig.readings("big")] == [2**62 + 1, -(2**63)]
        assert [r.value for r in await rig.readings("tens")] == [(2**53 + 1) * 10]
        assert await rig.gaps("tens") == {Reason.UNDECODABLE: 1}
        assert [r.value for r in await rig.readings("half")] == [2, 4]
        assert [r.value for r in await rig.readings("on")] == [True, False]
        assert [r.value for r in await rig.readings("text")] == ["水位", ""]
        await rig.balance()

    run(main)


def test_report_on_change_of_bools_and_texts() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(
            stream("on", type="bool", unit="1", deadband=1.0, heartbeat_s=100),
            stream("text", type="text", unit="1", deadband=0, heartbeat_s=100),
        )
        rig = Rig(clock, [one])
        for second, (on, text) in enumerate([(0, "a"), (1, "a"), (1, "b"), (1, "b"), (0, "b")]):
            rig.feed(one, on, text, time_ns=second * SECOND)
        assert [r.value for r in await rig.readings("on")] == [False, True, False]
        assert [r.value for r in await rig.readings("text")] == ["a", "b"]
        assert await rig.balance() == {"dev/on": 5, "dev/text": 5}

    run(main)


def test_times_are_whole_milliseconds_and_rise_within_a_scan() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = Rig(clock, [one])
        for time_ns in (SECOND + 123_456, SECOND + 999_999, SECOND + 400_000):
            rig.feed(one, 1.0, time_ns=time_ns)
        first = START_NS + SECOND
        assert [r.time_ns for r in await rig.readings("t")] == [first, first + 1_000_000, first + 2_000_000]

    run(main)


def test_after_a_step_back_times_go_back_but_never_repeat() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = Rig(clock, [one])
        for second in range(20):
            if second == 10:
                clock.wall_offset_ns -= 5 * SECOND
                rig.clock.check()
            rig.feed(one, float(second), time_ns=second * SECOND)
        times = [r.time_ns for r in await rig.readings("t")]
        assert len(set(times)) == 20
        assert max(times) == START_NS + 14 * SECOND + 1000

    run(main)


def test_a_source_with_its_own_clock_out_of_order_says_so() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan()
        rig = Rig(clock, [], listening=[one])
        for at_s in (100, 101, 50):
            rig.pipeline.take(block(one, 1.0, time_ns=START_NS + at_s * SECOND, dated=True))
        got = [(r.time_ns - START_NS, r.status) for r in await rig.readings("t")]
        assert got[2] == (101 * SECOND + 1_000_000, status(Quality.UNCERTAIN, Reason.CLOCK_ESTIMATED))

    run(main)


def test_unpublished_streams_are_in_no_frame_and_no_catalogue_but_in_the_status() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(stream("raw", publish=False, aggregate={"window_s": 10}), stream("shown"))
        rig = Rig(clock, [one])
        assert [entry.key for entry in rig.table.entries] == ["dev/shown", "dev/raw.mean", "dev/raw.min", "dev/raw.max"]
        rig.feed(one, 7.0, 8.0, time_ns=SECOND)
        assert await rig.balance() == {"dev/shown": 1}
        latest = {line["name"]: line for line in rig.pipeline.snapshot()["dev"]}
        assert latest["raw"]["value"] == 7.0
        assert latest["shown"]["quality"] == "good"

    run(main)


def test_ids_are_small_integers_and_scans_follow_intervals() -> None:
    device = DeviceSpec(
        name="d", interval_s=5, streams=[stream("a", type="int"), stream("b", interval_s=1), stream("c"), stream("e")]
    )
    fast, slow = scans_of(device)
    assert ([s.name for s in fast.streams], fast.interval_s) == (["b"], 1)
    assert ([s.name for s in slow.streams], slow.interval_s) == (["c", "e", "a"], 5)
    entries = StreamTable([(fast, True), (slow, False)]).entries
    assert [(e.id, e.key, e.interval_s, e.scheduled) for e in entries] == [
        (0, "d/b", 1, True),
        (1, "d/c", 5, False),
        (2, "d/e", 5, False),
        (3, "d/a", 5, False),
    ]


@pytest.mark.parametrize("streams", [100])
def test_a_block_of_100_streams_with_every_check_is_a_matter_of_microseconds(streams: int) -> None:
    specs = [
        stream(
            f"s{number}",
            resolution=0.1,
            scale=0.1,
            valid_range=(-1e3, 1e3),
            max_rate_per_s=1e6,
            stuck_after_s=1e6,
            deadband=0.1,
        )
        for number in range(streams)
    ]
    checks = FloatChecks(DeviceSpec(name="d", streams=specs), specs)
    raw = np.arange(float(streams))
    codes = np.zeros(streams, dtype=np.uint8)
    times = iter(range(0, 10**15, SECOND))
    best_s = min(timeit.repeat(lambda: checks.apply(raw, codes, next(times)), number=50, repeat=9)) / 50
    # About 40 us on the slowest machine of the project; ten times that is a loop over streams that crept in.
    assert best_s < 400e-6

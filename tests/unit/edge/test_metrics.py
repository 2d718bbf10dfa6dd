"""What a gateway shows: counted from the frames on disk, true to the books, and wired only when wanted."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from metrics_page import Answer, check, happens, scrape
from metrics_parts import GATEWAY, SECRET, wired_gateway
from outbox_kit import make_frame
from sampling import Rig, block, scan, stream
from virtual_clock import VirtualClock, run

from contract import frame as frames
from contract.frame import Counters, Frame, Gap, Header
from contract.metrics_text import Histogram, LoopLag
from contract.readings import ABSENT, GOOD, Kind, Quality, Reason, Table, status
from edge.metrics import GatewayMetrics
from edge.metrics_taps import FrameTally, Taps, TimedDisk
from edge.runtime import Parts

DEVICES = ["well", "well", "pump", "well"]
BAD = status(Quality.BAD, Reason.OUT_OF_RANGE)
CODES = [GOOD, BAD, status(Quality.UNCERTAIN, Reason.STUCK), status(Quality.UNCERTAIN, Reason.OUT_OF_RANGE), ABSENT]


def tally(parts: Parts) -> Taps:
    assert parts.taps is not None
    return parts.taps


def metrics_of(parts: Parts) -> GatewayMetrics:
    return GatewayMetrics(
        parts.config.file, tally(parts), parts.clock, parts.supervisor, parts.packer, parts.outbox, parts.uplink
    )


def table(streams: list[int], codes: "np.ndarray[Any, np.dtype[np.uint8]]") -> Table:
    shape = (len(codes), len(streams))
    times = np.arange(len(codes), dtype=np.int64)
    return Table(Kind.FLOAT, np.array(streams, dtype=np.int32), times, np.zeros(shape), codes.reshape(shape))


@given(st.lists(st.lists(st.sampled_from(CODES), min_size=4, max_size=4), min_size=1, max_size=5))
def test_every_reading_is_counted_once_with_its_device_and_quality(rows: list[list[int]]) -> None:
    codes = np.array(rows, dtype=np.uint8)
    streams = [0, 2, 1, 3]  # a table may hold several devices, in any order
    counted = FrameTally(DEVICES)
    counted.add(Frame(Header(1, 1, 1, 0), (table(streams, codes),)), 10)
    readings, doubts = counted.readings(), counted.doubts()
    for device in ("well", "pump"):
        mine = [code for row in rows for stream, code in zip(streams, row, strict=True) if DEVICES[stream] == device]
        for name, quality in (("good", 0), ("uncertain", 1), ("bad", 2)):
            assert readings[device, name] == sum(code >> 6 == quality for code in mine)
        doubtful = sum(code not in {GOOD, ABSENT} for code in mine)
        assert sum(count for (name, _), count in doubts.items() if name == device) == doubtful


def test_the_books_of_a_frame_are_told_by_device() -> None:
    counted = FrameTally(DEVICES)

    def each(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return np.array(values, dtype=np.int64)

    for number in (1, 2):
        gap = Gap((0, 2, 3), 0, 0, 5, Reason.TIMEOUT)
        counters = Counters(
            np.array([0, 2, 3], np.int32), each(8, 9, 10) * number, each(1, 2, 3), each(0, 1, 0), each(0, 0, 0)
        )
        counted.add(Frame(Header(1, number, 1, 0), gaps=(gap,), counters=counters), 100)
    assert counted.gaps() == {("well", "timeout"): 20, ("pump", "timeout"): 10}
    assert counted.suppressed() == {("well",): 8, ("pump",): 4}
    assert counted.thinned() == {("well",): 0, ("pump",): 2}
    assert counted.due() == {("well",): 36, ("pump",): 18}, "cumulative in the frames: the last one speaks"
    assert counted.bytes == 200


async def test_a_page_tells_what_the_parts_hold(tmp_path: Path) -> None:
    parts = wired_gateway(tmp_path)
    try:
        data = make_frame(boot=parts.packer.boot)
        (sequence,) = await parts.outbox.append([data])
        tally(parts).frames.add(frames.decode(data), len(data))
        parts.outbox.reject(parts.packer.boot, sequence, "a reason")
        await parts.outbox.append([data])
        await parts.outbox.append([])  # everything before it is done
        parts.uplink.stats.last_ack_s = 0.0
        text = (await metrics_of(parts).page()).decode()
    finally:
        await parts.outbox.close()
    check(text)
    assert SECRET not in text
    page = Answer(200, {}, text)
    assert page.value("weinao_gateway_info", gateway="gw-1", city="a", district="b", street="c") == 1
    assert page.value("weinao_gateway_readings_total", device="well", quality="good") == 20
    assert page.value("weinao_gateway_outbox_frames") == 1
    assert page.value("weinao_gateway_outbox_dead_letters") == 1
    assert page.value("weinao_gateway_outbox_appended_bytes_total") == len(data)
    assert page.value("weinao_gateway_outbox_limit_bytes") == 512 * 1024 * 1024
    assert page.value("weinao_gateway_device_up", device="well", bus="logger") == 0
    assert page.value("weinao_gateway_device_last_good_age_seconds", device="well") is None, "never, so not 0"
    assert page.value("weinao_gateway_uplink_window_frames") == 64
    assert page.value("weinao_gateway_uplink_connected") == 0
    assert (page.value("weinao_gateway_uplink_last_ack_age_seconds") or 0) > 0
    assert (page.value("weinao_gateway_outbox_sync_seconds_count") or 0) >= 2
    assert (page.value("weinao_gateway_disk_free_bytes") or 0) > 1e6
    assert page.value("weinao_build_info", component="gateway") == 1
    assert "stream=" not in text


def test_a_frame_that_found_no_room_at_first_is_counted_once() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(stream("t"), stream("u"), device="dev")
        counted = FrameTally(["dev", "dev"])
        rig = Rig(clock, [one], told=counted.add)
        rig.full = True
        for _ in range(3):
            await clock.sleep(1)
            rig.pipeline.take(block(one, 1.0, 2.0, time_ns=clock.boottime_ns()))
            await rig.packer.flush()
        assert sum(counted.readings().values()) == 0, "nothing is on disk yet"
        rig.full = False
        await rig.packer.flush()
        await rig.packer.flush()
        assert counted.readings()["dev", "good"] == 6
        assert counted.due() == {("dev",): 6}
        assert counted.bytes == sum(map(len, rig.disk))

    run(main)


async def test_without_the_section_nothing_listens_and_nothing_is_counted(tmp_path: Path) -> None:
    parts = wired_gateway(tmp_path, GATEWAY.replace("metrics: {port: 0}\n", ""))
    try:
        assert parts.taps is None
        assert parts.status.status({})["metrics"] is None
    finally:
        await parts.outbox.close()


async def test_it_is_served_while_the_context_lasts_and_status_knows_where(tmp_path: Path) -> None:
    parts = wired_gateway(tmp_path)
    try:
        async with metrics_of(parts).serve() as server:
            parts.status.metrics = server
            told = parts.status.status({})["metrics"]
            page = await asyncio.to_thread(scrape, told["port"])
            assert page.value("weinao_gateway_uplink_connected") == 0
            again = await asyncio.to_thread(scrape, told["port"])
            assert again.value("weinao_metrics_requests_total", code="200") == 1
            check(again.text)
    finally:
        await parts.outbox.close()


def test_a_histogram_counts_at_its_bounds() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.100001, 1.0, 1.5, 99.0):
        histogram.observe(seconds)
    assert histogram.buckets() == [("0.1", 2.0), ("1.0", 4.0), ("+Inf", 6.0)]
    assert (histogram.count, round(histogram.sum_s, 6)) == (6, 101.700001)


def test_a_disk_is_timed_and_its_bytes_are_counted(tmp_path: Path) -> None:
    disk = TimedDisk()
    disk.write_file(tmp_path / "note", b"12345")
    assert (disk.syncs.count, disk.written_bytes) == (1, 5)
    assert disk.syncs.sum_s > 0
    assert Taps(FrameTally([]), tmp_path / "gone", disk).free_bytes() is None


async def test_a_late_event_loop_is_seen() -> None:
    lag = LoopLag()
    measuring = asyncio.create_task(lag.run())
    await happens(lambda: lag.seconds.count > 0)
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
    assert 0 <= lag.seconds.sum_s < 5

"""A data logger's file becomes blocks with the file's own times, whatever is wrong with some of its rows."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import DeviceUnavailable
from contract.readings import ABSENT, GOOD, Kind, Reason, gap
from drivers import replay
from drivers.base import Block, Scan
from drivers.replay import DRIVER, ReplayBus, ReplayBusSpec, parse_time

NOON_NS = 1_717_243_200_000_000_000  # 2024-06-01T12:00:00Z
SECOND_NS = 1_000_000_000


def bus_of(path: Path, streams: Sequence[dict[str, Any]], **more: Any) -> ReplayBus:
    spec = ReplayBusSpec.model_validate(
        {
            "name": "logger",
            "driver": "replay",
            "file": str(path),
            "devices": [{"name": "station", "label": "LOG-1", "streams": list(streams)}],
            **more,
        }
    )
    order = {Kind.FLOAT: 0, Kind.INT: 1, Kind.BOOL: 1, Kind.TEXT: 2}
    device = spec.devices[0]
    scan = Scan(device, tuple(sorted(device.streams, key=lambda stream: order[stream.type])), 1.0)
    return ReplayBus(spec, [scan])


async def blocks_of(bus: ReplayBus) -> list[Block]:
    await bus.open()
    found = [block async for block in bus.listen()]
    await bus.close()
    return found


def stream(name: str, kind: str = "float", **more: Any) -> dict[str, Any]:
    return {"name": name, "quantity": "q", "unit": "1", "type": kind, **more}


async def test_a_wide_file_becomes_one_dated_block_a_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "\ufefftime,Temp (C),n,open,note\r\n"
        "2024-06-01T12:00:00Z,21.5,7,true,ok\r\n"
        "2024-06-01 12:00:01.000000001,-0.5,9007199254740993,0,\r\n"
        "2024-06-01T14:00:02+02:00,,8,1,x\r\n",
        encoding="utf-8",
    )
    streams = [stream("t", column="Temp (C)"), stream("n", "int"), stream("open", "bool"), stream("note", "text")]
    blocks = await blocks_of(bus_of(path, streams))
    assert [block.time_ns - NOON_NS for block in blocks] == [0, SECOND_NS + 1, 2 * SECOND_NS]
    assert all(block.dated for block in blocks)
    assert [block.floats[0] for block in blocks[:2]] == [21.5, -0.5]
    assert [block.ints.tolist() for block in blocks] == [[7, 1], [9007199254740993, 0], [8, 1]]
    assert blocks[0].texts == ["ok"]
    assert blocks[1].status.tolist() == [GOOD, GOOD, GOOD, ABSENT]
    assert blocks[2].status.tolist() == [ABSENT, GOOD, GOOD, GOOD]


async def test_a_long_file_is_grouped_by_time(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "device,stream,time,value\n"
        f"LOG-1,a,{NOON_NS},1\n"
        f"LOG-1,b,{NOON_NS},2\n"
        f"other,a,{NOON_NS},99\n"
        f"LOG-1,a,{NOON_NS + 1},3\n"
    )
    bus = bus_of(path, [stream("a"), stream("b")])
    blocks = await blocks_of(bus)
    assert [(block.time_ns - NOON_NS, block.floats.tolist()) for block in blocks] == [(0, [1, 2]), (1, [3, 0])]
    assert blocks[1].status.tolist() == [GOOD, ABSENT]
    assert bus.ignored_rows == 1


async def test_malformed_rows_are_counted_and_the_first_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "time,a,b\n"
        f"{NOON_NS},1,2\n"
        "yesterday,1,2\n"  # row 3
        f"{NOON_NS + 1},1\n"
        f"{NOON_NS + 2},x,2\n"  # one bad cell: the other is kept
        f"{NOON_NS + 2},1,2\n"  # the same time again
        "1717243200,1,2\n"  # seconds, where ns are declared
        f"{NOON_NS + 3},1_0,2\n"
        '"unclosed,1,2\n'
        f"{NOON_NS + 4},5,6"
    )
    bus = bus_of(path, [stream("a"), stream("b")])
    with caplog.at_level(logging.WARNING):
        blocks = await blocks_of(bus)
    assert [block.time_ns - NOON_NS for block in blocks] == [0, 2, 3, 4]
    assert blocks[1].status.tolist() == [gap(Reason.UNDECODABLE), GOOD]
    assert blocks[2].status.tolist() == [gap(Reason.UNDECODABLE), GOOD]
    assert bus.malformed_rows == 7
    assert "row 3" in caplog.messages[0]
    assert "7 of 10 rows" in caplog.messages[1]
    assert len(caplog.messages) == 2


async def test_what_the_logger_writes_for_nothing_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"time,a\n{NOON_NS},-9999\n{NOON_NS + 1},-9999.0\n{NOON_NS + 2},3\n")
    blocks = await blocks_of(bus_of(path, [stream("a")], missing_values=["-9999", ""]))
    assert [block.floats.tolist() for block in blocks] == [[3]]


async def test_any_cut_of_the_file_gives_the_same_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,a\n" + "".join(f"{NOON_NS + row},{row}\n" for row in range(200)))
    monkeypatch.setattr(replay, "CHUNK_CHARS", 7)
    blocks = await blocks_of(bus_of(path, [stream("a")]))
    assert [block.floats[0] for block in blocks] == list(range(200))


async def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    monkeypatch.setattr(replay, "CHUNK_CHARS", 1000)
    monkeypatch.setattr(replay, "MAX_LINE_CHARS", 100)
    path.write_text(f"time,a\n{NOON_NS},{'1' * 50_000}\n{NOON_NS},1\n")
    bus = bus_of(path, [stream("a")])
    await bus.open()
    longest = 0
    blocks = []
    while (found := bus._next()) is not None:
        longest = max(longest, len(bus._rest))
        blocks += found
    await bus.close()
    assert len(blocks) == 1
    assert longest <= 101
    assert bus.malformed_rows == 1


async def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,temperature\n")
    with pytest.raises(DeviceUnavailable, match="no column 'temprature'; did you mean 'temperature'"):
        await bus_of(path, [stream("t", column="temprature")]).open()
    with pytest.raises(DeviceUnavailable, match="No such file"):
        await bus_of(tmp_path / "nowhere.csv", [stream("t")]).open()


@pytest.mark.parametrize(
    ("text", "unit_ns", "expected"),
    [
        ("2024-06-01T12:00:00.123456789Z", 1, NOON_NS + 123_456_789),
        ("2024-06-01T20:00:00+08:00", 1, NOON_NS),
        ("1717243200", SECOND_NS, NOON_NS),
        ("1717243200000", 1_000_000, NOON_NS),
        ("2024-13-01T00:00:00Z", 1, 0),
        ("2024-06-01", 1, 0),
        ("9999999999999999999", SECOND_NS, 0),
        ("NaT", 1, 0),
        ("", 1, 0),
    ],
)
def test_times(text: str, unit_ns: int, expected: int) -> None:
    assert parse_time(text, unit_ns) == expected
    assert replay.parse_times([text, text], unit_ns).tolist() == [expected, expected]


async def test_a_wide_file_is_read_faster_than_100_000_readings_a_second(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows, width = 10_000, 10
    header = "time," + ",".join(f"s{column}" for column in range(width))
    cells = ",".join(f"{column}.25" for column in range(width))
    start = np.datetime64("2024-06-01T12:00:00", "s")
    path.write_text("\n".join([header, *(f"{start + row}Z,{cells}" for row in range(rows))]))
    bus = bus_of(path, [stream(f"s{column}") for column in range(width)])
    await bus.open()
    begun = time.process_time()
    readings = 0
    async for block in bus.listen():
        readings += len(block.status)
    spent_s = time.process_time() - begun
    await bus.close()
    assert readings == rows * width
    # About 900,000 a second of processor time were measured; the promise has room for a busy machine.
    assert readings / spent_s > 100_000


async def test_closing_while_a_chunk_is_read_is_quiet(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,a\n" + "".join(f"{NOON_NS + row},{row}\n" for row in range(20_000)))
    bus = bus_of(path, [stream("a")])
    await bus.open()
    reading = asyncio.ensure_future(anext(aiter(bus.listen())))
    await asyncio.sleep(0)
    reading.cancel()
    await bus.close()
    with pytest.raises(asyncio.CancelledError):
        await reading


def test_the_driver_can_wait() -> None:
    assert DRIVER.patient
    assert DRIVER.listening(None)

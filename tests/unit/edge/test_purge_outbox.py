"""A purge on the gateway: the stream's readings are gone from the disk, everything else is what it was, bit for bit."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outbox_kit import SmallDisk, waiting

from contract import command, frame
from contract.catalogue import Area, Birth, Device, Stream
from contract.command import Command, Reply
from contract.errors import FrameError
from contract.frame import Counters, Frame, Header
from contract.readings import ABSENT, Kind, Table
from edge.books import outcomes
from edge.outbox import Outbox
from edge.purge import Commands, OutboxPurge

T0 = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
PLATE = "沪A·12345 passed"
BIRTH = Birth(
    gateway="g",
    area=Area(city="c", district="d", street="s"),
    devices=(
        Device(
            name="cam",
            streams=(
                Stream(id=0, name="speed", quantity="speed", unit="km/h", type=Kind.FLOAT, interval_s=1),
                Stream(id=1, name="plate", quantity="plate", unit="1", type=Kind.TEXT, interval_s=1),
            ),
        ),
        Device(
            name="meter",
            streams=(
                Stream(id=2, name="power", quantity="power", unit="W", type=Kind.FLOAT, interval_s=1),
                Stream(id=3, name="count", quantity="count", unit="1", type=Kind.INT, interval_s=1),
            ),
        ),
    ),
)
EPOCH = BIRTH.epoch
Key = tuple[int, int, int, object]


def make(number: int, rows: int = 3, *, epoch: int = EPOCH, undated: bool = False, books: bool = True) -> bytes:
    """A frame of all four streams, a table a kind, one reading a second."""
    times = T0 + (number * 100 + np.arange(rows, dtype=np.int64)) * SECOND
    random = np.random.default_rng(number)
    texts = np.array([[f"{PLATE} {number}.{row}"] for row in range(rows)], dtype=object)
    tables = (
        table(Kind.FLOAT, [0, 2], times, random.standard_normal((rows, 2))),
        table(Kind.TEXT, [1], times, texts),
        table(Kind.INT, [3], times, random.integers(-(2**62), 2**62, (rows, 1))),
    )
    nothing = np.zeros(4, dtype=np.int64)
    due = nothing + rows * (number + 1)
    counters = Counters(np.arange(4, dtype=np.int32), due, nothing + number % 2, nothing, nothing + times[-1])
    header = Header(7, 0, epoch, int(times[-1]), undated=undated)
    return frame.encode(Frame(header, tables, counters=counters if books else None))


def table(kind: Kind, streams: list[int], times: Any, values: Any) -> Table:
    return Table(kind, np.array(streams, dtype=np.int32), times, values, np.zeros(values.shape, dtype=np.uint8))


def readings(data: bytes, without: frozenset[int] = frozenset(), before_ns: int = 2**62) -> set[object]:
    """Every reading but those of these streams before the time; equality is exact."""
    return {
        one
        for part in frame.decode(data).tables
        for one in part.readings()
        if one.stream not in without or one.time_ns >= before_ns
    }


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    made = opened(tmp_path / "outbox")
    yield made
    await made.close()


def opened(directory: Path, **settings: Any) -> Outbox:
    made = Outbox.open(
        directory, max_bytes=4 * 2**20, segment_bytes=16 * 1024, min_free_bytes=0, state=lambda: b"state", **settings
    )
    made.save_birth(EPOCH, BIRTH.encode())
    return made


def order(*streams: tuple[str, str], until_ns: int = 2**62) -> Command:
    return Command("p-1", "purge", until_ns, list(streams))


def plates_on_disk(directory: Path) -> int:
    """Texts of the purged stream in any frame, sound or not, that a file of the outbox holds."""
    found = 0
    for path in directory.glob("*.segment"):
        data = path.read_bytes()
        at = data.find(b"\xf5WNR")
        while at >= 0:
            following = data.find(b"\xf5WNR", at + 1)
            payload = data[at + 48 : following if following >= 0 else len(data)]
            if data[at + 37] == 2:
                found += sum(PLATE in str(part.values.tolist()) for part in frame.decode(payload).tables)
            at = following
    return found


async def test_the_readings_are_gone_and_nothing_else_is(outbox: Outbox, tmp_path: Path) -> None:
    numbers = [(await outbox.append([make(number, rows=40)]))[0] for number in range(60)]
    assert len(list((tmp_path / "outbox").glob("*.segment"))) > 2
    outbox.commit(7, [(numbers[0], numbers[4]), (numbers[-2], numbers[-2])])
    alive = waiting(outbox)
    assert plates_on_disk(tmp_path / "outbox") == 60  # also those that are acknowledged
    purged = await OutboxPurge(outbox).run(order(("cam", "plate")))
    assert (purged.readings, purged.left, purged.unreadable) == (54 * 40, 0, 0)
    assert plates_on_disk(tmp_path / "outbox") == 0
    after = waiting(outbox)
    assert after.keys() == alive.keys()
    for number, data in after.items():
        assert readings(data) == readings(alive[number], frozenset({1}))
        assert frame.peek(data) == frame.peek(alive[number])
        assert outcomes(frame.decode(data)) == outcomes(frame.decode(alive[number]))
    again = await OutboxPurge(outbox).run(order(("cam", "plate")))
    assert (again.readings, again.frames) == (0, 0)


async def test_the_outbox_goes_on_in_the_same_file_and_a_restart_finds_all_of_it(tmp_path: Path) -> None:
    box = opened(tmp_path / "o")
    first = await box.append([make(0), make(1)])
    box.commit(7, [(first[0], first[0])])
    await OutboxPurge(box).run(order(("cam", "")))
    later = await box.append([make(2)])
    expected = waiting(box)
    assert list(expected) == [first[1], *later]
    await box.close()
    box = opened(tmp_path / "o")
    assert waiting(box) == expected
    assert box.recovery.last_state == b"state"
    assert [frame.peek(data).sequence for data in box.recovery.frames] == [*first, *later]  # the books are replayed
    assert box.next_sequence == later[-1] + 1
    # Restarted, nothing was appended yet: the newest segment keeps its checkpoint and numbers all the same.
    await OutboxPurge(box).run(order(("meter", "power")))
    await box.close()
    box = opened(tmp_path / "o")
    assert (box.recovery.last_state, box.next_sequence) == (b"state", later[-1] + 1)
    assert readings(waiting(box)[later[0]]) == readings(make(2), frozenset({0, 1, 2})) | readings(
        make(2), frozenset({2, 3})
    )
    await box.close()


async def test_what_is_measured_after_the_order_stays(outbox: Outbox) -> None:
    data = make(0, rows=10)
    await outbox.append([data])
    until_ns = T0 + 4 * SECOND
    purged = await OutboxPurge(outbox).run(order(("cam", "speed"), until_ns=until_ns))
    assert purged.readings == 4
    (left,) = waiting(outbox).values()
    assert readings(left) == readings(data, frozenset({0}), until_ns)


async def test_undated_readings_count_as_older(outbox: Outbox) -> None:
    await outbox.append([make(0, undated=True)])
    assert (await OutboxPurge(outbox).run(order(("cam", "plate"), until_ns=1))).readings == 3


async def test_no_stream_means_everything_of_any_catalogue(outbox: Outbox) -> None:
    await outbox.append([make(0), make(1, epoch=99)])
    purged = await OutboxPurge(outbox).run(order())
    assert (purged.readings, purged.left) == (24, 0)
    assert all(not readings(data) for data in waiting(outbox).values())


async def test_a_frame_of_a_lost_catalogue_is_told_and_not_guessed_at(outbox: Outbox) -> None:
    await outbox.append([make(0, epoch=99)])
    purged = await OutboxPurge(outbox).run(order(("cam", "plate")))
    assert (purged.readings, purged.left) == (0, 1)
    assert len(readings(next(iter(waiting(outbox).values())))) == 12


async def test_dead_letters_lose_the_readings_and_unreadable_ones_their_bytes(outbox: Outbox, tmp_path: Path) -> None:
    numbers = await outbox.append([make(0), make(1, epoch=99), make(2)])
    for number in numbers[:2]:
        outbox.reject(7, number, "why not")
    await outbox.append([])
    folder = tmp_path / "outbox" / "dead-letters"
    (folder / "00000000000000000009-at-1.json").write_text('{"sequence": null, "boot": null, "reas')
    box_purge = OutboxPurge(outbox)
    purged = await box_purge.run(order(("cam", "plate")))
    assert (purged.readings, purged.letters, purged.unreadable) == (6, 3, 2)
    letters = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert [letter["frame"] == "" for _, letter in sorted(letters.items())] == [False, True, True]
    assert "destroyed by a purge" in letters[f"{numbers[1]:020d}.json"]["reason"]
    assert (await box_purge.run(order(("cam", "plate")))).letters == 0


async def test_a_damaged_frame_is_destroyed_and_counted(outbox: Outbox, tmp_path: Path) -> None:
    numbers = await outbox.append([make(0), make(1), make(2)])
    (path,) = (tmp_path / "outbox").glob("*.segment")
    data = bytearray(path.read_bytes())
    second = data.index(b"\xf5WNR", data.index(b"\xf5WNR", data.index(b"\xf5WNR") + 1) + 1)
    data[second + 60] ^= 0xFF
    path.write_bytes(data)
    purged = await OutboxPurge(outbox).run(order(("cam", "plate")))
    assert purged.unreadable == 1
    assert list(waiting(outbox)) == [numbers[0], numbers[2]]


async def test_a_full_disk_leaves_everything_and_says_so(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "o")
    box = opened(tmp_path / "o", disk=disk)
    numbers = await box.append([make(number, rows=40) for number in range(8)])
    disk.capacity = 1024
    purged = await OutboxPurge(box).run(order(("cam", "plate")))
    assert (purged.readings, purged.left) == (0, 8)
    assert list(waiting(box)) == numbers
    disk.capacity = None
    assert (await OutboxPurge(box).run(order(("cam", "plate")))).readings == 320
    await box.append([make(9)])
    await box.close()


def test_where_there_are_no_books_the_readings_go_all_the_same() -> None:
    after, count = command.without(frame.decode(make(0, books=False)), {1}, 2**62)
    assert (count, after.counters, len(after.tables)) == (3, None, 2)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), rows=st.integers(1, 6), streams=st.sets(st.integers(0, 3)), until=st.integers(-1, 7))
def test_everything_but_the_stream_is_bit_identical_and_the_books_close(
    data: st.DataObject, rows: int, streams: set[int], until: int
) -> None:
    whole = frame.decode(make(data.draw(st.integers(0, 50)), rows))
    holes = [
        replace(part, status=np.where(data.draw(st.booleans()), part.status, _with_holes(part, data)))
        for part in whole.tables
    ]
    given_frame = replace(whole, tables=tuple(holes))
    until_ns = int(whole.tables[0].times[0]) + until * SECOND
    after, count = command.without(given_frame, streams, until_ns)
    again = frame.decode(frame.encode(after))
    before = readings(frame.encode(given_frame))
    kept = readings(frame.encode(given_frame), frozenset(streams), until_ns)
    assert readings(frame.encode(again)) == kept
    assert count == len(before) - len(kept)
    assert outcomes(again) == outcomes(given_frame)
    assert again.gaps == given_frame.gaps
    assert after.counters is not None
    assert given_frame.counters is not None
    assert after.counters.due.tolist() == given_frame.counters.due.tolist()


def _with_holes(part: Table, data: st.DataObject) -> Any:
    size = part.status.size
    codes = data.draw(st.lists(st.sampled_from([0, 0x41, 0x90, ABSENT]), min_size=size, max_size=size))
    return np.array(codes, dtype=np.uint8).reshape(part.status.shape)


async def test_a_command_is_done_when_what_was_on_its_way_is_stored_and_told_again_when_asked(outbox: Outbox) -> None:
    told: list[Reply] = []

    async def reply(data: bytes) -> None:
        told.append(command.decode_reply(data))

    (number,) = await outbox.append([make(0)])
    assert outbox.lease(newest=True) is not None
    commands = Commands(outbox, settle_s=0.05, again_s=0.02)
    running = asyncio.create_task(commands.run(reply))
    try:
        commands.take(b"not a command")
        commands.take(command.encode(order(("cam", "plate"))))
        await _until(lambda: bool(told))
        assert (told[0].done, told[0].readings) == (False, 3)
        assert "1 frames on their way" in told[0].detail
        outbox.commit(7, [(number, number)])
        late = await outbox.append([make(1)])  # it was being gathered when the order came
        await _until(lambda: told[-1].done)
        assert told[-1].readings == 6
        assert readings(waiting(outbox)[late[0]]) == readings(make(1), frozenset({1}))
        count = len(told)
        commands.take(command.encode(order(("cam", "plate"))))
        await _until(lambda: len(told) == count + 1)
        assert told[-1] == told[-2]
        assert commands.refused == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the outbox's writer is a thread
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"id":"","kind":"purge","until_ns":1}',
        b'{"id":"x","kind":"burn","until_ns":1}',
        b'{"id":"x","kind":"purge","until_ns":1,"more":2}',
        b'{"id":"x","kind":"purge","until_ns":1,"streams":[["a"]]}',
    ],
)
def test_what_is_no_command_is_refused(text: bytes) -> None:
    with pytest.raises(FrameError):
        command.decode_command(text)

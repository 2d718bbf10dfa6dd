"""What passed is in the tail until it is too much; nothing is acknowledged that is not; a failing disk stops nobody."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cloud_frames import PATH
from hub_kit import eventually
from hypothesis import given
from hypothesis import strategies as st

from cloud import tail as tail_module
from cloud.tail import OVERHEAD_BYTES, Tail, TailReader
from contract.topics import TopicKind

TOPIC = PATH.topic(TopicKind.DATA)


@contextlib.asynccontextmanager
async def running(file: Path, max_bytes: int = 10**9) -> AsyncIterator[Tail]:
    tail = Tail(file, max_bytes=max_bytes, now_ns=lambda: 7)
    writing = asyncio.create_task(tail.run())
    await asyncio.sleep(0)
    try:
        yield tail
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_what_is_synced_is_there_for_another_process_and_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tail.sqlite"
    reader = TailReader(file)
    assert reader.after(0) == []
    assert reader.bounds() == (1, 0)
    async with running(file) as tail:
        tail.put(TOPIC, b"one")
        tail.put(PATH.topic(TopicKind.STATE), b"no frame")
        tail.put("elsewhere", b"no topic of ours")
        tail.put(TOPIC, b"two")
        await tail.synced()
        assert [(one.id, one.time_ns, one.path, one.payload) for one in reader.after(0)] == [
            (1, 7, PATH, b"one"),
            (2, 7, PATH, b"two"),
        ]
    async with running(file) as tail:
        tail.put(TOPIC, b"three")
        await tail.synced()
    assert [one.id for one in reader.after(1)] == [2, 3]
    assert reader.bounds() == (1, 3)
    reader.close()


async def test_what_was_put_last_is_written_when_it_is_stopped(tmp_path: Path) -> None:
    file = tmp_path / "tail.sqlite"
    async with running(file) as tail:
        tail.put(TOPIC, b"last word")
    assert [one.payload for one in TailReader(file).after(0)] == [b"last word"]


@given(sizes=st.lists(st.integers(0, 400), max_size=60), max_bytes=st.integers(300, 4000))
def test_the_newest_stay_and_numbers_are_never_given_twice(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], max_bytes: int
) -> None:
    file = tmp_path_factory.mktemp("tail") / "tail.sqlite"

    async def put_all() -> None:
        async with running(file, max_bytes) as tail:
            for number, size in enumerate(sizes):
                tail.put(TOPIC, bytes([number]) * size)
                if number % 3 == 0:
                    await tail.synced()

    asyncio.run(put_all())
    reader = TailReader(file)
    found = reader.after(0, 1000)
    reader.close()
    ids = [one.id for one in found]
    assert ids == list(range(len(sizes) - len(ids) + 1, len(sizes) + 1)), "the newest, without a hole"
    assert [one.payload for one in found] == [bytes([n]) * sizes[n] for n in range(len(sizes) - len(ids), len(sizes))]
    kept = sum(len(one.payload) + OVERHEAD_BYTES for one in found)
    assert kept <= max_bytes
    if len(ids) < len(sizes):  # no more went than had to, and a chunk
        assert kept + max(sizes) + OVERHEAD_BYTES > max_bytes * (1 - tail_module.CHUNK_SHARE) - max(sizes) * 3


async def test_a_disk_that_fails_holds_nobody_up_and_nothing_waiting_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tail.sqlite"
    async with running(file) as tail:
        tail._db.execute("ALTER TABLE frames RENAME TO gone")
        tail.put(TOPIC, b"one")
        async with asyncio.timeout(2):
            await tail.synced()
        assert [record.message for record in caplog.records if "takes nothing" in record.message]
        tail._db.execute("ALTER TABLE gone RENAME TO frames")
        reader = TailReader(file)
        await eventually(lambda: bool(reader.after(0)))
        assert [one.payload for one in reader.after(0)] == [b"one"]
        assert reader.lost() == 0
        reader.close()


async def test_what_there_is_no_room_for_is_counted_for_all_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "MAX_WAITING_BYTES", 3 * (10 + OVERHEAD_BYTES))
    file = tmp_path / "tail.sqlite"
    async with running(file) as tail:
        for _ in range(5):
            tail.put(TOPIC, bytes(10))
        await tail.synced()
        assert tail.lost == 2
    reader = TailReader(file)
    assert (len(reader.after(0)), reader.lost()) == (3, 2)
    reader.close()

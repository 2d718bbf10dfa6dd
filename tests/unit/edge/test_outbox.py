"""The outbox: what a gateway relies on, one promise a test."""

import asyncio
import json
import os
import struct
import time
import zlib
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from outbox_kit import ALARM, SmallDisk, books, bytes_on_disk, make_frame, waiting

from contract import frame
from contract.errors import ConfigError, Fatal, FrameError, OutboxFull
from edge.outbox import Outbox
from edge.outbox_disk import Disk
from edge.outbox_segment import FILE_BYTES

MIB = 1024 * 1024


def opened(
    directory: Path,
    *,
    max_bytes: int = 8 * MIB,
    segment_bytes: int | None = None,
    disk: Disk | None = None,
    state: bytes = b"books",
) -> Outbox:
    return Outbox.open(
        directory,
        max_bytes=max_bytes,
        segment_bytes=segment_bytes,
        min_free_bytes=0,
        state=lambda: state,
        keep_whole=lambda _epoch: frozenset({ALARM}),
        disk=disk,
    )


async def test_what_was_appended_is_there_after_a_restart_with_its_number_inside(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    first = await outbox.append([make_frame(0), make_frame(1)])
    await outbox.close()
    outbox = opened(tmp_path)
    second = await outbox.append([make_frame(2)])
    assert (first, second) == ([1, 2], [3])
    assert [frame.peek(data).sequence for data in waiting(outbox).values()] == [1, 2, 3]
    assert frame.decode(waiting(outbox)[2]).header.time_base_ns == frame.peek(make_frame(1)).time_base_ns
    await outbox.close()


async def test_numbers_are_not_reused_when_everything_was_acknowledged(tmp_path: Path) -> None:
    for expected in ([1, 2], [3, 4], [5, 6]):
        outbox = opened(tmp_path)
        assert outbox.next_sequence == expected[0]
        assert await outbox.append([make_frame(), make_frame()]) == expected
        assert outbox.commit(7, [(0, 100)]) == 2
        await outbox.close()
    assert len(list(tmp_path.glob("*.segment"))) == 1


async def test_newest_and_oldest_are_leased_once_and_come_back_when_released(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    await outbox.append([make_frame(number) for number in range(4)])
    order = [outbox.lease(newest=newest) for newest in (True, False, True, False, True)]
    assert [leased and leased.sequence for leased in order] == [4, 1, 3, 2, None]
    outbox.release(3)
    again = outbox.lease(newest=False)
    assert again is not None
    assert again.sequence == 3
    outbox.release_all()
    assert outbox.stats().leased == 0
    assert sorted(waiting(outbox)) == [1, 2, 3, 4]
    await outbox.close()


async def test_an_undated_frame_leaves_only_when_asked_for(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    await outbox.append([make_frame(0, undated=True), make_frame(1)])
    first = outbox.lease(newest=False)
    assert first is not None
    assert (first.sequence, first.undated) == (2, False)
    assert outbox.lease(newest=False) is None
    late = outbox.lease(newest=False, undated=True)
    assert late is not None
    assert (late.sequence, late.undated, late.boot) == (1, True, 7)
    await outbox.close()


async def test_an_acknowledgement_frees_only_its_own_boot_and_is_counted_when_it_frees_nothing(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    await outbox.append([make_frame(0, boot=7), make_frame(1, boot=8), make_frame(2, boot=7)])
    assert outbox.commit(9, [(1, 3)]) == 0
    assert outbox.commit(7, [(2, 2), (50, 60)]) == 0
    assert outbox.commit(7, [(1, 3), (1, 3)]) == 2
    assert outbox.stats().ignored_acks == 4
    assert sorted(waiting(outbox)) == [2]
    await outbox.close()


async def test_a_hostile_range_costs_no_more_than_an_honest_one(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    await outbox.append([make_frame(number) for number in range(50)])
    began = time.process_time()
    assert outbox.commit(7, [(51, 2**63), (-(2**70), 0), (2**64, 2**200)] * 1000) == 0
    assert outbox.commit(2**80, [(0, 2**63)]) == 0
    assert time.process_time() - began < 2
    assert outbox.commit(7, [(0, 2**300)]) == 50
    await outbox.close()


async def test_acknowledged_space_is_given_back_to_the_disk(tmp_path: Path) -> None:
    outbox = opened(tmp_path, segment_bytes=16 * 1024)
    for number in range(40):
        await outbox.append([make_frame(number, rows=100, noisy=True)])
    before = len(list(tmp_path.glob("*.segment")))
    outbox.commit(7, [(1, 39)])
    await outbox.close()
    assert before > 5
    assert len(list(tmp_path.glob("*.segment"))) == 1
    outbox = opened(tmp_path)
    assert sorted(waiting(outbox)) == [40]
    await outbox.close()


async def test_a_rejected_frame_is_kept_as_a_dead_letter_with_its_reason(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    await outbox.append([make_frame(0), make_frame(1)])
    outbox.reject(7, 2, "unknown stream 3")
    outbox.reject(8, 1, "another boot's")
    outbox.reject(7, 99, "never seen")
    await outbox.close()
    [letter] = (tmp_path / "dead-letters").iterdir()
    content = json.loads(letter.read_text())
    assert (content["sequence"], content["boot"], content["reason"]) == (2, 7, "unknown stream 3")
    outbox = opened(tmp_path)
    assert sorted(waiting(outbox)) == [1]
    assert outbox.stats().dead_letters == 1
    await outbox.close()


async def test_dead_letters_stay_within_their_share_and_drops_are_counted(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=512 * 1024)
    sequences = await outbox.append([make_frame(number) for number in range(20)])
    for sequence in sequences:
        outbox.reject(7, sequence, "no")
    await outbox.close()
    stats = outbox.stats()
    assert stats.dead_letters == 512 // 16 // 4
    assert stats.dropped_dead_letters == 20 - stats.dead_letters
    assert (tmp_path / "dead-letters" / f"{sequences[-1]:020d}.json").exists()


async def test_appends_that_wait_together_share_one_sync(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path)
    outbox = opened(tmp_path, disk=disk)
    await outbox.append([make_frame()])
    before = disk.syncs
    results = await asyncio.gather(*(outbox.append([make_frame(number)]) for number in range(200)))
    assert sorted(sequence for [sequence] in results) == list(range(2, 202))
    assert disk.syncs - before < 50
    await outbox.close()


async def test_the_last_checkpoint_and_the_frames_after_it_come_back(tmp_path: Path) -> None:
    states = iter(range(1000))
    outbox = Outbox.open(
        tmp_path, max_bytes=8 * MIB, segment_bytes=16 * 1024, min_free_bytes=0, state=lambda: b"state %d" % next(states)
    )
    for number in range(30):
        await outbox.append([make_frame(number, rows=100, noisy=True)])
    outbox.commit(7, [(1, 30)])
    await outbox.close()
    newest = max(tmp_path.glob("*.segment"))
    outbox = opened(tmp_path)
    recovery = outbox.recovery
    assert recovery.last_state is not None
    assert recovery.last_state.startswith(b"state ")
    assert [frame.peek(data).sequence for data in recovery.frames] == list(range(int(newest.stem), 31))
    assert (recovery.pending, recovery.next_sequence) == (0, 31)
    await outbox.close()


async def test_a_second_gateway_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        opened(tmp_path)
    await outbox.close()
    await opened(tmp_path).close()


def test_a_directory_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"outbox\.directory"):
        opened(tmp_path / "file" / "outbox")


async def test_a_newer_format_is_refused_and_not_touched(tmp_path: Path) -> None:
    head = struct.pack("<8sIQ", b"WNOUTBOX", 2, 1)
    path = tmp_path / f"{1:020d}.segment"
    path.write_bytes(head + struct.pack("<I", zlib.crc32(head)) + b"future")
    with pytest.raises(ConfigError, match="format 2"):
        opened(tmp_path)
    assert path.read_bytes().endswith(b"future")


async def test_only_the_owner_may_read(tmp_path: Path) -> None:
    directory = tmp_path / "outbox"
    outbox = opened(directory)
    await outbox.append([make_frame()])
    outbox.save_birth(1, b"{}")
    outbox.reject(7, 1, "no")
    await outbox.close()
    for path in [directory, *directory.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


async def test_the_budget_is_kept_by_thinning_and_every_reading_is_accounted_for(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=MIB)
    for number in range(150):
        await outbox.append([make_frame(number, rows=400, noisy=True, alarms=2)])
        assert bytes_on_disk(tmp_path) <= MIB
        assert outbox.stats().bytes <= MIB
    found = {sequence: books(data) for sequence, data in waiting(outbox).items()}
    assert sorted(found) == list(range(1, 151))
    assert all(kept + thinned == 1600 and alarms == 2 for kept, alarms, thinned in found.values())
    assert found[150] == (1600, 2, 0)
    resolution = [kept for kept, _, _ in found.values()]
    assert resolution == sorted(resolution), "the older, the coarser"
    assert resolution[0] * 4 <= resolution[-1]
    stats = outbox.stats()
    assert stats.thinned_readings == sum(thinned for _, _, thinned in found.values()) > 0
    assert stats.full
    assert outbox.commit(7, [(1, 150)]) == 150
    await outbox.append([make_frame(rows=1)])
    assert not outbox.stats().full
    await outbox.close()


async def test_space_of_acknowledged_frames_is_used_before_anything_is_thinned(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=MIB)
    for number in range(200):
        [sequence] = await outbox.append([make_frame(number, rows=200, noisy=True)])
        if sequence % 10:
            outbox.commit(7, [(sequence, sequence)])
    assert outbox.stats().thinned_readings == 0
    assert sorted(waiting(outbox)) == list(range(10, 201, 10))
    await outbox.close()


async def test_a_frame_under_way_is_never_thinned(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=MIB)
    await outbox.append([make_frame(number, rows=400, noisy=True) for number in range(3)])
    leased = outbox.lease(newest=False)
    assert leased is not None
    for number in range(3, 150):
        await outbox.append([make_frame(number, rows=400, noisy=True)])
    outbox.release(leased.sequence)
    found = waiting(outbox)
    assert found[1] == leased.data
    assert books(found[2])[2] > 0
    await outbox.close()


async def test_alarms_alone_fill_the_outbox_and_that_is_said(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=512 * 1024)
    refused = 0
    for number in range(40):
        try:
            await outbox.append([make_frame(number, rows=1, noisy=True, alarms=4000)])
        except OutboxFull:
            refused += 1
    assert refused > 0
    assert bytes_on_disk(tmp_path) <= 512 * 1024
    assert len(waiting(outbox)) == 40 - refused
    assert outbox.commit(7, [(0, 100)]) == 40 - refused
    await outbox.append([make_frame(99)])
    await outbox.close()


async def test_one_append_too_large_for_the_outbox_thins_nothing(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=512 * 1024)
    await outbox.append([make_frame(0, rows=400, noisy=True)])
    with pytest.raises(OutboxFull):
        await outbox.append([make_frame(1, rows=40_000, noisy=True)])
    assert outbox.stats().thinned_readings == 0
    assert await outbox.append([make_frame(2)]) == [2]
    await outbox.close()


async def test_a_full_disk_is_met_by_thinning_and_corrupts_nothing(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 600 * 1024)
    outbox = opened(tmp_path, max_bytes=64 * MIB, disk=disk)
    for number in range(100):
        await outbox.append([make_frame(number, rows=400, noisy=True)])
        assert disk.used() <= 600 * 1024
    await outbox.close()
    outbox = opened(tmp_path, max_bytes=64 * MIB, disk=disk)
    assert (outbox.recovery.torn_bytes, outbox.recovery.corrupt_records) == (0, 0)
    found = {sequence: books(data) for sequence, data in waiting(outbox).items()}
    assert sorted(found) == list(range(1, 101))
    assert all(kept + thinned == 1600 for kept, _, thinned in found.values())
    await outbox.close()


async def test_others_filling_the_disk_stop_growth_but_not_sampling(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 1000 * 1024)
    outbox = Outbox.open(
        tmp_path, max_bytes=64 * MIB, state=lambda: b"", min_free_bytes=500 * 1024, segment_bytes=16 * 1024, disk=disk
    )
    for number in range(60):
        await outbox.append([make_frame(number, rows=400, noisy=True)])
        assert disk.used() <= 520 * 1024
    assert outbox.stats().thinned_readings > 0
    assert len(waiting(outbox)) == 60
    await outbox.close()


async def test_a_failing_disk_stops_the_outbox_and_a_restart_reads_what_is_really_there(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path)
    outbox = opened(tmp_path, disk=disk)
    await outbox.append([make_frame(0)])
    disk.broken = True
    with pytest.raises(Fatal, match="input/output error"):
        await outbox.append([make_frame(1)])
    disk.broken = False
    with pytest.raises(Fatal):
        await outbox.append([make_frame(2)])
    await outbox.close()
    outbox = opened(tmp_path)
    assert sorted(waiting(outbox)) == [1]
    await outbox.close()


async def test_what_is_no_frame_is_refused_at_once(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    with pytest.raises(FrameError):
        await outbox.append([make_frame(), b"junk"])
    assert await outbox.append([]) == []
    assert outbox.stats().frames == 0
    await outbox.close()
    await outbox.close()
    with pytest.raises(Fatal, match="closed"):
        await outbox.append([make_frame()])


async def test_a_reader_is_woken_by_what_arrives(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    waiter = asyncio.create_task(outbox.arrived())
    await asyncio.sleep(0)
    assert not waiter.done()
    await outbox.append([make_frame()])
    await asyncio.wait_for(waiter, 5)
    await outbox.close()


async def test_births_live_as_long_as_a_frame_needs_them(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.save_birth(1, b"old")
    await outbox.append([make_frame(0, epoch=1)])
    outbox.save_birth(2, b"new")
    assert (outbox.epochs(), outbox.birth(1), outbox.birth(2), outbox.birth(3)) == ({1}, b"old", b"new", None)
    outbox.commit(7, [(1, 1)])
    outbox.save_birth(2, b"new")
    assert (outbox.birth(1), outbox.birth(2)) == (None, b"new")
    await outbox.close()


async def test_notes_are_kept_and_cannot_leave_their_folder(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.save_note("datings", b"\x00\x01")
    await outbox.close()
    outbox = opened(tmp_path)
    assert outbox.load_note("datings") == b"\x00\x01"
    assert outbox.load_note("never-saved") is None
    for name in ("../lock", "a/b", "", "A", "a.new"):
        with pytest.raises(ValueError, match="note"):
            outbox.save_note(name, b"")
    await outbox.close()


async def test_a_frame_that_rots_while_waiting_is_buried_and_the_others_go_on(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    await outbox.append([make_frame(number) for number in range(3)])
    [path] = tmp_path.glob("*.segment")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert sorted(waiting(outbox)) == [1, 2]
    await outbox.close()
    assert (outbox.stats().corrupt_records, outbox.stats().dead_letters, outbox.stats().frames) == (1, 1, 2)


async def test_two_segments_made_one_by_a_process_killed_before_it_deleted_the_second(tmp_path: Path) -> None:
    outbox = opened(tmp_path, segment_bytes=16 * 1024)
    for number in range(12):
        await outbox.append([make_frame(number, rows=100, noisy=True)])
    await outbox.close()
    older, newer = sorted(tmp_path.glob("*.segment"))[:2]
    older.write_bytes(older.read_bytes() + newer.read_bytes()[FILE_BYTES:])
    outbox = opened(tmp_path)
    assert (outbox.recovery.pending, outbox.stats().frames) == (12, 12)
    assert sorted(waiting(outbox)) == list(range(1, 13))
    assert not newer.exists()
    assert outbox.commit(7, [(1, 12)]) == 12
    await outbox.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_defect_in_the_writer_thread_is_fatal_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    def defective(_epoch: int) -> frozenset[int]:
        raise ZeroDivisionError

    outbox = Outbox.open(tmp_path, max_bytes=512 * 1024, min_free_bytes=0, state=lambda: b"books", keep_whole=defective)
    appends = asyncio.gather(*(outbox.append([make_frame(number, rows=400, noisy=True)]) for number in range(200)))
    with pytest.raises(Fatal, match="defect"):
        await asyncio.wait_for(appends, 20)
    promised = outbox.stats().appended
    await outbox.close()
    outbox = opened(tmp_path)
    assert len(waiting(outbox)) >= promised
    await outbox.close()


async def test_nothing_on_the_event_loop_waits_for_the_disk(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=512 * 1024)
    frames = [make_frame(number, rows=200, noisy=True) for number in range(80)]
    with blockbuster_ctx():
        for data in frames:
            [sequence] = await outbox.append([data])
            assert outbox.lease(newest=True)
            if sequence % 2:
                outbox.commit(7, [(sequence, sequence)])
            elif sequence % 3:
                outbox.reject(7, sequence, "no")
            else:
                outbox.release(sequence)
            outbox.stats()
    await outbox.close()


async def test_a_cancelled_append_is_whole_or_not_there(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    tasks = [asyncio.create_task(outbox.append([make_frame(number), make_frame(number)])) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await outbox.append([make_frame(99)])
    assert len(waiting(outbox)) % 2 == 1
    await outbox.close()

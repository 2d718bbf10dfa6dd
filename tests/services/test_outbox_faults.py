"""The outbox under real faults: SIGKILL at any instant, a disk that is really full, and a long queue at start."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from outbox_kit import START_NS, books, make_frame, waiting

from contract import frame
from contract.frame import Counters, Frame, Header
from contract.readings import GOOD, Kind, Table
from edge.outbox import Outbox

KILLS = 100
MIB = 1024 * 1024
TESTS = Path(__file__).parent.parent


def opened(directory: Path, *, max_bytes: int = 512 * MIB, segment_bytes: int | None = None) -> Outbox:
    return Outbox.open(
        directory, max_bytes=max_bytes, segment_bytes=segment_bytes, min_free_bytes=0, state=lambda: b"books" * 100
    )


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "outbox_child.py"), str(tmp_path / "outbox")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        yield process
        assert process.stdin
        process.stdin.close()


def promised_until_killed(zygote: "subprocess.Popen[str]", alive_s: float) -> list[int]:
    """Start a worker, kill it `alive_s` after it began, and return every sequence whose append had returned."""
    assert zygote.stdin
    assert zygote.stdout
    zygote.stdin.write("go\n")
    zygote.stdin.flush()
    begun = zygote.stdout.readline().split()
    assert begun[:1] == ["pid"], begun
    promised: list[int] = []
    reader = threading.Thread(target=_read_until_dead, args=(zygote.stdout, promised))
    reader.start()
    # Real time is the point here: the instant of the kill falls anywhere between and within writes and syncs.
    time.sleep(alive_s)
    os.kill(int(begun[1]), signal.SIGKILL)
    reader.join()
    return promised


def _read_until_dead(pipe: IO[str], promised: list[int]) -> None:
    for line in pipe:
        if line == "dead\n":
            return
        promised.append(int(line))


@pytest.mark.timeout(120)
async def test_killed_at_a_hundred_instants_nothing_whose_append_returned_is_missing(
    tmp_path: Path, zygote: "subprocess.Popen[str]"
) -> None:
    dice = random.Random(20261122)
    expected: set[int] = set()
    highest = total = torn = 0
    for kill in range(KILLS):
        promised = promised_until_killed(zygote, dice.uniform(0.0, 0.08))
        assert not promised or min(promised) > highest
        expected |= set(promised)
        total += len(promised)
        outbox = opened(tmp_path / "outbox", max_bytes=64 * MIB, segment_bytes=64 * 1024)
        torn += outbox.recovery.torn_bytes
        assert outbox.recovery.corrupt_records == 0
        found = waiting(outbox)
        assert expected <= set(found), f"kill {kill}: {sorted(expected - set(found))} are missing"
        highest = max([highest, *found])
        if kill % 5 == 4:  # the database has most of it; what it has must not come back
            done = set(dice.sample(sorted(found), len(found) * 9 // 10))
            for sequence in done:
                assert outbox.commit(frame.peek(found[sequence]).boot, [(sequence, sequence)]) == 1
            expected = set(found) - done
            await outbox.close()
            outbox = opened(tmp_path / "outbox", max_bytes=64 * MIB, segment_bytes=64 * 1024)
            assert set(waiting(outbox)) == expected
        await outbox.close()
    print(f"\n{KILLS} kills, {total} appends promised, {torn} torn bytes cut off, 0 missing")
    assert total > KILLS


@pytest.fixture
def two_mebibytes(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "small"
    mounted.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mounted)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, f"this test needs the right to mount a tmpfs (run it as root): {made.stderr}"
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


async def test_a_disk_that_is_really_full_costs_resolution_and_nothing_else(two_mebibytes: Path) -> None:
    directory = two_mebibytes / "outbox"
    outbox = opened(directory)
    for number in range(400):
        if number == 200:  # someone else takes what is left
            used = shutil.disk_usage(two_mebibytes)
            (two_mebibytes / "other").write_bytes(b"\0" * used.free)
        await outbox.append([make_frame(number, rows=400, noisy=True)])
    free = shutil.disk_usage(two_mebibytes).free
    before = outbox.stats()
    await outbox.close()
    outbox = opened(directory)
    found = {sequence: books(data) for sequence, data in waiting(outbox).items()}
    recovery = outbox.recovery
    kept, thinned = sum(one[0] for one in found.values()), sum(one[2] for one in found.values())
    print(f"\n2 MiB: 640000 readings in, {kept} kept, {thinned} thinned, {free} bytes free at the end")
    assert sorted(found) == list(range(1, 401))
    assert kept + thinned == 400 * 1600
    assert thinned == before.thinned_readings > 0
    assert found[400][2] == 0
    assert (recovery.torn_bytes, recovery.corrupt_records) == (0, 0)
    assert outbox.commit(7, [(1, 400)]) == 400
    await outbox.append([make_frame(1)])
    await outbox.close()


def street(number: int, rows: int, streams: int) -> bytes:
    """A realistic frame: `rows` scans of temperatures that wander by tenths."""
    dice = np.random.default_rng(number)
    values = np.round(20 + np.cumsum(dice.integers(-1, 2, (rows, streams)), axis=0) * 0.1, 1)
    base_ns = START_NS + number * 10**9
    ids = np.arange(streams, dtype=np.int32)
    table = Table(
        Kind.FLOAT,
        ids,
        base_ns + np.arange(rows, dtype=np.int64) * 10**9,
        values,
        np.full((rows, streams), GOOD, dtype=np.uint8),
        np.ones(streams, dtype=np.int8),
    )
    nothing = np.zeros(streams, dtype=np.int64)
    counters = Counters(ids, nothing + rows * (number + 1), nothing, nothing, nothing + base_ns)
    return frame.encode(Frame(Header(7, 0, 1, base_ns), (table,), counters=counters))


@pytest.mark.parametrize(
    ("frames", "rows", "streams"),
    [
        pytest.param(1_000, 50, 20, id="a million readings in frames of a thousand"),
        pytest.param(100_000, 1, 10, id="a million readings in frames of ten"),
        pytest.param(10_000, 50, 20, id="ten million readings"),
    ],
)
async def test_a_long_queue_opens_in_under_a_second(tmp_path: Path, frames: int, rows: int, streams: int) -> None:
    shapes = [street(number, rows, streams) for number in range(50)]
    outbox = opened(tmp_path)
    for begin in range(0, frames, 1000):
        await outbox.append([shapes[number % 50] for number in range(begin, begin + 1000)])
    await outbox.close()
    took_s, read_s, pending = [], [], []
    for _ in range(3):
        began = time.perf_counter()
        size = sum(len(path.read_bytes()) for path in tmp_path.glob("*.segment"))
        read_s.append(time.perf_counter() - began)
        began = time.perf_counter()
        outbox = opened(tmp_path)
        took_s.append(time.perf_counter() - began)
        pending.append(outbox.recovery.pending)
        await outbox.close()
    print(
        f"\n{frames * rows * streams} readings in {frames} frames, {size / 1e6:.1f} MB: "
        f"open {min(took_s) * 1e3:.0f} ms, reading the bytes alone {min(read_s) * 1e3:.1f} ms"
    )
    assert pending == [frames] * 3
    assert min(took_s) < 1.0

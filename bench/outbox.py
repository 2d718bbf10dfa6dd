"""Why: everything a gateway says passes its disk first. How much can that carry, and how soon is it back after a start?

The outbox itself, in this process, on the disk of TMPDIR; frames of 1,000 readings (the mix of the wire benchmark).
Floor: the disk alone, pwrite and fdatasync of the same bytes. Reference: SQLite in WAL mode with synchronous=FULL, one
commit a frame: what a Python program uses that wants to lose nothing.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from bench.processes import BenchFailed, folder
from bench.report import Figure, Report
from bench.wire_data import Framer, mix
from contract import frame
from edge.outbox import Outbox

MIB = 1024 * 1024
ROWS, STREAMS = 50, 20
READINGS = ROWS * STREAMS
TASKS = 100
TOGETHER = 1000
WINDOW = 64
OPEN_S = 1.0
TEN_MILLION = 10_000_000
BOOT = 0x1234_5678_9ABC


def run(report: Report, *, quick: bool) -> None:
    """All figures of the outbox."""
    asyncio.run(_run(report, 0.5 if quick else 2.0))


async def _run(report: Report, seconds: float) -> None:
    frames = _frames(ROWS)
    with folder() as where:
        syncs = disk_syncs(where / "floor", len(frames[0]), seconds)
        single_sql, group_sql, drain_sql = _sqlite(where / "reference.sqlite", frames[0], seconds)
        report.add(Figure("outbox/disk/syncs_per_s", syncs, "/s", higher=True, note="the floor: one frame each"))
        single = await _timed(where / "single", lambda box, data: _one_by_one(box, data, seconds), frames)
        group = await _timed(where / "group", lambda box, data: _in_tasks(box, data, seconds), frames)
        batch = await _timed(where / "batch", lambda box, data: _together(box, data, seconds), frames)
        drained = await _drain(where / "batch")
    for metric, figure, floor, reference, note in (
        ("append", single, syncs, single_sql, "each awaited, as the packer does"),
        ("append_group", group, syncs, single_sql, f"{TASKS} tasks, one frame each"),
        ("append_batch", batch, syncs, group_sql, f"{TOGETHER} frames at once; reference: {TOGETHER} a commit"),
        ("drain", drained, None, drain_sql, f"lease and commit, {WINDOW} under way; reference: select and delete"),
    ):
        report.add(
            Figure(
                f"outbox/{metric}/readings_per_s",
                figure * READINGS,
                "/s",
                floor=None if floor is None else floor * READINGS,
                reference=reference * READINGS,
                higher=True,
                note=f"{figure:,.0f} frames/s; {note}",
            )
        )
    for name, rows in (("open_10m_s", ROWS), ("open_10m_small_frames_s", 5)):
        await _opening(report, name, _frames(rows), rows * STREAMS)


def _frames(rows: int) -> list[bytes]:
    samples = mix(rows * 40)
    framer = Framer(samples.columns)
    return [frame.encode(framer.frame(batch)) for batch in samples.batches(rows)]


def disk_syncs(path: Path, size: int, seconds: float) -> float:
    """How often a second the disk makes `size` more bytes of a file durable."""
    data = os.urandom(size)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        count, began_s = 0, time.monotonic()
        while time.monotonic() - began_s < seconds:
            os.pwrite(descriptor, data, count * size)
            os.fdatasync(descriptor)
            count += 1
        return count / (time.monotonic() - began_s)
    finally:
        os.close(descriptor)


def _sqlite(path: Path, data: bytes, seconds: float) -> tuple[float, float, float]:
    """Frames a second: one a commit, TOGETHER a commit, and taken out again oldest first, WINDOW a commit."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        base.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY AUTOINCREMENT, frame BLOB NOT NULL)")

        def put(count: int) -> None:
            base.execute("BEGIN")
            base.executemany("INSERT INTO queue (frame) VALUES (?)", [(data,)] * count)
            base.execute("COMMIT")

        single = _rate(lambda: put(1), seconds)
        group = _rate(lambda: put(TOGETHER), seconds) * TOGETHER

        def take() -> None:
            rows = base.execute("SELECT id, frame FROM queue ORDER BY id LIMIT ?", (WINDOW,)).fetchall()
            if not rows:
                raise BenchFailed("the reference's queue ran empty")
            base.execute("DELETE FROM queue WHERE id <= ?", (rows[-1][0],))

        return single, group, _rate(take, min(seconds, 0.3)) * WINDOW


def _rate(call: Callable[[], None], seconds: float) -> float:
    count, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < seconds:
        call()
        count += 1
    return count / (time.monotonic() - began_s)


async def _timed(directory: Path, fill: Callable[[Outbox, list[bytes]], Awaitable[int]], frames: list[bytes]) -> float:
    outbox = _open(directory)
    try:
        began_s = time.monotonic()
        count = await fill(outbox, frames)
        return count / (time.monotonic() - began_s)
    finally:
        await outbox.close()


def _open(directory: Path) -> Outbox:
    return Outbox.open(directory, max_bytes=1024 * MIB, state=lambda: b"x" * 2000, min_free_bytes=0)


async def _one_by_one(outbox: Outbox, frames: list[bytes], seconds: float) -> int:
    count, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < seconds:
        await outbox.append([frames[count % len(frames)]])
        count += 1
    return count


async def _in_tasks(outbox: Outbox, frames: list[bytes], seconds: float) -> int:
    counts = await asyncio.gather(*(_one_by_one(outbox, frames, seconds) for _ in range(TASKS)))
    return sum(counts)


async def _together(outbox: Outbox, frames: list[bytes], seconds: float) -> int:
    bundle = [frames[number % len(frames)] for number in range(TOGETHER)]
    count, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < seconds:
        count += len(await outbox.append(bundle))
    return count


async def _drain(directory: Path) -> float:
    """Frames a second that leave: leased, and acknowledged WINDOW at a time, until 30,000 or all are gone."""
    outbox = _open(directory)
    try:
        most = min(outbox.stats().frames, 30_000)
        began_s = time.monotonic()
        for _ in _windows(most):
            leased = [outbox.lease(newest=False) for _ in range(WINDOW)]
            numbers = [one.sequence for one in leased if one is not None]
            if outbox.commit(BOOT, [(numbers[0], numbers[-1])]) != len(numbers):
                raise BenchFailed("the outbox did not take an acknowledgement")
        await outbox.append([])  # when it returns, the acknowledgements are noted and the space is free
        return most // WINDOW * WINDOW / (time.monotonic() - began_s)
    finally:
        await outbox.close()


def _windows(count: int) -> Iterator[int]:
    return iter(range(count // WINDOW))


async def _opening(report: Report, name: str, frames: list[bytes], readings: int) -> None:
    with folder() as where:
        outbox = _open(where / "outbox")
        bundle = [frames[number % len(frames)] for number in range(TOGETHER)]
        for _ in range(TEN_MILLION // readings // TOGETHER):
            await outbox.append(bundle)
        size = outbox.stats().bytes
        await outbox.close()
        began_s = time.monotonic()
        for path in sorted((where / "outbox").glob("*")):
            if path.is_file():
                path.read_bytes()
        floor_s = time.monotonic() - began_s
        began_s = time.monotonic()
        outbox = _open(where / "outbox")
        took_s = time.monotonic() - began_s
        waiting = outbox.stats().frames
        await outbox.close()
    if waiting * readings != TEN_MILLION:
        raise BenchFailed(f"{waiting} frames of {readings} readings were there again, of 10 million readings")
    note = f"{waiting:,} frames, {size / 1e6:.1f} MB; floor: the files read; both from the page cache"
    report.add(Figure(f"outbox/{name}", took_s, "s", target=OPEN_S, floor=floor_s, note=note))

"""Killed at any moment, again and again: what a gateway counts as GATEWAY_OFF is what the ledger expects by time."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest
from sampling import EPOCH, Rig, ScriptedBus, scan, stream
from virtual_clock import SECOND, VirtualClock, run

from cloud.ledger_book import EMPTY, merge, receipt
from cloud.ledger_report import BootView, GatewayView, LedgerReport, StreamView, build
from cloud.ledger_sequences import Sequences
from contract import frame as frames
from contract.catalogue import Area, Birth, Device, Stream
from contract.frame import Frame
from contract.readings import Reason
from contract.topics import GatewayPath
from drivers.base import Scan
from edge.books import Resumed, outcomes, resume
from edge.bus_task import BusRun
from edge.streams import StreamTable
from edge.supervisor import Supervisor

LIVES = 12


def birth_of(table: StreamTable) -> bytes:
    streams = tuple(
        Stream(
            id=e.id,
            name=e.spec.name,
            quantity=e.spec.quantity,
            unit=e.spec.unit,
            type=e.spec.type,
            interval_s=e.interval_s,
        )
        for e in table.entries
    )
    area = Area(city="c", district="d", street="s")
    return Birth(gateway="g", area=area, devices=(Device(name="dev", streams=streams),)).encode()


async def life(clock: VirtualClock, one: Scan, resumed: Resumed | None, seconds: float) -> Rig:
    """One life of the sampling half, ended as a power cut ends it: nothing is flushed, nothing is told."""
    rig = Rig(clock, [one], resumed=resumed)
    bus = ScriptedBus(clock, lambda _s, _n: None)
    stopping = asyncio.Event()
    supervisor = Supervisor([BusRun("b", bus, [one])], rig.pipeline, clock, rng=random.Random(1))
    jobs = [asyncio.create_task(supervisor.run(stopping)), asyncio.create_task(rig.packer.run(stopping))]
    await clock.sleep(seconds)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    return rig


def books_of(lives: list[list[Frame]], table: StreamTable) -> LedgerReport:
    """What the ledger makes of the frames of every life, all of which have come."""
    rows_of = np.arange(len(table.entries), dtype=np.int64)
    boots, sequence = [], 0
    for number, life_frames in enumerate(lives):
        first, receipts = sequence, []
        for frame in life_frames:
            numbered = replace(frame, header=replace(frame.header, sequence=sequence))
            kept = [(t.streams.astype(np.int64), t.present().sum(axis=0).astype(np.int64)) for t in frame.tables]
            receipts.append(receipt(numbered, rows_of, kept, []))
            sequence += 1
        if receipts:
            received = Sequences([(first, sequence - 1)])
            boots.append(BootView(number, number, received, Sequences(), merge(receipts), {}, False, sequence))
    streams = [StreamView(e.id, "dev", e.spec.name, e.interval_s, e.scheduled) for e in table.entries]
    path = GatewayPath("c", "d", "s", "g")
    return build([GatewayView(path, True, len(lives) - 1, sequence, sequence, streams, boots, EMPTY)])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("deadband", [None, 0.5])
@pytest.mark.parametrize(("interval_s", "life_s", "off_s"), [(0.1, 20, 10), (1, 90, 60), (60, 900, 600)])
def test_kills_at_random_instants(
    interval_s: float, life_s: float, off_s: float, deadband: float | None, seed: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        aggregate = {"window_s": 10 * interval_s}
        one = scan(stream("t", deadband=deadband, aggregate=aggregate), interval_s=interval_s)
        resumed: Resumed | None = None
        lives: list[list[Frame]] = []
        began_ns = clock.boottime_ns() + clock.wall_offset_ns
        for _ in range(LIVES):
            rig = await life(clock, one, resumed, chance.uniform(0.1, life_s))
            checkpoint = chance.random() < 0.5
            state = rig.books.state() if checkpoint or not rig.disk else None
            births = {EPOCH: birth_of(rig.table)}
            kept = [] if checkpoint else rig.disk
            merged = dict(resumed.streams) if resumed and not checkpoint else {}
            fresh = resume(state, kept, births.get).streams
            resumed = Resumed({**merged, **fresh})
            lives.append([frames.decode(data) for data in rig.disk])
            await clock.sleep(chance.uniform(0, off_s))
        report = books_of(lives, rig.table)
        assert report.totals["unexplained"] == 0, report.rows
        for row in report.rows:
            entry = next(e for e in rig.table.entries if e.spec.name == row.stream)
            last_ns = resumed.streams[entry.key].until_ns if resumed else 0
            by_time = (last_ns - began_ns) / SECOND / entry.interval_s
            # Each life begins its ticks anew: half an interval up or down, once a life.
            assert abs(row.expected - by_time) <= 0.5 * LIVES + 2, row
            assert sum(outcomes_of(lives, entry.id)) == row.expected

    run(main)


def outcomes_of(lives: list[list[Frame]], stream_id: int) -> list[int]:
    """What each frame accounts of a stream."""
    return [outcomes(frame).get(stream_id, 0) for one in lives for frame in one]


@pytest.mark.parametrize("seed", range(3))
def test_many_short_lives_do_not_drift(seed: int) -> None:
    """A gateway in a crash loop: the error of each life is half an interval at most, and they do not all go one way."""

    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        one = scan(interval_s=1)
        resumed: Resumed | None = None
        due = 0
        began_ns = clock.boottime_ns() + clock.wall_offset_ns
        for _ in range(200):
            rig = await life(clock, one, resumed, chance.uniform(0.5, 5))
            resumed = resume(rig.books.state(), [], lambda _epoch: None)
            due += sum(sum(outcomes(frames.decode(data)).values()) for data in rig.disk)
            await clock.sleep(chance.uniform(0, 5))
        by_time = (resumed.streams["dev/t"].until_ns - began_ns) / SECOND if resumed else 0
        assert abs(due - by_time) <= 30

    run(main)


def test_a_gap_of_the_off_time_lies_between_the_lives() -> None:
    async def main(clock: VirtualClock) -> None:
        one = scan(interval_s=1)
        first = await life(clock, one, None, 10.5)
        before = resume(first.books.state(), [], lambda _epoch: None)
        await clock.sleep(20)
        second = await life(clock, one, before, 5.5)
        [gap] = [gap for data in second.disk for gap in frames.decode(data).gaps]
        first_ns = min(t for data in second.disk for table in frames.decode(data).tables for t in table.times.tolist())
        assert gap.reason is Reason.GATEWAY_OFF
        assert before.streams["dev/t"].until_ns < gap.first_ns <= gap.last_ns < first_ns

    run(main)

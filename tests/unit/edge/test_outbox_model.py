"""The outbox against a plain model: generated operations with crashes, rot and full disks between them.

The model is a dict of what `append` promised. After every step: nothing promised is missing unless it was acknowledged,
rejected or rotted (and then counted), what was thinned is counted inside the frame, numbers only rise, and the files
stay within the budget.
"""

import asyncio
import logging
import random
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from outbox_kit import ALARM, STREAMS, SmallDisk, books, bytes_on_disk, make_frame, waiting

from contract.errors import OutboxFull
from edge.outbox import Leased, Outbox
from edge.outbox_segment import RecordType, record

MAX_BYTES = 256 * 1024
SEGMENT_BYTES = 8 * 1024
T = TypeVar("T")


class OutboxMachine(RuleBasedStateMachine):
    """`live`: sequence -> (rows, alarms) of what was promised. `leased`: those under way, with the bytes handed out."""

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("edge.outbox").setLevel(logging.CRITICAL)  # thousands of full disks; teardown speaks again
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="outbox-"))
        self.disk = SmallDisk(self.directory)
        self.live: dict[int, tuple[int, int]] = {}
        self.finished: set[int] = set()
        self.leased: dict[int, Leased] = {}
        self.last = 0
        self.made = 0
        self.tight = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.open()

    def open(self) -> None:
        self.outbox = Outbox.open(
            self.directory,
            max_bytes=MAX_BYTES,
            segment_bytes=SEGMENT_BYTES,
            min_free_bytes=0,
            state=lambda: b"books" * 20,
            keep_whole=lambda _epoch: frozenset({ALARM}),
            disk=self.disk,
        )
        self.leased.clear()
        self.tight = self.disk.capacity is not None

    def close(self) -> None:
        self.run(self.outbox.close())

    @rule(n=st.integers(1, 4), rows=st.sampled_from([1, 20, 150]), alarms=st.sampled_from([0, 1]))
    def append(self, n: int, rows: int, alarms: int) -> None:
        frames = [make_frame(self.made + i, rows=rows, alarms=alarms, noisy=True) for i in range(n)]
        self.made += n
        try:
            sequences = self.run(self.outbox.append(frames))
        except OutboxFull:
            assert self.disk.capacity is not None or bytes_on_disk(self.directory) > MAX_BYTES // 2
            return
        assert sequences == sorted(set(sequences))
        assert sequences[0] > self.last
        self.last = sequences[-1]
        self.live |= dict.fromkeys(sequences, (rows, alarms))

    @rule(newest=st.booleans())
    def lease(self, newest: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        free = [sequence for sequence in self.live if sequence not in self.leased]
        leased = self.outbox.lease(newest=newest)
        if not free:
            assert leased is None
            return
        assert leased is not None
        assert leased.sequence == (max(free) if newest else min(free))
        self.accounted(leased.sequence, leased.data)
        self.leased[leased.sequence] = leased

    def accounted(self, sequence: int, data: bytes) -> None:
        rows, alarms = self.live[sequence]
        kept, alarmed, thinned = books(data)
        assert (kept + thinned, alarmed) == (rows * STREAMS, alarms)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.leased)))
        self.outbox.release(sequence)
        del self.leased[sequence]

    @rule()
    def release_all(self) -> None:
        self.outbox.release_all()
        self.leased.clear()

    @rule(low=st.integers(0, 80), length=st.sampled_from([0, 3, 30, 2**63]), boot=st.sampled_from([7, 7, 7, 8]))
    def commit(self, low: int, length: int, boot: int) -> None:
        low = max(self.last - low, 0)
        freed = {sequence for sequence in self.live if boot == 7 and low <= sequence <= low + length}
        assert self.outbox.commit(boot, [(low, low + length)]) == len(freed)
        self.finish(freed)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.live)))
        self.outbox.reject(7, sequence, "no such stream")
        self.finish({sequence})

    def finish(self, sequences: set[int]) -> None:
        self.finished |= sequences
        for sequence in sequences:
            self.live.pop(sequence)
            self.leased.pop(sequence, None)

    @rule()
    def restart(self) -> None:
        tight = self.tight
        self.close()
        self.open()
        self.forget(allowed=tight)
        # A disk so full that a tail could not be cut off leaves it to the next start.
        assert tight or (self.outbox.recovery.torn_bytes, self.outbox.recovery.corrupt_records) == (0, 0)

    @rule(keep=st.floats(0.01, 0.99), seed=st.integers(0, 99), forgotten=st.booleans())
    def crash(self, keep: float, seed: int, forgotten: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        """Power goes in the middle of an append, and perhaps takes the unsynced acknowledgements too."""
        tight = self.tight
        self.close()
        newest = max(self.directory.glob("*.segment"), default=None)
        torn = 0
        if newest is not None:
            whole = record(RecordType.FRAME, self.last + 1, make_frame(seed, rows=20, noisy=True))
            part = whole[: max(1, int(len(whole) * keep))]
            torn = len(part)
            with newest.open("ab") as file:
                file.write(part)
        (self.directory / f"{self.last + 1:020d}.segment.new").write_bytes(b"half a segment")
        journal = self.directory / "acked"
        if forgotten:
            journal.write_bytes(journal.read_bytes()[: random.Random(seed).randrange(journal.stat().st_size + 1)])
        self.open()
        assert tight or (self.outbox.recovery.torn_bytes, self.outbox.recovery.corrupt_records) == (torn, 0)
        self.forget(allowed=forgotten or tight)

    def forget(self, *, allowed: bool) -> None:
        """Finished frames may come back when there was no room to note it. The cloud knows them: finish again."""
        found = set(waiting(self.outbox))
        assert set(self.live) <= found
        back = found - set(self.live)
        assert back <= (self.finished if allowed else set())
        self.outbox.commit(7, [(sequence, sequence) for sequence in back])

    @precondition(lambda self: self.live)
    @rule(where=st.floats(0, 1), which=st.integers(0, 1000), bit=st.integers(0, 7))
    def rot(self, where: float, which: int, bit: int) -> None:
        self.disk.capacity = None  # damage that cannot be repaired for lack of room is found again at each start
        self.close()
        paths = sorted(self.directory.glob("*.segment"))
        path = paths[which % len(paths)]
        content = bytearray(path.read_bytes())
        content[min(int(where * len(content)), len(content) - 1)] ^= 1 << bit
        path.write_bytes(content)
        self.open()
        recovery = self.outbox.recovery
        found = set(waiting(self.outbox))
        lost, back = set(self.live) - found, found - set(self.live)
        assert back <= self.finished
        self.outbox.commit(7, [(sequence, sequence) for sequence in back])
        assert len(lost) <= 1
        assert recovery.corrupt_records + (recovery.torn_bytes > 0) == 1
        self.finish(lost)

    @rule(spare=st.sampled_from([None, 0, 3_000, 30_000]))
    def others_use_the_disk(self, spare: int | None) -> None:
        self.disk.capacity = None if spare is None else self.disk.used() + spare
        self.tight |= spare is not None

    @invariant()
    def nothing_is_missing_and_the_budget_is_kept(self) -> None:
        if hasattr(self, "outbox"):
            assert self.run(self.outbox.append([])) == []
            stats = self.outbox.stats()
            assert (stats.frames, stats.leased) == (len(self.live), len(self.leased))
            assert bytes_on_disk(self.directory) <= MAX_BYTES

    def teardown(self) -> None:
        try:
            if hasattr(self, "outbox"):
                self.outbox.release_all()
                found = waiting(self.outbox)
                assert sorted(found) == sorted(self.live)
                for sequence, data in found.items():
                    self.accounted(sequence, data)
                self.close()
        finally:
            logging.getLogger("edge.outbox").setLevel(logging.NOTSET)
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.directory)


TestOutboxModel = OutboxMachine.TestCase
TestOutboxModel.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failing run prints its steps; shrinking takes minutes
)

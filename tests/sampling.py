"""The sampling half of a gateway on a bench: all of it real, but for scripted devices and a list as outbox."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from virtual_clock import VirtualClock

from contract import frame as frames
from contract.errors import OutboxFull
from contract.frame import Frame
from contract.readings import Reading, Reason, Value
from drivers.base import Block, DeviceSpec, Scan, StreamSpec
from edge.books import Books, Resumed, outcomes
from edge.clock import TrustedClock
from edge.packer import Packer
from edge.pipeline import Pipeline
from edge.streams import StreamTable, scans_of

EPOCH = 7


def stream(name: str = "t", **settings: Any) -> StreamSpec:
    return StreamSpec.model_validate({"name": name, "quantity": "temperature", "unit": "Cel", **settings})


def scan(*streams: StreamSpec, device: str = "dev", **settings: Any) -> Scan:
    (only,) = scans_of(DeviceSpec(name=device, streams=streams or (stream(),), **settings))
    return only


class Rig:
    """Everything from pipeline to outbox for `scans`. `disk` holds what the outbox took; `full` makes it refuse."""

    def __init__(
        self,
        clock: VirtualClock,
        scans: Sequence[Scan],
        *,
        listening: Sequence[Scan] = (),
        trusted: bool = True,
        resumed: Resumed | None = None,
        **packer: Any,
    ) -> None:
        self.disk: list[bytes] = []
        self.full = False
        self.notes: dict[str, bytes] = {}
        self.trust = trusted
        self.clock = TrustedClock(clock, lambda: self.trust, self.notes.get, self.notes.__setitem__)
        self.clock.check()
        self.table = StreamTable([*((one, True) for one in scans), *((one, False) for one in listening)])
        self.books = Books(self.table.entries, resumed)
        self.packer = Packer(self.books, self.clock, self.append, epoch=EPOCH, boot=1, **packer)
        self.pipeline = Pipeline(self.table, self.clock, self.packer)

    async def append(self, data: Sequence[bytes]) -> list[int]:
        await asyncio.sleep(0.001)
        if self.full:
            raise OutboxFull("no room")
        self.disk += data
        return list(range(len(self.disk) - len(data), len(self.disk)))

    def feed(self, one: Scan, *values: Value, time_ns: int, status: Sequence[int] | None = None) -> None:
        """A block of one value a stream."""
        self.pipeline.take(block(one, *values, time_ns=time_ns, status=status))

    async def frames(self) -> list[Frame]:
        """Everything so far, flushed and decoded."""
        await self.packer.flush()
        return [frames.decode(data) for data in self.disk]

    async def readings(self, name: str) -> list[Reading]:
        """Every reading of a stream, in order."""
        number = self.id(name)
        found = [r for frame in await self.frames() for table in frame.tables for r in table.readings()]
        return sorted((r for r in found if r.stream == number), key=lambda r: r.time_ns)

    async def gaps(self, name: str) -> Counter[Reason]:
        """How many samples of a stream are explained, by reason."""
        number = self.id(name)
        counted: Counter[Reason] = Counter()
        for frame in await self.frames():
            for gap in frame.gaps:
                if number in gap.streams:
                    counted[gap.reason] += gap.count
        return counted

    def id(self, name: str) -> int:
        return next(entry.id for entry in self.table.entries if name in {entry.key, entry.spec.name})

    async def balance(self) -> dict[str, int]:
        """What is due of every stream, by key, after checking that the frames account for exactly that."""
        total: Counter[int] = Counter()
        due: dict[int, int] = {}
        for frame in await self.frames():
            total.update(outcomes(frame))
            assert frame.counters is not None
            due.update(zip(frame.counters.streams.tolist(), frame.counters.due.tolist(), strict=True))
            assert all(total[number] == count for number, count in due.items())
        assert set(total) == set(due)
        return {self.table.entries[number].key: count for number, count in due.items()}


def block(one: Scan, *values: Value, time_ns: int, status: Sequence[int] | None = None, dated: bool = False) -> Block:
    made = Block.empty(one, time_ns)
    made.dated = dated
    made.floats[:] = values[: one.n_floats]
    made.ints[:] = values[one.n_floats : one.n_floats + one.n_ints]
    made.texts[:] = [str(text) for text in values[one.n_floats + one.n_ints :]]
    if status is not None:
        made.status[:] = status
    return made


Answer = Callable[[Scan, int], Block]


class ScriptedBus:
    """A PolledBus: each poll takes `delay_s` and does what `script(scan, number of the poll)` says: block or error."""

    def __init__(self, clock: VirtualClock, script: Callable[[Scan, int], Block | Exception | None]) -> None:
        self.clock = clock
        self.script = script
        self.delay_s: Callable[[int], float] = lambda _poll: 0.01
        self.polls: list[tuple[str, int]] = []
        self.opened = 0
        self.closed = 0
        self.open_error: Exception | None = None

    async def open(self) -> None:
        self.opened += 1
        if self.open_error is not None:
            raise self.open_error

    async def close(self) -> None:
        self.closed += 1

    async def write(self, scan: Scan, stream: StreamSpec, value: Value) -> None:
        raise ValueError(f"{scan.device.name}/{stream.name} is read only: {value}")

    async def poll(self, scan: Scan) -> Block:
        number = len(self.polls)
        now_ns = self.clock.boottime_ns()
        self.polls.append((scan.device.name, now_ns))
        await self.clock.sleep(self.delay_s(number))
        answer = self.script(scan, number)
        if isinstance(answer, Exception):
            raise answer
        return answer or block(scan, *[1.0] * len(scan.streams), time_ns=now_ns)


class TalkingBus:
    """A ListeningBus that says what is put into `queue`: a block, an error, or None for the end."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Block | Exception | None] = asyncio.Queue()
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def listen(self) -> AsyncIterator[Block]:
        while (said := await self.queue.get()) is not None:
            if isinstance(said, Exception):
                raise said
            yield said

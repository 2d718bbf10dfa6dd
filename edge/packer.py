"""Why: readings cost one byte on the wire because they travel together; somebody has to gather them.

The packer takes rows and gaps from the pipeline without ever making it wait, closes a frame when its linger is over
(edge/linger.py) or at `max_readings`, and hands it to the outbox. When the outbox refuses (OutboxFull), the frame stays
here and is offered again; memory stays bounded by thinning, which is counted. The books are settled only by what the
outbox has taken.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from contract.errors import FrameError, OutboxFull
from contract.frame import Frame, Gap, Header, encode
from contract.readings import ABSENT, Bytes, Ints, Reason
from edge.batch import Batch, Row
from edge.books import Books
from edge.checks import MISSING, Flags
from edge.clock import TrustedClock
from edge.linger import Linger
from edge.streams import Group, Indices
from edge.tasks import pause

log = logging.getLogger(__name__)

Append = Callable[[Sequence[bytes]], Awaitable[Sequence[int]]]


class Packer:
    """Gathers rows into frames.

    append: makes frames durable, returns their sequences; raises OutboxFull. has_room: whether sources that can wait
    should go on. max_rows bounds memory. idle_linger_s: how long a frame may wait that only says what was suppressed.
    told: hears of each frame that the outbox took, and its size in bytes.
    """

    def __init__(
        self,
        books: Books,
        clock: TrustedClock,
        append: Append,
        *,
        epoch: int,
        boot: int | None = None,
        linger_s: float = 1.0,
        idle_linger_s: float = 10.0,
        max_readings: int = 50_000,
        max_rows: int = 20_000,
        has_room: Callable[[], bool] = lambda: True,
        told: Callable[[Frame, int], None] | None = None,
    ) -> None:
        self.boot = secrets.randbits(48) if boot is None else boot
        self.thinned_rows = 0
        self.refusals = 0
        self._books = books
        self._clock = clock
        self._append = append
        self._epoch = epoch
        self._linger_s = linger_s
        self._idle_ns = round(idle_linger_s * 1e9)
        self._max_readings = max_readings
        self._max_rows = max_rows
        self._has_room = has_room
        self._told = told
        self._open = {dated: self._batch(dated=dated) for dated in (False, True)}
        self._refused: tuple[Batch, Ints] | None = None
        self._linger = Linger(clock, linger_s, idle_linger_s)
        self._room = asyncio.Event()
        self._room.set()
        self._flushed_ns = clock.boottime_ns()
        self._flushing = asyncio.Lock()

    def take(self, group: Group, row: Row, quiet: Flags | None, *, dated: bool) -> None:
        """Account one row: present readings are kept, but for the `quiet` ones; statuses of gaps become gaps."""
        if not group.entries:
            return
        batch = self._open[dated]
        span = group.span
        codes = row.status if group.whole else row.status[group.positions]
        if row.whole or int(codes.max()) < MISSING:
            batch.due[span] += 1
            batch.until_ns[span] = row.time_ns
            if self._books.resuming:
                self._resume(batch, group, np.arange(span.start, span.stop), row.time_ns, 1)
        else:
            self._take_partly(batch, group, codes, row.time_ns)
            row.change_status(np.where(row.status < MISSING, row.status, ABSENT).astype(np.uint8))
        if quiet is not None:
            batch.suppressed[span] += quiet[group.positions]
            row.change_status(np.where(quiet, ABSENT, row.status).astype(np.uint8))
        if row.status is codes or bool((row.status[group.positions] < MISSING).any()):
            batch.add_row(group, row)
            self._linger.begin()
            self._bound(batch)

    def _take_partly(self, batch: Batch, group: Group, codes: Bytes, time_ns: int) -> None:
        """Account a row in which something is missing or was not due."""
        due = np.flatnonzero(codes != ABSENT) + group.span.start
        if not len(due):
            return
        if self._books.resuming:
            self._resume(batch, group, due, time_ns, 1)
        batch.due[due] += 1
        batch.until_ns[due] = time_ns
        for code in np.unique(codes[(codes >= MISSING) & (codes != ABSENT)]).tolist():
            streams = tuple((np.flatnonzero(codes == code) + group.span.start).tolist())
            batch.add_gap(Gap(streams, time_ns, time_ns, 1, _reason(code)), group.interval_ns * 3 // 2)
            self._linger.begin()

    def miss(
        self,
        group: Group,
        first_ns: int,
        last_ns: int,
        count: int,
        reason: Reason,
        *,
        dated: bool,
        positions: Indices | None = None,
    ) -> None:
        """Account `count` samples of the group (or of some positions of its rows) that are not there."""
        ids = np.arange(group.span.start, group.span.stop)
        if positions is not None:
            ids = ids[np.isin(group.positions, positions)]
        if not len(ids) or count <= 0:
            return
        batch = self._open[dated]
        if self._books.resuming:
            self._resume(batch, group, ids, first_ns, count)
        batch.due[ids] += count
        batch.until_ns[ids] = last_ns
        batch.add_gap(Gap(tuple(ids.tolist()), first_ns, last_ns, count, reason), group.interval_ns * 3 // 2)
        self._linger.begin()

    def _resume(self, batch: Batch, group: Group, ids: Indices, time_ns: int, count: int) -> None:
        for gap in self._books.resume(ids, time_ns, count, dated=batch.dated):
            batch.due[list(gap.streams)] += gap.count
            batch.add_gap(gap, group.interval_ns)

    def _bound(self, batch: Batch) -> None:
        if batch.readings >= self._max_readings:
            # Sources that can wait do so until the frame is on disk; the others may fill as much again.
            self._linger.close_now()
            self._room.clear()
        while batch.readings > 2 * self._max_readings and self._shed(batch):
            pass
        while self.pending_rows > self._max_rows and self._shed(*self._pending()):
            pass

    def _shed(self, *batches: Batch) -> int:
        """Thin the first of the batches that can be, alarms last; returns rows dropped."""
        for alarms in (False, True):
            for batch in batches:
                if dropped := batch.thin(alarms=alarms):
                    self.thinned_rows += dropped
                    return dropped
        return 0

    def _pending(self) -> list[Batch]:
        """The batches that the outbox does not have, oldest first."""
        refused = [self._refused[0]] if self._refused else []
        return [*refused, *self._open.values()]

    @property
    def pending_rows(self) -> int:
        """Rows in memory that the outbox does not have yet."""
        return sum(batch.rows for batch in self._pending())

    async def room(self) -> None:
        """Wait until there is room for more: for sources that can wait. Always lets other tasks run."""
        await asyncio.sleep(0)
        await self._room.wait()

    async def run(self, stopping: asyncio.Event) -> None:
        """Close and hand over frames until `stopping`. Call `flush()` after everything that samples has stopped."""
        while not stopping.is_set():
            if self._refused is None:
                await self._linger.over(stopping)
            else:  # it is offered again after a while, however full the next frame is
                await pause(self._clock, self._linger_s, stopping)
            await self.flush(idle=False)

    def expect(self, source: object, next_ns: int) -> None:
        """A source brings nothing before `next_ns`, CLOCK_BOOTTIME."""
        self._linger.expect(source, next_ns)

    async def flush(self, *, idle: bool = True) -> None:
        """Hand over everything gathered so far. idle: also what only moves the numbers of the books."""
        async with self._flushing:
            idle = idle or self._clock.boottime_ns() - self._flushed_ns >= self._idle_ns
            if self._refused is not None and not await self._offer(*self._refused):
                return
            self._linger.closed()
            for dated in (False, True):
                batch = self._open[dated]
                if batch and (batch.urgent or idle):
                    self._open[dated] = self._batch(dated=dated)
                    self._flushed_ns = self._clock.boottime_ns()
                    if not await self._offer(batch, self._books.close(batch.due)):
                        return
            if self._has_room():
                self._room.set()
            else:
                self._room.clear()

    async def _offer(self, batch: Batch, due: Ints) -> bool:
        """Whether the outbox took the batch; if not, it waits here."""
        now_ns = self._clock.boottime_ns()
        base_ns = self._clock.stamp(now_ns)[0] if batch.dated else now_ns
        header = Header(self.boot, 0, self._epoch, base_ns, undated=not batch.dated)
        frame, data = self._encoded(batch, header, due)
        try:
            await self._append([data])
        except OutboxFull as error:
            self.refusals += 1
            if self._refused is None:
                log.warning("the outbox is full: %s; sampling goes on, readings are thinned in memory", error)
            self._refused = (batch, due)
            self._room.clear()
            return False
        self._books.settle(batch.due, batch.until_ns, undated=not batch.dated)
        if self._told is not None:
            self._told(frame, len(data))
        if self._refused is not None:
            log.warning("the outbox takes frames again; %d rows were thinned in memory so far", self.thinned_rows)
            self._refused = None
        return True

    def _encoded(self, batch: Batch, header: Header, due: Ints) -> tuple[Frame, bytes]:
        """The batch, and its bytes; one that exceeds the format's limits (long texts) is thinned until it fits."""
        while True:
            try:
                frame = batch.frame(header, due)
                return frame, encode(frame)
            except FrameError as error:
                dropped = self._shed(batch)
                if not dropped:
                    dropped = batch.drop_rows()
                    self.thinned_rows += dropped
                log.warning("a frame does not fit its format (%s): %d rows were thinned", error, dropped)
                if not dropped:
                    raise

    def _batch(self, *, dated: bool) -> Batch:
        return Batch(len(self._books.due), dated=dated)


def _reason(code: int) -> Reason:
    try:
        return Reason(code & 0x3F)
    except ValueError:
        return Reason.INTERNAL

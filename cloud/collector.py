"""The middle of the cloud: messages in, points to the store, books to the ledger, acknowledgements back.

The order is the promise. store.write -> quarantine -> ledger commit -> ack to the gateway -> PUBACK to the broker.
Whatever dies in between, the gateway or the broker sends again, the store overwrites the same points and the ledger
counts each (gateway, boot, sequence) once.

A few batches are under way, so that one is decoded while another is with the database and a third with the ledger.
They begin and end in the order in which they were taken: births take effect before the frames behind them, and a frame
that comes again while its first copy is under way is acknowledged when that copy is safe. While the store is away the
batches are kept and tried again, nothing is taken or acknowledged.
Memory: the intake's queue, and those batches decoded (ten to thirty times their bytes).
"""

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from cloud import states
from cloud.births import Births
from cloud.config import Collector as Settings
from cloud.intake import Message
from cloud.ledger import Ledger, Receipt
from cloud.ledger_book import Quarantined, receipt
from cloud.quarantine import Entry, Quarantine
from cloud.stores.base import Writer
from cloud.validation import Catalogue, Checked, check, entry_of, refuse_implausible
from contract import ack, frame, topics
from contract.errors import FrameError, PartialWrite, Rejection, StoreUnavailable
from contract.topics import GatewayPath, TopicKind

log = logging.getLogger(__name__)

FOLD_EVERY_S = 10.0
PACE_S = 0.02  # while batches are under way: frames that come one by one share a request and a sync of the disk
_FIRST_RETRY_S = 0.25
_MAX_STREAMS = 300_000  # of the catalogues in memory, half a kB each; the others are on disk
_MAX_REASON_CHARS = 200
Answer = TypeVar("Answer")
Key = tuple[GatewayPath, int, int]  # gateway, boot, sequence


class Source(Protocol):
    """Where messages come from, and where answers go. cloud.intake.Intake is one."""

    async def take(self, max_messages: int, max_bytes: int, linger_s: float) -> list[Message]:
        """The next messages, at least one."""

    def done(self, messages: Sequence[Message]) -> None:
        """Their fate is decided and durable."""

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send; False when it could not be."""


@dataclass(slots=True)
class Counts:
    """Since the process started; `trouble` is what keeps the store from taking, now."""

    batches: int = 0
    frames: int = 0
    readings: int = 0
    duplicates: int = 0
    rejected: int = 0
    unknown_epochs: int = 0
    quarantined: int = 0
    births: int = 0
    trouble: str | None = None


@dataclass(slots=True, eq=False)
class _Work:
    """One new frame on its way to the store."""

    path: GatewayPath
    frame: frame.Frame
    raw: bytes
    catalogue: Catalogue
    checked: Checked


@dataclass(slots=True, eq=False)
class _Batch:
    """What a batch of messages comes to."""

    works: list[_Work] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)
    duplicates: list[Key] = field(default_factory=list)
    rejected: list[tuple[GatewayPath, frame.Header, str]] = field(default_factory=list)
    unknown: set[tuple[GatewayPath, int, int]] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    births: int = 0


class Collector:
    """Takes from a source until stopped. See the module.

    before_ack: what else must have happened before anything is acknowledged: the tail is on the disk.
    """

    def __init__(
        self,
        source: Source,
        store: Writer,
        *,
        ledger: Ledger,
        births: Births,
        quarantine: Quarantine,
        settings: Settings,
        before_ack: Callable[[], Awaitable[None]] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        jitter: random.Random | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._ledger = ledger
        self._births = births
        self._quarantine = quarantine
        self._settings = settings
        self._before_ack = before_ack
        self._now_ns = now_ns
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, no secret
        self._catalogues: OrderedDict[tuple[GatewayPath, int], Catalogue] = OrderedDict()
        self._catalogued_streams = 0
        self._preparing = asyncio.Lock()
        self._under_way: set[Key] = set()
        self._troubles: dict[object, str] = {}
        self._stopping = False
        self._changed = asyncio.Event()
        self.counts = Counts()

    def stop(self) -> None:
        """Take nothing more; `run` returns when what was taken is dealt with."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Take and deal with batches until `stop`. Cancelling it acknowledges nothing that is not stored."""
        folding = asyncio.create_task(self._fold_often(), name="ledger folding")
        taking: asyncio.Task[list[Message]] | None = None
        batches: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        try:
            while not self._stopping or batches:
                self._changed.clear()
                for one in [one for one in batches if one.done()]:
                    one.result()
                    batches.remove(one)
                may_take = not self._stopping and not self._troubles
                if taking is not None and taking.done():
                    batches.append(self._watched(self.handle(taking.result(), batches[-1:]), "batch"))
                    taking, next_s = None, loop.time() + PACE_S
                elif taking is not None and not may_take:
                    taking.cancel()
                    taking = None
                if taking is None and may_take and len(batches) < self._settings.batches_under_way:
                    if not batches or loop.time() >= next_s:
                        taking = self._watched(self._take_some(), "take")
                    else:
                        loop.call_at(next_s, self._changed.set)
                if not self._stopping or batches:
                    await self._changed.wait()
        finally:
            tasks: list[asyncio.Task[Any]] = [folding, *batches, *([taking] if taking is not None else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watched(self, work: Coroutine[None, None, Answer], name: str) -> "asyncio.Task[Answer]":
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: self._changed.set())
        return task

    async def _take_some(self) -> list[Message]:
        settings = self._settings
        return await self._source.take(settings.batch_frames, settings.batch_bytes, settings.linger_s)

    async def handle(self, messages: Sequence[Message], before: "Sequence[asyncio.Task[None]]" = ()) -> None:
        """Deal with one batch to its end: stored, noted, acknowledged. Waits as long as the store is away.

        before: batches that were taken earlier and must end first; when one fails, this one does.
        """
        async with self._preparing:
            batch = await self._until_possible(lambda: asyncio.to_thread(self._prepare, messages))
            self._under_way |= batch.keys
        rejections = await self._until_possible(lambda: self._write(batch.works))
        quarantine_refused(batch, rejections)
        if before:
            await asyncio.wait(before)
            for one in before:
                one.result()
        await self._until_possible(lambda: asyncio.to_thread(self._note, batch))
        self._under_way -= batch.keys
        if self._before_ack is not None:
            await self._before_ack()
        self._acknowledge(batch)
        self._source.done(messages)
        self._count(batch)

    async def _until_possible(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """Try until the store (or our own disk) takes it; its trouble is logged when it starts and when it ends."""
        wait_s = _FIRST_RETRY_S
        asker = object()
        while True:
            try:
                answer = await attempt()
            except StoreUnavailable as error:
                self._in_trouble(asker, str(error))
                asked_s = error.retry_after_s or 0
                await asyncio.sleep(max(asked_s, wait_s * self._jitter.uniform(0.5, 1.5)))
                wait_s = min(wait_s * 2, self._settings.retry_max_s)
                continue
            self._out_of_trouble(asker)
            return answer

    def _in_trouble(self, asker: object, trouble: str) -> None:
        """It begins with the first batch that cannot go on."""
        if not self._troubles:
            log.warning("the store does not take: %s; holding back, nothing is acknowledged", trouble)
            self._changed.set()
        self._troubles[asker] = self.counts.trouble = trouble

    def _out_of_trouble(self, asker: object) -> None:
        """It ends with the last batch that could not go on."""
        if self._troubles.pop(asker, None) is not None and not self._troubles:
            log.warning("the store takes again")
            self.counts.trouble = None
            self._changed.set()

    async def _write(self, works: list[_Work]) -> Sequence[Rejection]:
        if not works:
            return ()
        try:
            await self._store.write([work.checked.points for work in works])
        except PartialWrite as error:
            return error.rejected
        return ()

    def _prepare(self, messages: Sequence[Message]) -> _Batch:
        """Decode and check; doing it twice changes nothing. Births and states first, in their order, then frames."""
        batch = _Batch()
        told: list[tuple[TopicKind, GatewayPath, bytes]] = []
        frames: list[tuple[GatewayPath, frame.Header, bytes]] = []
        for message in messages:
            try:
                kind, path = topics.parse(message.topic)
            except ValueError as error:
                batch.entries.append(Entry(message.topic[:200], "bad_topic", str(error), 0, message.payload))
                continue
            if kind != TopicKind.DATA:
                told.append((kind, path, message.payload))
                continue
            try:
                frames.append((path, frame.peek(message.payload), message.payload))
            except FrameError as error:  # without a header there is nobody to answer
                batch.entries.append(Entry(str(path), "bad_data", str(error), 0, message.payload))
        catalogues = self._catalogues_of({(path, header.epoch) for path, header, _ in frames}, told, batch)
        for path, header, payload in frames:
            self._take_frame(path, header, payload, batch, catalogues[path, header.epoch])
        return batch

    def _catalogues_of(
        self, keys: set[tuple[GatewayPath, int]], told: list[tuple[TopicKind, GatewayPath, bytes]], batch: _Batch
    ) -> dict[tuple[GatewayPath, int], Catalogue | None]:
        """Take births and states, then find the catalogues of the frames: all that is new costs one sync a batch."""
        found: dict[tuple[GatewayPath, int], Catalogue | None] = {key: self._catalogues.get(key) for key in keys}
        missing = [key for key, catalogue in found.items() if catalogue is None]
        if told or missing:
            with self._births.together(), self._ledger.together():
                for kind, path, payload in told:
                    try:
                        self._take(kind, path, payload, batch)
                    except FrameError as error:
                        batch.entries.append(Entry(str(path), f"bad_{kind.value}", str(error), 0, payload))
                made = {key: self._make_catalogue(*key) for key in missing}
            found |= made  # not before they are durable
        for key, catalogue in found.items():
            if catalogue is not None:
                self._remember(key, catalogue)
        return found

    def _take(self, kind: TopicKind, path: GatewayPath, payload: bytes, batch: _Batch) -> None:
        if not payload:
            return  # a retained message was cleared
        if kind == TopicKind.BIRTH:
            self._births.take(path, payload)
            batch.births += 1
        elif kind == TopicKind.STATE:
            self._ledger.note_state(path, states.decode(payload))

    def _take_frame(
        self, path: GatewayPath, header: frame.Header, payload: bytes, batch: _Batch, catalogue: Catalogue | None
    ) -> None:
        key = (path, header.boot, header.sequence)
        try:
            # Before the question whether it came before: a frame rejected once is rejected again.
            decoded = frame.decode(payload)
            refuse_implausible(decoded)
            known = key in batch.keys or key in self._under_way or self._ledger.known(*key)
            if not known:
                self._refuse_sparse(path, header.boot)
        except FrameError as error:
            batch.keys.add(key)
            batch.rejected.append((path, header, str(error)[:_MAX_REASON_CHARS]))
            batch.entries.append(Entry(str(path), "rejected_frame", str(error), 0, payload))
            return
        if known:
            batch.duplicates.append(key)
            return
        if catalogue is None:
            batch.unknown.add((path, header.boot, header.epoch))
            return
        batch.keys.add(key)
        latest_ns = self._now_ns() + int(self._settings.max_future_s * 1e9)
        checked = check(decoded, payload, path, catalogue, latest_ns)
        batch.entries.extend(checked.entries)
        batch.works.append(_Work(path, decoded, payload, catalogue, checked))

    def _refuse_sparse(self, path: GatewayPath, boot: int) -> None:
        if not self._ledger.has_room(path, boot):
            raise FrameError("too many holes in this boot's sequences")

    def _make_catalogue(self, path: GatewayPath, epoch: int) -> Catalogue | None:
        birth = self._births.get(path, epoch)
        if birth is None:
            return None
        return Catalogue(birth, self._ledger.rows_of(path, birth), self._ledger.unknown_row(path))

    def _remember(self, key: tuple[GatewayPath, int], catalogue: Catalogue) -> None:
        if key not in self._catalogues:
            self._catalogued_streams += len(catalogue)
        self._catalogues[key] = catalogue
        self._catalogues.move_to_end(key)
        while self._catalogued_streams > _MAX_STREAMS and len(self._catalogues) > 1:
            self._catalogued_streams -= len(self._catalogues.popitem(last=False)[1])

    def _note(self, batch: _Batch) -> None:
        """Quarantine first: the ledger's commit says that everything else is done."""
        self._quarantine.put(batch.entries, self._now_ns())
        receipts = [
            Receipt(
                work.path,
                work.frame.header.boot,
                work.frame.header.sequence,
                work.frame.header.time_base_ns,
                receipt(work.frame, work.catalogue.rows_of, work.checked.kept, work.checked.quarantined),
            )
            for work in batch.works
        ]
        receipts += [
            Receipt(path, header.boot, header.sequence, self._now_ns(), None)
            for path, header, _ in batch.rejected
            if header.sequence < 1 << 53 and header.boot < 1 << 53
        ]
        if receipts:
            self._ledger.commit(receipts)

    def _acknowledge(self, batch: _Batch) -> None:
        """One message a gateway and boot; one that is lost is made again when the gateway sends again."""
        stored: dict[tuple[GatewayPath, int], list[int]] = {}
        rejected: dict[tuple[GatewayPath, int], list[tuple[int, str]]] = {}
        epochs: dict[tuple[GatewayPath, int], list[int]] = {}
        for work in batch.works:
            stored.setdefault((work.path, work.frame.header.boot), []).append(work.frame.header.sequence)
        for path, boot, sequence in batch.duplicates:
            stored.setdefault((path, boot), []).append(sequence)
        for path, header, why in batch.rejected:
            rejected.setdefault((path, header.boot), []).append((header.sequence, why))
        for path, boot, epoch in sorted(batch.unknown, key=str):
            epochs.setdefault((path, boot), []).append(epoch)
        for key in {**stored, **rejected, **epochs}:
            path, boot = key
            refused = rejected.get(key, [])
            refused_numbers = {sequence for sequence, _ in refused}
            numbers = [sequence for sequence in stored.get(key, []) if sequence not in refused_numbers]
            message = ack.Ack(boot, ack.ranges(numbers), refused, epochs.get(key, []))
            self._source.publish(path.topic(TopicKind.ACK), ack.encode(message))

    def _count(self, batch: _Batch) -> None:
        counts = self.counts
        counts.batches += 1
        counts.frames += len(batch.works)
        counts.readings += sum(int(kept.sum()) for work in batch.works for _, kept in work.checked.kept)
        counts.duplicates += len(batch.duplicates)
        counts.rejected += len(batch.rejected)
        counts.unknown_epochs += len(batch.unknown)
        counts.quarantined += len(batch.entries)
        counts.births += batch.births

    async def _fold_often(self) -> None:
        trouble = False
        while True:
            await asyncio.sleep(FOLD_EVERY_S)
            try:
                await asyncio.to_thread(self._ledger.fold, self._now_ns())
                trouble = False
            except StoreUnavailable as error:
                if not trouble:
                    log.warning("the ledger cannot be folded: %s; receipts wait", error)
                trouble = True


def quarantine_refused(batch: _Batch, rejections: Sequence[Rejection]) -> None:
    """Move the readings that the store refused from kept to quarantined, with the store's own words."""
    by_frame: dict[int, dict[tuple[int, int], str]] = {}
    for one in rejections:
        by_frame.setdefault(one.frame, {})[one.stream, one.time_ns] = one.reason
    for index, refused in by_frame.items():
        work = batch.works[index]
        by_reason: dict[str, list[tuple[int, int]]] = {}
        for place, reason in refused.items():
            by_reason.setdefault(reason, []).append(place)
        for reason, places in by_reason.items():
            _refuse(batch, work, reason, places)


def _refuse(batch: _Batch, work: _Work, reason: str, places: list[tuple[int, int]]) -> None:
    masks = []
    for position, table in enumerate(work.checked.points.tables):
        columns = {stream: column for column, stream in enumerate(table.streams.tolist())}
        mask = np.zeros(table.status.shape, dtype=np.bool_)
        for stream, time_ns in places:
            if stream in columns:
                mask[table.times == time_ns, columns[stream]] = True
        mask &= table.present()
        if not mask.any():
            continue
        counts = np.count_nonzero(mask, axis=0).astype(np.int64)
        ledger_rows, kept = work.checked.kept[position]
        work.checked.kept[position] = (ledger_rows, kept - counts)
        work.checked.quarantined.extend(
            (int(ledger_rows[col]), Quarantined.REFUSED_BY_STORE, int(counts[col])) for col in np.flatnonzero(counts)
        )
        masks.append((table, mask))
    if masks:
        batch.entries.append(
            entry_of(
                work.frame,
                work.raw,
                work.path,
                work.catalogue,
                why=Quarantined.REFUSED_BY_STORE,
                detail=reason,
                masks=masks,
            )
        )

"""The feed: follows the tail, keeps the newest reading of every stream, and hands what passes to who listens.

One reader of the tail a hub. Frames are decoded in a thread and taken on the event loop one after another, in the order
of their numbers: a listener that joins between two frames has seen exactly what came before. Frames that the broker or
a gateway sent twice pass once; which ones those are is found again after a restart by walking the whole tail.

A frame whose birth is not there yet holds everything up for `HOLD_S`, once a minute and gateway at most: the collector
takes a birth a moment after the tail had the frame behind it. If it does not come, the collector has not acknowledged
the frame either, and it will pass again under another number.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cloud.hub.catalogue import Catalogue
from cloud.hub.parts import Sample
from cloud.hub.passing import Decoder, Passed, UnknownEpoch, sample
from cloud.stores.base import Selector, Store
from cloud.stores.receipts import Receipts
from cloud.tail import TailFrame, TailReader
from contract import frame as frames
from contract.errors import FrameError, StoreUnavailable
from contract.readings import Ints, Quality, reason_of
from contract.topics import GatewayPath

log = logging.getLogger(__name__)

POLL_S = 0.05
BATCH = 500
HOLD_S = 0.5
HOLD_AGAIN_S = 60.0
CATCH_UP = 5000
"""Frames at the end of the tail that are decoded at the start, for the newest values that the store does not have."""
MAX_TWICE = 1_000_000
NEVER = np.iinfo(np.int64).min
Outcome = Passed | UnknownEpoch | None


class Listener(Protocol):
    """Who is told of each frame that passes, on the event loop, at once: it must not take long."""

    def take(self, passed: Passed) -> None:
        """A frame passed."""


@dataclass(slots=True)
class FeedCounts:
    """Since the process started. lost: frames that the collector could not put into the tail, ever."""

    frames: int = 0
    readings: int = 0
    twice: int = 0
    unreadable: int = 0
    unknown_epochs: int = 0
    lost: int = 0


@dataclass(slots=True)
class _Newest:
    """The newest reading by number: columns that grow."""

    times: Ints = field(default_factory=lambda: np.full(1024, NEVER, dtype=np.int64))
    samples: list[Sample | None] = field(default_factory=lambda: [None] * 1024)

    def take(self, number: int, one: Sample) -> None:
        if number >= len(self.samples):
            grown = max(number + 1, 2 * len(self.samples))
            self.times = np.concatenate([self.times, np.full(grown - len(self.samples), NEVER, dtype=np.int64)])
            self.samples += [None] * (grown - len(self.samples))
        if one.time_ns > self.times[number]:
            self.times[number] = one.time_ns
            self.samples[number] = one


class Feed:
    """The hub's view of what passes. `run` must be running; everything else is asked on its event loop."""

    def __init__(
        self, tail: TailReader, decoder: Decoder, catalogue: Catalogue, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts = FeedCounts()
        self.position = 0
        self.ready = asyncio.Event()
        self.listeners: list[Listener] = []
        self.twice: set[int] = set()
        self._tail = tail
        self._decoder = decoder
        self._catalogue = catalogue
        self._clock_s = clock_s
        self._receipts = Receipts()
        self._newest = _Newest()
        self._held: dict[GatewayPath, float] = {}

    def get(self, number: int) -> Sample | None:
        """The newest reading of the stream of this number, or None."""
        return self._newest.samples[number] if 0 <= number < len(self._newest.samples) else None

    def forget(self, numbers: Iterable[int]) -> None:
        """What was destroyed is not known any more."""
        for number in numbers:
            if 0 <= number < len(self._newest.samples):
                self._newest.times[number] = NEVER
                self._newest.samples[number] = None

    def times(self, numbers: Ints) -> Ints:
        """When the newest readings of these streams were measured; NEVER where there is none."""
        known = self._newest.times
        inside = numbers < len(known)
        found: Ints = np.full(len(numbers), NEVER, dtype=np.int64)
        found[inside] = known[numbers[inside]]
        return found

    async def load(self, store: Store) -> None:
        """Take the newest values from the store, if it answers, and from the end of the tail."""
        known = {(one.path.gateway, one.device, one.stream): one.number for one in self._catalogue.all()}
        try:
            for key, point in (await store.latest(Selector())).items():
                if key in known:
                    read = Sample(point.time_ns, point.value, Quality(point.quality), reason_of(point.reason))
                    self._newest.take(known[key], read)
        except StoreUnavailable as error:
            log.warning("the newest values are not known yet: %s; those that come will be", error)
        oldest, last = await asyncio.to_thread(self._tail.bounds)
        await asyncio.to_thread(self._walk, oldest - 1, last)
        self.position = max(oldest - 1, last - CATCH_UP)
        listeners, self.listeners = self.listeners, []
        while self.position < last and await self._step():
            pass
        self.listeners = listeners
        self.counts = FeedCounts(lost=await asyncio.to_thread(self._tail.lost))
        self.ready.set()

    async def run(self) -> None:
        """Follow the tail until cancelled; a file that cannot be read is waited for, said once."""
        trouble = False
        while True:
            try:
                more = await self._step()
                if trouble:
                    log.warning("the tail can be read again")
                trouble = False
            except StoreUnavailable as error:
                if not trouble:
                    log.warning("the tail cannot be read: %s; live streams stand still", error)
                more, trouble = False, True
            if not more:
                await asyncio.sleep(POLL_S)

    async def _step(self) -> bool:
        """Take the next frames; False when there are none now."""
        found = await asyncio.to_thread(self._tail.after, self.position, BATCH)
        if not found:
            lost = await asyncio.to_thread(self._tail.lost)
            self.counts.lost = lost
            return False
        for one, passed in zip(found, await self._decoded(found), strict=True):
            if isinstance(passed, UnknownEpoch) and self._holds(one):
                await self._hold(one)
                self._take(one, (await self._decoded([one]))[0])
            else:
                self._take(one, passed)
        return True

    async def _decoded(self, found: Sequence[TailFrame]) -> list[Outcome]:
        """Decoded with a catalogue that has the streams of every birth that was needed."""
        learned = self._decoder.learned
        decoded = await asyncio.to_thread(self._decode, found)
        if self._decoder.learned != learned:
            await self._catalogue.refresh()
            decoded = await asyncio.to_thread(self._decode, found)
        return decoded

    def _take(self, one: TailFrame, passed: Outcome) -> None:
        self.position = one.id
        if not isinstance(passed, Passed):
            if isinstance(passed, UnknownEpoch):
                self.counts.unknown_epochs += 1
            elif one.id not in self.twice:
                self.counts.unreadable += 1
            return
        if self._receipts.has(str(passed.path), passed.boot, passed.sequence):
            self._note_twice(one.id)
            return
        self._receipts.add(str(passed.path), passed.boot, passed.sequence, passed.sequence)
        self.counts.frames += 1
        for column in passed.columns:
            self.counts.readings += len(column.times)
            at = int(np.argmax(column.times))
            self._newest.take(column.number, sample(column, at, passed.seen_ns))
        for listener in self.listeners:
            listener.take(passed)

    def _decode(self, found: Sequence[TailFrame]) -> list[Outcome]:
        decoded: list[Outcome] = []
        for one in found:
            try:
                decoded.append(None if one.id in self.twice else self._decoder.decode(one))
            except UnknownEpoch as error:
                decoded.append(error)
        return decoded

    def _holds(self, one: TailFrame) -> bool:
        return self._clock_s() >= self._held.get(one.path, float("-inf"))

    async def _hold(self, one: TailFrame) -> None:
        if len(self._held) > MAX_TWICE // 100:
            self._held.clear()
        self._held[one.path] = self._clock_s() + HOLD_AGAIN_S
        await asyncio.sleep(HOLD_S)
        await self._catalogue.refresh()

    def _note_twice(self, number: int) -> None:
        self.counts.twice += 1
        if len(self.twice) < MAX_TWICE:
            self.twice.add(number)

    def _walk(self, after: int, last: int) -> None:
        """Find again which frames of the tail are there twice."""
        while after < last:
            found = self._tail.after(after, BATCH)
            if not found:
                return
            for one in found:
                try:
                    header = frames.peek(one.payload)
                except FrameError:
                    continue
                if one.id > last - CATCH_UP:
                    return  # these are taken as if they had just come
                path = str(one.path)
                if self._receipts.has(path, header.boot, header.sequence):
                    self._note_twice(one.id)
                else:
                    self._receipts.add(path, header.boot, header.sequence, header.sequence)
            after = found[-1].id

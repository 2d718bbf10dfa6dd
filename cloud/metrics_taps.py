"""Where the collector listens to itself for metrics that nothing else counts.

Each tap stands around a part and looks like it. It costs a clock's two looks a batch, so it is always there.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cloud.collector import Source
from cloud.intake import Message
from cloud.ledger_book import Quarantined
from cloud.quarantine import Entry, Quarantine
from cloud.stores.base import FramePoints, Writer
from contract.errors import PartialWrite, StoreUnavailable
from contract.metrics_text import Histogram
from contract.topics import TopicKind

# Batches under way whose end is not seen yet; a collector has one or a few.
_MAX_UNDER_WAY = 1024
_UP = (TopicKind.BIRTH, TopicKind.STATE, TopicKind.DATA)
_REASONS = ("bad_topic", *(f"bad_{kind}" for kind in _UP), *(why.name.lower() for why in Quarantined))


class TimedStore:
    """A store's writing with a watch on it. `outcomes`: stored, partial, unavailable."""

    def __init__(self, store: Writer) -> None:
        self.seconds = Histogram()
        self.outcomes = Counter(stored=0, partial=0, unavailable=0)
        self._store = store

    async def write(self, frames: Sequence[FramePoints]) -> None:
        """As the store; timed, whatever comes of it."""
        began_s = time.perf_counter()
        outcome = "stored"
        try:
            await self._store.write(frames)
        except PartialWrite:
            outcome = "partial"
            raise
        except StoreUnavailable:
            outcome = "unavailable"
            raise
        finally:
            self.seconds.observe(time.perf_counter() - began_s)
            self.outcomes[outcome] += 1


class TimedSource:
    """A Source with a watch: from taking a batch until its last acknowledgement left."""

    def __init__(self, source: Source, now_s: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = Histogram()
        self._source = source
        self._now_s = now_s
        self._taken_s: dict[Message, float] = {}

    async def take(self, max_messages: int, max_bytes: int, linger_s: float) -> list[Message]:
        """As the source."""
        messages = await self._source.take(max_messages, max_bytes, linger_s)
        if len(self._taken_s) < _MAX_UNDER_WAY:
            self._taken_s[messages[0]] = self._now_s()
        return messages

    def done(self, messages: Sequence[Message]) -> None:
        """As the source."""
        self._source.done(messages)
        taken_s = self._taken_s.pop(messages[0], None) if messages else None
        if taken_s is not None:
            self.seconds.observe(self._now_s() - taken_s)

    def publish(self, topic: str, payload: bytes) -> bool:
        """As the source."""
        return self._source.publish(topic, payload)


class CountedQuarantine(Quarantine):
    """A quarantine that remembers what this process put there: entries and readings by reason."""

    def __init__(self, file: Path, *, max_bytes: int) -> None:
        super().__init__(file, max_bytes=max_bytes)
        # With their zeros: what monitoring has not seen at 0 it does not see rise to 1.
        self.entries_by_reason = Counter(dict.fromkeys(_REASONS, 0))
        self.readings_by_reason = Counter(dict.fromkeys(_REASONS, 0))

    def put(self, entries: Sequence[Entry], now_ns: int) -> int:
        """As Quarantine, counted once it is durable."""
        new = super().put(entries, now_ns)
        for entry in entries:
            self.entries_by_reason[entry.reason] += 1
            self.readings_by_reason[entry.reason] += entry.readings
        return new

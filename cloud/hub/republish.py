"""Republication: the newest reading of each stream as JSON at the broker, for consumers who speak MQTT.

`hub/v1/{owner}/{city}/{district}/{street}/{gateway}/{device}/{stream}`, retained, QoS 1. Open streams; shared ones when
the configuration says so, as the broker's access list must then guard them; restricted ones never. When the broker is
behind or away, the newest of each stream waits and older ones are counted as skipped: a topic shows what is, history
what was. After each new connection all topics are said again, for the broker may have forgotten them.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from itertools import islice

from cloud.hub.entries import Entry
from cloud.hub.live import worded
from cloud.hub.parts import Entries, Newest
from cloud.hub.passing import Passed
from contract.catalogue import Grade

ROOT = "hub/v1"
NOBODY = "unowned"
BATCH = 200
PAUSE_S = 0.05
_FORBIDDEN = re.compile(r"[/+#\x00-\x1f]")


class Republisher:
    """Publishes what passes. `run` must be running. skipped: readings that a newer one overtook before they went."""

    def __init__(
        self,
        entries: Entries,
        newest: Newest,
        publish: Callable[[str, bytes], bool],
        connections: Callable[[], int],
        *,
        shared: bool = False,
    ) -> None:
        self.published = 0
        self.skipped = 0
        self._entries = entries
        self._newest = newest
        self._publish = publish
        self._connections = connections
        self._grades = {Grade.OPEN, Grade.SHARED} if shared else {Grade.OPEN}
        self._waiting: dict[int, None] = {}
        self._topics: dict[int, str] = {}

    def take(self, passed: Passed) -> None:
        """A frame passed."""
        for column in passed.columns:
            if column.number in self._waiting:
                self.skipped += 1
            self._waiting[column.number] = None

    def forget(self, numbers: Iterable[int]) -> None:
        """What was said of these is destroyed: taken back from the broker, what an earlier process said too."""
        for number in numbers:
            entry = self._entries.by_number(number)
            if entry is not None:
                self._topics.setdefault(number, topic_of(entry))
                self._waiting[number] = None

    async def run(self) -> None:
        """Publish until cancelled."""
        seen = self._connections()
        while True:
            if self._connections() != seen:
                seen = self._connections()
                self._waiting |= dict.fromkeys(self._topics)
            numbers = list(islice(self._waiting, BATCH))
            for number in numbers:
                if not self._one(number):
                    break
                del self._waiting[number]
            await asyncio.sleep(PAUSE_S)

    def _one(self, number: int) -> bool:
        """Publish the newest of a stream, or take back what it may not say; False: the broker takes nothing."""
        entry, sample = self._entries.by_number(number), self._newest.get(number)
        known = self._topics.get(number)
        if entry is None or sample is None or entry.grade not in self._grades:
            if known is not None and not self._publish(known, b""):
                return False
            self._topics.pop(number, None)
            return True
        topic = topic_of(entry)
        if known is not None and known != topic and not self._publish(known, b""):
            return False
        body = {"stream": entry.id, "quantity": entry.quantity, "unit": entry.unit, **worded(sample)}
        if not self._publish(topic, json.dumps(body, ensure_ascii=False, allow_nan=False).encode()):
            return False
        self._topics[number] = topic
        self.published += 1
        return True


def topic_of(entry: Entry) -> str:
    """Where a stream is republished; what a topic level may not hold in an owner's name becomes `_`."""
    return f"{ROOT}/{_FORBIDDEN.sub('_', entry.owner) or NOBODY}/{entry.id}"

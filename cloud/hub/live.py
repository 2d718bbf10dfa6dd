"""Live streams: what passes, to everybody who follows it and may have it, as it passes.

Clients who may have the same and ask for the same share a channel. A frame is looked at once a channel that it concerns
and each reading is put into words once for all, so that a thousand clients cost little more than ten. Each client has a
queue of its own, bounded in events: one who is slower than the city is dropped and told, and slows nobody.

A client that comes back with the id of the last event it had is given what it missed from the tail, and joins the rest
between two frames: no hole, nothing twice. What the tail has no more is told as `missed`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.hub.access import Reader
from cloud.hub.catalogue import Catalogue
from cloud.hub.catalogue_index import Query
from cloud.hub.feed import Feed
from cloud.hub.parts import Sample, Told
from cloud.hub.passing import Column, Decoder, Passed, UnknownEpoch, event_id, sample
from cloud.hub.problems import Away, Busy
from cloud.hub.times import format_time
from cloud.tail import TailReader
from contract.readings import Quality

NARROW = 200
"""A channel of at most so many streams is found by them; a wider one looks at every frame."""
REPLAY = 200
READY_S = 20.0
DROPPED, MISSED = "dropped", "missed"
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Wish:
    """Who follows what: the same wish is the same channel."""

    department: str
    areas: tuple[str, ...]
    streams: frozenset[int] | None = None
    query: Query | None = None


@dataclass(eq=False, slots=True)
class Client:
    """One follower. `wake` is set when there is something in the queue, or it is dropped."""

    channel: "Channel"
    bound: int
    queue: list[Told] = field(default_factory=list)
    dropped: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, told: list[Told]) -> None:
        """Queue events, or drop this client when there is no room."""
        if self.dropped:
            return
        if len(self.queue) + len(told) > self.bound:
            self.dropped = True
            self.queue.clear()
        else:
            self.queue += told
        self.wake.set()


@dataclass(eq=False, slots=True)
class Channel:
    """Clients with the same wish. allowed: by number, what passes to them; for a version of the catalogue's index."""

    wish: Wish
    allowed: Mask
    version: int
    clients: list[Client] = field(default_factory=list)
    narrow: tuple[int, ...] | None = None


class Live:
    """All followers. One event loop."""

    def __init__(
        self,
        feed: Feed,
        tail: TailReader,
        decoder: Decoder,
        catalogue: Catalogue,
        *,
        max_clients: int = 2000,
        queue_events: int = 2000,
        may_go_on: Callable[[Reader], bool] = lambda _: True,
    ) -> None:
        self.dropped = 0
        self.clients = 0
        self._feed = feed
        self._tail = tail
        self._decoder = decoder
        self._catalogue = catalogue
        self._max_clients = max_clients
        self._queue_events = queue_events
        self._may_go_on = may_go_on
        self._channels: dict[Wish, Channel] = {}
        self._narrow: dict[int, list[Channel]] = {}
        self._wide: list[Channel] = []
        self._version = -1
        feed.listeners.append(self)

    def take(self, passed: Passed) -> None:
        """A frame passed: to each channel that it concerns."""
        self._follow_catalogue()
        if not self._channels:
            return
        words: dict[int, Told] = {}
        for channel in self._concerned(passed):
            told = self._told(passed, channel.allowed, words)
            if told:
                for client in channel.clients:
                    client.put(told)

    async def ready(self) -> None:
        """Wait until the feed has found its place after a start: an event id means nothing before. Raises Away."""
        try:
            async with asyncio.timeout(READY_S):
                await self._feed.ready.wait()
        except TimeoutError:
            raise Away("the hub is starting", retry_after_s=2) from None

    def open(self) -> None:
        """Make room for one more client. Raises Busy."""
        if self.clients >= self._max_clients:
            raise Busy(f"{self.clients} clients follow already", retry_after_s=10)

    async def follow(
        self, reader: Reader, streams: Iterable[int] | None, query: Query | None, after: tuple[int, int] | None
    ) -> AsyncGenerator[list[Told] | None]:
        """What passes, a list a time; None now and then when nothing did. Ends when dropped or the token is no good.

        after: the last event that the client had. Raises Busy.
        """
        self.open()
        self.clients += 1
        chosen = None if streams is None else frozenset(streams)
        wish = Wish(reader.department, reader.areas, chosen, query)
        client: Client | None = None
        try:
            if after is not None:
                replay = _Replay(after)
                async for told in self._replayed(replay, wish):
                    yield told
                    if not self._may_go_on(reader):
                        return
            client = self._join(wish)  # nothing was awaited since the replay was where the feed is
            async for told in self._followed(client, reader):
                yield told
        finally:
            self.clients -= 1
            if client is not None:
                self._leave(client)

    async def _followed(self, client: Client, reader: Reader) -> AsyncGenerator[list[Told] | None]:
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await client.wake.wait()
            except TimeoutError:
                yield None
            client.wake.clear()
            told, client.queue = client.queue, []
            if told:
                yield told
            if not self._may_go_on(reader):
                return
            if client.dropped:
                self.dropped += 1
                yield [Told("", DROPPED, json.dumps({"why": "slower than the readings come; resume with the last id"}))]
                return

    async def _replayed(self, replay: "_Replay", wish: Wish) -> AsyncGenerator[list[Told] | None]:
        """What passed after an event, up to where the feed is at the moment when this ends."""
        oldest, _ = await asyncio.to_thread(self._tail.bounds)
        if replay.position + 1 < oldest:
            yield [_missed(replay, "what came next is not kept any more")]
            replay.position = oldest - 1
        elif replay.position >= self._feed.position:
            yield [_missed(replay, "this hub has no such event")]
            replay.position = self._feed.position
        while replay.position < self._feed.position:
            found = await asyncio.to_thread(self._tail.after, replay.position, REPLAY)
            found = [one for one in found if one.id <= self._feed.position]
            if not found:
                yield [_missed(replay, "what came next is not kept any more")]
                replay.position = self._feed.position
                return
            fresh = [one for one in found if one.id not in self._feed.twice]
            passed = await asyncio.to_thread(self._decode, fresh)
            allowed = self._allowed(wish)
            told = [one for each in passed for one in self._told(each, allowed, {}, replay.begins(each.id))]
            replay.position = found[-1].id
            if told:
                yield told

    def _decode(self, found: Any) -> list[Passed]:
        decoded = []
        for one in found:
            try:
                passed = self._decoder.decode(one)
            except UnknownEpoch:
                continue  # nor was it told when it came
            if passed is not None:
                decoded.append(passed)
        return decoded

    def _told(self, passed: Passed, allowed: Mask, words: dict[int, Told], begin: int = 0) -> list[Told]:
        told = []
        for column in passed.columns:
            if column.number < len(allowed) and allowed[column.number]:
                for at, place in enumerate(column.places):
                    if place >= begin:
                        one = words.get(place)
                        if one is None:
                            one = words[place] = self._words(passed, column, at, place)
                        told.append((place, one))
        return [one for _, one in sorted(told, key=lambda pair: pair[0])]

    def _words(self, passed: Passed, column: Column, at: int, place: int) -> Told:
        entry = self._catalogue.by_number(column.number)
        assert entry is not None  # noqa: S101 - numbers come from the catalogue
        number = event_id(passed.id, place)
        data = {"id": number, "stream": entry.id, "unit": entry.unit, **worded(sample(column, at, passed.seen_ns))}
        return Told(number, "reading", json.dumps(data, ensure_ascii=False, allow_nan=False))

    def _concerned(self, passed: Passed) -> list[Channel]:
        found = list(self._wide)
        if self._narrow:
            seen: dict[int, Channel] = {}
            for column in passed.columns:
                for channel in self._narrow.get(column.number, ()):
                    seen[id(channel)] = channel
            found += seen.values()
        return found

    def _join(self, wish: Wish) -> Client:
        self._follow_catalogue()
        channel = self._channels.get(wish)
        if channel is None:
            channel = self._channels[wish] = Channel(wish, self._allowed(wish), self._version)
            self._place(channel)
        client = Client(channel, self._queue_events)
        channel.clients.append(client)
        return client

    def _leave(self, client: Client) -> None:
        channel = client.channel
        channel.clients.remove(client)
        if not channel.clients:
            del self._channels[channel.wish]
            self._unplace(channel)

    def _follow_catalogue(self) -> None:
        """A changed grade, owner or stream counts from the next frame on."""
        if self._version == self._catalogue.index_version:
            return
        self._version = self._catalogue.index_version
        for channel in self._channels.values():
            self._unplace(channel)
            channel.allowed, channel.version = self._allowed(channel.wish), self._version
            self._place(channel)

    def _place(self, channel: Channel) -> None:
        numbers = np.flatnonzero(channel.allowed)
        if len(numbers) > NARROW:
            self._wide.append(channel)
            return
        channel.narrow = tuple(numbers.tolist())
        for number in channel.narrow:
            self._narrow.setdefault(number, []).append(channel)

    def _unplace(self, channel: Channel) -> None:
        if channel.narrow is None:
            self._wide.remove(channel)
            return
        for number in channel.narrow:
            others = self._narrow[number]
            others.remove(channel)
            if not others:
                del self._narrow[number]
        channel.narrow = None

    def _allowed(self, wish: Wish) -> Mask:
        """By number: cloud.hub.access.readable of this department and areas, and what is asked for."""
        index = self._catalogue.index
        found = index.readable(Reader("", wish.department, "", areas=wish.areas))
        if wish.query is not None:
            found &= index.matching(wish.query)
        allowed: Mask = np.zeros(int(index.numbers[-1]) + 1 if len(index) else 0, dtype=np.bool_)
        allowed[index.numbers[found]] = True
        if wish.streams is not None:
            chosen: Mask = np.zeros(len(allowed), dtype=np.bool_)
            chosen[[number for number in wish.streams if number < len(allowed)]] = True
            allowed &= chosen
        return allowed


@dataclass(slots=True)
class _Replay:
    """How far a client was taken up; of the frame of `after`, the places up to it were had."""

    after: tuple[int, int]
    position: int = 0

    def __post_init__(self) -> None:
        self.position = self.after[0] - 1

    def begins(self, number: int) -> int:
        """From which place of this frame on."""
        return self.after[1] + 1 if number == self.after[0] else 0


def _missed(replay: _Replay, why: str) -> Told:
    return Told("", MISSED, json.dumps({"after": event_id(*replay.after), "why": why}))


def worded(one: Sample) -> dict[str, Any]:
    """A reading as the API gives it out, without its age."""
    return {
        "time": format_time(one.time_ns),
        "value": one.value,
        "quality": Quality(one.quality).name.lower(),
        "reason": one.reason.name.lower(),
        "seen": format_time(one.seen_ns) if one.seen_ns else None,
    }

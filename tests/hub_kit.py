"""A hub's insides on real files: births and tail as a collector writes them, and what follows them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cloud_frames import ScriptedGateway
from hub_state import state_of
from memory_store import MemoryStore

from cloud.births import Births
from cloud.births_read import BirthsReader
from cloud.hub.access import Reader
from cloud.hub.catalogue import Catalogue
from cloud.hub.feed import Feed
from cloud.hub.live import Live
from cloud.hub.parts import Told
from cloud.hub.passing import Decoder
from cloud.tail import Tail, TailReader
from contract.catalogue import Birth, Grade, Stewardship
from contract.topics import TopicKind


def owned(birth: Birth, owner: str = "Works", grade: Grade = Grade.OPEN, shared_with: Iterable[str] = ()) -> Birth:
    """The same birth, with all streams a department's."""
    steward = Stewardship(owner=owner, contact=f"{owner}@city.example", grade=grade, shared_with=tuple(shared_with))
    devices = tuple(
        device.model_copy(
            update={"streams": tuple(one.model_copy(update={"stewardship": steward}) for one in device.streams)}
        )
        for device in birth.devices
    )
    return birth.model_copy(update={"devices": devices})


@dataclass
class Insides:
    """Everything between the collector's files and who follows. `start` and `stop` are the hub's."""

    folder: Path
    tail_bytes: int = 10**9
    queue_events: int = 1000
    max_clients: int = 1000
    good: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.births = Births(self.folder / "births.sqlite")
        self.tail = Tail(self.folder / "tail.sqlite", max_bytes=self.tail_bytes)
        self.revoked: set[str] = set()
        self._writing = asyncio.create_task(self.tail.run())
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        births, reader = BirthsReader(self.folder / "births.sqlite"), TailReader(self.folder / "tail.sqlite")
        self.catalogue = Catalogue(state_of(self.folder), births)
        await self.catalogue.load()
        await self.catalogue.refresh()
        decoder = Decoder(births, self.catalogue)
        self.feed = Feed(reader, decoder, self.catalogue)
        self.live = Live(
            self.feed,
            reader,
            decoder,
            self.catalogue,
            max_clients=self.max_clients,
            queue_events=self.queue_events,
            may_go_on=lambda who: who.token not in self.revoked,
        )
        await self.feed.load(MemoryStore())
        self._running = asyncio.create_task(self.feed.run())

    async def stop(self) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def close(self) -> None:
        await self.stop()
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        self.births.close()

    async def publish(self, birth: Birth) -> None:
        self.births.take(birth.path, birth.encode())

    async def send(self, gateway: ScriptedGateway, rows: int = 2) -> None:
        await self.put(gateway, gateway.payload(rows))

    async def put(self, gateway: ScriptedGateway, payload: bytes) -> None:
        self.tail.put(gateway.birth.path.topic(TopicKind.DATA), payload)
        await self.tail.synced()

    async def caught_up(self) -> None:
        """Until the feed has seen all of the tail."""
        reader = TailReader(self.folder / "tail.sqlite")
        await eventually(lambda: self.feed.position >= reader.bounds()[1])
        reader.close()


@contextlib.asynccontextmanager
async def insides(folder: Path, **more: int) -> AsyncIterator[Insides]:
    """A hub's insides that run."""
    made = Insides(folder, **more)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until `condition()`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - files have no event to wait for
            await asyncio.sleep(0.01)


class Follower:
    """One live client: keeps what it is told."""

    def __init__(
        self, live: Live, reader: Reader, after: str | None = None, streams: Iterable[int] | None = None
    ) -> None:
        self.told: list[Told] = []
        self.ended = asyncio.Event()
        self._joined = asyncio.Event()
        position = None if after is None else (int(after.split(".")[0]), int(after.split(".")[1]))
        self._following = live.follow(reader, streams, None, position)
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for told in self._following:
            self.told += told or []
        self.ended.set()

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._following.aclose()

    async def has(self, count: int) -> "Follower":
        """Until it was told so much."""
        await eventually(lambda: len(self.told) >= count)
        return self

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.told if one.event == "reading"]

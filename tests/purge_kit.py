"""A city of one gateway for the tests of purges: its birth, frames, a store that lists its series, all files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hub_kit_history import Trail
from hub_state import Clock, state_of
from memory_store import MemoryStore

from cloud.births import Births
from cloud.births_read import BirthsReader
from cloud.hub.catalogue import Catalogue
from cloud.hub.database import Database
from cloud.purge import Purger
from cloud.quarantine import Entry as Kept
from cloud.quarantine import Quarantine
from cloud.quarantine_purge import FilesPurge, Scope
from cloud.sqlite_file import connect
from cloud.stores.base import Series, Store
from cloud.tail import _SCHEMA
from contract import frame
from contract.catalogue import Area, Birth, Device, Stewardship, Stream
from contract.frame import Counters, Frame, Header
from contract.readings import Kind, Table
from contract.topics import GatewayPath

SECOND = 1_000_000_000
NOW = 1_790_000_000_000_000_000
PATH = GatewayPath("c", "d", "s", "g")
PLATE = "沪A·12345 passed"


def birth(gateway: str = "g", owner: str = "police") -> Birth:
    """A camera with a speed and number plates of the police, and a meter of energy's."""
    return Birth(
        gateway=gateway,
        area=Area(city="c", district="d", street="s"),
        devices=(
            Device(
                name="cam",
                streams=(stream(0, "speed", Kind.FLOAT, owner), stream(1, "plate", Kind.TEXT, owner)),
            ),
            Device(name="meter", streams=(stream(2, "power", Kind.FLOAT, "energy"),)),
        ),
    )


def stream(number: int, name: str, kind: Kind, owner: str) -> Stream:
    """A stream whose quantity is its name."""
    return Stream(
        id=number,
        name=name,
        quantity=name,
        unit="1",
        type=kind,
        interval_s=1,
        stewardship=Stewardship(owner=owner),
    )


def make_frame(
    sequence: int = 1, rows: int = 3, *, first_ns: int = NOW - 100 * SECOND, epoch: int | None = None
) -> bytes:
    """All three streams, one reading a second."""
    times = first_ns + np.arange(rows, dtype=np.int64) * SECOND
    texts = np.array([[PLATE]] * rows, dtype=object)
    tables = (
        Table(Kind.FLOAT, np.array([0, 2], np.int32), times, np.ones((rows, 2)), np.zeros((rows, 2), np.uint8)),
        Table(Kind.TEXT, np.array([1], np.int32), times, texts, np.zeros((rows, 1), np.uint8)),
    )
    nothing = np.zeros(3, dtype=np.int64)
    counters = Counters(np.arange(3, dtype=np.int32), nothing + rows, nothing, nothing, nothing + times[-1])
    header = Header(7, sequence, birth().epoch if epoch is None else epoch, int(times[-1]))
    return frame.encode(Frame(header, tables, counters=counters))


def series(name: str, kind: Kind = Kind.FLOAT, device: str = "cam", path: GatewayPath = PATH) -> Series:
    """A series whose quantity is the stream's name."""
    return Series(path, device, name, name, "1", kind)


class ListedStore(MemoryStore):
    """A store in memory that knows what it was given. stubborn: deletes nothing, and says so to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[Series] = []
        self.stubborn = False

    async def series(self) -> list[Series]:
        if self.away is not None:
            raise self.away
        return self.listed

    async def delete(self, series: Series, *, before_ns: int | None = None) -> int:
        return 0 if self.stubborn else await super().delete(series, before_ns=before_ns)

    def fill(self, *some: Series, count: int = 10, last_ns: int = NOW - SECOND) -> None:
        """So many points a series, one a second."""
        for one in some:
            self.listed.append(one)
            self.put(one, {last_ns - at * SECOND: (PLATE if one.kind is Kind.TEXT else 1.5, 0) for at in range(count)})


@dataclass
class City:
    """Everything a purge touches. `forgotten`: what the hub's memory was told to forget."""

    folder: Path
    store: Any
    database: Database
    births: BirthsReader
    catalogue: Catalogue
    purger: Purger
    files: FilesPurge
    clock: Clock = field(default_factory=lambda: Clock(NOW))
    trail: Trail = field(default_factory=Trail)
    forgotten: list[Scope] = field(default_factory=list)

    def quarantine(self, *entries: Kept, now_ns: int = NOW - SECOND) -> Quarantine:
        """Put entries aside, as the collector does; it stays open, as the collector's does."""
        made = Quarantine(self.folder / "quarantine.sqlite", max_bytes=2**20)
        made.put(entries, now_ns)
        return made

    def passed(self, frames: Sequence[bytes], now_ns: int = NOW - SECOND) -> None:
        """Put frames into the tail."""
        db = connect(self.folder / "tail.sqlite", _SCHEMA)
        rows = [(now_ns, str(PATH), data) for data in frames]
        db.executemany("INSERT INTO frames (time_ns, path, payload) VALUES (?, ?, ?)", rows)
        db.execute("UPDATE about SET bytes = ?", (sum(len(data) for data in frames),))
        db.close()

    def close(self) -> None:
        """Release files."""
        self.births.close()
        self.database.close()


async def make_city(folder: Path, store: Store | None = None, *births: Birth, url: str | None = None) -> City:
    """A city whose gateways have been heard of."""
    seen = Births(folder / "births.sqlite")
    for one in births or (birth(),):
        seen.take(one.path, one.encode())
    seen.close()
    database, reader, clock, trail = state_of(folder, url), BirthsReader(folder / "births.sqlite"), Clock(NOW), Trail()
    catalogue = Catalogue(database, reader, now_ns=clock.now_ns)
    await catalogue.refresh()
    files = FilesPurge(folder / "quarantine.sqlite", folder / "tail.sqlite", reader)
    forgotten: list[Scope] = []
    kept = store if store is not None else ListedStore()
    purger = Purger(kept, files, database, trail, now_ns=clock.now_ns, forget=forgotten.append)
    return City(folder, kept, database, reader, catalogue, purger, files, clock, trail, forgotten)

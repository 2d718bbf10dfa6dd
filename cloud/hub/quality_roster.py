"""The catalogue as columns: which streams there are, where each belongs, how old its newest sample may be."""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cloud.hub.entries import Entry
from contract.readings import Floats, Ints
from contract.topics import GatewayPath


class Level(StrEnum):
    """What figures are summed by. A department is an owner."""

    STREAM = "stream"
    DEVICE = "device"
    GATEWAY = "gateway"
    STREET = "street"
    DISTRICT = "district"
    CITY = "city"
    DEPARTMENT = "department"


KEYS: dict[Level, Callable[[Entry], str]] = {
    Level.STREAM: lambda entry: entry.id,
    Level.DEVICE: lambda entry: f"{entry.path}/{entry.device}",
    Level.GATEWAY: lambda entry: str(entry.path),
    Level.STREET: lambda entry: f"{entry.path.city}/{entry.path.district}/{entry.path.street}",
    Level.DISTRICT: lambda entry: f"{entry.path.city}/{entry.path.district}",
    Level.CITY: lambda entry: entry.path.city,
    Level.DEPARTMENT: lambda entry: entry.owner,
}


class Roster:
    """One version of the catalogue. Columns are of the streams that exist now, in the order of `entries`.

    by_gateway: also those that left their birth, as their past hours still count. limit_ns: the age at which the newest
    sample is stale. speaks: whether silence means anything: not so of alarms that are sent when there is one.
    """

    def __init__(self, entries: Sequence[Entry], *, stale_after: float) -> None:
        self.entries = [entry for entry in entries if entry.until_ns is None]
        self.size = max((entry.number for entry in entries), default=-1) + 1
        self.numbers: Ints = np.array([entry.number for entry in self.entries], dtype=np.int64)
        self.since_ns: Ints = np.array([entry.since_ns for entry in self.entries], dtype=np.int64)
        self.interval_s: Floats = np.array([entry.interval_s for entry in self.entries], dtype=np.float64)
        self.limit_ns: Ints = np.minimum(self.interval_s * stale_after * 1e9, 2.0**62).astype(np.int64)
        speaks = [entry.scheduled or not entry.alarm for entry in self.entries]
        self.speaks: NDArray[np.bool_] = np.array(speaks, dtype=np.bool_)
        self.by_gateway: dict[GatewayPath, dict[tuple[str, str], Entry]] = {}
        self.paths: list[GatewayPath] = []
        self.gateway_of: Ints = np.full(self.size, -1, dtype=np.int64)
        for entry in entries:
            mine = self.by_gateway.get(entry.path)
            if mine is None:
                mine = self.by_gateway[entry.path] = {}
                self.paths.append(entry.path)
            mine[entry.device, entry.stream] = entry
        index = {path: at for at, path in enumerate(self.paths)}
        for entry in entries:
            self.gateway_of[entry.number] = index[entry.path]
        self._groups: dict[Level, tuple[list[str], Ints]] = {}
        self._places: dict[Level, dict[str, int]] = {}

    def place(self, level: Level, name: str) -> int:
        """Where in the level's names this one is; raises KeyError."""
        if level not in self._places:
            self._places[level] = {one: at for at, one in enumerate(self.groups(level)[0])}
        return self._places[level][name]

    def groups(self, level: Level) -> tuple[list[str], Ints]:
        """The names of a level, and for each stream (as `entries`) which of them it is in."""
        found = self._groups.get(level)
        if found is None:
            found = self._groups[level] = group_by(self.entries, level)
        return found


def group_by(entries: Sequence[Entry], level: Level) -> tuple[list[str], Ints]:
    """The names of the groups that these streams form, in order, and the place of each stream's own."""
    key = KEYS[level]
    names = [key(entry) for entry in entries]
    ordered = sorted(set(names))
    place = {name: at for at, name in enumerate(ordered)}
    return ordered, np.array([place[name] for name in names], dtype=np.int64)

"""What the rules look at in one moment, and what they say: subjects, and what was found of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.hub.entries import Entry
from cloud.hub.parts import Newest
from cloud.hub.quality_roster import KEYS, Level, Roster
from cloud.ledger_hours import GatewayState
from contract.readings import Ints
from contract.topics import GatewayPath

LEVELS = (Level.CITY, Level.DISTRICT, Level.GATEWAY, Level.DEVICE)  # the widest first
CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert is about. kind: a level, or `certificate`; name: as the level's names are."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is the matter. number: the stream's, for an alert of one stream. streams: how many are touched.

    value: of a threshold; told only to who may read the stream.
    """

    message: str
    number: int | None = None
    streams: int = 0
    value: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Look:
    """One moment. measured_ns, heard_ns: of the newest reading, by stream number, 0: never."""

    now_ns: int
    started_ns: int
    roster: Roster
    limits_ns: Ints
    measured_ns: Ints
    heard_ns: Ints
    states: Mapping[GatewayPath, GatewayState]
    newest: Newest
    blind_ns: Mapping[int, int]
    blind_for_ns: int
    should: Ints
    missing: Ints
    unexplained: Mapping[GatewayPath, int]
    _heard: dict[Level, Ints] = field(default_factory=dict)

    def heard_by(self, level: Level) -> Ints:
        """When anything was last heard of each group of a level, ns (groups,)."""
        found = self._heard.get(level)
        if found is None:
            names, place = self.roster.groups(level)
            found = np.zeros(len(names), dtype=np.int64)
            np.maximum.at(found, place, self.heard_ns[self.roster.numbers])
            self._heard[level] = found
        return found

    def offline(self) -> NDArray[np.bool_]:
        """For each stream of the roster, whether its gateway says that it is gone (n,)."""
        gone = {path for path, state in self.states.items() if state.online is False}
        flags = np.array([path in gone for path in self.roster.paths], dtype=np.bool_)
        return flags[self.roster.gateway_of[self.roster.numbers]] if len(flags) else np.zeros(0, dtype=np.bool_)


def subject_of(entry: Entry, level: Level) -> Subject:
    """The group of `level` that this stream is in."""
    return Subject(level.value, KEYS[level](entry))

"""One alert for a gateway that is off, instead of two hundred for its streams.

A stream's silence is its own only when something else has been heard since: of its device, else it is the device's; of
its gateway, else it is the gateway's; and so on up to the city, whose silence is most likely the hub's own. So the
widest group of which nothing was heard since the stream was last heard is what an alert is about. That needs no
waiting until the last of the streams is late, too.

When a group is heard again, all of its streams get their time anew: else those that speak seldom would be reported
one by one in the moment in which the gateway is back.
"""

import numpy as np
from numpy.typing import NDArray

from cloud.hub.alert_look import LEVELS, Look
from cloud.hub.quality_roster import Level, Roster
from contract.readings import Ints

_SLACK_NS = 5_000_000_000  # frames of one gateway's scan groups leave one after the other
_PARTS = {
    Level.CITY: Level.GATEWAY,
    Level.DISTRICT: Level.GATEWAY,
    Level.GATEWAY: Level.STREAM,
    Level.DEVICE: Level.STREAM,
}


def cover(look: Look, at: NDArray[np.intp]) -> NDArray[np.int8]:
    """For silent streams (places in the roster) the place in LEVELS of what is silent; len(LEVELS): they themselves."""
    roster = look.roster
    heard = np.maximum(look.heard_ns[roster.numbers[at]], 0)
    slack = np.maximum(_SLACK_NS, np.minimum(2e9 * roster.interval_s[at], 2.0**61)).astype(np.int64)
    found = np.full(len(at), len(LEVELS), dtype=np.int8)
    for place in range(len(LEVELS) - 1, -1, -1):  # the widest is written last
        level = LEVELS[place]
        _, groups = roster.groups(level)
        silent = look.heard_by(level)[groups[at]] <= heard + slack
        found[silent & (_parts(roster, level) >= 2)[groups[at]]] = place
    return found


def _parts(roster: Roster, level: Level) -> Ints:
    """How many gateways, or streams, a group of this level has: one thing is not a group."""
    names, groups = roster.groups(level)
    part_names, parts = roster.groups(_PARTS[level])
    pairs = np.unique(groups * len(part_names) + parts)
    counted: Ints = np.bincount(pairs // max(len(part_names), 1), minlength=len(names)).astype(np.int64)
    return counted


class Returns:
    """Notices when a group that was silent is heard again."""

    def __init__(self) -> None:
        self._roster: Roster | None = None
        self._heard: dict[Level, Ints] = {}
        self._least: dict[Level, Ints] = {}
        self._returned_ns: Ints = np.zeros(0, dtype=np.int64)

    def step(self, look: Look) -> Ints:
        """For each stream of the roster, when a group of it was last heard again after a silence; ns, 0: never."""
        roster = look.roster
        if roster is not self._roster:
            self._follow(look)
        for level in LEVELS:
            _, groups = roster.groups(level)
            heard, before = look.heard_by(level), self._heard[level]
            back = (heard - before > self._least[level]) & (before > 0)
            if back.any():
                self._returned_ns[back[groups]] = look.now_ns
            self._heard[level] = heard
        return self._returned_ns

    def _follow(self, look: Look) -> None:
        """A new roster: what was known of streams that are still there stays known."""
        roster, old = look.roster, self._roster
        known: dict[int, int] = {}
        if old is not None:
            known = {int(n): int(ns) for n, ns in zip(old.numbers, self._returned_ns, strict=True) if ns}
        self._returned_ns = np.array([known.get(number, 0) for number in roster.numbers.tolist()], dtype=np.int64)
        for level in LEVELS:
            names, groups = roster.groups(level)
            least = np.full(len(names), 2**62, dtype=np.int64)
            np.minimum.at(least, groups, look.limits_ns)
            self._least[level] = least
            before = dict(zip(old.groups(level)[0], self._heard[level], strict=True)) if old is not None else {}
            heard = look.heard_by(level)
            self._heard[level] = np.array(
                [before.get(name, heard[at]) for at, name in enumerate(names)], dtype=np.int64
            )
        self._roster = roster

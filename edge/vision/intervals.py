"""Why: a count is worth what was seen of its interval, so the two are kept in one book.

A book holds which spans were seen, why the others were not, and what happened. It knows no streams: what they say of
it is edge.vision.measures' business. All of it is bounded; what does not fit is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from edge.vision.lines import Crossing
from edge.vision.reasons import GOOD, NOT_SEEN
from edge.vision.zones import Dwell

EVENTS = 20_000
"""Crossings, and stays, that one interval holds: five a second for an hour."""
PEOPLE = 4_096
"""Different things that one zone tells apart in an interval, for hide_below alone."""


@dataclass(slots=True)
class Tally:
    """What was in a zone. area: sums of count x ns; most: the largest count; who: the things."""

    area: float = 0.0
    most: int = 0
    who: set[int] = field(default_factory=set)

    def add(self, count: float, elapsed_ns: int) -> None:
        """`count` things were there for a time."""
        self.area += count * elapsed_ns

    def take_back(self, elapsed_ns: int) -> None:
        """One thing was not there for a time that was counted."""
        self.area = max(0.0, self.area - elapsed_ns)

    def meet(self, numbers: Sequence[int]) -> None:
        """These things are there now."""
        self.most = max(self.most, len(numbers))
        if len(self.who) < PEOPLE:
            self.who.update(numbers)


Event = TypeVar("Event")
TallyKey = tuple[int, int | None, bool]
"""Position of the zone, class (None: all), and whether standing things alone count."""


@dataclass(slots=True)
class Book:
    """What was seen from `from_ns` to `to_ns`, and in it.

    counted_ns: the time that the tallies are over. used, dropped: frames. doubt: the reason against the view, GOOD if
    there is none. state: the camera's, a word. overflow: events that did not fit.
    """

    from_ns: int
    to_ns: int
    spans: list[tuple[int, int]] = field(default_factory=list)
    unseen: dict[int, int] = field(default_factory=dict)
    counted_ns: int = 0
    used: int = 0
    dropped: int = 0
    doubt: int = GOOD
    state: str = "ok"
    tallies: dict[TallyKey, Tally] = field(default_factory=dict)
    crossings: list[Crossing] = field(default_factory=list)
    dwells: list[Dwell] = field(default_factory=list)
    overflow: int = 0

    def see(self, from_ns: int, to_ns: int) -> None:
        """The time between two looks was seen."""
        if self.spans and self.spans[-1][1] == from_ns:
            from_ns, _ = self.spans.pop()
        self.spans.append((from_ns, to_ns))

    def miss(self, elapsed_ns: int, code: int) -> None:
        """A time was not seen, for a reason."""
        self.unseen[code] = self.unseen.get(code, 0) + elapsed_ns

    def unsee(self, since_ns: int, code: int) -> None:
        """What was taken for seen since then was not."""
        kept, taken_ns = [], 0
        for begin_ns, end_ns in self.spans:
            if begin_ns < since_ns:
                kept.append((begin_ns, min(end_ns, since_ns)))
            taken_ns += max(0, end_ns - max(begin_ns, since_ns))
        self.spans = kept
        if taken_ns:
            self.miss(taken_ns, code)

    def tally(self, key: TallyKey) -> Tally:
        """The tally of a zone and class."""
        return self.tallies.setdefault(key, Tally())

    def cross(self, crossing: Crossing) -> None:
        """A passage happened."""
        self._note(self.crossings, crossing)

    def leave(self, dwell: Dwell) -> None:
        """A stay ended."""
        self._note(self.dwells, dwell)

    def seen_ns(self) -> int:
        """How much of the interval was seen."""
        clipped = (min(end, self.to_ns) - max(begin, self.from_ns) for begin, end in self.spans)
        return sum(part for part in clipped if part > 0)

    def coverage(self) -> float:
        """The share of the interval that was seen, 0 to 1."""
        return min(1.0, self.seen_ns() / max(1, self.to_ns - self.from_ns))

    def why_unseen(self) -> int:
        """The reason most of the unseen time had; what nobody gave a reason for was not seen."""
        rest = self.to_ns - self.from_ns - self.seen_ns() - sum(self.unseen.values())
        reasons = dict(self.unseen)
        reasons[NOT_SEEN] = reasons.get(NOT_SEEN, 0) + max(0, rest)
        return max(reasons, key=lambda code: (reasons[code], code != NOT_SEEN))

    def _note(self, events: list[Event], event: Event) -> None:
        if len(events) < EVENTS:
            events.append(event)
        else:
            self.overflow += 1

"""The rules at work: for each rule a check that says, moment by moment, which alerts stand.

A check knows its latch; it does not know the database, the channels or who is told. `step` gives every alert that
stands now, by subject: so what is raised or cleared is the difference to before, also over a restart.
"""

import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloud.hub import alert_rules as rules
from cloud.hub.alert_cover import Returns, cover
from cloud.hub.alert_latch import BAD, GOOD, NEITHER, Conditions, Latch
from cloud.hub.alert_look import CERTIFICATE, LEVELS, Found, Look, Subject, subject_of
from cloud.hub.certificates import not_after_ns
from cloud.hub.entries import Entry
from cloud.hub.quality_roster import Level, Roster
from contract.readings import Ints, Quality
from contract.topics import GatewayPath

_VALUES_AT_ONCE = 20_000
_CERTIFICATES_EVERY_NS = 600_000_000_000
_GATEWAY = LEVELS.index(Level.GATEWAY)
_DAY_NS = 86_400_000_000_000


class Check(Protocol):
    """One rule at work."""

    def step(self, look: Look) -> dict[Subject, Found]:
        """Every alert that stands."""

    def restore(self, subjects: Iterable[Subject], roster: Roster) -> None:
        """These stood when the process before ended."""


class Watched:
    """The streams that a rule selects, as places in the roster; made anew with a new roster."""

    def __init__(self, select: rules.Select) -> None:
        self._select = select
        self.roster: Roster | None = None
        self.entries: list[Entry] = []
        self.at: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self.numbers: Ints = np.zeros(0, dtype=np.int64)

    def update(self, roster: Roster, latch: Latch) -> None:
        """Follow the catalogue."""
        if roster is self.roster:
            return
        wanted = {entry.number for entry in self._select.of(roster.entries)}
        places = [at for at, entry in enumerate(roster.entries) if entry.number in wanted]
        self.at = np.array(places, dtype=np.intp)
        self.entries = [roster.entries[at] for at in places]
        self.numbers = roster.numbers[self.at]
        self.roster = roster
        latch.grow(roster.size)
        latch.only(self.numbers)


class _StreamCheck:
    """What checks of streams share: conditions by stream, and alerts of whole devices, gateways, districts, cities."""

    def __init__(self, rule: rules.Rule) -> None:
        self.latch = Latch(duration_s=rule.duration_s, hold_s=rule.hold_s)
        self.watched = Watched(rule.select)
        self.covers: NDArray[np.int8] = np.zeros(0, dtype=np.int8)  # by number: a place in LEVELS; len(LEVELS): itself

    def follow(self, roster: Roster) -> None:
        self.watched.update(roster, self.latch)
        more = roster.size - len(self.covers)
        if more > 0:
            self.covers = np.concatenate((self.covers, np.full(more, len(LEVELS), dtype=np.int8)))

    def restore(self, subjects: Iterable[Subject], roster: Roster) -> None:
        self.follow(roster)
        stood = set(subjects)
        if not stood:
            return
        for entry, number in zip(self.watched.entries, self.watched.numbers.tolist(), strict=True):
            for place, level in enumerate((*LEVELS, Level.STREAM)):
                if subject_of(entry, level) in stood:
                    self.latch.raised[number], self.covers[number] = True, place
                    break

    def raised(self, keep: NDArray[np.bool_], say: Callable[[Subject, Entry, int], Found]) -> dict[Subject, Found]:
        """The alerts: each subject once, of streams that are raised and `keep` (as watched)."""
        standing = self.latch.raised[self.watched.numbers] & keep
        first: dict[Subject, Entry] = {}
        for at in np.flatnonzero(standing).tolist():
            entry = self.watched.entries[at]
            first.setdefault(subject_of(entry, (*LEVELS, Level.STREAM)[int(self.covers[entry.number])]), entry)
        return {subject: say(subject, entry, self._size(subject)) for subject, entry in first.items()}

    def _size(self, subject: Subject) -> int:
        """How many of the watched streams a group has."""
        roster, level = self.watched.roster, Level(subject.kind)
        if roster is None or level is Level.STREAM:
            return 1
        _, groups = roster.groups(level)
        return int(np.count_nonzero(groups[self.watched.at] == roster.place(level, subject.name)))


class StaleCheck(_StreamCheck):
    """Streams that nothing is heard of. watches: whether an offline rule speaks for this gateway."""

    def __init__(self, rule: rules.Stale, watches: Callable[[GatewayPath], bool]) -> None:
        super().__init__(rule)
        self._intervals = rule.intervals
        self._watches = watches
        self._returns = Returns()
        self._spoken_for: tuple[Roster, NDArray[np.bool_]] | None = None

    def step(self, look: Look) -> dict[Subject, Found]:
        """Every alert that stands."""
        roster = look.roster
        self.follow(roster)
        at, numbers = self.watched.at, self.watched.numbers
        returned_ns = self._returns.step(look)[at]
        # A hub that was down itself has heard nothing: that is no sign against a stream, nor for one.
        base = np.maximum(np.maximum(look.measured_ns[numbers], roster.since_ns[at]), returned_ns)
        base = np.maximum(base, look.started_ns)
        known = (look.heard_ns[numbers] >= look.started_ns) | (returned_ns > 0)
        limit = np.minimum(self._intervals * roster.interval_s[at] * 1e9, 2.0**62).astype(np.int64)
        lags = look.limits_ns[at] > roster.limit_ns[at]  # what is heard of it comes from the ledger, now and then
        limit = np.where(lags, np.maximum(limit, look.limits_ns[at]), limit)
        old = look.now_ns - base > limit
        conditions: Conditions = np.where(old, BAD, np.where(known, GOOD, NEITHER)).astype(np.int8)
        conditions[~roster.speaks[at]] = GOOD
        self.latch.step(numbers, conditions, look.now_ns)
        bad = (conditions == BAD) & self.latch.raised[numbers]
        if bad.any():
            self.covers[numbers[bad]] = cover(look, at[bad])
        spoken_for = self._spoken(roster) & ((self.covers[numbers] <= _GATEWAY) | look.offline()[at])
        return self.raised(~spoken_for, lambda subject, entry, count: _silent(subject, entry, count, look))

    def _spoken(self, roster: Roster) -> NDArray[np.bool_]:
        if self._spoken_for is None or self._spoken_for[0] is not roster:
            watched = [self._watches(path) for path in roster.paths]
            flags = np.array(watched, dtype=np.bool_)
            self._spoken_for = roster, flags[roster.gateway_of[self.watched.numbers]] if watched else flags
        return self._spoken_for[1]


def _silent(subject: Subject, entry: Entry, count: int, look: Look) -> Found:
    if subject.kind == Level.STREAM:
        detail = {"newest_ns": int(look.measured_ns[entry.number])}
        return Found(f"no reading of {subject.name} for too long", entry.number, 1, None, detail)
    return Found(f"nothing is heard of {subject.kind} {subject.name}: {count} streams are silent", None, count)


class CompletenessCheck(_StreamCheck):
    """Streams whose last whole hour is not complete."""

    def __init__(self, rule: rules.Completeness) -> None:
        super().__init__(rule)
        self._below, self._clear = rule.below, rule.clear

    def step(self, look: Look) -> dict[Subject, Found]:
        """Every alert that stands."""
        self.follow(look.roster)
        at, numbers = self.watched.at, self.watched.numbers
        should = _at(look.should, numbers)
        share = 1 - _at(look.missing, numbers) / np.maximum(should, 1)
        conditions: Conditions = np.where(
            share < self._below, BAD, np.where(share >= self._clear, GOOD, NEITHER)
        ).astype(np.int8)
        conditions[(should == 0) | look.offline()[at]] = NEITHER
        self.latch.step(numbers, conditions, look.now_ns)
        bad = conditions == BAD
        self.covers[numbers[bad]] = _whole_groups(look.roster, at, conditions)[bad]
        shares = dict(zip(numbers.tolist(), share.tolist(), strict=True))

        def say(subject: Subject, entry: Entry, count: int) -> Found:
            if subject.kind == Level.STREAM:
                percent = 100 * shares[entry.number]
                return Found(f"{subject.name}: {percent:.1f} % of its last hour was received", entry.number, 1)
            return Found(
                f"{subject.kind} {subject.name}: the last hour of all {count} streams is incomplete", None, count
            )

        return self.raised(np.ones(len(numbers), dtype=np.bool_), say)


def _at(column: Ints, numbers: Ints) -> Ints:
    """Of streams that came after the column was made, nothing is known: 0."""
    found: Ints = np.zeros(len(numbers), dtype=np.int64)
    known = numbers < len(column)
    found[known] = column[numbers[known]]
    return found


def _whole_groups(roster: Roster, at: NDArray[np.intp], conditions: Conditions) -> NDArray[np.int8]:
    """For each stream the widest of gateway and device of which every known stream is bad, and there are two."""
    found = np.full(len(at), len(LEVELS), dtype=np.int8)
    for place in (LEVELS.index(Level.DEVICE), _GATEWAY):
        names, groups = roster.groups(LEVELS[place])
        mine = groups[at]
        bad = np.bincount(mine[conditions == BAD], minlength=len(names))
        good = np.bincount(mine[conditions == GOOD], minlength=len(names))
        found[((bad >= 2) & (good == 0))[mine]] = place
    return found


class ThresholdCheck(_StreamCheck):
    """Streams whose value is beyond a limit. At most _VALUES_AT_ONCE new values are looked at in a step."""

    def __init__(self, rule: rules.Threshold) -> None:
        super().__init__(rule)
        self._rule = rule
        self._conditions: Conditions = np.zeros(0, dtype=np.int8)
        self._values = np.zeros(0)
        self._looked_ns: Ints = np.zeros(0, dtype=np.int64)

    def step(self, look: Look) -> dict[Subject, Found]:
        """Every alert that stands."""
        self.follow(look.roster)
        at, numbers = self.watched.at, self.watched.numbers
        more = look.roster.size - len(self._conditions)
        if more > 0:
            self._conditions = np.concatenate((self._conditions, np.full(more, NEITHER, dtype=np.int8)))
            self._values = np.concatenate((self._values, np.full(more, np.nan)))
            self._looked_ns = np.concatenate((self._looked_ns, np.zeros(more, dtype=np.int64)))
        news = numbers[look.heard_ns[numbers] > self._looked_ns[numbers]]
        for number in news[np.argsort(self._looked_ns[news], kind="stable")][:_VALUES_AT_ONCE].tolist():
            self._looked_ns[number] = look.heard_ns[number]
            sample = look.newest.get(number)
            value = None if sample is None or sample.quality is Quality.BAD else sample.value
            if isinstance(value, float | int) and value == value:  # noqa: PLR0124 - not NaN
                self._conditions[number] = self._condition(float(value))
                self._values[number] = value
        stale = look.now_ns - look.measured_ns[numbers] > look.limits_ns[at]
        self.latch.step(numbers, np.where(stale, NEITHER, self._conditions[numbers]).astype(np.int8), look.now_ns)
        return self.raised(np.ones(len(numbers), dtype=np.bool_), self._say)

    def _condition(self, value: float) -> int:
        above, below, clear = self._rule.above, self._rule.below, self._rule.clear
        if above is not None:
            return BAD if value > above else GOOD if value <= (above if clear is None else clear) else NEITHER
        limit = below if below is not None else 0.0
        return BAD if value < limit else GOOD if value >= (limit if clear is None else clear) else NEITHER

    def _say(self, subject: Subject, entry: Entry, _: int) -> Found:
        side = "above" if self._rule.above is not None else "below"
        return Found(f"{subject.name} is {side} its limit", entry.number, 1, float(self._values[entry.number]))


class CameraBlindCheck(_StreamCheck):
    """Cameras that see nothing."""

    def step(self, look: Look) -> dict[Subject, Found]:
        """Every alert that stands."""
        self.follow(look.roster)
        numbers = self.watched.numbers
        blind = {number for number, ns in look.blind_ns.items() if look.now_ns - ns < look.blind_for_ns}
        conditions = np.isin(numbers, list(blind)).astype(np.int8)
        self.latch.step(numbers, conditions, look.now_ns)
        self.covers[numbers] = LEVELS.index(Level.DEVICE)
        return self.raised(
            np.ones(len(numbers), dtype=np.bool_),
            lambda subject, _, count: Found(f"camera {subject.name} sees nothing", None, count),
        )


class GatewayCheck:
    """Rules about gateways, by a condition each.

    whole: alerts of whole districts and cities are one. more: gateways that neither catalogue nor ledger know.
    """

    def __init__(
        self,
        rule: rules.Rule,
        condition: Callable[[Look, GatewayPath], int],
        say: Callable[[Look, GatewayPath], str],
        *,
        whole: bool = False,
        more: Callable[[], Iterable[GatewayPath]] = tuple,
    ) -> None:
        self._rule, self._condition, self._say, self._whole = rule, condition, say, whole
        self._more = more
        self._free: list[int] = []
        self._latch = Latch(duration_s=rule.duration_s, hold_s=rule.hold_s)
        self._index: dict[GatewayPath, int] = {}
        self._covers: dict[GatewayPath, Subject] = {}
        self._allowed_until_ns: dict[str, int] = {}
        self._dark: set[str] = set()
        self._selected: tuple[Roster, frozenset[GatewayPath]] | None = None

    def watches(self, path: GatewayPath, roster: Roster) -> bool:
        """Whether the rule selects this gateway: a stream of it, or by area one without any."""
        if self._selected is None or self._selected[0] is not roster:
            self._selected = roster, frozenset(entry.path for entry in self._rule.select.of(roster.entries))
        select = self._rule.select
        by_area = not (select.owners or select.quantities or select.streams)
        return path in self._selected[1] or (by_area and select.matches_path(path))

    def restore(self, subjects: Iterable[Subject], roster: Roster) -> None:
        """These stood when the process before ended."""
        for subject in subjects:
            inside = [path for path in roster.paths if f"{path}/".startswith(f"{subject.name}/")]
            if subject.kind == Level.GATEWAY:
                inside = inside or [GatewayPath(*subject.name.split("/"))]
            for path in inside:
                place = self._place(path)
                self._latch.raised[place] = True
                self._covers[path] = subject

    def step(self, look: Look) -> dict[Subject, Found]:
        """Every alert that stands."""
        paths = dict.fromkeys([*look.roster.paths, *look.states, *self._covers, *self._more()])
        for path in self._index.keys() - paths.keys():  # names that somebody made up must not pile up
            self._free.append(self._index.pop(path))
        watched = [path for path in paths if self.watches(path, look.roster)]
        conditions = {path: self._condition(look, path) for path in watched}
        dark = _dark_areas(conditions) if self._whole else set()
        for area in self._dark - dark:  # something of it is back: the others get time to follow
            self._allowed_until_ns[area] = look.now_ns + round(1e9 * max(self._rule.duration_s, self._rule.hold_s, 60))
        self._dark = dark
        allowed = {area for area, until_ns in self._allowed_until_ns.items() if until_ns > look.now_ns}
        self._allowed_until_ns = {area: ns for area, ns in self._allowed_until_ns.items() if area in allowed}
        for path, condition in conditions.items():
            if condition == BAD and allowed.intersection(_areas(path)):
                conditions[path] = NEITHER
        places = np.array([self._place(path) for path in watched], dtype=np.int64)
        self._latch.only(places)
        self._latch.step(places, np.array([conditions[path] for path in watched], dtype=np.int8), look.now_ns)
        found: dict[Subject, list[GatewayPath]] = {}
        for path, place in zip(watched, places.tolist(), strict=True):
            if not self._latch.raised[place]:
                self._covers.pop(path, None)
                continue
            if conditions[path] == BAD or path not in self._covers:
                self._covers[path] = _widest(path, dark)
            found.setdefault(self._covers[path], []).append(path)
        return {subject: self._found(look, subject, members) for subject, members in found.items()}

    def _found(self, look: Look, subject: Subject, members: Sequence[GatewayPath]) -> Found:
        streams = sum(len(look.roster.by_gateway.get(path, {})) for path in members)
        if subject.kind == Level.GATEWAY:
            return Found(self._say(look, members[0]), None, streams)
        return Found(f"all {len(members)} gateways of {subject.kind} {subject.name} are gone", None, streams)

    def _place(self, path: GatewayPath) -> int:
        place = self._index.get(path)
        if place is None:
            place = self._free.pop() if self._free else len(self._index)
            self._index[path] = place
            self._latch.grow(place + 1)
        return place


def _areas(path: GatewayPath) -> tuple[str, str]:
    return path.city, f"{path.city}/{path.district}"


def _dark_areas(conditions: Mapping[GatewayPath, int]) -> set[str]:
    """Cities and districts with two gateways or more, all of them bad."""
    every: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for path, condition in conditions.items():
        every.update(_areas(path))
        if condition == BAD:
            bad.update(_areas(path))
    return {area for area, count in every.items() if count >= 2 and bad[area] == count}


def _widest(path: GatewayPath, dark: set[str]) -> Subject:
    for kind, area in zip((Level.CITY, Level.DISTRICT), _areas(path), strict=True):
        if area in dark:
            return Subject(kind.value, area)
    return Subject(Level.GATEWAY.value, str(path))


class CertificateCheck:
    """Certificates that end soon, or cannot be read."""

    def __init__(self, rule: rules.CertificateExpiring) -> None:
        self._rule = rule
        self._latch = Latch(duration_s=rule.duration_s, hold_s=rule.hold_s)
        self._latch.grow(len(rule.files))
        self._looked_ns = 0
        self._found: list[tuple[int, str]] = []

    def restore(self, subjects: Iterable[Subject], roster: Roster) -> None:  # noqa: ARG002 - as every check
        """These stood when the process before ended."""
        names = {subject.name for subject in subjects}
        for place, file in enumerate(self._rule.files):
            self._latch.raised[place] = file.name in names

    def step(self, look: Look) -> dict[Subject, Found]:
        """Every alert that stands."""
        if not self._found or look.now_ns - self._looked_ns > _CERTIFICATES_EVERY_NS:
            self._looked_ns = look.now_ns
            self._found = [self._look_at(file, look.now_ns) for file in self._rule.files]
        conditions = np.array([condition for condition, _ in self._found], dtype=np.int8)
        self._latch.step(np.arange(len(conditions)), conditions, look.now_ns)
        return {
            Subject(CERTIFICATE, file.name): Found(text)
            for file, (_, text), raised in zip(self._rule.files, self._found, self._latch.raised, strict=True)
            if raised
        }

    def _look_at(self, file: Path, now_ns: int) -> tuple[int, str]:
        try:
            left_days = (not_after_ns(file.read_text(encoding="ascii")) - now_ns) / _DAY_NS
        except (OSError, ValueError, ssl.SSLError) as error:
            return BAD, f"the certificate {file.name} cannot be read: {type(error).__name__}"
        if left_days < 0:
            return BAD, f"the certificate {file.name} has ended"
        return (
            BAD if left_days < self._rule.days else GOOD
        ), f"the certificate {file.name} ends in {left_days:.0f} days"

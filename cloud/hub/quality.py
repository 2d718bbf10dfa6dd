"""Quality supervision (数据质量监管): keeps the figures of every stream and hour, and answers for any level and period.

Two sources, for they know different things. The ledger's hour books say what was due and what became of it; they are
read again and again, the newest hours often and all kept hours in turn, so that late backfill corrects the past. The
readings as they pass say how good and how late they are, and when a stream last spoke (`observer`).

One task, `run`; its work is done in threads, and the database being away only delays it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud.hub import quality_figures as codes
from cloud.hub.database import Database
from cloud.hub.entries import Entry
from cloud.hub.parts import Entries, Newest
from cloud.hub.quality_days import Calendar, QualitySettings
from cloud.hub.quality_expect import expect
from cloud.hub.quality_figures import Figures
from cloud.hub.quality_observer import Observer
from cloud.hub.quality_roster import Level, Roster, group_by
from cloud.hub.quality_store import Period, QualityStore, Record
from cloud.ledger_hours import GatewayHours, GatewayState, LedgerHours, opened
from cloud.ledger_report import HOUR_NS
from contract.errors import StoreUnavailable
from contract.readings import Ints, Reason
from contract.topics import GatewayPath

log = logging.getLogger(__name__)

_RECENT_HOURS = 3
_LAG_NS = 120_000_000_000  # what was measured in the last two minutes may be on its way
_GATEWAYS_AT_ONCE = 20  # in one transaction: others of this process write, too
_BREATHE_EVERY, _PAUSE_S = 5, 0.002  # gateways between pauses, so that whoever answers people is not held up
_SWEEP_SHARE = 0.05  # of the time
_SWEEP_ALL_S = 86_400
_CELLS = 500_000  # streams x hours of a sweep's window
_BLIND = codes.EXPLAINED + Reason.CAMERA_BLIND
_FEW_GATEWAYS = 200


@dataclass(frozen=True, slots=True)
class Group:
    """A stream, device, ... department, and its figures. former: its completeness as first reported, when corrected."""

    name: str
    figures: Figures
    corrected_ns: int | None = None
    former: Figures | None = None


class Quality:
    """The figures. `look` and what reads figures block: callers use a thread. Raises StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        catalogue: Entries,
        ledger_file: Path,
        settings: QualitySettings,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings
        self.calendar = Calendar(settings)
        self.store = QualityStore(database, self.calendar)
        self.observer = Observer(keep_hours=24 * settings.keep_hour_days)
        self.states: dict[GatewayPath, GatewayState] = {}
        self.blind_ns: dict[int, int] = {}  # by stream number: when the ledger last told of more blind samples
        self.hour_should: Ints = np.zeros(0, dtype=np.int64)  # by stream number, of the last whole hour
        self.hour_missing: Ints = np.zeros(0, dtype=np.int64)
        self.unexplained: dict[GatewayPath, int] = {}  # samples of the last three hours
        self._catalogue = catalogue
        self._ledger_file = ledger_file
        self._now_ns = now_ns
        self._roster: tuple[int, Roster] | None = None
        self._to_sweep: dict[GatewayPath, None] = {}
        self._left: dict[GatewayPath, int] = {}
        self._banded: set[int] = set()
        self._limits: tuple[Roster, int, Ints] | None = None
        self._blind_counts: dict[int, tuple[int, int]] = {}
        self._swept_all_ns = self._rolled_ns = 0

    def position(self) -> str:
        """Where the feed has to go on, so that nothing is counted twice or not at all; empty for a new database."""
        return self.store.position()

    def roster(self) -> Roster:
        """The catalogue as columns, made anew when it changed."""
        version = self._catalogue.version
        if self._roster is None or self._roster[0] != version:
            self._roster = version, Roster(self._catalogue.all(), stale_after=self.settings.stale_after)
        return self._roster[1]

    def entry(self, number: int) -> Entry | None:
        """The stream of this number."""
        return self._catalogue.by_number(number)

    def recall(self, newest: Newest) -> None:
        """Take over where the counts ended, and what the newest readings were, before this process began. Blocking."""
        self.observer.resume(self.position())
        for entry in self._catalogue.all():
            sample = newest.get(entry.number)
            if sample is not None:
                seen_ns = sample.seen_ns or sample.time_ns
                self.observer.note(entry.number, min(sample.time_ns, seen_ns), seen_ns)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        away = False
        while True:
            began_s = time.monotonic()
            try:
                await asyncio.to_thread(self.look)
            except (StoreUnavailable, FileNotFoundError, ValueError) as error:
                if not away:
                    log.warning("quality figures wait: %s", error)
                away = True
            else:
                if away:
                    log.warning("quality figures go on")
                away = False
            await asyncio.sleep(max(1.0, self.settings.refresh_s - (time.monotonic() - began_s)))

    def look(self) -> None:
        """One look: the newest hours, what was seen, some of the older hours, days and months."""
        now_ns, roster = self._now_ns(), self.roster()
        with opened(self._ledger_file) as ledger:
            self.states = {state.path: state for state in ledger.states()}
            self._refresh(ledger, roster, now_ns)
            self._keep_seen(roster, now_ns)
            self._sweep(ledger, roster, now_ns)
        self.store.close(now_ns)
        if now_ns - self._rolled_ns >= self.settings.roll_up_s * 1e9:
            while self.store.roll_up(now_ns):
                time.sleep(_PAUSE_S)
            self._rolled_ns = now_ns

    def sweep_all(self) -> None:
        """Ask for every hour that is kept to be looked at again."""
        self._to_sweep = dict.fromkeys(self.roster().paths)
        self._swept_all_ns = self._now_ns()

    def entries_of(self, records: Sequence[Record]) -> list[Entry]:
        """The streams of these rows that the catalogue knows, by number."""
        numbers = {number for record in records for number in np.unique(record.books[:, 0]).tolist()}
        return [entry for number in sorted(numbers) if (entry := self._catalogue.by_number(number)) is not None]

    def records(self, period: Period, start_hour: int, entries: Sequence[Entry]) -> list[Record]:
        """The rows of a period in which figures of these streams may be."""
        gateways = sorted({str(entry.path) for entry in entries})
        return self.store.read(period, [start_hour], gateways if len(gateways) <= _FEW_GATEWAYS else None)

    def figures(self, level: Level, period: Period, at_hour: int, entries: Sequence[Entry]) -> list[Group]:
        """The figures of these streams by group, by name, over the period in which the hour `at_hour` is."""
        start = self.calendar.start_of(period, at_hour)
        return self.grouped(level, self.records(period, start, entries), entries)

    def grouped(self, level: Level, records: Sequence[Record], entries: Sequence[Entry]) -> list[Group]:
        """The figures of these streams in these rows, by group."""
        names, places = group_by(entries, level)
        group_of: Ints = np.full(max((entry.number for entry in entries), default=-1) + 1, -1, dtype=np.int64)
        group_of[[entry.number for entry in entries]] = places
        alarm = self.settings.completeness_alarm
        figures = codes.group(codes.merge([one.whole for one in records]), group_of, len(names), alarm=alarm)
        corrected: dict[int, int] = {}
        for record in records:
            for place in _changed_places(record, group_of):
                corrected[place] = max(corrected.get(place, 0), record.corrected_ns or 0)
        former = figures
        if corrected:
            before = [one.books if one.former is None else one.former for one in records]
            former = codes.group(codes.merge(before), group_of, len(names), alarm=alarm)
        return [
            Group(name, figures[at], corrected.get(at), former[at] if at in corrected else None)
            for at, name in enumerate(names)
        ]

    def limits_ns(self, roster: Roster) -> Ints:
        """The age at which each stream's newest sample is stale: of one with a deadband, no less than two looks."""
        made = self._limits
        if made is None or made[0] is not roster or made[1] != len(self._banded):
            limits = roster.limit_ns.copy()
            banded = np.isin(roster.numbers, list(self._banded))
            limits[banded] = np.maximum(limits[banded], int(2.5e9 * self.settings.refresh_s))
            made = self._limits = roster, len(self._banded), limits
        return made[2]

    def _refresh(self, ledger: LedgerHours, roster: Roster, now_ns: int) -> None:
        last = now_ns // HOUR_NS
        hours = (last - _RECENT_HOURS + 1, last)
        books: dict[tuple[int, str], Ints] = {}
        whole = self.calendar.reported_before_hour(now_ns) - 1
        whole_hour: list[Ints] = []
        unexplained: dict[GatewayPath, int] = {}
        for at, path in enumerate(roster.paths):
            found = ledger.read(path, *hours, now_ns) or GatewayHours([], [])
            entries = roster.by_gateway[path]
            expected = expect(found, entries, hours, told_until_ns=now_ns - _LAG_NS, left={})
            books |= {(hour, str(path)): tally for hour, tally in expected.hours.items()}
            self._note_live(found, entries, expected.hours.get(last, codes.EMPTY), now_ns)
            whole_hour.append(expected.hours.get(max(whole, hours[0]), codes.EMPTY))
            unexplained[path] = sum(
                int(tally[tally[:, 1] == codes.UNEXPLAINED, 2].sum()) for tally in expected.hours.values()
            )
            left = sum(expected.left.values())
            if left and left != self._left.get(path):
                self._to_sweep[path] = None
            self._left[path] = left
            if at % _BREATHE_EVERY == _BREATHE_EVERY - 1:
                time.sleep(_PAUSE_S)
            if at % _GATEWAYS_AT_ONCE == _GATEWAYS_AT_ONCE - 1:
                self.store.put_books(books, now_ns)
                books = {}
        self.store.put_books(books, now_ns)
        tally = codes.merge(whole_hour)
        self.hour_should = codes.column(tally, codes.SHOULD, roster.size)
        self.hour_missing = codes.column(tally, codes.MISSING, roster.size)
        self.unexplained = unexplained

    def _note_live(self, found: GatewayHours, entries: dict[tuple[str, str], Entry], newest: Ints, now_ns: int) -> None:
        """What the ledger knows of streams whose samples lie within the deadband, and of cameras that see nothing."""
        held = [part for part in found.parts if part.suppressed.any()]
        if held:
            known = {one.id: entries.get((one.device, one.stream)) for one in found.streams}
            number_of: Ints = np.full(max(known) + 1, -1, dtype=np.int64)
            for key, entry in known.items():
                number_of[key] = -1 if entry is None else entry.number
            for part in held:
                numbers = number_of[part.streams]
                mine = (numbers >= 0) & (part.suppressed > 0)
                self._banded.update(numbers[mine].tolist())
                until_ns = np.minimum(part.until_ns[mine], now_ns)
                self.observer.note_all(numbers[mine], until_ns, until_ns)
        for number, _, count in newest[newest[:, 1] == _BLIND].tolist():
            hour, before = self._blind_counts.get(number, (0, 0))
            if count > (before if hour == now_ns // HOUR_NS else 0):
                self.blind_ns[number] = now_ns
            self._blind_counts[number] = now_ns // HOUR_NS, count

    def _keep_seen(self, roster: Roster, now_ns: int) -> None:
        """Hand what was seen to the database, by gateway, with this look's freshness."""
        hours, position = self.observer.drain()
        measured_ns, _ = self.observer.newest(roster.size)
        looks = self._looks(roster, measured_ns, now_ns)
        this_hour = now_ns // HOUR_NS
        by_gateway: dict[tuple[int, str], Ints] = {}
        for hour, tally in {**hours, this_hour: codes.merge([hours.get(this_hour, codes.EMPTY), looks])}.items():
            known = tally[tally[:, 0] < roster.size]
            if not len(known):
                continue
            places = roster.gateway_of[known[:, 0]]
            order = np.argsort(places, kind="stable")
            present, starts = np.unique(places[order], return_index=True)
            for place, rows in zip(present.tolist(), np.split(known[order], starts[1:]), strict=True):
                if place < 0:
                    continue
                path = roster.paths[place]
                by_gateway[hour, str(path)] = rows
                if hour <= this_hour - _RECENT_HOURS:
                    self._to_sweep[path] = None
        try:
            self.store.add_seen(by_gateway, position, now_ns)
        except StoreUnavailable:
            self.observer.give_back(hours)
            raise

    def _looks(self, roster: Roster, measured_ns: Ints, now_ns: int) -> Ints:
        newest = np.maximum(measured_ns[roster.numbers], roster.since_ns)
        fresh = now_ns - newest <= self.limits_ns(roster)
        numbers = roster.numbers[roster.speaks]
        ones = np.ones(len(numbers), dtype=np.int64)
        checked = np.column_stack((numbers, np.full(len(numbers), codes.CHECKED), ones))
        found = roster.numbers[roster.speaks & fresh]
        of_these = np.column_stack((found, np.full(len(found), codes.FRESH), np.ones(len(found), dtype=np.int64)))
        return codes.merge([checked, of_these])

    def _sweep(self, ledger: LedgerHours, roster: Roster, now_ns: int) -> None:
        """Look at all kept hours of some gateways again."""
        if now_ns - self._swept_all_ns > _SWEEP_ALL_S * 1_000_000_000:
            self.sweep_all()
        until_s = time.monotonic() + _SWEEP_SHARE * self.settings.refresh_s
        while self._to_sweep:
            path = next(iter(self._to_sweep))
            if path in roster.by_gateway:
                self._sweep_one(ledger, path, roster.by_gateway[path], now_ns)
            del self._to_sweep[path]
            if time.monotonic() >= until_s:
                return

    def _sweep_one(
        self, ledger: LedgerHours, path: GatewayPath, entries: dict[tuple[str, str], Entry], now_ns: int
    ) -> None:
        oldest, last = self.calendar.oldest_hour(now_ns), now_ns // HOUR_NS
        size = max(_CELLS // max(len(entries), 1), _RECENT_HOURS)
        left: dict[tuple[int, int], int] = {}
        while last >= oldest:
            hours = max(last - size + 1, oldest), last
            found = ledger.read(path, *hours, now_ns)
            if found is None:
                return
            expected = expect(found, entries, hours, told_until_ns=now_ns - _LAG_NS, left=left)
            self.store.put_books({(hour, str(path)): tally for hour, tally in expected.hours.items()}, now_ns)
            left, last = expected.left, hours[0] - 1


def _changed_places(record: Record, group_of: Ints) -> list[int]:
    """Groups of which some stream's books are not what was reported."""
    if record.former is None:
        return []
    undone = record.former.copy()
    undone[:, 2] *= -1
    numbers = np.unique(codes.merge([record.books, undone])[:, 0])
    places = group_of[numbers[numbers < len(group_of)]]
    changed: list[int] = np.unique(places[places >= 0]).tolist()
    return changed

"""The daily report: for each stream that fails, what is the matter, since when, whose it is and whom to call.

The facts are gathered once (`gather`, blocking) and then written as HTML that prints on A4, or as CSV. Text of births
is hostile until escaped: HTML by html.escape, CSV cells that a spreadsheet would compute get an apostrophe.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from cloud.hub import quality_figures as codes
from cloud.hub.entries import Entry
from cloud.hub.quality import Group, Quality
from cloud.hub.quality_figures import Figures
from cloud.hub.quality_roster import KEYS, Level
from cloud.hub.quality_store import Period, Record
from cloud.hub.report_words import Language, reason_in_words, word

_LOOK_BACK_DAYS = 31
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Failing:
    """A stream that needs attention. since_hour: when its last run of failing hours began.

    before: it failed already in the first hour that is known.
    """

    entry: Entry
    figures: Figures
    since_hour: int
    before: bool


@dataclass(frozen=True, slots=True)
class Correction:
    """A stream's figures of a past day (its first hour) that changed after they had been reported."""

    entry: Entry
    start_hour: int
    former: Figures
    now: Figures
    corrected_ns: int


@dataclass(slots=True)
class Report:
    """One day's facts."""

    day: date
    zone: str
    made_ns: int
    final: bool
    alarm: float
    validity_alarm: float
    stale_after: float
    total: Figures = field(default_factory=Figures)
    departments: list[Group] = field(default_factory=list)
    districts: list[Group] = field(default_factory=list)
    failing: list[Failing] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)


def gather(quality: Quality, day: date, entries: Sequence[Entry], now_ns: int) -> Report:
    """The facts of a day about these streams. Blocking. Raises StoreUnavailable."""
    calendar, settings = quality.calendar, quality.settings
    start = calendar.start_of_day(day)
    end = calendar.end_of(Period.DAY, start)
    report = Report(
        day,
        settings.zone,
        now_ns,
        final=start < calendar.reported_before_day(now_ns),
        alarm=settings.completeness_alarm,
        validity_alarm=settings.validity_alarm,
        stale_after=settings.stale_after,
    )
    records = quality.records(Period.DAY, start, entries)
    if not records:
        return report
    report.departments = quality.grouped(Level.DEPARTMENT, records, entries)
    report.districts = quality.grouped(Level.DISTRICT, records, entries)
    bad = [
        (entry, group.figures)
        for entry, group in zip(_by_id(entries), quality.grouped(Level.STREAM, records, entries), strict=True)
        if fails(group.figures, settings.completeness_alarm, settings.validity_alarm)
    ]
    _count_failing(report.departments, [entry for entry, _ in bad], Level.DEPARTMENT)
    _count_failing(report.districts, [entry for entry, _ in bad], Level.DISTRICT)
    report.total = sum_of(report.districts)
    report.failing = _since(quality, bad, (start, end))
    report.corrections = _corrections(quality, start, end, entries)
    return report


def fails(figures: Figures, completeness_alarm: float, validity_alarm: float) -> bool:
    """Whether a stream with these figures needs attention."""
    completeness, validity = figures.completeness, figures.validity
    incomplete = completeness is not None and completeness < completeness_alarm
    invalid = validity is not None and validity < validity_alarm
    return incomplete or invalid or not figures.closes


def sum_of(groups: Sequence[Group]) -> Figures:
    """The figures of all groups together."""
    total = Figures()
    for group in groups:
        total.streams += group.figures.streams
        total.failing += group.figures.failing
        for code, count in group.figures.counts.items():
            total.counts[code] = total.counts.get(code, 0) + count
    return total


def _count_failing(groups: Sequence[Group], bad: Sequence[Entry], level: Level) -> None:
    """In a report a stream fails for what is in its table, not for its completeness alone."""
    counted = Counter(KEYS[level](entry) for entry in bad)
    for group in groups:
        group.figures.failing = counted[group.name]


def in_words(report: Report, figures: Figures, language: Language) -> str:
    """What is the matter with a failing stream."""
    told = []
    completeness, validity = figures.completeness, figures.validity
    if completeness is not None and completeness < report.alarm:
        missing = figures.count(codes.MISSING)
        key = "is_incomplete" if figures.count(codes.RECEIVED) else "is_dead"
        told.append(word(language, key, percent=percent(completeness), missing=f"{missing:,}"))
        told += _mostly(_missing_because(figures), language)
    if validity is not None and validity < report.validity_alarm:
        told.append(word(language, "is_invalid", percent=percent(validity)))
        told += _mostly(figures.doubts(), language)
    if not figures.closes:
        told.append(word(language, "is_unexplained", count=f"{figures.count(codes.UNEXPLAINED):,}"))
    return ("；" if language is Language.CHINESE else "; ").join(told)


def percent(share: float | None) -> str:
    """`99.9 %`; never rounded up to 100."""
    if share is None:
        return "–"
    shown = np.floor(share * 1000 + 1e-9) / 10
    return f"{shown:.1f} %"


def _missing_because(figures: Figures) -> dict[str, int]:
    reasons = {**figures.explained("gap"), **figures.explained("quarantined")}
    for reason in codes.NOT_MISSING:
        reasons.pop(reason.name.lower(), None)
    for name, code in (
        ("thinned", codes.THINNED),
        ("awaited", codes.AWAITED),
        ("in_flight", codes.IN_FLIGHT),
    ):
        reasons[name] = figures.count(code)
    return reasons


def _mostly(reasons: dict[str, int], language: Language) -> list[str]:
    reason, count = max(reasons.items(), key=lambda item: item[1], default=("", 0))
    if count <= 0:
        return []
    return [word(language, "mostly", reason=reason_in_words(language, reason), count=f"{count:,}")]


def _by_id(entries: Sequence[Entry]) -> list[Entry]:
    """In the order in which groups of streams come."""
    return sorted(entries, key=lambda entry: entry.id)


def _since(quality: Quality, bad: list[tuple[Entry, Figures]], day: tuple[int, int]) -> list[Failing]:
    """When each stream's last run of failing hours began: by hours of the day, then by the days before."""
    if not bad:
        return []
    size = max(entry.number for entry, _ in bad) + 1
    since = np.full(size, -1, dtype=np.int64)
    running = np.zeros(size, dtype=np.bool_)
    gateways = sorted({str(entry.path) for entry, _ in bad})
    hours = quality.store.read(Period.HOUR, range(*day), gateways)
    for hour in range(*day):
        failed, known = _failed([one for one in hours if one.start_hour == hour], size, quality)
        since[failed & ~running] = hour
        running = np.where(known, failed, running)
    since[since < 0] = day[0]  # its hours are gone, or it fails by the day alone
    open_start = since == day[0]
    start = day[0]
    for _ in range(_LOOK_BACK_DAYS):
        start = quality.calendar.start_of(Period.DAY, start - 1)
        failed, _ = _failed(quality.store.read(Period.DAY, [start], gateways), size, quality)
        open_start &= failed
        if not open_start.any():
            break
        since[open_start] = start
    return [
        Failing(entry, figures, int(since[entry.number]), bool(open_start[entry.number]))
        for entry, figures in sorted(bad, key=lambda one: (one[0].owner, one[0].id))
    ]


def _failed(
    records: list[Record], size: int, quality: Quality
) -> tuple["np.ndarray[tuple[int], np.dtype[np.bool_]]", "np.ndarray[tuple[int], np.dtype[np.bool_]]"]:
    """(failed, known) by stream number."""
    tally = codes.merge([one.whole for one in records])
    should, missing = codes.column(tally, codes.SHOULD, size), codes.column(tally, codes.MISSING, size)
    seen: np.ndarray[tuple[int], np.dtype[np.int64]] = np.zeros(size, dtype=np.int64)
    good = codes.column(tally, 0, size)
    rows = tally[(tally[:, 1] < 0xC0) & (tally[:, 0] < size)]
    np.add.at(seen, rows[:, 0], rows[:, 2])
    settings = quality.settings
    failed = missing > (1 - settings.completeness_alarm) * should
    failed |= good < settings.validity_alarm * seen
    failed |= codes.column(tally, codes.UNEXPLAINED, size) != 0
    return failed, (should > 0) | (seen > 0)


def _corrections(quality: Quality, start: int, end: int, entries: Sequence[Entry]) -> list[Correction]:
    """What became known on this day, or later, of this day, and on this day of days before."""
    hour_ns = _DAY_NS // 24
    found: list[Correction] = []
    known = {entry.number: entry for entry in entries}
    on_this_day = quality.store.corrected(Period.DAY, start * hour_ns, end * hour_ns)
    of_this_day = quality.store.read(Period.DAY, [start])
    records = {(one.start_hour, one.gateway): one for one in [*on_this_day, *of_this_day] if one.former is not None}
    for record in records.values():
        if record.former is None or record.corrected_ns is None:
            continue
        size = max(known, default=-1) + 1
        numbers = np.arange(size)
        before = codes.group(record.former, numbers, size, alarm=quality.settings.completeness_alarm)
        after = codes.group(record.books, numbers, size, alarm=quality.settings.completeness_alarm)
        for number in sorted({*np.unique(record.former[:, 0]).tolist(), *np.unique(record.books[:, 0]).tolist()}):
            entry = known.get(number)
            if entry is not None and before[number].counts != after[number].counts:
                found.append(Correction(entry, record.start_hour, before[number], after[number], record.corrected_ns))
    return sorted(found, key=lambda one: (one.start_hour, one.entry.owner, one.entry.id))


def day_before(quality: Quality, now_ns: int) -> date:
    """Yesterday, as the city counts."""
    return quality.calendar.today(now_ns) - timedelta(days=1)

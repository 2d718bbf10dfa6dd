"""Does the ledger close? Arithmetic on the books, no file and no clock.

For each stream: expected = stored + suppressed + thinned + quarantined + gaps + in flight + unexplained.

- expected is what the gateways say was due, or more where the catalogue's interval says that more was due.
- A boot's shortfall (due minus accounted) is in flight while frames of it may still come, else unexplained. Frames
  may come when numbers are missing among those of one outbox, and its state message does not say that it no longer
  has them.
- Boots of one outbox share one rising sequence. A boot that starts later but at a lower number has a new outbox: what
  is missing of the old one will never come.
- Accounted above due (something came twice) is negative and unexplained.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cloud.ledger_book import Book, explained_by
from cloud.ledger_sequences import Sequences, missing, union
from contract.readings import Ints
from contract.topics import GatewayPath

HOUR_NS = 3_600_000_000_000
UNKNOWN = "?"  # device and stream of readings that no birth names; shown only when there are some
_LATE_TICKS = 2  # a schedule may be this many samples behind ...
_LATE_SHARE = 0.01  # ... and this much slower than the catalogue says before samples count as missing


@dataclass(frozen=True, slots=True)
class StreamView:
    """A stream as the ledger knows it. `scheduled`: every sample that is due is counted."""

    id: int
    device: str
    stream: str
    interval_s: float | None
    scheduled: int


@dataclass(frozen=True, slots=True, eq=False)
class BootView:
    """A boot: when its earliest frame was closed, which sequences came (rejected ones too), and its books.

    promised: the highest next_sequence that its state messages named, 0 when none came: all below were on its disk.
    """

    boot: int
    started_ns: int
    received: Sequences
    rejected: Sequences
    book: Book
    hours: dict[int, Book]
    pruned: bool
    promised: int


@dataclass(frozen=True, slots=True, eq=False)
class GatewayView:
    """A gateway: what it last said of itself, and everything of it that came."""

    path: GatewayPath
    online: bool | None
    state_boot: int | None
    next_sequence: int | None
    oldest_sequence: int | None
    streams: list[StreamView]
    boots: list[BootView]
    settled: Book


@dataclass(slots=True)
class Row:
    """One stream's numbers, of all time or of the UTC hour that starts at `hour` (hours since 1970)."""

    gateway: str
    device: str
    stream: str
    hour: int | None = None
    expected: int = 0
    produced: int = 0
    stored: int = 0
    suppressed: int = 0
    thinned: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    unexplained: int = 0
    closes: bool = True

    @property
    def explained(self) -> int:
        """Everything that is accounted for and not stored."""
        return self.suppressed + self.thinned + sum(self.quarantined.values()) + sum(self.gaps.values())

    def explain(self, code: int, count: int) -> None:
        """Add samples that are not stored, for a reason of cloud.ledger_book."""
        kind, reason = explained_by(code)
        reasons = self.gaps if kind == "gap" else self.quarantined
        reasons[reason] = reasons.get(reason, 0) + count


@dataclass(slots=True)
class GatewayRow:
    """One gateway's frames: how many came, may still come, will never come, and were numbers without a frame.

    After a torn tail an outbox goes on above every number that the torn bytes might have had.
    """

    gateway: str
    online: bool | None
    frames: int
    frames_in_flight: int
    frames_lost: int
    frames_rejected: int
    frames_skipped: int


@dataclass(slots=True)
class LedgerReport:
    """Every stream, and whether all of it is accounted for."""

    rows: list[Row]
    gateways: list[GatewayRow]
    hours: list[Row]

    @property
    def totals(self) -> dict[str, int]:
        """Sums over streams and gateways."""
        sums = ("expected", "produced", "stored", "suppressed", "thinned", "explained", "in_flight", "unexplained")
        totals = {name: sum(getattr(row, name) for row in self.rows) for name in sums}
        totals["streams"] = len(self.rows)
        totals["quarantined"] = sum(sum(row.quarantined.values()) for row in self.rows)
        totals["gaps"] = sum(sum(row.gaps.values()) for row in self.rows)
        for name in ("frames", "frames_in_flight", "frames_lost", "frames_rejected", "frames_skipped"):
            totals[name] = sum(getattr(one, name) for one in self.gateways)
        return totals

    @property
    def closes(self) -> bool:
        """Did everything arrive, and is everything explained? False while anything is in flight."""
        rows_close = all(row.closes and row.in_flight == 0 for row in self.rows)
        return rows_close and not any(one.frames_in_flight or one.frames_lost for one in self.gateways)

    def summary(self) -> str:
        """One line for people."""
        totals = self.totals
        lost = f", frames lost {totals['frames_lost']}" if totals["frames_lost"] else ""
        waiting = f" ({totals['frames_in_flight']} frames)" if totals["frames_in_flight"] else ""
        return (
            f"ledger: {totals['streams']} streams, expected {totals['expected']} = stored {totals['stored']} + "
            f"explained {totals['explained']}, in flight {totals['in_flight']}{waiting}, "
            f"unexplained {totals['unexplained']}{lost}: {'closed' if self.closes else 'OPEN'}"
        )

    def as_json(self) -> dict[str, Any]:
        """The whole as JSON values."""
        return {
            "closes": self.closes,
            "summary": self.summary(),
            "totals": self.totals,
            "streams": [asdict(row) | {"explained": row.explained} for row in self.rows],
            "gateways": [asdict(row) for row in self.gateways],
            "hours": [asdict(row) | {"explained": row.explained} for row in self.hours],
        }


def from_json(data: dict[str, Any]) -> LedgerReport:
    """What `as_json` made."""

    def rows(key: str) -> list[Row]:
        return [Row(**{name: value for name, value in row.items() if name != "explained"}) for row in data[key]]

    return LedgerReport(rows("streams"), [GatewayRow(**row) for row in data["gateways"]], rows("hours"))


def build(gateways: Sequence[GatewayView], *, stream: str | None = None, hours: bool = False) -> LedgerReport:
    """The report of these gateways. stream: only rows whose gateway/device/stream contains this text."""
    report = LedgerReport([], [], [])
    for gateway in sorted(gateways, key=lambda one: str(one.path)):
        rows = {
            one.id: Row(str(gateway.path), one.device, one.stream)
            for one in gateway.streams
            if _wanted(one, gateway, stream)
        }
        streams = {one.id: one for one in gateway.streams}
        fates = fates_of(gateway)
        for boot, fate in zip(gateway.boots, fates.boots, strict=True):
            _add(rows, streams, boot.book, may_come=fate.may_come, rejected=fate.rejected)
        _add(rows, streams, gateway.settled, may_come=False, rejected=False)
        shown = [row for row in rows.values() if row.device != UNKNOWN or row.expected]
        report.rows += sorted(shown, key=lambda row: (row.device, row.stream))
        report.gateways.append(fates.row)
        if hours:
            report.hours += _hour_rows(gateway, set(rows))
    return report


@dataclass(frozen=True, slots=True)
class _Fate:
    may_come: bool
    rejected: bool


@dataclass(frozen=True, slots=True)
class Fates:
    """What may still come of each boot (in the view's order), and the gateway's frames in sum."""

    boots: list[_Fate]
    row: GatewayRow


def fates_of(gateway: GatewayView) -> Fates:
    """Which missing frames are in flight and which will not come."""
    in_flight = lost = skipped = 0
    fates: dict[int, _Fate] = {}
    outboxes = _outboxes(gateway.boots)
    for outbox in outboxes:
        received = union(boot.received for boot in outbox)
        ours = {boot.boot for boot in outbox}
        if outbox is not outboxes[-1]:
            holes, from_here = missing(received, received.lowest, received.highest), received.highest + 1
        elif gateway.state_boot in {boot.boot for boot in gateway.boots} - ours:
            holes, from_here = missing(received, received.lowest, received.highest), received.lowest  # stale state
        else:
            holes, from_here = _holes(gateway, received, ours=gateway.state_boot in ours)
        for low, high in holes:
            gone = max(0, min(high, from_here - 1) - low + 1)
            unused = min(gone, _numbers_skipped(outbox, low, high))
            lost += gone - unused
            skipped += unused
            in_flight += high - low + 1 - gone
        before = from_here
        for boot in outbox:
            may_come = any(high >= before and low < boot.received.highest for low, high in holes)
            fates[boot.boot] = _Fate(may_come, bool(len(boot.rejected)))
            before = max(from_here, boot.received.highest)
    frames = sum(len(boot.received) for boot in gateway.boots)
    rejected = sum(len(boot.rejected) for boot in gateway.boots)
    row = GatewayRow(str(gateway.path), gateway.online, frames, in_flight, lost, rejected, skipped)
    return Fates([fates.get(boot.boot, _Fate(may_come=False, rejected=False)) for boot in gateway.boots], row)


def _numbers_skipped(outbox: list[BootView], low: int, high: int) -> int:
    """How many of these missing numbers may never have had a frame: those between two boots that none promised.

    Samples that the torn bytes held are the next boot's gap: its first frame explains the time since the last one kept.
    """
    before = next((boot for boot in outbox if low - 1 in boot.received), None)
    after = next((boot for boot in outbox if high + 1 in boot.received), None)
    if before is None or after is None or before is after:
        return 0
    return max(0, high - max(low, before.promised) + 1)


def _outboxes(boots: Sequence[BootView]) -> list[list[BootView]]:
    """Boots by outbox, oldest first; a boot that starts at a number that was there before has a new one."""
    outboxes: list[list[BootView]] = []
    highest = -1
    for boot in sorted((boot for boot in boots if len(boot.received)), key=lambda one: one.started_ns):
        if not outboxes or boot.received.lowest <= highest:
            outboxes.append([])
            highest = -1
        outboxes[-1].append(boot)
        highest = max(highest, boot.received.highest)
    return outboxes


def _holes(gateway: GatewayView, received: Sequences, *, ours: bool) -> tuple[list[tuple[int, int]], int]:
    """Missing ranges of the newest outbox, and the number below which none of them will come."""
    low, high = received.lowest, received.highest
    following, oldest = gateway.next_sequence, gateway.oldest_sequence
    if following is None:
        return missing(received, low, high), low
    if not ours and following <= high:
        return missing(received, low, high), high + 1  # a newer outbox speaks, of which nothing came yet
    from_here = following if oldest is None else oldest
    return missing(received, min(low, from_here), max(high, following - 1)), from_here


def _wanted(one: StreamView, gateway: GatewayView, text: str | None) -> bool:
    return text is None or text in f"{gateway.path}/{one.device}/{one.stream}"


def _add(rows: dict[int, Row], streams: dict[int, StreamView], book: Book, *, may_come: bool, rejected: bool) -> None:
    due, accounted = _due(book), book.accounted()
    short = _short_by_time(book, streams)
    for at, key in enumerate(book.streams.tolist()):
        row = rows.get(key)
        if row is None:
            continue
        row.produced += int(due[at])
        row.expected += int(due[at]) + int(short[at])
        row.stored += int(book.stored[at])
        row.suppressed += int(book.suppressed[at])
        row.thinned += int(book.thinned[at])
        missing_here = int(due[at] - accounted[at])
        if missing_here > 0 and may_come:
            row.in_flight += missing_here
            missing_here = 0
        elif missing_here > 0 and rejected:
            # Everything else of this boot came, so this is what the rejected frames held; they are in quarantine.
            row.quarantined["rejected_frame"] = row.quarantined.get("rejected_frame", 0) + missing_here
            missing_here = 0
        open_here = missing_here + int(short[at])
        row.unexplained += open_here
        row.closes = row.closes and open_here == 0
    for key, code, count in book.explained.tolist():
        if key in rows:
            rows[key].explain(code, count)


def _due(book: Book) -> Ints:
    """What was due; of streams that no counters name (readings of unknown streams), what came."""
    uncounted = book.rows[:, 2] < 0
    only_quarantined = uncounted & (book.stored == 0)
    due: Ints = np.where(only_quarantined, book.accounted(), book.due)
    return due


def _short_by_time(book: Book, streams: dict[int, StreamView]) -> Ints:
    """Samples that the catalogue's interval says were due, and the gateway did not count (N,).

    floor(span / interval) ticks lie after the first frame's last sample, up to the last frame's.
    """
    span_ns, samples = book.span()
    short: Ints = np.zeros(len(span_ns), dtype=np.int64)
    for at, key in enumerate(book.streams.tolist()):
        stream = streams.get(key)
        if stream is None or not stream.scheduled or not stream.interval_s or span_ns[at] <= 0:
            continue
        ticks = int(span_ns[at] / (stream.interval_s * 1e9) + 1e-6)
        absent = ticks - int(samples[at])
        if absent > _LATE_TICKS + _LATE_SHARE * ticks:
            short[at] = absent
    return short


def _hour_rows(gateway: GatewayView, wanted: set[int]) -> list[Row]:
    """Rows by stream and hour; what was due in an hour is the difference of the cumulative counts."""
    names = {one.id: (one.device, one.stream) for one in gateway.streams}
    rows: dict[tuple[int, int], Row] = {}
    for boot in gateway.boots:
        before: Counter[int] = Counter()
        for position, (hour, book) in enumerate(sorted(boot.hours.items())):
            due = dict(zip(book.streams.tolist(), _due(book).tolist(), strict=True))
            baseline_only = boot.pruned and position == 0  # the hours before it are gone: its difference is unknown
            for at, key in enumerate(book.streams.tolist()):
                if baseline_only or key not in wanted:
                    continue
                row = rows.setdefault((hour, key), Row(str(gateway.path), *names[key], hour=hour))
                row.produced += due[key] - before[key]
                row.stored += int(book.stored[at])
                row.suppressed += int(book.suppressed[at])
                row.thinned += int(book.thinned[at])
            for key, code, count in book.explained.tolist():
                if (hour, key) in rows:
                    rows[hour, key].explain(code, count)
            before.update({key: count - before[key] for key, count in due.items() if count > before[key]})
    for row in rows.values():
        row.expected = row.produced
        row.unexplained = row.expected - row.stored - row.explained
        row.closes = row.unexplained == 0
    return [rows[key] for key in sorted(rows)]

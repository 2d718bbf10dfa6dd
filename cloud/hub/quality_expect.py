"""What should have come in each hour: the ledger's hour books and the catalogue's intervals, put together.

The ledger counts a gap in the hour in which the gateway told of it. A gateway that was off for three hours tells of
all three in the first frame after: this hour would expect four hours' samples, and the three before none. So what an
hour explains beyond what its interval can hold is moved to the hours before it, as far as these have room; what is
still in flight likewise. What then remains empty in an hour in which the stream existed is *awaited*: nobody has said
anything of it yet. Only scheduled streams have an interval that proves something; of others, what was due is what the
gateway says.

An hour may be two samples and one in a hundred beside its interval, as frames end where they end.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cloud.hub import quality_figures as codes
from cloud.hub.entries import Entry
from cloud.ledger_hours import GatewayHours, HourPart
from cloud.ledger_report import HOUR_NS
from contract.readings import Floats, Ints, Reason

_LATE_TICKS, _LATE_SHARE = 2, 0.01  # as in cloud.ledger_report
_OFF = codes.EXPLAINED + Reason.GATEWAY_OFF
_FIRST_GAP, _LAST_GAP = codes.EXPLAINED, codes.EXPLAINED + 63


@dataclass(slots=True)
class Expected:
    """Tallies by hour, and what fits into none of these hours by stream number and code: it belongs to earlier ones."""

    hours: dict[int, Ints]
    left: dict[tuple[int, int], int]


class _Sheet:
    """Counts of `hours` x streams, one matrix a code."""

    def __init__(self, first_hour: int, n_hours: int, n_streams: int) -> None:
        self.first_hour, self.shape = first_hour, (n_hours, n_streams)
        self.of: dict[int, Ints] = {}

    def get(self, code: int) -> Ints:
        found = self.of.get(code)
        if found is None:
            found = self.of[code] = np.zeros(self.shape, dtype=np.int64)
        return found

    def movable(self) -> list[int]:
        """Codes that may belong to an earlier hour: what was told late, and what is not told yet."""
        gaps = sorted(code for code in self.of if _FIRST_GAP <= code <= _LAST_GAP and code != _OFF)
        return [_OFF, *gaps, codes.IN_FLIGHT, codes.UNEXPLAINED]


def expect(
    ledger: GatewayHours,
    entries: Mapping[tuple[str, str], Entry],
    hours: tuple[int, int],
    *,
    told_until_ns: int,
    left: Mapping[tuple[int, int], int],
) -> Expected:
    """The tallies of one gateway's streams in the hours from hours[0] to hours[1], inclusive.

    entries: by (device, stream); others are left out. told_until_ns: what was measured later may still be on its way
    without anything being wrong. left: what later hours had no room for, by (number, code).
    """
    known = sorted(entries.values(), key=lambda entry: entry.number)
    column_of = {entry.number: at for at, entry in enumerate(known)}
    sheet = _Sheet(hours[0], hours[1] - hours[0] + 1, len(known))
    ids = {one.id: entries.get((one.device, one.stream)) for one in ledger.streams}
    columns: Ints = np.full(max(ids, default=-1) + 1, -1, dtype=np.int64)
    for key, entry in ids.items():
        if entry is not None:
            columns[key] = column_of[entry.number]
    for part in ledger.parts:
        _enter(sheet, part, columns)
    heard = np.zeros(len(known), dtype=np.bool_)
    heard[[columns[key] for key in ledger.known if key < len(columns) and columns[key] >= 0]] = True
    due = sheet.get(codes.EXPECTED)
    nominal = _nominal(sheet, known, heard, due, told_until_ns)
    carried = {(column_of[number], code): count for (number, code), count in left.items() if number in column_of}
    rest = _move_back(sheet, known, nominal, carried)
    awaited = np.maximum(nominal - due, 0)
    awaited[awaited <= _LATE_TICKS + _LATE_SHARE * nominal] = 0
    sheet.of[codes.AWAITED] = awaited
    due += awaited
    _finish(sheet)
    first_whole = max(ledger.whole_from - hours[0], 0)
    numbers = np.array([entry.number for entry in known], dtype=np.int64)
    return Expected(
        {hours[0] + at: _tally(sheet, at, numbers) for at in range(first_whole, sheet.shape[0])},
        {(known[at].number, code): count for (at, code), count in rest.items()},
    )


def _enter(sheet: _Sheet, part: HourPart, columns: Ints) -> None:
    row = part.hour - sheet.first_hour
    if not 0 <= row < sheet.shape[0]:
        return
    at = columns[part.streams]
    mine = at >= 0
    at = at[mine]
    sheet.get(codes.EXPECTED)[row, at] += part.due[mine]
    sheet.get(codes.RECEIVED)[row, at] += part.stored[mine]
    sheet.get(codes.SUPPRESSED)[row, at] += part.suppressed[mine]
    sheet.get(codes.THINNED)[row, at] += part.thinned[mine]
    left = part.open[mine]
    may_come = (left > 0) & part.in_flight
    sheet.get(codes.IN_FLIGHT)[row, at] += np.where(may_come, left, 0)
    sheet.get(codes.UNEXPLAINED)[row, at] += np.where(may_come, 0, left)
    for key, code, count in part.explained.tolist():
        if columns[key] >= 0:
            sheet.get(codes.EXPLAINED + code)[row, columns[key]] += count


def _per_hour(known: list[Entry]) -> Floats:
    """Samples an hour by the interval, for scheduled streams; 0 for others (S,)."""
    return np.array([3600 / entry.interval_s if entry.scheduled else 0.0 for entry in known])


def _nominal(sheet: _Sheet, known: list[Entry], heard: "np.ndarray[tuple[int], np.dtype[np.bool_]]", due: Ints,
             told_until_ns: int) -> Ints:  # fmt: skip
    """Samples that the interval says were due while the stream existed (H, S).

    It exists since its first version was seen; of a later version the ledger knows from when.
    """
    starts = (sheet.first_hour + np.arange(sheet.shape[0], dtype=np.int64)) * HOUR_NS
    since = np.array([entry.since_ns for entry in known], dtype=np.int64)
    until = np.array([entry.until_ns or told_until_ns for entry in known], dtype=np.int64)
    any_due = (due > 0).any(axis=0)
    first_due_ns = starts[np.argmax(due > 0, axis=0)] if len(starts) else since
    since = np.where(any_due, np.minimum(since, first_due_ns + HOUR_NS), since)  # it began somewhere in that hour
    since = np.where(heard, starts[0] if len(starts) else since, since)
    begin = np.maximum(starts[:, None], since[None, :])
    end = np.minimum((starts + HOUR_NS)[:, None], np.minimum(until, told_until_ns)[None, :])
    lived = np.maximum(end - begin, 0) / HOUR_NS
    found: Ints = np.floor(lived * _per_hour(known)[None, :] + 1e-6).astype(np.int64)
    return found


def _move_back(
    sheet: _Sheet, known: list[Entry], nominal: Ints, carried: Mapping[tuple[int, int], int]
) -> dict[tuple[int, int], int]:
    """Move what an hour tells of earlier ones there. Returns what finds no room, by (column, code)."""
    due, per_hour = sheet.get(codes.EXPECTED), _per_hour(known)
    for _, code in carried:
        sheet.get(code)
    order = sheet.movable()
    matrices = {code: sheet.get(code) for code in order}
    carry = {code: np.zeros(sheet.shape[1], dtype=np.int64) for code in order}
    for (at, code), count in carried.items():
        carry[code][at] += count
    most = np.ceil(per_hour).astype(np.int64)
    for row in range(sheet.shape[0] - 1, -1, -1):
        over = due[row] - most
        over[(over <= _LATE_TICKS + _LATE_SHARE * most) | (per_hour == 0)] = 0
        room = np.maximum(nominal[row] - due[row], 0)
        for code in order:
            taken = np.minimum(np.maximum(matrices[code][row], 0), over)
            put = np.minimum(carry[code], room)
            matrices[code][row] += put - taken
            due[row] += put - taken
            carry[code] += taken - put
            over, room = over - taken, room - put
    return {
        (int(at), code): int(carry[code][at]) for code in order for at in np.flatnonzero(carry[code])
    }  # fmt: skip


def _finish(sheet: _Sheet) -> None:
    withheld = sheet.get(codes.WITHHELD)
    for reason in codes.NOT_MISSING:
        withheld += sheet.of.get(codes.EXPLAINED + reason, 0)
    should = np.maximum(sheet.get(codes.EXPECTED) - sheet.get(codes.SUPPRESSED) - withheld, 0)
    sheet.of[codes.SHOULD] = should
    sheet.of[codes.MISSING] = np.maximum(should - sheet.get(codes.RECEIVED), 0)


def _tally(sheet: _Sheet, row: int, numbers: Ints) -> Ints:
    parts = []
    for code, matrix in sheet.of.items():
        at = np.flatnonzero(matrix[row])
        if len(at):
            parts.append(np.column_stack((numbers[at], np.full(len(at), code, dtype=np.int64), matrix[row, at])))
    return codes.merge(parts)

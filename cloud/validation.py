"""What a decoded frame must be before the store sees it: known streams, declared kinds, plausible and single times.

Readings that are not are taken out, with a reason; the rest of the frame goes on. Pure: no file, no clock of its own.
The usual frame costs two comparisons and a count a table; the catalogue's part is looked up by the table's stream ids.
"""

import json
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloud.ledger_book import Quarantined, translate
from cloud.quarantine import Entry
from cloud.stores.base import FramePoints, Series
from contract.catalogue import Birth
from contract.errors import FrameError
from contract.frame import Frame
from contract.readings import ABSENT, Ints, Kind, Table
from contract.topics import GatewayPath

EARLIEST_NS = 946_684_800_000_000_000  # 2000-01-01: no gateway of ours measured before
MAX_NUMBER = 1 << 53
_MAX_LISTED = 1000  # readings told one by one in quarantine; more, and the whole frame is kept instead
_MAX_PLANS = 4096

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What the catalogue says of a table's columns. good: which may be stored; series and rows are of the good ones."""

    good: Mask
    all_good: bool
    series: tuple[Series, ...]
    rows: Ints
    bad: tuple[tuple[int, Quarantined, int], ...]  # (column, why, ledger row)


class Catalogue:
    """One epoch of one gateway, prepared for its frames. rows_of, unknown_row: the ledger's ids."""

    def __init__(self, birth: Birth, rows_of: Ints, unknown_row: int) -> None:
        self.rows_of = rows_of
        self.unknown_row = unknown_row
        self._series = {
            stream.id: Series(birth.path, device.name, stream.name, stream.quantity, stream.unit, stream.type)
            for device in birth.devices
            for stream in device.streams
        }
        self._plans: dict[tuple[Kind, bytes], _Plan] = {}

    def __len__(self) -> int:
        """How many streams it names."""
        return len(self._series)

    def name_of(self, stream: int) -> str:
        """device/stream, or the number where the birth does not name it."""
        series = self._series.get(stream)
        return f"{series.device}/{series.stream}" if series else f"#{stream}"

    def series_of(self, stream: int) -> Series | None:
        """What the birth says of one stream, None when it does not name it."""
        return self._series.get(stream)

    def row_of(self, stream: int) -> int:
        """The ledger's id of one stream."""
        row = int(self.rows_of[stream]) if 0 <= stream < len(self.rows_of) else -1
        return row if row >= 0 else self.unknown_row

    def plan(self, table: Table) -> _Plan:
        """What to do with each column of `table`."""
        key = (table.kind, table.streams.tobytes())
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            found = self._plans[key] = self._make_plan(table)
        return found

    def _make_plan(self, table: Table) -> _Plan:
        series: list[Series] = []
        bad: list[tuple[int, Quarantined, int]] = []
        good: Mask = np.zeros(len(table.streams), dtype=np.bool_)
        for column, stream in enumerate(table.streams.tolist()):
            named = self._series.get(stream)
            if named is None:
                bad.append((column, Quarantined.UNKNOWN_STREAM, self.unknown_row))
            elif named.kind != table.kind:
                bad.append((column, Quarantined.WRONG_KIND, self.row_of(stream)))
            else:
                good[column] = True
                series.append(named)
        rows = translate(table.streams[good].astype(np.int64), self.rows_of)
        return _Plan(good, bool(good.all()), tuple(series), rows, tuple(bad))


@dataclass(slots=True, eq=False)
class Checked:
    """A frame after the checks.

    points: what the store gets. kept: by table, (ledger ids, readings kept of each). quarantined: (ledger id, why,
    count). entries: the same for people.
    """

    points: FramePoints
    kept: list[tuple[Ints, Ints]]
    quarantined: list[tuple[int, Quarantined, int]]
    entries: list[Entry]


def refuse_implausible(frame: Frame) -> None:
    """Raise FrameError when the frame's numbers cannot be true, so that its books would spoil the ledger's.

    The codec has refused negative counts, ids out of range and streams counted twice.
    """
    header, counters = frame.header, frame.counters
    if header.sequence >= MAX_NUMBER or header.boot >= MAX_NUMBER:
        raise FrameError("sequence or boot out of range")
    if any(gap.count >= MAX_NUMBER for gap in frame.gaps):
        raise FrameError("a gap's count is out of range")
    if counters is not None and len(counters.due):
        columns = (counters.due, counters.suppressed, counters.thinned)
        if any(int(column.max()) >= MAX_NUMBER for column in columns):
            raise FrameError("a counter is out of range")


def check(frame: Frame, raw: bytes, path: GatewayPath, catalogue: Catalogue, latest_ns: int) -> Checked:
    """Take out what must not be stored. latest_ns: readings dated after it are not plausible."""
    taken_out = _TakenOut(frame, raw, path, catalogue)
    plans = [catalogue.plan(table) for table in frame.tables]
    tables = [_good_columns(table, plan, taken_out) for table, plan in zip(frame.tables, plans, strict=True)]
    tables = [_plausible_rows(table, frame, latest_ns, taken_out) for table in tables]
    if _times_may_repeat(tables):
        tables = _single_times(tables, taken_out)
    kept = [
        (plan.rows, np.count_nonzero(table.present(), axis=0).astype(np.int64))
        for table, plan in zip(tables, plans, strict=True)
    ]
    points = FramePoints(
        path, frame.header.boot, frame.header.sequence, tuple(tables), tuple(plan.series for plan in plans)
    )
    return Checked(points, kept, taken_out.counts(), taken_out.entries())


def _good_columns(table: Table, plan: _Plan, taken_out: "_TakenOut") -> Table:
    if plan.all_good:
        return table
    for column, why, row in plan.bad:
        only: Mask = np.zeros(table.status.shape, dtype=np.bool_)
        only[:, column] = True
        taken_out.note(table, only & table.present(), why, row)
    good = plan.good
    decimals = table.decimals[good] if table.decimals is not None else None
    return Table(table.kind, table.streams[good], table.times, table.values[:, good], table.status[:, good], decimals)


def _plausible_rows(table: Table, frame: Frame, latest_ns: int, taken_out: "_TakenOut") -> Table:
    if frame.header.undated:
        return _without(table, np.ones(table.status.shape, dtype=np.bool_), Quarantined.UNDATED, taken_out)
    odd = (table.times < EARLIEST_NS) | (table.times > latest_ns)
    if not odd.any():
        return table
    mask: Mask = np.broadcast_to(odd[:, None], table.status.shape)
    return _without(table, mask, Quarantined.IMPLAUSIBLE_TIME, taken_out)


def _times_may_repeat(tables: list[Table]) -> bool:
    if any(len(table.times) > 1 and not (np.diff(table.times) > 0).all() for table in tables):
        return True
    if len(tables) < 2:
        return False
    streams = np.concatenate([table.streams for table in tables])
    return len(np.unique(streams)) != len(streams)


def _single_times(tables: list[Table], taken_out: "_TakenOut") -> list[Table]:
    """Keep the first reading of each (stream, time); the store could keep only one, and which would be chance."""
    places = [np.nonzero(table.present()) for table in tables]
    streams = np.concatenate([table.streams[cols] for table, (_, cols) in zip(tables, places, strict=True)])
    times = np.concatenate([table.times[rows] for table, (rows, _) in zip(tables, places, strict=True)])
    order = np.lexsort((np.arange(len(streams)), times, streams))
    again = np.zeros(len(streams), dtype=np.bool_)
    again[order[1:]] = (np.diff(streams[order]) == 0) & (np.diff(times[order]) == 0)
    cleaned = []
    at = 0
    for table, (rows, cols) in zip(tables, places, strict=True):
        mask: Mask = np.zeros(table.status.shape, dtype=np.bool_)
        mask[rows, cols] = again[at : at + len(rows)]
        at += len(rows)
        cleaned.append(_without(table, mask, Quarantined.SAME_TIME_TWICE, taken_out))
    return cleaned


def _without(table: Table, mask: Mask, why: Quarantined, taken_out: "_TakenOut") -> Table:
    mask = mask & table.present()
    if not mask.any():
        return table
    taken_out.note(table, mask, why, None)
    status = table.status.copy()
    status[mask] = ABSENT
    return replace(table, status=status)


class _TakenOut:
    """Readings of one frame that will not be stored, by reason."""

    def __init__(self, frame: Frame, raw: bytes, path: GatewayPath, catalogue: Catalogue) -> None:
        self._frame = frame
        self._raw = raw
        self._path = path
        self._catalogue = catalogue
        self._counts: dict[tuple[int, Quarantined], int] = {}
        self._masks: dict[Quarantined, list[tuple[Table, Mask]]] = {}

    def note(self, table: Table, mask: Mask, why: Quarantined, row: int | None) -> None:
        """These readings of `table`; row: the ledger's id when it is one column's."""
        per_column = np.count_nonzero(mask, axis=0)
        for column in np.flatnonzero(per_column).tolist():
            key = (row if row is not None else self._catalogue.row_of(int(table.streams[column])), why)
            self._counts[key] = self._counts.get(key, 0) + int(per_column[column])
        if per_column.any():
            self._masks.setdefault(why, []).append((table, mask))

    def counts(self) -> list[tuple[int, Quarantined, int]]:
        """(ledger id, why, readings)."""
        return [(row, why, count) for (row, why), count in self._counts.items()]

    def entries(self) -> list[Entry]:
        """One quarantine entry a reason."""
        return [
            entry_of(self._frame, self._raw, self._path, self._catalogue, why=why, detail=_DETAILS[why], masks=masks)
            for why, masks in self._masks.items()
        ]


_DETAILS = {
    Quarantined.UNKNOWN_STREAM: "the gateway's birth does not name this stream",
    Quarantined.WRONG_KIND: "values of another kind than the birth declares",
    Quarantined.IMPLAUSIBLE_TIME: "dated before 2000 or in the future",
    Quarantined.SAME_TIME_TWICE: "another reading of the same stream has the same time",
    Quarantined.UNDATED: "times are not UTC",
}


def entry_of(
    frame: Frame,
    raw: bytes,
    path: GatewayPath,
    catalogue: Catalogue,
    *,
    why: Quarantined,
    detail: str,
    masks: list[tuple[Table, Mask]],
) -> Entry:
    """A quarantine entry of the masked readings: each as JSON when they are few, the frame's bytes otherwise."""
    count = sum(int(np.count_nonzero(mask)) for _, mask in masks)
    payload = raw
    if count <= _MAX_LISTED:
        listed = [
            [catalogue.name_of(int(table.streams[col])), int(table.times[row]), _plain(table, row, col)]
            for table, mask in masks
            for row, col in np.argwhere(mask).tolist()
        ]
        header = frame.header
        body = {"boot": header.boot, "sequence": header.sequence, "readings": listed}
        payload = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return Entry(str(path), why.name.lower(), detail, count, payload)


def _plain(table: Table, row: int, col: int) -> object:
    value: object = table.values[row, col]
    return value.item() if isinstance(value, np.generic) else value

"""Reads the tables of a frame, hostile ones too. What the bytes mean is described in contract/frame.py."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.errors import FrameError
from contract.frame_columns import MAX_DECIMALS, MAX_SCALE, POWERS, RAW, unscale_floats
from contract.frame_layout import (
    ALL_GOOD,
    FLOAT_DECIMALS,
    FLOAT_MIXED,
    IDS_FOLLOW,
    KINDS,
    LAST,
    MAX_ID,
    MISSING,
    NOWHERE,
    SAME_TIMES,
    UNITS_NS,
    Place,
    Reader,
    filled,
    repeats,
)
from contract.frame_numbers import unfold, wrapped
from contract.frame_types import MAX_CELLS, MAX_TABLES, MAX_TEXT_BYTES, MAX_TEXTS
from contract.readings import GOOD, Bytes, Floats, Ints, Kind, Table

_MAX_DECIMAL_FORM = FLOAT_DECIMALS + MAX_DECIMALS
_ALL_GOOD = bytes([GOOD])


@dataclass(slots=True)
class _Times:
    length: int
    first: int = 0
    unit_ns: int = 1
    steps: Place | None = None
    found: Ints | None = None


@dataclass(slots=True)
class _Plan:
    """A table as the shape tells it; what its columns hold is read later."""

    form: int
    times: _Times
    count: int
    streams: Place | None = None
    codes: bytes = _ALL_GOOD
    status: Place | None = None
    values: Place | None = None
    extra: Place = NOWHERE
    apart: Place | None = None
    scales: list[int] = field(default_factory=list)


class TableReader:
    """Reads the tables of one frame: `plan` with the shape, `tables` once the blocks are read.

    good_as: the status that GOOD readings get.
    """

    def __init__(self, data: Reader, *, good_as: int = GOOD) -> None:
        self._data = data
        self._good_as = good_as
        self._times: list[_Times] = []
        self._current: _Times | None = None
        self._plans: list[_Plan] = []
        self._next_id = 0
        self._text_bytes = 0
        self.streams = 0
        """How many streams the planned tables have together."""
        self.ids_follow = True
        """Whether those are numbered from 0 on, without a gap."""

    def plan(self) -> None:
        """Read the shape of every table; raises FrameError."""
        while len(self._plans) < MAX_TABLES:
            mark = self._data.byte()
            self._plans.append(self._plan(mark))
            if mark & LAST:
                return
        raise FrameError(f"more than {MAX_TABLES} tables")

    def tables(self) -> tuple[Table, ...]:
        """Every table; raises FrameError. Tables of the same times share the array of them."""
        return tuple([self._table(plan) for plan in self._plans])

    def _plan(self, mark: int) -> _Plan:
        data, form = self._data, mark & 0x0F
        if form > _MAX_DECIMAL_FORM:
            raise FrameError(f"an unknown form of table {form}")
        times = self._plan_times(same=bool(mark & SAME_TIMES))
        count = data.number(MAX_CELLS)
        length = times.length
        data.charge(count + length + count * length)
        self.streams += count
        plan = _Plan(form, times, count)
        if not mark & IDS_FOLLOW:
            plan.streams = data.reserve(1, count)
            self.ids_follow = False
        if not count or not length:
            return plan
        if not mark & ALL_GOOD:
            size = data.number(256)
            plan.codes = data.shape_bytes(size)
            if size != 1:
                plan.status = data.reserve(count, length)
        if KINDS[form] is Kind.BOOL:
            return plan
        plan.values = self._plan_classes(plan) if form == FLOAT_MIXED else data.reserve(count, length)
        if KINDS[form] is Kind.TEXT:
            plan.extra = data.reserve(1, data.number(MAX_TEXTS))
        elif form == FLOAT_MIXED:
            plan.extra = data.reserve(1, count)
            apart = data.number(count * length)
            plan.apart = data.reserve(2, apart) if apart else None
        return plan

    def _plan_classes(self, plan: _Plan) -> Place:
        """Reserve the columns of doubles of any scale, class by class; version 1 has no classes."""
        data, length = self._data, plan.times.length
        if data.version == 1:
            return data.reserve(plan.count, length)
        places = []
        for _ in range(data.number(MAX_SCALE)):
            plan.scales.append(data.byte())
            places.append(data.reserve(data.number(plan.count), length))
        if sum(place.number for place in places) != plan.count:
            raise FrameError("classes of doubles that are not the table's")
        return Place(length, next(place.first for place in places if place.number), plan.count)

    def _plan_times(self, *, same: bool) -> _Times:
        if not same:
            known = len(self._times)
            which = self._data.number(known) if known or self._data.version == 1 else 0
            if which == known:
                self._times.append(self._new_times())
            self._current = self._times[which]
        if self._current is None:
            raise FrameError("the first table has no times")
        return self._current

    def _new_times(self) -> _Times:
        times = _Times(self._data.number(MAX_CELLS))
        if times.length:
            first = self._data.number(2**70)
            times.first, times.unit_ns = wrapped(unfold(first >> 2)), UNITS_NS[first & 3]
        if times.length > 1:
            times.steps = self._data.reserve(1, times.length)
        return times

    def _table(self, plan: _Plan) -> Table:
        kind, shape = KINDS[plan.form], (plan.count, plan.times.length)
        streams = self._streams(plan)
        times = plan.times.found
        if times is None:
            times = self._read_times(plan.times)
        status = self._status(plan)
        values, decimals = self._values(plan) if plan.count and plan.times.length else (_blank(kind, shape), None)
        if plan.codes is not _ALL_GOOD and max(plan.codes) >= MISSING:
            values[status >= MISSING] = _blank(kind, (1,))[0]
        return Table(kind, streams, times, values.T, status.T, decimals)

    def _streams(self, plan: _Plan) -> NDArray[np.int32]:
        if not plan.count:
            return np.empty(0, dtype=np.int32)
        first, self._next_id = self._next_id, self._next_id + plan.count
        if plan.streams is None:
            if self._next_id > MAX_ID + 1:
                raise FrameError("a stream id out of range")
            return np.arange(first, self._next_id, dtype=np.int32)
        ids: Ints = np.arange(first, self._next_id)
        ids += self._data.columns(plan.streams)[0]
        if repeats(ids):
            raise FrameError("a table names a stream twice")
        if int(ids.min()) < 0 or int(ids.max()) > MAX_ID:
            raise FrameError("a stream id out of range")
        self._next_id = int(ids[-1]) + 1
        return ids.astype(np.int32)

    def _read_times(self, times: _Times) -> Ints:
        if times.steps is None:
            found = np.array([times.first] * times.length, dtype=np.int64)
        else:
            found = self._data.columns(times.steps)[0]
            found[0] = times.first
            np.add.accumulate(found, out=found)
        found *= times.unit_ns
        found += self._data.time_base
        times.found = found
        return found

    def _status(self, plan: _Plan) -> Bytes:
        good, shape = self._good_as, (plan.count, plan.times.length)
        if plan.status is None:
            code = plan.codes[0] or good
            return np.full(shape, code, dtype=np.uint8) if code else np.zeros(shape, dtype=np.uint8)
        codes = np.frombuffer(plan.codes, dtype=np.uint8).copy()
        codes[codes == GOOD] = good
        ranks = self._data.columns(plan.status)
        _check_ranks(ranks, len(codes), "status")
        found: Bytes = codes[ranks]
        return found

    def _values(self, plan: _Plan) -> tuple[NDArray[np.generic], NDArray[np.int8] | None]:
        count, length = plan.count, plan.times.length
        if plan.values is None:
            packed = np.frombuffer(self._data.blob(count * length + 7 >> 3), dtype=np.uint8)
            return np.unpackbits(packed, count=count * length).reshape(count, length).view(np.bool_), None
        columns = self._data.columns(plan.values)
        kind = KINDS[plan.form]
        if kind is Kind.INT:
            return columns, None
        if kind is Kind.TEXT:
            return self._texts(columns, self._data.columns(plan.extra)[0]), None
        if plan.form != FLOAT_MIXED:
            decimals = plan.form - FLOAT_DECIMALS
            return columns / POWERS[decimals], filled(count, decimals, np.int8)
        return self._mixed_floats(plan, columns)

    def _mixed_floats(self, plan: _Plan, columns: Ints) -> tuple[Floats, NDArray[np.int8] | None]:
        listed = self._data.columns(plan.extra)[0]
        if plan.scales:
            _check_ranks(listed, len(plan.scales), "class of doubles")
            placed = np.empty_like(columns)
            placed[listed.argsort(kind="stable")] = columns
            listed, columns = np.array(plan.scales)[listed], placed
        if listed.min() < 0 or listed.max() > MAX_SCALE or ((listed > MAX_DECIMALS) & (listed < RAW)).any():
            raise FrameError("an unknown scale of doubles")
        scales = listed.astype(np.uint8)
        floats = unscale_floats(columns, scales)
        if plan.apart is not None:
            cells, bits = self._data.columns(plan.apart)
            _check_ranks(cells, floats.size, "place of a double")
            floats.reshape(-1)[cells] = bits.view(np.float64)
        return floats, scales.view(np.int8) if scales.max() <= MAX_DECIMALS else None

    def _texts(self, ranks: Ints, lengths: Ints) -> NDArray[np.generic]:
        if len(lengths) and (lengths.min() < 0 or lengths.max() > MAX_TEXT_BYTES):
            raise FrameError("a text of impossible length")
        total = int(lengths.sum())
        self._text_bytes += total
        if self._text_bytes > MAX_TEXT_BYTES:
            raise FrameError(f"more than {MAX_TEXT_BYTES} bytes of text")
        blob, texts, at = self._data.blob(total), [], 0
        try:
            for length in lengths.tolist():
                texts.append(blob[at : at + length].decode())
                at += length
        except UnicodeDecodeError:
            raise FrameError("a text that is not UTF-8") from None
        lookup = np.array(texts or [""], dtype=object)
        _check_ranks(ranks, len(lookup), "text")
        found: NDArray[np.generic] = lookup[ranks]
        return found


def _check_ranks(ranks: Ints, size: int, what: str) -> None:
    if ranks.min() < 0 or ranks.max() >= size:
        raise FrameError(f"a {what} that is not listed")


def _blank(kind: Kind, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """What a value reads as where there is none."""
    if kind is Kind.TEXT:
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype={Kind.FLOAT: np.float64, Kind.INT: np.int64}.get(kind, np.bool_))

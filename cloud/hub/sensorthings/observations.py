"""Observations of some streams, as a query asks for them, read from the store by time and in bounded pieces.

What a filter says of phenomenonTime, of resultTime (they are the same here) and of the Datastream becomes a range and
a choice of streams; the rest is looked at while the range streams by, up to a limit that is said when it is met. The
store reads upwards; for the newest first, windows go downwards from the newest reading, each wider than the one before.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from odata_query import ast

from cloud.hub.entries import Entry
from cloud.hub.problems import NotAllowed, TooMuch
from cloud.hub.sensorthings.expression import Compiler, Expression, compile_tree
from cloud.hub.sensorthings.functions import as_instant
from cloud.hub.sensorthings.masks import TIMES, Mask, comparison, mask_of
from cloud.hub.sensorthings.model import ABSENT, Absent, ask
from cloud.hub.sensorthings.order import sorted_by
from cloud.hub.sensorthings.query import Query
from cloud.hub.sensorthings.readings import CALL_POINTS, Readings
from cloud.hub.sensorthings.spec import ID_NAMES
from cloud.hub.sensorthings.syntax import Node, chain, steps_of
from cloud.hub.sensorthings.values import NS, Instant, Interval
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import Observed
from cloud.hub.times import EARLIEST_NS, LATEST_NS
from cloud.stores.base import Columns, Selector

MAX_STREAMS = 500  # merged by time in one answer
MAX_SORTED = 100_000
_BLOCK = 50_000
_COUNTED = 20  # a point that is only counted costs this much less
_WINDOW_NS = 60 * NS


@dataclass(frozen=True, slots=True)
class Page:
    """Some Observations. after: what the next page begins with, as (`skip` or `skiptoken`, value); None at the end."""

    observations: list[Observed]
    after: tuple[str, str] | None = None


def forbidden(entry: Entry) -> NotAllowed:
    """What is said to those who may know of a stream and not have its readings."""
    return NotAllowed(
        f"the readings of {entry.id} are graded '{entry.grade.value}' and not shared with your department; "
        f"ask {ask(entry)}",
        owner=entry.owner,
        contact=entry.contact,
        grade=entry.grade.value,
    )


class Feed:
    """The Observations of `entries`, all of them readable, that a query asks for."""

    def __init__(self, view: View, entries: Sequence[Entry], query: Query) -> None:
        self._view = view
        self._readings = Readings(view)
        self._query = query
        self._start_ns, self._end_ns = EARLIEST_NS, LATEST_NS
        self._pins: set[int] | None = None
        self._masks: list[Mask] = []
        self._rest: list[Expression] = []
        if query.filter is not None:
            for part in chain(query.filter.tree, ast.And):
                self._take(part, query.filter)
        self._entries = self._pinned(entries)

    def refused(self) -> Entry | None:
        """A stream that the filter names, that may be known of and not be read."""
        numbers = self._pins or ()
        known = (self._view.stream(number) for number in sorted(numbers))
        return next((one for one in known if one is not None and not self._view.may_read(one)), None)

    def page(self) -> Page:
        """The Observations of this page. Raises StoreUnavailable and TooMuch."""
        query = self._query
        if query.top == 0 or not self._entries:
            return Page([])
        by_time, descending = self._direction()
        if by_time is None:
            return self._sorted_page()
        if self._is_newest(by_time=by_time, descending=descending):
            newest = self._view.newest(self._entries[0])
            if newest is not None:
                return Page([newest], ("skiptoken", newest.id))
        skip = 0 if query.token is not None else query.skip
        need = skip + query.top + 1
        found = self._by_time(need, descending=descending) if by_time else self._by_stream(need)
        page = list(islice(found, skip, need))
        if len(page) <= query.top:
            return Page(page)
        return Page(page[:-1], ("skiptoken", page[-2].id))

    def count(self) -> int:
        """How many there are, on all pages. Raises StoreUnavailable and TooMuch."""
        if self._masks or self._rest:
            return sum(self._matching(entry) for entry in self._entries)
        if (self._start_ns, self._end_ns) != (EARLIEST_NS, LATEST_NS):
            return sum(self._in_range(entry) for entry in self._entries)
        by_name = [entry for entry in self._entries if entry.version == 1 and self._view.world.is_alone(entry)]
        others = [entry for entry in self._entries if not (entry.version == 1 and self._view.world.is_alone(entry))]
        return self._counted(by_name) + sum(self._in_range(entry) for entry in others)

    def _pinned(self, entries: Sequence[Entry]) -> list[Entry]:
        pins = self._pins
        return list(entries) if pins is None else [entry for entry in entries if entry.number in pins]

    # -- what the filter says ------------------------------------------------------------------------------------

    def _take(self, part: Node, whole: Expression) -> None:
        """Make a part of the filter a range, a choice of streams, a mask, or an expression."""
        compiler = Compiler(whole.entity_type, whole.option, whole.now_ns)

        def constant(node: Node) -> tuple[bool, Any]:
            term = compiler.term(node)
            return term.constant, term.value

        found = comparison(part, constant)
        if found is not None and (self._take_time(*found) or self._take_id(*found)):
            return
        pins = _streams(part)
        if pins is not None:
            self._pins = pins if self._pins is None else self._pins & pins
            return
        mask = mask_of(part, constant)
        if mask is not None:
            self._masks.append(mask)
        else:
            self._rest.append(compile_tree(part, whole.entity_type, whole.option, whole.now_ns))

    def _take_time(self, steps: list[str], operator: str, value: Any) -> bool:
        limit = as_instant(value)
        if steps not in TIMES or not isinstance(limit, Instant) or operator == "NotEq":
            return False
        if operator in {"Eq", "Gt", "GtE"}:
            self._start_ns = max(self._start_ns, limit.ns + (operator == "Gt"))
        if operator in {"Eq", "Lt", "LtE"}:
            self._end_ns = min(self._end_ns, limit.ns + (operator != "Lt"))
        return True

    def _take_id(self, steps: list[str], operator: str, value: Any) -> bool:
        """`id eq '<stream>-<ns>'`."""
        if len(steps) != 1 or steps[0] not in ID_NAMES or operator != "Eq":
            return False
        key = observation_key(value) if isinstance(value, str) else None
        named = set() if key is None else {key[0]}
        self._pins = named if self._pins is None else self._pins & named
        if key is not None:
            self._start_ns, self._end_ns = max(self._start_ns, key[1]), min(self._end_ns, key[1] + 1)
        return True

    def _direction(self) -> tuple[bool | None, bool]:
        """(True, descending) by time; (False, False) by stream, then time; (None, ..) by something else."""
        if not self._query.order:
            return False, False
        first = self._query.order[0]
        steps = steps_of(first.key.tree)
        if steps in TIMES:
            return True, first.descending
        if steps is not None and steps[0] in ID_NAMES and not first.descending:
            return False, False
        return None, first.descending

    def _is_newest(self, *, by_time: bool, descending: bool) -> bool:
        """What dashboards ask for thousands of streams: the newest reading, which is in memory."""
        query = self._query
        plain = query.filter is None and query.skip == 0 and query.token is None
        return by_time and descending and plain and query.top == 1 and len(self._entries) == 1

    # -- reading -------------------------------------------------------------------------------------------------

    def _by_stream(self, need: int) -> Iterator[Observed]:
        token = self._query.token
        for entry in self._entries:
            start = self._start_ns
            if token is not None:
                if entry.number < token.number:
                    continue
                if entry.number == token.number:
                    start = max(start, token.time_ns + 1)
            yield from self._stream(entry, start, self._end_ns, need, descending=False)

    def _by_time(self, need: int, *, descending: bool) -> Iterator[Observed]:
        if len(self._entries) > MAX_STREAMS:
            raise TooMuch(
                f"$orderby by time over {len(self._entries)} Datastreams; at most {MAX_STREAMS}: ask the Observations "
                "of a Datastream, or filter by Datastream/id"
            )
        token, streams = self._query.token, []
        for entry in self._entries:
            start, end = self._start_ns, self._end_ns
            if token is not None:
                later = entry.number > token.number  # at the same time, higher numbers come later
                if descending:
                    end = min(end, token.time_ns + later)
                else:
                    start = max(start, token.time_ns + (not later))
            streams.append(self._stream(entry, start, end, need, descending=descending))
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=lambda one: one.time_ns, reverse=descending)

    def _sorted_page(self) -> Page:
        query = self._query
        found: list[Observed] = []
        for one in self._by_stream(MAX_SORTED):
            found.append(one)
            if len(found) > MAX_SORTED:
                raise TooMuch(f"$orderby over more than {MAX_SORTED} Observations; narrow $filter by phenomenonTime")
        ordered = sorted_by(self._view, found, query.order)
        page = ordered[query.skip : query.skip + query.top]
        more = len(ordered) > query.skip + query.top
        return Page(page, ("skip", str(query.skip + query.top)) if more else None)

    def _stream(self, entry: Entry, start_ns: int, end_ns: int, need: int, *, descending: bool) -> Iterator[Observed]:
        """What matches of one stream, one after the other."""
        pieces = self._downwards if descending else self._upwards
        for columns in pieces(entry, start_ns, end_ns, need):
            for one in _observed(entry, columns):
                if all(part.holds(self._view, one) for part in self._rest):
                    yield one

    def _upwards(self, entry: Entry, start_ns: int, end_ns: int, need: int) -> Iterator[Columns]:
        block = min(_BLOCK, need if not (self._masks or self._rest) else max(1000, need * 4))
        while start_ns < end_ns:
            columns = self._read(entry, start_ns, end_ns, block)
            if columns.times.size:
                self._view.touch(entry)
                yield self._masked(columns)
            if columns.times.size < block:
                return
            start_ns = int(columns.times[-1]) + 1
            block = min(_BLOCK, block * 4)

    def _downwards(self, entry: Entry, start_ns: int, end_ns: int, need: int) -> Iterator[Columns]:
        lowest = None if start_ns >= end_ns else self._read(entry, start_ns, end_ns, 1)
        if lowest is None or lowest.times.size == 0:
            return
        start_ns = int(lowest.times[0])
        sample = self._view.sample(entry)
        newest_ns = self._view.now_ns if sample is None else sample.time_ns
        high, low = end_ns, min(max(newest_ns + 1, start_ns), end_ns)
        width = max(_WINDOW_NS, int(min(need * entry.interval_s * 1.25, 1e9)) * NS)
        while high > start_ns:
            pieces = list(self._upwards(entry, low, high, _BLOCK))
            for columns in reversed(pieces):
                yield _backwards(columns)
            high, low = low, max(start_ns, low - width)
            width *= 4

    def _read(self, entry: Entry, start_ns: int, end_ns: int, limit: int) -> Columns:
        columns = self._readings.columns(entry, start_ns, end_ns, limit)
        self._readings.pay(columns.times.size)
        return columns

    def _masked(self, columns: Columns) -> Columns:
        for mask in self._masks:
            held = mask(columns)
            columns = Columns(columns.times[held], columns.values[held], columns.valued[held], columns.status[held])
        return columns

    # -- counting ------------------------------------------------------------------------------------------------

    def _matching(self, entry: Entry) -> int:
        if self._rest:
            return sum(1 for _ in self._stream(entry, self._start_ns, self._end_ns, _BLOCK, descending=False))
        return sum(columns.times.size for columns in self._upwards(entry, self._start_ns, self._end_ns, _BLOCK))

    def _in_range(self, entry: Entry) -> int:
        total, start_ns, size = 0, self._start_ns, _BLOCK
        while size == _BLOCK and start_ns < self._end_ns:
            times = self._readings.columns(entry, start_ns, self._end_ns, _BLOCK).times
            size = times.size
            self._readings.pay(size // _COUNTED)
            total += size
            start_ns = int(times[-1]) + 1 if size else self._end_ns
        return total

    def _counted(self, entries: list[Entry]) -> int:
        """By the store itself, which counts without handing anything out."""
        if not entries:
            return 0
        one = entries[0]
        selector = Selector(one.path.gateway, one.device, one.stream) if len(entries) == 1 else Selector()
        self._view.spend_points(CALL_POINTS)
        counts = self._view.source.count(selector)
        return sum(counts.get((entry.path.gateway, entry.device, entry.stream), 0) for entry in entries)


def observation(view: View, entry: Entry, time_ns: int) -> Observed | None:
    """The one reading of this time: from memory when it is the newest, else from the store."""
    sample = view.sample(entry)
    if sample is not None and sample.time_ns == time_ns:
        return view.newest(entry)
    if not EARLIEST_NS <= time_ns < LATEST_NS:
        return None
    columns = Readings(view).columns(entry, time_ns, time_ns + 1, 1)
    if columns.times.size == 0:
        return None
    view.touch(entry)
    return next(_observed(entry, columns))


def extent(view: View, entry: Entry) -> Interval | Absent:
    """From the first stored reading of a stream to its newest; ABSENT where there is none, or none for this reader.

    Asks the store; raises StoreUnavailable.
    """
    newest = view.sample(entry)
    if newest is None:
        return ABSENT
    readings = Readings(view)
    first = readings.columns(entry, EARLIEST_NS, LATEST_NS, 1)
    readings.pay(1)
    if first.times.size == 0:
        return ABSENT
    start = int(first.times[0])
    return Interval(start, max(start, newest.time_ns))


def observation_key(text: str) -> tuple[int, int] | None:
    """The stream's number and the time in an Observation's id, or None."""
    number, dash, time = text.partition("-")
    digits = time.removeprefix("-")
    plain = all(part.isascii() and part.isdecimal() and len(part) <= 19 for part in (number, digits))
    return (int(number), int(time)) if dash and plain else None


def _streams(part: Node) -> set[int] | None:
    """The numbers in `Datastream/id eq 5 or Datastream/id eq 7`, or in `Datastream/id in (5,7)`."""
    numbers: set[int] = set()
    for one in chain(part, ast.Or):
        if not isinstance(one, ast.Compare) or steps_of(one.left) not in [["Datastream", name] for name in ID_NAMES]:
            return None
        given = one.right.val if isinstance(one.right, ast.List) else [one.right]
        exact = isinstance(one.comparator, ast.Eq | ast.In)
        if not exact or not all(isinstance(number, ast.Integer) for number in given):
            return None
        numbers |= {int(number.val) for number in given if isinstance(number, ast.Integer)}
    return numbers


def _observed(entry: Entry, columns: Columns) -> Iterator[Observed]:
    """One object each: only for what an answer holds, or what no mask could judge."""
    values: list[Any] = columns.values.tolist()
    rows = zip(columns.times.tolist(), values, columns.valued.tolist(), columns.status.tolist(), strict=True)
    return (Observed(entry, time, value if there else None, status) for time, value, there, status in rows)


def _backwards(columns: Columns) -> Columns:
    return Columns(np.flip(columns.times), np.flip(columns.values), np.flip(columns.valued), np.flip(columns.status))

"""The past of a stream, page by page, however long it is: one answer never holds more than PAGE_POINTS points.

A stream's metadata change, and what the database calls a series is made of them: quantity and kind. So the past of a
stream is that of every series that its versions had, merged by time. A reading is dated by its gateway and may come
late, so no version's time says which series holds it: all are asked for the whole range.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.hub.entries import Entry
from cloud.hub.times import EARLIEST_NS, LATEST_NS, SECOND_NS
from cloud.stores.base import Columns, Series, Store
from contract.readings import Ints, Kind

PAGE_POINTS = 50_000
_WINDOW_MAX_NS = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Points of one series of a stream, ascending in time."""

    series: Series
    columns: Columns

    def __len__(self) -> int:
        return int(self.columns.times.size)


def series_of(entry: Entry) -> Series:
    """What the store calls this version of a stream."""
    return Series(entry.path, entry.device, entry.stream, entry.quantity, entry.unit, entry.kind)


def series_of_versions(versions: Sequence[Entry]) -> list[Series]:
    """Every series that the versions had, each once whatever its unit, the newest last."""
    found: dict[tuple[str, Kind], Series] = {}
    for entry in reversed(versions):
        found.setdefault((entry.quantity, entry.kind), series_of(entry))
    return list(found.values())[::-1]


async def read_pages(
    store: Store, versions: Sequence[Entry], start_ns: int, end_ns: int, *, page_points: int = PAGE_POINTS
) -> AsyncGenerator[Page, None]:
    """Every reading of a stream with start_ns <= time < end_ns, once, ascending, at most `page_points` in memory.

    A stream has one reading at a time: where two series hold one, that with a value counts, then the newer series.
    Raises StoreUnavailable.
    """
    start_ns, end_ns = max(start_ns, EARLIEST_NS), min(end_ns, LATEST_NS + 1)
    all_series = series_of_versions(versions)
    limit = max(1, page_points // len(all_series))
    window_ns = int(min(versions[-1].interval_s * limit / 2 * SECOND_NS, _WINDOW_MAX_NS))
    async with AsyncExitStack() as stack:
        parts = []
        for series in all_series:
            pages = _series_pages(store, series, start_ns, end_ns, limit, window_ns)
            parts.append(_Part(series, await stack.enter_async_context(aclosing(pages))))
        if len(parts) == 1:
            async for columns in parts[0].pages:
                yield Page(parts[0].series, columns)
            return
        while True:
            for part in parts:
                await part.fill()
            holding = [part for part in parts if part.held is not None]
            if not holding:
                return
            for page in _merged(holding):
                yield page


async def _series_pages(
    store: Store, series: Series, start_ns: int, end_ns: int, limit: int, window_ns: int
) -> AsyncGenerator[Columns, None]:
    """The points of one series, in questions about windows of time that hold about `limit` points.

    A question about the whole rest of a range would make a database sort all of it for every page.
    """
    window_ns = max(window_ns, 1)
    while start_ns < end_ns:
        stop_ns = min(start_ns + window_ns, end_ns)
        found = await store.columns(series, start_ns, stop_ns, limit=limit)
        number = int(found.times.size)
        if number >= limit:
            last_ns = int(found.times[-1])
            window_ns = max(last_ns - start_ns, 1)
            start_ns = last_ns + 1
        else:
            start_ns = stop_ns
            growth = 2 if number * 8 > limit else 8
            if number * 2 < limit:
                window_ns = min(window_ns * growth, _WINDOW_MAX_NS)
        if number:
            yield found


class _Part:
    """One series of a merge: the page that is being used up, None at the end."""

    def __init__(self, series: Series, pages: AsyncIterator[Columns]) -> None:
        self.series = series
        self.pages = pages
        self.held: Columns | None = None
        self.ended = False

    async def fill(self) -> None:
        """Hold a page, if there is one."""
        if self.held is None and not self.ended:
            self.held = await anext(self.pages, None)
            self.ended = self.held is None

    def take(self, until_ns: int) -> Columns:
        """The held points with time <= until_ns; the rest stays held."""
        assert self.held is not None  # noqa: S101 - only those that hold something take part in a merge
        number = int(np.searchsorted(self.held.times, until_ns, side="right"))
        taken, rest = chosen(self.held, slice(0, number)), chosen(self.held, slice(number, None))
        self.held = rest if rest.times.size else None
        return taken


def _merged(parts: list[_Part]) -> list[Page]:
    """What the parts hold up to the time up to which all of them are known, in runs of one series each."""
    until_ns = min(int(part.held.times[-1]) for part in parts if part.held is not None)
    taken = [part.take(until_ns) for part in parts]
    times: Ints = np.concatenate([columns.times for columns in taken])
    valued = np.concatenate([columns.valued for columns in taken])
    source = np.repeat(np.arange(len(taken)), [columns.times.size for columns in taken])
    place = np.concatenate([np.arange(columns.times.size) for columns in taken])
    order = np.lexsort((source, valued, times))
    best = np.ones(order.size, dtype=np.bool_)
    best[:-1] = times[order][1:] != times[order][:-1]  # the last of those of one time
    order = order[best]
    source, place = source[order], place[order]
    cuts = np.flatnonzero(np.diff(source)) + 1
    return [
        Page(parts[run_source[0]].series, chosen(taken[run_source[0]], run_place))
        for run_source, run_place in zip(np.split(source, cuts), np.split(place, cuts), strict=True)
    ]


def chosen(columns: Columns, which: slice | NDArray[np.generic]) -> Columns:
    """Some of the points."""
    return Columns(columns.times[which], columns.values[which], columns.valued[which], columns.status[which])

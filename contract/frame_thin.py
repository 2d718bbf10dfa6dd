"""Thinning: fewer readings in a frame, and the books to prove it.

A telemetry reading in a dropped row becomes ABSENT and is counted as thinned; alarms, explained gaps and the kept rows
stay. So for every stream readings + gaps + suppressed + thinned is what it was.
"""

from dataclasses import replace

import numpy as np

from contract.errors import FrameError
from contract.frame_types import Counters, Frame
from contract.readings import ABSENT, Ints, Table


def thin_frame(frame: Frame, every: int, keep_whole: frozenset[int], phase: int = 0) -> tuple[Frame, int]:
    """The frame with each `every`-th row of telemetry (0: none), and how many readings went into its books.

    Raises FrameError when it has no books. phase: the first row counts as row number `phase`.
    """
    if every < 0:
        raise ValueError(f"every is 0 or more; found {every}")
    whole = np.fromiter(keep_whole, dtype=np.int64, count=len(keep_whole))
    tables, streams, dropped = [], [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int64)]
    for table in frame.tables:
        kept, taken = _thin_table(table, every, whole, phase)
        streams.append(table.streams)
        dropped.append(taken)
        if kept.times.size and kept.streams.size:
            tables.append(kept)
    lost = np.concatenate(dropped)
    counters = _count(frame.counters, np.concatenate(streams), lost)
    return replace(frame, tables=tuple(tables), counters=counters), int(lost.sum())


def _thin_table(table: Table, every: int, whole: Ints, phase: int) -> tuple[Table, Ints]:
    """The thinner table, and how many readings each of its streams lost."""
    rows = np.arange(len(table.times)) + (phase % every if every else 0)
    dropped_rows = rows % every != 0 if every else np.ones(len(rows), dtype=np.bool_)
    telemetry = ~np.isin(table.streams, whole)
    dropped = dropped_rows[:, None] & telemetry & table.present()
    status = np.where(dropped, np.uint8(ABSENT), table.status)
    kept = (status != ABSENT).any(axis=1)
    thinner = replace(table, times=table.times[kept], values=table.values[kept], status=status[kept])
    return thinner, np.count_nonzero(dropped, axis=0).astype(np.int64)


def _count(
    counters: Counters | None, streams: np.ndarray[tuple[int], np.dtype[np.int32]], dropped: Ints
) -> Counters | None:
    moved = dropped > 0
    if not moved.any():
        return counters
    if counters is None:
        raise FrameError("readings without counters: they cannot be thinned")
    order = np.argsort(counters.streams)
    places = np.searchsorted(counters.streams, streams[moved], sorter=order)
    found = order[np.minimum(places, len(order) - 1)] if len(order) else places
    if not len(order) or (counters.streams[found] != streams[moved]).any():
        raise FrameError("a stream with readings but without counters: it cannot be thinned")
    thinned = counters.thinned.copy()
    np.add.at(thinned, found, dropped[moved])
    return replace(counters, thinned=thinned)

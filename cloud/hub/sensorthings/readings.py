"""The stored readings of one stream, whatever its births have called it.

The store knows a series by its quantity and kind. A stream whose birth changed one of them has older readings under
the older name; they are its Observations all the same, so every version's series is read and merged by time.
"""

from collections.abc import Sequence

import numpy as np

from cloud.hub.entries import Entry
from cloud.hub.history import series_of, series_of_versions
from cloud.hub.sensorthings.view import View
from cloud.hub.times import EARLIEST_NS, LATEST_NS
from cloud.stores.base import Columns, Series

CALL_POINTS = 100  # what one question to the store costs, in points
_VERSIONS_POINTS = 200


class Readings:
    """Reads for one request, which pays for it. The rule has been asked before."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: dict[int, list[Series]] = {}

    def columns(self, entry: Entry, start_ns: int, end_ns: int, limit: int) -> Columns:
        """Readings with start_ns <= time < end_ns, ascending, the first `limit`. Raises StoreUnavailable, TooMuch."""
        start_ns, end_ns = max(start_ns, EARLIEST_NS), min(end_ns, LATEST_NS)
        parts = [self._view.source.columns(series, start_ns, end_ns, limit=limit) for series in self._series(entry)]
        return parts[0] if len(parts) == 1 else _merged(parts, limit)

    def pay(self, points: int) -> None:
        """Account for readings looked at."""
        self._view.spend_points(CALL_POINTS + points)

    def _series(self, entry: Entry) -> list[Series]:
        """The newest last."""
        if entry.version == 1:
            return [series_of(entry)]
        if entry.number not in self._known:
            self._view.spend_points(_VERSIONS_POINTS)
            versions = self._view.source.versions(entry.number)
            self._known[entry.number] = series_of_versions(versions or [entry])
        return self._known[entry.number]


def _merged(parts: Sequence[Columns], limit: int) -> Columns:
    """By time, each time once: what has a value counts, then the newer series. Kinds may differ: values are objects."""
    times = np.concatenate([part.times for part in parts])
    valued = np.concatenate([part.valued for part in parts])
    ages = np.concatenate([np.full(part.times.size, age, dtype=np.int64) for age, part in enumerate(parts)])
    values = np.empty(times.size, dtype=np.object_)
    values[:] = [value for part in parts for value in part.values.tolist()]
    status = np.concatenate([part.status for part in parts])
    order = np.lexsort((-ages, ~valued, times))
    first = np.ones(times.size, dtype=np.bool_)
    first[1:] = times[order][1:] != times[order][:-1]
    kept = order[first][:limit]
    return Columns(times[kept], values[kept], valued[kept], status[kept])

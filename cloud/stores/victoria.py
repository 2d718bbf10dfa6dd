"""Reading back from VictoriaMetrics, which takes InfluxDB's writes but answers no InfluxQL.

It stores `{measurement}_{field}` as a metric of doubles with millisecond times, so times come back rounded down to
the millisecond and numbers as doubles of about 15 digits. `/api/v1/export` returns raw samples a series at a time;
everything here is made from it, which is right for checks and small ranges, not for dashboards (those speak PromQL).
What was written is visible after about a second.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.stores.base import Columns, Point, Selector, Series
from cloud.stores.columns import TYPES, empty
from cloud.stores.http import Http, unavailable
from cloud.stores.lines import FIELDS
from contract.errors import ConfigError, StoreUnavailable
from contract.readings import Floats, Ints, Kind, Value
from contract.topics import GatewayPath

_KINDS = {field: kind for kind, field in FIELDS.items()}
_CONVERT: dict[Kind, Callable[[float], Value]] = {Kind.FLOAT: float, Kind.INT: round, Kind.BOOL: bool, Kind.TEXT: str}
_LABELS = ("city", "district", "street", "gateway", "device", "stream")
Key = tuple[str, str, str]
LINE_ROWS = 10_000
Samples = tuple[list[int], list[float]]


class VictoriaReader:
    """Answers the reading half of a store. Blocking."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def series(self) -> list[Series]:
        """Every series, sorted, with empty units. One that holds quality alone counts as a float."""
        found: dict[tuple[str, ...], Series] = {}
        for metric, field, _ in self._export({}):
            kind = _KINDS.get(field, Kind.FLOAT)
            one = _series(metric, field, kind)
            key = (str(one.path), one.device, one.stream, one.quantity)
            if field in _KINDS or key not in found:
                found[key] = one
        return [found[key] for key in sorted(found)]

    def read(self, series: Series, start_ns: int, end_ns: int, limit: int) -> list[Point]:
        """Points of one series with start_ns <= time < end_ns, ascending; times in whole milliseconds."""
        value_field = FIELDS[series.kind]
        columns: dict[str, dict[int, float]] = {value_field: {}, "quality": {}, "reason": {}}
        start_ms, end_ms = -(-start_ns // 1_000_000), -(-end_ns // 1_000_000) - 1
        for metric, field, (times, samples) in self._export(_labels_of(series), start_ms=start_ms, end_ms=end_ms):
            if field in columns and metric["__name__"] == f"{series.quantity}_{field}":
                columns[field].update(zip(times, samples, strict=True))
        convert = _CONVERT[series.kind]
        numbers, quality, reason = columns.values()
        times_ms = sorted(numbers.keys() | quality.keys())[:limit]
        return [
            Point(
                time_ms * 1_000_000,
                convert(numbers[time_ms]) if time_ms in numbers else None,
                int(quality.get(time_ms, 0)),
                int(reason.get(time_ms, 0)),
            )
            for time_ms in times_ms
        ]

    def columns(self, series: Series, start_ns: int, end_ns: int, limit: int) -> Columns:
        """As `read`, in columns. Holds `limit` samples of each field, however long the range is."""
        fields = (FIELDS[series.kind], "quality", "reason")
        held = {field: _First(limit) for field in fields}
        start_ms, end_ms = -(-start_ns // 1_000_000), -(-end_ns // 1_000_000) - 1
        if series.kind is Kind.TEXT or end_ms < max(start_ms, 0):
            return empty(series.kind)
        for metric, field, samples in self._export(_labels_of(series), start_ms=start_ms, end_ms=end_ms):
            if field in held and metric["__name__"] == f"{series.quantity}_{field}":
                held[field].add(*samples)
        columns = [held[field].columns() for field in fields]
        times = np.unique(np.concatenate([stamps for stamps, _ in columns]))[:limit]
        (values, valued), (quality, _), (reason, _) = (_at(times, *column) for column in columns)
        if series.kind is Kind.INT:
            values = np.rint(values)
        status = quality.astype(np.int64) << 6 | reason.astype(np.int64)
        return Columns(times * 1_000_000, values.astype(TYPES[series.kind]), valued, status.astype(np.uint8))

    def delete(self, series: Series, before_ns: int | None) -> int:
        """Destroy a whole series, of every kind; its older part alone cannot be: raises ConfigError."""
        if before_ns is not None:
            why = "VictoriaMetrics deletes whole series alone; how long it keeps points is its flag -retentionPeriod"
            raise ConfigError([f"{self._http.url}: {why}"])
        names = [f"{series.quantity}_{field}" for field in (*FIELDS.values(), "quality", "reason")]
        held = self._number(series, names)
        for name in names:
            match = _matchers(_labels_of(series) | {"__name__": name})
            answer, _ = self._http.form("/api/v1/admin/tsdb/delete_series", {"match[]": match})
            if not answer.ok:
                raise unavailable(self._http.url, answer)
        left = self._number(series, names)
        if left:
            raise StoreUnavailable(f"{self._http.url}: {left} points are still there after they were deleted")
        return held

    def _number(self, series: Series, names: list[str]) -> int:
        times = [
            np.asarray(stamps, dtype=np.int64)
            for metric, _, (stamps, _) in self._export(_labels_of(series))
            if metric["__name__"] in names
        ]
        return len(np.unique(np.concatenate(times))) if times else 0

    def count(self, selector: Selector) -> dict[Key, int]:
        """Points by (gateway, device, stream). Holds the times of every point counted: eight bytes each."""
        times: dict[tuple[Key, str], list[NDArray[np.int64]]] = {}
        for metric, field, (stamps, _) in self._export(_wanted(selector)):
            key = (metric["gateway"], metric["device"], metric["stream"])
            quantity = metric["__name__"].removesuffix(f"_{field}")
            times.setdefault((key, quantity), []).append(np.asarray(stamps, dtype=np.int64))
        found: dict[Key, int] = {}
        for (key, _), parts in times.items():
            found[key] = found.get(key, 0) + len(np.unique(np.concatenate(parts)))
        return found

    def latest(self, selector: Selector) -> dict[Key, Point]:
        """The newest point by (gateway, device, stream)."""
        newest: dict[Key, dict[str, tuple[int, float]]] = {}
        for metric, field, (times, samples) in self._export(_wanted(selector)):
            fields = newest.setdefault((metric["gateway"], metric["device"], metric["stream"]), {})
            last = max(zip(times, samples, strict=True), default=None)
            if last is not None and (field not in fields or fields[field] < last):
                fields[field] = last
        return {key: _merged(fields) for key, fields in newest.items() if fields}

    def _export(
        self, labels: dict[str, str], *, start_ms: int = 0, end_ms: int | None = None
    ) -> Iterator[tuple[dict[str, str], str, Samples]]:
        """Metric, field and samples of each block of samples that matches all `labels` and looks like ours."""
        fields = {"match[]": _matchers(labels), "max_rows_per_line": str(LINE_ROWS)}
        fields["start"] = f"{max(start_ms, 0) / 1000:.3f}"
        if end_ms is not None:
            fields["end"] = f"{max(end_ms, 0) / 1000:.3f}"
        for line in self._http.lines("/api/v1/export", fields):
            try:
                block: dict[str, Any] = json.loads(line)
                metric, samples = block["metric"], (block["timestamps"], block["values"])
            except (ValueError, KeyError, TypeError) as error:
                raise StoreUnavailable(f"{self._http.url}: not an export: {error}") from error
            field = metric["__name__"].rpartition("_")[2]
            if field in _KINDS or field in {"quality", "reason"}:
                yield metric, field, samples


class _First:
    """The `limit` earliest samples of those added, each time once, in memory for three times as many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: list[Ints] = []
        self._samples: list[Floats] = []
        self._size = 0

    def add(self, times: list[int], samples: list[float]) -> None:
        self._times.append(np.asarray(times, dtype=np.int64))
        self._samples.append(np.asarray(samples, dtype=np.float64))
        self._size += len(times)
        if self._size > 2 * self._limit + LINE_ROWS:
            self.columns()

    def columns(self) -> tuple[Ints, Floats]:
        """Times in ms, ascending, and samples."""
        if not self._times:
            return np.empty(0, dtype=np.int64), np.empty(0)
        times, first = np.unique(np.concatenate(self._times), return_index=True)
        samples = np.concatenate(self._samples)[first]
        self._times, self._samples = [times[: self._limit]], [samples[: self._limit]]
        self._size = self._times[0].size
        return self._times[0], self._samples[0]


def _at(times: Ints, stamps: Ints, samples: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The samples at `times`, 0 where there is none, and where there is one."""
    found = np.zeros(times.size)
    there = np.isin(stamps, times)
    places = np.searchsorted(times, stamps[there])
    found[places] = samples[there]
    held = np.zeros(times.size, dtype=np.bool_)
    held[places] = True
    return found, held


def _labels_of(series: Series) -> dict[str, str]:
    path = series.path
    values = (path.city, path.district, path.street, path.gateway, series.device, series.stream)
    return dict(zip(_LABELS, values, strict=True))


def _matchers(labels: dict[str, str]) -> str:
    chosen = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()]
    return "{" + ",".join([*chosen, 'gateway!=""', 'device!=""', 'stream!=""']) + "}"


def _wanted(selector: Selector) -> dict[str, str]:
    pairs = (("gateway", selector.gateway), ("device", selector.device), ("stream", selector.stream))
    return {name: value for name, value in pairs if value is not None}


def _series(metric: dict[str, str], field: str, kind: Kind) -> Series:
    path = GatewayPath(*(metric.get(name, "") for name in _LABELS[:4]))
    return Series(path, metric["device"], metric["stream"], metric["__name__"].removesuffix(f"_{field}"), "", kind)


def _merged(fields: dict[str, tuple[int, float]]) -> Point:
    time_ms = max(stamp for stamp, _ in fields.values())
    at = {field: sample for field, (stamp, sample) in fields.items() if stamp == time_ms}
    value = next((_CONVERT[kind](at[field]) for field, kind in _KINDS.items() if field in at), None)
    return Point(time_ms * 1_000_000, value, int(at.get("quality", 0)), int(at.get("reason", 0)))

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

from cloud.stores.base import Point, Selector, Series
from cloud.stores.http import Http
from cloud.stores.lines import FIELDS
from contract.errors import StoreUnavailable
from contract.readings import Kind, Value
from contract.topics import GatewayPath

_KINDS = {field: kind for kind, field in FIELDS.items()}
_CONVERT: dict[Kind, Callable[[float], Value]] = {Kind.FLOAT: float, Kind.INT: round, Kind.BOOL: bool, Kind.TEXT: str}
_LABELS = ("city", "district", "street", "gateway", "device", "stream")
Key = tuple[str, str, str]
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
        path, value_field = series.path, FIELDS[series.kind]
        values = (path.city, path.district, path.street, path.gateway, series.device, series.stream)
        columns: dict[str, dict[int, float]] = {value_field: {}, "quality": {}, "reason": {}}
        start_ms, end_ms = -(-start_ns // 1_000_000), -(-end_ns // 1_000_000) - 1
        for metric, field, (times, samples) in self._export(
            dict(zip(_LABELS, values, strict=True)), start_ms=start_ms, end_ms=end_ms
        ):
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
        matchers = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()]
        fields = {"match[]": "{" + ",".join([*matchers, 'gateway!=""', 'device!=""', 'stream!=""']) + "}"}
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

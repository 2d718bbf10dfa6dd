"""Reading back through InfluxQL `/query`, which every InfluxDB generation serves.

InfluxQL has no bind parameters that all generations share, so every name is quoted by `identifier` or `string`
here, in one place. A database knows no units: series read back carry an empty one, the catalogue has it.
"""

import json
from collections.abc import Iterator
from typing import Any

from cloud.stores.base import Columns, Point, Selector, Series
from cloud.stores.columns import from_lists, joined
from cloud.stores.http import Answer, Http, unavailable
from cloud.stores.lines import FIELDS
from contract.errors import StoreUnavailable
from contract.readings import Kind, Value
from contract.topics import GatewayPath

CHUNK_ROWS = 10_000
EARLIEST_NS = -(2**63) + 2  # the range of times that InfluxDB can hold
LATEST_NS = 2**63 - 2
_TAGS = ("city", "district", "street", "gateway", "device", "stream")
_GROUPED = f"GROUP BY {', '.join(_TAGS)}"
_FIELDS = ", ".join(f'"{field}"' for field in (*FIELDS.values(), "quality", "reason"))
# A field that a measurement does not have compares as an empty tag, which the pattern would match: see `count`.
_HAS_NUMBER = '("value" >= 0 OR "value" < 0 OR "count" >= 0 OR "count" < 0 OR "state" = true OR "state" = false)'
_HAS_TEXT = '"text" =~ /.*/'
Key = tuple[str, str, str]


def within(time_ns: int) -> int:
    """The nearest time that InfluxDB can hold."""
    return min(max(time_ns, EARLIEST_NS), LATEST_NS)


def identifier(name: str) -> str:
    """`name` as a quoted InfluxQL identifier."""
    return f'"{_escape(name, chr(34))}"'


def string(text: str) -> str:
    """`text` as an InfluxQL string literal."""
    return f"'{_escape(text, chr(39))}'"


def _escape(text: str, quote: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace(quote, f"\\{quote}")


class InfluxqlReader:
    """Answers the reading half of a store from one database. Blocking."""

    def __init__(self, http: Http, database: str) -> None:
        self._http = http
        self._database = database

    def statement(self, text: str, database: str = "") -> tuple[Answer, str]:
        """Run a statement that changes something, such as CREATE DATABASE: the answer, and the error or nothing."""
        answer, body = self._http.form("/query", {"q": text} | ({"db": database} if database else {}))
        if not answer.ok:
            return answer, answer.detail
        return answer, next((result["error"] for result in _results(body) if "error" in result), "")

    def series(self) -> list[Series]:
        """Every series, sorted, with empty units."""
        found = []
        for group in self._select(
            f"SELECT {_FIELDS} FROM /.*/ WHERE {_during()} {_GROUPED} ORDER BY time DESC LIMIT 1"  # noqa: S608
        ):
            tags, point = group["tags"], _named(group)
            kind = next((kind for kind, field in FIELDS.items() if point[field] is not None), Kind.FLOAT)
            path = GatewayPath(tags["city"], tags["district"], tags["street"], tags["gateway"])
            found.append(Series(path, tags["device"], tags["stream"], group["name"], "", kind))
        return sorted(found, key=lambda one: (str(one.path), one.device, one.stream, one.quantity))

    def read(self, series: Series, start_ns: int, end_ns: int, limit: int) -> list[Point]:
        """Points of one series with start_ns <= time < end_ns, ascending."""
        query = _points_of(series, start_ns, end_ns, limit)
        return [
            Point(row[0], _value(series.kind, row[1]), row[2] or 0, row[3] or 0)
            for group in self._select(query)
            for row in group["values"]
        ]

    def columns(self, series: Series, start_ns: int, end_ns: int, limit: int) -> Columns:
        """As `read`, in columns; the answer is parsed a chunk at a time."""
        query = _points_of(series, start_ns, end_ns, limit)
        parameters = {"db": self._database, "epoch": "ns", "q": query, "chunked": "true", "chunk_size": str(CHUNK_ROWS)}
        pages = []
        for line in self._http.lines("/query", parameters):
            for group in _groups(_results(line), self._http.url) if line.strip() else ():
                times, *fields = zip(*group["values"], strict=True)
                pages.append(from_lists(series.kind, times, *fields))
        return joined(pages, series.kind)

    def delete(self, series: Series, before_ns: int | None) -> int:
        """Destroy the points of a series, of every kind: InfluxDB cannot delete one field of a point.

        Raises StoreUnavailable, also when some are still there.
        """
        held = self._number(series, before_ns)
        if held or before_ns is None:
            self.destroy(series, before_ns)
        left = self._number(series, before_ns)
        if left:
            raise StoreUnavailable(f"{self._http.url}: {left} points are still there after they were deleted")
        return held

    def destroy(self, series: Series, before_ns: int | None) -> None:
        """Ask for what `delete` then looks for. Raises StoreUnavailable."""
        where = f"FROM {identifier(series.quantity)} WHERE {_tags_of(series)}"
        statement = f"DROP SERIES {where}" if before_ns is None else f"DELETE {where} AND time < {within(before_ns)}"
        answer, error = self.statement(statement, self._database)
        if error:
            raise unavailable(self._http.url, answer._replace(detail=error))

    def _number(self, series: Series, before_ns: int | None) -> int:
        """Points of a series, of every kind, before a time."""
        during = _during() if before_ns is None else _during(end_ns=within(before_ns))
        counted = self._count(f"{_tags_of(series)} AND {during}", identifier(series.quantity))
        return sum(counted.values())

    def count(self, selector: Selector) -> dict[Key, int]:
        """Points by (gateway, device, stream): those with a value, and those with quality alone (NaN)."""
        return self._count(f"{_matching(selector)} AND {_during()}", "/.*/")

    def _count(self, where: str, measurement: str) -> dict[Key, int]:
        counts = ", ".join(f'count("{field}")' for field in (*FIELDS.values(), "quality"))
        found: dict[tuple[Key, str], int] = {}
        texts: set[tuple[Key, str]] = set()
        for group in self._select(f"SELECT {counts} FROM {measurement} WHERE {where} {_GROUPED}"):  # noqa: S608
            numbers = dict(zip([*FIELDS, "quality"], group["values"][0][1:], strict=True))
            place = _key(group), group["name"]
            found[place] = sum(number or 0 for number in numbers.values())
            if numbers[Kind.TEXT]:
                texts.add(place)
        # Quality beside a value was counted twice; InfluxQL cannot ask for a field that is not there.
        for held, places in ((_HAS_NUMBER, found.keys()), (_HAS_TEXT, texts)):
            beside = f'SELECT count("quality") FROM {measurement} WHERE {where} AND {held} {_GROUPED}'  # noqa: S608
            for group in self._select(beside) if places else ():
                place = _key(group), group["name"]
                if place in places:
                    found[place] -= group["values"][0][1] or 0
        total: dict[Key, int] = {}
        for (key, _), number in found.items():
            total[key] = total.get(key, 0) + number
        return total

    def latest(self, selector: Selector) -> dict[Key, Point]:
        """The newest point by (gateway, device, stream)."""
        where = f"{_matching(selector)} AND {_during()}"
        newest: dict[Key, Point] = {}
        query = f"SELECT {_FIELDS} FROM /.*/ WHERE {where} {_GROUPED} ORDER BY time DESC LIMIT 1"  # noqa: S608
        for group in self._select(query):
            row = _named(group)
            held = ((kind, row[field]) for kind, field in FIELDS.items() if row[field] is not None)
            kind, raw = next(held, (Kind.FLOAT, None))
            point = Point(row["time"], _value(kind, raw), row["quality"] or 0, row["reason"] or 0)
            key = _key(group)
            if key not in newest or newest[key].time_ns < point.time_ns:
                newest[key] = point
        return newest

    def _select(self, query: str) -> Iterator[dict[str, Any]]:
        answer, body = self._http.form("/query", {"db": self._database, "epoch": "ns", "q": query})
        if not answer.ok:
            raise unavailable(self._http.url, answer)
        yield from _groups(_results(body), self._http.url)


def _groups(results: list[dict[str, Any]], url: str) -> Iterator[dict[str, Any]]:
    for result in results:
        if "error" in result:
            raise StoreUnavailable(f"{url}: {result['error']}")
        for group in result.get("series", []):
            if "tags" not in group or group["tags"]["gateway"]:  # else it is somebody else's measurement
                yield group


def _results(body: bytes) -> list[dict[str, Any]]:
    try:
        # Go writes the float -0.0 as -0, which JSON readers take for the integer 0.
        parsed = json.loads(body, parse_int=lambda text: -0.0 if text == "-0" else int(text))
        return list(parsed["results"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreUnavailable(f"not an answer to InfluxQL: {error}") from error


def _during(start_ns: int = EARLIEST_NS, end_ns: int = LATEST_NS + 1) -> str:
    return f"time >= {max(start_ns, EARLIEST_NS)} AND time <= {min(end_ns - 1, LATEST_NS)}"


def _tags_of(series: Series) -> str:
    path = series.path
    values = (path.city, path.district, path.street, path.gateway, series.device, series.stream)
    return " AND ".join(f"{name} = {string(value)}" for name, value in zip(_TAGS, values, strict=True))


def _points_of(series: Series, start_ns: int, end_ns: int, limit: int) -> str:
    return (
        f'SELECT "{FIELDS[series.kind]}", "quality", "reason" FROM {identifier(series.quantity)} '  # noqa: S608
        f"WHERE {_tags_of(series)} AND {_during(start_ns, end_ns)} ORDER BY time ASC LIMIT {int(limit)}"
    )


def _matching(selector: Selector) -> str:
    wanted = (("gateway", selector.gateway), ("device", selector.device), ("stream", selector.stream))
    chosen = [f"{name} = {string(value)}" for name, value in wanted if value is not None]
    return " AND ".join(chosen or ["gateway != ''"])


def _named(group: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(group["columns"], group["values"][0], strict=True))


def _key(group: dict[str, Any]) -> Key:
    tags = group["tags"]
    return tags["gateway"], tags["device"], tags["stream"]


def _value(kind: Kind, raw: Any) -> Value | None:
    if raw is None:
        return None
    return float(raw) if kind is Kind.FLOAT else raw

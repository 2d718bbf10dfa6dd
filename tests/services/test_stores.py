"""One suite for every store, on the real databases of the machine.

What a database does differently stands in its row of STORES, and the test asserts what it does instead.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from servers import InfluxDB, NginxV2, Server, VictoriaMetrics

from cloud.stores.base import FramePoints, Point, Selector, Series, Store
from cloud.stores.embedded import EmbeddedStore
from cloud.stores.influx1 import InfluxV1Store
from cloud.stores.influx2 import InfluxV2Store
from contract.errors import ConfigError, PartialWrite, StoreUnavailable
from contract.readings import Bytes, Kind, Quality, Reason, Table, Value, status
from contract.topics import GatewayPath

pytestmark = pytest.mark.services

T0 = 1_790_000_000_000_000_000
STEP = 1_000_000_000
TYPES: dict[Kind, type] = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_, Kind.TEXT: object}
NOT_A_NUMBER = (Quality.BAD, Reason.NOT_A_NUMBER)


@dataclass(frozen=True)
class Abilities:
    """What a database can do. text: hold it. exact: every double and int64, to the bit. rejects: tell wrong types."""

    text: bool = True
    exact: bool = True
    rejects: bool = True
    server: bool = True


STORES = {
    "embedded": Abilities(rejects=False, server=False),
    "influxdb1": Abilities(),
    "influxdb2": Abilities(),
    "victoria": Abilities(text=False, exact=False, rejects=False),
}


@dataclass(frozen=True)
class Case:
    """A store under test, its gateway (the test's own), its server, and how what was written becomes visible."""

    kind: str
    store: Store
    path: GatewayPath
    server: Server | None
    settle: Callable[[], None]

    @property
    def can(self) -> Abilities:
        return STORES[self.kind]

    @property
    def mine(self) -> Selector:
        return Selector(gateway=self.path.gateway)

    def series(self, stream: str, kind: Kind, quantity: str = "") -> Series:
        return Series(self.path, "表 1", stream, quantity or f"q.{kind}", "1", kind)

    def frame(self, *parts: tuple[tuple[Series, ...], Table], sequence: int = 0) -> FramePoints:
        return FramePoints(
            self.path, 7, sequence, tuple(table for _, table in parts), tuple(names for names, _ in parts)
        )


@pytest.fixture(params=list(STORES))
async def case(
    request: pytest.FixtureRequest, tmp_path: Path, influxdb: InfluxDB, nginx_v2: NginxV2, victoria: VictoriaMetrics
) -> AsyncIterator[Case]:
    database, kind = influxdb.fresh_database(), str(request.param)
    store: Store
    server: Server | None = influxdb
    settle: Callable[[], None] = _nothing
    if kind == "embedded":
        store, server = EmbeddedStore(tmp_path / "store.duckdb"), None
    elif kind == "influxdb1":
        store = InfluxV1Store(influxdb.url, database, timeout_s=5)
    elif kind == "influxdb2":
        influxdb.request("POST", f"/query?q=CREATE%20DATABASE%20{database}")
        store = InfluxV2Store(nginx_v2.url, "", database, timeout_s=5, gzip=True)
    else:
        store, server = InfluxV2Store(victoria.url, "", "any", reader="victoria", timeout_s=5), victoria
        settle = victoria.flush
    await store.open()
    path = GatewayPath("上海", "静安 区", "南京路", f"网关-{uuid4().hex[:8]}")
    yield Case(kind, store, path, server, settle)
    await store.close()


def _nothing() -> None:
    """What is written is visible at once."""


def table(kind: Kind, columns: dict[int, list[Value]], codes: dict[tuple[int, int], int] | None = None) -> Table:
    """A table of rows one second apart from T0; `codes` gives the status of (row, column)."""
    rows, width = len(next(iter(columns.values()))), len(columns)
    values: NDArray[np.generic] = np.empty((rows, width), dtype=TYPES[kind])
    for position, column in enumerate(columns.values()):
        values[:, position] = column
    marks: Bytes = np.zeros((rows, width), dtype=np.uint8)
    for place, code in (codes or {}).items():
        marks[place] = code
    times = T0 + STEP * np.arange(rows, dtype=np.int64)
    return Table(kind, np.array(list(columns), dtype=np.int32), times, values, marks)


async def read(case: Case, series: Series) -> list[Point]:
    await asyncio.to_thread(case.settle)
    return await case.store.read(series, T0, T0 + 1000 * STEP)


EXACT: list[Value] = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1e20, 123456789.123456789]


async def test_floats_come_back(case: Case) -> None:
    values: list[Value] = EXACT if case.can.exact else [21.5, -3.25, 0.0, 1e6]
    series = case.series("温度 1", Kind.FLOAT)
    await case.store.write([case.frame(((series,), table(Kind.FLOAT, {3: values})))])
    found = await read(case, series)
    assert [repr(point.value) for point in found] == [repr(value) for value in values]
    assert [point.time_ns for point in found] == [T0 + STEP * row for row in range(len(values))]


async def test_integers_come_back(case: Case) -> None:
    values: list[Value] = [2**63 - 1, -(2**63), 2**53 + 1, 0] if case.can.exact else [2**40, -7, 0]
    series = case.series("total", Kind.INT)
    await case.store.write([case.frame(((series,), table(Kind.INT, {3: values})))])
    found = await read(case, series)
    assert [point.value for point in found] == values
    assert {type(point.value) for point in found} == {int}


async def test_states_come_back(case: Case) -> None:
    series = case.series("on", Kind.BOOL)
    await case.store.write([case.frame(((series,), table(Kind.BOOL, {3: [True, False, True]})))])
    assert [point.value for point in await read(case, series)] == [True, False, True]


async def test_text_comes_back_or_is_refused_by_name(case: Case) -> None:
    values: list[Value] = ["正常", "", 'a "quoted" \\ back\\slash\\', "two\nlines", "a,b=c d", "tab\tnul\x00", "😀"]
    series = case.series("state", Kind.TEXT)
    frames = [case.frame(((series,), table(Kind.TEXT, {3: values})))]
    if case.can.text:
        await case.store.write(frames)
        assert [point.value for point in await read(case, series)] == values
        return
    with pytest.raises(PartialWrite) as refusal:  # VictoriaMetrics would store zeros and say nothing
        await case.store.write(frames)
    assert [(one.stream, one.time_ns) for one in refusal.value.rejected] == [(3, T0 + STEP * i) for i in range(7)]
    assert "not text" in refusal.value.rejected[0].reason


async def test_quality_travels_and_what_is_no_number_keeps_its_place(case: Case) -> None:
    uncertain, odd = status(Quality.UNCERTAIN, Reason.STUCK), status(Quality.BAD, Reason.SENSOR_FAULT)
    codes = {(1, 0): uncertain, (3, 0): odd, (4, 0): 0xFF, (5, 0): status(Quality.MISSING, Reason.TIMEOUT)}
    values: list[Value] = [1.5, 2.5, float("nan"), float("inf"), 5.5, 6.5, 7.5]
    series = case.series("t", Kind.FLOAT)
    await case.store.write([case.frame(((series,), table(Kind.FLOAT, {3: values}, codes)))])
    assert await read(case, series) == [
        Point(T0, 1.5, 0, 0),
        Point(T0 + STEP, 2.5, Quality.UNCERTAIN, Reason.STUCK),
        Point(T0 + 2 * STEP, None, *NOT_A_NUMBER),
        Point(T0 + 3 * STEP, None, Quality.BAD, Reason.SENSOR_FAULT),
        Point(T0 + 6 * STEP, 7.5, 0, 0),
    ]
    assert await case.store.count(case.mine) == {(case.path.gateway, "表 1", "t"): 5}


async def test_writing_again_adds_nothing(case: Case) -> None:
    names = (case.series("a", Kind.FLOAT), case.series("b", Kind.FLOAT))
    frames = [
        case.frame((names, table(Kind.FLOAT, {1: [1.0, 2.0, 3.0], 2: [4.0, float("nan"), 6.0]})), sequence=n)
        for n in (0, 0)
    ]
    for _ in range(3):
        await case.store.write(frames)
    await asyncio.to_thread(case.settle)
    gateway = case.path.gateway
    assert await case.store.count(case.mine) == {(gateway, "表 1", "a"): 3, (gateway, "表 1", "b"): 3}
    assert await case.store.count(Selector(gateway=gateway, stream="b")) == {(gateway, "表 1", "b"): 3}
    assert await case.store.count(Selector(gateway="nobody")) == {}


async def test_a_type_conflict_names_the_guilty_and_stores_the_rest(case: Case) -> None:
    good, bad = case.series("good", Kind.FLOAT, "level"), case.series("bad", Kind.FLOAT, "flow")
    other = case.series("other", Kind.FLOAT, "level")
    await asyncio.to_thread(_take_integer, case)
    rows: list[Value] = [float(row) for row in range(300)]
    gaps = {(row, 1): 0xFF for row in range(300) if row % 3}
    frames = [
        case.frame(((good, bad), table(Kind.FLOAT, {1: rows, 2: rows}, gaps)), sequence=1),
        case.frame(((other,), table(Kind.FLOAT, {1: rows})), sequence=2),
    ]
    expected = {(0, 2, T0 + STEP * row) for row in range(0, 300, 3)}
    if case.can.rejects:
        with pytest.raises(PartialWrite) as refusal:
            await case.store.write(frames)
        assert {(one.frame, one.stream, one.time_ns) for one in refusal.value.rejected} == expected
        assert len(refusal.value.rejected) == 100
        assert "conflict" in refusal.value.rejected[0].reason
        assert "dropped" not in refusal.value.rejected[0].reason
        stored = {"good": 300, "other": 300}
    else:  # the embedded store has typed columns, VictoriaMetrics knows doubles alone: neither can conflict
        await case.store.write(frames)
        stored = {"good": 300, "other": 300, "bad": 100}
    await asyncio.to_thread(case.settle)
    assert await case.store.count(case.mine) == {
        (case.path.gateway, "表 1", stream): number for stream, number in stored.items()
    }


def _take_integer(case: Case) -> None:
    """Make `value` of the measurement `flow` an integer, as a foreign writer would have."""
    if isinstance(case.server, InfluxDB):
        database = case.store._reader._database  # type: ignore[attr-defined]
        answer = case.server.request("POST", f"/write?db={database}", b"flow value=1i %d" % T0)
        assert answer[0] == 204


@pytest.mark.parametrize("case", [name for name, can in STORES.items() if can.rejects], indirect=True)
async def test_one_impossible_time_among_thousands(case: Case) -> None:
    rows = 3000
    column: list[Value] = [float(row) for row in range(rows)]
    one = table(Kind.FLOAT, {1: column})
    one.times[1234] = 2**63 - 1
    with pytest.raises(PartialWrite) as refusal:
        await case.store.write([case.frame(((case.series("x", Kind.FLOAT),), one))])
    assert [(point.stream, point.time_ns) for point in refusal.value.rejected] == [(1, 2**63 - 1)]
    assert "time outside range" in refusal.value.rejected[0].reason
    assert list((await case.store.count(case.mine)).values()) == [rows - 1]


async def test_latest_and_ranges(case: Case) -> None:
    number, state = case.series("n", Kind.INT), case.series("s", Kind.BOOL)
    parts = (
        ((number,), table(Kind.INT, {1: [10, 11, 12, 13]})),
        ((state,), table(Kind.BOOL, {2: [False, True]}, {(1, 0): status(Quality.BAD, Reason.STUCK)})),
    )
    await case.store.write([case.frame(*parts)])
    await asyncio.to_thread(case.settle)
    gateway = case.path.gateway
    assert await case.store.latest(case.mine) == {
        (gateway, "表 1", "n"): Point(T0 + 3 * STEP, 13, 0, 0),
        (gateway, "表 1", "s"): Point(T0 + STEP, True, Quality.BAD, Reason.STUCK),
    }
    points = await case.store.read(number, T0 + STEP, T0 + 3 * STEP)
    assert [point.value for point in points] == [11, 12]  # from start, up to but without end
    assert [point.value for point in await case.store.read(number, 0, 2**63, limit=2)] == [10, 11]
    assert await case.store.read(number, T0 + 4 * STEP, 2**63) == []
    mine = [one for one in await case.store.series() if one.path == case.path]
    assert [(one.device, one.stream, one.quantity, one.kind) for one in mine] == [
        ("表 1", "n", "q.int", Kind.INT),
        ("表 1", "s", "q.bool", Kind.BOOL),
    ]


async def test_columns_hold_what_points_do(case: Case) -> None:
    uncertain, odd = status(Quality.UNCERTAIN, Reason.STUCK), status(Quality.BAD, Reason.SENSOR_FAULT)
    codes = {(1, 0): uncertain, (3, 0): odd, (4, 0): 0xFF, (6, 0): odd}
    values: dict[Kind, list[Value]] = {
        Kind.FLOAT: [1.5, 2.5, float("nan"), float("inf"), 5.5, -6.5, 7.5],
        Kind.INT: [1, 2**40, -3, 4, 5, 6, 7],
        Kind.BOOL: [True, False, True, True, False, False, True],
        Kind.TEXT: ["正常", "", "\x00", "a,b", "x", "y\ny", '"'],
    }
    for kind, column in values.items():
        if kind is Kind.TEXT and not case.can.text:
            assert (await case.store.columns(case.series("no", kind), T0, 2**63)).times.size == 0
            continue
        series = case.series(f"of {kind}", kind)
        await case.store.write(
            [case.frame(((series,), table(kind, {3: column}, codes)), sequence=list(values).index(kind))]
        )
        points = await read(case, series)
        assert len(points) == 6
        for start, end, limit in (
            (T0, T0 + 1000 * STEP, 50_000),
            (T0 + STEP, T0 + 6 * STEP, 3),
            (0, 2**63, 6),
            (9, 9, 1),
        ):
            found = await case.store.columns(series, start, end, limit=limit)
            wanted = [point for point in points if start <= point.time_ns < end][:limit]
            assert found.times.tolist() == [point.time_ns for point in wanted]
            assert found.times.dtype == np.int64
            assert found.values.dtype == TYPES[kind]
            assert found.status.dtype == np.uint8
            assert found.status.tolist() == [point.quality << 6 | point.reason for point in wanted]
            held = [value if there else None for value, there in zip(found.values.tolist(), found.valued, strict=True)]
            assert repr(held) == repr([point.value for point in wanted])


async def test_columns_of_many_points_in_pages(case: Case) -> None:
    series, other = case.series("long", Kind.FLOAT), case.series("other", Kind.FLOAT)
    rows = 30_000  # more than a database's chunk
    column: list[Value] = [row / 8 for row in range(rows)]
    await case.store.write([case.frame(((series, other), table(Kind.FLOAT, {1: column, 2: column})))])
    await asyncio.to_thread(case.settle)
    seen: list[float] = []
    start = 0
    while (page := await case.store.columns(series, start, 2**63, limit=12_000)).times.size:
        assert page.times.size <= 12_000
        seen += page.values.tolist()
        start = int(page.times[-1]) + 1
    assert seen == column


async def test_what_is_deleted_is_gone_and_nothing_else(case: Case) -> None:
    gone, kept = case.series('it\'s "gone" \\o', Kind.FLOAT, "level q"), case.series("kept", Kind.FLOAT, "level q")
    values: list[Value] = [1.0, 2.0, float("nan"), 4.0, 5.0]
    frame = case.frame(((gone, kept), table(Kind.FLOAT, {1: values, 2: values})))
    await case.store.write([frame])
    await asyncio.to_thread(case.settle)
    gateway = case.path.gateway
    if case.kind == "victoria":  # whole series alone
        with pytest.raises(ConfigError, match="retentionPeriod"):
            await case.store.delete(gone, before_ns=T0)
        assert await case.store.delete(gone) == 5
    else:
        assert await case.store.delete(gone, before_ns=T0) == 0
        assert await case.store.delete(gone, before_ns=T0 + 3 * STEP) == 3  # one of them without a value
        assert [point.value for point in await read(case, gone)] == [4.0, 5.0]
        assert await case.store.delete(gone) == 2
    assert await case.store.delete(gone) == 0
    await asyncio.to_thread(case.settle)
    assert await read(case, gone) == []
    assert await case.store.count(case.mine) == {(gateway, "表 1", "kept"): 5}
    assert [one.stream for one in await case.store.series() if one.path == case.path] == ["kept"]
    if case.kind == "embedded":
        await case.store.write([frame])  # the gateway sends again: it has a receipt, and nothing comes back
        assert await case.store.count(case.mine) == {(gateway, "表 1", "kept"): 5}
    later = case.frame(((gone,), table(Kind.FLOAT, {1: [6.0]})), sequence=1)
    await case.store.write([later])
    assert [point.value for point in await read(case, gone)] == [6.0]  # the stream itself may go on


HOSTILE = ["a' OR gateway != '", 'a"; DROP DATABASE x; --', "a\\' OR 1=1 --", "a} or {b", "a,b=c d", "$1 ? %s"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_names_cannot_break_out(case: Case, name: str) -> None:
    """Births refuse such names; a store that is handed one anyway neither mixes series nor runs anything."""
    plain, odd = case.series("plain", Kind.INT), case.series(name, Kind.INT, f"q {name}")
    frame = case.frame(((plain,), table(Kind.INT, {1: [1, 2, 3]})), ((odd,), table(Kind.INT, {2: [7]})))
    await case.store.write([frame])
    assert [point.value for point in await read(case, odd)] == [7]
    assert await case.store.count(Selector(gateway=case.path.gateway, stream=name)) == {
        (case.path.gateway, "表 1", name): 1
    }
    assert sum((await case.store.count(case.mine)).values()) == 4


@pytest.mark.parametrize("case", [name for name, can in STORES.items() if can.server], indirect=True)
async def test_a_stopped_database_is_unavailable_and_then_is_not(case: Case) -> None:
    series = case.series("t", Kind.FLOAT)
    frames = [case.frame(((series,), table(Kind.FLOAT, {1: [1.0]})))]
    assert case.server is not None
    await asyncio.to_thread(case.server.stop)
    with pytest.raises(StoreUnavailable):
        await case.store.write(frames)
    with pytest.raises(StoreUnavailable):
        await case.store.count(case.mine)
    with pytest.raises(StoreUnavailable):
        await case.store.columns(series, T0, 2**63)
    with pytest.raises(StoreUnavailable):
        await case.store.delete(series)
    await asyncio.to_thread(case.server.start)
    await case.store.write(frames)
    assert [point.value for point in await read(case, series)] == [1.0]


async def test_a_frozen_database_is_unavailable_after_the_timeout(influxdb: InfluxDB, nginx_v2: NginxV2) -> None:
    store = InfluxV2Store(nginx_v2.url, "", influxdb.fresh_database(), timeout_s=0.5)
    influxdb.pause()
    try:
        with pytest.raises(StoreUnavailable):
            await store.open()
    finally:
        influxdb.resume()
        await store.close()


async def test_a_missing_bucket_and_refused_credentials(nginx_v2: NginxV2, tmp_path: Path) -> None:
    missing = InfluxV2Store(nginx_v2.url, "", "nobody-made-this")
    with pytest.raises(ConfigError, match="nobody-made-this"):
        await missing.open()
    await missing.close()
    with InfluxDB(tmp_path / "auth", auth=True) as server:
        create = "q=CREATE%20USER%20writer%20WITH%20PASSWORD%20%27pass%3Aword%27%20WITH%20ALL%20PRIVILEGES"
        assert server.request("POST", f"/query?{create}")[0] == 200
        wrong = InfluxV1Store(server.url, "d", "writer", "guess")
        with pytest.raises(StoreUnavailable, match="credentials"):
            await wrong.open()
        await wrong.close()
        right = InfluxV1Store(server.url, 'odd "name" 数据', "writer", "pass:word")
        await right.open()
        assert await right.count(Selector()) == {}
        await right.close()


async def test_points_beyond_retention_are_refused_for_good(influxdb: InfluxDB) -> None:
    database = influxdb.fresh_database()
    influxdb.request("POST", f"/query?q=CREATE%20DATABASE%20{database}%20WITH%20DURATION%201h%20NAME%20short")
    store = InfluxV1Store(influxdb.url, database)
    await store.open()
    path = GatewayPath("c", "d", "s", "g")
    now = table(Kind.INT, {1: [1, 2, 3]})
    now.times[:] = [T0 - 10**17, time.time_ns(), T0 - 10**17 + 1]
    frame = FramePoints(path, 1, 1, (now,), ((Series(path, "d", "s", "q", "1", Kind.INT),),))
    with pytest.raises(PartialWrite) as refusal:
        await store.write([frame])
    assert [one.time_ns for one in refusal.value.rejected] == [T0 - 10**17, T0 - 10**17 + 1]
    assert "retention" in refusal.value.rejected[0].reason
    assert await store.count(Selector()) == {("g", "d", "s"): 1}
    await store.close()

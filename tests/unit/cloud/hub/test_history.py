"""History: every point once in whatever pages, one past across versions, and aggregates equal to a plain reference."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hub_kit_history import SECOND, T0, TimedStore, entry
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_store import MemoryStore

from cloud.hub.entries import Entry
from cloud.hub.history import Page, read_pages, series_of, series_of_versions
from cloud.hub.history_aggregate import (
    ALLOWED,
    FUNCTIONS,
    Buckets,
    Grid,
    aggregated,
    check_functions,
    versions_for,
)
from cloud.hub.problems import BadQuery
from contract.readings import Kind, Quality, Value

Held = dict[int, tuple[Value | None, int]]
CODES = [0, 0, 0, 0x43, 0x81, 0x85]
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.FLOAT: st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 1e300]),
    Kind.INT: st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5),
    Kind.BOOL: st.booleans(),
    Kind.TEXT: st.text(max_size=5),
}


@st.composite
def pasts(draw: st.DrawFn, kind: Kind, span: int = 400) -> Held:
    times = draw(st.sets(st.integers(0, span), max_size=60) | st.just(set(range(span // 2))))
    value = VALUES[kind]
    held: Held = {}
    for time in times:
        code = draw(st.sampled_from(CODES))
        held[T0 + time * SECOND // 4] = (None if code == 0x85 else draw(value), code)
    return held


async def every(store: MemoryStore, versions: list[Entry], start: int, end: int, page: int) -> list[Page]:
    return [one async for one in read_pages(store, versions, start, end, page_points=page)]


def rows(pages: list[Page]) -> list[tuple[int, Value | None, int]]:
    found = []
    for page in pages:
        columns = page.columns
        for time_ns, value, there, code in zip(
            columns.times.tolist(),
            columns.values.tolist(),
            columns.valued.tolist(),
            columns.status.tolist(),
            strict=True,
        ):
            found.append((time_ns, value if there else None, code))
    return found


@settings(deadline=None)
@given(pasts(Kind.FLOAT), st.integers(1, 50), st.integers(-5, 110), st.integers(-5, 110), st.floats(1e-3, 1e9))
async def test_paging_gives_every_point_once(held: Held, page: int, start: int, length: int, interval_s: float) -> None:
    store, one = MemoryStore(), entry(interval_s=interval_s)
    store.put(series_of(one), held)
    begin, end = T0 + start * SECOND, T0 + (start + length) * SECOND
    pages = await every(store, [one], begin, end, page)
    assert rows(pages) == [(at, *held[at]) for at in sorted(held) if begin <= at < end]
    assert all(len(found) <= page for found in pages)


@settings(deadline=None)
@given(st.tuples(pasts(Kind.FLOAT), pasts(Kind.INT), pasts(Kind.FLOAT)), st.integers(3, 40), st.integers(0, 60))
async def test_versions_are_one_past(held: tuple[Held, ...], page: int, start: int) -> None:
    versions = [
        entry(version=1, quantity="level"),
        entry(version=2, quantity="level", kind=Kind.INT, since_ns=T0 + 30 * SECOND),
        entry(version=3, quantity="height", since_ns=T0 + 60 * SECOND),
    ]
    store = MemoryStore()
    expected: Held = {}
    for version, points in zip(versions, held, strict=True):
        store.put(series_of(version), points)
        for at, (value, code) in points.items():
            if value is not None or at not in expected or expected[at][0] is None:
                expected[at] = (value, code)
    begin = T0 + start * SECOND
    pages = await every(store, versions, begin, 2**63, page)
    assert rows(pages) == [(at, *expected[at]) for at in sorted(expected) if at >= begin]
    assert sum(map(len, pages)) == len([at for at in expected if at >= begin])


def test_a_unit_that_was_corrected_makes_no_other_series() -> None:
    versions = [entry(unit="Cel"), entry(unit="K", version=2), entry(unit="K", version=3, quantity="q")]
    assert [(one.quantity, one.unit) for one in series_of_versions(versions)] == [("temperature", "K"), ("q", "K")]


async def test_a_range_of_centuries_takes_few_questions() -> None:
    store = TimedStore(200_000)
    one = entry()
    number = sum([len(page) async for page in read_pages(store, [one], -(2**63), 2**63)])
    assert number == 200_000
    assert store.held <= 50_000
    assert store.reads < 40


@dataclass
class Bucket:
    present: int
    good: int
    bad: int
    worst: int
    values: list[Any]


def reference(held: Held, grid: Grid) -> dict[int, Bucket]:
    """Buckets one reading at a time."""
    found: dict[int, Bucket] = {}
    for at in sorted(held):
        if not grid.start_ns <= at < grid.end_ns:
            continue
        value, code = held[at]
        quality = code >> 6
        bucket = found.setdefault((at - grid.offset_ns) // grid.interval_ns, Bucket(0, 0, 0, 0, []))
        bucket.present += 1
        bucket.good += quality == 0
        bucket.bad += quality == 2
        bucket.worst = max(bucket.worst, quality)
        if quality < 2 and value is not None:
            bucket.values.append(value)
    return found


def of_bucket(function: str, values: list[Any]) -> Any:
    if function in {"mean", "sum"}:
        total = math.fsum(float(value) for value in values)
        return total / len(values) if function == "mean" else total
    others: dict[str, Callable[[list[Any]], Any]] = {
        "min": min,
        "max": max,
        "count": len,
        "first": lambda some: some[0],
        "last": lambda some: some[-1],
    }
    return others[function](values)


@settings(deadline=None)
@given(
    st.sampled_from(list(Kind)).flatmap(lambda kind: st.tuples(st.just(kind), pasts(kind))),
    st.integers(1, 100),
    st.integers(0, 99),
    st.integers(0, 50),
    st.integers(1, 120),
    st.integers(1, 30),
)
async def test_aggregates_equal_a_plain_reference(
    past: tuple[Kind, Held], interval: int, offset: int, start: int, length: int, page: int
) -> None:
    kind, held = past
    one, store = entry(kind=kind), MemoryStore()
    store.put(series_of(one), held)
    begin = T0 + start * SECOND
    grid = Grid(begin, begin + length * SECOND // 2, interval * SECOND // 4, offset % interval * SECOND // 4)
    expected = reference(held, grid)
    functions = ALLOWED[kind]
    pages = read_pages(store, [one], grid.start_ns, grid.end_ns, page_points=page)
    blocks = [block async for block in aggregated(pages, [one], grid, functions, now_ns=grid.end_ns)]
    times = [time for block in blocks for time in block.times.tolist()]
    assert times == [grid.begins(bucket) for bucket in range(grid.first, grid.stop)]
    assert times[0] <= grid.start_ns
    assert grid.begins(grid.stop) >= grid.end_ns
    seen: dict[str, list[Any]] = defaultdict(list)
    for block in blocks:
        for name in ("present", "usable", "good", "bad", "worst"):
            seen[name] += getattr(block, name).tolist()
        for function in functions:
            seen[function] += block.values[function].tolist()
    for place, bucket in enumerate(range(grid.first, grid.stop)):
        wanted = expected.get(bucket, Bucket(0, 0, 0, 0, []))
        found = tuple(seen[name][place] for name in ("present", "usable", "good", "bad"))
        assert found == (wanted.present, len(wanted.values), wanted.good, wanted.bad)
        assert not wanted.present or seen["worst"][place] == wanted.worst
        for function in functions if wanted.values else ():
            value = of_bucket(function, wanted.values)
            if function in {"mean", "sum"}:
                scale = max(abs(float(part)) for part in wanted.values)
                assert seen[function][place] == pytest.approx(value, rel=1e-12, abs=1e-12 * scale)
            else:
                assert seen[function][place] == value
                assert type(seen[function][place]) is type(value)


COLUMNS = ("times", "present", "usable", "good", "bad", "worst", "coverage")


async def buckets(
    held: Held, grid: Grid, versions: list[Entry] | None = None, now_ns: int = 2**62, functions: tuple[str, ...] = ()
) -> Buckets:
    versions = versions or [entry()]
    store = MemoryStore()
    store.put(series_of(versions[-1]), held)
    pages = read_pages(store, versions, grid.start_ns, grid.end_ns)
    blocks = [one async for one in aggregated(pages, versions, grid, functions or FUNCTIONS, now_ns)]
    columns = {name: np.concatenate([getattr(one, name) for one in blocks]) for name in COLUMNS}
    values = {name: np.concatenate([one.values[name] for one in blocks]) for name in blocks[0].values}
    return Buckets(**columns, values=values)


async def test_coverage_says_how_much_of_a_bucket_was_seen() -> None:
    minute = 60 * SECOND
    begin = T0 // minute * minute
    held: Held = {begin + second * SECOND: (1.0, 0) for second in (*range(60), *range(60, 75), *range(180, 190))}
    grid = Grid(begin, begin + 5 * minute, minute)
    block = await buckets(held, grid, now_ns=begin + 3 * minute + 20 * SECOND)
    # A whole minute, a quarter, nothing, half of the twenty seconds that have passed, and a minute still to come.
    assert block.coverage.tolist()[:4] == [1.0, 0.25, 0.0, 0.5]
    assert math.isnan(block.coverage[4])
    cut = await buckets(held, Grid(begin + 50 * SECOND, begin + minute, minute))
    assert cut.coverage.tolist() == [1.0]  # ten of the ten seconds that were asked for


async def test_coverage_is_silent_where_nothing_can_be_expected() -> None:
    held: Held = {T0: (1.0, 0)}
    grid = Grid(T0, T0 + 10 * SECOND, 10 * SECOND, T0 % (10 * SECOND))
    for version in (entry(interval_s=60.0), entry(scheduled=False)):
        block = await buckets(held, grid, [version])
        assert math.isnan(block.coverage[0])
        assert block.present.tolist() == [1]


async def test_coverage_follows_the_interval_of_the_version_in_force() -> None:
    minute = 60 * SECOND
    begin = T0 // minute * minute
    held: Held = {begin + second * SECOND: (1.0, 0) for second in range(0, 120, 10)}
    versions = [entry(since_ns=0), entry(version=2, interval_s=10.0, since_ns=begin + minute)]
    block = await buckets(held, Grid(begin, begin + 2 * minute, minute), versions)
    assert block.coverage.tolist() == [0.1, 1.0]


async def test_a_sum_beyond_all_doubles_is_nothing_rather_than_infinity() -> None:
    held: Held = {T0: (1.7e308, 0), T0 + 1: (1.7e308, 0), T0 + SECOND: (1.0, 0)}
    block = await buckets(held, Grid(T0, T0 + 2 * SECOND, SECOND, T0 % SECOND))
    assert math.isnan(block.values["sum"][0])
    assert math.isnan(block.values["mean"][0])
    assert block.values["max"].tolist() == [1.7e308, 1.0]
    assert block.values["mean"][1] == 1.0


async def test_bad_values_are_counted_beside_and_uncertain_ones_are_in() -> None:
    held: Held = {T0: (1.0, 0), T0 + 1: (3.0, 0x43), T0 + 2: (999.0, 0x81), T0 + 3: (None, 0x85)}
    block = await buckets(held, Grid(T0, T0 + SECOND, SECOND, T0 % SECOND))
    assert (block.values["mean"][0], block.values["max"][0], block.usable[0], block.bad[0]) == (2.0, 3.0, 2, 2)
    assert block.worst[0] == Quality.BAD


def test_what_cannot_be_averaged_is_refused_with_what_can() -> None:
    with pytest.raises(BadQuery, match=r"aggregate: expected last or count, .*\(text\).*'mean'"):
        check_functions(["last", "mean"], entry(kind=Kind.TEXT))
    with pytest.raises(BadQuery, match="mean or min or max"):
        check_functions(["median"], entry())
    check_functions(FUNCTIONS, entry(kind=Kind.INT))


def test_no_number_stands_for_two_units() -> None:
    versions = [entry(unit="Cel", since_ns=0), entry(unit="K", version=2, since_ns=T0)]
    with pytest.raises(BadQuery, match=r"start.*2026-09-21T14:13:20.*Cel.*K"):
        versions_for(versions, T0 - 1, T0 + 1)
    assert [one.unit for one in versions_for(versions, T0, T0 + 1)] == ["K"]
    assert [one.unit for one in versions_for(versions, 0, T0)] == ["Cel"]
    assert versions_for(versions, -5, -1) == versions[:1]
    same = [entry(since_ns=0), entry(version=2, since_ns=T0, owner="other", kind=Kind.INT)]
    assert versions_for(same, 0, 2 * T0) == same


async def test_days_may_begin_where_people_live() -> None:
    day, hour = 86_400 * SECOND, 3600 * SECOND
    shanghai = Grid(T0, T0 + day, day, 16 * hour)
    block = await buckets({T0: (1.0, 0)}, shanghai)
    assert [time % day for time in block.times.tolist()] == [16 * hour] * 2
    assert block.usable.tolist() == [1, 0]


def test_a_grid_knows_its_size_before_anything_is_read() -> None:
    assert len(Grid(0, 10, 3)) == 4
    assert len(Grid(0, 10, 3, 1)) == 4
    assert len(Grid(5, 6, 100)) == 1
    assert not Grid(-(2**63) + 2, 0, 10).fits
    assert Grid(T0, 2**63 - 10, 86_400 * SECOND).fits is False
    assert Grid(T0, T0 + 1, 36_000 * 86_400 * SECOND).fits
    assert np.int64(Grid(T0, T0 + 1, SECOND).begins(3)) == 3 * SECOND

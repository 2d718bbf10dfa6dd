"""Retention: what is too old goes, what nobody decided stays, and a round that breaks off is taken up where it was."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_kit_history import Catalogue, Trail, entry
from hub_state import Clock, state_of
from memory_store import MemoryStore
from pydantic import ValidationError

from cloud.hub.config import Retention
from cloud.hub.database import Database
from cloud.hub.entries import Entry
from cloud.hub.retention import DAY_NS, Problem, Retainer
from cloud.stores.base import Series
from contract.errors import StoreUnavailable
from contract.readings import Kind


class Bench:
    """A retainer over a store in memory; each stream has a point a day for the last 500 days."""

    def __init__(self, database: Database, *streams: Entry | list[Entry], **settings: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.trail = Trail()
        self.catalogue = Catalogue(*streams)
        self.paused: list[float] = []
        self.database = database
        self.settings = Retention.model_validate(settings)
        self.retainer = self.again()

    def again(self) -> Retainer:
        """One of a process that has just begun."""
        return Retainer(
            self.settings,
            self.catalogue,
            self.store,
            self.trail,
            self.database,
            now_ns=self.clock.now_ns,
            sleep=self.pause,
        )

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    def fill(self, one: Entry, days: int = 500) -> Series:
        series = Series(one.path, one.device, one.stream, one.quantity, one.unit, one.kind)
        now_ns = self.clock.now_ns()
        self.store.put(series, {now_ns - day * DAY_NS: (float(day), 0) for day in range(days)})
        return series

    async def left(self, series: Series) -> int:
        return len(await self.store.read(series, 0, 2**62))


@pytest.fixture
def database(tmp_path: Path) -> Any:
    made = state_of(tmp_path)
    yield made
    made.close()


async def test_each_class_keeps_its_days_and_forever_keeps_all(database: Database) -> None:
    streams = [
        entry(number, retention=name) for number, name in enumerate(["standard", "short", "long", "unheard of"], 1)
    ]
    bench = Bench(database, *streams)
    series = [bench.fill(one) for one in streams]
    assert await bench.retainer.round() == 99 + 469
    assert [await bench.left(one) for one in series] == [401, 31, 500, 500]
    ((who, action, subject, detail),) = bench.trail.lines
    assert (who, action, subject) == ("system", "retention", "568 points of 2 streams")
    assert detail["by_class"] == {"standard": 99, "short": 469}
    assert detail["unknown_class"] == bench.retainer.counts.unknown == 1
    assert bench.retainer.problems() == [Problem("unheard of", 1, (streams[3].id,))]


async def test_the_class_of_today_holds_for_a_former_quantity_and_kind_too(database: Database) -> None:
    old = entry(1, retention="long", quantity="count", kind=Kind.INT, until_ns=5)
    new = replace(entry(1, retention="short"), version=2)
    bench = Bench(database, [old, new])
    former, now = bench.fill(old), bench.fill(new)
    await bench.retainer.round()
    assert (await bench.left(former), await bench.left(now)) == (31, 31)


async def test_a_round_is_bounded_quiet_and_taken_up_after_a_restart(database: Database) -> None:
    streams = [entry(number, retention="short") for number in range(1, 8)]
    bench = Bench(database, *streams, streams_per_round=3, pause_s=0.5)
    series = [bench.fill(one, 40) for one in streams]
    assert await bench.retainer.round() == 3 * 9
    assert bench.paused == [0.5] * 3
    assert [await bench.left(one) for one in series] == [31] * 3 + [40] * 4
    bench.retainer = bench.again()
    assert await bench.retainer.round() == 3 * 9
    assert await bench.retainer.round() == 9
    bench.clock.pass_s(23 * 3600)
    assert await bench.retainer.round() == 0  # the pass is over, the next one is not due
    bench.clock.pass_s(3600)
    assert await bench.retainer.round() == 3  # a day later a point of each stream is too old
    assert len(bench.trail.lines) == 4


async def test_a_store_that_is_away_costs_nothing_but_time(database: Database) -> None:
    streams = [entry(number, retention="short") for number in range(1, 4)]
    bench = Bench(database, *streams)
    series = [bench.fill(one, 40) for one in streams]

    async def away(seconds: float) -> None:
        del seconds
        if await bench.left(series[0]) == 31:
            bench.store.away = StoreUnavailable("gone")

    bench.pause = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await bench.again().round()
    bench.store.away = None
    assert [await bench.left(one) for one in series] == [31, 40, 40]
    assert await bench.retainer.round() == 18
    assert [line[3]["points"] for line in bench.trail.lines] == [9, 18]


async def test_a_class_without_a_rule_is_told_once(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(database, entry(1, retention="for ever and a day"), every_hours=0.001)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await bench.retainer.round()
            bench.clock.pass_s(10)
    (record,) = caplog.records
    assert "does not name: for ever and a day; their 1 streams are kept" in record.getMessage()
    assert bench.retainer.counts.passes == 3


@pytest.mark.parametrize("keep", [0, -1, "never", 1e9, None])
def test_nonsense_is_refused(keep: object) -> None:
    with pytest.raises(ValidationError):
        Retention.model_validate({"classes": {"standard": keep}})

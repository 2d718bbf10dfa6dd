"""Figures agree with the gateways' own counts, late backfill corrects the past and says so, and sums stay sums."""

from pathlib import Path

import numpy as np
import pytest
from cloud_frames import PATH, TICK_NS, ScriptedGateway, make_birth
from hub_kit_quality import HOUR, SECOND, FakeCatalogue, FakeClock, FakeNewest, city

from cloud.hub import quality_figures as codes
from cloud.hub.database import Database, database_url
from cloud.hub.passing import Column, Passed
from cloud.hub.quality import Group, Quality
from cloud.hub.quality_days import Calendar, QualitySettings
from cloud.hub.quality_roster import Level
from cloud.hub.quality_store import Period
from cloud.ledger import Ledger, Receipt
from cloud.ledger_book import Quarantined, receipt
from cloud.ledger_hours import opened
from cloud.states import State
from contract import readings
from contract.frame import Frame
from contract.readings import GOOD, Reason, status

START_HOUR = 497_232  # 2026-09-22T00:00Z
START_NS = START_HOUR * HOUR


class Town:
    """A ledger that a scripted gateway fills, and the figures over it."""

    def __init__(self, folder: Path, *, interval_s: float = 60.0, streams: int = 2) -> None:
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.clock = FakeClock(START_NS)
        self.gateway = ScriptedGateway(make_birth(streams, interval_s=interval_s), start_ns=START_NS)
        self.entries = city([PATH], streams, interval_s=interval_s, since_ns=START_NS)
        self.catalogue = FakeCatalogue(self.entries)
        self.database = Database(database_url(folder / "hub.sqlite"))
        self.database.create()
        self.settings = QualitySettings(roll_up_s=0)
        self.file = folder / "ledger.sqlite"
        self.quality = self.restarted()

    def restarted(self) -> Quality:
        return Quality(self.database, self.catalogue, self.file, self.settings, now_ns=self.clock)

    def frame(self, hour: float, rows: int, **what: int) -> Frame:
        """A frame that is closed at this hour since the start."""
        frame = self.gateway.frame(rows, **what)
        at_ns = START_NS + round(hour * HOUR)
        assert frame.counters is not None
        frame.counters.until_ns[:] = at_ns
        return Frame(type(frame.header)(frame.header.boot, frame.header.sequence, frame.header.epoch, at_ns),
                     frame.tables, frame.gaps, frame.counters)  # fmt: skip

    def note(self, *frames: Frame, quarantined: int = 0) -> None:
        rows_of = self.ledger.rows_of(PATH, self.gateway.birth)
        for frame in frames:
            kept = [(rows_of[one.streams], np.count_nonzero(one.present(), axis=0)) for one in frame.tables]
            for _, counts in kept:
                counts[0] -= quarantined
            refused = [(int(rows_of[0]), Quarantined.WRONG_KIND, quarantined)] if quarantined else []
            header = frame.header
            book = receipt(frame, rows_of, kept, refused)
            self.ledger.commit([Receipt(PATH, header.boot, header.sequence, header.time_base_ns, book)])

    def look(self, hour: float) -> None:
        self.clock.now_ns = START_NS + round(hour * HOUR)
        self.quality.look()

    def figures(self, hour: int, period: Period = Period.HOUR, level: Level = Level.STREAM) -> list[Group]:
        return self.quality.figures(level, period, START_HOUR + hour, self.entries)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def counts(group: Group, *names: int) -> list[int]:
    return [group.figures.count(name) for name in names]


def test_an_hour_of_every_kind_of_explanation(town: Town) -> None:
    """60 due: 30 stored, 10 within the deadband, 5 thinned, 14 timed out, 1 quarantined. Suppressed is not missing."""
    town.note(town.frame(0.4, 20, suppressed=10, missed=14))
    town.note(town.frame(0.99, 11, thinned=5), quarantined=1)
    town.look(1.1)
    first, second = town.figures(0)
    assert counts(first, codes.EXPECTED, codes.SHOULD, codes.RECEIVED, codes.MISSING) == [60, 50, 30, 20]
    assert first.figures.completeness == pytest.approx(0.6)
    assert first.figures.explained("gap") == {"timeout": 14}
    assert first.figures.explained("quarantined") == {"wrong_kind": 1}
    assert (first.figures.failing, first.figures.closes) == (1, True)
    assert second.figures.completeness == pytest.approx(31 / 50)


def test_hours_of_a_gateway_that_was_off_are_awaited_then_explained_in_their_own_hours(town: Town) -> None:
    town.note(town.frame(0.99, 60))
    town.look(3.5)
    assert [town.figures(hour)[0].figures.completeness for hour in (0, 1, 2)] == [1.0, 0.0, 0.0]
    assert counts(town.figures(1)[0], codes.EXPECTED, codes.AWAITED) == [60, 60]
    # Back in hour 3: it tells of 150 minutes that it was off in one frame (TIMEOUT stands for GATEWAY_OFF here).
    town.note(town.frame(3.99, 30, missed=150))
    town.look(4.1)
    for hour, received, gap in ((0, 60, 0), (1, 0, 60), (2, 0, 60), (3, 30, 30)):
        group = town.figures(hour)[0]
        assert counts(group, codes.EXPECTED, codes.RECEIVED, codes.AWAITED) == [60, received, 0]
        assert sum(group.figures.explained("gap").values()) == gap


def test_a_return_after_days_reaches_hours_that_are_no_longer_looked_at_often(town: Town) -> None:
    town.note(town.frame(0.99, 60))
    for hour in (3, 12, 26, 30):
        town.look(hour + 0.5)
    town.note(town.frame(30.99, 60, missed=30 * 60 - 60))
    town.look(31.2)
    assert counts(town.figures(5)[0], codes.EXPECTED, codes.AWAITED, codes.MISSING) == [60, 0, 60]
    day = town.figures(5, Period.DAY)[0]
    assert counts(day, codes.EXPECTED, codes.RECEIVED, codes.AWAITED) == [24 * 60, 60, 0]
    assert day.figures.explained("gap") == {"timeout": 23 * 60}


def test_late_backfill_corrects_hour_day_and_month_and_says_what_was_reported(town: Town) -> None:
    frames = [town.frame(hour + 0.99, 60) for hour in range(26)]
    town.note(*frames[:5], *frames[8:])
    town.ledger.note_state(PATH, State(online=True, boot=1, next_sequence=27, oldest_sequence=6))
    town.look(26.5)
    assert town.figures(6)[0].figures.completeness == 0.0
    assert town.figures(6)[0].corrected_ns is None
    day = town.figures(6, Period.DAY)[0]
    assert day.figures.completeness == pytest.approx(21 / 24)
    assert (day.figures.failing, day.figures.count(codes.UNEXPLAINED)) == (1, 0)
    assert counts(day, codes.IN_FLIGHT)[0] + counts(day, codes.AWAITED)[0] == 180
    town.note(*frames[5:8])
    backfilled = np.array([START_NS + 6 * HOUR], dtype=np.int64)  # the feed sees it pass
    town.quality.observer.observe(1, backfilled, np.zeros(1, dtype=np.uint8), START_NS + 27 * HOUR)
    town.look(27.5)
    hour, day = town.figures(6)[0], town.figures(6, Period.DAY)[0]
    assert hour.figures.completeness == 1.0
    assert hour.former is not None
    assert hour.former.completeness == 0.0
    assert hour.corrected_ns == town.clock.now_ns
    assert day.figures.completeness == 1.0
    assert day.former is not None
    assert day.former.completeness == pytest.approx(21 / 24)
    month = town.figures(6, Period.MONTH)[0]
    assert month.figures.count(codes.RECEIVED) == 26 * 60
    assert month.corrected_ns is None  # a month that is not over was not reported
    assert [one.start_hour for one in town.quality.store.corrected(Period.DAY, 0, 2**62)] == [START_HOUR]


def test_books_equal_the_ledgers_own_hours_for_random_gateways(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    town = Town(tmp_path, interval_s=0.001, streams=3)  # no interval to compare with: what the ledger says, alone
    for entry in town.entries:
        object.__setattr__(entry, "scheduled", False)
    frames = []
    for number in range(60):
        if number % 17 == 16:
            town.gateway.reboot(2 + number)
        suppressed, thinned, missed = rng.integers(0, 5, 3).tolist()
        hour = number * 0.11
        frames.append(town.frame(hour, int(rng.integers(0, 6)), suppressed=suppressed, thinned=thinned, missed=missed))
    lost = set(rng.choice(60, 4, replace=False).tolist())
    town.note(*(frames[at] for at in rng.permutation(60).tolist() if at not in lost))
    town.ledger.fold(START_NS + 7 * HOUR)
    town.look(7.0)
    rows = {(row.hour, row.stream): row for row in town.ledger.report(hours=True).hours}
    seen = 0
    for hour in range(7):
        for group in town.figures(hour):
            row = rows.get((START_HOUR + hour, group.name.rsplit("/", 1)[1]))
            if row is None:
                continue
            seen += 1
            figures = group.figures
            assert figures.count(codes.EXPECTED) == row.expected
            assert figures.count(codes.RECEIVED) == row.stored
            assert figures.count(codes.SUPPRESSED) == row.suppressed
            assert figures.count(codes.THINNED) == row.thinned
            assert figures.explained("gap") == row.gaps
            assert figures.count(codes.IN_FLIGHT) + figures.count(codes.UNEXPLAINED) == row.unexplained
    assert seen > 15


def test_pruned_hours_keep_the_figures_that_they_had(town: Town) -> None:
    town.note(*[town.frame(hour + 0.99, 60) for hour in range(6)])
    town.look(6.1)
    before = town.figures(2)[0].figures.counts
    ledger = Ledger(town.file, keep_hours=2)
    ledger.fold(START_NS + 6 * HOUR)
    ledger.close()
    with opened(town.file) as hours:
        found = hours.read(PATH, START_HOUR, START_HOUR + 6, town.clock.now_ns)
    assert found is not None
    assert sorted({part.hour - START_HOUR for part in found.parts}) == [5]
    town.quality.sweep_all()
    town.look(6.2)
    assert town.figures(2)[0].figures.counts[codes.RECEIVED] == before[codes.RECEIVED]


def test_seen_readings_are_counted_by_hour_of_measurement_once_also_after_a_restart(town: Town) -> None:
    one = town.entries[0].number
    times = START_NS + np.arange(0, 3600 * SECOND, SECOND, dtype=np.int64)
    marks = np.full(len(times), GOOD, dtype=np.uint8)
    marks[:36] = status(readings.Quality.BAD, Reason.STUCK)
    marks[36:72] = status(readings.Quality.UNCERTAIN, Reason.PARTIAL_WINDOW)
    marks[72] = 0xFF
    town.quality.observer.observe(one, times, marks, int(times[-1]) + SECOND)
    town.quality.observer.reached("7.1")
    town.look(1.2)
    town.quality = town.restarted()
    assert town.quality.position() == "7.1"
    town.look(1.3)
    figures = town.figures(0)[0].figures
    assert figures.by_quality() == {"good": 3600 - 73, "uncertain": 36, "bad": 36}
    assert figures.doubts() == {"partial_window": 36, "stuck": 36}
    assert figures.validity == pytest.approx((3600 - 73) / 3599)
    assert figures.latency_s(0.5) == pytest.approx(1800, rel=0.19)
    assert figures.latency_s(0.5) >= 1800 - 1  # type: ignore[operator]


def test_frames_of_the_feed_count_once_when_they_pass_again(town: Town) -> None:
    def passed(frame: int) -> Passed:
        times = START_NS + SECOND * np.arange(10 * frame, 10 * frame + 10, dtype=np.int64)
        column = Column(1, times, [1.0] * 10, np.zeros(10, dtype=np.uint8), list(range(10)))
        return Passed(frame, START_NS + 100 * SECOND, PATH, 1, frame, (column,))

    for frame in (1, 2):
        town.quality.observer.take(passed(frame))
    town.look(0.5)
    town.quality = town.restarted()
    town.quality.recall(FakeNewest())
    for frame in (1, 2, 3):
        town.quality.observer.take(passed(frame))
    town.look(0.6)
    assert town.figures(0)[0].figures.by_quality()["good"] == 30


def test_a_clock_that_is_ahead_is_counted_apart_and_makes_no_data_of_the_future(town: Town) -> None:
    seen = START_NS + 100 * SECOND
    ahead = np.array([seen + 5 * HOUR, seen - SECOND], dtype=np.int64)
    town.quality.observer.observe(1, ahead, np.zeros(2, dtype=np.uint8), seen)
    town.look(0.5)
    figures = town.figures(0)[0].figures
    assert figures.count(codes.SKEWED) == 1
    assert figures.latency_s(0.99) == pytest.approx(1.0, rel=0.2)
    assert figures.readings == 2
    assert town.quality.observer.newest(3)[0][1] == seen


def test_groups_are_sums_and_not_means_of_means(town: Town) -> None:
    """One stream with 10 of 20, one with 60 of 60 less what it held back: 70 of 80, not 75 %."""
    town.note(town.frame(0.5, 10, missed=10))
    town.look(1.1)
    (gateway,) = town.figures(0, level=Level.GATEWAY)
    streams = town.figures(0)
    for code in (codes.EXPECTED, codes.RECEIVED, codes.MISSING, codes.SHOULD):
        assert gateway.figures.count(code) == sum(one.figures.count(code) for one in streams)
    assert (gateway.figures.streams, gateway.figures.failing) == (2, 2)
    assert [one.name for one in town.figures(0, level=Level.DEPARTMENT)] == ["Water"]


def test_purged_streams_leave_no_count(town: Town) -> None:
    town.note(town.frame(0.5, 10))
    town.look(1.1)
    assert town.quality.store.forget(str(PATH), [1]) >= 2
    assert town.figures(0)[0].figures.counts == {}
    assert town.figures(0)[1].figures.count(codes.RECEIVED) == 10


def test_old_hours_go_and_their_day_stays(town: Town) -> None:
    town.note(*[town.frame(hour + 0.99, 60) for hour in range(4)])
    town.look(5)
    town.look(24 * 12)
    assert town.quality.store.read(Period.HOUR, [START_HOUR]) == []
    assert counts(town.figures(0, Period.DAY)[0], codes.RECEIVED) == [240]


def test_ticks_of_the_scripted_gateway_are_seconds() -> None:
    assert TICK_NS == SECOND


@pytest.mark.parametrize("seed", range(8))
def test_moving_gaps_to_their_hours_makes_none_and_loses_none(tmp_path: Path, seed: int) -> None:
    """A gateway that is off and on at random: each sample is in some hour, and no hour has more than fit in."""
    rng = np.random.default_rng(seed)
    town = Town(tmp_path, streams=1)
    minute, received, missed = 0, np.zeros(48, dtype=np.int64), 0
    while True:
        off, on = int(rng.integers(0, 400)), int(rng.integers(1, 50))
        if minute + off + on >= 47 * 60:
            break
        minute += off + on
        missed += off
        on_from = minute - on
        for hour in range(on_from // 60, minute // 60 + 1):  # a frame an hour, as each closes in its own
            rows = min(minute, 60 * hour + 60) - max(on_from, 60 * hour)
            if rows:
                at = (max(on_from, 60 * hour) + rows - 0.01) / 60
                town.note(town.frame(at, rows, missed=off))
                received[hour] += rows
                off = 0
    town.look(47.0)
    groups = [town.figures(hour)[0] for hour in range(47)]
    assert [group.figures.count(codes.RECEIVED) for group in groups] == received[:47].tolist()
    assert sum(group.figures.explained("gap").get("timeout", 0) for group in groups) == missed
    assert max(group.figures.count(codes.EXPECTED) for group in groups) <= 60 + 3
    whole = [group.figures.count(codes.EXPECTED) for group in groups[: minute // 60]]
    assert min(whole) >= 60 - 3


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Shanghai", "Asia/Kolkata", "Europe/Berlin", "Asia/Beirut", "America/Havana"]
)
def test_every_hour_is_in_one_day_and_one_month(zone: str) -> None:
    calendar = Calendar(QualitySettings(zone=zone))
    for hour in range(START_HOUR, START_HOUR + 370 * 24):
        for period in (Period.DAY, Period.MONTH):
            start = calendar.start_of(period, hour)
            assert start <= hour < calendar.end_of(period, start)
            assert calendar.start_of(period, start) == start

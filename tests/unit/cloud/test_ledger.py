"""The ledger closes exactly when everything arrived, in whatever order, however often, and through restarts."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cloud_frames import PATH, START_NS, TICK_NS, ScriptedGateway, make_birth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud import ledger as ledger_module
from cloud.ledger import Ledger, Receipt
from cloud.ledger_book import Quarantined, receipt
from cloud.ledger_read import read_file
from cloud.ledger_report import LedgerReport
from cloud.states import State
from contract.catalogue import Birth
from contract.frame import Frame


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def receipt_of(ledger: Ledger, birth: Birth, frame: Frame, *, quarantined: int = 0) -> Receipt:
    """What the collector notes of a frame whose every reading was stored, but `quarantined` of stream 0."""
    rows_of = ledger.rows_of(PATH, birth)
    kept = []
    for table in frame.tables:
        counts = np.count_nonzero(table.present(), axis=0).astype(np.int64)
        counts[0] -= quarantined
        kept.append((rows_of[table.streams], counts))
    refused = [(int(rows_of[0]), Quarantined.REFUSED_BY_STORE, quarantined)] if quarantined else []
    header = frame.header
    return Receipt(PATH, header.boot, header.sequence, header.time_base_ns, receipt(frame, rows_of, kept, refused))


def note(ledger: Ledger, gateway: ScriptedGateway, *frames: Frame) -> int:
    return ledger.commit([receipt_of(ledger, gateway.birth, frame) for frame in frames])


def frames_lost(report: LedgerReport) -> int:
    return report.totals["frames_lost"]


def test_every_kind_of_explanation_adds_up(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    note(ledger, gateway, gateway.frame(3), gateway.frame(2, suppressed=4), gateway.frame(1, thinned=5, missed=6))
    last = gateway.frame(2)
    ledger.commit([receipt_of(ledger, gateway.birth, last, quarantined=1)])
    (row,) = ledger.report().rows
    assert (row.expected, row.produced, row.stored) == (23, 23, 7)
    assert (row.suppressed, row.thinned, row.gaps, row.quarantined) == (4, 5, {"timeout": 6}, {"refused_by_store": 1})
    assert (row.explained, row.in_flight, row.unexplained) == (16, 0, 0)
    assert ledger.report().closes
    assert ledger.report().summary() == (
        "ledger: 1 streams, expected 23 = stored 7 + explained 16, in flight 0, unexplained 0: closed"
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_closes_exactly_when_all_arrived(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Frames of several boots in any order, repeated, with folds and restarts of the collector in between."""
    file = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    gateway = ScriptedGateway(make_birth(2))
    frames = []
    for boot in range(1, data.draw(st.integers(1, 3), label="boots") + 1):
        gateway.reboot(boot)
        for _ in range(data.draw(st.integers(1, 5), label="frames")):
            counts = data.draw(st.tuples(*[st.integers(0, 3)] * 4), label="counts")
            frames.append(gateway.frame(1 + counts[0], suppressed=counts[1], thinned=counts[2], missed=counts[3]))
    # A gateway's first and last frames are known to the ledger in some other way (its state); here they come.
    order = data.draw(st.permutations(range(len(frames))), label="order")
    order += data.draw(st.lists(st.sampled_from(range(len(frames))), max_size=4), label="again")
    ledger, arrived = Ledger(file), set()
    ledger.note_state(PATH, State(online=True, boot=1, next_sequence=len(frames) + 1, oldest_sequence=1))
    for index in order:
        new = note(ledger, gateway, frames[index])
        assert new == (index not in arrived)
        arrived.add(index)
        assert ledger.known(PATH, frames[index].header.boot, frames[index].header.sequence)
        match data.draw(st.sampled_from(["", "fold", "restart", "second"])):
            case "fold":
                ledger.fold(gateway.now_ns)
            case "restart":
                ledger.close()
                ledger = Ledger(file)
            case "second":
                other = Ledger(file)
                assert note(other, gateway, frames[index]) == 0
                other.fold(gateway.now_ns)
                other.close()
        report = ledger.report()
        totals = report.totals
        assert totals["frames_in_flight"] == len(frames) - len(arrived)
        assert totals["unexplained"] == 0
        assert report.closes == (len(arrived) == len(frames))
        stored = sum(table.count() for at in arrived for table in frames[at].tables)
        assert totals["stored"] == stored
        assert totals["expected"] == stored + totals["explained"] + totals["in_flight"]
    assert [row.expected for row in report.rows] == [
        sum(
            int(np.max([f.counters.due[s] for f in frames if f.header.boot == boot and f.counters]))
            for boot in {f.header.boot for f in frames}
        )
        for s in range(2)
    ]
    ledger.close()
    assert read_file(file).as_json() == report.as_json()


def test_a_hole_is_in_flight_until_the_gateway_no_longer_has_it(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    frames = [gateway.frame() for _ in range(4)]
    note(ledger, gateway, frames[0], frames[3])
    assert ledger.report().totals["in_flight"] == 6
    assert not ledger.report().closes
    ledger.note_state(PATH, State(online=True, boot=1, next_sequence=5, oldest_sequence=3))
    report = ledger.report()
    assert (frames_lost(report), report.totals["frames_in_flight"], report.totals["unexplained"]) == (1, 1, 0)
    ledger.note_state(PATH, State(online=True, boot=1, next_sequence=5, oldest_sequence=None))
    report = ledger.report()
    assert (frames_lost(report), report.totals["unexplained"], report.totals["in_flight"]) == (2, 6, 0)
    assert report.summary().endswith("unexplained 6, frames lost 2: OPEN")


def test_frames_that_the_outbox_holds_are_in_flight_before_any_later_one_came(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    note(ledger, gateway, gateway.frame())
    ledger.note_state(PATH, State(online=True, boot=1, next_sequence=6, oldest_sequence=2))
    assert ledger.report().totals["frames_in_flight"] == 4
    assert not ledger.report().closes


@pytest.mark.parametrize(("told", "lost", "skipped"), [(3, 1, 0), (None, 0, 1)])
def test_a_number_missing_between_two_boots_is_lost_only_if_the_gateway_had_promised_it(
    file: Path, told: int | None, lost: int, skipped: int
) -> None:
    """A boot's last frame is in no counter that came: only its number tells. After a torn tail numbers are skipped."""
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    note(ledger, gateway, gateway.frame())
    ledger.note_state(PATH, State(online=True, boot=1, next_sequence=told, oldest_sequence=2))
    gateway.frame()
    gateway.reboot(2)
    note(ledger, gateway, gateway.frame())
    ledger.note_state(PATH, State(online=True, boot=2, next_sequence=4, oldest_sequence=None))
    report = ledger.report()
    assert (report.totals["unexplained"], frames_lost(report), report.totals["frames_skipped"]) == (0, lost, skipped)
    assert report.closes == (lost == 0)


def test_a_replaced_outbox_makes_what_is_missing_of_the_old_one_unexplained(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    frames = [gateway.frame() for _ in range(3)]
    note(ledger, gateway, frames[0], frames[2])
    assert ledger.report().totals["in_flight"] == 3
    fresh = ScriptedGateway(make_birth(1), boot=9, start_ns=gateway.now_ns)
    note(ledger, fresh, fresh.frame())
    report = ledger.report()
    assert (report.totals["in_flight"], report.totals["unexplained"], frames_lost(report)) == (0, 3, 1)


def test_newest_first_does_not_look_like_a_replaced_outbox(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    old = [gateway.frame() for _ in range(3)]
    gateway.reboot(2)
    new = [gateway.frame() for _ in range(2)]
    note(ledger, gateway, *reversed(new))
    note(ledger, gateway, old[2])
    report = ledger.report()
    assert (report.totals["frames_lost"], report.totals["unexplained"]) == (
        6 * 0,
        6,
    )  # nobody said that older ones exist
    ledger.note_state(PATH, State(online=True, boot=2, next_sequence=6, oldest_sequence=1))
    assert (ledger.report().totals["in_flight"], ledger.report().totals["unexplained"]) == (6, 0)
    note(ledger, gateway, old[1], old[0])
    assert ledger.report().closes


def test_an_old_will_does_not_take_back_a_newer_state(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    note(ledger, gateway, gateway.frame())
    ledger.note_state(PATH, State(online=True, boot=1, next_sequence=6, oldest_sequence=2))
    ledger.note_state(PATH, State(online=False, boot=1, next_sequence=1, oldest_sequence=None))
    report = ledger.report()
    assert report.totals["frames_in_flight"] == 4
    assert report.gateways[0].online is False


def test_twice_stored_is_negative_and_open(file: Path) -> None:
    """A gateway that gives the same samples a second number is found out by its own counters."""
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    frame = gateway.frame()
    again = replace(frame, header=replace(frame.header, sequence=2))
    note(ledger, gateway, frame, again)
    (row,) = ledger.report().rows
    assert (row.unexplained, row.closes) == (-3, False)


def test_a_rejected_frame_explains_its_samples_once_everything_else_came(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    frames = [gateway.frame() for _ in range(4)]
    note(ledger, gateway, frames[0], frames[3])
    ledger.commit([Receipt(PATH, 1, 2, START_NS, None)])
    assert ledger.report().totals["in_flight"] == 6
    note(ledger, gateway, frames[2])
    (row,) = ledger.report().rows
    assert (row.quarantined, row.in_flight, row.unexplained) == ({"rejected_frame": 3}, 0, 0)
    assert ledger.report().closes


@pytest.mark.parametrize(("interval_s", "short"), [(1.0, 0), (0.5, 27)])
def test_the_catalogues_interval_finds_samples_that_the_gateway_did_not_count(
    file: Path, interval_s: float, short: int
) -> None:
    """30 samples, a second apart; where the birth says two a second, as many are missing after the first frame."""
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1, interval_s=interval_s))
    note(ledger, gateway, *(gateway.frame() for _ in range(10)))
    (row,) = ledger.report().rows
    assert (row.produced, row.expected, row.unexplained) == (30, 30 + short, short)
    assert ledger.report().closes == (short == 0)


def test_streams_that_speak_when_they_like_are_not_held_to_an_interval(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1, interval_s=0.1, scheduled=False))
    note(ledger, gateway, *(gateway.frame() for _ in range(10)))
    assert ledger.report().closes


def test_streams_are_followed_across_epochs_and_boots(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(2))
    note(ledger, gateway, gateway.frame(), gateway.frame())
    gateway.birth = make_birth(2, software="2.0")
    gateway.reboot(2)
    note(ledger, gateway, gateway.frame())
    assert [(row.device, row.stream, row.expected, row.stored) for row in ledger.report().rows] == [
        ("meter", "s0", 9, 9),
        ("meter", "s1", 9, 9),
    ]


def test_hours_tell_what_was_due_in_each_and_old_ones_go(file: Path) -> None:
    ledger, gateway = Ledger(file, keep_hours=2), ScriptedGateway(make_birth(1, scheduled=False))
    for _ in range(4):
        note(ledger, gateway, gateway.frame(2), gateway.frame(1, missed=1))
        gateway.now_ns += 3600 * TICK_NS
    hours = ledger.report(hours=True).hours
    assert [(row.expected, row.stored, row.gaps, row.unexplained) for row in hours] == [(4, 3, {"timeout": 1}, 0)] * 4
    ledger.fold(gateway.now_ns)
    kept = ledger.report(hours=True)
    assert [row.hour for row in kept.hours] == [hours[3].hour]  # the oldest one kept is only the baseline
    assert kept.totals["stored"] == 12


def test_many_boots_are_summed_up_and_still_close(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_BOOTS", 3)
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(1))
    for boot in range(10):
        gateway.reboot(boot)
        note(ledger, gateway, gateway.frame(), gateway.frame(1, missed=1))
        ledger.fold(gateway.now_ns)
    (row,) = ledger.report().rows
    assert (row.expected, row.stored, row.gaps, row.unexplained) == (50, 40, {"timeout": 10}, 0)
    assert ledger.report().closes


def test_a_frame_folded_by_another_process_is_still_known(file: Path) -> None:
    mine, other, gateway = Ledger(file), Ledger(file), ScriptedGateway(make_birth(1))
    frames = [gateway.frame() for _ in range(3)]
    note(mine, gateway, frames[0])
    note(other, gateway, frames[1])
    mine.fold(gateway.now_ns)
    assert note(mine, gateway, frames[1]) == 0
    note(other, gateway, frames[2])
    other.fold(gateway.now_ns)
    assert note(mine, gateway, *frames) == 0
    assert mine.report().totals["stored"] == 9


def test_rows_can_be_chosen(file: Path) -> None:
    ledger, gateway = Ledger(file), ScriptedGateway(make_birth(12))
    note(ledger, gateway, gateway.frame())
    assert [row.stream for row in ledger.report(stream="meter/s1").rows] == ["s1", "s10", "s11"]


def test_random_sequences_of_a_hostile_gateway_do_not_grow_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_RANGES", 10)
    ledger = Ledger(file)
    numbers = random.Random(1).sample(range(0, 1_000_000, 2), 10)
    ledger.commit([Receipt(PATH, 1, number, START_NS, None) for number in numbers])
    assert not ledger.has_room(PATH, 1)
    assert ledger.has_room(PATH, 2)


def test_many_boots_are_folded_a_few_at_a_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that come meanwhile, from another process even, are counted once and by the next fold."""
    monkeypatch.setattr(ledger_module, "FOLD_BOOTS", 2)
    monkeypatch.setattr(ledger_module, "FOLD_PAUSE_S", 0)
    mine, other, gateway = Ledger(file), Ledger(file), ScriptedGateway(make_birth(1))
    for boot in range(5):
        gateway.reboot(boot)
        note(mine if boot % 2 else other, gateway, gateway.frame(2))
    assert mine.fold(gateway.now_ns) == 5
    assert mine.fold(gateway.now_ns) == 0
    late = gateway.frame(2)
    assert note(other, gateway, late) == 1
    assert note(mine, gateway, late) == 0
    assert other.fold(gateway.now_ns) == 1
    assert mine.report().totals["stored"] == 12
    assert mine.report().closes

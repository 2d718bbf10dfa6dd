"""Thinning keeps the books: for every stream readings + thinned is what it was."""

import numpy as np
import pytest
from frame_samples import any_frames, assert_same_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import FrameError
from contract.frame import Counters, Frame, Gap, Header, decode, encode, thin, thin_counted
from contract.readings import ABSENT, Kind, Reason, Table, gap

ALARM, TELEMETRY = 1, 0


def frame(rows: int, *, codes: dict[tuple[int, int], int] | None = None) -> Frame:
    """One table of a telemetry and an alarm stream, whose values are their row."""
    status = np.zeros((rows, 2), dtype=np.uint8)
    for cell, code in (codes or {}).items():
        status[cell] = code
    values = np.repeat(np.arange(rows)[:, None], 2, axis=1)
    table = Table(Kind.INT, np.array([0, 1], dtype=np.int32), np.arange(rows) * 1000, values, status)
    zeros = np.zeros(2, dtype=np.int64)
    counters = Counters(np.array([0, 1], dtype=np.int32), zeros + 50, zeros + 2, zeros, zeros + 1000 * rows)
    return Frame(Header(1, 2, 3, 1000 * rows), (table,), (Gap((0,), 1, 2, 3, Reason.TIMEOUT),), counters)


def readings(found: Frame) -> dict[int, list[object]]:
    """Values by stream."""
    values: dict[int, list[object]] = {}
    for table in found.tables:
        for reading in table.readings():
            values.setdefault(reading.stream, []).append(reading.value)
    return values


def ledger(found: Frame) -> dict[int, int]:
    """Readings, gaps in tables and thinned, by stream."""
    total: dict[int, int] = {}
    for table in found.tables:
        accounted = np.count_nonzero(table.status != ABSENT, axis=0)
        for stream, number in zip(table.streams.tolist(), accounted.tolist(), strict=True):
            total[stream] = total.get(stream, 0) + number
    if found.counters is not None:
        for stream, number in zip(found.counters.streams.tolist(), found.counters.thinned.tolist(), strict=True):
            total[stream] = total.get(stream, 0) + number
    return {stream: number for stream, number in total.items() if number}


def test_every_third_row_of_telemetry_and_every_alarm_stays() -> None:
    found = decode(thin(encode(frame(8)), 3, frozenset({ALARM})))
    assert readings(found) == {TELEMETRY: [0, 3, 6], ALARM: list(range(8))}
    assert found.counters is not None
    assert found.counters.thinned.tolist() == [5, 0]
    assert found.counters.due.tolist() == [50, 50]
    assert found.counters.suppressed.tolist() == [2, 2]
    assert found.gaps == frame(8).gaps
    assert found.header == frame(8).header


def test_rows_that_nobody_needs_go() -> None:
    found = decode(thin(encode(frame(8)), 4, frozenset()))
    assert found.tables[0].times.tolist() == [0, 4000]
    assert found.counters is not None
    assert found.counters.thinned.tolist() == [6, 6]


def test_frames_of_one_row_are_thinned_as_a_whole() -> None:
    """Eight of them keep every second reading, then every fourth, when the phase counts frames."""
    frames = [encode(frame(1)) for _ in range(8)]
    halved = [thin(data, 2, frozenset({ALARM}), phase=number) for number, data in enumerate(frames)]
    kept = [TELEMETRY in readings(decode(data)) for data in halved]
    assert kept == [True, False] * 4
    quartered = [thin(data, 2, frozenset({ALARM}), phase=number >> 1) for number, data in enumerate(halved)]
    assert [TELEMETRY in readings(decode(data)) for data in quartered] == [True, False, False, False] * 2
    assert all(ALARM in readings(decode(data)) for data in quartered)


def test_nothing_of_telemetry_may_stay() -> None:
    found = decode(thin(encode(frame(8)), 0, frozenset({ALARM})))
    assert readings(found) == {ALARM: list(range(8))}
    empty = decode(thin(encode(frame(8)), 0, frozenset()))
    assert empty.tables == ()
    assert empty.counters is not None
    assert empty.counters.thinned.tolist() == [8, 8]


def test_an_explained_gap_in_a_dropped_row_stays() -> None:
    found = decode(thin(encode(frame(4, codes={(1, TELEMETRY): gap(Reason.REFUSED)})), 0, frozenset()))
    assert found.tables[0].times.tolist() == [1000]
    assert found.tables[0].status.tolist() == [[gap(Reason.REFUSED), ABSENT]]
    assert found.counters is not None
    assert found.counters.thinned.tolist() == [3, 4]


def test_what_was_suppressed_is_not_thinned_too() -> None:
    found = decode(thin(encode(frame(4, codes={(1, TELEMETRY): ABSENT})), 4, frozenset()))
    assert found.counters is not None
    assert found.counters.thinned.tolist() == [2, 3]


def test_the_readings_taken_are_those_in_the_books() -> None:
    data = encode(frame(8, codes={(1, TELEMETRY): gap(Reason.REFUSED), (2, TELEMETRY): ABSENT}))
    thinned, taken = thin_counted(data, 4, frozenset({ALARM}))
    assert thinned == thin(data, 4, frozenset({ALARM}))
    counters = decode(thinned).counters
    assert counters is not None
    assert taken == counters.thinned.sum() == 4
    assert thin_counted(data, 1, frozenset()) == (data, 0)


def test_thinning_again_adds_up() -> None:
    data = thin(thin(encode(frame(16)), 2, frozenset()), 2, frozenset())
    assert readings(decode(data))[TELEMETRY] == [0, 4, 8, 12]
    counters = decode(data).counters
    assert counters is not None
    assert counters.thinned.tolist() == [12, 12]


def test_thinning_makes_a_frame_smaller() -> None:
    data = encode(frame(600))
    noisy = decode(data)
    values = np.random.default_rng(3).integers(0, 10_000, (600, 2))
    table = Table(Kind.INT, noisy.tables[0].streams, noisy.tables[0].times, values, noisy.tables[0].status)
    full = encode(Frame(noisy.header, (table,), (), noisy.counters))
    assert len(thin(full, 4, frozenset())) < len(full) / 3
    assert len(thin(full, 4, frozenset({ALARM}))) < len(full) * 0.8


def test_an_estimated_frame_keeps_its_own_status() -> None:
    taken = frame(4)
    data = encode(Frame(Header(1, 2, 3, 4000, estimated=True), taken.tables, (), taken.counters))
    assert thin(data, 1, frozenset()) == data


def test_without_books_nothing_is_thinned() -> None:
    taken = frame(4)
    with pytest.raises(FrameError, match="without counters"):
        thin(encode(Frame(taken.header, taken.tables)), 2, frozenset())
    one = np.zeros(1, dtype=np.int64)
    other = Counters(np.array([9], dtype=np.int32), one, one, one, one)
    with pytest.raises(FrameError, match="without counters"):
        thin(encode(Frame(taken.header, taken.tables, (), other)), 2, frozenset())


@given(any_frames(), st.integers(0, 5), st.frozensets(st.integers(0, 9)))
@settings(max_examples=150, deadline=None)
def test_the_books_close_whatever_is_thinned(taken: Frame, every: int, whole: frozenset[int]) -> None:
    ids = sorted({stream for table in taken.tables for stream in table.streams.tolist()})
    zeros = np.zeros(len(ids), dtype=np.int64)
    counters = Counters(np.array(ids[::-1], dtype=np.int32), zeros + 99, zeros, zeros + 1, zeros)
    full = Frame(taken.header, taken.tables, taken.gaps, counters)
    data = thin(encode(full), every, whole)
    assert ledger(decode(data)) == ledger(full)
    if every == 1:
        assert thin(data, 1, whole) == data
    kept = {stream: values for stream, values in readings(full).items() if stream in whole}
    found = readings(decode(data))
    assert {stream: repr(values) for stream, values in found.items() if stream in whole} == {
        stream: repr(values) for stream, values in kept.items()
    }
    assert_same_frame(decode(encode(decode(data))), decode(data))

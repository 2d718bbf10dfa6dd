"""A frame gives back what went in, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from frame_samples import any_frames, assert_same_frame, assert_same_table
from hypothesis import given, settings

from contract.errors import FrameError
from contract.frame import Counters, Frame, Gap, Header, decode, encode
from contract.readings import GOOD, Kind, Quality, Reason, Table, gap, status

HEADER = Header(boot=0x123456789ABC, sequence=40_000, epoch=0xDEADBEEF, time_base_ns=1_790_000_000_000_000_000)


def table(kind: Kind, values: object, codes: object = None, first: int = 0) -> Table:
    dtype = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_, Kind.TEXT: object}[kind]
    grid: np.ndarray = np.array(values, dtype=dtype)
    rows, columns = grid.shape
    state = np.zeros(grid.shape, dtype=np.uint8) if codes is None else np.array(codes, dtype=np.uint8)
    times = HEADER.time_base_ns - np.arange(rows, dtype=np.int64)[::-1] * 1_000_000_000
    return Table(kind, np.arange(first, first + columns, dtype=np.int32), times, grid, state)


@given(any_frames())
@settings(max_examples=200, deadline=None)
def test_any_frame_comes_back(frame: Frame) -> None:
    assert_same_frame(decode(encode(frame)), frame)


def test_an_empty_frame_is_a_header() -> None:
    data = encode(Frame(HEADER))
    assert len(data) <= 24
    assert_same_frame(decode(data), Frame(HEADER))


def test_one_nan_or_negative_zero_does_not_spoil_a_column_of_decimals() -> None:
    values = np.round(20 + np.arange(200) / 10, 1)[:, None]
    plain = len(encode(Frame(HEADER, (table(Kind.FLOAT, values),))))
    values[[17, 90]] = [[np.nan], [-0.0]]
    spoiled = Frame(HEADER, (table(Kind.FLOAT, values),))
    data = encode(spoiled)
    assert len(data) < plain + 60
    assert_same_frame(decode(data), spoiled)


def test_a_row_of_single_precision_meters_costs_four_bytes_each() -> None:
    """Beside decimals and doubles, whose bits look nothing like theirs."""
    random = np.random.default_rng(5)
    meters = random.normal(230, 3, 300).astype(np.float32).astype(np.float64)
    values = np.stack((np.round(random.normal(20, 2, 300), 1), meters, random.normal(0, 1, 300)), axis=1).reshape(1, -1)
    row = Frame(HEADER, (table(Kind.FLOAT, values),))
    data = encode(row)
    assert len(data) < 300 * (1 + 3.5 + 8)
    assert_same_frame(decode(data), row)


def test_a_missing_value_costs_no_spike() -> None:
    values = np.round(20 + np.arange(200) % 3 / 10, 1)[:, None]
    plain = len(encode(Frame(HEADER, (table(Kind.FLOAT, values),))))
    codes = np.zeros((200, 1), dtype=np.uint8)
    values[50:60], codes[50:60] = 1e300, gap(Reason.TIMEOUT)
    holed = Frame(HEADER, (table(Kind.FLOAT, values, codes),))
    assert len(encode(holed)) < plain + 40
    assert_same_frame(decode(encode(holed)), holed)


@pytest.mark.parametrize("hint", [0, 1, 5, 9, 10, -1])
def test_a_wrong_hint_changes_no_value(hint: int) -> None:
    values = np.array([[0.1, 1.25, 1 / 3], [0.2, 1e16 + 2, 2.0], [0.3, -7.75, 4.5]])
    wanted = table(Kind.FLOAT, values)
    hinted = Table(wanted.kind, wanted.streams, wanted.times, values, wanted.status, np.full(3, hint, dtype=np.int8))
    assert_same_table(decode(encode(Frame(HEADER, (hinted,)))).tables[0], wanted)


def test_decimals_come_back_as_the_hint_for_thinning() -> None:
    found = decode(encode(Frame(HEADER, (table(Kind.FLOAT, [[20.5, 0.25], [20.6, 0.26]]),)))).tables[0]
    assert found.decimals is not None
    assert found.decimals.tolist() == [1, 2]


def test_estimated_makes_good_readings_uncertain_and_touches_no_other() -> None:
    header = Header(1, 2, 3, 0, estimated=True)
    bad, off = status(Quality.BAD, Reason.OUT_OF_RANGE), gap(Reason.TIMEOUT)
    frame = Frame(header, (table(Kind.INT, [[1, 2, 3]], [[GOOD, bad, off]]), table(Kind.INT, [[4]], first=3)))
    first, second = decode(encode(frame)).tables
    doubt = status(Quality.UNCERTAIN, Reason.CLOCK_ESTIMATED)
    assert first.status.tolist() == [[doubt, bad, off]]
    assert second.status.tolist() == [[doubt]]


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    found = decode(encode(Frame(HEADER, (table(Kind.TEXT, [["a\ud800b"]]),))))
    assert found.tables[0].values.tolist() == [["a\ufffdb"]]


def test_tables_of_one_scan_pay_for_their_times_once() -> None:
    ragged = np.cumsum(np.random.default_rng(1).integers(1, 10**9, 100))
    one = table(Kind.INT, np.zeros((100, 1), dtype=np.int64))
    tables = [Table(one.kind, one.streams + at, ragged, one.values, one.status) for at in range(5)]
    alone = len(encode(Frame(HEADER, tuple(tables[:1]))))
    assert alone > 350
    assert len(encode(Frame(HEADER, tuple(tables)))) < alone + 40


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Header(1 << 48, 0, 0, 0)),
        Frame(Header(0, -1, 0, 0)),
        Frame(Header(0, 0, 1 << 32, 0)),
        Frame(Header(0, 0, 0, 1 << 63)),
        Frame(HEADER, (replace(table(Kind.INT, [[1, 2]]), streams=np.array([3, 3], dtype=np.int32)),)),
        Frame(HEADER, (replace(table(Kind.INT, [[1, 2]]), times=np.arange(2)),)),
        Frame(HEADER, (table(Kind.INT, np.zeros((3000, 1000))),)),
        Frame(HEADER, gaps=(Gap((1,), 0, 0, -1, Reason.TIMEOUT),)),
        Frame(HEADER, gaps=(Gap((-1,), 0, 0, 1, Reason.TIMEOUT),)),
        Frame(HEADER, counters=Counters(np.array([1], dtype=np.int32), *(np.array([-1]),) * 4)),
    ],
)
def test_what_no_decoder_takes_is_refused_before_it_is_stored(frame: Frame) -> None:
    with pytest.raises(FrameError):
        encode(frame)

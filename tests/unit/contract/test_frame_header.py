"""What the outbox and the uplink do to a stored frame without opening it."""

from dataclasses import replace

import numpy as np
import pytest
from frame_samples import any_frames, assert_same_frame, books
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contract.errors import FrameError
from contract.frame import Counters, Frame, Gap, Header, decode, encode, peek, redate, with_sequence
from contract.readings import Kind, Quality, Reason, Table, status

S = 1_000_000_000


def undated(rows: int = 3) -> Frame:
    """A frame on CLOCK_BOOTTIME with times everywhere: a table, a gap, counters."""
    times = np.arange(rows, dtype=np.int64) * S
    table = Table(
        Kind.INT, np.array([7], dtype=np.int32), times, np.arange(rows)[:, None], np.zeros((rows, 1), dtype=np.uint8)
    )
    one = np.array([rows], dtype=np.int64)
    counters = Counters(np.array([7], dtype=np.int32), one, one * 0, one * 0, times[-1:] + 5)
    gap = Gap((7,), S, 2 * S, 2, Reason.TIMEOUT)
    return Frame(Header(5, 1, 9, rows * S, undated=True), (table,), (gap,), counters)


@given(any_frames(), st.integers(0, 2**63 - 1))
@settings(max_examples=100, deadline=None)
def test_a_new_sequence_changes_nothing_else(frame: Frame, sequence: int) -> None:
    data = with_sequence(encode(frame), sequence)
    assert peek(data) == replace(frame.header, sequence=sequence)
    assert_same_frame(decode(data), replace(frame, header=peek(data)))
    assert data == encode(replace(frame, header=peek(data)))


@given(any_frames(), st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=100, deadline=None)
def test_dating_moves_every_time_by_the_offset(frame: Frame, offset_ns: int) -> None:
    assume(-(2**63) <= frame.header.time_base_ns + offset_ns < 2**63)
    frame = replace(frame, header=replace(frame.header, undated=True))
    found = decode(redate(encode(frame), offset_ns, estimated=False))
    assert found.header.time_base_ns == frame.header.time_base_ns + offset_ns
    assert not found.header.undated
    for table, before in zip(found.tables, frame.tables, strict=True):
        assert (table.times - np.int64(offset_ns)).tolist() == before.times.tolist()
    for gap, earlier in zip(found.gaps, frame.gaps, strict=True):
        assert (gap.first_ns - earlier.first_ns - offset_ns) % 2**64 == 0
        assert (gap.last_ns - earlier.last_ns - offset_ns) % 2**64 == 0
        assert (gap.streams, gap.count, gap.reason) == (earlier.streams, earlier.count, earlier.reason)


def test_a_dated_frame_is_the_frame_that_was_meant() -> None:
    found = decode(redate(encode(undated()), 1_000 * S + 1, estimated=False))
    assert found.tables[0].times.tolist() == [1_000 * S + 1, 1_001 * S + 1, 1_002 * S + 1]
    assert found.gaps == (Gap((7,), 1_001 * S + 1, 1_002 * S + 1, 2, Reason.TIMEOUT),)
    assert books(found.counters) == [[7], [3], [0], [0], [1_002 * S + 6]]
    assert found.tables[0].status.tolist() == [[0]] * 3


def test_a_guessed_date_makes_readings_uncertain() -> None:
    found = decode(redate(encode(undated()), 5, estimated=True))
    assert found.header.estimated
    assert set(found.tables[0].status.ravel().tolist()) == {status(Quality.UNCERTAIN, Reason.CLOCK_ESTIMATED)}


def test_a_frame_is_dated_once() -> None:
    data = redate(encode(undated()), 5, estimated=False)
    with pytest.raises(FrameError, match="dated already"):
        redate(data, 5, estimated=False)


def test_a_date_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(FrameError):
        redate(encode(undated()), 2**63 - 1, estimated=False)
    with pytest.raises(FrameError):
        with_sequence(encode(undated()), 2**63)


def test_damage_before_a_new_sequence_is_still_damage_after_it() -> None:
    broken = bytearray(encode(undated(rows=400)))
    broken[-3] ^= 4
    with pytest.raises(FrameError, match="damaged"):
        decode(with_sequence(bytes(broken), 123_456))


def test_peek_never_looks_at_the_body() -> None:
    data = encode(undated(rows=400))
    assert peek(data[:24]) == undated(rows=400).header

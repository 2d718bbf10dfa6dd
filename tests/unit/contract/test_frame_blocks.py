"""Columns of integers: every one comes back, smooth ones cost little, and no bytes of a stranger do harm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from contract.errors import FrameError
from contract.frame_blocks import pack_block, unpack_block
from contract.frame_numbers import pack_column, unpack_column
from contract.readings import Ints

INT64 = st.integers(-(2**63), 2**63 - 1)
AT = np.arange(60, dtype=np.int64)
NOISE = AT * 2_654_435_761 % 1021


@st.composite
def columns(draw: st.DrawFn) -> Ints:
    """Columns that are flat, curved, noisy, spiky or anything at all."""
    count, rows = draw(st.integers(1, 6)), draw(st.integers(1, 60))
    at = np.arange(rows, dtype=np.int64)
    found = np.empty((count, rows), dtype=np.int64)
    for column in found:
        power, slope = draw(st.integers(0, 5)), draw(INT64 | st.integers(-3, 3))
        noise = draw(st.sampled_from([0, 1, 3, 300, 2**20, 2**62]))
        column[:] = at**power * np.int64(slope) + draw(npst.arrays(np.int64, rows, elements=st.integers(-noise, noise)))
        if draw(st.booleans()):
            column[draw(st.integers(0, rows - 1))] = draw(INT64)
    return found


@given(columns(), st.binary(max_size=3))
@settings(max_examples=300, deadline=None)
def test_any_columns_come_back(block: Ints, rest: bytes) -> None:
    out = bytearray()
    seams = pack_block(out, block)
    assert seams == sorted(seams)
    assert all(0 < seam <= len(out) for seam in seams)
    found, end = unpack_block(bytes(out) + rest, 0, len(block), block.shape[1], 2)
    assert end == len(out)
    assert found.tolist() == block.tolist()


@given(columns(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_forged_block_is_a_block_or_an_error(block: Ints, data: st.DataObject) -> None:
    out = bytearray()
    pack_block(out, block)
    for _ in range(data.draw(st.integers(1, 3))):
        out[data.draw(st.integers(0, len(out) - 1))] = data.draw(st.integers(0, 255))
    forged = bytes(out[: data.draw(st.integers(0, len(out)))])
    for version in (1, 2):
        try:
            found, end = unpack_block(forged, 0, len(block), block.shape[1], version)
        except FrameError:
            continue
        assert found.shape == block.shape
        assert end <= len(forged)


@pytest.mark.parametrize(
    ("column", "most"),
    [
        (AT * 1_234_567, 16),  # a straight line
        (AT * AT * 100_000 + NOISE % 13, 60 * 8 // 8 + 16),  # its third steps: 8 times the noise
        (AT**3 * 100_000 + NOISE % 13, 60 * 9 // 8 + 24),  # its fourth: 16 times
    ],
)
def test_a_smooth_column_costs_its_noise_alone(column: Ints, most: int) -> None:
    flat = np.zeros((1, 60), dtype=np.int64)
    out, bare = bytearray(), bytearray()
    pack_block(out, np.concatenate((flat, column[None, :])))
    pack_block(bare, np.concatenate((flat, flat)))
    assert len(out) - len(bare) <= most


def test_what_is_noise_lies_in_whole_bytes_first() -> None:
    """Twelve bits a number: eight in a byte for zstd, four behind them."""
    out = bytearray()
    block = np.stack((NOISE * 4, NOISE[::-1] * 4))
    begin, high, low, end = pack_block(out, block)
    assert (high - begin, low - high, end - low) == (0, 120, 60)
    assert bytes(out[high:low]) == ((block - block.min(axis=1)[:, None]) >> 4).astype(np.uint8).tobytes()


@pytest.mark.parametrize("code", [0x00, 0x40, 0x80, 0xC0])
def test_a_column_of_no_bits_is_constant_in_every_mode(code: int) -> None:
    column = bytearray()
    pack_column(column, np.array([-7]))
    column[0] = code
    assert unpack_column(bytes(column), 0, 5)[0].tolist() == [-7] * 5
    assert unpack_column(bytes(column), 0, 500)[0].tolist() == [-7] * 500
    assert unpack_block(bytes([code]) * 3 + column, 0, 3, 4, 1)[0].tolist() == [[-7] * 4] * 3
    mixed = bytearray([code, 0x00, 0x80])
    pack_column(mixed, np.array([5, 6, 7]))
    assert unpack_block(bytes(mixed), 0, 3, 2, 1)[0].tolist() == [[5, 5], [6, 6], [7, 7]]


def test_no_bits_of_second_steps_are_a_straight_line_since_version_2() -> None:
    data = bytearray([0xC0, 0x00, 2])
    pack_column(data, np.array([100, 9]))
    pack_column(data, np.array([-3]))
    found, end = unpack_block(bytes(data), 0, 2, 4, 2)
    assert end == len(data)
    assert found.tolist() == [[100, 97, 94, 91], [9, 9, 9, 9]]


@pytest.mark.parametrize("orders", [b"", b"\x00", b"\x01", b"\x04", b"\x05", b"\xff"])
def test_an_unknown_order_is_refused(orders: bytes) -> None:
    """Four rows have no fourth steps."""
    data = bytearray([0xC0, 0x00]) + orders
    with pytest.raises(FrameError):
        unpack_block(bytes(data + bytes(9) if orders else data), 0, 2, 4, 2)


def test_version_1_knows_no_second_steps() -> None:
    with pytest.raises(FrameError, match="unknown column code"):
        unpack_block(bytes([0xC5, 0x00, 2]) + bytes(30), 0, 2, 4, 1)


def test_high_bytes_that_are_not_there_are_refused() -> None:
    out = bytearray()
    pack_block(out, np.stack((NOISE, NOISE)))
    for end in range(len(out)):
        with pytest.raises(FrameError):
            unpack_block(bytes(out[:end]), 0, 2, 60, 2)

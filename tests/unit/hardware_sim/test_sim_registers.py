import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_sim.registers import Encoding, Image, Order, decode, encode

ORDERS: tuple[Order, ...] = ("ABCD", "CDAB", "BADC", "DCBA")


@pytest.mark.parametrize(
    ("order", "expected"), [("ABCD", "12345678"), ("CDAB", "56781234"), ("BADC", "34127856"), ("DCBA", "78563412")]
)
def test_the_four_orders_are_what_their_names_say(order: Order, expected: str) -> None:
    assert encode(0x12345678, Encoding.UINT32, order).hex() == expected


def test_sixty_four_bits_swap_as_thirty_two_do() -> None:
    assert encode(0x0102030405060708, Encoding.UINT64, "CDAB").hex() == "0708050603040102"


@pytest.mark.parametrize(
    ("value", "encoding", "expected"),
    [
        (230.5, Encoding.FLOAT32, "43668000"),
        (-20.5, Encoding.INT16, "ffec"),
        (-205, Encoding.INT16, "ff33"),
        (1234, Encoding.BCD16, "1234"),
        (98765432, Encoding.BCD32, "98765432"),
        (70_000, Encoding.UINT16, "ffff"),
        (-1, Encoding.UINT16, "0000"),
        (1e9, Encoding.INT16, "7fff"),
        (math.nan, Encoding.INT16, "8000"),
        (math.nan, Encoding.UINT16, "ffff"),
        (math.nan, Encoding.FLOAT32, "7fc00000"),
        (1e300, Encoding.FLOAT32, "7f7fffff"),
    ],
)
def test_values_lie_in_registers_as_documented(value: float, encoding: Encoding, expected: str) -> None:
    assert encode(value, encoding).hex() == expected


@given(st.integers(0, 2**32 - 1), st.sampled_from(ORDERS), st.sampled_from(["uint32", "int32", "bcd32", "uint64"]))
def test_whole_numbers_come_back(value: int, order: Order, name: str) -> None:
    encoding = Encoding(name)
    value %= {"int32": 2**31, "bcd32": 10**8}.get(name, 2**32)
    data = encode(value, encoding, order)
    assert len(data) == 2 * encoding.words
    assert decode(struct.unpack(f">{encoding.words}H", data), encoding, order) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(ORDERS))
def test_floats_come_back(value: float, order: Order) -> None:
    words = struct.unpack(">2H", encode(value, Encoding.FLOAT32, order))
    assert decode(words, Encoding.FLOAT32, order) == value


def test_an_image_has_holes() -> None:
    image = Image(2)
    image.allow(5, 2)
    image.allow(8, 1)
    image.put(6, b"\x12\x34")
    assert image.get(5, 2) == b"\0\0\x12\x34"
    assert image.legal(5, 2)
    assert not image.legal(5, 4)  # 7 is a hole
    assert not image.legal(8, 2)  # beyond the end
    assert not image.legal(0, 1)

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_make import device, scan_of, stream

from contract.readings import GOOD, Reason, gap
from drivers.base import Block, Scan
from drivers.modbus_decode import Decoder, encode
from drivers.modbus_spec import ModbusDevice
from drivers.modbus_terms import REGISTERS, Format, Order


def scan_and_decoder(raw: bytes, *streams: dict[str, Any]) -> tuple[Scan, Block]:
    """A block decoded from `raw`, which holds the registers from address 0."""
    spec = ModbusDevice.model_validate(device(*streams))
    scan = scan_of(spec)
    ordered = sorted(spec.streams, key=scan.streams.index)
    decoder = Decoder(
        [(one, spec.order_of(one)) for one in ordered],
        [(2 * spec.wire(one), 0) for one in ordered],
        scan.n_floats,
        len(raw),
    )
    decoder.buffer[: len(raw)] = raw
    block = Block.empty(scan, 0)
    decoder.decode(block)
    return scan, block


def one_value(raw: bytes, **keys: Any) -> tuple[Any, int]:
    scan, block = scan_and_decoder(raw, stream("s", 0, **keys))
    values = [*block.floats.tolist(), *block.ints.tolist(), *block.texts]
    assert len(values) == len(scan.streams) == 1
    return values[0], int(block.status[0])


# Bytes as they stand in ascending registers, written by hand from each order's name.
BY_HAND = [
    (Order.ABCD, "float32", "42F6E979", 123.456),
    (Order.DCBA, "float32", "79E9F642", 123.456),
    (Order.BADC, "float32", "F64279E9", 123.456),
    (Order.CDAB, "float32", "E97942F6", 123.456),
    (Order.ABCD, "uint32", "01020304", 0x01020304),
    (Order.DCBA, "uint32", "04030201", 0x01020304),
    (Order.BADC, "uint32", "02010403", 0x01020304),
    (Order.CDAB, "uint32", "03040102", 0x01020304),
    (Order.ABCD, "int64", "FFFFFFFFFFFFFFFE", -2),
    (Order.CDAB, "uint64", "0708050603040102", 0x0102030405060708),
    (Order.BADC, "uint64", "0201040306050807", 0x0102030405060708),
    (Order.DCBA, "float64", "000000000000F03F", 1.0),
    (Order.CDAB, "float64", "000000000000" + "3FF0", 1.0),
    (Order.ABCD, "int16", "FF33", -205),
    (Order.BADC, "int16", "33FF", -205),
    (Order.CDAB, "int16", "FF33", -205),
    (Order.ABCD, "bcd16", "9876", 9876),
    (Order.CDAB, "bcd32", "56781234", 12345678),
    (Order.ABCD, "bool", "0000", 0),
    (Order.ABCD, "bool", "FF00", 1),
]


@pytest.mark.parametrize(("order", "form", "raw", "value"), BY_HAND)
def test_every_order_reads_as_its_name_says(order: Order, form: str, raw: str, value: float) -> None:
    found, status = one_value(bytes.fromhex(raw), format=form, order=order)
    assert found == pytest.approx(value, rel=1e-7)
    assert status == GOOD


@given(st.data(), st.sampled_from(list(Order)), st.sampled_from([form for form in Format if form in REGISTERS]))
def test_what_is_written_is_read(data: st.DataObject, order: Order, form: Format) -> None:
    size = 16 * REGISTERS[form]
    value: Any
    if form is Format.BOOL:
        value = data.draw(st.integers(0, 1))
    elif form in (Format.FLOAT32, Format.FLOAT64):
        value = data.draw(st.floats(width=32 if form is Format.FLOAT32 else 64, allow_nan=False))
    elif form in (Format.BCD16, Format.BCD32):
        value = data.draw(st.integers(0, 10 ** (size // 4) - 1))
    elif form.value.startswith("u"):
        value = data.draw(st.integers(0, min(2**size, 2**63) - 1))
    else:
        value = data.draw(st.integers(-(2 ** (size - 1)), 2 ** (size - 1) - 1))
    spec = ModbusDevice.model_validate(device(stream("s", 0, format=form.value, order=order.value)))
    raw = encode(spec.streams[0], order, value)
    assert one_value(raw, format=form.value, order=order.value) == (value, GOOD)


def test_bits_are_cut_out_of_the_value_after_its_order() -> None:
    raw = bytes.fromhex("0000 8001".replace(" ", ""))
    assert one_value(raw, format="uint32", bit=15)[0] == 1
    assert one_value(raw, format="uint32", bit=14)[0] == 0
    assert one_value(raw, format="uint32", bits=[0, 15])[0] == 0x8001
    assert one_value(raw, format="uint32", order="CDAB", bits=[16, 31])[0] == 0x8001
    assert one_value(b"\xff" * 8, format="uint64", bits=[0, 62])[0] == 2**63 - 1
    assert one_value(b"\x12\x34", bits=[4, 11], type="float")[0] == 0x23


def test_integers_that_are_to_be_floats_land_in_floats() -> None:
    scan, block = scan_and_decoder(
        bytes.fromhex("FF33 0222 FFFF FFFF FFFF FFFF".replace(" ", "")),
        stream("t", 0, format="int16", type="float"),
        stream("h", 1, scale=0.1),
        stream("big", 2, format="uint64", type="float"),
        stream("n", 3, allow_overlap=True),
    )
    assert [one.name for one in scan.streams] == ["t", "h", "big", "n"]
    assert block.floats.tolist() == [-205.0, 546.0, float(2**64 - 1)]
    assert block.ints.tolist() == [0xFFFF]


@pytest.mark.parametrize(
    ("raw", "keys"),
    [
        ("8000000000000000", {"format": "uint64"}),
        ("12A4", {"format": "bcd16"}),
        ("F0000000", {"format": "bcd32"}),
        ("C328", {"format": "string", "length": 1}),
    ],
)
def test_what_is_no_value_of_its_type_is_a_gap(raw: str, keys: dict[str, Any]) -> None:
    assert one_value(bytes.fromhex(raw), **keys)[1] == gap(Reason.UNDECODABLE)


@pytest.mark.parametrize("raw", ["7FC00000", "FFC00001", "7FA00000", "7F800000", "FF800000"])
def test_nan_and_infinity_pass_for_the_pipeline_to_judge(raw: str) -> None:
    value, status = one_value(bytes.fromhex(raw), format="float32")
    assert not math.isfinite(value)
    assert status == GOOD


def test_strings_end_at_nul_and_lose_their_padding() -> None:
    assert one_value(b"SDM\0xx", format="string", length=3)[0] == "SDM"
    assert one_value("北京  ".encode(), format="string", length=4)[0] == "北京"
    assert one_value(b"DS0M", format="string", length=2, order="BADC")[0] == "SDM0"


def test_a_mixture_of_everything_lands_in_its_places() -> None:
    raw = struct.pack(">fHhI8sH", 1.5, 7, -7, 99, b"pump\0\0\0\0", 0x0900)
    scan, block = scan_and_decoder(
        raw,
        stream("text", 6, format="string", length=4),
        stream("f", 0, format="float32"),
        stream("u", 2),
        stream("i", 3, format="int16"),
        stream("l", 4, format="uint32", type="float"),
        stream("on", 10, bit=8),
        stream("off", 10, bit=9),
    )
    assert {
        one.name: value for one, value in zip(scan.streams, [*block.floats, *block.ints, *block.texts], strict=True)
    } == {
        "f": 1.5,
        "l": 99.0,
        "u": 7,
        "i": -7,
        "on": 1,
        "off": 0,
        "text": "pump",
    }
    assert np.all(block.status == GOOD)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        ({}, 65_536, "does not fit uint16"),
        ({}, 1.5, "whole number"),
        ({}, float("nan"), "whole number"),
        ({}, "x", "expected a number"),
        ({"bit": 1}, True, "bit field"),
        ({"format": "bcd16"}, 10_000, "expected 0 to 9999"),
        ({"format": "float32"}, 1e39, "does not fit float32"),
        ({"format": "string", "length": 1}, "abc", "at most 2 bytes"),
    ],
)
def test_a_value_that_does_not_fit_is_not_written(keys: dict[str, Any], value: Any, words: str) -> None:
    spec = ModbusDevice.model_validate(device(stream("s", 0, **keys)))
    with pytest.raises(ValueError, match=words):
        encode(spec.streams[0], Order.ABCD, value)

"""Any bytes are a frame or a FrameError, in bounded memory and time."""

import binascii
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from frame_samples import any_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import FrameError
from contract.frame import Frame, Header, decode, encode, peek, thin, with_sequence
from contract.frame_numbers import put_varint
from contract.readings import Kind, Table

PLAIN = bytes.fromhex("02") + bytes(10) + bytes(8) + b"\x05"
"""An uncompressed header of version 2 with the sequence 5."""
OLD = b"\x01" + PLAIN[1:]
"""The same of version 1."""


def sealed(body: bytes, header: bytes = PLAIN) -> bytes:
    """The body with a check that matches, so that it is the parser that has to refuse it."""
    if len(body) <= 254:
        check, size = binascii.crc_hqx(header, 0xFFFF) * 0x9E3779B1 % 2**16 ^ binascii.crc_hqx(body, 0xFFFF), 2
    else:
        check, size = zlib.crc32(header) * 0x9E3779B1 % 2**32 ^ zlib.crc32(body), 4
    return header + check.to_bytes(size, "big") + body


def opened(data: bytes) -> bytes:
    """The body of a frame as it lies, without header and check."""
    at = 17 if data[0] & 0x80 else 19
    while data[at] & 0x80:
        at += 1
    rest = data[at + 1 :]
    body = rest[2:] if len(rest) <= 256 else rest[4:]
    if data[0] & 0x40:
        tool = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
        body = tool.decompress(body)
    return body


def answers(data: bytes) -> bool:
    """Whether it is a frame; whatever else happens is a failure of the test."""
    try:
        decode(data)
    except FrameError:
        return False
    return True


def varints(*numbers: int) -> bytes:
    out = bytearray()
    for number in numbers:
        put_varint(out, number)
    return bytes(out)


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_noise(data: bytes) -> None:
    assert not answers(data)


@given(st.binary(max_size=300), st.sampled_from([0x01, 0x07, 0x7F, 0x81, 0xFF]), st.integers(0, 255))
@settings(max_examples=250, deadline=None)
def test_noise_behind_a_check_that_matches(noise: bytes, flags: int, mark: int) -> None:
    answers(sealed(bytes([flags, mark]) + noise))
    answers(sealed(bytes([flags, mark]) + noise, OLD))


@given(any_frames(), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_damaged_frame_is_noticed(frame: Frame, data: st.DataObject) -> None:
    good = encode(frame)
    at = data.draw(st.integers(0, len(good) - 1))
    broken = bytearray(good)
    broken[at] ^= data.draw(st.integers(1, 255))
    assert not answers(bytes(broken))
    assert not answers(good[: data.draw(st.integers(0, len(good) - 1))])


@given(any_frames(), st.data())
@settings(max_examples=250, deadline=None)
def test_a_forged_frame_is_a_frame_or_an_error(frame: Frame, data: st.DataObject) -> None:
    body = bytearray(opened(encode(frame)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    start, end = data.draw(st.integers(0, 3)), data.draw(st.integers(0, len(body)))
    forged = sealed(bytes(body[: end + start] if start else body))
    if answers(forged):
        assert answers(encode(decode(forged)))
    answers(sealed(forged[len(PLAIN) + 2 :], OLD))


def test_a_body_with_bytes_left_over_is_refused() -> None:
    assert answers(sealed(b"\x00"))
    assert not answers(sealed(b"\x00\x00"))


def test_any_two_bits_of_a_live_frame() -> None:
    table = Table(
        Kind.INT,
        np.arange(3, dtype=np.int32),
        np.array([-5]),
        np.array([[7, 300, 9]]),
        np.zeros((1, 3), dtype=np.uint8),
    )
    good = encode(Frame(Header(1, 2, 3, 0), (table,)))
    whole = int.from_bytes(good, "big")
    missed = 0
    for one in range(len(good) * 8 - 8):
        for other in range(one):
            missed += answers((whole ^ 1 << one ^ 1 << other).to_bytes(len(good), "big"))
    assert missed <= 3


def tables(mark: int, *numbers: int) -> bytes:
    """A body whose flags are those of tables alone, up to the shape's `numbers` behind the first table's mark."""
    return bytes([0x01, mark]) + varints(*numbers)


def bombs(*times: int) -> dict[str, tuple[bytes, str]]:
    """Bodies that ask for more room than there is, and why each is refused.

    times: the number of the first table's time column, where it is written.
    """
    return {
        "rows": (tables(0xE0, *times, 2**40), "2097152 is the most"),
        "streams": (tables(0xE0, *times, 1, 0, 2**40), "2097152 is the most"),
        "cells that cost no bytes": (tables(0xE0, *times, 4_000, 3, 4_000) + bytes(9), "values in a frame"),
        "texts": (tables(0xE2, *times, 1, 0, 1, 2**30), "65536 is the most"),
        "gaps": (varints(0x02, 2**40, 0), "65536 is the most"),
        "sets of gaps": (varints(0x02, 1, 60_000) + varints(2_000_000) * 60_000, "values in a frame"),
        "counters": (varints(0x24, 2**40), "2097152 is the most"),
        "tables": (b"\x01" + varints(0x60, *times, 1, 0, 0) + varints(0x70, 0) * 30_000, "more than 20000 tables"),
        "an endless number": (tables(0xE0, *times) + b"\xff" * 100, "does not end"),
    }


BOMBS = {
    **{f"{name}, version 1": (OLD, *bomb) for name, bomb in bombs(0).items()},
    **{f"{name}, version 2": (PLAIN, *bomb) for name, bomb in bombs().items()},
    "apart, version 1": (OLD, tables(0xE3, 0, 1, 0, 1, 2**30), "1 is the most"),
    "apart, version 2": (PLAIN, tables(0xE3, 1, 0, 1, 1, 0, 1, 2**30), "1 is the most"),
    "classes": (PLAIN, tables(0xE3, 1, 0, 1, 2**30), "79 is the most"),
    "streams of a class": (PLAIN, tables(0xE3, 1, 0, 1, 1, 0, 2**30), "1 is the most"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_without_room_being_made_for_it(name: str) -> None:
    header, body, why = BOMBS[name]
    data = sealed(body, header)
    tracemalloc.start()
    with pytest.raises(FrameError, match=why):
        decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


def test_doubles_are_of_the_classes_that_are_listed() -> None:
    two = tables(0xE3, 1, 0, 2)
    of_class_0 = bytes([0, 0, 0, 0, 0])
    """None apart; the values, as one column; the classes, as one column."""
    assert answers(sealed(two + bytes([1, 3, 2]) + of_class_0))
    for classes in (b"\x00", b"\x01\x03\x01", b"\x02\x03\x02\x01\x01", b"\x01\x0a\x02", b"\x01\x50\x02"):
        assert not answers(sealed(two + classes + of_class_0))
    assert not answers(sealed(two + bytes([1, 3, 2, 0, 0, 0, 0, 2])))


def test_version_1_has_no_columns_apart() -> None:
    assert answers(sealed(b"\x80"))
    with pytest.raises(FrameError, match="unknown flags"):
        decode(sealed(b"\x80", OLD))


def test_a_zip_bomb_is_refused_by_its_declared_size() -> None:
    tool = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=1
        )
    )
    bomb = tool.compress(bytes(200_000_000))
    header = bytes([0x42]) + PLAIN[1:]
    with pytest.raises(FrameError, match="33554432 is the most"):
        decode(sealed(bomb, header))


def test_the_largest_frame_stays_within_its_memory() -> None:
    rows, columns = 1000, 1000
    values = np.random.default_rng(1).integers(-(2**62), 2**62, (rows, columns))
    status = np.zeros(values.shape, dtype=np.uint8)
    big = Table(Kind.INT, np.arange(columns, dtype=np.int32), np.arange(rows), values, status)
    data = encode(Frame(Header(1, 2, 3, 0), (big,)))
    assert len(data) > 7_000_000
    tracemalloc.start()
    decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize(
    "call", [peek, decode, lambda data: with_sequence(data, 1), lambda data: thin(data, 2, frozenset())]
)
@pytest.mark.parametrize("data", [b"", b"\x01", b"\x03" + bytes(40), b"\x81" + bytes(10) + b"\x7f" * 6 + bytes(9)])
def test_every_door_refuses_what_has_no_header(call: object, data: bytes) -> None:
    with pytest.raises(FrameError):
        call(data)  # type: ignore[operator]

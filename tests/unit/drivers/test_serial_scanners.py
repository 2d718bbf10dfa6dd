"""Bytes in, messages out: cut anywhere, with noise between, never a crash, never a lost good message."""

import itertools
import struct
from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.serial_binary import CHECKSUMS, BinaryFormat, FrameScanner
from drivers.serial_text import CsvLines, LineScanner, NmeaLines, RegexLines, parse_nmea, transducer_value, unescape

PMS = BinaryFormat.model_validate({"start": "42 4D 00 1C", "length": 32, "checksum": {"kind": "sum16"}})
VARIABLE = BinaryFormat.model_validate(
    {"start": "AA", "length": {"at": 1, "adds": 3}, "checksum": {"kind": "xor8"}, "max_frame_bytes": 40}
)


def pms_frame(words: list[int]) -> bytes:
    body = b"\x42\x4d\x00\x1c" + struct.pack(">13H", *words)
    return body + struct.pack(">H", sum(body) & 0xFFFF)


def variable_frame(payload: bytes) -> bytes:
    body = bytes([0xAA, len(payload)]) + payload
    return body + bytes([reduce(xor, body)])


def nmea(body: str) -> bytes:
    return f"${body}*{reduce(xor, body.encode()):02X}\r\n".encode()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
    return [data[low:high] for low, high in itertools.pairwise(edges)]


payloads = st.binary(max_size=30)
noise = st.binary(max_size=60)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.tuples(noise.map(lambda data: data.replace(b"\xaa", b"")), payloads), max_size=8), cuts)
def test_every_frame_after_noise_without_a_start_byte_is_found(
    parts: list[tuple[bytes, bytes]], where: list[int]
) -> None:
    stream = b"".join(garbage + variable_frame(payload) for garbage, payload in parts)
    scanner = FrameScanner(VARIABLE)
    found = [message for chunk in cut(stream, where) for message, _ in scanner.feed(chunk)]
    assert found == [variable_frame(payload) for _, payload in parts]
    assert scanner.garbage_bytes == sum(len(garbage) for garbage, _ in parts)
    assert scanner.bad_checksums == 0


@given(st.lists(st.one_of(noise, payloads.map(variable_frame)), max_size=10).map(b"".join), cuts)
def test_any_bytes_give_the_same_frames_however_they_are_cut(stream: bytes, where: list[int]) -> None:
    whole, parts = FrameScanner(VARIABLE), FrameScanner(VARIABLE)
    once = [message for message, _ in whole.feed(stream)]
    cut_up = [message for chunk in cut(stream, where) for message, _ in parts.feed(chunk)]
    assert once == cut_up
    assert (whole.garbage_bytes, whole.bad_checksums) == (parts.garbage_bytes, parts.bad_checksums)
    assert sum(map(len, once)) + whole.garbage_bytes + whole.pending == len(stream)
    assert whole.pending < VARIABLE.max_frame_bytes


@given(st.binary(max_size=3), st.lists(st.integers(0, 65535), min_size=13, max_size=13))
def test_start_bytes_in_noise_do_not_lose_the_frame_that_follows(tail: bytes, words: list[int]) -> None:
    scanner = FrameScanner(PMS)
    good = pms_frame(words)
    found = [message for message, _ in scanner.feed(b"\x42\x4d\x00\x1c" + tail + good + good)]
    assert good in found


def test_a_frame_behind_a_false_start_is_given_when_the_line_falls_silent() -> None:
    scanner = FrameScanner(VARIABLE)
    good = variable_frame(b"\x01\x02")
    assert scanner.feed(b"\xaa\x20" + good) == []  # announces 35 bytes that never come
    assert [message for message, _ in scanner.idle()] == [good]
    assert scanner.garbage_bytes == 2
    assert scanner.pending == 0


def test_silence_within_a_frame_loses_nothing() -> None:
    scanner = FrameScanner(VARIABLE)
    good = variable_frame(b"\x01\x02\x03")
    assert scanner.feed(good[:3]) == []
    assert scanner.idle() == []
    assert [message for message, _ in scanner.feed(good[3:])] == [good]


def test_a_wrong_checksum_is_counted_and_its_bytes_are_garbage() -> None:
    scanner = FrameScanner(PMS)
    broken = bytearray(pms_frame(list(range(13))))
    broken[10] ^= 1
    assert scanner.feed(bytes(broken)) == []
    assert (scanner.bad_checksums, scanner.garbage_bytes) == (1, 32)


def test_an_impossible_length_is_garbage_at_once() -> None:
    scanner = FrameScanner(VARIABLE)
    assert scanner.feed(b"\xaa\xff") == []
    assert (scanner.pending, scanner.garbage_bytes) == (0, 2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # The check values of the CRC catalogue (reveng) for b"123456789"; the sums by hand: 477 = 0x1DD.
        ("crc16-modbus", 0x4B37),
        ("crc16-ccitt", 0x29B1),
        ("crc16-xmodem", 0x31C3),
        ("sum8", 0xDD),
        ("sum8-negated", 0x23),
        ("sum16", 0x1DD),
        ("xor8", 0x31),
    ],
)
def test_checksums_have_their_published_check_values(kind: str, expected: int) -> None:
    assert {str(name): function for name, function in CHECKSUMS.items()}[kind](b"123456789") == expected


def test_a_checksum_over_part_of_the_frame() -> None:
    # MH-Z19 carbon dioxide sensor, answer to command 0x86: the sum leaves the first byte out, and is negated.
    form = BinaryFormat.model_validate(
        {"start": "FF 86", "length": 9, "checksum": {"kind": "sum8-negated", "over": [1, 8]}}
    )
    answer = bytes.fromhex("FF 86 02 60 47 00 00 00 D1")
    assert [message for message, _ in FrameScanner(form).feed(answer)] == [answer]


@given(
    st.lists(
        st.tuples(noise.map(lambda data: data.replace(b"$", b"").replace(b"\n", b"")), st.integers(0, 359)), max_size=8
    ),
    cuts,
)
def test_every_sentence_after_noise_is_found(parts: list[tuple[bytes, int]], where: list[int]) -> None:
    stream = b"".join(garbage + nmea(f"WIMWV,{angle},R,0.1,M,A") for garbage, angle in parts)
    scanner = LineScanner(NmeaLines(kind="nmea"))
    found = [fields for chunk in cut(stream, where) for fields, _ in scanner.feed(chunk)]
    assert [fields[1] for fields in found] == [str(angle) for _, angle in parts]
    assert scanner.garbage_bytes == sum(len(garbage) for garbage, _ in parts)


FORMS = [
    NmeaLines(kind="nmea", max_line_bytes=32),
    RegexLines(kind="regex", pattern=r"T=(?P<t>[-+.\d]+)", max_line_bytes=16),
    CsvLines(kind="csv", columns=("a", "b"), terminator="\r\n", max_line_bytes=16),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
@given(
    stream=st.lists(
        st.one_of(
            st.binary(max_size=40), st.sampled_from([b"T=1.5\n", b"1,2\r\n", b"\r", b'"a,\r\n', nmea("WIXDR,C,1,C,0")])
        ),
        max_size=12,
    ).map(b"".join),
    where=cuts,
)
def test_any_bytes_give_the_same_lines_however_they_are_cut(
    form: NmeaLines | RegexLines | CsvLines, stream: bytes, where: list[int]
) -> None:
    whole, parts = LineScanner(form), LineScanner(form)
    once = [fields for fields, _ in whole.feed(stream)]
    assert [fields for chunk in cut(stream, where) for fields, _ in parts.feed(chunk)] == once
    assert (whole.garbage_bytes, whole.bad_checksums) == (parts.garbage_bytes, parts.bad_checksums)
    assert whole.pending == parts.pending <= form.max_line_bytes + 1


def test_an_overlong_line_is_dropped_and_the_next_one_is_read() -> None:
    scanner = LineScanner(CsvLines(kind="csv", columns=("a",), max_line_bytes=8))
    assert [fields["a"] for fields, _ in scanner.feed(b"x" * 1_000_000 + b"\n7\n")] == ["7"]
    assert scanner.garbage_bytes == 1_000_001


def test_the_rest_of_a_line_that_was_under_way_is_no_value() -> None:
    scanner = LineScanner(CsvLines(kind="csv", columns=("a", "b")))
    scanner.begin_mid_line()
    found = scanner.feed(b"2.5,7\n22.5,7\n")  # the first was 12.5,7
    assert [fields["a"] for fields, _ in found] == ["22.5"]


def test_how_much_came_after_each_line_is_told() -> None:
    scanner = LineScanner(CsvLines(kind="csv", columns=("a",)))
    assert [after for _, after in scanner.feed(b"1\n22\n3")] == [4, 1]


@pytest.mark.parametrize(
    "line",
    [
        # WXT530 Series User Guide M211840EN: the answers to the MWV and XDR queries, with their printed checksums.
        b"$WIMWV,282,R,0.1,M,A*37",
        b"$WIMWV,39,R,1.3,M,A*06",
        b"$WIXDR,V,0.02,M,0,Z,30,s,0,R,2.7,M,0,V,0.0,M,1,Z,0,s,1,R,0.0,M,1,R,6.3,M,2,R,0.0,M,3*51",
        b"$--WIQ,MWV*2F",
        b"$--WIQ,XDR*2D",
    ],
)
def test_sentences_of_the_manual_are_valid(line: bytes) -> None:
    assert parse_nmea(line) is not None


def test_a_sentence_with_a_wrong_checksum_is_counted() -> None:
    scanner = LineScanner(NmeaLines(kind="nmea", checksum="optional"))
    assert scanner.feed(b"$WIMWV,282,R,0.1,M,A*38\r\n") == []
    assert scanner.bad_checksums == 1
    assert len(scanner.feed(b"$WIMWV,282,R,0.1,M,A\r\n")) == 1  # none at all is allowed here


def test_transducers_are_found_by_type_and_id() -> None:
    fields = parse_nmea(nmea("WIXDR,C,23.3,C,0,C,24.0,C,1,H,50.1,P,0,P,1009.5,H,0"))
    assert fields is not None
    assert transducer_value(fields, "C", "1") == ("24.0", "C")
    assert transducer_value(fields, "P", "0") == ("1009.5", "H")
    assert transducer_value(fields, "P", "1") is None


def test_quoted_columns_and_runs_of_spaces() -> None:
    quoted = LineScanner(CsvLines(kind="csv", columns=("time", "value")))
    assert quoted.feed(b'"2024-01-01, 00:00",3\r\n')[0].message["value"] == "3"
    spaced = LineScanner(CsvLines(kind="csv", separator=" ", columns=("a", "b", "c")))
    assert spaced.feed(b"  1   -2.5\t+3\r\n")[0].message["b"] == "-2.5"


def test_escapes_in_requests_and_terminators() -> None:
    assert unescape(r"0R1\r\n") == "0R1\r\n"
    assert unescape(r"\x02A\\") == "\x02A\\"
    with pytest.raises(ValueError, match=r"unknown escape '\\\\q'"):
        unescape(r"\q")


@pytest.mark.parametrize("pattern", ["(", "no group"])
def test_a_pattern_that_can_give_no_value_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        RegexLines(kind="regex", pattern=pattern)

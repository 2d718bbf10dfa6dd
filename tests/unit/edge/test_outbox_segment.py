"""The segment format: any damage costs what was damaged, and reading takes any bytes."""

import time

from hypothesis import given
from hypothesis import strategies as st
from outbox_kit import START_NS

from contract.frame import Header
from edge.outbox_segment import (
    FILE_BYTES,
    MARKER,
    RECORD_BYTES,
    RecordType,
    file_header,
    payload_in,
    record,
    scan,
)

# A segment of format 1 with one record of each type. Every later version must read it.
GOLDEN = bytes.fromhex(
    "574e4f5554424f580100000001000000000000007bad2f7df5574e520500000001000000000000000000000000000000"
    "00000000000000000000000000010000922a1b4a2bccd92b626f6f6b73f5574e52050000000100000000000000070000"
    "00000000000000f323845bd7180900000001020000cd3cf8b51c4e039b6672616d65f5574e5200000000050000000000"
    "00000000000000000000000000000000000000000000000300000000000000dd7fe6"
)
PAYLOADS = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


def segment(payloads: list[bytes]) -> tuple[bytes, list[int]]:
    """A segment of these frames, and where each record begins."""
    parts, starts = [file_header(1), record(RecordType.STATE, 1, b"books")], []
    for number, payload in enumerate(payloads):
        starts.append(sum(map(len, parts)))
        parts.append(record(RecordType.FRAME, number + 1, payload))
    return b"".join(parts), starts


def frames(data: bytes) -> dict[int, bytes]:
    found = scan(data)
    return {
        int(head["sequence"]): data[offset : offset + int(head["length"])]
        for head, offset in zip(found.heads, found.offsets.tolist(), strict=True)
        if head["type"] == RecordType.FRAME
    }


def test_the_format_on_disk_does_not_change() -> None:
    found = scan(GOLDEN)
    assert (found.version, found.damaged) == (1, [])
    assert found.heads["type"].tolist() == [RecordType.STATE, RecordType.FRAME, RecordType.SPENT]
    assert found.heads["sequence"].tolist() == [1, 1, 5]
    [head] = found.heads[1:2]
    assert (head["boot"], head["time_ns"], head["epoch"], head["undated"]) == (7, START_NS, 9, True)
    made = file_header(1) + record(RecordType.STATE, 1, b"books")
    made += record(RecordType.FRAME, 1, b"frame", Header(7, 1, 9, START_NS, undated=True))
    assert made + record(RecordType.SPENT, 5, b"") == GOLDEN


@given(PAYLOADS)
def test_what_was_written_is_read(payloads: list[bytes]) -> None:
    data, _ = segment(payloads)
    found = scan(data)
    assert (found.version, found.damaged) == (1, [])
    assert list(frames(data).values()) == payloads


@given(st.binary(max_size=400))
def test_any_bytes_are_records_and_damage_without_a_gap(data: bytes) -> None:
    found = scan(data)
    covered = int((found.heads["length"] + RECORD_BYTES).sum()) + sum(d.end - d.start for d in found.damaged)
    assert covered == len(data) - (FILE_BYTES if found.version is not None else 0)


@given(PAYLOADS, st.data())
def test_a_file_cut_anywhere_keeps_every_whole_record_before_the_cut(
    payloads: list[bytes], data: st.DataObject
) -> None:
    content, starts = segment(payloads)
    cut = data.draw(st.integers(FILE_BYTES, len(content)))
    ends = [*starts[1:], len(content)]
    whole = [number + 1 for number, end in enumerate(ends) if end <= cut]
    assert list(frames(content[:cut])) == whole


@given(PAYLOADS, st.data())
def test_one_flipped_bit_costs_at_most_one_frame(payloads: list[bytes], data: st.DataObject) -> None:
    content, _ = segment(payloads)
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    found = frames(bytes(flipped))
    assert len(found) >= len(payloads) - 1
    assert all(payloads[sequence - 1] == payload for sequence, payload in found.items())


def test_a_file_full_of_false_markers_is_read_in_linear_time() -> None:
    began = time.process_time()
    data = MARKER * 500_000
    assert scan(data).damaged == [(0, len(data))]
    assert time.process_time() - began < 5


def test_a_record_is_only_taken_for_the_frame_that_was_asked_for() -> None:
    data = record(RecordType.FRAME, 5, b"payload")
    assert payload_in(data, 5) == b"payload"
    assert payload_in(data, 6) is None
    assert payload_in(data[:-1], 5) is None
    assert payload_in(b"", 5) is None

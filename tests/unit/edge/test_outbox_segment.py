"""The segment format: any damage costs what was damaged, and reading takes any bytes."""

import time

from hypothesis import given
from hypothesis import strategies as st

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

"""Acknowledgements: the only thing that frees a gateway's disk, so a wrong one must never be taken for a right one."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.ack import MAX_BYTES, Ack, decode, encode, ranges
from contract.errors import FrameError

SEQUENCES = st.integers(0, 2**63 - 1)


@given(
    st.integers(0, 2**48 - 1),
    st.lists(st.tuples(SEQUENCES, SEQUENCES).map(sorted).map(tuple), max_size=5),
    st.lists(st.tuples(SEQUENCES, st.text(max_size=20)), max_size=5),
    st.lists(st.integers(0, 2**32 - 1), max_size=5),
)
def test_an_acknowledgement_comes_back(
    boot: int, stored: list[tuple[int, int]], rejected: list[tuple[int, str]], epochs: list[int]
) -> None:
    ack = Ack(boot, stored, rejected, epochs)
    assert decode(encode(ack)) == ack


@given(st.binary(max_size=200))
def test_noise_is_an_error_of_its_own(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"boot": "1"}',
        b'{"boot": 1.5}',
        b'{"boot": true}',
        b'{"boot": 1, "stored": [[5, 4]]}',
        b'{"boot": 1, "stored": [[-1, 4]]}',
        b'{"boot": 1, "stored": [[1]]}',
        b'{"boot": 1, "stored": [[1, 2, 3]]}',
        b'{"boot": 1, "stored": [[1, 1e400]]}',
        b'{"boot": 1, "rejected": [["1", "why"]]}',
        b'{"boot": 1, "rejected": [[1, "\xff"]]}',
        b'{"boot": 1, "extra": 1}',
        b'{"boot": 1} {"boot": 2}',
        b'{"boot": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"boot": 1, "stored": [' + b" " * MAX_BYTES + b"]}",
    ],
)
def test_a_wrong_acknowledgement_frees_nothing(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode(data)


@given(st.lists(st.integers(0, 60)))
def test_ranges_name_exactly_the_sequences(sequences: list[int]) -> None:
    found = ranges(sequences)
    assert [number for low, high in found for number in range(low, high + 1)] == sorted(set(sequences))
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(found))


def test_ten_thousand_sequences_in_a_row_are_one_range() -> None:
    assert ranges(range(10_000)) == [(0, 9_999)]
    assert len(encode(Ack(2**48 - 1, ranges(range(10_000))))) < 100

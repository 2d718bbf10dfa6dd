import numpy as np
from cloud_frames import ScriptedGateway, make_birth
from hypothesis import given
from hypothesis import strategies as st

from cloud.ledger_book import Book, Quarantined, merge, receipt, unpack
from contract.readings import Ints

int64s = st.integers(-(2**63), 2**63 - 1)
small = st.integers(0, 300)


@given(st.lists(st.tuples(*[small | int64s] * 10), max_size=5), st.lists(st.tuples(*[small | int64s] * 3), max_size=5))
def test_packing_is_exact(rows: list[tuple[int, ...]], explained: list[tuple[int, ...]]) -> None:
    book = Book(np.array(rows, dtype=np.int64).reshape(-1, 10), np.array(explained, dtype=np.int64).reshape(-1, 3))
    again = unpack(book.pack())
    assert again.rows.tolist() == book.rows.tolist()
    assert again.explained.tolist() == book.explained.tolist()


def test_a_receipt_costs_few_bytes_a_stream() -> None:
    gateway = ScriptedGateway(make_birth(100))
    rows_of: Ints = np.arange(100, dtype=np.int64) + 1000
    book = receipt(gateway.frame(), rows_of, [(rows_of, np.full(100, 3, dtype=np.int64))], [])
    assert len(book.pack()) < 250


@given(st.permutations(range(6)), st.booleans())
def test_the_quick_way_and_the_sorting_way_agree(ids: list[int], refused: bool) -> None:  # noqa: FBT001
    """Ledger ids in any order, a frame with and without gaps; a quarantined reading takes the sorting way."""
    gateway = ScriptedGateway(make_birth(6))
    rows_of: Ints = np.array(ids, dtype=np.int64)
    frame = gateway.frame(2, missed=int(refused))
    kept = [(rows_of, np.full(6, 2, dtype=np.int64))]
    book = receipt(frame, rows_of, kept, [(0, Quarantined.UNDATED, 1)] if refused else [])
    assert book.streams.tolist() == list(range(6))
    assert book.stored.tolist() == [2] * 6
    assert book.accounted().tolist() == [2 + refused + (refused and stream == 0) for stream in range(6)]
    assert merge([book, book]).stored.tolist() == [4] * 6

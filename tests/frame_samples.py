"""Frames for tests: what equals what, and a generator of arbitrary ones."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from contract.frame import Counters, Frame, Gap, Header
from contract.readings import Kind, Reason, Table

INT64 = st.integers(-(2**63), 2**63 - 1)
NATURAL = st.integers(0, 2**63 - 1)
NANS = [0x7FF8000000000001, 0xFFF0DEADBEEF0001 - 2**64, 0x7FF0000000000001]
"""Doubles that are not numbers, with payloads: quiet, negative, signalling."""


def bits(values: np.ndarray) -> list[object]:
    """Values so that equal means the same 64 bits."""
    if values.dtype == np.float64:
        return [np.ascontiguousarray(values).view(np.int64).tolist()]
    return [str(values.dtype), values.tolist()]


def assert_same_table(found: Table, wanted: Table) -> None:
    """Everything that a frame promises to keep, bit for bit."""
    assert found.kind is wanted.kind
    assert found.streams.dtype == np.int32
    assert found.streams.tolist() == wanted.streams.tolist()
    assert found.times.dtype == np.int64
    assert found.times.tolist() == wanted.times.tolist()
    assert found.status.dtype == np.uint8
    assert found.status.shape == wanted.status.shape
    assert found.status.tolist() == wanted.status.tolist()
    assert found.values.shape == wanted.values.shape
    assert found.values.dtype == wanted.values.dtype
    present = wanted.present()
    assert bits(found.values[present]) == bits(wanted.values[present])
    assert not any(found.values[~present].tolist())


def assert_same_frame(found: Frame, wanted: Frame) -> None:
    """Frames that mean the same."""
    assert found.header == wanted.header
    assert len(found.tables) == len(wanted.tables)
    for table, expected in zip(found.tables, wanted.tables, strict=True):
        assert_same_table(table, expected)
    assert found.gaps == wanted.gaps
    assert books(found.counters) == books(wanted.counters)


def books(counters: Counters | None) -> object:
    """Counters as plain lists."""
    if counters is None:
        return None
    columns = (counters.streams, counters.due, counters.suppressed, counters.thinned, counters.until_ns)
    return [column.tolist() for column in columns]


@st.composite
def float_columns(draw: st.DrawFn, shape: tuple[int, int]) -> np.ndarray:
    """Doubles of every sort: decimals, arbitrary bits, NaN payloads, infinities, both zeros."""
    sort = draw(st.sampled_from(["decimals", "bits", "mixed", "single"]))
    if sort == "decimals":
        whole = draw(npst.arrays(np.int64, shape, elements=st.integers(-(10**7), 10**7)))
        decimals: np.ndarray = whole / 10 ** draw(st.integers(0, 9))
        return decimals
    if sort == "single":
        return draw(npst.arrays(np.float32, shape)).astype(np.float64)
    if sort == "bits":
        return draw(npst.arrays(np.int64, shape, elements=INT64)).view(np.float64)
    odd = [0x7FF0000000000000, -(2**63), -(2**52), *NANS, *np.array([0.1, 20.3, -1.5, 1e300, 5e-324]).view(np.int64)]
    chosen = draw(npst.arrays(np.int64, shape, elements=st.sampled_from([int(number) for number in odd])))
    return chosen.view(np.float64)


@st.composite
def any_values(draw: st.DrawFn, kind: Kind, shape: tuple[int, int]) -> np.ndarray:
    """Values of one kind."""
    if kind is Kind.FLOAT:
        return draw(float_columns(shape))
    if kind is Kind.INT:
        elements = draw(st.sampled_from([INT64, st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1, 0])]))
        return draw(npst.arrays(np.int64, shape, elements=elements))
    if kind is Kind.BOOL:
        return draw(npst.arrays(np.bool_, shape))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["", "开", "🚦", "\x00"])
    values = np.empty(shape, dtype=object)
    for cell in np.ndindex(shape):
        values[cell] = draw(text)
    return values


TIMES = st.sampled_from([INT64, st.integers(0, 20).map(lambda s: s * 10**9), st.sampled_from([-(2**63), 2**63 - 1])])


@st.composite
def any_tables(draw: st.DrawFn) -> tuple[Table, ...]:
    """Some tables, some of them on the same times."""
    tables: list[Table] = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(list(Kind)))
        if len(tables) > 0 and draw(st.booleans()):
            times = tables[draw(st.integers(0, len(tables) - 1))].times
        else:
            times = draw(npst.arrays(np.int64, st.integers(0, 12), elements=draw(TIMES)))
        ids = draw(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 9), unique=True, max_size=5))
        shape = (len(times), len(ids))
        codes = draw(st.sampled_from([st.just(0), st.sampled_from([0, 0xFF, 0x46, 0xD0]), st.integers(0, 255)]))
        status = draw(npst.arrays(np.uint8, shape, elements=codes))
        hint = draw(st.none() | npst.arrays(np.int8, len(ids)))
        values = draw(any_values(kind, shape))
        tables.append(Table(kind, np.array(ids, dtype=np.int32), times, values, status, hint))
    return tuple(tables)


@st.composite
def any_counters(draw: st.DrawFn, tables: tuple[Table, ...]) -> Counters:
    """Counters of the tables' streams, or of any."""
    ids = draw(st.lists(st.integers(0, 2**31 - 1), unique=True, max_size=6))
    until = draw(npst.arrays(np.int64, len(ids), elements=INT64))
    own = [stream for table in tables for stream in table.streams.tolist()]
    if len(set(own)) == len(own) and all(len(table.times) for table in tables) and draw(st.booleans()):
        ids = own
        until = np.array([table.times[-1] for table in tables for _ in table.streams], dtype=np.int64)
    one = draw(st.booleans())
    columns = [
        np.full(len(ids), draw(NATURAL)) if one else draw(npst.arrays(np.int64, len(ids), elements=NATURAL))
        for _ in range(3)
    ]
    return Counters(np.array(ids, dtype=np.int32), columns[0], columns[1], columns[2], until)


GAPS = st.builds(
    Gap,
    st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
    INT64,
    INT64,
    NATURAL,
    st.sampled_from(list(Reason)),
)
HEADERS = st.builds(
    Header, st.integers(0, 2**48 - 1), NATURAL, st.integers(0, 2**32 - 1), INT64 | st.just(10**18), st.booleans()
)


@st.composite
def any_frames(draw: st.DrawFn) -> Frame:
    """Any frame."""
    tables = draw(any_tables())
    counters = draw(st.none() | any_counters(tables))
    return Frame(draw(HEADERS), tables, tuple(draw(st.lists(GAPS, max_size=4))), counters)

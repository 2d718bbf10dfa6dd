"""The forms of an answer: what goes out is read back by other programs' readers, and the Accept header decides."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_kit_history import T0, entry
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.hub.formats import (
    Form,
    NoSuchForm,
    batch_of_aggregates,
    batch_of_readings,
    encoded,
    form_of,
    json_rows,
    schema_of_aggregates,
    schema_of_readings,
)
from cloud.hub.history import Page, series_of
from cloud.hub.history_aggregate import Buckets
from cloud.hub.times import format_time
from cloud.stores.columns import from_lists
from contract.readings import Kind, Value

SAMPLES: dict[Kind, list[Value | None]] = {
    Kind.FLOAT: [1.5, -0.1, None, 1e300, 5e-324],
    Kind.INT: [2**63 - 1, -(2**63), None, 0, 7],
    Kind.BOOL: [True, False, None, True, False],
    Kind.TEXT: ["正常", 'a "b", c', None, "two\nlines", ""],
}
QUALITY, REASON = [0, 1, 2, 2, 0], [0, 3, 5, 16, 0]
QUALITIES = ["good", "uncertain", "bad", "bad", "good"]
REASONS = ["none", "stuck", "not_a_number", "timeout", "none"]


def batch(kind: Kind, schema: pa.Schema, values: list[Value | None] | None = None, **changes: Any) -> pa.RecordBatch:
    values = SAMPLES[kind] if values is None else values
    number = len(values)
    times = [T0 + row for row in range(number)]
    one = entry(kind=kind, **changes)
    columns = from_lists(kind, times, values, (QUALITY * number)[:number], (REASON * number)[:number])
    return batch_of_readings(one, Page(series_of(one), columns), schema)


async def whole(form: Form, schema: pa.Schema, *batches: pa.RecordBatch) -> bytes:
    async def one_by_one() -> AsyncIterator[pa.RecordBatch]:
        for one in batches:
            yield one

    return b"".join([piece async for piece in encoded(form, schema, one_by_one())])


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("form", [Form.PARQUET, Form.ARROW])
async def test_types_and_nanoseconds_survive(kind: Kind, form: Form) -> None:
    schema = schema_of_readings(frozenset({kind}))
    body = await whole(form, schema, batch(kind, schema), batch(kind, schema, stream="other"))
    table = pq.read_table(io.BytesIO(body)) if form is Form.PARQUET else pa.ipc.open_stream(body).read_all()
    assert table.schema.field("time").type == pa.timestamp("ns", tz="UTC")
    assert table.column("time").cast(pa.int64()).to_pylist() == [T0 + row for row in range(5)] * 2
    assert table.column("value").to_pylist() == SAMPLES[kind] * 2
    assert table.column("quality").to_pylist() == QUALITIES * 2
    assert table.column("reason").to_pylist() == REASONS * 2
    assert table.column("stream").to_pylist() == ["c/d/s/g/D/s1"] * 5 + ["c/d/s/g/D/other"] * 5


async def test_csv_is_read_back_by_the_standard_library() -> None:
    for kind in Kind:
        schema = schema_of_readings(frozenset({kind}))
        rows = list(csv.reader(io.StringIO((await whole(Form.CSV, schema, batch(kind, schema))).decode(), newline="")))
        assert rows[0] == ["stream", "time", "value", "quality", "reason"]
        assert [row[1] for row in rows[1:]] == [format_time(T0 + row) for row in range(5)]
        held = [
            None if row[2] == "" and value is None else row[2]
            for row, value in zip(rows[1:], SAMPLES[kind], strict=True)
        ]
        if kind is Kind.FLOAT:
            assert [None if text is None else float(text) for text in held] == SAMPLES[kind]
        elif kind is Kind.INT:
            assert [None if text is None else int(text) for text in held] == SAMPLES[kind]
        elif kind is Kind.BOOL:
            assert held == ["true", "false", None, "true", "false"]
        else:
            assert held == SAMPLES[kind]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=20))
async def test_no_text_in_csv_is_a_formula_and_none_leaves_its_cell(texts: list[str]) -> None:
    schema = schema_of_readings(frozenset({Kind.TEXT}))
    body = await whole(Form.CSV, schema, batch(Kind.TEXT, schema, list(texts)))
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))[1:]
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        assert not row[2].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row[2] in {text, f"'{text}"}


async def test_a_name_is_no_formula_either() -> None:
    schema = schema_of_readings(frozenset({Kind.INT}))
    one = batch(Kind.INT, schema)
    odd = one.set_column(0, "stream", pa.array(["=1+1"] * 5).dictionary_encode())
    assert b'"\'=1+1"' in await whole(Form.CSV, schema, odd)


async def test_streams_of_several_kinds_have_a_column_each() -> None:
    kinds = frozenset({Kind.FLOAT, Kind.INT, Kind.TEXT})
    schema = schema_of_readings(kinds)
    body = await whole(Form.PARQUET, schema, batch(Kind.INT, schema), batch(Kind.TEXT, schema))
    table = pq.read_table(io.BytesIO(body))
    assert table.column_names == ["stream", "time", "value_float", "value_int", "value_text", "quality", "reason"]
    assert table.column("value_int").to_pylist() == SAMPLES[Kind.INT] + [None] * 5
    assert table.column("value_text").to_pylist() == [None] * 5 + SAMPLES[Kind.TEXT]
    assert table.column("value_float").null_count == 10


@pytest.mark.parametrize("form", [Form.CSV, Form.PARQUET, Form.ARROW])
async def test_an_empty_answer_is_a_whole_one(form: Form) -> None:
    schema = schema_of_readings(frozenset({Kind.FLOAT}))
    body = await whole(form, schema)
    if form is Form.CSV:
        assert body == b"stream,time,value,quality,reason\n"
    else:
        table = pq.read_table(io.BytesIO(body)) if form is Form.PARQUET else pa.ipc.open_stream(body).read_all()
        assert (table.num_rows, table.schema.names) == (0, schema.names)


def test_json_knows_no_infinity() -> None:
    schema = schema_of_readings(frozenset({Kind.FLOAT}))
    rows = json.loads(
        b"[" + json_rows(batch(Kind.FLOAT, schema, [float("inf"), float("nan"), 1.5]), T0 + 2_500_000_000) + b"]"
    )
    assert [row["value"] for row in rows] == [None, None, 1.5]
    assert [row["age_s"] for row in rows] == [2.5, 2.5, 2.5]


def test_empty_buckets_are_null_and_say_so() -> None:
    schema = schema_of_aggregates(["mean", "last", "count"], Kind.INT)
    numbers = np.array([2, 0], dtype=np.int64)
    block = Buckets(
        times=np.array([0, 1], dtype=np.int64),
        present=numbers,
        usable=numbers,
        good=numbers,
        bad=np.zeros(2, dtype=np.int64),
        worst=np.array([1, 0], dtype=np.uint8),
        coverage=np.array([1.0, np.nan]),
        values={"mean": np.array([2.5, 0.0]), "last": np.array([3, 0]), "count": numbers},
    )
    rows = json.loads(b"[" + json_rows(batch_of_aggregates(entry(kind=Kind.INT), block, schema), T0) + b"]")
    assert [(row["mean"], row["last"], row["count"]) for row in rows] == [(2.5, 3, 2), (None, None, 0)]
    assert [(row["readings"], row["coverage"]) for row in rows] == [(2, 1.0), (0, None)]
    assert [row["quality"] for row in rows] == ["uncertain", "missing"]


@pytest.mark.parametrize(
    ("accept", "wanted", "expected"),
    [
        ("*/*", None, Form.JSON),
        ("", None, Form.JSON),
        ("text/csv", None, Form.CSV),
        ("text/*", None, Form.CSV),
        ("application/*", None, Form.JSON),
        ("application/vnd.apache.parquet", None, Form.PARQUET),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", None, Form.JSON),  # a browser
        ("text/csv;q=0.1, application/json", None, Form.JSON),
        ("text/csv;q=0.5, application/json;q=0.4", None, Form.CSV),
        ("application/json;q=0, */*;q=0.1", None, Form.CSV),
        ("TEXT/CSV; charset=utf-8 ; Q=0.3", None, Form.CSV),
        ("application/json", "arrow", Form.ARROW),
        ("image/png", "parquet", Form.PARQUET),
    ],
)
def test_the_accept_header_decides(accept: str, wanted: str | None, expected: Form) -> None:
    assert form_of(accept, wanted) is expected


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0", "*/*;q=0", "nonsense", ",;,q=1"])
def test_a_form_that_there_is_not(accept: str) -> None:
    with pytest.raises(NoSuchForm, match="application/json"):
        form_of(accept, None)

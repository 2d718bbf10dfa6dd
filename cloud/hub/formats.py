"""The forms in which rows leave: JSON, CSV, Parquet, Arrow; streamed a batch at a time, whatever their number.

Rows are pyarrow record batches of one schema; each form turns one batch after another into bytes. Parquet and Arrow
keep types: times are nanoseconds in UTC, values what the stream's are.
"""

import asyncio
import io
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cloud.hub.entries import Entry
from cloud.hub.history import Page
from cloud.hub.history_aggregate import Buckets, kind_of_aggregate
from cloud.hub.problems import Problem
from cloud.hub.times import TIME_BYTES, format_times, time_bytes
from contract.readings import Kind, Quality, quality_of, reason_of

TIME = pa.timestamp("ns", tz="UTC")
WORD = pa.dictionary(pa.int32(), pa.string())
TYPES: dict[Kind, pa.DataType] = {
    Kind.FLOAT: pa.float64(),
    Kind.INT: pa.int64(),
    Kind.BOOL: pa.bool_(),
    Kind.TEXT: pa.string(),
}
_WEIGHT = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
_QUALITIES = [quality_of(code).name.lower() for code in range(256)]
_REASONS = [reason_of(code).name.lower() for code in range(256)]


class Form(StrEnum):
    """What an answer may be, by its media type."""

    JSON = "application/json"
    CSV = "text/csv"
    PARQUET = "application/vnd.apache.parquet"
    ARROW = "application/vnd.apache.arrow.stream"


class NoSuchForm(Problem):
    """The Accept header asks for what there is not."""

    status = 406
    title = "Not acceptable"


def form_of(accept: str, wanted: str | None) -> Form:
    """The form by `?format=` (json, csv, parquet, arrow) or the Accept header. Raises NoSuchForm."""
    if wanted is not None:
        return Form[wanted.upper()]
    weights = {form: _weight(accept, form) for form in Form}
    best = max(Form, key=lambda form: weights[form])
    if weights[best] > 0:
        return best
    raise NoSuchForm(f"the forms are {', '.join(Form)}; found {accept[:200]!r}")


def _weight(accept: str, form: Form) -> float:
    """How much `form` is wanted, 0 to 1: the most exact media range that fits it decides (RFC 9110, 12.5.1)."""
    exactness, weight = -1, 0.0
    for part in (accept.strip() or "*/*").split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        ranges = ("*/*", f"{form.value.partition('/')[0]}/*", form.value)
        if media not in ranges or ranges.index(media) <= exactness:
            continue
        exactness, weight = ranges.index(media), 1.0
        for parameter in parameters:
            found = _WEIGHT.fullmatch(parameter)
            if found:
                weight = float(found[1])
    return weight


def schema_of_readings(kinds: frozenset[Kind]) -> pa.Schema:
    """Columns of single readings; of several kinds, each has a column of its own."""
    if len(kinds) <= 1:
        values = [("value", TYPES[kind]) for kind in kinds] or [("value", pa.float64())]
    else:
        values = [(f"value_{kind.value}", TYPES[kind]) for kind in Kind if kind in kinds]
    return pa.schema([("stream", WORD), ("time", TIME), *values, ("quality", WORD), ("reason", WORD)])


def batch_of_readings(entry: Entry, page: Page, schema: pa.Schema) -> pa.RecordBatch:
    """A page of a stream as rows."""
    columns, kind = page.columns, page.series.kind
    valued = columns.valued.copy()
    if kind is Kind.FLOAT:
        valued &= np.isfinite(columns.values.astype(np.float64))
    value = pa.array(columns.values, TYPES[kind], mask=~valued, from_pandas=False)
    status = columns.status
    made: dict[str, Any] = {
        "stream": _word([entry.id], np.zeros(len(status), dtype=np.int32)),
        "time": pa.array(columns.times, TIME),
        "quality": _word(_QUALITIES, status.astype(np.int32)),
        "reason": _word(_REASONS, np.where(status >> 6 == 0, 0, status).astype(np.int32)),
    }
    for field in schema:
        if field.name in {"value", f"value_{kind.value}"}:
            made[field.name] = value if value.type == field.type else value.cast(field.type)
        elif field.name not in made:
            made[field.name] = pa.nulls(len(status), field.type)
    return pa.RecordBatch.from_arrays([made[name] for name in schema.names], schema=schema)


def schema_of_aggregates(functions: Sequence[str], kind: Kind) -> pa.Schema:
    """Columns of buckets: the functions, then what they stand on."""
    values = [(function, TYPES[kind_of_aggregate(function, kind)]) for function in functions]
    beside = [("readings", pa.int64()), ("bad", pa.int64()), ("coverage", pa.float64()), ("quality", WORD)]
    return pa.schema([("stream", WORD), ("time", TIME), *values, *beside])


def batch_of_aggregates(entry: Entry, block: Buckets, schema: pa.Schema) -> pa.RecordBatch:
    """Buckets of a stream as rows; what a bucket does not know is null."""
    size = len(block.times)
    empty = block.usable == 0
    made: dict[str, Any] = {
        "stream": _word([entry.id], np.zeros(size, dtype=np.int32)),
        "time": pa.array(block.times, TIME),
        "readings": pa.array(block.present, pa.int64()),
        "bad": pa.array(block.bad, pa.int64()),
        "coverage": pa.array(block.coverage, pa.float64(), mask=np.isnan(block.coverage)),
        "quality": _word(
            [*(quality.name.lower() for quality in Quality)],
            np.where(block.present == 0, Quality.MISSING, block.worst).astype(np.int32),
        ),
    }
    for function, values in block.values.items():
        field = schema.field(function)
        unknown = np.zeros(size, dtype=np.bool_) if function == "count" else empty.copy()
        if values.dtype == np.float64:
            unknown |= ~np.isfinite(values)
        made[function] = pa.array(values, mask=unknown, from_pandas=False).cast(field.type)
    return pa.RecordBatch.from_arrays([made[name] for name in schema.names], schema=schema)


async def encoded(form: Form, schema: pa.Schema, batches: AsyncIterator[pa.RecordBatch]) -> AsyncGenerator[bytes, None]:
    """The bytes of CSV, Parquet or Arrow, in pieces; made in a thread, so that nobody else's answer waits for them."""
    match form:
        case Form.CSV:
            yield (",".join(schema.names) + "\n").encode()
            async for batch in batches:
                yield await asyncio.to_thread(csv_rows, batch)
        case Form.PARQUET:
            sink = _Sink()
            with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as parquet:
                async for batch in batches:
                    await asyncio.to_thread(parquet.write_batch, batch)
                    yield sink.taken()
            yield sink.taken()
        case _:
            sink = _Sink()
            with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), schema) as arrow:
                yield sink.taken()
                async for batch in batches:
                    await asyncio.to_thread(arrow.write_batch, batch)
                    yield sink.taken()
            yield sink.taken()


def csv_rows(batch: pa.RecordBatch) -> bytes:
    """Rows as CSV (RFC 4180). A text that a spreadsheet would run is given an apostrophe in front."""
    columns = [_csv_column(field.type, column) for field, column in zip(batch.schema, batch.columns, strict=True)]
    plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    out = io.BytesIO()
    pyarrow.csv.write_csv(plain, out, pyarrow.csv.WriteOptions(include_header=False))
    return out.getvalue()


def _csv_column(kind: pa.DataType, column: pa.Array) -> pa.Array:
    if kind == TIME:
        return _time_texts(column)
    if kind == WORD:
        words = _safe(column.dictionary.to_pylist())
        return pa.DictionaryArray.from_arrays(column.indices, pa.array(words, pa.string())).cast(pa.string())
    return pa.array(_safe(column.to_pylist()), pa.string()) if kind == pa.string() else column


def _time_texts(column: pa.Array) -> pa.Array:
    """Times as RFC 3339, all of one length: the bytes are laid out once, no text is made of them."""
    texts = time_bytes(column.view(pa.int64()).to_numpy(zero_copy_only=False))
    ends = np.arange(len(texts) + 1, dtype=np.int32) * TIME_BYTES
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(texts))


def json_rows(batch: pa.RecordBatch, now_ns: int) -> bytes:
    """Rows as JSON objects with commas between, without brackets; a reading with its age, as `latest` gives it."""
    names, columns = list(batch.schema.names), _plain(batch)
    if "reason" in names:
        times = batch.column("time").view(pa.int64()).to_numpy(zero_copy_only=False)
        names, columns = [*names, "age_s"], [*columns, np.round((now_ns - times) / 1e9, 3).tolist()]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return msgspec.json.encode(rows)[1:-1]


def _plain(batch: pa.RecordBatch) -> list[list[Any]]:
    columns: list[list[Any]] = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.type == TIME:
            columns.append(format_times(column.view(pa.int64()).to_numpy(zero_copy_only=False)))
        else:
            columns.append(column.to_pylist())
    return columns


def _safe(column: list[Any]) -> list[Any]:
    return [f"'{one}" if isinstance(one, str) and one.startswith(FORMULA) else one for one in column]


def _word(words: Sequence[str], codes: Any) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words, pa.string()))


class _Sink(io.RawIOBase):
    """A file that only grows, and is emptied from time to time: how Parquet is written into an answer."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def taken(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)

"""History: readings of the past, or what they come to by interval, of one stream or many; streamed, never gathered.

A page of JSON is the usual answer; CSV, Parquet and Arrow give the whole range in one stream of bounded memory. At most
a few queries run at once, some wait, the rest is told to come later. What fails after the first byte breaks the
connection: a short file that looks whole would be worse.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Depends, Header
from fastapi import Query as Parameter
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cloud.hub.access import Reader, audited
from cloud.hub.api_live import MAX_NAMED, named
from cloud.hub.catalogue_index import Query
from cloud.hub.entries import Entry
from cloud.hub.filters import filters_of
from cloud.hub.formats import (
    Form,
    batch_of_aggregates,
    batch_of_readings,
    encoded,
    form_of,
    json_rows,
    schema_of_aggregates,
    schema_of_readings,
)
from cloud.hub.history import read_pages
from cloud.hub.history_aggregate import FUNCTIONS, Grid, aggregated, check_functions, versions_for
from cloud.hub.parts import Asker, Hub, HubPart
from cloud.hub.problems import BadQuery, TooMuch
from cloud.hub.times import HOUR_NS, parse_duration, parse_time
from contract.readings import Kind

router = APIRouter(prefix="/api/v1", tags=["history"])
MAX_STREAMS = 100
MAX_EXPORT_STREAMS = 20_000
MAX_ROWS = 50_000
MAX_BUCKETS = 1_000_000
Wanted = Literal["json", "csv", "parquet", "arrow"]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
ANSWERS: dict[int | str, dict[str, object]] = {
    200: {"content": {form.value: _BINARY for form in (Form.CSV, Form.PARQUET, Form.ARROW)}},
    403: {"description": "not yours; says whom to ask"},
    404: {"description": "no such stream"},
    406: {"description": "no such form"},
    413: {"description": "more than is given at once"},
    429: {"description": "too many queries at once"},
    503: {"description": "the database does not answer"},
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, checked. interval_ns: 0 for single readings."""

    start_ns: int
    end_ns: int
    interval_ns: int
    functions: tuple[str, ...]
    form: Form
    limit: int
    after: tuple[int, int] | None


Moment = Annotated[str | None, Parameter(max_length=40, description="RFC 3339, or integer ns since 1970")]
Functions = Annotated[list[str] | None, Parameter(max_length=7, description=f"of {', '.join(FUNCTIONS)}; repeatable")]


def asked(
    hub: HubPart,
    start: Moment = None,
    end: Moment = None,
    interval: Annotated[str | None, Parameter(max_length=40, description="of buckets: 60s, 5m, 1h, 1d, PT5M")] = None,
    aggregate: Functions = None,
    wanted: Annotated[Wanted | None, Parameter(alias="format", description="instead of the Accept header")] = None,
    limit: Annotated[int, Parameter(ge=1, le=MAX_ROWS, description="rows of a page of JSON")] = 10_000,
    after: Annotated[str | None, Parameter(max_length=60, description="`next` of the page before")] = None,
    accept: Annotated[str, Header(max_length=1000)] = "*/*",
) -> Asked:
    """The parameters of a history query; by default the last hour before `end`, which is now. Raises BadQuery."""
    end_ns = hub.now_ns() if end is None else parse_time(end, "end")
    start_ns = end_ns - HOUR_NS if start is None else parse_time(start, "start")
    if start_ns >= end_ns:
        raise BadQuery("start", "a time before the end", start)
    if (interval is None) != (not aggregate):
        raise BadQuery("aggregate", "both 'interval' and 'aggregate', or neither", aggregate or interval)
    interval_ns = 0 if interval is None else parse_duration(interval, "interval")
    functions = tuple(dict.fromkeys(aggregate or ()))
    return Asked(start_ns, end_ns, interval_ns, functions, form_of(accept, wanted), limit, _after(after))


Question = Annotated[Asked, Depends(asked)]
Filters = Annotated[Query, Depends(filters_of)]


@router.get("/history", responses=ANSWERS)
async def history(
    question: Question,
    asker: Asker,
    hub: HubPart,
    stream: Annotated[list[str], Parameter(min_length=1, max_length=MAX_STREAMS, description="ids; repeatable")],
) -> Response:
    """The past of some streams, one after another, each once."""
    return await _answer(hub, asker, named(hub, asker, stream), question, "history", 0)


@router.get("/history/{stream_id:path}", responses=ANSWERS)
async def history_of(stream_id: str, question: Question, asker: Asker, hub: HubPart) -> Response:
    """The past of one stream."""
    return await _answer(hub, asker, named(hub, asker, [stream_id]), question, "history", 0)


@router.get("/export", responses=ANSWERS)
async def export(question: Question, asker: Asker, hub: HubPart, query: Filters) -> Response:
    """The past of every stream that fits and that you may read. `x-withheld`: how many fit that you may not."""
    index = hub.catalogue.index
    fitting = index.matching(query) & index.visible(asker)
    mine = fitting & index.readable(asker)
    entries = [index.entries[at] for at in np.flatnonzero(mine).tolist()]
    if len(entries) > MAX_EXPORT_STREAMS:
        raise TooMuch(f"{len(entries)} streams fit; {MAX_EXPORT_STREAMS} is the most: narrow area, owner or quantity")
    withheld = int(np.count_nonzero(fitting)) - len(entries)
    return await _answer(hub, asker, entries, question, "export", withheld)


class _Streamed(StreamingResponse):
    """An answer that holds a place among the running queries until its end, however it ends."""

    def __init__(self, hub: Hub, batches: AsyncGenerator[pa.RecordBatch, None], *more: Any, **others: Any) -> None:
        super().__init__(*more, **others)
        self._hub = hub
        self._batches = batches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.queries.leave()
            await self._batches.aclose()


async def _answer(
    hub: Hub, reader: Reader, entries: Sequence[Entry], question: Asked, action: str, withheld: int
) -> Response:
    # By number, each once: a page ends within one stream, and the next begins there and goes on with higher numbers.
    entries = sorted({entry.number: entry for entry in entries}.values(), key=lambda entry: entry.number)
    versions = {entry.number: await _versions(hub, entry) for entry in entries}
    schema = _schema(entries, versions, question)
    await _record(hub, reader, action, entries, question)
    await hub.queries.enter()
    try:
        batches = _batches(hub, entries, versions, question, schema)
        first = await anext(batches, None)  # what cannot be answered is said before the first byte
    except BaseException:
        hub.queries.leave()
        raise
    whole = _again(first, batches)
    json = question.form is Form.JSON
    pieces = _json(whole, entries, question, hub.now_ns()) if json else encoded(question.form, schema, whole)
    return _Streamed(
        hub, batches, _pieces(pieces), media_type=question.form.value, headers={"x-withheld": str(withheld)}
    )


async def _versions(hub: Hub, entry: Entry) -> list[Entry]:
    """What the stream was; one that never changed was what it is, also while the hub's state is away."""
    return [entry] if entry.version == 1 else await hub.catalogue.versions(entry.number)


async def _pieces(pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        async for piece in pieces:
            if piece:
                yield piece


async def _again(
    first: pa.RecordBatch | None, batches: AsyncGenerator[pa.RecordBatch, None]
) -> AsyncGenerator[pa.RecordBatch, None]:
    if first is not None:
        yield first
        async for batch in batches:
            yield batch


def _schema(entries: Sequence[Entry], versions: Mapping[int, Sequence[Entry]], question: Asked) -> pa.Schema:
    kinds = frozenset(version.kind for entry in entries for version in versions[entry.number])
    if not question.interval_ns:
        return schema_of_readings(kinds)
    for entry in entries:  # every stream before the first byte: later nobody could be told
        check_functions(question.functions, entry)
        versions_for(versions[entry.number], question.start_ns, question.end_ns)
    if len(kinds) > 1 and not kinds <= {Kind.FLOAT, Kind.INT}:
        raise BadQuery("aggregate", "streams of one kind, or numbers", ", ".join(sorted(kinds)))
    grid = Grid(question.start_ns, question.end_ns, question.interval_ns)
    if not grid.fits:
        raise BadQuery("start", "a range further from the ends of time, 1677 and 2262")
    if len(grid) * max(1, len(entries)) > MAX_BUCKETS:
        raise TooMuch(f"{len(grid)} intervals of {len(entries)} streams; {MAX_BUCKETS} is the most: a longer interval")
    return schema_of_aggregates(question.functions, Kind.FLOAT if len(kinds) != 1 else next(iter(kinds)))


async def _batches(
    hub: Hub, entries: Sequence[Entry], past: Mapping[int, Sequence[Entry]], question: Asked, schema: pa.Schema
) -> AsyncGenerator[pa.RecordBatch, None]:
    number, from_ns = question.after or (0, question.start_ns)
    for entry in entries:
        if entry.number < number:
            continue
        start_ns = max(question.start_ns, from_ns) if entry.number == number else question.start_ns
        versions = past[entry.number]
        if start_ns >= question.end_ns:
            continue
        points = question.limit if question.form is Form.JSON else MAX_ROWS
        if not question.interval_ns:
            async with aclosing(
                read_pages(hub.store, versions, start_ns, question.end_ns, page_points=points)
            ) as pages:
                async for page in pages:
                    yield batch_of_readings(entry, page, schema)
            continue
        grid = Grid(start_ns, question.end_ns, question.interval_ns)
        within = versions_for(versions, start_ns, question.end_ns)
        async with aclosing(read_pages(hub.store, within, start_ns, question.end_ns)) as pages:
            async for block in aggregated(pages, within, grid, question.functions, hub.now_ns()):
                yield batch_of_aggregates(entry, block, schema)


async def _json(
    batches: AsyncIterator[pa.RecordBatch], entries: Sequence[Entry], question: Asked, now_ns: int
) -> AsyncGenerator[bytes, None]:
    """An object with the rows, as many as a page has, and where the next page begins."""
    left, following = question.limit, None
    numbers = {entry.id: entry.number for entry in entries}
    yield b'{"values":['
    separator = b""
    async for batch in batches:
        taken = batch.slice(0, left)
        if taken.num_rows:
            yield separator + await asyncio.to_thread(json_rows, taken, now_ns)
            separator = b",\n"
            left -= taken.num_rows
        if taken.num_rows < batch.num_rows:
            number = numbers[batch.column("stream")[taken.num_rows].as_py()]
            following = f"{number}.{batch.column('time').view(pa.int64())[taken.num_rows].as_py()}"
            break
    yield b'],"next":' + (b"null" if following is None else f'"{following}"'.encode()) + b"}"


async def _record(hub: Hub, reader: Reader, action: str, entries: Sequence[Entry], question: Asked) -> None:
    guarded = [entry.id for entry in entries if audited(entry)]
    if guarded:
        subject = guarded[0] if len(guarded) == 1 else f"{len(guarded)} streams"
        detail = {
            "streams": guarded[:MAX_NAMED],
            "count": len(guarded),
            "start_ns": question.start_ns,
            "end_ns": question.end_ns,
            "purpose": reader.purpose,
        }
        await hub.trail.record(f"{reader.token} {reader.department}", action, subject, detail)


def _after(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, time = text.partition(".")
    digits = time.removeprefix("-")
    if not (number.isascii() and number.isdigit() and digits.isascii() and digits.isdigit() and len(text) < 40):
        raise BadQuery("after", "`next` of the page before", text)
    return int(number), int(time)

"""The catalogue over HTTP: what there is, whose it is, whom to ask; never a value that the rule forbids.

What a reader may not read is shown as existing: its name, quantity, owner, contact, grade and place. Its health is not:
when it last spoke is part of what it says.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, Header, Request
from fastapi import Query as Parameter
from fastapi.responses import Response, StreamingResponse

from cloud.hub import dcat
from cloud.hub.access import Reader, readable, visible
from cloud.hub.catalogue_index import Index, Query
from cloud.hub.entries import Entry
from cloud.hub.filters import filters_of
from cloud.hub.health import Health, health_of
from cloud.hub.parts import Asker, Hub, HubPart
from cloud.hub.problems import NotThere
from cloud.hub.times import format_time

router = APIRouter(prefix="/api/v1", tags=["catalogue"])
LD = "application/ld+json"
CSV = "text/csv"
MAX_PAGE = 1000
COLUMNS = (
    "id", "quantity", "unit", "type", "interval_s", "owner", "contact", "grade", "shared_with", "retention",
    "legal_basis", "site", "latitude", "longitude", "manufacturer", "model", "serial_number", "since", "left",
    "readable", "health",
)  # fmt: skip
Filters = Annotated[Query, Depends(filters_of)]


@router.get("/catalogue")
async def search(
    request: Request,
    asker: Asker,
    hub: HubPart,
    query: Filters,
    health: Annotated[Health | None, Parameter(description="of the streams that you may read")] = None,
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = 100,
    after: Annotated[int, Parameter(ge=0, le=2**31 - 1, description="`next` of the page before")] = 0,
    accept: Annotated[str, Header(max_length=1000)] = "application/json",
) -> Response:
    """Streams, by number, a page at a time; as CSV or DCAT-AP JSON-LD all of them, by the Accept header."""
    index = hub.catalogue.index
    places = _found(hub, index, asker, query, health)
    if LD in accept:
        base = str(request.base_url).rstrip("/")
        return StreamingResponse(dcat.document((index.entries[at] for at in places), base), media_type=LD)
    if CSV in accept:
        rows = (described(hub, asker, index.entries[at]) for at in places)
        return StreamingResponse(_csv(rows), media_type=f"{CSV}; charset=utf-8")
    first = int(np.searchsorted(index.numbers[places], after, side="right"))
    page = places[first : first + limit]
    entries = [index.entries[at] for at in page]
    more = first + limit < len(places)
    found = {
        "total": len(places),
        "streams": [described(hub, asker, entry) for entry in entries],
        "next": entries[-1].number if more and entries else None,
    }
    return _json(found)


@router.get("/areas")
async def areas(asker: Asker, hub: HubPart) -> dict[str, int]:
    """city/district/street, and how many streams each has."""
    return _facets(hub, asker, "area")


@router.get("/departments")
async def departments(asker: Asker, hub: HubPart) -> dict[str, int]:
    """Owners, and how many streams each has."""
    return _facets(hub, asker, "owner")


@router.get("/quantities")
async def quantities(asker: Asker, hub: HubPart) -> dict[str, int]:
    """What is measured, and by how many streams."""
    return _facets(hub, asker, "quantity")


@router.get("/streams/{number}", responses={404: {"description": "no such stream"}})
async def stream_by_number(number: int, asker: Asker, hub: HubPart) -> dict[str, Any]:
    """One stream by its number, with its versions."""
    return await _one(hub, asker, hub.catalogue.by_number(number) if number < 2**31 else None)


@router.get("/catalogue/{stream_id:path}", responses={404: {"description": "no such stream"}})
async def stream_by_id(stream_id: str, asker: Asker, hub: HubPart) -> dict[str, Any]:
    """One stream `city/district/street/gateway/device/stream`, with its versions."""
    return await _one(hub, asker, hub.catalogue.get(stream_id))


def described(hub: Hub, reader: Reader, entry: Entry) -> dict[str, Any]:
    """What `reader` may know of a stream that is visible to him."""
    found: dict[str, Any] = {
        "id": entry.id,
        "number": entry.number,
        "version": entry.version,
        "quantity": entry.quantity,
        "unit": entry.unit,
        "type": entry.kind.value,
        "interval_s": entry.interval_s,
        "resolution": entry.resolution,
        "valid_range": entry.valid_range,
        "owner": entry.owner,
        "contact": entry.contact,
        "grade": entry.grade.value,
        "shared_with": list(entry.shared_with),
        "retention": entry.retention,
        "legal_basis": entry.legal_basis,
        "site": entry.site,
        "latitude": entry.latitude,
        "longitude": entry.longitude,
        "manufacturer": entry.manufacturer,
        "model": entry.model,
        "serial_number": entry.serial_number,
        "since": format_time(entry.since_ns),
        "left": None if entry.until_ns is None else format_time(entry.until_ns),
        "readable": readable(reader, entry),
    }
    if found["readable"]:
        found["health"] = health_of(entry, hub.newest.get(entry.number), hub.now_ns()).value
    else:
        found["ask"] = entry.contact or entry.owner or "the operator of the hub"
    return found


async def _one(hub: Hub, reader: Reader, entry: Entry | None) -> dict[str, Any]:
    if entry is None or not visible(reader, entry):
        raise NotThere("no such stream")
    past = await hub.catalogue.versions(entry.number)
    return {
        **described(hub, reader, entry),
        "versions": [
            {
                "version": one.version,
                "since": format_time(one.since_ns),
                "until": None if one.until_ns is None else format_time(one.until_ns),
                "unit": one.unit,
                "quantity": one.quantity,
                "owner": one.owner,
                "grade": one.grade.value,
            }
            for one in past
        ],
    }


def _found(hub: Hub, index: Index, reader: Reader, query: Query, health: Health | None) -> Any:
    mask = index.matching(query) & index.visible(reader)
    if health is not None:
        mask &= index.readable(reader)
    places = np.flatnonzero(mask)
    if health is not None:
        now_ns = hub.now_ns()
        fits = [
            health_of(entry, hub.newest.get(entry.number), now_ns) is health
            for entry in (index.entries[at] for at in places.tolist())
        ]
        places = places[np.array(fits, dtype=np.bool_)]
    return places


def _facets(hub: Hub, reader: Reader, name: str) -> dict[str, int]:
    index = hub.catalogue.index
    return index.facets(name, index.visible(reader) & index.matching(Query()))


def _csv(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for number, row in enumerate(rows):
        writer.writerow([_cell(row.get(name)) for name in COLUMNS])
        if number % 500 == 499:
            yield out.getvalue().encode()
            out.seek(0)
            out.truncate()
    yield out.getvalue().encode()


def _cell(value: Any) -> Any:
    """What a spreadsheet takes for text: a name that begins like a formula is none."""
    if isinstance(value, list):
        value = "; ".join(value)
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return value


def _json(found: Any) -> Response:
    return Response(msgspec.json.encode(found), media_type="application/json")

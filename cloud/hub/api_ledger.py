"""The ledger over HTTP: what was due of a stream, or of those of a gateway that you may read, and what became of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Query as Parameter

from cloud.hub.access import readable
from cloud.hub.api_live import named
from cloud.hub.parts import Asker, Hub, HubPart
from cloud.hub.problems import NotThere
from cloud.hub.times import format_time
from cloud.ledger_read import read_gateway
from cloud.ledger_report import HOUR_NS, LedgerReport, Row
from contract.errors import StoreUnavailable
from contract.topics import GatewayPath

router = APIRouter(prefix="/api/v1/ledger", tags=["ledger"])
RESPONSES: dict[int | str, dict[str, Any]] = {403: {"description": "not yours"}, 404: {"description": "no such thing"}}
Hours = Annotated[bool, Parameter(description="every hour that is kept apart")]


@router.get("/gateway/{city}/{district}/{street}/{gateway}", responses=RESPONSES)
async def of_gateway(
    city: str, district: str, street: str, gateway: str, asker: Asker, hub: HubPart, *, hours: Hours = False
) -> dict[str, Any]:
    """The books of a gateway's streams that you may read: expected = stored + explained, or what is missing."""
    path = GatewayPath(city, district, street, gateway)
    if not asker.covers(path):
        raise NotThere("no such gateway")
    mine = {
        (entry.device, entry.stream) for entry in hub.catalogue.all() if entry.path == path and readable(asker, entry)
    }
    if not mine:
        raise NotThere("no such gateway, or none with a stream that you may read")
    report = await _report(hub, path, hours=hours)
    rows = report.hours if hours else report.rows
    return {"streams": [_told(row) for row in rows if (row.device, row.stream) in mine]}


@router.get("/stream/{stream_id:path}", responses=RESPONSES)
async def of_stream(stream_id: str, asker: Asker, hub: HubPart, *, hours: Hours = False) -> dict[str, Any]:
    """The books of one stream."""
    (entry,) = named(hub, asker, [stream_id])
    report = await _report(hub, entry.path, hours=hours)
    rows: Sequence[Row] = report.hours if hours else report.rows
    return {"streams": [_told(row) for row in rows if (row.device, row.stream) == (entry.device, entry.stream)]}


async def _report(hub: Hub, path: GatewayPath, *, hours: bool) -> LedgerReport:
    await hub.queries.enter()
    try:
        return await asyncio.to_thread(read_gateway, hub.ledger_file, path, hours=hours)
    except (FileNotFoundError, ValueError) as error:
        raise StoreUnavailable(f"the ledger: {error}") from None
    finally:
        hub.queries.leave()


def _told(row: Row) -> dict[str, Any]:
    told = {name: value for name, value in asdict(row).items() if name not in {"gateway", "device", "stream", "hour"}}
    hour = {} if row.hour is None else {"hour": format_time(row.hour * HOUR_NS)}
    return {"stream": f"{row.gateway}/{row.device}/{row.stream}", **hour, **told, "explained": row.explained}

"""How devices are, over the API: what the console's health table shows, for programs and as CSV."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi import Query as Parameter

from cloud.console.rows import COLUMNS, Filter, csv_of, row_of, seen_by
from cloud.console.troubles import KINDS
from cloud.console.watch import Device, Watch
from cloud.hub.parts import Asker

router = APIRouter(prefix="/api/v1/devices", tags=["devices"])
MAX_PAGE = 10_000
Text = Annotated[str, Parameter(max_length=400, pattern=r"^[^\x00]*$")]
Kind = Annotated[str, Parameter(pattern=f"^({'|'.join(['', 'trouble', *KINDS])})$")]


def watch_of(request: Request) -> Watch:
    """The running hub's watch."""
    part = request.app.state.watch
    assert isinstance(part, Watch)  # noqa: S101 - cloud.hub.serve puts it there
    return part


@router.get("")
async def devices(
    request: Request,
    reader: Asker,
    kind: Kind = "",
    owner: Text = "",
    area: Text = "",
    gateway: Text = "",
    text: Text = "",
    lang: Literal["en", "zh"] = "en",
    format: Literal["json", "csv"] = "json",  # noqa: A002 - the parameter's name
    after: Text = "",
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = 1000,
) -> Any:
    """Devices, the worst first; CSV gives all that fit, JSON a page. Those whose health is not yours are left out."""
    watch = watch_of(request)
    found = sorted(seen_by(reader, watch.devices, Filter(kind, owner, area, gateway, text)), key=_worst_first)
    if format == "csv":
        text_of_all = csv_of(row_of(device, watch, lang) for device in found)
        name = 'attachment; filename="devices.csv"'
        return Response(text_of_all, media_type="text/csv; charset=utf-8", headers={"content-disposition": name})
    begin = next((at + 1 for at, device in enumerate(found) if device.id == after), 0) if after else 0
    page = found[begin : begin + limit]
    following = page[-1].id if begin + limit < len(found) else None
    rows = [{name: row[name] for name in COLUMNS} for row in (row_of(device, watch, lang) for device in page)]
    return {"total": len(found), "items": rows, "next": following}


def _worst_first(device: Device) -> tuple[int, int, str]:
    return -device.trouble.rank, -device.since_ns, device.id

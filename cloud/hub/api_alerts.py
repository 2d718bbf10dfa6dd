"""Alerts: what stands, what was, and the hands that operators lay on it; each of these is a line in the audit.

An alert of a stream is shown to who may see the stream's figures; one that tells a value only to who may read it. An
alert of a device, gateway, district or city is shown to operators of that area, and to who may see the figures of a
stream in it.
"""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cloud.hub.access import Reader, Role, readable
from cloud.hub.alert_look import CERTIFICATE
from cloud.hub.alert_rules import Severity
from cloud.hub.alert_store import Alert
from cloud.hub.alerts import Alerts
from cloud.hub.api_quality import may_see_figures
from cloud.hub.parts import Asker, Entries, Hub, HubPart, Operator
from cloud.hub.problems import BadQuery, NotThere
from cloud.hub.times import format_time, parse_time
from contract.topics import GatewayPath

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])

MAX_PAGE = 1000
_LONGEST_SILENCE_NS = 366 * 86_400_000_000_000
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter is wrong"},
    401: {"description": "No token, or none that is known"},
    503: {"description": "The hub's database does not answer"},
}
_CHANGES: dict[int | str, dict[str, Any]] = _RESPONSES | {
    403: {"description": "The token's role is reader"},
    404: {"description": "No such alert stands"},
}
_AREA = r"^[^/\x00]{1,64}(/[^/\x00]{1,64}){0,2}$"
_COMMENT = r"^[^\x00]*$"
AlertId = Annotated[int, Path(ge=1, le=2**53)]


class State(StrEnum):
    """What has become of an alert. standing: raised or acknowledged."""

    STANDING = "standing"
    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Acknowledge(_Body):
    """Why, or what is being done."""

    comment: str = Field("", max_length=1000, pattern=_COMMENT)


class Silence(_Body):
    """Until when nobody is told, RFC 3339, and why."""

    until: str = Field(max_length=40)
    comment: str = Field("", max_length=1000, pattern=_COMMENT)


def alerts_of(request: Request) -> Alerts:
    """The running hub's alerts."""
    part = request.app.state.alerts
    assert isinstance(part, Alerts)  # noqa: S101 - cloud.hub.serve puts it there
    return part


@router.get("", responses=_RESPONSES)
async def alerts(
    request: Request,
    hub: HubPart,
    reader: Asker,
    state: State = State.STANDING,
    severity: Severity | None = None,
    area: Annotated[str | None, Query(max_length=200, pattern=_AREA)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**53, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> dict[str, Any]:
    """Alerts, newest first."""
    part = alerts_of(request)
    shown = may_see(reader, hub.catalogue)

    def wanted(alert: Alert) -> bool:
        inside = area is None or f"{alert.subject.name}/".startswith(f"{area}/")
        return inside and (severity is None or alert.severity == severity) and shown(alert)

    if state is State.CLEARED:
        found, following = await _cleared(part, wanted, before, limit)
    else:
        standing = [
            alert
            for alert in reversed(part.standing())
            if state in (State.STANDING, alert.state) and (before is None or alert.id < before) and wanted(alert)
        ]
        found, following = standing[:limit], standing[limit - 1].id if len(standing) > limit else None
    return {"items": [_item(alert) for alert in found], "next": following}


@router.get("/channels", responses=_RESPONSES | {403: _CHANGES[403]})
async def channels(request: Request, reader: Operator) -> dict[str, Any]:  # noqa: ARG001 - its role is checked
    """What became of the messages of each channel."""
    part = alerts_of(request)
    told = await asyncio.to_thread(part.deliverer.told)
    for one in told:
        last_ns = one.pop("last_sent_ns")
        one["last_sent_at"] = format_time(last_ns) if last_ns else None
    return {"items": told, "unposted": part.unposted, "unraised": part.unraised}


@router.post("/{alert_id}/acknowledge", responses=_CHANGES)
async def acknowledge(
    request: Request, hub: HubPart, reader: Operator, alert_id: AlertId, body: Acknowledge
) -> dict[str, Any]:  # fmt: skip
    """Take an alert on. The first one who does is noted."""
    part = alerts_of(request)
    alert = _standing(part, hub, reader, alert_id)
    who = _who(reader)
    await hub.trail.record(who, "alert.acknowledge", f"alert {alert.id}", _detail(alert, body.comment))
    changed = await asyncio.to_thread(part.acknowledge, alert_id, who, body.comment)
    if changed is None:
        raise NotThere(f"the alert {alert_id} does not stand any more")
    return _item(changed)


@router.post("/{alert_id}/silence", responses=_CHANGES)
async def silence(
    request: Request, hub: HubPart, reader: Operator, alert_id: AlertId, body: Silence
) -> dict[str, Any]:  # fmt: skip
    """Tell nobody of an alert until a time, also when it clears and is raised again meanwhile."""
    part = alerts_of(request)
    until_ns = parse_time(body.until, "until")
    now_ns = time.time_ns()
    if not now_ns < until_ns <= now_ns + _LONGEST_SILENCE_NS:
        raise BadQuery("until", "a time from now to a year from now", body.until)
    alert = _standing(part, hub, reader, alert_id)
    who = _who(reader)
    detail = _detail(alert, body.comment) | {"until": format_time(until_ns)}
    await hub.trail.record(who, "alert.silence", f"alert {alert.id}", detail)
    changed = await asyncio.to_thread(part.silence, alert_id, until_ns, who, body.comment)
    if changed is None:
        raise NotThere(f"the alert {alert_id} does not stand any more")
    return _item(changed)


def may_see(reader: Reader, catalogue: Entries) -> Callable[[Alert], bool]:
    """Which alerts this reader may know of. To be asked for many."""
    parts: set[str] | None = None

    def shown(alert: Alert) -> bool:
        nonlocal parts
        if alert.subject.kind == CERTIFICATE:
            return reader.role is not Role.READER
        if alert.number is not None:
            entry = catalogue.by_number(alert.number)
            if entry is None:
                return False
            return readable(reader, entry) if alert.value is not None else may_see_figures(reader, entry)
        if reader.role is not Role.READER:
            return reader.covers(_place(alert))
        if parts is None:
            parts = set()
            for entry in catalogue.all():
                if may_see_figures(reader, entry):
                    path = entry.path
                    device = f"{path}/{entry.device}"
                    parts |= {path.city, f"{path.city}/{path.district}", str(path), device}
        return reader.covers(_place(alert)) and alert.subject.name in parts

    return shown


def _place(alert: Alert) -> GatewayPath:
    levels = [*alert.subject.name.split("/"), "", "", "", ""]
    return GatewayPath(*levels[:4])


def _standing(part: Alerts, hub: Hub, reader: Reader, alert_id: int) -> Alert:
    shown = may_see(reader, hub.catalogue)
    alert = next((one for one in part.standing() if one.id == alert_id), None)
    if alert is None or not shown(alert):
        raise NotThere(f"no alert {alert_id} stands that you may know of")
    return alert


async def _cleared(
    part: Alerts, wanted: Callable[[Alert], bool], before: int | None, limit: int
) -> tuple[list[Alert], int | None]:
    """A page of cleared alerts. Those that the reader may not see are passed over, within bounds."""
    found: list[Alert] = []
    for _ in range(20):
        some = await asyncio.to_thread(_read_cleared, part, before)
        for alert in some:
            before = alert.id
            if wanted(alert):
                found.append(alert)
                if len(found) == limit:
                    return found, before
        if len(some) < MAX_PAGE:
            return found, None
    return found, before


def _read_cleared(part: Alerts, before: int | None) -> list[Alert]:
    return part.cleared(before_id=before, limit=MAX_PAGE)


def _who(reader: Reader) -> str:
    return f"{reader.token} {reader.department}"


def _detail(alert: Alert, comment: str) -> dict[str, Any]:
    return {"rule": alert.rule, "subject": alert.subject.name, "comment": comment}


def _item(alert: Alert) -> dict[str, Any]:
    def at(ns: int | None) -> str | None:
        return None if ns is None else format_time(ns)

    return {
        "id": alert.id,
        "state": alert.state,
        "rule": alert.rule,
        "kind": alert.kind,
        "severity": alert.severity,
        "subject": {"kind": alert.subject.kind, "name": alert.subject.name},
        "message": alert.message,
        "value": alert.value,
        "streams": alert.streams,
        "raised_at": at(alert.raised_ns),
        "acknowledged_at": at(alert.acknowledged_ns),
        "acknowledged_by": alert.acknowledged_by,
        "comment": alert.comment,
        "silenced_until": at(alert.silenced_until_ns),
        "silenced_by": alert.silenced_by,
        "silence_comment": alert.silence_comment,
        "cleared_at": at(alert.cleared_ns),
    }

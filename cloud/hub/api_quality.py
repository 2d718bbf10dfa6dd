"""The quality of streams and of who answers for them, and the daily report.

Figures hold no values. Still they tell how somebody else's devices do, so they are given of streams that the reader
may read, of its own department's, and to operators and administrators of all in their areas.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from fnmatch import translate
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from cloud.hub.access import Reader, Role, readable, visible
from cloud.hub.entries import Entry
from cloud.hub.parts import Asker, HubPart
from cloud.hub.problems import BadQuery, NotThere
from cloud.hub.quality import Group, Quality
from cloud.hub.quality_roster import KEYS, Level
from cloud.hub.quality_store import Period
from cloud.hub.report import day_before, gather
from cloud.hub.report_words import Language
from cloud.hub.report_write import csv_of, html_of
from cloud.hub.times import format_time, parse_time
from cloud.ledger_report import HOUR_NS

router = APIRouter(prefix="/api/v1/quality", tags=["quality"])

MAX_PAGE = 1000
_EARLIEST, _LATEST = date(2000, 1, 1), date(2200, 1, 1)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter is wrong"},
    401: {"description": "No token, or none that is known"},
    404: {"description": "No such thing that this token may know of"},
    503: {"description": "The hub's database does not answer"},
}
_AREA = r"^[^/\x00]{1,64}(/[^/\x00]{1,64}){0,2}$"
_TEXT = r"^[^\x00]*$"


class PeriodName(StrEnum):
    """How long a period is."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Format(StrEnum):
    """What the report is written as."""

    HTML = "html"
    CSV = "csv"


_PERIODS = {PeriodName.HOUR: Period.HOUR, PeriodName.DAY: Period.DAY, PeriodName.MONTH: Period.MONTH}


def quality_of(request: Request) -> Quality:
    """The running hub's figures."""
    part = request.app.state.quality
    assert isinstance(part, Quality)  # noqa: S101 - cloud.hub.serve puts it there
    return part


def may_see_figures(reader: Reader, entry: Entry) -> bool:
    """May this reader know how the stream does?"""
    if not visible(reader, entry):
        return False
    mine = bool(reader.department) and reader.department == entry.owner
    return reader.role is not Role.READER or mine or readable(reader, entry)


@router.get("", responses=_RESPONSES)
async def quality(
    request: Request,
    hub: HubPart,
    reader: Asker,
    level: Level = Level.DEPARTMENT,
    period: PeriodName = PeriodName.DAY,
    at: Annotated[str | None, Query(max_length=40, description="A time in the period; now, when missing")] = None,
    area: Annotated[str | None, Query(max_length=200, pattern=_AREA)] = None,
    department: Annotated[str | None, Query(max_length=200, pattern=_TEXT)] = None,
    gateway: Annotated[str | None, Query(max_length=64, pattern=_TEXT)] = None,
    quantity: Annotated[str | None, Query(max_length=64, pattern=_TEXT)] = None,
    stream: Annotated[str | None, Query(max_length=400, pattern=_TEXT, description="`*` stands for any text")] = None,
    after: Annotated[str | None, Query(max_length=400, pattern=_TEXT, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> dict[str, Any]:
    """Figures by level and period: freshness, completeness, validity, timeliness, and whether the ledger closes."""
    part = quality_of(request)
    now_ns = time.time_ns()
    at_hour = _hour_of(now_ns if at is None else parse_time(at, "at"))
    glob = None if stream is None else re.compile(translate(stream))
    wanted = [
        entry
        for entry in hub.catalogue.all()
        if (area is None or f"{entry.path}/".startswith(f"{area}/"))
        and (department is None or entry.owner == department)
        and (gateway is None or entry.path.gateway == gateway)
        and (quantity is None or entry.quantity == quantity)
        and _matches(glob, entry)
        and may_see_figures(reader, entry)
    ]
    page, following = _page(wanted, level, after, limit)
    groups = await asyncio.to_thread(part.figures, level, _PERIODS[period], at_hour, page)
    start = part.calendar.start_of(_PERIODS[period], at_hour)
    end = part.calendar.end_of(_PERIODS[period], start)
    by_key = {KEYS[level](entry): entry for entry in page} if level is Level.STREAM else {}
    return {
        "level": level.value,
        "period": period.value,
        "from": format_time(start * HOUR_NS),
        "until": format_time(end * HOUR_NS),
        "completeness_alarm": part.settings.completeness_alarm,
        "items": [_item(part, group, by_key.get(group.name), now_ns) for group in groups],
        "next": following,
    }


@router.get(
    "/report",
    responses=_RESPONSES | {200: {"content": {"text/html": {}, "text/csv": {}}, "description": "The report"}},
    response_class=HTMLResponse,
)
async def report(
    request: Request,
    hub: HubPart,
    reader: Asker,
    day: Annotated[
        date | None, Query(description="YYYY-MM-DD as the city counts days; yesterday, when missing")
    ] = None,
    lang: Language = Language.ENGLISH,
    format: Format = Format.HTML,  # noqa: A002 - the parameter's name in the API
) -> Response:
    """The daily report: each failing stream with its reason, since when, the responsible department and contact."""
    part = quality_of(request)
    now_ns = time.time_ns()
    wanted = day_before(part, now_ns) if day is None else day
    if not _EARLIEST <= wanted <= _LATEST:
        raise BadQuery("day", f"a day from {_EARLIEST} to {_LATEST}", wanted)
    if wanted > part.calendar.today(now_ns):
        raise NotThere(f"{wanted} is not over, nor has it begun")
    entries = [entry for entry in hub.catalogue.all() if may_see_figures(reader, entry)]
    facts = await asyncio.to_thread(gather, part, wanted, entries, now_ns)
    if format is Format.CSV:
        text = await asyncio.to_thread(csv_of, facts, lang)
        name = f'attachment; filename="quality-{wanted.isoformat()}.csv"'
        return Response(text, media_type="text/csv; charset=utf-8", headers={"content-disposition": name})
    text = await asyncio.to_thread(html_of, facts, lang)
    return HTMLResponse(text, headers={"content-security-policy": _POLICY, "content-language": lang.value})


def _hour_of(time_ns: int) -> int:
    hour = time_ns // HOUR_NS
    if not 262_968 <= hour < 2_016_168:  # 2000 to 2200
        raise BadQuery("at", "a time from 2000 to 2200")
    return hour


def _matches(glob: re.Pattern[str] | None, entry: Entry) -> bool:
    return glob is None or glob.match(entry.id) is not None


def _page(
    entries: Sequence[Entry], level: Level, after: str | None, limit: int
) -> tuple[list[Entry], str | None]:  # fmt: skip
    """The streams of the next `limit` groups by name, and where to go on."""
    key = KEYS[level]
    names = sorted({name for entry in entries if (name := key(entry)) and (after is None or name > after)})
    if after is None and any(not key(entry) for entry in entries):
        names.insert(0, "")  # the owner that no birth names
    page = set(names[:limit])
    return [entry for entry in entries if key(entry) in page], names[limit - 1] if len(names) > limit else None


def _item(part: Quality, group: Group, entry: Entry | None, now_ns: int) -> dict[str, Any]:
    item: dict[str, Any] = {"name": group.name, **group.figures.as_json()}
    if group.corrected_ns is not None and group.former is not None:
        former = group.former
        item["corrected_at"] = format_time(group.corrected_ns)
        item["formerly"] = {
            name: value for name, value in former.as_json().items() if name in ("should", "received", "completeness")
        }
    if entry is not None:
        item |= {"owner": entry.owner, "contact": entry.contact, "interval_s": entry.interval_s}
        newest_ns = part.observer.newest_ns(entry.number)
        item["age_s"] = round((now_ns - newest_ns) / 1e9, 3) if newest_ns else None
    return item

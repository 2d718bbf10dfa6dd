"""Sensor health: every device in one table, the worst first, kept true while somebody looks.

The table lives in the browser: filtering, sorting and scrolling ask nobody. What changes is sent as it changes, a few
rows at a time; the filters are the page's address, so that a link shows a colleague the same.
"""

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from nicegui import ui

from cloud.console.rows import may_see, row_of, spark_of
from cloud.console.troubles import KINDS
from cloud.console.visit import LOOK_S, Console, Visit, enter, framed

MOST_AT_ONCE = 2000


def register(console: Console) -> None:
    """Make the page known."""

    @ui.page("/health")
    async def health(request: Request) -> Response | None:
        visit = await enter(console, request)
        if isinstance(visit, Response):
            return visit
        rows = await asyncio.to_thread(_rows, visit)
        with framed(visit, "health"):
            _Health(visit, rows)
        return None


def _rows(visit: Visit) -> list[dict[str, Any]]:
    return [_row(visit, device) for device in visit.console.watch.devices if may_see(visit.reader, device)]


def _row(visit: Visit, device: Any) -> dict[str, Any]:
    watch = visit.console.watch
    row = row_of(device, watch, visit.language)
    return row | {
        "rank": device.trouble.rank,
        "kindCode": device.trouble.kind,
        "city": device.entry.path.city,
        "path": str(device.entry.path),
        "spark": spark_of(device, watch, visit.reader),
    }


class _Health:
    """The table, and what keeps it true."""

    def __init__(self, visit: Visit, rows: list[dict[str, Any]]) -> None:
        self._visit = visit
        self._version = visit.console.watch.version
        self._ids = {row["id"] for row in rows}
        say = visit.say
        with ui.element("h1"):
            ui.label(say("health"))
        self._controls()
        ui.element("div").props("id=groups").classes("groups")
        with ui.element("p").classes("count"):
            ui.element("span").props(f'id=count role=status data-words="{say("shown", count="{count}")}"')
        self._grid = ui.aggrid(_options(visit, rows), auto_size_columns=False).classes("health")
        ui.timer(LOOK_S, self._look)

    def _controls(self) -> None:
        say, at = self._visit.say, int(self._visit.language == "zh")
        with ui.element("form").props("id=filters role=search").classes("filters"):
            with ui.element("label"):
                ui.label(say("search")).classes("hidden")
                ui.element("input").props(f'type=search name=text placeholder="{say("search")}" autocomplete=off')
            with ui.element("div").props(f'role=group aria-label="{say("state")}"').classes("chips"):
                for kind, words in [("", say("all")), ("trouble", say("trouble"))] + [
                    (kind, words[at]) for kind, words in KINDS.items()
                ]:
                    with ui.element("button").props(f'type=button data-kind="{kind}" aria-pressed=false'):
                        ui.label(words)
                        ui.element("span").classes("n")
            with ui.element("label"):
                ui.label(say("group_by"))
                with ui.element("select").props("name=group"):
                    for key, words in (("", "group_none"), ("owner", "owner"), ("area", "area"), ("path", "gateway")):
                        with ui.element("option").props(f'value="{key}"'):
                            ui.html(say(words), sanitize=False, tag="span")
            with ui.element("a").props(f'id=export data-lang={self._visit.language} href="/api/v1/devices?format=csv"'):
                ui.label(say("export"))
            with ui.element("button").props("type=button id=clear"):
                ui.label(say("clear"))

    def _look(self) -> None:
        watch = self._visit.console.watch
        if watch.version == self._version:
            return
        since, self._version = self._version, watch.version
        changed = [one for one in watch.devices if one.changed > since and may_see(self._visit.reader, one)]
        ids = {one.id for one in watch.devices if may_see(self._visit.reader, one)} if len(changed) > 1 else self._ids
        rows = [_row(self._visit, device) for device in changed]
        gone = [{"id": one} for one in self._ids - ids]
        new = [row for row in rows if row["id"] not in self._ids]
        update = [row for row in rows if row["id"] in self._ids]
        self._ids = ids | {row["id"] for row in new}
        for first in range(0, max(len(update), 1), MOST_AT_ONCE):
            some = {"update": update[first : first + MOST_AT_ONCE]}
            if first == 0:
                some |= {"add": new, "remove": gone}
            self._grid.run_grid_method("applyTransaction", some)


def _options(visit: Visit, rows: list[dict[str, Any]]) -> dict[str, Any]:
    say = visit.say

    def column(name: str, key: str, width: int, **more: Any) -> dict[str, Any]:
        return {"field": name, "headerName": say(key), "width": width, **more}

    return {
        "rowData": rows,
        "columnDefs": [
            column("kind", "state", 120, **{":cellRenderer": "weinao.badge", ":comparator": "weinao.byRank"})
            | {"sort": "desc", "pinned": None},
            column("device", "device", 150),
            column("cause", "cause", 280, flex=2, minWidth=200),
            column("since", "since", 120, **{":valueFormatter": "weinao.ago"}),
            column("todo", "todo", 300, flex=2, minWidth=200),
            column("spark", "shape", 130, sortable=False, **{":cellRenderer": "weinao.spark"}),
            column("owner", "owner", 160),
            column("contact", "contact", 160),
            column("area", "area", 160),
            column("gateway", "gateway", 150),
            column("last_good", "last_good", 120, **{":valueFormatter": "weinao.ago"}),
        ],
        "defaultColDef": {"sortable": True, "resizable": True, "suppressMovable": True},
        ":getRowId": "params => params.data.id",
        ":isExternalFilterPresent": "() => true",
        ":doesExternalFilterPass": "weinao.fits",
        ":onGridReady": "weinao.ready",
        ":onModelUpdated": "weinao.counted",
        ":onRowDataUpdated": "weinao.counted",
        "suppressCellFocus": False,
        "ensureDomOrder": True,
        "rowHeight": 44,
        "headerHeight": 44,
        "animateRows": False,
    }

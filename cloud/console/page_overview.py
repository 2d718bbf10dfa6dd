"""The first page: is the city sensing? Each number leads to its list; what got worse in the last hour comes first."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from nicegui import ui

from cloud.console.figures import Today, today
from cloud.console.rows import Filter, seen_by
from cloud.console.troubles import KINDS
from cloud.console.visit import LOOK_S, Console, Visit, enter, framed
from cloud.console.watch import Device
from cloud.hub.api_alerts import may_see as may_see_alert
from cloud.hub.times import format_time

HOUR_NS = 3_600_000_000_000
MOST_WORSE = 12
TODAY_S = 15.0
GOOD, FAIR = 0.98, 0.9


@dataclass(slots=True)
class State:
    """What the page shows: counts of the devices that the visitor may know of."""

    devices: int = 0
    fine: int = 0
    gateways: int = 0
    online: int = 0
    alerts: int = 0
    worse: Sequence[Device] = ()
    areas: dict[str, tuple[int, int]] = field(default_factory=dict)
    owners: dict[str, tuple[int, int]] = field(default_factory=dict)


def register(console: Console) -> None:
    """Make the page known."""

    @ui.page("/")
    async def overview(request: Request) -> Response | None:
        visit = await enter(console, request)
        if isinstance(visit, Response):
            return visit
        with framed(visit, "overview"):
            _Overview(visit)
        return None


class _Overview:
    """The page's elements, which a timer keeps true."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._seen: tuple[int, int, int] = (-1, -1, -1)
        self._shown: dict[str, object] = {}
        say = visit.say
        with ui.element("h1"):
            ui.label(say("question"))
        self._answer = ui.element("p").classes("answer")
        with self._answer:
            self._verdict = ui.label().classes("verdict")
            self._sentence = ui.label()
        with ui.element("ul").classes("figures"):
            self._gateways = self._figure("gateways_online", "/health?kind=offline")
            self._devices = self._figure("devices_working", "/health?kind=trouble")
            self._complete = self._figure("completeness", "/health")
            self._unexplained = self._figure("unexplained", "/health")
            self._alerts = self._figure("alerts_open", "/health?kind=trouble")
        self._worse = self._section("worse")
        self._areas = self._section("by_area")
        self._owners = self._section("by_owner")
        self._look()
        ui.timer(LOOK_S, self._look)
        ui.timer(TODAY_S, self._figures, immediate=True)

    def _figure(self, key: str, address: str) -> tuple[ui.label, ui.label]:
        with ui.element("li"), ui.element("a").props(f'href="{address}"'):
            value = ui.label("…").classes("value")
            ui.label(self._visit.say(key)).classes("name")
            more = ui.label().classes("more")
        return value, more

    def _section(self, key: str) -> ui.element:
        with ui.element("section"):
            with ui.element("h2"):
                ui.label(self._visit.say(key))
            return ui.element("div")

    def _look(self) -> None:
        visit = self._visit
        minute = int(time.time() // 60)
        standing = visit.console.alerts.standing()
        seen = (visit.console.watch.version, len(standing), minute)
        if seen == self._seen:
            return
        self._seen = seen
        state = look(visit, time.time_ns())
        say = visit.say
        share = state.fine / state.devices if state.devices else 0.0
        key = "yes" if share >= GOOD else "mostly" if share >= FAIR else "no"
        self._verdict.set_text(say(key))
        self._answer.classes(replace=f"answer {key}")
        self._sentence.set_text(f"{state.fine} / {state.devices} {say('devices_fine')}")
        _tell(self._gateways, state.online, say("of", all=state.gateways))
        _tell(self._devices, state.fine, say("of", all=state.devices))
        _tell(self._alerts, state.alerts, "")
        self._change("worse", [(one.id, one.trouble.code) for one in state.worse], self._worse, self._fill_worse(state))
        self._change("areas", state.areas, self._areas, self._fill_groups(state.areas, "area", "by_area"))
        self._change("owners", state.owners, self._owners, self._fill_groups(state.owners, "owner", "by_owner"))

    async def _figures(self) -> None:
        found: Today | None = await asyncio.to_thread(today, self._visit.console, self._visit.reader)
        say = self._visit.say
        if found is None or found.completeness is None:
            _tell(self._complete, "–", say("no_figures"))
            _tell(self._unexplained, "–", say("no_figures"))
            return
        _tell(self._complete, f"{found.completeness:.1%}", say("of", all=f"{found.should:,}"))
        _tell(self._unexplained, f"{found.unexplained:,}", "")

    def _change(self, name: str, content: object, place: ui.element, fill: Callable[[], None]) -> None:
        """Draw a list anew when it is another one: what somebody reads does not jump."""
        if self._shown.get(name) != content:
            self._shown[name] = content
            place.clear()
            with place:
                fill()

    def _fill_worse(self, state: State) -> Callable[[], None]:
        visit, at = self._visit, int(self._visit.language == "zh")

        def fill() -> None:
            if not state.worse:
                ui.label(visit.say("nothing_worse")).classes("quiet")
                return
            with ui.element("ul").classes("worse"):
                for device in state.worse:
                    with ui.element("li").classes(f"kind-{device.trouble.kind}"):
                        with ui.element("a").props(f'href="/health?{urlencode({"text": device.id})}"'):
                            ui.label(device.entry.device).classes("name")
                            ui.label(f"{device.entry.path.district}/{device.entry.path.street}").classes("where")
                        ui.label(KINDS[device.trouble.kind][at]).classes("badge")
                        ui.label(device.trouble.cause[at]).classes("cause")
                        ui.element("time").props(f'datetime="{format_time(device.since_ns)}"').classes("ago")
                        ui.label(f"{device.entry.owner} {device.entry.contact}").classes("owner")

        return fill

    def _fill_groups(self, groups: dict[str, tuple[int, int]], key: str, caption: str) -> Callable[[], None]:
        visit = self._visit

        def fill() -> None:
            say = visit.say
            with ui.element("table").props(f'aria-label="{say(caption)}"'):
                with ui.element("thead"), ui.element("tr"):
                    for column in (key, "devices", "in_trouble", "working"):
                        with ui.element("th").props("scope=col"):
                            ui.label(say(column))
                with ui.element("tbody"):
                    for name, (fine, count) in sorted(groups.items(), key=lambda one: (one[1][0] / one[1][1], one[0])):
                        _group(visit, key, name, fine, count)

        return fill


def _group(visit: Visit, key: str, name: str, fine: int, count: int) -> None:
    with ui.element("tr"):
        link = f'href="/health?{urlencode({key: name})}"'
        with ui.element("th").props("scope=row"), ui.element("a").props(link):
            ui.label(name or visit.say("unowned"))
        for text in (f"{count:,}", f"{count - fine:,}", f"{fine / count:.1%}"):
            with ui.element("td"):
                ui.label(text)


def _tell(figure: tuple[ui.label, ui.label], value: object, more: str) -> None:
    figure[0].set_text(f"{value:,}" if isinstance(value, int) else str(value))
    figure[1].set_text(more)


def look(visit: Visit, now_ns: int) -> State:
    """What the visitor may know, counted."""
    console, reader = visit.console, visit.reader
    devices = list(seen_by(reader, console.watch.devices, Filter()))
    state = State(devices=len(devices))
    fine: Counter[tuple[str, str]] = Counter()
    every: Counter[tuple[str, str]] = Counter()
    for device in devices:
        path = device.entry.path
        keys = (("area", f"{path.city}/{path.district}"), ("owner", device.entry.owner))
        every.update(keys)
        if device.trouble.kind == "fine":
            state.fine += 1
            fine.update(keys)
    paths = {device.entry.path for device in devices}
    state.gateways = len(paths)
    state.online = sum(console.watch.online.get(path) is not False for path in paths)
    shown = may_see_alert(reader, console.hub.catalogue)
    state.alerts = sum(shown(alert) for alert in console.alerts.standing())
    worse = [one for one in devices if one.trouble.kind != "fine" and now_ns - one.since_ns < HOUR_NS]
    state.worse = sorted(worse, key=lambda one: (-one.trouble.rank, -one.since_ns))[:MOST_WORSE]
    state.areas = {name: (fine[key, name], count) for (key, name), count in every.items() if key == "area"}
    state.owners = {name: (fine[key, name], count) for (key, name), count in every.items() if key == "owner"}
    return state

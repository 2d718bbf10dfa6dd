"""One person at one page: who it is, in which language, and the frame around what is shown.

`Console` holds the hub's parts that pages look at. A page begins with `enter`; without a session it leads to the login.
"""

import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import ui

from cloud.console import words
from cloud.console.sessions import Sessions
from cloud.console.watch import Watch
from cloud.hub.access import Reader
from cloud.hub.alerts import Alerts
from cloud.hub.parts import SESSION, Hub
from cloud.hub.quality import Quality
from cloud.hub.tokens import TokenBook

PAGES = (("overview", "/"), ("health", "/health"))
LOOK_S = 0.5
_STILL_S = 2.0


@dataclass(frozen=True, slots=True)
class Console:
    """What pages look at."""

    hub: Hub
    watch: Watch
    quality: Quality
    alerts: Alerts
    sessions: Sessions
    tokens: TokenBook


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks, in which language, and where."""

    console: Console
    reader: Reader
    language: str
    say: words.Say
    path: str
    address: str


async def enter(console: Console, request: Request) -> Visit | RedirectResponse:
    """Who asks for this page; the way to the login when nobody is logged in. Raises StoreUnavailable."""
    reader = await console.sessions.reader_of(request.cookies.get(SESSION, ""))
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if reader is None:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/login?{urllib.parse.urlencode({'to': address})}")
    language = language_of(request)
    return Visit(console, reader, language, words.speaking(language), request.url.path, address)


def language_of(request: Request) -> str:
    """The language of whoever asks."""
    return words.language_of(request.cookies.get(words.COOKIE), request.headers.get("accept-language", ""))


@contextmanager
def framed(visit: Visit, title: str) -> Iterator[None]:
    """The head of the page, its menu, and the main part inside the context. title: a key of the words."""
    say = visit.say
    ui.page_title(f"{say(title)} · {say('product')}")
    ui.add_head_html('<link rel="stylesheet" href="/assets/console.css"><script src="/assets/console.js"></script>')
    ui.add_head_html(f'<script>document.documentElement.lang="{visit.language}"</script>')
    with ui.element("a").classes("skip").props("href=#main"):
        ui.label(say("skip"))
    with ui.element("header").classes("bar"):
        with ui.element("a").classes("brand").props("href=/"):
            ui.label(say("product"))
        with ui.element("nav").props(f'aria-label="{say("menu")}"'):
            for key, path in PAGES:
                here = " aria-current=page" if path == visit.path else ""
                with ui.element("a").props(f'href="{path}"{here}'):
                    ui.label(say(key))
        _who(visit)
    ui.element("div").classes("lost").props(f'role=status data-words="{say("lost")}"')
    with ui.element("main").props("id=main tabindex=-1"):
        yield
    ui.timer(_STILL_S, lambda: _still(visit))


def _who(visit: Visit) -> None:
    say, reader = visit.say, visit.reader
    with ui.element("div").classes("who"):
        ui.label(reader.department or say("unowned")).classes("department")
        ui.label(" ".join(reader.areas) or say("everywhere")).classes("areas")
        other = "en" if visit.language == "zh" else "zh"
        query = urllib.parse.urlencode({"to": other, "back": visit.address})
        with ui.element("a").props(f'href="/language?{query}" lang={other}'):
            ui.label(say("language"))
        with ui.element("form").props("method=post action=/logout"), ui.element("button").props("type=submit"):
            ui.label(say("log_out"))


def _still(visit: Visit) -> None:
    """A token that was revoked ends what it opened."""
    if not visit.console.tokens.still_good(visit.reader):
        ui.navigate.to("/login")

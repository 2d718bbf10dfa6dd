"""The console put together: its pages and assets, beside the API on the same port.

NiceGUI is one application in a process; ours has the login and the assets before it. The hub's API keeps its paths, and
what begins with none of them is the console's.
"""

import logging
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from nicegui import ui
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.console import login, page_health, page_overview
from cloud.console.visit import Console

log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
OF_THE_API = ("/api/", "/sensorthings/", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/")
# NiceGUI makes its components from templates in the browser, which takes eval; all of it comes from this process.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: {tiles}; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "same-origin"}


def beside(api: ASGIApp, console: Console) -> ASGIApp:
    """The API and the console as one application. Once in a process: NiceGUI has one application."""
    made = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    made.state.console = console
    made.include_router(login.router)
    made.mount("/assets", StaticFiles(directory=ASSETS))
    for page in (page_overview, page_health):
        page.register(console)
    ui.run_with(made, title="Weinao", tailwind=False, show_welcome_message=False, reconnect_timeout=10.0)
    made.add_middleware(_Secured)
    return _Both(api, made)


class _Both:
    """Whose path it is. The process's start and stop are the console's business."""

    def __init__(self, api: ASGIApp, console: ASGIApp) -> None:
        self._api = api
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "")).removeprefix(str(scope.get("root_path", "")))
        app = self._api if path.startswith(OF_THE_API) else self._console
        await app(scope, receive, send)


class _Secured:
    """Headers that keep a page from being framed or from loading anything of others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = _POLICY.format(tiles="").replace(" ;", ";")
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
        except RuntimeError as error:
            # What a middleware of the library says of a browser that left before the answer: nobody's trouble.
            if str(error) != "No response returned.":
                raise
            log.debug("a browser left before its answer: %s", scope.get("path"))

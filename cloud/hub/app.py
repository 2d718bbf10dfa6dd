"""The hub's web application: the endpoints of every part, one shape of error, nothing from the internet.

The interactive page of the API (/docs) and its assets come from this process: a closed network has no CDN.
"""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.hub.parts import Hub
from cloud.hub.problems import Away, BadQuery, Problem
from contract.errors import StoreUnavailable

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
_RETRY_AFTER_S = 5.0
_DOCS = ("/docs", "/redoc", "/static-offline-docs")
_POLICY = "default-src 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; frame-ancestors 'none'"
)
_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "parameter": {"type": "string"},
        "allowed": {"type": "string"},
    },
}
_DESCRIPTION = (
    "One catalogue of what the city senses, its readings with their quality, and to each department what it may see."
)


def create_app(hub: Hub, routers: Sequence[APIRouter], *, version: str) -> FastAPI:
    """The application over the parts of `hub`."""
    app = FastAPIOffline(title="Weinao hub", version=version, description=_DESCRIPTION, redirect_slashes=False)
    app.state.hub = hub
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(StoreUnavailable, _on_away)
    app.add_middleware(_Secured)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with our one shape of error wherever it says its own."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, summary=None
        )
        problem = {"description": "a problem document, RFC 9457", "content": {PROBLEM: {"schema": _PROBLEM_SCHEMA}}}
        for path in made["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"] |= {"400": problem, "401": problem, "default": problem}
        app.openapi_schema = made
    return app.openapi_schema


class _Secured:
    """Headers that keep an answer from being run, framed or kept. Plain ASGI, so that streams stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        policy = _DOCS_POLICY if path.startswith(_DOCS) else _POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", policy)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _say(problem: Problem) -> JSONResponse:
    headers = {"content-type": PROBLEM}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(problem.retry_after_s)))
    if problem.status == 401:
        headers["www-authenticate"] = 'Bearer realm="weinao hub"'
    return JSONResponse(problem.document(), status_code=problem.status, headers=headers)


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for it alone
    return _say(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it alone
    first: dict[str, Any] = error.errors()[0]
    place = [str(step) for step in first["loc"]]
    name = ".".join(place[1:]) or place[0]
    return _say(BadQuery(name, str(first["msg"]), first.get("input")))


async def _on_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    problem = Problem(str(error.detail))
    problem.status, problem.title = error.status_code, str(error.detail)
    answer = _say(problem)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _on_away(_: Request, error: Exception) -> Response:
    assert isinstance(error, StoreUnavailable)  # noqa: S101 - registered for it alone
    log.debug("a query met a database that is away: %s", error)  # its addresses are not for whoever asks
    wait_s = error.retry_after_s or _RETRY_AFTER_S
    return _say(Away("the database does not answer at present; catalogue, latest and live do", retry_after_s=wait_s))

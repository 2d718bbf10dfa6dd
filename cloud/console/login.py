"""Coming and going: the login page, the way out, the language. Plain pages without a script."""

import html
import urllib.parse
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi import Query as Parameter
from fastapi.responses import HTMLResponse, RedirectResponse

from cloud.console import words
from cloud.console.sessions import LASTS_S
from cloud.console.visit import Console, language_of
from cloud.hub.parts import SESSION
from cloud.hub.problems import Busy
from contract.errors import StoreUnavailable

router = APIRouter(include_in_schema=False)
MAX_TOKEN = 200
_YEAR_S = 365 * 86_400
_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{log_in} · {product}</title><link rel="stylesheet" href="/assets/console.css"></head>
<body class="door"><main id="main"><h1>{product}</h1><p class="what">{console}</p>
<form method="post" action="/login">{problem}
<label for="token">{token}</label>
<input id="token" name="token" type="password" required autofocus autocomplete="current-password"
 maxlength="{most}" spellcheck="false" aria-describedby="help">
<p id="help">{token_help}</p>
<input type="hidden" name="to" value="{to}"><button type="submit">{log_in}</button></form>
<a class="language" href="/language?to={other}&amp;back=/login" lang="{other}">{switch}</a></main></body></html>
"""


def console_of(request: Request) -> Console:
    """The running console."""
    part = request.app.state.console
    assert isinstance(part, Console)  # noqa: S101 - cloud.console.app puts it there
    return part


def local(address: str) -> str:
    """The address when it is a path of ours, else the first page: nobody is sent elsewhere."""
    parts = urllib.parse.urlsplit(address)
    inside = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc
    return address if inside and address.isprintable() else "/"


@router.get("/login")
async def login_page(request: Request, to: Annotated[str, Parameter(max_length=2000)] = "/") -> Response:
    """Ask for a token."""
    return _page(request, to)


@router.post("/login")
async def log_in(
    request: Request,
    token: Annotated[str, Form(max_length=MAX_TOKEN)] = "",
    to: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Take a token for a session's cookie."""
    console = console_of(request)
    peer = request.client.host if request.client else ""
    try:
        reader = await console.tokens.reader_of(token.strip(), peer)
        if reader is None:
            return _page(request, to, "token_wrong", 401)
        await console.hub.trail.record(
            f"{reader.token} {reader.department}", "console.login", "console", {"from": peer}
        )
        secret = await console.sessions.opened(reader)
    except Busy:
        return _page(request, to, "token_busy", 429)
    except StoreUnavailable:
        return _page(request, to, "hub_away", 503)
    answer = RedirectResponse(local(to), status_code=303)
    answer.set_cookie(
        SESSION, secret, max_age=int(LASTS_S), httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session."""
    await console_of(request).sessions.closed(request.cookies.get(SESSION, ""))
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(SESSION)
    return answer


@router.get("/language")
async def choose_language(
    to: Annotated[str, Parameter(max_length=10)], back: Annotated[str, Parameter(max_length=2000)] = "/"
) -> Response:
    """Remember a language."""
    answer = RedirectResponse(local(back), status_code=303)
    if to in words.LANGUAGES:
        answer.set_cookie(words.COOKIE, to, max_age=_YEAR_S, samesite="lax")
    return answer


def _page(request: Request, to: str, problem: str = "", status: int = 200) -> Response:
    language = language_of(request)
    say = words.speaking(language)
    keys = ("log_in", "product", "console", "token", "token_help")
    text = _PAGE.format(
        **{key: html.escape(say(key)) for key in keys},
        language=language,
        other="en" if language == "zh" else "zh",
        switch=say("language"),
        most=MAX_TOKEN,
        to=html.escape(local(to), quote=True),
        problem=f'<p role="alert" class="problem">{html.escape(say(problem))}</p>' if problem else "",
    )
    return HTMLResponse(text, status_code=status)

"""The page's addresses: who may see them, and what they answer. Works without script; a form carries its login's token.

GET  /                     devices, the ill first          POST /login    password
GET  /device/NAME          one device                      POST /logout
POST /device/NAME/test     ask it now, then back to it     GET  /assets/VERSION/FILE
GET  /gateway              uplink, outbox, clock, disk     GET, POST /sheet    the acceptance report
"""

import hashlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from edge.page import words
from edge.page.causes import Language, Plight, cause
from edge.page.login import Door, Sessions
from edge.page.site import Site, decoded_rows, hex_rows, local_time
from edge.page.trial import Busy

ASSETS = Path(__file__).parent / "assets"
SERVED = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
COOKIE = "weinao-page"
LANGUAGE_COOKIE = "weinao-language"
LANGUAGE_S = 365 * 24 * 3600
DEVICES_A_PAGE = 50
MAX_NAME_CHARS = 80
MAX_REMARKS_CHARS = 2000
MAX_FIELDS = 10
CARD_VALUES = 3
_PROBLEMS = {400: "bad_request", 403: "forbidden", 404: "not_found", 405: "bad_request", 413: "too_large"}

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(site: Site, password: str, lifetime_s: float, *, secure: bool) -> Starlette:
    """The application. lifetime_s: of a login. secure: cookies travel in TLS only."""
    pages = _Pages(site, Door(password, time.monotonic), Sessions(lifetime_s, time.monotonic), secure=secure)
    inside = pages.inside
    return Starlette(
        routes=[
            Route("/", inside(pages.devices)),
            Route("/device/{name}", inside(pages.device)),
            Route("/device/{name}/test", inside(pages.test), methods=["POST"]),
            Route("/gateway", inside(pages.machine)),
            Route("/sheet", inside(pages.sheet), methods=["GET", "POST"]),
            Route("/login", pages.login, methods=["GET", "POST"]),
            Route("/logout", inside(pages.logout), methods=["POST"]),
            Route("/assets/{version}/{name}", pages.asset),
        ],
        exception_handlers={HTTPException: pages.problem},
    )


class _Pages:
    """What each address answers."""

    def __init__(self, site: Site, door: Door, sessions: Sessions, *, secure: bool) -> None:
        self._site = site
        self._door = door
        self._sessions = sessions
        self._secure = secure
        self._files = {name: (ASSETS / name).read_bytes() for name in SERVED}
        self._version = hashlib.sha256(b"".join(self._files.values())).hexdigest()[:12]
        self._templates = Environment(
            loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, auto_reload=False
        )
        self._templates.filters["path"] = lambda text: quote(text, safe="")

    def inside(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint for those who are logged in; its forms must be of their login."""

        async def guarded(request: Request) -> Response:
            cookie = request.cookies.get(COOKIE, "")
            if not self._sessions.knows(cookie):
                if "x-live" in request.headers:
                    return Response(status_code=401)
                return RedirectResponse("/login", 303)
            if request.method == "POST" and not self._sessions.trusts(cookie, fields(request).get("token", "")):
                raise HTTPException(403)
            return await endpoint(request)

        return guarded

    async def devices(self, request: Request) -> Response:
        """Every device, a screen at a time."""
        facts = self._site.facts()
        pages = max(1, -(-len(facts.devices) // DEVICES_A_PAGE))
        asked = request.query_params.get("page", "1")
        page = min(pages, max(1, int(asked))) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 1
        shown = facts.devices[(page - 1) * DEVICES_A_PAGE : page * DEVICES_A_PAGE]
        return self._show(request, "devices.html", facts=facts, shown=shown, page=page, pages=pages)

    async def device(self, request: Request) -> Response:
        """One device and its last test."""
        facts = self._site.facts()
        name = request.path_params["name"]
        device = next((one for one in facts.devices if one.name == name), None)
        if device is None:
            raise HTTPException(404)
        return self._show(
            request,
            "device.html",
            facts=facts,
            device=device,
            trial=self._site.trials.latest.get(name),
            verdict=self._site.verdict,
            busy="busy" in request.query_params,
        )

    async def test(self, request: Request) -> Response:
        """Ask a device now."""
        name = request.path_params["name"]
        if not self._site.has(name):
            raise HTTPException(404)
        busy = ""
        try:
            await self._site.trials.run(name)
        except Busy:
            busy = "?busy=1"
        return RedirectResponse(f"/device/{quote(name, safe='')}{busy}#test", 303)

    async def machine(self, request: Request) -> Response:
        """Uplink, outbox, clock, disk, versions."""
        return self._show(
            request, "gateway.html", facts=self._site.facts(), machine=await self._site.machine(), site=self._site
        )

    async def sheet(self, request: Request) -> Response:
        """The form, or the report."""
        if request.method == "GET":
            return self._show(request, "sheet.html", facts=self._site.facts())
        given = fields(request)
        return self._show(
            request,
            "report.html",
            facts=self._site.facts(),
            site=self._site,
            technician=given.get("technician", "")[:MAX_NAME_CHARS],
            remarks=given.get("remarks", "")[:MAX_REMARKS_CHARS],
        )

    async def login(self, request: Request) -> Response:
        """The form, or whether the password is right."""
        if request.method == "GET":
            return self._show(request, "login.html")
        who = request.client.host if request.client else ""
        wait_s = self._door.wait_s(who)
        if wait_s:
            return self._wait(request, wait_s)
        if self._door.opens(who, fields(request).get("password", "")):
            answer = RedirectResponse("/", 303)
            self._sessions.end(request.cookies.get(COOKIE, ""))
            self._cookie(answer, COOKIE, self._sessions.begin(), self._sessions.lifetime_s)
            return answer
        wait_s = self._door.wait_s(who)
        return self._wait(request, wait_s) if wait_s else self._show(request, "login.html", 401, wrong=True)

    async def logout(self, request: Request) -> Response:
        """End the login."""
        self._sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    async def asset(self, request: Request) -> Response:
        """Style and script: nothing secret, and the login page needs them."""
        name = request.path_params["name"]
        if name not in self._files or request.path_params["version"] != self._version:
            raise HTTPException(404)
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(self._files[name], media_type=SERVED[name], headers=headers)

    async def problem(self, request: Request, error: Exception) -> Response:
        """What went wrong, in words."""
        status = error.status_code if isinstance(error, HTTPException) else 400
        return self._show(request, "problem.html", status, text=_PROBLEMS.get(status, "bad_request"))

    def _wait(self, request: Request, wait_s: float) -> Response:
        answer = self._show(request, "login.html", 429, wait_s=wait_s)
        answer.headers["retry-after"] = str(int(wait_s) + 1)
        return answer

    def _show(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        cookie = request.cookies.get(COOKIE, "")
        known = self._sessions.knows(cookie)
        asked = request.query_params.get("lang")
        language = words.chosen(asked, request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))
        text = self._templates.get_template(template).render(
            gateway=self._site.gateway,
            version=self._version,
            language=language,
            languages=words.LANGUAGES,
            here=request.url.path,
            logged_in=known,
            token=self._sessions.form_token(cookie) if known else "",
            **_helpers(language),
            **values,
        )
        answer = HTMLResponse(text, status)
        if asked == language:
            self._cookie(answer, LANGUAGE_COOKIE, language, LANGUAGE_S)
        return answer

    def _cookie(self, answer: Response, name: str, value: str, age_s: float) -> None:
        answer.set_cookie(name, value, round(age_s), httponly=True, samesite="strict", secure=self._secure)


def fields(request: Request) -> dict[str, str]:
    """The form's fields, as the guard read them. Raises HTTPException for what is no form."""
    body: bytes = request.scope.get("weinao.body", b"")
    try:
        found = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise HTTPException(400) from None
    return {name: values[0] for name, values in found.items()}


def _helpers(language: Language) -> dict[str, Any]:
    """What templates say things with."""

    def t(key: str, **values: object) -> str:
        return words.say(language, key, **values)

    def sentence(plight: Plight) -> str:
        return cause(plight, language)

    def number(value: float | None, key: str = "ms") -> str:
        return t("unknown") if value is None else t(key, n=f"{value:.0f}" if value >= 10 else f"{value:.1f}")

    return {
        "t": t,
        "sentence": sentence,
        "number": number,
        "ago": lambda seconds: words.ago(language, seconds),
        "span": lambda seconds: words.span(language, seconds),
        "size": words.size,
        "signal_word": words.signal_word,
        "hex_rows": hex_rows,
        "decoded_rows": decoded_rows,
        "local_time": local_time,
        "card_values": CARD_VALUES,
    }

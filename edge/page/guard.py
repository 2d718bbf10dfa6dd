"""Why: the page stands on a hotspot that anybody may join, beside sampling that nobody may disturb.

Around the application: no body above MAX_BODY_BYTES or slower than BODY_S, no form that another site sent, and headers
that let a browser load nothing but this page's own style and script. Around the server: MAX_CONNECTIONS connections,
each of which has REQUEST_S to say what it wants.
"""

import asyncio
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_BODY_BYTES = 16 * 1024
BODY_S = 10.0
MAX_CONNECTIONS = 32
REQUEST_S = 10.0

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not "no-referrer": with it browsers hide the origin of our own forms, too.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), usb=(), serial=()",
}


class Guard:
    """The application behind its guard."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._extra(scope, message)]
            await send(message)

        status = 0
        if scope["method"] == "POST":
            body, status = await _body(scope, receive)
            if not status and _foreign(scope):
                status = 403
            scope["weinao.body"] = body
        if status:
            await _refuse(guarded_send, status)
            return
        await self._app(scope, receive, guarded_send)

    def _extra(self, scope: Scope, message: Message) -> list[tuple[bytes, bytes]]:
        given = {name.lower() for name, _ in message["headers"]}
        extra = [] if b"cache-control" in given else [(b"cache-control", b"no-store")]
        if scope["scheme"] == "https":
            extra.append((b"strict-transport-security", b"max-age=31536000"))
        return self._headers + extra


async def _body(scope: Scope, receive: Receive) -> tuple[bytes, int]:
    """A form's bytes, and the status to refuse it with: 0 when it is fine."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return b"", 400
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    return b"", 413
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return b"", 408
    kind = _header(scope, b"content-type").partition(";")[0].strip().lower()
    return bytes(body), 0 if kind == "application/x-www-form-urlencoded" else 415


def _foreign(scope: Scope) -> bool:
    """Whether the browser says that another site sent this form. Old browsers say nothing: forms have a token, too."""
    site, origin = _header(scope, b"sec-fetch-site"), _header(scope, b"origin")
    if site and site not in {"same-origin", "none"}:
        return True
    return bool(origin) and urlsplit(origin).netloc != _header(scope, b"host")


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _refuse(send: Send, status: int) -> None:
    text = b"refused\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    # What was not read of the body would be taken for the next request.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Protocol(H11Protocol):
    """uvicorn's HTTP, with an end to connections that are too many or say nothing."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """asyncio's."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._expect()

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._relax()
        elif self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._relax()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """A whole request head has to come by then, however slowly its bytes drip."""
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

"""Why: a technician's browser shows what the camera sees, and nobody else's may.

A page and its pictures on loopback alone, behind a token that is new each time; nothing is cached, logged or loaded
from elsewhere. Who asks by another host's name is refused, so that no web site can reach it through the browser.
"""

import hmac
import html
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

MOST_VIEWERS = 4
MOST_GUESTS = 16
"""Connections at a time, whoever they are."""
PATIENCE_S = 10.0
_BOUNDARY = "weinao-picture"
_HEADERS = {
    "Cache-Control": "no-store, max-age=0",
    "Pragma": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_PAGE = """<!doctype html><html lang="{lang}"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root{{color-scheme:dark}}body{{margin:0;background:#000;color:#fff;font:18px/1.45 sans-serif}}
img{{display:block;width:100%;max-height:78vh;object-fit:contain;background:#222}}
p,ul{{margin:.5em .7em}}ul{{padding-left:1.2em}}a{{color:#ff0}}b.loud{{background:#c00;padding:0 .4em}}
</style>
<img src="stream.mjpg" alt="{alt}">
<p><b>{title}</b> {loud}</p>
<ul>{rows}</ul>
<p><a href="still.jpg">{still}</a> &middot; {gone}</p></html>
"""
_WORDS = {
    "en": {
        "alt": "what the camera sees",
        "still": "one still picture",
        "gone": "All of this is gone when the command ends.",
        "hidden": "People and vehicles are pixelated.",
        "loud": "PEOPLE CAN BE RECOGNISED: show this to nobody who may not see it",
    },
    "zh": {
        "alt": "摄像机看到的画面",
        "still": "单张静止画面",
        "gone": "命令结束后，这里的一切都会消失。",
        "hidden": "行人和车辆已打码。",
        "loud": "画面中的人可被辨认：请勿给无权观看者看",
    },
}


def page(title: str, rows: list[str], language: str, *, reveal: bool) -> bytes:
    """The page in a language ("zh", otherwise English). Title and rows are any text."""
    words = _WORDS["zh" if language == "zh" else "en"]
    loud = f'<b class="loud">{words["loud"]}</b>' if reveal else words["hidden"]
    listed = "".join(f"<li>{html.escape(row)}</li>" for row in rows)
    told = {"title": html.escape(title), "rows": listed, "loud": loud, "lang": "zh" if language == "zh" else "en"}
    return _PAGE.format(alt=words["alt"], still=words["still"], gone=words["gone"], **told).encode()


def preferred(accept: str) -> str:
    """`zh` when the browser's Accept-Language names Chinese before English, else `en`."""
    tags = [part.split(";")[0].strip().lower()[:2] for part in accept.split(",")[:16]]
    return next((tag for tag in tags if tag in _WORDS), "en")


class Page(ThreadingHTTPServer):
    """Serves the newest picture. Raises OSError when the port is taken."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, title: str, rows: list[str], *, reveal: bool = False) -> None:
        self.token = secrets.token_urlsafe(16)
        self.bodies = {language: page(title, rows, language, reveal=reveal) for language in _WORDS}
        self.viewers = threading.BoundedSemaphore(MOST_VIEWERS)
        self._guests = threading.BoundedSemaphore(MOST_GUESTS)
        self._fresh = threading.Condition()
        self._jpeg, self._number, self._ended = b"", 0, False
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.2,), name="page", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._fresh:
            self._ended, self._jpeg = True, b""
            self._fresh.notify_all()
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """Where the page is, token included."""
        return f"http://{self.server_address[0]!s}:{self.server_port}/{self.token}/"

    def show(self, jpeg: bytes) -> None:
        """This is the newest picture."""
        with self._fresh:
            self._jpeg, self._number = jpeg, self._number + 1
            self._fresh.notify_all()

    def after(self, number: int) -> tuple[int, bytes]:
        """The newest picture and its number, once it is newer than `number`; no bytes when none comes any more."""
        with self._fresh:
            self._fresh.wait_for(lambda: self._number > number or self._ended, PATIENCE_S)
            return (self._number, self._jpeg) if self._number > number and not self._ended else (number, b"")

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each of the first few; the others are hung up on."""
        if self._guests.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See `process_request`."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._guests.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that leaves is no event."""


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Page
    server_version, sys_version = "weinao", ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        """Answer, or 404 without the token."""
        name = self._allowed()
        if name == "":
            language = preferred(self.headers.get("Accept-Language", ""))
            self._send(200, "text/html; charset=utf-8", self.server.bodies[language])
        elif name in {"still.jpg", "stream.mjpg"}:
            if not self.server.viewers.acquire(blocking=False):
                self._send(503, "text/plain", b"too many look already\n")
                return
            try:
                self._still() if name == "still.jpg" else self._stream()
            finally:
                self.server.viewers.release()
        else:
            self._send(404, "text/plain", b"not here\n")

    def _allowed(self) -> str | None:
        """What is asked for behind the token; None for who may not ask."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        token, slash, name = self.path.removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())
        return name if known and slash and host in {"127.0.0.1", "localhost"} else None

    def _head(self, status: int, kind: str, length: int | None) -> None:
        self.send_response(status)
        for key, value in _HEADERS.items():
            self.send_header(key, value)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self._head(status, kind, len(body))
        self.wfile.write(body)

    def _still(self) -> None:
        _, jpeg = self.server.after(0)
        self._send(200 if jpeg else 503, "image/jpeg", jpeg)

    def _stream(self) -> None:
        self._head(200, f"multipart/x-mixed-replace; boundary={_BOUNDARY}", None)
        number, jpeg = self.server.after(0)
        while jpeg:
            part = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(part.encode() + jpeg + b"\r\n")
            number, jpeg = self.server.after(number)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """A log of requests would hold the token."""

"""The two ways a live picture leaves a simulated camera: H.264 over RTSP, and MJPEG over HTTP. With their faults."""

import base64
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import cv2

from hardware_sim.street.gst import Child, i420
from hardware_sim.street.gst_child import HEADER
from hardware_sim.street.types import Bytes

BOUNDARY = "street"
MAX_CLIENTS = 16
QUALITY = 80


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the stream, not with the picture.

    stall: nothing more comes, in the middle of a frame. loss: share of packets (MJPEG: of frames) that are lost. skew:
    below 1 how much faster the stream's clock runs, from 1 on by how many seconds it is off. shrink: what the picture's
    sides are divided by. down: the server is gone.
    """

    stall: bool = False
    loss: float = 0.0
    skew: float = 0.0
    shrink: float = 1.0
    down: bool = False


class Outlet(Protocol):
    """Where a picture goes. `port` is kept over `close` and `open`."""

    port: int

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""

    def open(self) -> None:
        """Listen. Raises OSError."""

    def send(self, number: int, bgr: Bytes) -> None:
        """A new picture, for whoever looks."""

    def trouble(self, trouble: Trouble) -> None:
        """From now on these faults and no others, but for `down`, which is open's and close's."""

    def close(self) -> None:
        """Stop listening and leave all clients."""


def shrunk(bgr: Bytes, shrink: float) -> Bytes:
    """A picture with smaller, even sides."""
    if shrink == 1:
        return bgr
    width, height = (round(side / shrink / 2) * 2 for side in (bgr.shape[1], bgr.shape[0]))
    return cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


class RtspOutlet:
    """H.264 over RTSP, encoded while somebody looks."""

    def __init__(self, host: str, port: int, path: str, fps: int, account: tuple[str, str] | None) -> None:
        self.host, self.port, self.path, self.fps, self.account = host, port, path, fps, account
        self._child: Child | None = None
        self._watched = False
        self._trouble = Trouble()

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return self._watched

    def open(self) -> None:
        """Start the server. Raises GstError."""
        arguments = ["live", self.host, str(self.port), self.path, str(self.fps), *(self.account or ())]
        child = Child(arguments, self._heard)
        self.port = int(child.wait_for("listening"))
        self._child = child
        self.trouble(self._trouble)

    def send(self, number: int, bgr: Bytes) -> None:
        """A new picture, for whoever looks."""
        if self._child is None or not self._watched:
            return
        picture = shrunk(bgr, self._trouble.shrink)
        height, width = picture.shape[:2]
        self._child.write(HEADER.pack(b"F", number & 0xFFFFFFFF, width, height), i420(picture))

    def trouble(self, trouble: Trouble) -> None:
        """From now on these faults and no others."""
        self._trouble = trouble
        if self._child is not None:
            text = json.dumps({"stall": int(trouble.stall), "loss": trouble.loss, "skew": trouble.skew}).encode()
            self._child.write(HEADER.pack(b"C", len(text), 0, 0), text)

    def close(self) -> None:
        """Stop the server: its clients lose their connections."""
        child, self._child, self._watched = self._child, None, False
        if child is not None:
            child.close()

    def _heard(self, event: dict[str, Any]) -> None:
        if "watched" in event:
            self._watched = event["watched"]


class MjpegOutlet:
    """JPEGs over HTTP, one behind the other. A slow client gets the newest and misses some.

    Each part says its frame (`X-Frame`) and when it was taken (`X-Timestamp`, seconds since 1970).
    """

    def __init__(self, host: str, port: int, path: str, account: tuple[str, str] | None) -> None:
        self.host, self.port, self.path = host, port, path
        self.expects = "Basic " + base64.b64encode(":".join(account).encode()).decode() if account else None
        self.fault = Trouble()
        self.chance = random.Random(1)
        self.news = threading.Condition()
        self.newest: tuple[int, float, bytes] = (-1, 0.0, b"")
        self.clients = 0
        self.closed = False
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return self.clients > 0

    def open(self) -> None:
        """Listen. Raises OSError."""
        self.closed = False
        handler: Callable[..., BaseHTTPRequestHandler] = lambda *args: _Pages(self, *args)  # noqa: E731 - typed
        server = _Listener((self.host, self.port), handler)
        self.port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def send(self, number: int, bgr: Bytes) -> None:
        """A new picture, for whoever looks."""
        if not self.clients or self.chance.random() < self.fault.loss:
            return
        _, data = cv2.imencode(".jpg", shrunk(bgr, self.fault.shrink), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        skew, now_s = self.fault.skew, time.time()
        lie_s = now_s % 3600 * skew if abs(skew) < 1 else skew
        with self.news:
            self.newest = (number, now_s + lie_s, data.tobytes())
            self.news.notify_all()

    def trouble(self, trouble: Trouble) -> None:
        """From now on these faults and no others."""
        with self.news:
            self.fault = trouble
            self.news.notify_all()

    def close(self) -> None:
        """Stop listening and leave all clients."""
        server, self._server = self._server, None
        if server is None:
            return
        with self.news:
            self.closed = True
            self.news.notify_all()
        server.shutdown()
        server.server_close()

    def after(self, number: int) -> tuple[int, float, bytes] | None:
        """The newest picture after one; None when the server closes."""
        with self.news:
            self.news.wait_for(lambda: self.closed or self.newest[0] > number)
            return None if self.closed else self.newest

    def hang(self) -> None:
        """Wait for as long as the stream stalls."""
        with self.news:
            self.news.wait_for(lambda: self.closed or not self.fault.stall)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A client that went away is nothing to tell."""


class _Pages(BaseHTTPRequestHandler):
    """One client of the MJPEG server."""

    timeout = 10

    def __init__(self, outlet: MjpegOutlet, *args: Any) -> None:
        self._outlet = outlet
        super().__init__(*args)

    def do_GET(self) -> None:
        """The stream."""
        outlet = self._outlet
        if outlet.expects is not None and self.headers.get("Authorization") != outlet.expects:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path != outlet.path or outlet.clients >= MAX_CLIENTS:
            self.send_error(404 if self.path != outlet.path else 503)
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        with outlet.news:
            outlet.clients += 1
        try:
            self._stream(outlet)
        except OSError:
            pass  # the client has gone, or takes nothing any more
        finally:
            with outlet.news:
                outlet.clients -= 1

    def _stream(self, outlet: MjpegOutlet) -> None:
        number = outlet.newest[0]
        while (newest := outlet.after(number)) is not None:
            number, taken_s, data = newest
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n"
            head += f"X-Frame: {number}\r\nX-Timestamp: {taken_s:.6f}\r\n\r\n"
            whole = head.encode() + data + b"\r\n"
            half = len(whole) // 2 if outlet.fault.stall else len(whole)
            self.wfile.write(whole[:half])
            self.wfile.flush()
            if half < len(whole):
                outlet.hang()
                if outlet.closed:
                    return
                self.wfile.write(whole[half:])

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name that the base class has
        """Say nothing: requests are not news."""

"""One connection to a camera, from opening it to its end: the only place that calls cv2.VideoCapture.

Every frame is grabbed, so that none waits in a buffer and grows old; only what the fps budget allows is decoded into a
picture. The time of a frame is taken when its grab returns.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import cv2
import numpy as np

from drivers.base_camera_source import SourceKind
from drivers.camera_clock import StreamTime
from drivers.camera_order import Order
from drivers.camera_picture import Painter
from drivers.camera_ring import (
    CAPTURED,
    CLOCK_JUMPS,
    CLOCK_PPM,
    CLOCK_STATE,
    LAST_NS,
    Head,
    Image,
    Ring,
    Writer,
    size_is_sane,
)

SECOND = 1_000_000_000
CLOCK_NONE, CLOCK_GOOD, CLOCK_WRONG = range(3)
FILE_FPS = 25.0  # of a file that does not say
MAX_NS = 1 << 62


class Why(Enum):
    """How a connection ended."""

    UNOPENED = auto()  # there was none: somebody should ask the camera why
    STALLED = auto()  # connected, and no frame for as long as the read timeout
    LOST = auto()
    FILE_ENDED = auto()
    STOPPED = auto()


@dataclass(frozen=True, slots=True)
class End:
    """The end of a connection; `text` is for the technician."""

    why: Why
    text: str = ""


def boottime_ns() -> int:
    """CLOCK_BOOTTIME, ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Budget:
    """Which frames to keep for `fps` a second, evenly.

    A frame may come half a period early: a camera that sends no faster than the budget would else lose every frame
    that the network delivers a little early. What is kept early is made up for, so the rate holds.
    """

    def __init__(self, fps: float) -> None:
        self._period_ns = round(SECOND / fps)
        self._due_ns = 0

    def keeps(self, now_ns: int) -> bool:
        """Whether to keep the frame of now."""
        if now_ns < self._due_ns - self._period_ns // 2:
            return False
        self._due_ns = max(self._due_ns + self._period_ns, now_ns + self._period_ns * 3 // 4)
        return True


class Session:
    """Connections of one order, one after another. live: called when a connection brought its first picture."""

    def __init__(
        self,
        order: Order,
        ring: Ring,
        writer: Writer,
        stop: threading.Event,
        *,
        live: Callable[[], None],
        clock: Callable[[], int] = boottime_ns,
    ) -> None:
        cv2.setNumThreads(1)
        self._order = order
        self._source = order.parsed_source
        self._board = ring.board
        self._writer = writer
        self._painter = Painter(order.canvas, order.thumbnail, order.masks)
        self._stop = stop
        self._live = live
        self._clock = clock
        self._frame: Image | None = None
        self._last_ns = 0

    def run(self) -> End:
        """Connect and capture until it ends."""
        capture = self._open()
        try:
            return self._capture(capture) if capture.isOpened() else End(Why.UNOPENED)
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        order, source = self._order, self._source
        if source.kind is SourceKind.V4L2:
            return cv2.VideoCapture(source.path, cv2.CAP_V4L2)
        # One thread: with more, FFmpeg holds back as many frames as there are threads, a delay and memory for nothing.
        # Without the timeouts, a silent camera blocks for half a minute; they cannot be set later.
        settings = [cv2.CAP_PROP_N_THREADS, 1]
        settings += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(order.open_timeout_s * 1000)]
        settings += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(order.read_timeout_s * 1000)]
        return cv2.VideoCapture(source.url(order.username, order.password), cv2.CAP_FFMPEG, settings)

    def _capture(self, capture: cv2.VideoCapture) -> End:
        size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if not size_is_sane(*size):
            text = f"{self._source.shown} sends pictures of {size[0]} x {size[1]} pixels: set a sensible size"
            return End(Why.LOST, text)
        budget, stream, live = Budget(self._order.fps), StreamTime(), False
        began_ns, jumps = self._clock(), int(self._board[CLOCK_JUMPS])
        player = _Player(capture) if self._source.kind is SourceKind.FILE else None
        while not self._stop.is_set():
            asked_ns = self._clock()
            if not capture.grab():
                return self._why_no_frame(asked_ns, live=live)
            if live and self._held_back(asked_ns):
                continue  # it does not say that the camera is back; the next one will, or none comes
            if player is not None:
                self._stop.wait(player.wait_s(capture, self._clock() - began_ns))
            now_ns, stream_ns = self._clock(), self._stream_ns(capture)
            # Nor is a frame dated before the last one of the connection before.
            self._last_ns = max(stream.when(now_ns, stream_ns), self._last_ns + 1)
            self._note(stream, now_ns, jumps)
            if not budget.keeps(now_ns):
                continue
            if not self._keep(capture, stream_ns, first=not live):
                return End(Why.LOST, f"{self._source.shown} sends pictures that cannot be decoded")
            live = True
        return End(Why.STOPPED)

    def _note(self, stream: StreamTime, now_ns: int, jumps_before: int) -> None:
        board = self._board
        board[CAPTURED] += 1
        board[LAST_NS] = now_ns
        board[CLOCK_STATE] = _clock_state(stream, now_ns)
        board[CLOCK_PPM] = round((stream.rate - 1.0) * 1e6)
        board[CLOCK_JUMPS] = jumps_before + stream.jumps

    def _keep(self, capture: cv2.VideoCapture, stream_ns: int, *, first: bool) -> bool:
        ok, picture = capture.retrieve(self._frame)
        if not ok or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            return False
        frame = np.asarray(picture, np.uint8)  # itself
        size = (frame.shape[1], frame.shape[0])
        if not size_is_sane(*size):
            return False
        self._frame = frame
        self._painter.paint(frame, self._writer.begin())
        if first:
            self._live()  # said before anybody can take the picture
        self._writer.publish(Head(int(self._board[CAPTURED]), self._last_ns, stream_ns, size))
        return True

    def _stream_ns(self, capture: cv2.VideoCapture) -> int:
        # FFmpeg invents the times of MJPEG over HTTP: 25 frames a second, whatever comes.
        if self._source.kind is SourceKind.HTTP:
            return 0
        milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
        return round(milliseconds * 1e6) if 0 < milliseconds * 1e6 < MAX_NS else 0

    def _held_back(self, asked_ns: int) -> bool:
        """Whether this frame came because FFmpeg waits no longer: its parser holds one back until the next begins, and
        hands it over after a silence. It is as old as the silence."""
        on_network = self._source.kind in {SourceKind.RTSP, SourceKind.HTTP}
        return on_network and self._clock() - asked_ns >= self._order.read_timeout_s * SECOND

    def _why_no_frame(self, asked_ns: int, *, live: bool) -> End:
        shown, limit_s = self._source.shown, self._order.read_timeout_s
        if self._source.kind is SourceKind.FILE:
            return End(Why.FILE_ENDED) if live else End(Why.LOST, f"{shown} has no picture that can be decoded")
        if self._clock() - asked_ns >= limit_s * 0.9 * SECOND:
            return End(Why.STALLED, f"{shown} has sent no picture for {limit_s:g} s")
        return End(Why.LOST, f"{shown} ended the stream")


class _Player:
    """Plays a file at its own speed."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._period_s = 1.0 / (fps if 0.1 <= fps <= 1000 else FILE_FPS)
        self._frames = 0

    def wait_s(self, capture: cv2.VideoCapture, played_ns: int) -> float:
        """Seconds until the frame that was just grabbed is due."""
        position_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        due_s = position_s if position_s > 0 else self._frames * self._period_s
        self._frames += 1
        return max(0.0, min(due_s - played_ns / SECOND, 10.0))


def _clock_state(stream: StreamTime, now_ns: int) -> int:
    if stream.wrong(now_ns):
        return CLOCK_WRONG
    return CLOCK_GOOD if stream.known else CLOCK_NONE

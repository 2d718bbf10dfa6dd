"""Looks from one camera, by a capture process that this end starts, watches and replaces.

A thread a camera keeps the process: it hears what the process says, kills one that makes no progress (a decoder that
loops, a name server that never answers) and starts another after a growing, jittered wait. The thread sleeps nearly
always. What the process must not be trusted with stays here: the counters over its lifetimes, the check of each frame,
the words that reach a log.
"""

import logging
import os
import random
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from drivers.base_camera import (
    THUMBNAIL,
    CameraBusSpec,
    CaptureState,
    CaptureStatus,
    Look,
    StreamClock,
)
from drivers.camera_child import Child, ChildFailedError, Word
from drivers.camera_order import Order
from drivers.camera_ring import (
    CAPTURED,
    CLOCK_JUMPS,
    CLOCK_PPM,
    CLOCK_STATE,
    KEPT,
    LAST_NS,
    BadFrameError,
    Reader,
    Ring,
    Shape,
    create,
    fit,
)
from drivers.camera_waits import Waits

log = logging.getLogger(__name__)

SECOND = 1_000_000_000
JOIN_S = 0.04
_CLOCKS = (StreamClock.NONE, StreamClock.GOOD, StreamClock.WRONG)
_MOST = 1 << 53


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a capture is, in seconds.

    first_wait_s, most_wait_s: between attempts to connect. password_wait_s: after a refused password, because many
    cameras lock an account after a few attempts; its file is read again. start_s: for the process to start and a name
    to be resolved on a slow board. margin_s: beyond the camera's own timeouts.
    """

    first_wait_s: float = 0.5
    most_wait_s: float = 30.0
    password_wait_s: float = 60.0
    start_s: float = 20.0
    margin_s: float = 2.0


def boottime_ns() -> int:
    """CLOCK_BOOTTIME, ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class ProcessCapture:
    """Implements drivers.base_camera.Capture. canvas: (width, height) of the model's input."""

    def __init__(
        self,
        spec: CameraBusSpec,
        canvas: tuple[int, int],
        *,
        pace: Pace | None = None,
        python: str = sys.executable,
        clock: Callable[[], int] = boottime_ns,
    ) -> None:
        self._spec = spec
        self._camera = spec.devices[0]
        self._source = spec.parsed_source
        self._pace = pace or Pace()
        self._python = python
        self._clock = clock
        shape = Shape(canvas, THUMBNAIL)
        self._memory = create(shape)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ring = Ring(self._memory, shape)
        self._reader = Reader(self._ring)
        self._lock = threading.Lock()  # guards all that follows
        self._closed = False
        self._distrust = ""
        self._state = CaptureState.CONNECTING
        self._error = ""
        self._connections = self._restarts = self._taken = 0
        self._captured_before = self._kept_before = self._jumps_before = 0
        self._last_number = self._last_time_ns = self._last_frame_ns = self._live_since_ns = 0
        self._keeper = threading.Thread(target=self._keep, name=f"capture {spec.name}", daemon=True)
        self._keeper.start()

    def fileno(self) -> int:
        """Readable while there is a look that was not taken."""
        return self._bell

    def look(self) -> Look | None:
        """The newest look, once; its arrays are valid until the next call."""
        with self._lock:
            if self._closed:
                return None
            _drain(self._bell)
            try:
                head = self._reader.take(self._clock())
            except BadFrameError as error:
                self._distrust = str(error)
                os.eventfd_write(self._wake, 1)
                return None
            if head is None:
                return None
            number = self._captured_before + head.number
            skipped, self._last_number = max(0, number - self._last_number - 1), number
            self._last_time_ns = max(head.time_ns, self._last_time_ns + 1)
            self._taken += 1
            place = fit(head.size, self._ring.shape.canvas)
            return Look(
                canvas=self._reader.canvas,
                thumbnail=self._reader.thumbnail,
                time_ns=self._last_time_ns,
                stream_ns=head.stream_ns,
                number=number,
                skipped=skipped,
                scale=place.scale,
                pad=place.pad,
                size=head.size,
            )

    def status(self) -> CaptureStatus:
        """What it is doing."""
        with self._lock:
            state, error = self._state, self._error
            last_ns = self._seen_last_ns()
            silent_ns = self._clock() - max(last_ns, self._live_since_ns)
            if state is CaptureState.LIVE and silent_ns > self._spec.read_timeout_s * SECOND:
                state = CaptureState.STALLED
                error = f"{self._source.shown} has sent no picture for {self._spec.read_timeout_s:g} s"
            captured = self._captured_before + self._on_board(CAPTURED)
            ppm = int(self._ring.board[CLOCK_PPM])
            return CaptureStatus(
                state=state,
                error=error,
                captured=captured,
                skipped=max(0, captured - self._taken),
                connections=self._connections,
                restarts=self._restarts,
                last_frame_ns=last_ns,
                dropped=max(0, self._kept_before + self._on_board(KEPT) - self._taken),
                clock=_CLOCKS[self._on_board(CLOCK_STATE) % len(_CLOCKS)],
                clock_rate=1.0 + max(-1_000_000, min(ppm, 1_000_000_000)) / 1e6,
                clock_jumps=self._jumps_before + self._on_board(CLOCK_JUMPS),
            )

    def close(self) -> None:
        """End it and free everything. Never raises. What a camera must still be told happens in the background."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
        self._keeper.join(JOIN_S)

    def wait_closed(self, timeout_s: float) -> bool:
        """After close(): wait until the process is gone and everything is freed; False when it is not yet."""
        self._keeper.join(timeout_s)
        return not self._keeper.is_alive()

    @property
    def _closing(self) -> bool:
        with self._lock:
            return self._closed

    def _on_board(self, field: int) -> int:
        return min(max(0, int(self._ring.board[field])), _MOST)

    def _seen_last_ns(self) -> int:
        self._last_frame_ns = max(self._last_frame_ns, min(self._on_board(LAST_NS), self._clock()))
        return self._last_frame_ns

    def _keep(self) -> None:
        """The keeper's thread: one process after another until closed."""
        waits = Waits(self._pace.first_wait_s, self._pace.most_wait_s, random.Random())  # noqa: S311 - jitter
        try:
            while not self._closing:
                began_s = time.monotonic()
                wait_s = self._one_child()
                if time.monotonic() - began_s > 2 * self._pace.most_wait_s:
                    waits.reset()
                self._pause(waits.next_s() if wait_s is None else wait_s)
        finally:
            for fd in (self._bell, self._wake, self._memory):
                os.close(fd)

    def _one_child(self) -> float | None:
        """Start a process and watch it to its end; how long to wait then, None when that was unexpected."""
        try:
            child = Child(self._order(), self._python)
        except _SecretUnreadableError as error:
            self._away(str(error))
            return self._pace.most_wait_s
        except OSError as error:
            self._away(f"the capture process cannot be started: {error.strerror}")
            return None
        why = ""
        try:
            wait_s = self._watch(child)
        except ChildFailedError as error:
            wait_s, why = None, str(error)
        child.end(polite=self._closing)
        self._forget_child()
        if wait_s is None and not self._closing:
            with self._lock:
                self._restarts += 1
            self._away(f"{self._source.shown}: {why or child.how_it_ended()}; it is started again")
        return wait_s

    def _forget_child(self) -> None:
        with self._lock:
            self._captured_before += self._on_board(CAPTURED)
            self._kept_before += self._on_board(KEPT)
            self._jumps_before += self._on_board(CLOCK_JUMPS)
            self._seen_last_ns()
            self._ring.clear()
            self._reader.restart()
            self._distrust = ""

    def _watch(self, child: Child) -> float | None:
        """Until the process ends: how long to wait before the next, None when nobody wanted that.

        Raises ChildFailedError when it hangs, lies or has a defect.
        """
        attempt_s = self._pace.start_s + 2 * self._spec.open_timeout_s + self._pace.margin_s
        patience_s = self._spec.read_timeout_s + self._pace.margin_s
        deadline_s, progress = time.monotonic() + attempt_s, 0
        while not self._closing:
            _wait(max(0.0, min(0.5, deadline_s - time.monotonic())), child.fileno(), self._wake)
            _drain(self._wake)
            if self._distrust:
                raise ChildFailedError(f"the capture process handed over {self._distrust}")
            words = child.words()
            if words is None:
                return None
            for word in words:
                self._hear(word)
                if word.password:
                    return self._pace.password_wait_s
                deadline_s = time.monotonic() + (patience_s if word.say == "live" else word.wait_s + attempt_s)
            captured = self._on_board(CAPTURED)
            if captured != progress:
                progress, deadline_s = captured, max(deadline_s, time.monotonic() + patience_s)
            if time.monotonic() >= deadline_s:
                raise ChildFailedError("the capture process hung")
        return 0.0

    def _hear(self, word: Word) -> None:
        match word.say:
            case "live":
                with self._lock:
                    self._connections += 1
                    self._live_since_ns = self._clock()
                    was, self._state, self._error = self._error, CaptureState.LIVE, ""
                if was:
                    log.info("camera %s: pictures again", self._camera.name)
            case "stalled":
                self._away(word.error, CaptureState.STALLED)
            case "away":
                self._away(word.error)
            case "broken":
                raise ChildFailedError(f"a defect of the capture process: {word.error}")

    def _away(self, error: str, state: CaptureState = CaptureState.AWAY) -> None:
        with self._lock:
            began = not self._error
            self._state, self._error = state, error
        if began:  # logged once; status() has the newest words
            log.warning("camera %s: %s", self._camera.name, error)

    def _pause(self, seconds: float) -> None:
        """Wait, or less when closed."""
        until_s = time.monotonic() + seconds
        while not self._closing and (left_s := until_s - time.monotonic()) > 0:
            _wait(left_s, self._wake)
            _drain(self._wake)

    def _order(self) -> Order:
        spec, camera = self._spec, self._camera
        return Order(
            source=spec.source,
            username=spec.username or "",
            password=self._password(),
            udp=spec.transport == "udp",
            open_timeout_s=spec.open_timeout_s,
            read_timeout_s=spec.read_timeout_s,
            fps=camera.fps,
            canvas=self._ring.shape.canvas,
            thumbnail=self._ring.shape.thumbnail,
            masks=camera.masks,
            memory=self._memory,
            bell=self._bell,
            first_wait_s=self._pace.first_wait_s,
            most_wait_s=self._pace.most_wait_s,
            parent=os.getpid(),
        )

    def _password(self) -> str:
        """Read anew for each process, so that a changed password needs no restart of the gateway."""
        file = self._spec.password_file
        if file is None:
            return ""
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise _SecretUnreadableError(f"password_file {file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise _SecretUnreadableError(f"password_file {file} is not UTF-8 text") from None


class _SecretUnreadableError(Exception):
    """There is no password to be had."""


def _wait(seconds: float, *fds: int) -> None:
    """Until one of the descriptors is readable, or less long."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    poller.poll(seconds * 1000)


def _drain(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return

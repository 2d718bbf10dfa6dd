"""GStreamer, kept at arm's length: a child under Debian's Python encodes and serves, see gst_child.py.

The simulator's own Python need not have `gi`. What is missing is one error that names the command that installs it.
"""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import cv2

from hardware_sim.street import gst_child
from hardware_sim.street.types import Bytes

PYTHON = "/usr/bin/python3"
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
    " gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)
READY_S = 20.0


class GstError(OSError):
    """GStreamer is missing or failed; the text says what to do. An OSError: whoever opens a port expects those."""


class Child:
    """One GStreamer child and its events. Raises GstError when it cannot start.

    on_event: called on the reader's thread for each event after the first.
    """

    def __init__(self, arguments: Sequence[str], on_event: Callable[[dict[str, Any]], None] | None = None) -> None:
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "XDG_CACHE_HOME") if key in os.environ}
        try:
            self.process = subprocess.Popen(  # noqa: S603 - a fixed file of our own
                [PYTHON, "-I", gst_child.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except FileNotFoundError as error:
            raise GstError(f"H.264 needs {PYTHON} with GStreamer: apt-get install {PACKAGES}") from error
        self._on_event = on_event
        self._listener: threading.Thread | None = None

    def wait_for(self, key: str) -> Any:
        """The value of the first event, which must have this key. Events after it go to on_event. Raises GstError."""
        assert self.process.stdout is not None  # noqa: S101 - narrows for the type checker
        alarm = threading.Timer(READY_S, self.process.kill)
        alarm.start()
        line = self.process.stdout.readline()
        alarm.cancel()
        event = json.loads(line) if line else {"ended": "it ended without a word"}
        if "missing" in event:
            self.close()
            packages = " ".join(event["missing"])
            raise GstError(f"H.264 over RTSP needs Debian packages: apt-get install {packages} ({event['why']})")
        if key not in event:
            self.close()
            raise GstError(f"GStreamer failed: {event.get('ended', event)}")
        if self._on_event is not None:
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
        return event[key]

    def write(self, *parts: bytes | memoryview) -> bool:
        """Hand it bytes; False when it has gone."""
        assert self.process.stdin is not None  # noqa: S101 - narrows for the type checker
        try:
            for part in parts:
                self.process.stdin.write(part)
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):  # ValueError: closed by `close` in another thread
            return False
        return True

    def end_input(self) -> None:
        """Say that nothing more comes."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def close(self, patience_s: float = 3.0) -> int:
        """End it and wait; its exit code."""
        process = self.process
        self.end_input()
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if self._listener is not None:
            self._listener.join(patience_s)
        elif process.stdout is not None:
            process.stdout.close()
        return code

    def _listen(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - narrows for the type checker
        assert self._on_event is not None  # noqa: S101 - narrows for the type checker
        with self.process.stdout as lines:
            for line in lines:
                self._on_event(json.loads(line))


def check() -> None:
    """Raise GstError unless H.264 can be encoded and served."""
    child = Child(["probe"])
    child.wait_for("ok")
    child.close()


def i420(bgr: Bytes) -> bytes:
    """A picture as the encoder wants it; its sides must be even."""
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420).tobytes()


class ClipServer:
    """Serves an MP4 file over RTSP, from frame 0 to each client. `with` ends it. Raises GstError.

    port 0 takes a free one; `url` is where it is, without user and password.
    """

    def __init__(
        self, file: Path, *, host: str = "127.0.0.1", port: int = 0, path: str = "/street",
        account: tuple[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._child = Child(["clip", host, str(port), path, str(file), *(account or ())])
        self.port = int(self._child.wait_for("listening"))
        self.url = f"rtsp://{host}:{self.port}{path}"
        self.pid = self._child.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

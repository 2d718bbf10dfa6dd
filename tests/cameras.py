"""Cameras for tests, each a real one on the wire: RTSP by GStreamer, MJPEG over HTTP, files, and broken ones."""

import contextlib
import json
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from servers import ServerFailed, ServerMissing, free_port

from drivers.base_camera import CameraBusSpec, Look
from drivers.camera_capture import ProcessCapture

SYSTEM_PYTHON = "/usr/bin/python3"
GST = "gstreamer1.0-plugins"
PACKAGES = f"python3-gi gir1.2-gst-rtsp-server-1.0 {GST}-base {GST}-good {GST}-ugly"
CANVAS = (320, 192)


def spec_of(source: str, *, bus: dict[str, Any] | None = None, **camera: Any) -> CameraBusSpec:
    """A bus with one camera called `cam`."""
    return CameraBusSpec.model_validate(
        {
            "name": "eyes",
            "driver": "camera",
            "source": source,
            "devices": [{"name": "cam", "detector": "street-small", **camera}],
            **(bus or {}),
        }
    )


class RtspServer:
    """rtsp://127.0.0.1:PORT/cam on a port that it keeps over stop and start."""

    def __init__(self, **order: Any) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self._order = {**order, "port": self.port}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        script = Path(__file__).parent / "rtsp_serve.py"
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(script), json.dumps(self._order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if not self._process.stdout.readline():
            said = self._process.stderr.read()
            self.kill()
            if "gi" in said and ("ModuleNotFoundError" in said or "not available" in said):
                raise ServerMissing(
                    f"GStreamer is not installed; run: apt-get install -y --no-install-recommends {PACKAGES}"
                )
            raise ServerFailed(said)

    def kill(self) -> None:
        """As a power cut: no goodbye to anybody."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def stall(self) -> None:
        """Connected, and silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def resize(self, width: int, height: int) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"size {width} {height}\n")
        self._process.stdin.flush()


class Peer:
    """A TCP server whose every connection is handled by `serve`, in a thread, until closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.asked: list[bytes] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # close() alone would leave accept() waiting for ever.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._open)

    def serve(self, connection: socket.socket) -> None:
        """Says nothing, until the other side leaves."""
        while connection.recv(4096):
            pass

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                self.serve(connection)
        finally:
            self._open.remove(connection)
            connection.close()

    def read_request(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data and (chunk := connection.recv(4096)):
            data += chunk
        self.asked.append(data)
        return data


class SilentPeer(Peer):
    """Takes connections and says nothing."""


class SayingPeer(Peer):
    """Answers every request with the same bytes, and closes."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        number = min(len(self.asked), len(self._answers) - 1)
        if self.read_request(connection):
            connection.sendall(self._answers[number])


class MjpegServer(Peer):
    """Motion JPEG over HTTP. pause: send nothing more. size: of the next pictures.

    Every picture is another one, by grain in a corner, as a sensor's are: a few that come again and again are frozen.
    """

    def __init__(self, *, fps: float = 25.0, size: tuple[int, int] = (320, 240)) -> None:
        self.fps, self.size = fps, size
        self.pause = threading.Event()
        self.sent = 0
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video.mjpg"

    def serve(self, connection: socket.socket) -> None:
        self.read_request(connection)
        grain = np.random.default_rng(1)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        while True:
            if not self.pause.is_set():
                picture = card(*self.size, self.sent)
                picture[:16, :16] = grain.integers(0, 256, (16, 16, 3), np.uint8)
                jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                connection.sendall(head.encode() + jpeg + b"\r\n")
                self.sent += 1
            time.sleep(1 / self.fps)


def card(width: int, height: int, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A test picture: blue left half, red right half, and the number as brightness of the lowest tenth."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2, 0] = 255
    picture[:, width // 2 :, 2] = 255
    picture[height * 9 // 10 :] = number * 8 % 256
    return picture


def make_video(path: Path, *, frames: int, fps: float = 25.0, size: tuple[int, int] = (320, 240)) -> Path:
    """A video file; MJPEG in AVI or MPEG-4 in MP4, by its suffix."""
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, fps, size)
    for number in range(frames):
        writer.write(card(*size, number))
    writer.release()
    return path


@contextlib.contextmanager
def capturing(spec: CameraBusSpec, **more: Any) -> Iterator[ProcessCapture]:
    """A capture that is closed, and gone, at the end."""
    capture = ProcessCapture(spec, CANVAS, **more)
    try:
        yield capture
    finally:
        capture.close()
        assert capture.wait_closed(5)


def next_look(capture: ProcessCapture, timeout_s: float = 15.0) -> Look:
    """The next look; fails after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        select.select([capture.fileno()], [], [], left_s)
        look = capture.look()
        if look is not None:
            return look
    raise AssertionError(f"no look within {timeout_s:g} s: {capture.status()}")


def children_of(pid: int) -> list[int]:
    """Process ids of a process's children, zombies included."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def open_files() -> int:
    """Of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))

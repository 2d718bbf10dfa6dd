"""A live camera: one process that lets a scene run in real time, draws it while somebody looks, and writes the truth.

Started by camera_port.py with its order as one JSON line on stdin; further lines say what is wrong from now on. It ends
when stdin ends. The first line of its output is {"listening": PORT}, or {"ended": REASON}.

The truth is one JSON object a line: the scene, then each frame as `witness.Moment.line` writes it, with `time_ns`
(CLOCK_REALTIME, when it was taken) and `drawn`. Frame n is taken n / fps seconds after the first one; a frame that came
too late to be drawn has its truth all the same.
"""

import json
import queue
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import cv2

from hardware_sim.street.clip import about
from hardware_sim.street.conditions import Spoil
from hardware_sim.street.film import Film
from hardware_sim.street.outlets import MjpegOutlet, Outlet, RtspOutlet, Trouble
from hardware_sim.street.scenes import make_scene

LATE_FRAMES = 1
"""A frame that is later than this many intervals is not drawn: the picture keeps up with the clock."""


@dataclass(frozen=True)
class Order:
    """What camera to be. kind: rtsp or mjpeg. account: user and password, or empty. truth: a file, or empty."""

    kind: str
    scene: str
    seed: int
    size: tuple[int, int]
    fps: int
    host: str
    port: int
    path: str
    account: tuple[str, str] | None = None
    truth: str = ""
    stamped: bool = False

    def line(self) -> bytes:
        """As the process reads it."""
        return json.dumps(self.__dict__).encode() + b"\n"

    @classmethod
    def read(cls, line: str) -> "Order":
        """The order of a line."""
        raw = json.loads(line)
        account = tuple(raw.pop("account") or ())
        width, height = raw.pop("size")
        return cls(**raw, size=(width, height), account=(account[0], account[1]) if account else None)


@dataclass(frozen=True)
class Wrong:
    """What is wrong from now on: in the picture, and in the stream."""

    spoils: dict[Spoil, int] = field(default_factory=dict)
    trouble: Trouble = field(default_factory=Trouble)

    def line(self) -> bytes:
        """As the process reads it."""
        spoils = {spoil.value: grade for spoil, grade in self.spoils.items()}
        return json.dumps({"spoils": spoils, "trouble": self.trouble.__dict__}).encode() + b"\n"

    @classmethod
    def read(cls, line: str) -> "Wrong":
        """What a line says."""
        raw = json.loads(line)
        return cls({Spoil(name): grade for name, grade in raw["spoils"].items()}, Trouble(**raw["trouble"]))


class Camera:
    """A scene that runs, and its outlet."""

    def __init__(self, order: Order, outlet: Outlet) -> None:
        self._order = order
        self._outlet = outlet
        self._film = Film(make_scene(order.scene, order.seed, order.size), order.fps, stamped=order.stamped)
        self._news: queue.Queue[Wrong | None] = queue.Queue()
        self._is_open = True

    def hear(self, wrong: Wrong | None) -> None:
        """From any thread: what is wrong from now on; None: the end."""
        self._news.put(wrong)

    def run(self, truth: TextIO | None) -> None:
        """Run until told to end."""
        if truth is not None:
            truth.write(json.dumps(about(self._film.scene, self._order.fps, {})) + "\n")
        begin_s, begin_ns = time.monotonic(), time.time_ns()
        while self._obey(begin_s + self._film.number / self._order.fps):
            number = self._film.number
            late = (time.monotonic() - begin_s) * self._order.fps - number
            draw = self._is_open and self._outlet.watched and late < LATE_FRAMES + 1
            shot = self._film.next(draw=draw)
            if shot.bgr is not None:
                self._outlet.send(number, shot.bgr)
            if truth is not None:
                time_ns = begin_ns + number * 1_000_000_000 // self._order.fps
                head = f'{{"time_ns":{time_ns},"drawn":{int(draw)},'
                truth.write(head + shot.moment.line()[1:] + "\n")
                truth.flush()

    def _obey(self, until_s: float) -> bool:
        """Wait for the next frame's time and do meanwhile what is told; False at the end."""
        while True:
            left_s = until_s - time.monotonic()
            try:
                wrong = self._news.get(timeout=left_s) if left_s > 0 else self._news.get_nowait()
            except queue.Empty:
                return True
            if wrong is None:
                return False
            self._film.spoil(wrong.spoils)
            self._outlet.trouble(wrong.trouble)
            if wrong.trouble.down == self._is_open:
                self._turn(up=not wrong.trouble.down)

    def _turn(self, *, up: bool) -> None:
        try:
            if up:
                self._outlet.open()
            else:
                self._outlet.close()
        except OSError as error:  # the port may still be somebody else's: the next order tries again
            print(json.dumps({"stuck": str(error)}), flush=True)
        else:
            self._is_open = up


def make_outlet(order: Order) -> Outlet:
    """The outlet an order asks for."""
    if order.kind == "rtsp":
        return RtspOutlet(order.host, order.port, order.path, order.fps, order.account)
    return MjpegOutlet(order.host, order.port, order.path, order.account)


def main() -> int:
    """Be a camera, see the top of this file."""
    cv2.setNumThreads(1)  # a street has many cameras, and the machine few cores
    order = Order.read(sys.stdin.readline())
    outlet = make_outlet(order)
    camera = Camera(order, outlet)
    try:
        outlet.open()
    except OSError as error:
        print(json.dumps({"ended": str(error)}), flush=True)
        return 1
    print(json.dumps({"listening": outlet.port}), flush=True)

    def listen() -> None:
        for line in sys.stdin:
            camera.hear(Wrong.read(line))
        camera.hear(None)

    threading.Thread(target=listen, daemon=True).start()
    try:
        if order.truth:
            with Path(order.truth).open("w", encoding="utf-8") as truth:
                camera.run(truth)
        else:
            camera.run(None)
    finally:
        outlet.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

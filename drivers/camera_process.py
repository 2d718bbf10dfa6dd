"""The capture process: `python -m drivers.camera_process`, one a camera, started by drivers/camera_capture.py.

It exists so that a camera can hang, crash or fill the memory of nothing but itself: FFmpeg parses what strangers send.
It gets its order as one line of JSON on stdin, credentials included, so that no other process can read them; frames
leave through the ring (drivers/camera_ring.py), words as lines of JSON on stdout. It connects, grabs every frame,
decodes and keeps what its fps budget allows, and connects again when a connection ends. It ends itself when stdin
does, and the kernel ends it when its parent is gone. It imports neither pydantic nor anything of the gateway: about
55 MB with OpenCV.
"""

import ctypes
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any

from drivers.camera_ask import Login
from drivers.camera_order import Order
from drivers.camera_ring import Ring, Shape, Writer
from drivers.camera_session import Session, Why
from drivers.camera_trouble import explain
from drivers.camera_waits import Waits

Say = Callable[..., None]

# 4K H.264 with sixteen reference frames takes 300 MB; beyond this an allocation fails here instead of on the gateway.
MAX_DATA_BYTES = 1024 * 1024 * 1024
MAX_FILES = 64
STOP_S = 0.4  # for a camera to be told that we leave
STEADY_S = 10.0  # a connection that lasted as long ends a series of failures
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38


def run(order: Order, say: Say, stop: threading.Event) -> None:
    """Capture until `stop`, or until the password is refused: the parent then decides when to ask again."""
    ring = Ring(order.memory, Shape(order.canvas, order.thumbnail))
    session = Session(order, ring, Writer(ring, order.bell), stop, live=lambda: say("live"))
    waits = Waits(order.first_wait_s, order.most_wait_s, random.Random())  # noqa: S311 - jitter, not a secret
    login = Login(order.username, order.password)
    while True:
        began_s = time.monotonic()
        end = session.run()
        if stop.is_set():
            return
        if end.why is Why.FILE_ENDED:
            continue  # it plays again from its start
        if time.monotonic() - began_s >= STEADY_S:
            waits.reset()
        wait_s = waits.next_s()
        if end.why is Why.UNOPENED:
            trouble = explain(order.parsed_source, login, order.open_timeout_s, udp=order.udp)
            say("away", error=trouble.text, wait_s=wait_s, password=trouble.password)
            if trouble.password:
                return
        else:
            say("stalled" if end.why is Why.STALLED else "away", error=end.text, wait_s=wait_s)
        if stop.wait(wait_s):
            return


def confine(parent: int) -> None:
    """Give up what a capture process never needs: memory without end, files, core dumps with pictures in them."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PDEATHSIG, signal.SIGKILL), (_DUMPABLE, 0), (_NO_NEW_PRIVILEGES, 1)):
        libc.prctl(option, int(value), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))


def main() -> None:
    """Take the order, capture, end when told."""
    words = sys.stdout.buffer

    def say(word: str, **more: object) -> None:
        _tell(words, {"say": word, **more})

    def broken(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
        # The message may hold a URL; the place is enough to find the defect.
        place = ""
        while trace is not None:
            place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
        say("broken", error=f"{kind.__name__} at {place}")

    sys.excepthook = broken
    order = Order.from_json(sys.stdin.buffer.readline())
    confine(order.parent)
    stop = threading.Event()
    threading.Thread(target=_until_stdin_ends, args=(stop,), daemon=True).start()
    run(order, say, stop)


def _until_stdin_ends(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()
    # A grab that hangs, or a camera that does not answer our goodbye, is not waited for.
    time.sleep(STOP_S)
    os._exit(0)


def _tell(words: IO[bytes], message: dict[str, Any]) -> None:
    try:
        words.write(json.dumps(message).encode() + b"\n")
        words.flush()
    except OSError:
        os._exit(0)  # nobody listens any more


if __name__ == "__main__":
    main()

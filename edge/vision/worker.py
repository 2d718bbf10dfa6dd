"""Why: one process looks for all cameras of a gateway, so that they share a processor fairly and no sensor waits.

It reads one order from its standard input, then serves the eyes until that input ends; confirmations of views may come
meanwhile. Of the cameras that have a picture nobody looked at, the one that was served longest ago is next, so that
under overload the looks a second fall evenly. Whatever it cannot cure (a model that fails) ends it; the gateway starts
another.
"""

import ctypes
import logging
import os
import resource
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import msgspec
from pydantic import ValidationError

from contract.errors import ConfigError, Fatal
from drivers.base import DriverRegistry
from drivers.base_camera import CameraBusSpec, Capture
from edge.vision.eye import Eye, Finder
from edge.vision.health import View
from edge.vision.orders import Orders
from edge.vision.wire import SENTENCE_CHARS, CameraOrder, Confirm, Order, Refused, Said, encode
from models import registry as models
from models.sessions import Provider

log = logging.getLogger(__name__)

NICENESS = 5
"""Sensors go first: a count may come a little later, a register may not."""
_WAIT_MOST_S = 0.5
_DUMPABLE, _NO_NEW_PRIVILEGES = 4, 38

Load = Callable[[str], tuple[Finder, str]]
"""The model of a name, and what the stream that names it says."""


def main(registry: DriverRegistry, source: BinaryIO, sink: BinaryIO) -> int:
    """Work off one order; returns the exit code. 2: the order cannot be worked off, as was said."""

    def say(said: Said) -> None:
        sink.write(encode(said))
        sink.flush()

    orders = Orders(source.fileno())
    try:
        worker = Worker(orders.first(), registry, say)
    except (ConfigError, msgspec.MsgspecError, ValidationError, ValueError) as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        say(Refused([problem[:SENTENCE_CHARS] for problem in problems[:16]]))
        return 2
    try:
        worker.run(orders)
    except (Fatal, BrokenPipeError) as error:
        log.error("the vision worker ends: %s", error)  # noqa: TRY400 - no defect of ours
        return 1
    finally:
        worker.close()
    return 0


class Worker:
    """The eyes of one order. Raises ConfigError, ValueError for an order that cannot be worked off."""

    def __init__(
        self,
        order: Order,
        registry: DriverRegistry,
        say: Callable[[Said], None],
        *,
        load: Load | None = None,
        clock_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        wait_most_s: float = _WAIT_MOST_S,
    ) -> None:
        self._clock_ns = clock_ns
        self._wait_most_s = wait_most_s
        open_capture = registry.get("camera").capture
        if open_capture is None:
            raise ConfigError(["the camera driver of this installation takes no looks"])
        specs = [CameraBusSpec.model_validate(one.bus) for one in order.cameras]
        found = {name: (load or _loader(order))(name) for name in _models_of(specs)}
        self._eyes: list[Eye] = []
        try:
            for number, (one, spec) in enumerate(zip(order.cameras, specs, strict=True)):
                finder, model = found[spec.devices[0].detector]
                capture = open_capture(spec, finder.input_size)
                self._eyes.append(self._eye(number, one, spec, capture, finder, say, model))
        except ValueError:
            self.close()
            raise

    def _eye(
        self,
        number: int,
        order: CameraOrder,
        spec: CameraBusSpec,
        capture: Capture,
        finder: Finder,
        say: Callable[[Said], None],
        model: str,
    ) -> Eye:
        try:
            view = View.from_numbers(order.view) if order.view else None
            now_ns, phase_ns = self._clock_ns(), order.phase_ns
            return Eye(number, spec, capture, finder, say, now_ns=now_ns, phase_ns=phase_ns, model=model, view=view)
        except ValueError:
            capture.close()
            raise

    def run(self, orders: Orders) -> None:
        """Serve until `orders` end, which is when the gateway has closed them or is gone. Raises Fatal for nonsense."""
        poller = select.poll()
        poller.register(orders.fileno(), select.POLLIN | select.POLLHUP)
        for eye in self._eyes:
            poller.register(eye.capture.fileno(), select.POLLIN)
        while True:
            now_ns = self._clock_ns()
            next_ns = min((eye.next_ns for eye in self._eyes), default=now_ns + 10**9)
            wait_s = min(max(0.0, (next_ns - now_ns) / 1e9), self._wait_most_s)
            ready = {fd for fd, _ in poller.poll(wait_s * 1000)}
            if not self._obey(orders, readable=orders.fileno() in ready):
                return
            self._serve([eye for eye in self._eyes if eye.capture.fileno() in ready])

    def _obey(self, orders: Orders, *, readable: bool) -> bool:
        """Do what the gateway says; False when it says no more."""
        try:
            more = orders.read() if readable else True
            said: list[Confirm] = orders.waiting()
        except (ValueError, msgspec.MsgspecError) as error:
            raise Fatal(f"the gateway says what is no order: {error}") from None
        for confirm in said:
            if not 0 <= confirm.camera < len(self._eyes):
                raise Fatal(f"the gateway speaks of a camera {confirm.camera}")
            self._eyes[confirm.camera].confirm(confirm.turn, anyway=confirm.anyway)
        return more

    def _serve(self, waiting: Sequence[Eye]) -> None:
        """One look for the camera that waited longest, then whatever time it is for the others."""
        for eye in sorted(waiting, key=lambda eye: eye.served_ns):
            if eye.serve(self._clock_ns(), time.perf_counter):
                break
        now_ns = self._clock_ns()
        for eye in self._eyes:
            if now_ns >= eye.next_ns:
                eye.tick(now_ns)

    def close(self) -> None:
        """End every capture."""
        for eye in self._eyes:
            eye.capture.close()


def _models_of(specs: Sequence[CameraBusSpec]) -> list[str]:
    return list(dict.fromkeys(spec.devices[0].detector for spec in specs))


def _loader(order: Order) -> Load:
    provider = msgspec.convert(order.provider, Provider)

    def load(name: str) -> tuple[Finder, str]:
        detector = models.load(Path(order.models), name, provider=provider)
        return detector, detector.card.sha256[:12]

    return load


def confine() -> None:
    """Sensors go first, and what pictures this process holds nobody finds in a core dump or by a debugger."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_DUMPABLE, 0), (_NO_NEW_PRIVILEGES, 1)):
        libc.prctl(option, value, 0, 0, 0)
    cv2.setNumThreads(1)  # thumbnails are small, and a thread a core would wake for each


def serve_standard_streams(registry: DriverRegistry) -> int:
    """The process: orders on standard input, lines on standard output, the log on standard error."""
    confine()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as sink:
        # Whatever a library prints must not become a line of ours.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return main(registry, sys.stdin.buffer, sink)

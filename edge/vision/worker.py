"""Why: one process looks for all cameras of a gateway, so that they share a processor fairly and no sensor waits.

It reads one order from its standard input, then serves the eyes until that input ends. Of the cameras that have a
picture nobody looked at, the one that was served longest ago is next, so that under overload the looks a second fall
evenly. Whatever it cannot cure (a model that fails) ends it; the gateway starts another.
"""

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from pydantic import ValidationError

from contract.errors import ConfigError, Fatal
from drivers.base import DriverRegistry
from drivers.base_camera import CameraBusSpec, OpenCapture
from edge.vision.eye import Eye, Finder
from edge.vision.health import View
from edge.vision.wire import SENTENCE_CHARS, Order, Refused, Said, decode_order, encode
from models import registry as models
from models.sessions import Provider

log = logging.getLogger(__name__)

NICENESS = 5
"""Sensors go first: a count may come a little later, a register may not."""
_WAIT_MOST_S = 0.5


def main(registry: DriverRegistry, source: BinaryIO, sink: BinaryIO) -> int:
    """Work off one order; returns the exit code. 2: the order cannot be worked off, as was said."""

    def say(said: Said) -> None:
        sink.write(encode(said))
        sink.flush()

    os.nice(NICENESS)
    try:
        order = decode_order(source.readline())
        worker = Worker(order, registry, say)
    except (ConfigError, msgspec.MsgspecError, ValidationError, ValueError) as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        say(Refused([problem[:SENTENCE_CHARS] for problem in problems[:16]]))
        return 2
    try:
        worker.run(source.fileno())
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
        clock_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self._clock_ns = clock_ns
        open_capture = registry.get("camera").capture
        if open_capture is None:
            raise ConfigError(["the camera driver of this installation takes no looks"])
        provider = msgspec.convert(order.provider, Provider)
        specs = [CameraBusSpec.model_validate(one.bus) for one in order.cameras]
        found = {name: models.load(Path(order.models), name, provider=provider) for name in _models_of(specs)}
        self._eyes: list[Eye] = []
        for number, (one, spec) in enumerate(zip(order.cameras, specs, strict=True)):
            detector = found[spec.devices[0].detector]
            view = View.from_numbers(one.view) if one.view else None
            self._eyes.append(
                self._open(number, spec, open_capture, detector, say, one.phase_ns, detector.card.sha256[:12], view)
            )

    def _open(
        self,
        number: int,
        spec: CameraBusSpec,
        open_capture: OpenCapture,
        finder: Finder,
        say: Callable[[Said], None],
        phase_ns: int,
        model: str,
        view: View | None,
    ) -> Eye:
        capture = open_capture(spec, finder.input_size)
        try:
            return Eye(
                number, spec, capture, finder, say, now_ns=self._clock_ns(), phase_ns=phase_ns, model=model, view=view
            )
        except ValueError:
            capture.close()
            raise

    def run(self, until_fd: int) -> None:
        """Serve until `until_fd` is readable, which is when the gateway has closed it or is gone."""
        poller = select.poll()
        poller.register(until_fd, select.POLLIN | select.POLLHUP)
        for eye in self._eyes:
            poller.register(eye.capture.fileno(), select.POLLIN)
        while True:
            now_ns = self._clock_ns()
            next_ns = min((eye.next_ns for eye in self._eyes), default=now_ns + 10**9)
            wait_s = min(max(0.0, (next_ns - now_ns) / 1e9), _WAIT_MOST_S)
            ready = {fd for fd, _ in poller.poll(wait_s * 1000)}
            if until_fd in ready:
                return
            self._serve([eye for eye in self._eyes if eye.capture.fileno() in ready])

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


def serve_standard_streams(registry: DriverRegistry) -> int:
    """The process: orders on standard input, lines on standard output, the log on standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as sink:
        # Whatever a library prints must not become a line of ours.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return main(registry, sys.stdin.buffer, sink)

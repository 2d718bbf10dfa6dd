"""A camera as a port of the simulator: a process of its own, so that drawing a street delays no other device."""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hardware_sim.faults import Active, Kind
from hardware_sim.street.conditions import Spoil
from hardware_sim.street.live import Order, Wrong
from hardware_sim.street.outlets import Trouble

log = logging.getLogger(__name__)

READY_S = 30.0
STOP_S = 5.0
SPOILS = {Kind(spoil.value): spoil for spoil in Spoil}
LOSS = (0.005, 0.02, 0.08)
SKEW = (0.02, 30.0, -30.0)
"""The stream's clock runs 2 % fast; is half a minute ahead; is half a minute behind."""
SHRINK = (4 / 3, 2.0, 4.0)


def wrong_with(active: Iterable[Active]) -> Wrong:
    """What the faults that are on mean for a camera. The last of a kind decides its grade."""
    spoils: dict[Spoil, int] = {}
    stall, down, loss, skew, shrink = False, False, 0.0, 0.0, 1.0
    for one in active:
        kind, grade = one.fault.kind, one.fault.grade
        if kind in SPOILS:
            spoils[SPOILS[kind]] = grade
        elif kind is Kind.STALL:
            stall = True
        elif kind is Kind.DISCONNECT:
            down = True
        elif kind is Kind.PACKET_LOSS:
            loss = LOSS[grade - 1]
        elif kind is Kind.WRONG_CLOCK:
            skew = SKEW[grade - 1]
        elif kind is Kind.RESIZE:
            shrink = SHRINK[grade - 1]
    return Wrong(spoils, Trouble(stall=stall, loss=loss, skew=skew, shrink=shrink, down=down))


class CameraPort:
    """One camera's process. `port` is the one it listens on, also while its server is down."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.host = order.host
        self.port = order.port
        self._process: asyncio.subprocess.Process | None = None
        self._wrong = Wrong()
        self._said: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it is, without user and password."""
        scheme = "rtsp" if self.order.kind == "rtsp" else "http"
        return f"{scheme}://{self.host}:{self.port}{self.order.path}"

    def address(self) -> dict[str, Any]:
        """What a client needs to know, for the ready file."""
        order = self.order
        about = {"scene": order.scene, "seed": order.seed, "size": list(order.size), "fps": order.fps}
        return {"host": self.host, "port": self.port, "url": self.url, "truth": order.truth or None, **about}

    async def open(self) -> None:
        """Start the process and wait until it listens. Raises OSError with what to do."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hardware_sim.street.live",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None  # noqa: S101 - narrows for the type checker
        assert self._process.stdout is not None  # noqa: S101 - narrows for the type checker
        self._process.stdin.write(replace(self.order, port=self.port).line())
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), READY_S)
        except TimeoutError as error:
            await self.close()
            raise OSError(f"camera {self.order.scene}: not ready after {READY_S:.0f} s") from error
        event = json.loads(line or b'{"ended": "it ended without a word"}')
        if "listening" not in event:
            await self.close()
            raise OSError(event.get("ended", line.decode()))
        self.port = event["listening"]
        self._said = asyncio.create_task(self._listen(self._process.stdout), name=f"camera {self.port}")

    async def close(self) -> None:
        """End the process. It may be given no more than STOP_S."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._said is not None:
            await self._said
            self._said = None

    async def follow(self, active: Iterable[Active]) -> None:
        """Let the camera have these faults. A process that ended by itself is started again. Raises OSError."""
        wrong = wrong_with(active)
        if self._process is None or self._process.returncode is not None:
            log.warning("the process of the camera on port %s has ended; it starts again", self.port)
            await self.close()
            self._wrong = Wrong()
            await self.open()
        if wrong != self._wrong and self._process is not None and self._process.stdin is not None:
            self._wrong = wrong
            self._process.stdin.write(wrong.line())

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            log.warning("camera on port %s: %s", self.port, json.loads(line).get("stuck", line.decode().strip()))

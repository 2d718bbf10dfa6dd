"""Why: a frame that waits for readings which are not coming keeps the city waiting, and costs the gateway a wake-up.

A frame closes `linger_s` after the first thing in it; earlier when it is full, or when every bus that asks its devices
says that nothing more comes before then. So ten meters read every second leave together the moment the tenth has
answered, and still as one frame a second.
"""

import asyncio
from typing import Protocol

from edge.tasks import Sleeper, pause

# A bus whose next turn is this close to the frame's end (and a tenth of a short linger) waits for the next frame.
_SLACK_S = 0.1


class BootClock(Sleeper, Protocol):
    """CLOCK_BOOTTIME, and waiting."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME."""


class Linger:
    """When the frame that is being gathered closes. idle_s: how often `over` returns though nothing begins."""

    def __init__(self, clock: BootClock, linger_s: float, idle_s: float) -> None:
        self._clock = clock
        self._linger_ns = round(linger_s * 1e9)
        self._slack_ns = round(min(linger_s / 10, _SLACK_S) * 1e9)
        self._idle_s = idle_s
        self._next_ns: dict[object, int] = {}
        self._close_ns: int | None = None
        self._now = False
        self._nudge = asyncio.Event()

    def expect(self, source: object, next_ns: int) -> None:
        """A source brings nothing before `next_ns` (CLOCK_BOOTTIME). One that never says so is not waited for."""
        self._next_ns[source] = next_ns
        if self._close_ns is not None and min(self._next_ns.values()) >= self._close_ns - self._slack_ns:
            self.close_now()

    def begin(self) -> None:
        """Something is in the frame."""
        if self._close_ns is None:
            self._close_ns = self._clock.boottime_ns() + self._linger_ns
            self._nudge.set()

    def close_now(self) -> None:
        """The frame is to be closed at once."""
        self._now = True
        self._nudge.set()

    def closed(self) -> None:
        """The next frame is empty."""
        self._close_ns = None
        self._now = False

    async def over(self, stopping: asyncio.Event) -> None:
        """Returns when the frame is to be closed, when `stopping` is set, or after `idle_s` without a beginning."""
        relay = asyncio.create_task(stopping.wait(), name="linger-stop")
        relay.add_done_callback(lambda _: self._nudge.set())
        try:
            begun_ns = self._clock.boottime_ns()
            while not self._now and not stopping.is_set():
                now_ns = self._clock.boottime_ns()
                close_ns = self._close_ns
                wait_s = self._idle_s - (now_ns - begun_ns) / 1e9 if close_ns is None else (close_ns - now_ns) / 1e9
                if wait_s <= 0:
                    return
                self._nudge.clear()
                await pause(self._clock, wait_s, self._nudge)
        finally:
            relay.cancel()

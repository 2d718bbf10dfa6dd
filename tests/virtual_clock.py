"""Virtual time: an event loop whose sleeps cost nothing, and the clock that reads it.

`run(main)` runs `main(clock)` in a loop that, whenever nothing is ready, jumps to the next timer instead of waiting.
So a simulated day takes as long as its work, and twice the same program does twice the same thing.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
SECOND = 1_000_000_000
START_NS = 1_800_000_000 * SECOND


class _NoWait(selectors.SelectSelector):
    """Instead of waiting for a timer, moves the loop's time to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. Not for code that waits for threads or sockets."""

    def __init__(self) -> None:
        self._virtual = _NoWait()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual.now_s


class VirtualClock:
    """An edge Clock on the virtual loop. `wall_offset_ns` may be moved by a test: the clock is set."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wall_offset_ns = START_NS

    def boottime_ns(self) -> int:
        return round(self._loop.time() * 1e6) * 1000

    def wall_ns(self) -> int:
        return self.boottime_ns() + self.wall_offset_ns

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Callable[[VirtualClock], Awaitable[T]]) -> T:
    """The result of `main(clock)` in virtual time."""

    async def start() -> T:
        return await main(VirtualClock(asyncio.get_running_loop()))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(start())

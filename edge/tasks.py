"""Why: every long-lived job of the gateway is a named task that stops in two phases.

Phase one: `stopping` is set; a job takes nothing new, finishes what it has in hand and returns. Phase two: whoever is
still there after the grace period is cancelled. A job that fails takes its companions down with it and is named in the
log, because half a gateway that looks alive is worse than a restart.
"""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

log = logging.getLogger(__name__)


class Sleeper(Protocol):
    """What can wait: every clock."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait `seconds`."""


async def pause(clock: Sleeper, seconds: float, *until: asyncio.Event) -> bool:
    """Wait `seconds`, or less when one of `until` is set; says whether one is. Always lets other tasks run."""
    if seconds <= 0 or any(event.is_set() for event in until):
        await asyncio.sleep(0)
    elif len(until) == 1:
        # The usual case, many times a second in every bus: no task is made for it.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await until[0].wait()
    else:
        waiting = [asyncio.ensure_future(event.wait()) for event in until]
        waiting.append(asyncio.ensure_future(_sleep(clock, seconds)))
        await _first_of(waiting)
    return any(event.is_set() for event in until)


async def _sleep(clock: Sleeper, seconds: float) -> Literal[True]:
    await clock.sleep(seconds)
    return True


async def _first_of(waiting: Sequence[asyncio.Future[Literal[True]]]) -> None:
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in waiting:
            future.cancel()


async def run_together(
    jobs: Mapping[str, Coroutine[Any, Any, None]], stopping: asyncio.Event, clock: Sleeper, *, grace_s: float = 5.0
) -> None:
    """Run the named jobs until all have returned; after `stopping` they have `grace_s` seconds, then are cancelled.

    A job that raises ends the others, and its error leaves in an ExceptionGroup.
    """
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = {group.create_task(job, name=name) for name, job in jobs.items()}

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not tasks:
                over.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("%s failed: %s", task.get_name(), error, exc_info=error)

        for task in list(tasks):
            task.add_done_callback(ended)
        if tasks:
            await _first_of([asyncio.ensure_future(event.wait()) for event in (stopping, over)])
        if not over.is_set() and tasks and not await pause(clock, grace_s, over):
            for task in list(tasks):
                log.warning("%s did not stop within %.1f s and is cancelled", task.get_name(), grace_s)
                task.cancel()

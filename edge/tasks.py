"""Why: every long-lived job of the gateway is a named task that stops in two phases.

Phase one: `stopping` is set; a job takes nothing new, finishes what it has in hand and returns. Phase two: whoever is
still there after the grace period is cancelled. A job that fails takes its companions down with it and is named in the
log, because half a gateway that looks alive is worse than a restart.
"""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Sleeper(Protocol):
    """What can wait: every clock."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait `seconds`."""


async def pause(clock: Sleeper, seconds: float, until: asyncio.Event) -> bool:
    """Wait `seconds`, or less when `until` is set; says whether it is set. Always lets other tasks run."""
    if until.is_set() or seconds <= 0:
        await asyncio.sleep(0)
        return until.is_set()
    waiting = asyncio.ensure_future(until.wait())
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
    return until.is_set()


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
            await _first(stopping, over)
        if not over.is_set() and tasks and not await pause(clock, grace_s, over):
            for task in list(tasks):
                log.warning("%s did not stop within %.1f s and is cancelled", task.get_name(), grace_s)
                task.cancel()


async def _first(*events: asyncio.Event) -> None:
    waiting = {asyncio.ensure_future(event.wait()) for event in events}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()

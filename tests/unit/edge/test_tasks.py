"""Named tasks that stop together: politely, then firmly, and never half of them."""

import asyncio
import logging

import pytest
from virtual_clock import VirtualClock, run

from edge.tasks import pause, run_together


def test_polite_jobs_finish_and_stubborn_ones_are_cancelled_and_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: VirtualClock) -> list[str]:
        stopping, ended = asyncio.Event(), []

        async def polite() -> None:
            await stopping.wait()
            await clock.sleep(2)
            ended.append("polite")

        async def stubborn() -> None:
            try:
                await clock.sleep(1e9)
            finally:
                ended.append("stubborn")

        jobs = {"polite": polite(), "stubborn": stubborn()}
        running = asyncio.create_task(run_together(jobs, stopping, clock, grace_s=5))
        await clock.sleep(10)
        stopping.set()
        began_ns = clock.boottime_ns()
        await running
        assert (clock.boottime_ns() - began_ns) / 1e9 == pytest.approx(5)
        return ended

    with caplog.at_level(logging.WARNING):
        assert run(main) == ["polite", "stubborn"]
    assert [record.getMessage() for record in caplog.records] == ["stubborn did not stop within 5.0 s and is cancelled"]


def test_a_job_that_fails_ends_its_companions_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: VirtualClock) -> None:
        async def fails() -> None:
            await clock.sleep(1)
            raise RuntimeError("broken")

        jobs = {"bad": fails(), "good": clock.sleep(1e9)}
        with pytest.raises(ExceptionGroup) as caught:
            await run_together(jobs, asyncio.Event(), clock)
        assert isinstance(caught.value.exceptions[0], RuntimeError)
        assert clock.boottime_ns() / 1e9 == pytest.approx(101)

    with caplog.at_level(logging.ERROR):
        run(main)
    assert caplog.records[0].getMessage() == "bad failed: broken"


def test_it_ends_when_every_job_has_ended() -> None:
    async def main(clock: VirtualClock) -> None:
        await run_together({"a": clock.sleep(1), "b": clock.sleep(3)}, asyncio.Event(), clock)
        assert clock.boottime_ns() / 1e9 == pytest.approx(103)

    run(main)


def test_a_pause_ends_early_when_told() -> None:
    async def main(clock: VirtualClock) -> None:
        first, second = asyncio.Event(), asyncio.Event()
        assert not await pause(clock, 5, first, second)
        asyncio.get_running_loop().call_later(2, second.set)
        assert await pause(clock, 5, first, second)
        assert clock.boottime_ns() / 1e9 == pytest.approx(107)

    run(main)

"""The gateway's own streams: real figures, gaps where nothing is known, a clock step told once."""

import asyncio
import random
from pathlib import Path

from sampling import Rig
from virtual_clock import SECOND, VirtualClock, run

from contract.errors import DeviceUnavailable
from contract.readings import Reason
from edge.device import DeviceHealth, State
from edge.health import HealthBus, OutboxFigures, SystemFigures, health_scan, system_figures

SYSTEM = SystemFigures(10_000, 2_000, 3.14)
OUTBOX = OutboxFigures(5, 5000, 1.23)


def test_health_is_a_device_with_books() -> None:
    async def main(clock: VirtualClock) -> None:
        scan = health_scan(["pump", "dead", "new"])
        rig = Rig(clock, [scan])
        rng = random.Random(1)
        devices = {name: DeviceHealth(name, 1.0, 60.0, rng) for name in ("pump", "dead", "new")}
        devices["pump"].good(clock.boottime_ns(), 0.0123)
        devices["dead"].failed(clock.boottime_ns(), DeviceUnavailable(Reason.TIMEOUT, "no answer"))
        bus = HealthBus(lambda: devices, rig.clock, lambda: OUTBOX, lambda: SYSTEM)
        for _ in range(2):
            rig.pipeline.take(await bus.poll(scan))
            await clock.sleep(10)
            clock.wall_offset_ns += 7 * SECOND
            rig.clock.check()
        rig.pipeline.take(await bus.poll(scan))
        assert [r.value for r in await rig.readings("pump.latency")] == [12.3] * 3
        assert [r.value for r in await rig.readings("dead.success")] == [0.0] * 3
        assert await rig.gaps("dead.latency") == {Reason.TIMEOUT: 3}
        assert await rig.gaps("new.success") == {Reason.SILENT: 3}
        assert [r.value for r in await rig.readings("outbox.age_s")] == [1.2] * 3
        assert [r.value for r in await rig.readings("disk.free")] == [10_000] * 3
        assert [r.value for r in await rig.readings("clock.step")] == [0.0, 7.0]
        assert set((await rig.balance()).values()) == {3}

    run(main)


async def test_the_machine_is_asked_outside_the_event_loop(tmp_path: Path) -> None:
    figures = await asyncio.to_thread(system_figures(tmp_path))
    assert figures.disk_free > 0
    assert figures.memory_rss > 1_000_000
    assert figures.cpu_percent >= 0


def test_backoff_doubles_to_its_limit_with_jitter_and_ends_with_an_answer() -> None:
    health = DeviceHealth("d", 1.0, 60.0, random.Random(3))
    error = DeviceUnavailable(Reason.GARBAGE, "checksum")
    assert health.state(0) is State.UNKNOWN
    waits = []
    for _ in range(10):
        health.failed(0, error)
        waits.append(health.until_ns / 1e9)
    for wait_s, full_s in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert full_s * 0.75 <= wait_s <= full_s
    assert health.state(0) is State.BACKING_OFF
    assert health.resting(0) is Reason.GARBAGE
    assert health.state(61 * SECOND) is State.FAILING
    health.good(61 * SECOND)
    assert (health.state(61 * SECOND), health.resting(0), health.failures) == (State.GOOD, None, 0)


def test_a_device_that_is_only_heard_has_no_latency_to_tell() -> None:
    names = {stream.name for stream in health_scan(["meter"], heard=["weather"]).streams}
    assert {"meter.success", "meter.latency", "weather.success"} <= names
    assert "weather.latency" not in names

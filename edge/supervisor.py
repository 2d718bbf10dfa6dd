"""Why: one place starts the buses, stops them in two phases, and knows how every device is.

One task a bus (edge/bus_task.py, edge/listen_task.py); buses are independent.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from edge.bus_task import BusConnection, BusRun, PolledBusTask, Sink
from edge.clock import Clock
from edge.device import DeviceHealth
from edge.listen_task import ListeningBusTask
from edge.tasks import run_together


class Supervisor:
    """Runs every bus.

    max_backoff_s: the longest a device is left alone. grace_s: how long a poll may take when the gateway stops.
    """

    def __init__(
        self,
        buses: Sequence[BusRun],
        sink: Sink,
        clock: Clock,
        *,
        max_backoff_s: float = 60.0,
        grace_s: float = 5.0,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._clock = clock
        self._grace_s = grace_s
        self._connections = [BusConnection(run, clock, max_backoff_s=max_backoff_s, rng=rng) for run in buses]
        self._tasks = {
            f"bus {connection.run.name}": (
                ListeningBusTask(connection, sink, clock)
                if connection.run.listening
                else PolledBusTask(connection, sink, clock)
            )
            for connection in self._connections
        }

    async def run(self, stopping: asyncio.Event) -> None:
        """Work the buses until `stopping`; then each finishes its poll, and is cancelled after `grace_s`."""
        jobs = {name: task.run(stopping) for name, task in self._tasks.items()}
        await run_together(jobs, stopping, self._clock, grace_s=self._grace_s)

    def workers(self) -> list[tuple[BusConnection, PolledBusTask | ListeningBusTask]]:
        """Each bus with what works it."""
        return list(zip(self._connections, self._tasks.values(), strict=True))

    def devices(self) -> dict[str, DeviceHealth]:
        """The health of every device by name."""
        return {name: health for connection in self._connections for name, health in connection.devices.items()}

    def snapshot(self) -> dict[str, Any]:
        """Buses and devices as plain JSON values; a device on a bus that is down shares the bus's state and error."""
        now_ns = self._clock.boottime_ns()
        devices = []
        for connection in self._connections:
            for health in connection.devices.values():
                one = {**health.snapshot(now_ns), "bus": connection.run.name}
                if connection.health.reason is not None:
                    bus = connection.health.snapshot(now_ns)
                    one |= {key: bus[key] for key in ("state", "reason", "last_error")}
                devices.append(one)
        buses = [
            {**connection.health.snapshot(now_ns), "name": connection.run.name, "open": connection.is_open}
            for connection in self._connections
        ]
        return {"buses": buses, "devices": devices}

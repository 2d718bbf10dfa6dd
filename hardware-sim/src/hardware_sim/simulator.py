"""A scenario come alive: its ports, its devices, their faults, the truth. Runs on one event loop.

World, devices and parsing are synchronous and short; only ports wait.
"""

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hardware_sim import truth
from hardware_sim.clock import Clock
from hardware_sim.devices.modbus_device import ModbusDevice
from hardware_sim.factory import camera_order, make_modbus, make_talker
from hardware_sim.faults import Fault, Faults
from hardware_sim.modbus_rtu import RtuReader
from hardware_sim.modbus_server import MbapConnection, RtuOverTcpConnection
from hardware_sim.modbus_wire import Engine, Tally
from hardware_sim.pty_port import PtyPort
from hardware_sim.scenario import CAMERA_PORTS, DeviceSpec, PortSpec, Scenario, allowed_kinds
from hardware_sim.serial_devices import SerialLine
from hardware_sim.tcp import Connection, TcpPort
from hardware_sim.world import World

if TYPE_CHECKING:
    from hardware_sim.street.camera_port import CameraPort

log = logging.getLogger(__name__)

TEND_S = 0.05
FLUSH_S = 0.1


class RequestError(Exception):
    """A request at run time that makes no sense. The reaction: tell the asker."""


@dataclass(slots=True)
class Port:
    """One port of the scenario with everything behind it."""

    spec: PortSpec
    transport: "TcpPort | PtyPort | CameraPort"
    faults: dict[str, Faults]
    tallies: dict[str, Tally]
    line: SerialLine | None = None
    is_open: bool = False
    stuck: bool = False
    """Whether the last attempt to open it again failed: said once when it begins, once when it ends."""

    async def tend(self, now_s: float) -> None:
        """Open or close it, as its devices' faults have it. A port that cannot be opened is tried again."""
        try:
            await self._follow_faults(now_s)
        except OSError as error:
            if not self.stuck:
                log.warning("port %s cannot come back yet: %s", self.spec.name, error)
            self.stuck = True
        else:
            if self.stuck:
                log.info("port %s is back", self.spec.name)
            self.stuck = False

    async def _follow_faults(self, now_s: float) -> None:
        if not isinstance(self.transport, TcpPort | PtyPort):
            # A camera goes on filming while nobody can reach it: what is down is its server, not its process.
            await self.transport.follow([active for faults in self.faults.values() for active in faults.active(now_s)])
            return
        down = any(faults.down(now_s) for faults in self.faults.values())
        if down == self.is_open:
            if down:
                await self.transport.close()
            else:
                await self.transport.open()
            self.is_open = not down

    def address(self) -> dict[str, Any]:
        """What a client needs to know, for the ready file."""
        where: dict[str, Any] = {"kind": self.spec.kind}
        if isinstance(self.transport, TcpPort):
            where |= {"host": self.transport.host, "port": self.transport.port}
        elif isinstance(self.transport, PtyPort):
            where["path"] = str(self.transport.link)
        else:
            where |= self.transport.address()
        where["devices"] = {device.name: {"type": device.type, "unit": device.unit} for device in self.spec.devices}
        return where


class Simulator:
    """A scenario's ports and devices.

    `async with`: everything listens inside, everything is closed and the truth complete after. Raises OSError when a
    port cannot be opened. run_dir: where the links of ptys go.
    """

    def __init__(
        self, scenario: Scenario, clock: Clock, log_: truth.Log, run_dir: Path, seed: int | None = None
    ) -> None:
        self.scenario = scenario
        self.truth = log_
        self._clock = clock
        self._run_dir = run_dir
        self._seed = scenario.seed if seed is None else seed
        self._world = World(self._seed, scenario.utc_offset_s)
        self._devices = {device.name: device for device in scenario.devices}
        self._tasks: list[asyncio.Task[None]] = []
        self.ports: list[Port] = []

    async def __aenter__(self) -> Self:
        self.ports = [self._make_port(spec) for spec in self.scenario.ports]
        try:
            for port in self.ports:
                await port.transport.open()
                port.is_open = True
        except OSError:
            await self._close_ports()
            raise
        self._tasks = [asyncio.create_task(self._tend(), name="tend"), asyncio.create_task(self._flush(), name="flush")]
        for port in self.ports:
            if port.line is not None and port.line.talks:
                self._tasks.append(asyncio.create_task(port.line.run(), name=f"line {port.spec.name}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_ports()
        self.truth.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def watch(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set, or a part has failed (its error is raised when the `async with` ends)."""
        waiting = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    def addresses(self) -> dict[str, dict[str, Any]]:
        """Each port's address by name."""
        return {port.spec.name: port.address() for port in self.ports}

    def inject(self, device: str, fault: Fault, seconds: float) -> None:
        """Begin a fault. Raises RequestError."""
        port, spec = self._find(device)
        if fault.kind not in allowed_kinds(spec.type, port.spec.kind):
            raise RequestError(f"{device} is a {spec.type}: it cannot have the fault {fault.kind}")
        port.faults[device].inject(fault, self._clock.elapsed_s(), seconds)

    def clear(self, device: str) -> None:
        """End a device's faults. Raises RequestError."""
        self._find(device)[0].faults[device].clear(self._clock.elapsed_s())

    def status(self) -> dict[str, dict[str, Any]]:
        """Per device: requests or messages, how many of them a fault spoiled, and faults begun by kind."""
        now_s = self._clock.elapsed_s()
        return {
            name: {
                "requests": port.tallies[name].requests,
                "spoiled": port.tallies[name].spoiled,
                "faults": [active.fault.kind.value for active in faults.active(now_s)],
                "begun": {kind.value: count for kind, count in faults.begun.items()},
            }
            for port in self.ports
            for name, faults in port.faults.items()
        }

    def _find(self, device: str) -> tuple[Port, DeviceSpec]:
        for port in self.ports:
            if device in port.faults:
                return port, self._devices[device]
        raise RequestError(f"no device {device!r}, expected one of {', '.join(sorted(self._devices))}")

    def _make_port(self, spec: PortSpec) -> Port:
        faults = {device.name: Faults(device.name, self._seed, device.plans) for device in spec.devices}
        if spec.kind in CAMERA_PORTS:
            return self._make_camera(spec, faults)
        if spec.kind == "serial":
            device = spec.devices[0]
            talker = make_talker(device, self._world, faults[device.name], self._clock)
            line = SerialLine(talker, self._run_dir / spec.link, self.truth, self._clock, dead=device.dead)
            return Port(spec, line.port, faults, {device.name: line.tally}, line)
        units: list[ModbusDevice] = [
            make_modbus(device, self._world, faults[device.name], self._clock) for device in spec.devices
        ]
        later = asyncio.get_running_loop().call_later
        dead = frozenset(device.name for device in spec.devices if device.dead)
        engine = Engine(units, self._clock, later, dead)
        return Port(spec, self._make_transport(spec, engine), faults, engine.tallies)

    def _make_camera(self, spec: PortSpec, faults: dict[str, Faults]) -> Port:
        from hardware_sim.street.camera_port import CameraPort  # OpenCV, for those who have cameras

        device, log_file = spec.devices[0], self.truth.path
        file = None if log_file is None else log_file.with_name(f"{log_file.stem}.{device.name}.jsonl")
        return Port(spec, CameraPort(camera_order(device, spec, self._seed, file)), faults, {device.name: Tally()})

    def _make_transport(self, spec: PortSpec, engine: Engine) -> TcpPort | PtyPort:
        if spec.kind == "modbus-rtu":
            port = PtyPort(self._run_dir / spec.link, self.truth)
            port.take = RtuReader(engine, port).feed
            return port
        kind = MbapConnection if spec.kind == "modbus-tcp" else RtuOverTcpConnection

        def make(connections: set[Connection]) -> Connection:
            return kind(engine, self.truth, connections)

        return TcpPort(spec.host, spec.port, make)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            for port in self.ports:
                await port.tend(self._clock.elapsed_s())

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self.truth.flush()

    async def _close_ports(self) -> None:
        for port in self.ports:
            await port.transport.close()
            port.is_open = False


def write_ready(path: Path, simulator: Simulator, control: Path | None, truth_file: Path | None) -> None:
    """Say that everything listens, and where: one JSON file that appears whole."""
    ready = {
        "pid": os.getpid(),
        "started_ns": time.time_ns(),
        "control": None if control is None else str(control),
        "truth": None if truth_file is None else str(truth_file),
        "ports": simulator.addresses(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(ready, indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)

"""For tests against simulated hardware: a simulator in this process with a clock that stands still, and raw clients.

The clients know nothing of the simulator's code or of pymodbus: what they see is what is on the wire.
"""

import asyncio
import contextlib
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hardware_sim import truth
from hardware_sim.faults import Fault, Kind
from hardware_sim.scenario import read_scenario
from hardware_sim.simulator import Simulator
from hardware_sim.tcp import TcpPort

PATIENCE_S = 5.0
SILENCE_S = 0.15


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it watches other processes and the kernel, which set no event
            await asyncio.sleep(0.01)


@dataclass
class HeldClock:
    """Time that moves only when a test moves it."""

    now_s: float = 0.0
    start_s: float = 1_772_316_000.0  # 2026-02-28 22:00 UTC, six in the morning in the street

    def elapsed_s(self) -> float:
        return self.now_s

    def world_s(self) -> float:
        return self.start_s + self.now_s


@dataclass
class Street:
    """A running simulator and where its things are."""

    simulator: Simulator
    clock: HeldClock
    truth_file: Path
    run_dir: Path

    def port(self, name: str) -> int:
        transport = next(port.transport for port in self.simulator.ports if port.spec.name == name)
        assert isinstance(transport, TcpPort)
        return transport.port

    def fault(self, device: str, kind: Kind, seconds: float = 1000, **more: float) -> None:
        code, grade = int(more.pop("code", 4)), int(more.pop("grade", 2))
        self.simulator.inject(device, Fault(kind, code=code, grade=grade, **more), seconds)

    def served(self, *, late: bool = False) -> list[truth.Response]:
        self.simulator.truth.flush()
        return list(truth.responses(self.truth_file, late=late))


@contextlib.asynccontextmanager
async def running(folder: Path, scenario: str, clock: HeldClock | None = None) -> AsyncIterator[Street]:
    """The scenario (YAML text), running."""
    path = folder / "scenario.yaml"
    path.write_text(scenario, encoding="utf-8")
    clock = clock or HeldClock()
    log = truth.Log(folder / "truth.tsv")
    async with Simulator(read_scenario(path), clock, log, folder / "run") as simulator:
        yield Street(simulator, clock, folder / "truth.tsv", folder / "run")


@dataclass
class Reply:
    """A frame as it came."""

    transaction: int
    protocol: int
    unit: int
    pdu: bytes

    @property
    def words(self) -> tuple[int, ...]:
        return struct.unpack(f">{self.pdu[1] // 2}H", self.pdu[2:])


class RawTcp:
    """A Modbus TCP client, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._transaction = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, port: int) -> AsyncIterator["RawTcp"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def send(self, unit: int, pdu: bytes) -> int:
        self._transaction += 1
        self.writer.write(struct.pack(">HHHB", self._transaction, 0, len(pdu) + 1, unit) + pdu)
        return self._transaction

    async def receive(self) -> Reply:
        head = await asyncio.wait_for(self.reader.readexactly(7), PATIENCE_S)
        transaction, protocol, length, unit = struct.unpack(">HHHB", head)
        return Reply(transaction, protocol, unit, await self.reader.readexactly(length - 1))

    async def ask(self, unit: int, pdu: bytes) -> Reply:
        self.send(unit, pdu)
        return await self.receive()

    async def read(self, unit: int, function: int, address: int, count: int) -> Reply:
        return await self.ask(unit, struct.pack(">BHH", function, address, count))

    async def ended(self) -> bool:
        """Whether the other side closes the connection without a word."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(), PATIENCE_S) == b""
        return True

    async def silent(self) -> bool:
        """Whether nothing comes for a while."""
        try:
            await asyncio.wait_for(self.reader.read(1), SILENCE_S)
        except TimeoutError:
            return True
        return False


class RawPty:
    """A program that has a serial port open."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    async def read(self, size: int, patience_s: float = PATIENCE_S) -> bytes:
        """This many bytes, or what came until patience ended."""
        data = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while len(data) < size:
                    try:
                        data += os.read(self.fd, size - len(data))
                    except BlockingIOError:
                        await asyncio.sleep(0.002)
        return data

    async def line(self) -> bytes:
        """One line, whole."""
        data = b""
        while not data.endswith(b"\n"):
            more = await self.read(1)
            assert more, f"only {data!r} came"
            data += more
        return data

    async def silent(self) -> bool:
        return not await self.read(1, SILENCE_S)

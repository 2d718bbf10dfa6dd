"""Serial devices that speak text lines or binary frames, by themselves or when asked.

A bus is one port. In mode `listen` its one device speaks when it likes; in mode `poll` its devices take turns, each
with its own request. What a message looks like is declared (serial_text, serial_binary), where the values stand in it
too (serial_samples), so a new instrument is a profile, not a program. docs/drivers-serial.md is the user's page.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from contract.errors import DeviceUnavailable
from contract.readings import ABSENT, Reason, Value, gap
from drivers.base import Block, Bus, BusSpec, DeviceSpec, Driver, Scan, StreamSpec, Tap, Timeout
from drivers.serial_binary import BinaryFormat, BinaryMessage, FrameScanner, Hex, bytes_of_hex
from drivers.serial_port import Chunk, Line, Parity, SerialPort, boottime_ns
from drivers.serial_samples import (
    Sample,
    SerialStream,
    binary_sampler,
    check_binary,
    check_text,
    text_sampler,
)
from drivers.serial_text import Escaped, LineScanner, TextFormat, TextMessage

# Longer than any pause within a message (the FTDI latency timer is 16 ms), shorter than one between messages.
IDLE_S = 0.2
QUIET_S = 0.05
LATE_TIMEOUTS = 3  # how long after its timeout a lost answer may still come, in timeouts


class SerialDevice(DeviceSpec):
    """One device on a serial line.

    mode: `listen` when it speaks by itself, `poll` when it answers `request` (text with escapes) or `request_hex`.
    text, binary: what its messages look like, exactly one of them.
    """

    mode: Literal["listen", "poll"] = "listen"
    request: Escaped | None = Field(None, min_length=1, max_length=256)
    request_hex: Hex | None = None
    text: TextFormat | None = None
    binary: BinaryFormat | None = None
    streams: tuple[SerialStream, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_format(self) -> "SerialDevice":
        if (self.text is None) == (self.binary is None):
            raise ValueError("expected exactly one of 'text' and 'binary'")
        requests = (self.request is not None) + (self.request_hex is not None)
        if self.mode == "poll" and requests != 1:
            raise ValueError("mode poll needs exactly one of 'request' and 'request_hex'")
        if self.mode == "listen" and requests:
            raise ValueError("a request makes sense with 'mode: poll' only")
        for stream in self.streams:
            if self.text is not None:
                check_text(stream, self.text)
            elif self.binary is not None:
                check_binary(stream, self.binary)
        return self

    @property
    def request_bytes(self) -> bytes:
        """What to send to be answered."""
        if self.request_hex is not None:
            return bytes_of_hex(self.request_hex)
        return (self.request or "").encode(self.text.encoding if self.text else "latin-1")


class SerialBusSpec(BusSpec):
    """One serial port and what is on it."""

    serial_port: str = Field(min_length=1)
    baud_rate: int = Field(9600, ge=50, le=4_000_000)
    parity: Parity = "none"
    stop_bits: Literal[1, 2] = 1
    data_bits: Literal[7, 8] = 8
    timeout_s: Timeout = 1.0
    devices: tuple[SerialDevice, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_mode(self) -> "SerialBusSpec":
        modes = {device.mode for device in self.devices}
        if "listen" in modes and len(self.devices) > 1:
            raise ValueError(
                f"devices: {len(self.devices)} on one port, but a device in mode listen speaks when it likes "
                "and must be alone on its port"
            )
        return self

    @property
    def listening(self) -> bool:
        """Whether the bus's device speaks by itself."""
        return self.devices[0].mode == "listen"

    @property
    def line(self) -> Line:
        """The port and its settings."""
        return Line(self.serial_port, self.baud_rate, self.parity, self.stop_bits, self.data_bits)


class _Dialect:
    """How one device's bytes become blocks."""

    def __init__(self, device: SerialDevice, scans: Sequence[Scan]) -> None:
        self.scanner: LineScanner | FrameScanner
        self._samplers: dict[Scan, list[Callable[[Any], Sample | None]]] = {}
        text, binary = device.text, device.binary
        if text is not None:
            self.scanner = LineScanner(text)
            for scan in scans:
                self._samplers[scan] = [text_sampler(stream, text) for stream in _streams(scan)]
        elif binary is not None:
            self.scanner = FrameScanner(binary)
            for scan in scans:
                self._samplers[scan] = [binary_sampler(stream, binary) for stream in _streams(scan)]

    def block(self, scan: Scan, message: object, time_ns: int) -> Block | None:
        """What a message says of a scan's streams, ABSENT for those it does not; None when it says nothing."""
        samples = [sample(message) for sample in self._samplers[scan]]
        if all(sample is None for sample in samples):
            return None
        block = Block.empty(scan, time_ns, ABSENT)
        for position, sample in enumerate(samples):
            if sample is not None:
                value, block.status[position] = sample
                if block.status[position] != ABSENT:
                    _put(block, position, value)
        return block


class _SerialBus:
    """What listening and polled buses have in common: the port and the counters."""

    def __init__(self, spec: SerialBusSpec, scans: Sequence[Scan], clock: Callable[[], int]) -> None:
        self._spec = spec
        self._clock = clock
        self._port = SerialPort(spec.line, clock)
        self._dialects = {
            device.name: _Dialect(device, [scan for scan in scans if scan.device.name == device.name])
            for device in spec.devices
        }

    @property
    def garbage_bytes(self) -> int:
        """Bytes that belonged to no valid message. The rest of a message that was under way at opening counts too."""
        return sum(dialect.scanner.garbage_bytes for dialect in self._dialects.values())

    @property
    def bad_checksums(self) -> int:
        """Messages whose checksum was wrong."""
        return sum(dialect.scanner.bad_checksums for dialect in self._dialects.values())

    @property
    def overrun_bytes(self) -> int:
        """Bytes that came while nobody read, beyond what is kept waiting."""
        return self._port.overrun_bytes

    def tap(self, tap: Tap | None) -> None:
        """Show `tap` every byte of the port from now on; None ends it."""
        self._port.tap = tap

    async def open(self) -> None:
        """Open the port. Raises DeviceUnavailable."""
        for dialect in self._dialects.values():
            dialect.scanner.reset()
        await self._port.open()

    async def close(self) -> None:
        """Close the port. Never raises."""
        await self._port.close()


class ListeningSerialBus(_SerialBus):
    """A port whose device speaks when it likes."""

    def __init__(self, spec: SerialBusSpec, scans: Sequence[Scan], clock: Callable[[], int] = boottime_ns) -> None:
        super().__init__(spec, scans, clock)
        self._scans = tuple(scans)
        self._dialect = self._dialects[spec.devices[0].name]
        self._last_ns = 0

    async def listen(self) -> AsyncIterator[Block]:
        """A block per message and scan, timed when the message's last byte arrived.

        Raises DeviceUnavailable when the port is gone.
        """
        scanner = self._dialect.scanner
        fresh = True
        while True:
            chunk = await self._port.read(IDLE_S if scanner.pending else None)
            if chunk is None:
                chunk = Chunk(b"", self._clock())
                messages: Iterable[TextMessage | BinaryMessage] = scanner.idle()
            else:
                if fresh and chunk.time_ns - self._port.opened_ns < QUIET_S * 1e9:
                    # No silence before the first byte: the device was speaking already when the port opened.
                    scanner.begin_mid_line()
                fresh = False
                messages = scanner.feed(chunk.data)
            for message, after in messages:
                time_ns = self._when(chunk.time_ns, after)
                for scan in self._scans:
                    block = self._dialect.block(scan, message, time_ns)
                    if block is not None:
                        yield block

    def _when(self, chunk_ns: int, bytes_after: int) -> int:
        # Several messages may arrive in one chunk: the wire's speed tells how long ago each ended. No time twice.
        self._last_ns = max(chunk_ns - bytes_after * self._spec.line.byte_ns, self._last_ns + 1)
        return self._last_ns


class PolledSerialBus(_SerialBus):
    """A port whose devices answer when asked: one request, one message.

    A message does not say which request it answers. So a device that did not answer is asked nothing more until its
    answer has come after all, or can come no more; the other devices on the port are asked meanwhile.
    """

    def __init__(self, spec: SerialBusSpec, scans: Sequence[Scan], clock: Callable[[], int] = boottime_ns) -> None:
        super().__init__(spec, scans, clock)
        self._devices = {device.name: device for device in spec.devices}
        self._unsettled = False
        self._late: dict[str, float] = {}

    async def poll(self, scan: Scan) -> Block:
        """Ask the scan's device, and give what its first valid message says.

        A stream that the message does not have is a gap. Raises DeviceUnavailable: TIMEOUT when nothing came in
        `timeout_s`, GARBAGE when only invalid bytes came, DISCONNECTED when the port is gone.
        """
        device = self._devices[scan.device.name]
        dialect = self._dialects[device.name]
        await self._settle(scan, dialect)
        dialect.scanner.reset()
        self._port.discard()
        await self._port.write(device.request_bytes, self._spec.timeout_s)
        self._unsettled = True
        block = await self._answer(scan, dialect)
        self._unsettled = bool(self._late)
        block.status[block.status == ABSENT] = gap(Reason.UNDECODABLE)
        return block

    async def write(self, scan: Scan, stream: StreamSpec, value: Value) -> None:
        """Raises ValueError: serial devices are read only."""
        del value
        raise ValueError(f"{scan.device.name}.{stream.name}: the serial driver writes no values")

    async def _answer(self, scan: Scan, dialect: _Dialect) -> Block:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._spec.timeout_s
        request = self._devices[scan.device.name].request_bytes
        received = bytearray()
        while (left_s := deadline - loop.time()) > 0:
            waiting = dialect.scanner.pending > 0
            chunk = await self._port.read(min(left_s, IDLE_S) if waiting else left_s)
            messages: Iterable[TextMessage | BinaryMessage]
            if chunk is None:
                messages, time_ns = dialect.scanner.idle(), self._clock()
            else:
                received += chunk.data[: len(request) + 1]
                messages, time_ns = dialect.scanner.feed(chunk.data), chunk.time_ns
            for message, after in messages:
                block = dialect.block(scan, message, time_ns - after * self._spec.line.byte_ns)
                if block is not None:
                    return block
        name, waited = scan.device.name, f"within {self._spec.timeout_s:g} s"
        if received and received != request:  # some RS-485 adapters echo what they send
            raise DeviceUnavailable(Reason.GARBAGE, f"answered {waited}, but with no valid message")
        self._late[name] = deadline + LATE_TIMEOUTS * self._spec.timeout_s
        raise DeviceUnavailable(Reason.TIMEOUT, f"no answer {waited}")

    async def _settle(self, scan: Scan, dialect: _Dialect) -> None:
        """After a failure an answer may still be coming: let it pass, so that it is not taken for the next one."""
        if not self._unsettled:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._spec.timeout_s
        while loop.time() < deadline and (chunk := await self._port.read(QUIET_S)) is not None:
            if any(dialect.block(scan, message, 0) is not None for message, _ in dialect.scanner.feed(chunk.data)):
                self._late.pop(scan.device.name, None)
        if self._late.get(scan.device.name, 0.0) > loop.time():
            raise DeviceUnavailable(Reason.TIMEOUT, "it may yet answer an earlier request: waiting")
        self._late.pop(scan.device.name, None)
        self._unsettled = bool(self._late)


def _streams(scan: Scan) -> list[SerialStream]:
    return [stream for stream in scan.streams if isinstance(stream, SerialStream)]


def _put(block: Block, position: int, value: Value) -> None:
    scan = block.scan
    if position < scan.n_floats:
        block.floats[position] = value
    elif position < scan.n_floats + scan.n_ints:
        block.ints[position - scan.n_floats] = value
    elif isinstance(value, str):
        block.texts[position - scan.n_floats - scan.n_ints] = value


def _connect(spec: SerialBusSpec, scans: Sequence[Scan]) -> Bus:
    return ListeningSerialBus(spec, scans) if spec.listening else PolledSerialBus(spec, scans)


DRIVER = Driver(name="serial", bus_spec=SerialBusSpec, connect=_connect, listening=lambda spec: spec.listening)

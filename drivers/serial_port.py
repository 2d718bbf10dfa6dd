"""A serial port on asyncio, because an adapter in a street cabinet comes and goes.

pyserial opens and sets the port; reading is the event loop's own, so that each chunk carries the time it arrived and
nothing polls. Whatever goes wrong becomes DeviceUnavailable in words a technician can act on; opening again resolves
the path again, so an adapter that returns under the same /dev/serial/by-id name is found.
"""

import asyncio
import contextlib
import errno
import grp
import os
import termios
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import serial

from contract.errors import DeviceUnavailable
from contract.readings import Reason
from drivers.base import Tap

BY_ID = Path("/dev/serial/by-id")
READ_BYTES = 4096
# At 115,200 baud this is over five seconds of a reader that does not come.
MAX_WAITING_BYTES = 64 * 1024
_PARITY = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}
_GONE = {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO, errno.ENOTDIR}
_BUSY = {errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK}

Parity = Literal["none", "even", "odd"]


def boottime_ns() -> int:
    """CLOCK_BOOTTIME, ns: goes on while the machine sleeps, never jumps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Line:
    """Where a serial line is and how it speaks."""

    path: str
    baud_rate: int = 9600
    parity: Parity = "none"
    stop_bits: Literal[1, 2] = 1
    data_bits: Literal[7, 8] = 8

    @property
    def byte_ns(self) -> int:
        """How long one byte takes on the wire, with its start, parity and stop bits."""
        bits = 1 + self.data_bits + (self.parity != "none") + self.stop_bits
        return bits * 1_000_000_000 // self.baud_rate


class Chunk(NamedTuple):
    """Bytes that arrived together, and when the last of them did (CLOCK_BOOTTIME, ns)."""

    data: bytes
    time_ns: int


class SerialPort:
    """One port. `overrun_bytes` counts what came while nobody read and the bound was reached."""

    def __init__(self, line: Line, clock: Callable[[], int] = boottime_ns) -> None:
        self.line = line
        self.overrun_bytes = 0
        self.opened_ns = 0
        self.tap: Tap | None = None
        self._clock = clock
        self._device: serial.Serial | None = None
        self._opening: asyncio.Future[None] | None = None
        self._fd = -1
        self._waiting: deque[Chunk] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._failure: DeviceUnavailable | None = None

    async def open(self) -> None:
        """Open the port as it is now plugged in. Raises DeviceUnavailable."""
        await self.close()
        line = self.line
        device = serial.Serial(
            baudrate=line.baud_rate,
            bytesize=line.data_bits,
            parity=_PARITY[line.parity],
            stopbits=line.stop_bits,
            exclusive=True,
        )
        device.port = line.path
        self._device = device
        try:
            # USB adapters take milliseconds to open; shielded, so that close() can wait for a cancelled one.
            self._opening = asyncio.ensure_future(asyncio.to_thread(device.open))
            await asyncio.shield(self._opening)
        except (OSError, ValueError, termios.error) as error:
            await self.close()
            raise explain(line, error) from None
        self._fd = device.fileno()
        self._failure = None
        self.opened_ns = self._clock()
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    async def close(self) -> None:
        """Give the port back. Never raises."""
        if self._opening is not None:
            # gather takes its error too: whoever awaited open() has had it, or was cancelled and wants none.
            await asyncio.gather(self._opening, return_exceptions=True)
            self._opening = None
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._fd = -1
        device, self._device = self._device, None
        if device is not None and device.is_open:
            await asyncio.to_thread(_shut, device)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._wake.clear()

    async def read(self, timeout_s: float | None) -> Chunk | None:
        """The next bytes, or None when none came in `timeout_s`. Raises DeviceUnavailable when the port is gone."""
        if not self._waiting and self._failure is None:
            self._require_open()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return None
        if self._waiting:
            chunk = self._waiting.popleft()
            self._waiting_bytes -= len(chunk.data)
            if not self._waiting and self._failure is None:
                self._wake.clear()
            return chunk
        if self._failure is not None:
            raise self._failure
        return None

    async def write(self, data: bytes, timeout_s: float) -> None:
        """Hand every byte to the port. Raises DeviceUnavailable."""
        self._require_open()
        if self.tap is not None:
            self.tap.sent(data, "")
        left = memoryview(data)
        try:
            async with asyncio.timeout(timeout_s):
                while left:
                    try:
                        left = left[os.write(self._fd, left) :]
                    except BlockingIOError:
                        await self._writable()
        except TimeoutError:
            detail = f"serial port {self.line.path} takes no bytes: is flow control set on the other side?"
            raise DeviceUnavailable(Reason.TIMEOUT, detail, whole_bus=True) from None
        except OSError as error:
            raise self._lost(os.strerror(error.errno or errno.EIO)) from None

    def discard(self) -> None:
        """Throw away what has arrived. Raises DeviceUnavailable when the port is gone."""
        if self._failure is None:
            self._require_open()
            try:
                termios.tcflush(self._fd, termios.TCIFLUSH)
            except termios.error as error:
                self._lost(os.strerror(error.args[0]))
        if self._failure is not None:
            raise self._failure
        self._waiting.clear()
        self._waiting_bytes = 0
        self._wake.clear()

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(os.strerror(error.errno or errno.EIO))
            return
        now_ns = self._clock()
        if data and self.tap is not None:
            self.tap.heard(data)
        if not data:
            # A raw tty answers "no bytes" when hung up, but also when discard() took them after it became readable.
            if self._hung_up():
                self._lost("it was unplugged")
            return
        if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            self.overrun_bytes += len(data)
            return
        self._waiting.append(Chunk(data, now_ns))
        self._waiting_bytes += len(data)
        self._wake.set()

    def _hung_up(self) -> bool:
        try:
            termios.tcgetattr(self._fd)
        except termios.error:
            return True
        return False

    def _lost(self, why: str) -> DeviceUnavailable:
        failure = DeviceUnavailable(
            Reason.DISCONNECTED, f"serial port {self.line.path} is gone: {why}. {_ports_hint()}", whole_bus=True
        )
        self._failure = failure
        asyncio.get_running_loop().remove_reader(self._fd)
        self._wake.set()
        return failure

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._fd)

    def _require_open(self) -> None:
        if self._fd < 0:
            detail = f"serial port {self.line.path} is not open"
            raise DeviceUnavailable(Reason.DISCONNECTED, detail, whole_bus=True)


def ports_there(folder: Path = BY_ID) -> list[str]:
    """The serial adapters that are plugged in, by the names that survive replugging, sorted."""
    try:
        return sorted(str(entry) for entry in folder.iterdir())
    except OSError:
        return []


def explain(line: Line, error: Exception) -> DeviceUnavailable:
    """Why a port could not be opened, and what to do about it."""
    path = line.path
    # pyserial wraps what termios said in an error without a number.
    code = _number_of(error) or _number_of(error.__context__)
    if code in _GONE:
        text = f"serial port {path} is not there: is the adapter plugged in? {_ports_hint()}"
    elif code in {errno.EACCES, errno.EPERM}:
        group = _group_of(path)
        text = (
            f"serial port {path} may not be opened by this user: join its group with "
            f"'sudo usermod -aG {group} $USER', then log in again (or restart the service)"
        )
    elif code in _BUSY:
        text = f"serial port {path} is in use by another process; 'fuser -v {path}' names it"
    elif code == errno.EINVAL:
        text = (
            f"serial port {path} does not offer {line.baud_rate} baud, {line.data_bits} data bits, "
            f"{line.parity} parity, {line.stop_bits} stop bits"
        )
    elif code in {errno.ENOTTY, errno.EISDIR}:
        text = f"{path} is not a serial port. {_ports_hint()}"
    else:
        text = f"serial port {path} cannot be used: {error}"
    return DeviceUnavailable(Reason.DISCONNECTED, text, whole_bus=True)


def _number_of(error: BaseException | None) -> int | None:
    return error.args[0] if error is not None and error.args and isinstance(error.args[0], int) else None


def _ports_hint() -> str:
    there = ports_there()
    return f"ls {BY_ID} shows: {', '.join(Path(port).name for port in there) or 'nothing'}"


def _group_of(path: str) -> str:
    try:
        return grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        return "dialout"


def _shut(device: serial.Serial) -> None:
    # Bytes that never left would hold the close back for as long as the kernel's closing_wait, 30 s.
    with contextlib.suppress(OSError, termios.error):
        device.reset_output_buffer()
    with contextlib.suppress(OSError):
        device.close()

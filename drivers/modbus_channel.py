"""The byte streams that requests travel on, a socket or a serial port: open, write, hear what comes, close.

A channel knows no Modbus. What goes wrong while opening it becomes DeviceUnavailable with words for a technician.
"""

import asyncio
import errno
import os
import socket
import ssl
import termios
from contextlib import suppress
from typing import Protocol, cast

from serial import Serial, SerialException

from contract.errors import DeviceUnavailable
from contract.readings import Reason
from drivers.modbus_spec import ModbusBusSpec, Tls


class Listener(Protocol):
    """Who is told what a channel hears."""

    def on_data(self, data: bytes) -> None:
        """Bytes came."""

    def on_lost(self, detail: str) -> None:
        """The channel is gone; `detail` says how, for a technician."""


class Channel(Protocol):
    """An open byte stream. After close() its listener hears nothing more."""

    def write(self, data: bytes) -> None:
        """Send; loss is told to the listener."""

    def discard_input(self) -> None:
        """Forget what has come and was not yet told."""

    def close(self) -> None:
        """Free everything, at once. Never raises."""


def _disconnected(detail: str) -> DeviceUnavailable:
    return DeviceUnavailable(Reason.DISCONNECTED, detail, whole_bus=True)


class SocketChannel(asyncio.Protocol):
    """A TCP connection, with or without TLS."""

    def __init__(self, peer: str, listener: Listener) -> None:
        self._peer = peer
        self._listener: Listener | None = listener
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the connection stands."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """asyncio's: bytes came."""
        if self._listener is not None:
            self._listener.on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the connection is gone."""
        if self._listener is not None:
            how = f"connection to {self._peer} lost: {exc}" if exc else f"connection closed by {self._peer}"
            self._listener.on_lost(how)
        self._listener = None

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None:
            self._transport.write(data)

    def discard_input(self) -> None:
        """Nothing to do: asyncio tells at once."""

    def close(self) -> None:
        """Close without waiting for a peer that may be gone."""
        self._listener = None
        if self._transport is not None:
            self._transport.abort()


async def open_socket(spec: ModbusBusSpec, listener: Listener) -> Channel:
    """Connect within the bus's timeout. Raises DeviceUnavailable."""
    loop = asyncio.get_running_loop()
    context = await asyncio.to_thread(_tls_context, spec.tls) if spec.tls else None
    name = (spec.tls.server_name or spec.host) if spec.tls else None
    try:
        async with asyncio.timeout(spec.timeout_s):
            _, channel = await loop.create_connection(
                lambda: SocketChannel(spec.peer, listener),
                spec.host or "",
                spec.tcp_port,
                ssl=context,
                server_hostname=name,
            )
    except TimeoutError:
        raise _disconnected(f"no connection to {spec.peer} within {spec.timeout_s} s") from None
    except ConnectionRefusedError:
        raise _disconnected(f"connection refused by {spec.peer}") from None
    except socket.gaierror as error:
        raise _disconnected(f"host {spec.host!r} cannot be resolved: {error.strerror}") from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or error
        raise _disconnected(f"no TLS with {spec.peer}: {why}") from None
    except OSError as error:
        raise _disconnected(f"no connection to {spec.peer}: {error.strerror or error}") from None
    return channel


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    path = tls.ca
    try:
        context.load_verify_locations(path)
        if tls.cert is not None:
            path = tls.cert
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # ssl.SSLError is one
        raise _disconnected(f"TLS file {path}: {error.strerror or error}") from None
    return context


class SerialChannel:
    """A serial port, read when the event loop says that bytes are there."""

    def __init__(self, port: Serial, listener: Listener) -> None:
        self._name = port.name
        self._port = port
        self._listener: Listener | None = listener
        self._fd = port.fileno()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        if not data:
            # A raw tty answers "no bytes" when hung up, but also when discard_input() took them after they were seen.
            if self._hung_up():
                self._lost("nothing is there any more")
        elif self._listener is not None:
            self._listener.on_data(data)

    def _hung_up(self) -> bool:
        try:
            termios.tcgetattr(self._fd)
        except termios.error:
            return True
        return False

    def _lost(self, why: str) -> None:
        listener = self._listener
        self.close()
        if listener is not None:
            listener.on_lost(f"serial port {self._name} lost: {why}")

    def write(self, data: bytes) -> None:
        """Send. A request is far smaller than a port's buffer, so a port that does not take it whole is stuck."""
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        if sent < len(data):
            self._lost("it takes no more data")

    def discard_input(self) -> None:
        """Empty the port's input buffer."""
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except termios.error as error:
            self._lost(str(error.args[-1]))

    def close(self) -> None:
        """Close, dropping unsent bytes: closing would wait for a line that is held up."""
        if self._listener is None:
            return
        self._listener = None
        self._loop.remove_reader(self._fd)
        with suppress(termios.error):  # the adapter may be gone, and its bytes with it
            termios.tcflush(self._fd, termios.TCIOFLUSH)
        self._port.close()


async def open_serial(spec: ModbusBusSpec, listener: Listener) -> Channel:
    """Open the port for this process alone. Raises DeviceUnavailable."""
    try:
        port = await asyncio.to_thread(_open_port, spec)
    except (SerialException, OSError, termios.error) as error:
        raise _disconnected(_port_words(spec.peer, error)) from None
    return SerialChannel(port, listener)


def _open_port(spec: ModbusBusSpec) -> Serial:
    return Serial(
        spec.serial_port,
        baudrate=spec.baud_rate,
        bytesize=spec.data_bits,
        parity=spec.parity,
        stopbits=spec.stop_bits,
        timeout=0,
        exclusive=True,
    )


def _port_words(name: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ENOENT:
        return f"serial port {name} does not exist"
    if code == errno.EACCES:
        return f"serial port {name}: no permission; its group (often dialout) must include this user"
    if code in {errno.EAGAIN, errno.EBUSY}:
        return f"serial port {name} is in use by another program"
    return f"serial port {name} cannot be opened: {error}"

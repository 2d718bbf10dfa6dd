"""Modbus devices at the wire, written from the specification and sharing nothing with the driver: for tests.

A peer answers from an `Image`; each request may be given a `Turn` that says how this one goes wrong.
"""

import asyncio
import os
import struct
import tty
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ssl import SSLContext

Send = Callable[[bytes], None]


@dataclass
class Image:
    """What a unit holds: four tables, addresses that do not exist, the most registers it reads at once."""

    holding: list[int] = field(default_factory=lambda: list(range(1000)))
    input: list[int] = field(default_factory=lambda: list(range(1000)))
    coils: list[bool] = field(default_factory=lambda: [n % 3 == 0 for n in range(1000)])
    discrete: list[bool] = field(default_factory=lambda: [n % 5 == 0 for n in range(1000)])
    illegal: set[int] = field(default_factory=set)
    most: int = 125

    def answer(self, pdu: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", pdu[:5])
        if function in (5, 6):
            return self._write_one(pdu, function, address, count)
        tables: dict[int, Sequence[int]] = {1: self.coils, 15: self.coils, 2: self.discrete, 3: self.holding}
        tables |= {16: self.holding, 4: self.input}
        table = tables[function]
        if address + count > len(table) or self.illegal & set(range(address, address + count)):
            return bytes((function | 0x80, 2))
        if function in (3, 4):
            if count > self.most:
                return bytes((function | 0x80, 2))
            values = table[address : address + count]
            return struct.pack(f">BB{count}H", function, 2 * count, *values)
        if function in (1, 2):
            packed = bytearray((count + 7) // 8)
            for bit, on in enumerate(table[address : address + count]):
                packed[bit // 8] |= bool(on) << bit % 8
            return bytes((function, len(packed))) + bytes(packed)
        for at in range(count):
            if function == 15:
                self.coils[address + at] = bool(pdu[6 + at // 8] >> at % 8 & 1)
            else:
                self.holding[address + at] = struct.unpack_from(">H", pdu, 6 + 2 * at)[0]
        return pdu[:5]

    def _write_one(self, pdu: bytes, function: int, address: int, value: int) -> bytes:
        if address in self.illegal:
            return bytes((function | 0x80, 2))
        if function == 5:
            self.coils[address] = value == 0xFF00
        else:
            self.holding[address] = value
        return pdu


@dataclass
class Turn:
    """How one request is answered. All fields at their defaults: properly and at once."""

    silent: bool = False
    late_s: float = 0.0
    exception: int | None = None
    close: bool = False
    hang_up: bool = False
    raw: bytes | None = None
    before: bytes = b""
    after: bytes = b""
    tid_off: int = 0
    unit_off: int = 0
    pdu: bytes | None = None
    flip_crc: bool = False
    split_at: int | None = None


def crc16(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return struct.pack("<H", crc)


class Peer:
    """The device end: takes bytes, finds requests, answers by its turns."""

    def __init__(self, images: dict[int, Image] | Image, *, rtu: bool = False) -> None:
        self.images = images
        self.rtu = rtu
        self.turns: deque[Turn] = deque()
        self.by_unit: dict[int, Turn] = {}
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self.timers: list[asyncio.TimerHandle] = []
        self.say: Send = void  # speak without being asked; set by serve_pty

    @property
    def reads(self) -> list[tuple[int, int, int]]:
        """(function, address, count) of every request so far."""
        return [struct.unpack(">BHH", pdu[:5]) for _, pdu in self.requests]

    def feed(self, buffer: bytearray, send: Send, close: Callable[[], None]) -> None:
        while (cut := self._cut(buffer)) is not None:
            tid, unit, pdu = cut
            self.requests.append((unit, pdu))
            turn = self.turns.popleft() if self.turns else self.by_unit.get(unit, Turn())
            self._answer(turn, (tid, unit, pdu), send, close)

    def _cut(self, buffer: bytearray) -> tuple[int, int, bytes] | None:
        if self.rtu:
            if len(buffer) < 8:
                return None
            size = 9 + buffer[6] if buffer[1] in (15, 16) else 8
            if len(buffer) < size:
                return None
            frame = bytes(buffer[:size])
            del buffer[:size]
            assert crc16(frame[:-2]) == frame[-2:], "the driver sent a wrong checksum"
            return 0, frame[0], frame[1:-2]
        if len(buffer) < 6:
            return None
        tid, protocol, length = struct.unpack(">HHH", buffer[:6])
        assert protocol == 0
        if len(buffer) < 6 + length:
            return None
        frame = bytes(buffer[6 : 6 + length])
        del buffer[: 6 + length]
        return tid, frame[0], frame[1:]

    def frame(self, tid: int, unit: int, pdu: bytes) -> bytes:
        if self.rtu:
            return bytes((unit,)) + pdu + crc16(bytes((unit,)) + pdu)
        return struct.pack(">HHHB", tid & 0xFFFF, 0, len(pdu) + 1, unit) + pdu

    def _answer(self, turn: Turn, request: tuple[int, int, bytes], send: Send, close: Callable[[], None]) -> None:
        tid, unit, pdu = request
        image = self.images if isinstance(self.images, Image) else self.images.get(unit)
        if turn.close:
            close()
        if turn.silent or turn.close or image is None:
            return
        reply = turn.pdu or image.answer(pdu)
        if turn.exception is not None:
            reply = bytes((pdu[0] | 0x80, turn.exception))
        data = turn.raw if turn.raw is not None else self.frame(tid + turn.tid_off, unit + turn.unit_off, reply)
        if turn.flip_crc:
            data = data[:-1] + bytes((data[-1] ^ 0x55,))
        data = turn.before + data + turn.after
        loop = asyncio.get_running_loop()
        if turn.split_at is not None:
            send(data[: turn.split_at])
            self.timers.append(loop.call_later(0.02, send, data[turn.split_at :]))
        elif turn.late_s:
            self.timers.append(loop.call_later(turn.late_s, send, data))
        else:
            send(data)
        if turn.hang_up:
            loop.call_soon(close)


@asynccontextmanager
async def serve_tcp(peer: Peer, context: SSLContext | None = None) -> AsyncIterator[int]:
    """`peer` on a free port of localhost. A late reply goes to the newest connection, as converters do."""
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        writers.append(writer)
        buffer = bytearray()

        def send(data: bytes) -> None:
            newest = writers[-1] if peer.rtu else writer
            if not newest.is_closing():
                newest.write(data)

        try:
            while data := await reader.read(4096):
                buffer += data
                peer.feed(buffer, send, writer.transport.abort)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for timer in peer.timers:
            timer.cancel()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


@contextmanager
def serve_pty(peer: Peer) -> Iterator[tuple[str, Callable[[], None]]]:
    """`peer` on a pseudo terminal: its name, and a function that pulls the plug."""
    master, slave = os.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    loop = asyncio.get_running_loop()
    buffer = bytearray()
    open_fds = {master, slave}

    def unplug() -> None:
        if open_fds:
            loop.remove_reader(master)
            for timer in peer.timers:
                timer.cancel()
            while open_fds:
                os.close(open_fds.pop())

    def say(data: bytes) -> None:
        if open_fds:
            os.write(master, data)

    def readable() -> None:
        buffer.extend(os.read(master, 4096))
        peer.feed(buffer, say, unplug)

    peer.say = say

    os.set_blocking(master, False)
    loop.add_reader(master, readable)
    try:
        yield name, unplug
    finally:
        unplug()


def void(_: object) -> None:
    """Take a result and do nothing with it."""

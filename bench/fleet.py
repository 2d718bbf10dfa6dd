"""Thousands of gateways in one process, each with an MQTT connection of its own, at the cost of a few us a message.

A client library keeps a thread or a dozen objects a connection; this speaks just enough MQTT 3.1.1 for what a gateway
does: connect, tell its birth, listen for acknowledgements, publish frames at QoS 1. What is measured is the other side.
"""

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.processes import BenchFailed
from contract import ack
from contract.catalogue import Birth
from contract.topics import TopicKind

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK, _PINGREQ = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90, 0xC0
_QOS1, _RETAIN = 0x02, 0x01
CONNECTING = 100
ACK_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Tally:
    """What the whole fleet did. latencies_s: from a frame's first publish to its acknowledgement.

    births_asked: acknowledgements that said a frame's birth is not known. resent: frames sent again.
    """

    acknowledged: int = 0
    births_asked: int = 0
    resent: int = 0
    latencies_s: list[float] = field(default_factory=list)


class Gateway(asyncio.Protocol):
    """One gateway's connection. `messages`: (sequence, frame), sent one every `period_s`."""

    def __init__(self, birth: Birth, messages: Sequence[tuple[int, bytes]], tally: Tally) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._birth = birth
        self._messages = messages
        self._tally = tally
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""
        self._packet = 1
        self._sent_s: dict[int, float] = {}
        self._due_s: dict[int, float] = {}
        self._frames = dict(messages)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        if not isinstance(transport, asyncio.WriteTransport):
            raise TypeError("a connection that cannot be written to")
        self._transport = transport
        client = _text(self._birth.gateway)
        self._write(_CONNECT, _text("MQTT") + bytes([4, 0x02]) + struct.pack(">H", 0) + client)

    def connection_lost(self, exc: Exception | None) -> None:
        """A gateway that was thrown out before it was ready fails the benchmark."""
        if not self.ready.done():
            self.ready.set_exception(BenchFailed(f"{self._birth.gateway}: the broker closed the connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Take every whole packet."""
        data = self._rest + data
        at = 0
        while (end := _packet_end(data, at)) is not None:
            body, packet_end = end
            self._take(data[at] & 0xF0, data[at], data[body:packet_end])
            at = packet_end
        self._rest = data[at:]

    def send(self, number: int) -> None:
        """Publish one of the messages."""
        sequence, data = self._messages[number]
        self._sent_s[sequence] = time.monotonic()
        self._due_s[sequence] = self._sent_s[sequence] + ACK_TIMEOUT_S
        self._publish(self._birth.path.topic(TopicKind.DATA), data)

    def send_late_again(self) -> None:
        """As a gateway does with what nobody acknowledged in time; call it about once a second."""
        now_s = time.monotonic()
        self._again([sequence for sequence, due_s in self._due_s.items() if due_s < now_s])

    def _again(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            self._tally.resent += 1
            self._due_s[sequence] = time.monotonic() + ACK_TIMEOUT_S
            self._publish(self._birth.path.topic(TopicKind.DATA), self._frames[sequence])

    async def play(self, delay_s: float, period_s: float) -> None:
        """Send all messages but the first, which is for `send`, one every `period_s`, beginning after `delay_s`."""
        await asyncio.sleep(delay_s)
        due_s = time.monotonic()
        for number in range(1, len(self._messages)):
            self.send(number)
            due_s += period_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.close()

    def _take(self, kind: int, first: int, body: bytes) -> None:
        if kind == _CONNACK:
            topic = self._birth.path.topic(TopicKind.ACK)
            self._write(_SUBSCRIBE, struct.pack(">H", 1) + _text(topic) + b"\x01")
            self._tell_birth()
        elif kind == _SUBACK and not self.ready.done():
            self.ready.set_result(None)
        elif kind == _PUBLISH:
            size = struct.unpack_from(">H", body)[0] + 2
            if first & 0x06:
                self._write(_PUBACK, body[size : size + 2])
                size += 2
            self._acknowledged(body[size:])

    def _acknowledged(self, payload: bytes) -> None:
        now_s = time.monotonic()
        answer = ack.decode(payload)
        if answer.unknown_epochs:
            self._tally.births_asked += 1
            self._tell_birth()
            self._again(list(self._due_s))
        for low, high in answer.stored:
            for sequence in range(low, high + 1):
                sent_s = self._sent_s.pop(sequence, None)
                self._due_s.pop(sequence, None)
                if sent_s is not None:
                    self._tally.acknowledged += 1
                    self._tally.latencies_s.append(now_s - sent_s)

    def _tell_birth(self) -> None:
        self._publish(self._birth.path.topic(TopicKind.BIRTH), self._birth.encode(), retain=True)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._packet = self._packet % 65535 + 1
        head = _PUBLISH | _QOS1 | (_RETAIN if retain else 0)
        self._write(head, _text(topic) + struct.pack(">H", self._packet) + payload)

    def _write(self, first: int, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(bytes([first]) + _length(len(body)) + body)


async def connect(port: int, crowd: Sequence[tuple[Birth, Sequence[tuple[int, bytes]]]], tally: Tally) -> list[Gateway]:
    """Every gateway of `crowd`, connected and subscribed, CONNECTING at a time."""
    loop = asyncio.get_running_loop()
    found: list[Gateway] = []
    for first in range(0, len(crowd), CONNECTING):
        some = []
        for birth, messages in crowd[first : first + CONNECTING]:

            def make(birth: Birth = birth, messages: Sequence[tuple[int, bytes]] = messages) -> Gateway:
                return Gateway(birth, messages, tally)

            some.append((await loop.create_connection(make, "127.0.0.1", port))[1])
        async with asyncio.timeout(30):
            await asyncio.gather(*(one.ready for one in some))
        found += some
    return found


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _packet_end(data: bytes, at: int) -> tuple[int, int] | None:
    """(where the body of the packet at `at` begins, where it ends), or None when it is not whole."""
    size = shift = 0
    for place in range(at + 1, min(at + 5, len(data))):
        size |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            end = place + 1 + size
            return (place + 1, end) if end <= len(data) else None
    return None

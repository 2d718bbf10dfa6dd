"""Modbus framing, both kinds, and what a fault makes of an answer on its way out.

TCP: transaction id, protocol id 0, length, unit id, PDU. RTU: unit id, PDU, CRC-16 (polynomial 0xA001, low byte first).
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from hardware_sim.clock import Clock
from hardware_sim.devices.modbus_device import ModbusDevice
from hardware_sim.faults import Fault, Kind
from hardware_sim.modbus_pdu import Answer, answer, exception
from hardware_sim.truth import Record

MBAP = struct.Struct(">HHHB")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """The Modbus CRC of the bytes; on the wire its low byte goes first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


class Framer(Protocol):
    """How one request's answer is framed, well or badly."""

    def frame(self, pdu: bytes) -> bytes:
        """A proper frame."""

    def corrupt(self, pdu: bytes) -> bytes:
        """A frame whose check fails."""

    def foreign(self, pdu: bytes) -> bytes:
        """A proper frame that answers somebody else."""


class TcpFramer(NamedTuple):
    """Frames for one TCP request."""

    transaction: int
    unit: int

    def frame(self, pdu: bytes) -> bytes:
        """A proper frame."""
        return MBAP.pack(self.transaction, 0, len(pdu) + 1, self.unit) + pdu

    def corrupt(self, pdu: bytes) -> bytes:
        """A frame of a protocol that is not Modbus."""
        return MBAP.pack(self.transaction, 0x5A5A, len(pdu) + 1, self.unit) + pdu

    def foreign(self, pdu: bytes) -> bytes:
        """The frame with another transaction id."""
        return MBAP.pack(self.transaction ^ 0x5555, 0, len(pdu) + 1, self.unit) + pdu


class RtuFramer(NamedTuple):
    """Frames for one RTU request."""

    unit: int

    def frame(self, pdu: bytes) -> bytes:
        """A proper frame."""
        body = bytes((self.unit,)) + pdu
        return body + crc16(body).to_bytes(2, "little")

    def corrupt(self, pdu: bytes) -> bytes:
        """The frame with a wrong CRC."""
        frame = self.frame(pdu)
        return frame[:-1] + bytes((frame[-1] ^ 0xA5,))

    def foreign(self, pdu: bytes) -> bytes:
        """A proper frame of the next unit."""
        return RtuFramer(self.unit % 247 + 1).frame(pdu)


class Sink(Protocol):
    """Where answers leave: a connection or a pty. Writes the record down once the bytes are the kernel's."""

    def send(self, data: bytes, record: Record | None) -> None:
        """Send, if anybody still listens."""


@dataclass(slots=True)
class Tally:
    """What a device was asked and what it said."""

    requests: int = 0
    spoiled: int = 0
    """Requests whose answer a fault withheld or changed."""


class Engine:
    """The units behind one port: they take requests and answer, unless a fault has it otherwise.

    later: calls a function after some seconds (an event loop's `call_later`). A unit that is not here never answers.
    """

    def __init__(
        self,
        devices: list[ModbusDevice],
        clock: Clock,
        later: Callable[[float, Callable[[], None]], object],
        dead: frozenset[str] = frozenset(),
    ) -> None:
        self.devices = {device.unit: device for device in devices}
        self.tallies = {device.name: Tally() for device in devices}
        self._clock = clock
        self._later = later
        self._dead = dead

    def request(self, unit: int, pdu: bytes, framer: Framer, sink: Sink) -> None:
        """Take one request; the answer goes to the sink now, later or never."""
        device = self.devices.get(unit)
        if device is None or device.name in self._dead:
            return
        tally = self.tallies[device.name]
        tally.requests += 1
        fault = device.faults.wire(self._clock.elapsed_s())
        if fault is None:
            said = answer(device, pdu)
            sink.send(framer.frame(said.pdu), said.record)
            return
        tally.spoiled += 1
        if fault.kind is Kind.TIMEOUT:
            return
        if fault.kind is Kind.EXCEPTION:
            sink.send(framer.frame(exception(pdu[0], fault.code)), None)
            return
        said = answer(device, pdu)
        if fault.kind is Kind.LATE_REPLY:
            record = said.record and replace(said.record, key=f"{said.record.key} late")
            frame = framer.frame(said.pdu)
            self._later(fault.delay_s, lambda: sink.send(frame, record))
            return
        sink.send(_spoil(fault, said, framer, device.faults.chance), None)


def _spoil(fault: Fault, said: Answer, framer: Framer, chance: random.Random) -> bytes:
    """What leaves instead of the proper frame."""
    match fault.kind:
        case Kind.CRC_ERROR:
            return framer.corrupt(said.pdu)
        case Kind.FOREIGN_REPLY:
            return framer.foreign(said.pdu)
        case Kind.PARTIAL:
            frame = framer.frame(said.pdu)
            return frame[: len(frame) // 2]
        case _:
            return chance.randbytes(len(framer.frame(said.pdu)))

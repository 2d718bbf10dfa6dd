"""Requests and replies as bytes, and the rules by which a reply is believed.

pymodbus 3.16 encodes our requests and computes the CRC; its client does not judge our replies, because it believes too
much: it takes a reply of any function code and any byte count, a transaction id of 0 counts as any, an RTU reply is
matched by unit id alone, its TLS framer takes whatever arrived as one whole frame, and a wrong protocol id stalls it
until the timeout. Here a reply is the answer only if transaction id (where there is one), unit, function code, byte
count and CRC (where there is one) are what the request asked for. It is also cheaper: registers stay bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from drivers.modbus_terms import Span, Table

MAX_ADU_BYTES = 260
ILLEGAL_ADDRESS = 2
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge: the device is still working",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
_READS: dict[Table, type[ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE: ReadDiscreteInputsRequest,
    Table.HOLDING: ReadHoldingRegistersRequest,
    Table.INPUT: ReadInputRegistersRequest,
}


class GarbageError(Exception):
    """What arrived cannot be the answer. `answered`: it was the answer, spoilt, so that none is still to come."""

    def __init__(self, detail: str, *, answered: bool = False) -> None:
        super().__init__(detail)
        self.answered = answered


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what its answer looks like.

    pdu: function code and data. head: what a good reply PDU begins with. length: its bytes. where: words for messages.
    """

    unit: int
    pdu: bytes
    head: bytes
    length: int
    where: str

    @property
    def is_read(self) -> bool:
        """Function codes 1 to 4."""
        return self.pdu[0] <= 4

    def is_answer(self, pdu: bytes) -> bool:
        """The reply that was asked for, or the exception to it."""
        if pdu[0] == self.pdu[0] | 0x80:
            return len(pdu) == 2
        return len(pdu) == self.length and pdu.startswith(self.head)


def read_call(unit: int, span: Span, where: str) -> Call:
    """Read all of `span`; the reply is function code, byte count, data."""
    count = span.last - span.first + 1
    size = (count + 7) // 8 if span.table.is_bits else 2 * count
    pdu = _pdu(_READS[span.table](address=span.first, count=count))
    return Call(unit, pdu, bytes((pdu[0], size)), 2 + size, where)


def write_call(unit: int, span: Span, raw: bytes, where: str, *, single: bool) -> Call:
    """Write `raw` (registers as sent; a coil is on if any byte is not 0) to `span`; `single`: by functions 5 and 6."""
    message: ModbusPDU
    if span.table is Table.COIL:
        on = [any(raw)]
        message = (
            WriteSingleCoilRequest(address=span.first, bits=on) if single else WriteMultipleCoilsRequest(span.first, on)
        )
    else:
        values = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
        single = single and len(values) == 1
        message = (WriteSingleRegisterRequest if single else WriteMultipleRegistersRequest)(
            address=span.first, registers=values
        )
    pdu = _pdu(message)
    return Call(unit, pdu, pdu[:5], 5, where)


def _pdu(message: ModbusPDU) -> bytes:
    return message.function_code.to_bytes(1, "big") + message.encode()


class Framing(Protocol):
    """How a PDU is wrapped, and how a reply is found in what arrives."""

    foreign: int

    def request(self, call: Call) -> bytes:
        """The bytes to send; remembers whatever the reply is to be matched by."""

    def reply(self, buffer: bytearray, call: Call) -> bytes | None:
        """The reply PDU in `buffer`, consuming it, or None while more must come.

        Well-formed frames that answer something else are consumed and counted in `foreign`. Raises GarbageError when
        nothing that follows can be the answer.
        """


class Mbap:
    """Modbus TCP: a header of transaction id, protocol id 0, length and unit."""

    def __init__(self) -> None:
        self.foreign = 0
        self._framer = FramerSocket(DecodePDU(False))
        self._tid = 0

    def request(self, call: Call) -> bytes:
        """The request under the next transaction id; 0 is never used, some devices echo it for everything."""
        self._tid = self._tid % 0xFFFF + 1
        return self._framer.encode(call.pdu, call.unit, self._tid)

    def reply(self, buffer: bytearray, call: Call) -> bytes | None:
        """Frames with another transaction id are foreign: late, or not ours."""
        while len(buffer) >= 8:
            length = buffer[4] << 8 | buffer[5]
            if buffer[2] or buffer[3] or not 3 <= length <= MAX_ADU_BYTES - 6:
                raise GarbageError(f"not a Modbus TCP header: {buffer[:8].hex(' ')}")
            if len(buffer) < 6 + length:
                return None
            tid, unit, pdu = buffer[0] << 8 | buffer[1], buffer[6], bytes(buffer[7 : 6 + length])
            del buffer[: 6 + length]
            if tid != self._tid:
                self.foreign += 1
                continue
            if unit != call.unit:
                raise GarbageError(f"unit {unit} answered under this request's transaction id")
            if not call.is_answer(pdu):
                raise GarbageError(f"a reply to something else: function code {pdu[0]}, {len(pdu)} bytes")
            return pdu
        return None


class Rtu:
    """RTU: unit, PDU, CRC. Nothing says where a frame begins, nor which request it answers.

    So the reply is looked for by its exact header anywhere in what arrived (noise and echoes may precede it) and
    believed when the CRC fits.
    """

    def __init__(self) -> None:
        self.foreign = 0
        self._sent = b""

    def request(self, call: Call) -> bytes:
        """Unit, PDU, CRC."""
        self._sent = _with_crc(bytes((call.unit,)) + call.pdu)
        return self._sent

    def reply(self, buffer: bytearray, call: Call) -> bytes | None:
        """The first frame anywhere in the buffer with this request's header and a good CRC."""
        if len(buffer) > 4 * MAX_ADU_BYTES:
            raise GarbageError(f"{len(buffer)} bytes and no reply in them")
        if call.is_read and buffer.startswith(self._sent):
            del buffer[: len(self._sent)]  # some RS-485 adapters echo what they send
        for head, length in ((call.head, call.length), (bytes((call.pdu[0] | 0x80,)), 2)):
            header = bytes((call.unit,)) + head
            start = buffer.find(header)
            while start >= 0:
                end = start + 1 + length
                frame = bytes(buffer[start : end + 2])
                if len(frame) == length + 3 and frame == _with_crc(frame[:-2]):
                    self.foreign += start > 0
                    del buffer[: end + 2]
                    return frame[1:-2]
                start = buffer.find(header, start + 1)
        if buffer.startswith(bytes((call.unit,)) + call.head) and len(buffer) >= call.length + 3:
            raise GarbageError("a reply with a wrong checksum", answered=True)
        return None


def _with_crc(frame: bytes) -> bytes:
    return frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big")


def exception_text(code: int) -> str:
    """`exception 2 (illegal data address)`."""
    return f"exception {code} ({EXCEPTIONS.get(code, 'unknown to the specification')})"


def hex_of(frames: Sequence[bytes]) -> str:
    """Request and reply as a technician reads them in a manual."""
    return " | ".join(frame[:MAX_ADU_BYTES].hex(" ") for frame in frames)

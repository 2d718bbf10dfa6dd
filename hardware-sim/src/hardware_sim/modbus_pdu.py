"""The Modbus application protocol, without framing: a request's bytes in, an answer's bytes out.

Source: Modbus Application Protocol Specification V1.1b3. Functions 1-6, 15 and 16.
"""

import struct
from typing import NamedTuple

from hardware_sim.devices.modbus_device import (
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    ModbusDevice,
    ModbusError,
)
from hardware_sim.registers import Table
from hardware_sim.truth import Record

_READS = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
_WORD_READS = {3: ("holding:", Table.HOLDING), 4: ("input:", Table.INPUT)}
_REQUEST = struct.Struct(">BHH")
MAX_BITS = 2000
MAX_WRITTEN_REGISTERS, MAX_WRITTEN_BITS = 123, 1968


class Answer(NamedTuple):
    """An answer's bytes, and what the truth file is to say of it once it is delivered (only reads are listed)."""

    pdu: bytes
    record: Record | None


def exception(function: int, code: int) -> bytes:
    """The bytes of an exception answer."""
    return bytes((function | 0x80, code))


def answer(device: ModbusDevice, pdu: bytes) -> Answer:
    """What a healthy device says to a request; never raises."""
    try:
        return _answer(device, pdu)
    except ModbusError as error:
        return Answer(exception(pdu[0], error.code), None)


def _answer(device: ModbusDevice, pdu: bytes) -> Answer:
    function = pdu[0]
    words = _WORD_READS.get(function)
    if words is not None and len(pdu) == 5:  # by far the most: kept short
        _, address, count = _REQUEST.unpack(pdu)
        if not 1 <= count <= device.max_registers:
            raise ModbusError(ILLEGAL_VALUE)
        data = device.read(words[1], address, count)
        return Answer(bytes((function, 2 * count)) + data, Record(device.name, f"{words[0]}{address}", data.hex()))
    if function in _READS and len(pdu) == 5:
        return _read_bits(device, pdu)
    if function in {5, 6, 15, 16}:
        return Answer(_write(device, pdu), None)
    raise ModbusError(ILLEGAL_VALUE if function in _READS else ILLEGAL_FUNCTION)


def _read_bits(device: ModbusDevice, pdu: bytes) -> Answer:
    function, address, count = _REQUEST.unpack(pdu)
    if not 1 <= count <= MAX_BITS:
        raise ModbusError(ILLEGAL_VALUE)
    table = _READS[function]
    bits = device.read(table, address, count)
    packed = sum(bool(bit) << index for index, bit in enumerate(bits)).to_bytes((count + 7) // 8, "little")
    record = Record(device.name, f"{table}:{address}:{count}", packed.hex())
    return Answer(bytes((function, len(packed))) + packed, record)


def _write(device: ModbusDevice, pdu: bytes) -> bytes:
    function = pdu[0]
    if len(pdu) < 5:
        raise ModbusError(ILLEGAL_VALUE)
    _, address, second = _REQUEST.unpack_from(pdu)
    if function == 5:
        if second not in {0x0000, 0xFF00} or len(pdu) != 5:
            raise ModbusError(ILLEGAL_VALUE)
        device.write(Table.COIL, address, bytes((second == 0xFF00,)))
        return pdu
    if function == 6:
        if len(pdu) != 5:
            raise ModbusError(ILLEGAL_VALUE)
        device.write(Table.HOLDING, address, pdu[3:5])
        return pdu
    bits = function == 15
    size = (second + 7) // 8 if bits else 2 * second
    most = MAX_WRITTEN_BITS if bits else MAX_WRITTEN_REGISTERS
    if not 1 <= second <= most or len(pdu) != 6 + size or pdu[5] != size:
        raise ModbusError(ILLEGAL_VALUE)
    data = pdu[6:]
    if bits:
        packed = int.from_bytes(data, "little")
        data = bytes(packed >> index & 1 for index in range(second))
    device.write(Table.COIL if bits else Table.HOLDING, address, data)
    return pdu[:5]

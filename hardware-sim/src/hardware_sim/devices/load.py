"""Devices for load and for counting: `counter`, whose every answer can be told from every other, and `ramp`.

counter: `registers` holding registers from 0, and the same as input registers. Each read answered is number
n = 1, 2, 3, ... and value i of it says so (i is the value's place in the table, not in the request):

    uint16   (n + 655 i) mod 65536             tells n apart for 65,536 reads
    uint32   (n * 1000 + i) mod 2**32          for 4,294,967 reads; at most 1000 values
    float32  (n mod 16000) * 1000 + i, exact   for 16,000 reads

so a lost, doubled or mixed-up reading is found by its value alone; `read_number` turns a value back into n.
"""

import struct
from functools import cached_property

import numpy as np

from hardware_sim.clock import Clock
from hardware_sim.devices.modbus_device import ILLEGAL_ADDRESS, ModbusError
from hardware_sim.faults import Faults, Kind
from hardware_sim.registers import Encoding, Table

FORMATS = (Encoding.UINT16, Encoding.UINT32, Encoding.FLOAT32)
FLOAT_READS = 16_000


def counter_value(encoding: Encoding, number: int, index: int) -> int:
    """What value `index` of read `number` is."""
    if encoding is Encoding.UINT16:
        return (number + 655 * index) % 65_536
    if encoding is Encoding.UINT32:
        return (number * 1000 + index) % 2**32
    return number % FLOAT_READS * 1000 + index


def read_number(encoding: Encoding, value: float, index: int) -> int:
    """Which read a value came from, modulo what the encoding can tell apart. Raises ValueError for a foreign value."""
    if encoding is Encoding.UINT16:
        return (int(value) - 655 * index) % 65_536
    number, rest = divmod(int(value) - index, 1000)
    if rest:
        raise ValueError(f"{value} is no value at place {index} of a counter")
    return number


class CounterDevice:
    """See above. Asked for half a value, it gives the half."""

    def __init__(self, name: str, unit: int, faults: Faults, clock: Clock, *, count: int, encoding: Encoding) -> None:
        self.name = name
        self.unit = unit
        self.faults = faults
        self.max_registers = 125
        self.number = 0
        self._count = count
        self._encoding = encoding
        self._clock = clock

    @cached_property
    def _pack(self) -> struct.Struct:
        letter = {Encoding.UINT16: "H", Encoding.UINT32: "I", Encoding.FLOAT32: "f"}[self._encoding]
        return struct.Struct(f">{self._count // self._encoding.words}{letter}")

    def read(self, table: Table, address: int, count: int) -> bytes:
        """The next number's registers."""
        if table not in {Table.HOLDING, Table.INPUT} or address + count > self._count:
            raise ModbusError(ILLEGAL_ADDRESS)
        frozen = any(one.fault.kind is Kind.FROZEN for one in self.faults.active(self._clock.elapsed_s()))
        if not frozen:
            self.number += 1
        return self._block(self.number)[2 * address : 2 * (address + count)]

    def _block(self, number: int) -> bytes:
        values = self._count // self._encoding.words
        start = counter_value(self._encoding, number, 0)
        if self._encoding is Encoding.UINT16:
            return self._pack.pack(*[(start + step) & 0xFFFF for step in range(0, 655 * values, 655)])
        if self._encoding is Encoding.UINT32:
            return self._pack.pack(*[(start + index) & 0xFFFFFFFF for index in range(values)])
        return self._pack.pack(*range(start, start + values))

    def write(self, _table: Table, _address: int, _data: bytes) -> None:
        """Nothing can be written."""
        raise ModbusError(ILLEGAL_ADDRESS)


class RampDevice:
    """`registers` uint16 holding registers that climb by one every second: register i is (second + i) mod 65536.

    The cheapest device there is, to measure everything but the device.
    """

    def __init__(self, name: str, unit: int, faults: Faults, clock: Clock, *, count: int) -> None:
        self.name = name
        self.unit = unit
        self.faults = faults
        self.max_registers = 125
        self._clock = clock
        self._steps = np.arange(count, dtype=np.uint32)
        self._second = -1
        self._block = b""

    def read(self, table: Table, address: int, count: int) -> bytes:
        """Registers of this second."""
        if table is not Table.HOLDING or address + count > len(self._steps):
            raise ModbusError(ILLEGAL_ADDRESS)
        second = int(self._clock.elapsed_s())
        if second != self._second:
            self._second = second
            self._block = (self._steps + second).astype(">u2").tobytes()
        return self._block[2 * address : 2 * (address + count)]

    def write(self, _table: Table, _address: int, _data: bytes) -> None:
        """Nothing can be written."""
        raise ModbusError(ILLEGAL_ADDRESS)

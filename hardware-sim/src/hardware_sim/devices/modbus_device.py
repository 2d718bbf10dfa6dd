"""One Modbus unit, without a wire: tables of registers and bits that requests read and write.

`RegisterDevice` shows an instrument's signals in registers. What it serves is bytes, so that the wire and the truth
file get the very same ones.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from hardware_sim.devices.instrument import Instrument
from hardware_sim.faults import Faults
from hardware_sim.registers import Image, Register, Table, encode

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
BIT_TABLES = frozenset({Table.COIL, Table.DISCRETE})


class ModbusError(Exception):
    """The device answers with this exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class ModbusDevice(Protocol):
    """What the protocol engine asks of a unit."""

    @property
    def name(self) -> str:
        """Its name in the scenario."""

    @property
    def unit(self) -> int:
        """Its unit id, 0..255."""

    @property
    def faults(self) -> Faults:
        """What goes wrong with it."""

    @property
    def max_registers(self) -> int:
        """The most registers it gives at once; more is exception 3."""

    def read(self, table: Table, address: int, count: int) -> bytes:
        """Registers as they travel, or one byte a bit. Raises ModbusError."""

    def write(self, table: Table, address: int, data: bytes, /) -> None:
        """Set registers (as they travel) or bits (one byte each). Raises ModbusError."""


class RegisterDevice:
    """An instrument's signals laid out in registers.

    constants: bytes that never change, by (table, address). reserved: (table, address, count) that read as zero.
    writable: signals that may be written, a single register or coil each.
    """

    def __init__(
        self,
        instrument: Instrument,
        unit: int,
        registers: Sequence[Register],
        *,
        constants: Mapping[tuple[Table, int], bytes] | None = None,
        reserved: Sequence[tuple[Table, int, int]] = (),
        writable: frozenset[str] = frozenset(),
        max_registers: int = 125,
    ) -> None:
        self.name = instrument.name
        self.unit = unit
        self.faults = instrument.faults
        self.max_registers = max_registers
        self.instrument = instrument
        self._registers = tuple(registers)
        self._images = {table: Image(1 if table in BIT_TABLES else 2) for table in Table}
        self._writable = {(r.table, r.address): r for r in registers if r.signal in writable}
        self._shown: Mapping[str, float] = {}
        for table, address, count in reserved:
            self._images[table].allow(address, count)
        for register in registers:
            self._images[register.table].allow(register.address, register.width)
        for (table, address), data in (constants or {}).items():
            self._images[table].allow(address, len(data) // 2)
            self._images[table].put(address, data)

    def read(self, table: Table, address: int, count: int) -> bytes:
        """Registers as they travel, or one byte a bit. Raises ModbusError 2 when one of them does not exist."""
        image = self._images[table]
        if not image.legal(address, count):
            raise ModbusError(ILLEGAL_ADDRESS)
        self._show()
        return image.get(address, count)

    def write(self, table: Table, address: int, data: bytes) -> None:
        """Set signals. All addresses must be writable, else ModbusError 2 and nothing is written."""
        width = 1 if table in BIT_TABLES else 2
        addresses = range(address, address + len(data) // width)
        if not all((table, one) in self._writable for one in addresses):
            raise ModbusError(ILLEGAL_ADDRESS)
        for index, one in enumerate(addresses):
            register = self._writable[table, one]
            raw = int.from_bytes(data[index * width : (index + 1) * width], "big")
            self.instrument.command(register.signal, raw * register.scale)

    def _show(self) -> None:
        values = self.instrument.values()
        if values is self._shown:
            return
        self._shown = values
        for register in self._registers:
            value = values[register.signal]
            if register.table in BIT_TABLES:
                data = b"\1" if value and not math.isnan(value) else b"\0"
            else:
                data = encode(value / register.scale, register.encoding, register.order)
            self._images[register.table].put(register.address, data)

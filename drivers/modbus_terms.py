"""The words of Modbus: tables, formats, byte orders, transports, and what follows from each."""

from enum import StrEnum
from typing import NamedTuple

from contract.readings import Kind


class Transport(StrEnum):
    """How requests travel: Modbus TCP, RTU on a serial line, RTU frames through a TCP converter, Modbus TCP in TLS."""

    TCP = "tcp"
    RTU = "rtu"
    RTU_OVER_TCP = "rtu-over-tcp"
    TLS = "tls"


class Table(StrEnum):
    """The four tables of a Modbus device."""

    COIL = "coil"
    DISCRETE = "discrete"
    HOLDING = "holding"
    INPUT = "input"

    @property
    def function(self) -> int:
        """The function code that reads it."""
        return FUNCTIONS[self]

    @property
    def is_bits(self) -> bool:
        """One bit an address, not 16."""
        return self in {Table.COIL, Table.DISCRETE}

    @property
    def entry(self) -> str:
        """What one address of it is called."""
        return ENTRIES[self]


FUNCTIONS = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}
ENTRIES = {
    Table.COIL: "coil",
    Table.DISCRETE: "discrete input",
    Table.HOLDING: "holding register",
    Table.INPUT: "input register",
}


class Format(StrEnum):
    """How registers form a value."""

    BOOL = "bool"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    STRING = "string"


REGISTERS = {
    Format.BOOL: 1,
    Format.INT16: 1,
    Format.UINT16: 1,
    Format.BCD16: 1,
    Format.INT32: 2,
    Format.UINT32: 2,
    Format.FLOAT32: 2,
    Format.BCD32: 2,
    Format.INT64: 4,
    Format.UINT64: 4,
    Format.FLOAT64: 4,
}
KINDS = {
    Format.BOOL: (Kind.BOOL, Kind.INT),
    Format.STRING: (Kind.TEXT,),
    Format.FLOAT32: (Kind.FLOAT,),
    Format.FLOAT64: (Kind.FLOAT,),
}
UNSIGNED = {Format.UINT16, Format.UINT32, Format.UINT64}


class Order(StrEnum):
    """In which order the bytes of a 32-bit value A B C D (A the most significant) stand in ascending registers.

    64-bit values follow the same pattern; 16-bit values and strings only know whether the bytes of a register
    are swapped (DCBA, BADC) or not (ABCD, CDAB).
    """

    ABCD = "ABCD"
    DCBA = "DCBA"
    BADC = "BADC"
    CDAB = "CDAB"


class Span(NamedTuple):
    """Consecutive addresses of one table, as on the wire (counted from 0)."""

    table: Table
    first: int
    last: int

"""How values lie in Modbus registers: tables, encodings, byte orders, and a register image with holes.

A register holds 16 bits and travels big-endian. Values of several registers come in four orders, named by where the
bytes of a big-endian ABCD end up: ABCD, CDAB (words swapped), BADC (bytes swapped), DCBA (both).
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Order: TypeAlias = Literal["ABCD", "CDAB", "BADC", "DCBA"]


class Table(StrEnum):
    """The four tables of a Modbus device."""

    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"


class Encoding(StrEnum):
    """What a register or several of them mean."""

    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD16 = "bcd16"
    BCD32 = "bcd32"

    @property
    def words(self) -> int:
        """How many registers a value takes."""
        return int("".join(filter(str.isdigit, self.value))) // 16


_STRUCTS = {
    Encoding.UINT16: struct.Struct(">H"),
    Encoding.INT16: struct.Struct(">h"),
    Encoding.UINT32: struct.Struct(">I"),
    Encoding.INT32: struct.Struct(">i"),
    Encoding.UINT64: struct.Struct(">Q"),
    Encoding.FLOAT32: struct.Struct(">f"),
    Encoding.FLOAT64: struct.Struct(">d"),
}
_FLOATS = {Encoding.FLOAT32: 3.4028234663852886e38, Encoding.FLOAT64: math.inf}


def reorder(data: bytes, order: Order) -> bytes:
    """The bytes of one value, from big-endian to the order or back: each order is its own inverse."""
    if order in {"BADC", "DCBA"}:
        data = b"".join(data[i + 1 : i + 2] + data[i : i + 1] for i in range(0, len(data), 2))
    if order in {"CDAB", "DCBA"}:
        data = b"".join(data[i : i + 2] for i in range(len(data) - 2, -1, -2))
    return data


def encode(value: float, encoding: Encoding, order: Order = "ABCD") -> bytes:
    """The registers of a value. Integers are rounded and clipped to what fits.

    A NaN in an integer becomes the customary "not available": all ones, or the most negative number when signed.
    """
    if encoding in _FLOATS:
        limit = _FLOATS[encoding]
        if not math.isnan(value):
            value = min(max(value, -limit), limit)
        return reorder(_STRUCTS[encoding].pack(value), order)
    bits = 16 * encoding.words
    if encoding in {Encoding.BCD16, Encoding.BCD32}:
        if math.isnan(value):
            return b"\xff" * (bits // 8)
        digits = bits // 4
        return reorder(bytes.fromhex(f"{min(max(round(value), 0), 10**digits - 1):0{digits}d}"), order)
    signed = encoding in {Encoding.INT16, Encoding.INT32}
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    missing = low if signed else high
    raw = missing if math.isnan(value) else round(min(max(value, low), high))
    return reorder(_STRUCTS[encoding].pack(raw), order)


def decode(words: Sequence[int], encoding: Encoding, order: Order = "ABCD") -> float:
    """What the registers mean: the inverse of `encode`. Raises ValueError for BCD digits above 9."""
    data = reorder(struct.pack(f">{len(words)}H", *words), order)
    if encoding in {Encoding.BCD16, Encoding.BCD32}:
        return int(data.hex())
    value: float = _STRUCTS[encoding].unpack(data)[0]
    return value


@dataclass(frozen=True, slots=True)
class Register:
    """Where a signal lies: the raw number is signal / scale. In a bit table a signal is its truth."""

    signal: str
    table: Table
    address: int
    encoding: Encoding = Encoding.UINT16
    order: Order = "ABCD"
    scale: float = 1.0

    @property
    def width(self) -> int:
        """How many addresses it takes."""
        return 1 if self.table in {Table.COIL, Table.DISCRETE} else self.encoding.words


class Image:
    """One table's memory: addresses that exist, zero until set, and holes that do not.

    Words are kept as they travel; bits as one byte each.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._bytes = bytearray()
        self._legal = bytearray()

    def allow(self, address: int, count: int) -> None:
        """Make addresses exist."""
        end = address + count
        if len(self._legal) < end:
            self._bytes.extend(bytes((end - len(self._legal)) * self._width))
            self._legal.extend(bytes(end - len(self._legal)))
        self._legal[address:end] = b"\1" * count

    def legal(self, address: int, count: int) -> bool:
        """Whether all of them exist."""
        end = address + count
        return end <= len(self._legal) and self._legal.find(0, address, end) < 0

    def put(self, address: int, data: bytes) -> None:
        """Set values; the addresses exist."""
        self._bytes[address * self._width : address * self._width + len(data)] = data

    def get(self, address: int, count: int) -> bytes:
        """Read values; the addresses exist."""
        return bytes(self._bytes[address * self._width : (address + count) * self._width])

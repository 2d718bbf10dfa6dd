"""Binary frames from a serial device, declared instead of programmed: start bytes, length, checksum, fields.

A scanner takes bytes as they come, cut anywhere, and gives the same frames however they are cut: the earliest start
bytes whose frame has a possible length and the right checksum are a frame; any others are garbage of one byte, and
the search goes on behind that byte. So start bytes inside a broken frame or inside noise lose no good frame that
follows. The buffer never holds more than `max_frame_bytes` and one chunk.

Every byte fed ends in a frame, in `garbage_bytes`, or waits for the rest of its frame.
"""

import binascii
import re
import struct
from collections.abc import Callable
from functools import reduce
from operator import xor
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from drivers.base import Spec

MAX_FRAME_BYTES = 1024
ByteOrder = Literal["big", "little"]
NumberFormat = Literal["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"]
ChecksumKind = Literal["sum8", "sum8-negated", "sum16", "xor8", "crc16-modbus", "crc16-ccitt", "crc16-xmodem"]

_CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q"}
_CODES |= {"f32": "f", "f64": "d"}


def number(number_format: NumberFormat, order: ByteOrder) -> struct.Struct:
    """How to read one number."""
    return struct.Struct((">" if order == "big" else "<") + _CODES[number_format])


def bytes_of_hex(text: str) -> bytes:
    """The bytes in "42 4D 00 1C"; raises ValueError."""
    digits = re.sub(r"[\s:,]|0[xX]", "", text)
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"expected pairs of hexadecimal digits as in '42 4D'; found {text[:60]!r}") from None


def _hex(text: str) -> str:
    bytes_of_hex(text)
    return text


Hex = Annotated[str, AfterValidator(_hex)]


class Length(Spec):
    """Where a frame says how long it is: the number at `at`, plus `adds`, is the bytes of the whole frame."""

    at: int = Field(ge=0, lt=MAX_FRAME_BYTES)
    format: Literal["u8", "u16", "u32"] = "u8"
    adds: int = Field(0, ge=-MAX_FRAME_BYTES, le=MAX_FRAME_BYTES)


class Checksum(Spec):
    """Where a frame's checksum is and what it covers.

    sum8, sum16: the bytes' sum modulo 2^8, 2^16. sum8-negated: 2^8 minus sum8. xor8: all bytes XORed.
    crc16-modbus: polynomial 0x8005 reflected, start 0xFFFF, low byte first unless told. crc16-ccitt: 0x1021, start
    0xFFFF (also called CCITT-FALSE). crc16-xmodem: 0x1021, start 0. `at`: "end", or the offset of its first byte.
    `over`: [from, to) offsets that it covers, the whole frame before it by default.
    """

    kind: ChecksumKind
    at: int | Literal["end"] = "end"
    over: tuple[int, int] | None = None
    byte_order: ByteOrder | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of the checksum itself."""
        return 1 if "8" in self.kind else 2

    @property
    def order(self) -> ByteOrder:
        """The order of its two bytes."""
        return self.byte_order or ("little" if self.kind == "crc16-modbus" else "big")

    def holds(self, frame: bytes) -> bool:
        """Whether `frame` carries the checksum of its own bytes."""
        at = len(frame) - self.n_bytes if self.at == "end" else self.at
        begin, end = self.over or (0, at)
        told = frame[at : at + self.n_bytes]
        return len(told) == self.n_bytes and int.from_bytes(told, self.order) == CHECKSUMS[self.kind](frame[begin:end])


class BinaryFormat(Spec):
    """The frame of a device. `byte_order` is that of every field unless the stream says otherwise."""

    start: Hex = Field(min_length=2)
    length: int | Length
    checksum: Checksum | None = None
    byte_order: ByteOrder = "big"
    max_frame_bytes: int = Field(256, ge=2, le=MAX_FRAME_BYTES)

    @model_validator(mode="after")
    def _fits(self) -> "BinaryFormat":
        if not bytes_of_hex(self.start):
            raise ValueError("start: expected at least one byte")
        if isinstance(self.length, int) and not self.min_bytes <= self.length <= self.max_frame_bytes:
            raise ValueError(f"length: expected {self.min_bytes} to max_frame_bytes ({self.max_frame_bytes})")
        return self

    @property
    def min_bytes(self) -> int:
        """The fewest bytes a frame can have: its start, its length field, its checksum."""
        least = len(bytes_of_hex(self.start))
        if isinstance(self.length, Length):
            least = max(least, self.length.at + number(self.length.format, "big").size)
        if self.checksum is None:
            return least
        if self.checksum.at == "end":
            return least + self.checksum.n_bytes
        return max(least, self.checksum.at + self.checksum.n_bytes)


class BinaryMessage(NamedTuple):
    """A valid frame, and how many bytes of the data fed came after its end."""

    message: bytes
    after: int


class FrameScanner:
    """Finds the valid frames in a stream of bytes. See the module for what it counts."""

    def __init__(self, form: BinaryFormat) -> None:
        self.garbage_bytes = 0
        self.bad_checksums = 0
        self._form = form
        self._start = bytes_of_hex(form.start)
        self._least = form.min_bytes
        self._length: Length | None = form.length if isinstance(form.length, Length) else None
        self._fixed = form.length if isinstance(form.length, int) else 0
        self._length_number = number(self._length.format if self._length else "u8", form.byte_order)
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame whose end has not come."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[BinaryMessage]:
        """The frames that `data` completes."""
        self._buffer += data
        found: list[BinaryMessage] = []
        position = 0
        while True:
            start = self._buffer.find(self._start, position)
            if start < 0:
                start = self._tail(position)
                self.garbage_bytes += start - position
                break
            self.garbage_bytes += start - position
            total = self._total(start)
            if total is None or (total and start + total > len(self._buffer)):
                break
            if total and self._holds(start, total):
                position = start + total
                found.append(BinaryMessage(bytes(self._buffer[start:position]), len(self._buffer) - position))
            else:
                self.bad_checksums += total > 0
                self.garbage_bytes += 1
                position = start + 1
        del self._buffer[:start]
        return found

    def idle(self) -> list[BinaryMessage]:
        """What can be said now that the line is silent.

        When start bytes in noise announced a frame that does not come, good frames may already wait behind them:
        their checksum proves it. Without a checksum nothing can be said.
        """
        start = 0
        while self._form.checksum is not None and (start := self._buffer.find(self._start, start + 1)) >= 0:
            total = self._total(start)
            if total and start + total <= len(self._buffer) and self._holds(start, total):
                self.garbage_bytes += start
                del self._buffer[:start]
                return self.feed(b"")
        return []

    def begin_mid_line(self) -> None:
        """The bytes to come may start inside a frame: nothing to do, its start bytes and checksum prove a frame."""

    def reset(self) -> None:
        """Forget the unfinished frame."""
        self.garbage_bytes += len(self._buffer)
        self._buffer.clear()

    def _total(self, start: int) -> int | None:
        """Bytes of the frame at `start`; 0 when it cannot be one; None when that cannot be said yet."""
        if self._length is None:
            return self._fixed
        end = start + self._length.at + self._length_number.size
        if end > len(self._buffer):
            return None
        total = int(self._length_number.unpack_from(self._buffer, start + self._length.at)[0]) + self._length.adds
        return total if self._least <= total <= self._form.max_frame_bytes else 0

    def _holds(self, start: int, total: int) -> bool:
        checksum = self._form.checksum
        return checksum is None or checksum.holds(bytes(self._buffer[start : start + total]))

    def _tail(self, position: int) -> int:
        """Where the buffer ends in what may become start bytes."""
        first = max(position, len(self._buffer) - len(self._start) + 1)
        for at in range(first, len(self._buffer)):
            if self._start.startswith(self._buffer[at:]):
                return at
        return len(self._buffer)


def _modbus_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _modbus_table()


def crc16_modbus(data: bytes) -> int:
    """CRC-16/MODBUS (Modbus over serial line, 6.2.2): 0x4B37 for b"123456789"."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


CHECKSUMS: dict[ChecksumKind, Callable[[bytes], int]] = {
    "sum8": lambda data: sum(data) & 0xFF,
    "sum8-negated": lambda data: -sum(data) & 0xFF,
    "sum16": lambda data: sum(data) & 0xFFFF,
    "xor8": lambda data: reduce(xor, data, 0),
    "crc16-modbus": crc16_modbus,
    "crc16-ccitt": lambda data: binascii.crc_hqx(data, 0xFFFF),
    "crc16-xmodem": lambda data: binascii.crc_hqx(data, 0),
}

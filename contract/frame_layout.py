"""How a frame's body is laid out: the shape first, then all integers by column length, then all that is not integers.

Separating the three lets the parts of a frame share one run of the integer coder for each length of column, whatever
table they belong to, and lets a decoder know every size, and refuse it, before it makes room for anything.
"""

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.errors import FrameError
from contract.frame_bits import bit_lengths, zigzag
from contract.frame_blocks import pack_block, unpack_block
from contract.frame_numbers import get_varint, pack_column, put_varint, unpack_column
from contract.frame_types import MAX_CELLS
from contract.readings import Ints, Kind

Number = TypeVar("Number", bound=np.generic)

KINDS = (Kind.INT, Kind.BOOL, Kind.TEXT, *(Kind.FLOAT,) * 11)
"""A table's form, the four low bits of its mark, tells its kind."""
FLOAT_MIXED, FLOAT_DECIMALS = 3, 4
"""The forms of float tables: a scale for each stream; or 0 decimals (up to 9 follow) and nothing apart."""
SAME_TIMES, IDS_FOLLOW, ALL_GOOD, LAST = 0x10, 0x20, 0x40, 0x80
"""A table's mark, the four high bits."""
UNITS_NS = (1, 1_000, 1_000_000, 1_000_000_000)
SINGLES_APART = 0x80
"""A flag of the shape."""
MAX_ID = 2**31 - 1
_FEW = 64
"""So many numbers are handled faster by Python than by numpy."""
_BITS_APART = 4
"""Numbers whose sizes differ less are not worth the try whether they are smaller apart."""
MISSING = 0xC0
"""Status bytes from here on say that there is no value."""


def constant(numbers: NDArray[np.generic]) -> bool:
    """Whether all of `numbers` (n,), of integers, are the same. No numbers are."""
    return numbers.tobytes() == numbers[:1].tobytes() * len(numbers)


def same(numbers: NDArray[Number], others: NDArray[Number]) -> bool:
    """Whether integers (n,) and (m,) are the same; a fraction of what numpy.array_equal costs on a few."""
    return len(numbers) == len(others) and numbers.tobytes() == others.tobytes()


def filled(length: int, number: int, dtype: type[Number]) -> NDArray[Number]:
    """`number`, `length` times: numpy.full at a third of its overhead."""
    numbers: NDArray[Number] = np.empty(length, dtype=dtype)
    numbers.fill(number)
    return numbers


def repeats(ids: NDArray[np.int32] | Ints) -> bool:
    """Whether any of the ids (n,) is there twice."""
    if len(ids) <= _FEW:
        return len(set(ids.tolist())) < len(ids)
    return not (ids[1:] > ids[:-1]).all() and len(np.unique(ids)) < len(ids)


class Place(NamedTuple):
    """Where reserved columns will lie: columns `first` to `first + number - 1` of the block of `length` rows."""

    length: int
    first: int
    number: int


NOWHERE = Place(0, 0, 0)


class Writer:
    """Collects a body's three parts in the order in which a Reader meets them."""

    def __init__(self, time_base_ns: int) -> None:
        self.time_base = np.int64(time_base_ns)
        self.shape = bytearray()
        self._tail = bytearray()
        self._blocks: dict[int, list[Ints]] = {}
        self._cells = 0

    def byte(self, number: int) -> None:
        """One byte of shape."""
        self.shape.append(number)

    def number(self, number: int) -> None:
        """An unsigned number of shape."""
        put_varint(self.shape, number)

    def columns(self, columns: Ints) -> None:
        """Columns (k, n) of int64; raises FrameError when the frame grows beyond what a decoder takes."""
        if not columns.size:
            return
        self.charge(columns.size)
        self._blocks.setdefault(columns.shape[1], []).append(columns)

    def charge(self, cells: int) -> None:
        """Count what will take room where it is decoded, as Reader.charge does; raises FrameError."""
        self._cells += cells
        if self._cells > MAX_CELLS:
            raise FrameError(f"more than {MAX_CELLS} values in a frame")

    def blob(self, data: bytes) -> None:
        """Bytes whose number follows from the shape or the columns."""
        self._tail += data

    def body(self) -> tuple[bytes, list[int]]:
        """The whole body, and where in it bytes of another nature begin, if that matters."""
        seams = []
        for length in sorted(self._blocks):
            parts = self._blocks[length]
            if length == 1 and len(parts) > 1:
                self._single_rows(parts)
            else:
                seams += pack_block(self.shape, parts[0] if len(parts) == 1 else np.concatenate(parts))
        return bytes(self.shape + self._tail), seams

    def _single_rows(self, parts: list[Ints]) -> None:
        """Columns of one row: as one, or each part on its own, where numbers of a size are among themselves."""
        column = np.concatenate(parts).reshape(-1)
        first = np.cumsum([0, *[len(part) for part in parts[:-1]]])
        sizes = bit_lengths(np.maximum.reduceat(zigzag(column), first))
        joined = bytearray()
        pack_column(joined, column)
        if sizes.max() - sizes.min() >= _BITS_APART:
            apart = bytearray()
            for part in parts:
                pack_column(apart, part.reshape(-1))
            if len(apart) < len(joined):
                self.shape[0] |= SINGLES_APART
                joined = apart
        self.shape += joined


class Reader:
    """Takes a body apart: the shape (byte, number, reserve), then `read_blocks`, then columns and blobs."""

    def __init__(self, body: bytes, time_base_ns: int, version: int) -> None:
        self.version = version
        self.time_base = np.int64(time_base_ns)
        self._body = body
        self._at = 0
        self._counts: dict[int, int] = {}
        self._singles: list[int] = []
        self._blocks: dict[int, Ints] = {}
        self._cells = 0

    def byte(self) -> int:
        """The next byte of shape."""
        if self._at >= len(self._body):
            raise FrameError("the body ends early")
        self._at += 1
        return self._body[self._at - 1]

    def number(self, most: int) -> int:
        """The next number of shape; raises FrameError when it is above `most`."""
        at, body = self._at, self._body
        if at < len(body) and body[at] < 0x80:
            number, self._at = body[at], at + 1
        else:
            number, self._at = get_varint(body, at)
        if number > most:
            raise FrameError(f"{number} found where {most} is the most")
        return number

    def shape_bytes(self, size: int) -> bytes:
        """The next `size` bytes of shape, at least one."""
        found = self.blob(size)
        if not found:
            raise FrameError("an empty list")
        return found

    def charge(self, cells: int) -> None:
        """Count what will take room; raises FrameError when the frame asks for too much."""
        self._cells += cells
        if self._cells > MAX_CELLS:
            raise FrameError(f"more than {MAX_CELLS} values in a frame")

    def reserve(self, count: int, length: int) -> Place:
        """Says that `count` columns of `length` rows come; raises FrameError when the frame asks for too much."""
        self.charge(count * length)
        first = self._counts.get(length, 0)
        if count and length:
            self._counts[length] = first + count
            if length == 1:
                self._singles.append(count)
        return Place(length, first, count)

    def read_blocks(self, *, singles_apart: bool) -> None:
        """Decode every reserved column. singles_apart: columns of one row lie as they were reserved, not as one."""
        for length in sorted(self._counts):
            if length == 1 and singles_apart:
                self._blocks[1] = self._read_singles()
                continue
            self._blocks[length], self._at = unpack_block(
                self._body, self._at, self._counts[length], length, self.version
            )

    def _read_singles(self) -> Ints:
        parts = []
        for count in self._singles:
            part, self._at = unpack_column(self._body, self._at, count)
            parts.append(part)
        return np.concatenate(parts).reshape(-1, 1)

    def columns(self, place: Place) -> Ints:
        """The columns (count, length) at `place`; each place may be changed by who reserved it."""
        if not place.number or not place.length:
            return np.empty((place.number, place.length), dtype=np.int64)
        return self._blocks[place.length][place.first : place.first + place.number]

    def blob(self, size: int) -> bytes:
        """The next `size` bytes."""
        found = self._body[self._at : self._at + size]
        if len(found) < size:
            raise FrameError("the body ends early")
        self._at += size
        return found

    def finish(self) -> None:
        """Raises FrameError when bytes are left over."""
        if self._at != len(self._body):
            raise FrameError(f"{len(self._body) - self._at} bytes left over")

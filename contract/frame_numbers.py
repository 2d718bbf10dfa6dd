"""A column of 64-bit integers as few bytes. Blocks of columns are told of in frame_blocks.py.

Times, values, stream ids, books: in a frame everything is a column of integers sooner or later, so there is one coder.
Arithmetic is modulo 2**64, so that every int64 survives. A column of `n` rows, n at least 1, is

    code      1 byte: mode in the two high bits, width in the six low bits
    base      a signed varint
    residuals unless the width is 0: each in `width` bits, most significant bit first, the last byte filled up with
              zero bits

    mode 0  n residuals: value - base, unsigned; the base is the least value. Width 0 is a constant column
    mode 1  n - 1 residuals: value - previous value, zigzag; the base is the first value
    mode 2  n - 1 residuals: value - previous value, unsigned; the base is the first value
    width   0 to 57 bits; 58 means 64 bits; 63 means varints in place of bits: what spikes among small steps need

Width 0 is a constant column under every mode. A varint is LEB128: seven bits a byte, least significant first, the high
bit set in all but the last. Signed ones are zigzag (0, -1, 1, -2 are 0, 1, 2, 3). Widths stop at 57 because a number of
up to 57 bits lies within the eight bytes from where it starts, which makes reading it one gather.

A short column is handled as Python's integers: some 50 numbers cost less that way than a dozen calls of numpy.
"""

from itertools import accumulate
from math import frexp
from operator import sub

import numpy as np

from contract.errors import FrameError
from contract.frame_bits import (
    VARINT_MAX_BYTES,
    Unsigned,
    get_bits,
    get_varints,
    put_bits,
    put_varints,
    unzigzag,
    varint_lengths,
    zigzag,
)
from contract.readings import Ints

LOWEST, ZIGZAG, RISING = 0, 1, 2
_CONSTANT = 0
"""The code of a constant column, of which the base is all."""
WIDEST = 57
FULL = 58
VARINT = 63
_SHORT = 48
"""The length up to which a column on its own is handled as Python's integers."""
_SHORT_SPAN = 1 << 52
"""The values of a short column lie so close together that no step between them needs care."""
_ALL_BITS = (1 << 64) - 1


def put_varint(out: bytearray, number: int) -> None:
    """Append an unsigned number below 2**70."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def get_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at` and where the next byte is; raises FrameError."""
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1
    number = shift = 0
    for byte in data[at : at + VARINT_MAX_BYTES]:
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise FrameError("a number that does not end")


def fold(number: int) -> int:
    """Zigzag of a signed number of any size."""
    return number << 1 if number >= 0 else ~(number << 1)


def unfold(number: int) -> int:
    """The signed number of a zigzag."""
    return number >> 1 ^ -(number & 1)


def wrapped(number: int) -> int:
    """`number` modulo 2**64 as an int64 holds it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def pack_column(out: bytearray, column: Ints) -> None:
    """Append one column (n,)."""
    length = len(column)
    if length <= _SHORT:
        numbers = column.tolist()
        if max(numbers) - min(numbers) < _SHORT_SPAN:
            _pack_short(out, numbers)
            return
    lowest = int(column.min())
    steps = column[1:] - column[:-1]
    residuals = (column - lowest).view(np.uint64), zigzag(steps), steps.view(np.uint64)
    mode, width, bits = _cheapest([int(numbers.max()) for numbers in residuals], length)
    if width > 8 and int(varint_lengths(residuals[ZIGZAG]).sum()) << 3 < bits:
        mode, width = ZIGZAG, VARINT
    out.append(mode << 6 | (FULL if width == 64 else width))
    put_varint(out, fold(int(column[0]) if mode else lowest))
    if width:
        put_residuals(out, residuals[mode], width)


def _pack_short(out: bytearray, numbers: list[int]) -> None:
    """Append one column whose values are less than 2**52 apart."""
    lowest = min(numbers)
    top = max(numbers) - lowest
    if not top:
        out.append(_CONSTANT)
        put_varint(out, fold(lowest))
        return
    steps = list(map(sub, numbers[1:], numbers))
    folded = [step << 1 if step >= 0 else ~(step << 1) for step in steps]
    tops = [top, max(folded), max(steps) if min(steps) >= 0 else _ALL_BITS]
    mode, width, bits = _cheapest(tops, len(numbers))
    if width > 8:
        loose = bytearray()
        _put_varints(loose, folded)
        if len(loose) << 3 < bits:
            out.append(ZIGZAG << 6 | VARINT)
            put_varint(out, fold(numbers[0]))
            out += loose
            return
    residuals = [number - lowest for number in numbers] if mode == LOWEST else folded if mode == ZIGZAG else steps
    out.append(mode << 6 | width)
    put_varint(out, fold(numbers[0] if mode else lowest))
    joined = 0
    for number in residuals:
        joined = joined << width | number
    out += (joined << -bits % 8).to_bytes(bits + 7 >> 3, "big")


def _put_varints(out: bytearray, numbers: list[int]) -> None:
    for number in numbers:
        rest = number
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)


def _cheapest(tops: list[int], length: int) -> tuple[int, int, int]:
    """The mode of a column of `length` rows that needs the fewest bits, its width, and how many bits that makes.

    tops: the greatest number that each mode would write.
    """
    best = LOWEST, 0, 1 << 64
    for mode, top in enumerate(tops):
        width = frexp(top)[1]
        if width > WIDEST:
            width = 64
        bits = width * (length - (mode != LOWEST))
        if bits < best[2]:
            best = mode, width, bits
    return best


def unpack_column(data: bytes, at: int, length: int) -> tuple[Ints, int]:
    """One column (length,), and where it ends; raises FrameError."""
    if at >= len(data):
        raise FrameError("columns end early")
    mode, width = mode_and_width(data[at])
    base, at = get_varint(data, at + 1)
    first = wrapped(unfold(base))
    if not width:
        return np.full(length, first, dtype=np.int64), at
    count = length - (mode != LOWEST)
    end = at + (count * width + 7 >> 3)
    if width != VARINT and end > len(data):
        raise FrameError("columns end early")
    if length <= _SHORT:
        return _unpack_short(data, at, end, mode, width, count, first)
    if width == VARINT:
        numbers, end = get_varints(data, at, count)
    else:
        numbers = get_bits(data, at, count, width)
    if mode == LOWEST:
        return numbers.view(np.int64) + np.int64(first), end
    if mode == ZIGZAG:
        unzigzag(numbers)
    column = np.empty(length, dtype=np.int64)
    column[0] = first
    column[1:] = numbers.view(np.int64)
    np.add.accumulate(column, out=column)
    return column, end


def _unpack_short(data: bytes, at: int, end: int, mode: int, width: int, count: int, first: int) -> tuple[Ints, int]:
    if width == VARINT:
        numbers, end = _get_varints(data, at, count)
    else:
        bits = count * width
        joined, mask = int.from_bytes(data[at:end], "big") >> -bits % 8, (1 << width) - 1
        numbers = [joined >> shift & mask for shift in range(bits - width, -1, -width)]
    if mode == LOWEST:
        values = [first + number for number in numbers]
    else:
        if mode == ZIGZAG:
            numbers = [number >> 1 ^ -(number & 1) for number in numbers]
        values = list(accumulate(numbers, initial=first))
    try:
        return np.array(values, dtype=np.int64), end
    except OverflowError:
        return np.array(list(map(wrapped, values)), dtype=np.int64), end


def _get_varints(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """A few varints, modulo 2**64, and where they end; raises FrameError."""
    numbers = []
    number = shift = 0
    for byte in data[at : at + count * VARINT_MAX_BYTES]:
        at += 1
        if byte > 0x7F:
            number |= (byte & 0x7F) << shift
            shift += 7
            if shift >= 7 * VARINT_MAX_BYTES:
                raise FrameError("a number that does not end")
            continue
        numbers.append((number | byte << shift) & _ALL_BITS)
        if len(numbers) == count:
            return numbers, at
        number = shift = 0
    raise FrameError("columns end early")


def put_residuals(out: bytearray, residuals: Unsigned, width: int) -> None:
    """Append residuals (n,) of `width` bits each, or as varints."""
    if width == VARINT:
        put_varints(out, residuals)
    else:
        put_bits(out, residuals, width)


def mode_and_width(code: int, most: int = RISING) -> tuple[int, int]:
    """The two parts of a column's code, a full width as 64; raises FrameError for a mode above `most`."""
    mode, width = code >> 6, code & 63
    if width and (mode > most or FULL < width < VARINT):
        raise FrameError(f"an unknown column code {code}")
    return mode, 64 if width == FULL else width

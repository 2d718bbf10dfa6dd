"""Columns of 64-bit integers as few bytes: the one coder under every part of a frame.

Times, values, stream ids, books: in a frame everything is a column of integers sooner or later, so there is one
coder, and it works on all columns of one length at once. Arithmetic is modulo 2**64, so that every int64 survives.

`k` columns of `n` rows, k and n at least 1, are

    codes     k bytes, one a column: mode in the two high bits, width in the six low bits
    bases     one number a column: when k = 1 a signed varint, else the k numbers as one column of k rows
    residuals for each distinct code whose width is not 0, ascending: the residuals of all its columns, column after
              column, each in `width` bits, most significant bit first; the last byte is filled up with zero bits

But k > 1 columns of one row are written as one column of k rows.

    mode 0  n residuals: value - base, unsigned; the base is the least value. Width 0 is a constant column
    mode 1  n - 1 residuals: value - previous value, zigzag; the base is the first value
    mode 2  n - 1 residuals: value - previous value, unsigned; the base is the first value
    width   0 to 57 bits; 58 means 64 bits; 63 means varints in place of bits: what spikes among small steps need

A varint is LEB128: seven bits a byte, least significant first, the high bit set in all but the last. Signed ones are
zigzag (0, -1, 1, -2 are 0, 1, 2, 3). Widths stop at 57 because a number of up to 57 bits lies within the eight
bytes from where it starts, which makes reading it one gather.

A short column is handled as Python's integers: some 50 numbers cost less that way than a dozen calls of numpy.
"""

from bisect import bisect_left
from itertools import accumulate
from math import frexp
from operator import sub

import numpy as np

from contract.errors import FrameError
from contract.frame_bits import (
    VARINT_MAX_BYTES,
    BitWindows,
    Unsigned,
    bit_lengths,
    get_bits,
    get_varints,
    put_bits,
    put_varints,
    unzigzag,
    varint_lengths,
    zigzag,
)
from contract.readings import Bytes, Ints

_LOWEST, _ZIGZAG, _RISING = 0, 1, 2
_CONSTANT = 0
"""The code of a constant column, of which the base is all."""
_WIDEST = 57
_FULL = 58
_VARINT = 63
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


def pack_columns(out: bytearray, columns: Ints) -> None:
    """Append columns (k, n), k and n at least 1."""
    if columns.shape[1] == 1:
        columns = columns.reshape(1, -1)
    if len(columns) == 1:
        _pack_column(out, columns[0])
    else:
        _pack_columns(out, columns)


def unpack_columns(data: bytes, at: int, count: int, length: int) -> tuple[Ints, int]:
    """The `count` columns of `length` rows at `at`, int64 (count, length), and where they end; raises FrameError."""
    if length == 1 and count > 1:
        row, at = unpack_columns(data, at, 1, count)
        return row.reshape(-1, 1), at
    return _unpack_column(data, at, length) if count == 1 else _unpack_columns(data, at, count, length)


def _pack_column(out: bytearray, column: Ints) -> None:
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
    if width > 8 and int(varint_lengths(residuals[_ZIGZAG]).sum()) << 3 < bits:
        mode, width = _ZIGZAG, _VARINT
    out.append(mode << 6 | (_FULL if width == 64 else width))
    put_varint(out, fold(int(column[0]) if mode else lowest))
    if width:
        _put(out, residuals[mode], width)


def _pack_short(out: bytearray, numbers: list[int]) -> None:
    """Append one column whose values are less than 2**52 apart."""
    lowest = min(numbers)
    top = max(numbers) - lowest
    if not top:
        out.append(_CONSTANT)
        put_varint(out, fold(lowest))
        return
    steps = list(map(sub, numbers[1:], numbers))
    fall, climb = min(steps), max(steps)
    tops = [top, max(fold(fall), fold(climb)), climb if fall >= 0 else _ALL_BITS]
    mode, width, bits = _cheapest(tops, len(numbers))
    if mode == _LOWEST:
        residuals = [number - lowest for number in numbers]
    else:
        residuals = list(map(fold, steps)) if mode == _ZIGZAG else steps
    if width > 8:
        loose = bytearray()
        for step in steps:
            put_varint(loose, fold(step))
        if len(loose) << 3 < bits:
            out.append(_ZIGZAG << 6 | _VARINT)
            put_varint(out, fold(numbers[0]))
            out += loose
            return
    out.append(mode << 6 | width)
    put_varint(out, fold(numbers[0] if mode else lowest))
    joined = 0
    for number in residuals:
        joined = joined << width | number
    out += (joined << -bits % 8).to_bytes(bits + 7 >> 3, "big")


def _cheapest(tops: list[int], length: int) -> tuple[int, int, int]:
    """The mode of a column of `length` rows that needs the fewest bits, its width, and how many bits that makes.

    tops: the greatest number that each mode would write.
    """
    best = _LOWEST, 0, 1 << 64
    for mode, top in enumerate(tops):
        width = frexp(top)[1]
        if width > _WIDEST:
            width = 64
        bits = width * (length - (mode != _LOWEST))
        if bits < best[2]:
            best = mode, width, bits
    return best


def _unpack_column(data: bytes, at: int, length: int) -> tuple[Ints, int]:
    """One column (1, length)."""
    if at >= len(data):
        raise FrameError("columns end early")
    mode, width = _mode_and_width(data[at])
    base, at = get_varint(data, at + 1)
    first = wrapped(unfold(base))
    if not width:
        return np.full((1, length), first, dtype=np.int64), at
    count = length - (mode != _LOWEST)
    end = at + (count * width + 7 >> 3)
    if width != _VARINT and end > len(data):
        raise FrameError("columns end early")
    if length <= _SHORT:
        return _unpack_short(data, at, end, mode, width, count, first)
    if width == _VARINT:
        numbers, end = get_varints(data, at, count)
    else:
        numbers = get_bits(data, at, count, width)
    column = np.empty((1, length), dtype=np.int64)
    if mode == _LOWEST:
        np.add(numbers.view(np.int64), first, out=column[0])
        return column, end
    if mode == _ZIGZAG:
        unzigzag(numbers)
    column[0, 0] = first
    column[0, 1:] = numbers.view(np.int64)
    np.add.accumulate(column, axis=1, out=column)
    return column, end


def _unpack_short(data: bytes, at: int, end: int, mode: int, width: int, count: int, first: int) -> tuple[Ints, int]:
    if width == _VARINT:
        numbers = []
        for _ in range(count):
            number, at = get_varint(data, at)
            numbers.append(number & _ALL_BITS)
        end = at
    else:
        bits = count * width
        joined, mask = int.from_bytes(data[at:end], "big") >> -bits % 8, (1 << width) - 1
        numbers = [joined >> shift & mask for shift in range(bits - width, -1, -width)]
    if mode == _LOWEST:
        values = [first + number for number in numbers]
    else:
        values = list(accumulate(map(unfold, numbers) if mode == _ZIGZAG else numbers, initial=first))
    try:
        return np.array([values], dtype=np.int64), end
    except OverflowError:
        return np.array([list(map(wrapped, values))], dtype=np.int64), end


def _pack_columns(out: bytearray, columns: Ints) -> None:
    lowest = columns.min(axis=1)
    steps = columns[:, 1:] - columns[:, :-1]
    residuals = (columns - lowest[:, None]).view(np.uint64), zigzag(steps), steps.view(np.uint64)
    codes = _choose(residuals)
    raw = codes.tobytes()
    out += raw
    _pack_column(out, np.where(codes < _ZIGZAG << 6, lowest, columns[:, 0]))
    order, top = codes.argsort(kind="stable"), 0
    for code in sorted(set(raw)):
        rows = order[top : top + raw.count(code)]
        top += len(rows)
        mode, width = _mode_and_width(code)
        if width:
            _put(out, residuals[mode][rows].reshape(-1), width)


def _put(out: bytearray, residuals: Unsigned, width: int) -> None:
    if width == _VARINT:
        put_varints(out, residuals)
    else:
        put_bits(out, residuals, width)


def _choose(residuals: tuple[Unsigned, Unsigned, Unsigned]) -> Bytes:
    """The code of each column that needs the fewest bits, given what each mode would write of it."""
    count, length = residuals[_LOWEST].shape
    widths = bit_lengths(np.array([numbers.max(axis=1) for numbers in residuals]))
    widths[widths > _WIDEST] = 64
    bits = widths * (length - 1)
    bits[_LOWEST] += widths[_LOWEST]
    modes = bits.argmin(axis=0)
    width = widths[modes, np.arange(count)]
    codes = modes << 6 | np.minimum(width, _FULL)
    wide = (width > 8).nonzero()[0]
    if len(wide):
        loose = varint_lengths(residuals[_ZIGZAG][wide]).sum(axis=1) << 3
        codes[wide[loose < bits[modes[wide], wide]]] = _ZIGZAG << 6 | _VARINT
    chosen: Bytes = codes.astype(np.uint8)
    return chosen


def _unpack_columns(data: bytes, at: int, count: int, length: int) -> tuple[Ints, int]:
    raw = data[at : at + count]
    if len(raw) < count:
        raise FrameError("columns end early")
    at += count
    bases, at = _unpack_column(data, at, count)
    order = np.frombuffer(raw, dtype=np.uint8).argsort(kind="stable")
    bases = bases.reshape(-1)[order]
    columns = np.empty((count, length), dtype=np.int64)
    ordered = bytes(sorted(raw))
    still, low = raw.count(_CONSTANT), bisect_left(ordered, _ZIGZAG << 6)
    columns[:still] = bases[:still, None]
    if still < count:
        at = _read_residuals(data, at, ordered[still:], columns[still:].view(np.uint64))
        columns[still:low] += bases[still:low, None]
        unzigzag(columns[low : bisect_left(ordered, _RISING << 6)].view(np.uint64))
        columns[low:, 0] = bases[low:]
        np.add.accumulate(columns[low:], axis=1, out=columns[low:])
    found = np.empty_like(columns)
    found[order] = columns
    return found, at


def _read_residuals(data: bytes, at: int, codes: bytes, out: Unsigned) -> int:
    """Fill `out` (k, n) with the residuals of k columns whose `codes` ascend; where they end.

    The first row of a column of steps is left undefined; a column of width 0 gets zeros.
    """
    begin, top, length = at, 0, out.shape[1]
    runs, counts, loose = [], [], []
    for code in sorted(set(codes)):
        count = codes.count(code)
        mode, width = _mode_and_width(code)
        lead = int(mode != _LOWEST)
        stored = count * (length - lead)
        counts.append(count)
        if width == _VARINT:
            runs.append((begin * 8, 0, 0))
            found, at = get_varints(data, at, stored)
            loose.append((slice(top, top + count), lead, found))
        else:
            # A column of steps starts a number early, for its first row; and run 0 of them all is column 0.
            column_bits = width * (length - lead)
            runs.append((at * 8 - lead * width - top * column_bits, column_bits, width))
            at += stored * width + 7 >> 3
            if at > len(data):
                raise FrameError("columns end early")
        top += count
    starts, column_bits_of_each, widths = np.array(runs).T.repeat(counts, axis=1)
    BitWindows(data, begin, at).read(starts + column_bits_of_each * np.arange(len(codes)), widths, out)
    for rows, lead, found in loose:
        out[rows, lead:] = found.reshape(-1, length - lead)
    return at


def _mode_and_width(code: int) -> tuple[int, int]:
    """The two parts of a column's code, a full width as 64; raises FrameError."""
    mode, width = code >> 6, code & 63
    if width and (mode > _RISING or _FULL < width < _VARINT):
        raise FrameError(f"an unknown column code {code}")
    return mode, 64 if width == _FULL else width

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
"""

import numpy as np
from numpy.typing import NDArray

from contract.errors import FrameError
from contract.readings import Bytes, Ints

Unsigned = NDArray[np.uint64]

_LOWEST, _ZIGZAG, _RISING = 0, 1, 2
_WIDEST = 57
_FULL = 58
_VARINT = 63
_VARINT_MAX_BYTES = 10
_CHUNK = 1 << 16
"""Numbers handled at once, a multiple of 8: bounds the temporaries, and every chunk begins at a whole byte."""
_ONE = np.uint64(1)
_SEVEN = np.uint64(7)
_VARINT_SHIFTS = np.arange(_VARINT_MAX_BYTES, dtype=np.uint64) * _SEVEN
_VARINT_PLACES = np.arange(_VARINT_MAX_BYTES)


def put_varint(out: bytearray, number: int) -> None:
    """Append an unsigned number below 2**70."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def get_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at` and where the next byte is; raises FrameError."""
    number = shift = 0
    for byte in data[at : at + _VARINT_MAX_BYTES]:
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
    count, length = columns.shape
    if length == 1:
        out.append(0)
        put_varint(out, fold(int(columns[0, 0])))
        return
    lowest = columns.min(axis=1)
    steps = columns[:, 1:] - columns[:, :-1]
    folded = (steps << 1 ^ steps >> 63).view(np.uint64)
    codes = _choose(columns, lowest, steps, folded)
    bases = np.where(codes < _ZIGZAG << 6, lowest, columns[:, 0])
    out += codes.tobytes()
    if count == 1:
        put_varint(out, fold(int(bases[0])))
    else:
        pack_columns(out, bases.reshape(1, -1))
    for code in sorted(set(codes.tolist())):
        mode, width = code >> 6, code & 63
        if not width:
            continue
        rows = slice(None) if count == 1 else (codes == code).nonzero()[0]
        if mode == _LOWEST:
            residuals = (columns[rows] - lowest[rows, None]).view(np.uint64)
        else:
            residuals = folded[rows] if mode == _ZIGZAG else steps[rows].view(np.uint64)
        _pack(out, residuals.reshape(-1), width)


def unpack_columns(data: bytes, at: int, count: int, length: int) -> tuple[Ints, int]:
    """The `count` columns of `length` rows at `at`, int64 (count, length), and where they end; raises FrameError."""
    if length == 1 and count > 1:
        row, at = unpack_columns(data, at, 1, count)
        return row.reshape(-1, 1), at
    raw = data[at : at + count]
    if len(raw) < count:
        raise FrameError("columns end early")
    at += count
    if count == 1:
        base, at = get_varint(data, at)
        bases = np.array([wrapped(unfold(base))], dtype=np.int64)
    else:
        listed, at = unpack_columns(data, at, 1, count)
        bases = listed[0]
    columns = np.empty((count, length), dtype=np.int64)
    columns[:] = bases[:, None]
    codes = np.frombuffer(raw, dtype=np.uint8)
    for code in sorted(set(raw)):
        mode, width = code >> 6, code & 63
        if not width:
            continue
        if mode > _RISING or _FULL < width < _VARINT:
            raise FrameError(f"an unknown column code {code}")
        rows = slice(None) if count == 1 else (codes == code).nonzero()[0]
        wanted = raw.count(code)
        steps = length - (mode != _LOWEST)
        residuals, at = _unpack(data, at, wanted * steps, width)
        if mode == _ZIGZAG:
            residuals = residuals >> _ONE ^ -(residuals & _ONE)
        grid = residuals.view(np.int64).reshape(wanted, steps)
        if mode == _LOWEST:
            columns[rows] += grid
        else:
            walk = columns[rows]
            walk[:, 1:] = grid
            columns[rows] = np.cumsum(walk, axis=1)
    return columns, at


def _choose(columns: Ints, lowest: Ints, steps: Ints, folded: Unsigned) -> Bytes:
    """The code of each column that needs the fewest bits."""
    count, length = columns.shape
    tops = np.empty((3, count), dtype=np.uint64)
    tops[_LOWEST] = (columns.max(axis=1) - lowest).view(np.uint64)
    folded.max(axis=1, out=tops[_ZIGZAG])
    steps.view(np.uint64).max(axis=1, out=tops[_RISING])
    widths = _bit_length(tops)
    widths[widths > _WIDEST] = 64
    bits = widths * (length - 1)
    bits[_LOWEST] += widths[_LOWEST]
    modes = bits.argmin(axis=0)
    each = np.arange(count)
    width = widths[modes, each]
    codes = modes << 6 | np.where(width == 64, _FULL, width)
    wide = (width > 8).nonzero()[0]
    if len(wide):
        loose = _varint_lengths(folded[wide]).sum(axis=1) << 3
        codes[wide[loose < bits[modes[wide], wide]]] = _ZIGZAG << 6 | _VARINT
    chosen: Bytes = codes.astype(np.uint8)
    return chosen


def _bit_length(numbers: Unsigned) -> Ints:
    """How many bits each number needs; above 2**53 sometimes one more, which costs a bit and loses nothing."""
    exponents: Ints = np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
    return exponents


def _varint_lengths(numbers: Unsigned) -> Ints:
    lengths: Ints = np.maximum((np.minimum(_bit_length(numbers), 64) + 6) // 7, 1)
    return lengths


def _pack(out: bytearray, numbers: Unsigned, width: int) -> None:
    for start in range(0, len(numbers), _CHUNK):
        chunk = numbers[start : start + _CHUNK]
        out += _varints(chunk) if width == _VARINT else _bits(chunk, 64 if width == _FULL else width)


def _bits(numbers: Unsigned, width: int) -> bytes:
    size = 1 << (max(width - 1, 0) >> 3).bit_length()
    narrow = numbers.astype(f">u{size}")
    if width == size * 8:
        return narrow.tobytes()
    spread = np.unpackbits(narrow.view(np.uint8).reshape(-1, size), axis=1)
    return np.packbits(spread[:, size * 8 - width :]).tobytes()


def _varints(numbers: Unsigned) -> bytes:
    lengths = _varint_lengths(numbers)[:, None]
    groups = (numbers[:, None] >> _VARINT_SHIFTS).astype(np.uint8) & 0x7F
    groups[lengths - 1 > _VARINT_PLACES] |= 0x80
    return groups[lengths > _VARINT_PLACES].tobytes()


def _unpack(data: bytes, at: int, count: int, width: int) -> tuple[Unsigned, int]:
    width = 64 if width == _FULL else width
    if width != _VARINT and at + (count * width + 7 >> 3) > len(data):
        raise FrameError("columns end early")
    if count <= _CHUNK:
        return _read(data, at, count, width)
    numbers = np.empty(count, dtype=np.uint64)
    for start in range(0, count, _CHUNK):
        part, at = _read(data, at, min(_CHUNK, count - start), width)
        numbers[start : start + len(part)] = part
    return numbers, at


def _read(data: bytes, at: int, count: int, width: int) -> tuple[Unsigned, int]:
    if width == _VARINT:
        return _read_varints(data, at, count)
    end = at + (count * width + 7 >> 3)
    return _read_bits(data[at:end], count, width), end


def _read_bits(raw: bytes, count: int, width: int) -> Unsigned:
    if width in {8, 16, 32, 64}:
        return np.frombuffer(raw, dtype=f">u{width >> 3}").astype(np.uint64)
    # One eight-byte window at every byte: number i starts within the window at byte i * width // 8.
    windows: NDArray[np.uint64] = np.ndarray((len(raw) + 1,), ">u8", raw + bytes(8), strides=(1,))
    starts = np.arange(0, count * width, width, dtype=np.uint64)
    found = windows[(starts >> np.uint64(3)).view(np.int64)].astype(np.uint64)
    found <<= starts & _SEVEN
    found >>= np.uint64(64 - width)
    return found


def _read_varints(data: bytes, at: int, count: int) -> tuple[Unsigned, int]:
    if not count:
        return np.empty(0, dtype=np.uint64), at
    raw = np.frombuffer(data, np.uint8, min(count * _VARINT_MAX_BYTES, len(data) - at), at)
    ends = (raw < 0x80).nonzero()[0][:count]
    if len(ends) < count:
        raise FrameError("columns end early")
    used = int(ends[-1]) + 1
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    if lengths.max() > _VARINT_MAX_BYTES:
        raise FrameError("a number that does not end")
    places = (np.arange(used) - np.repeat(starts, lengths)).astype(np.uint64)
    groups = (raw[:used] & 0x7F).astype(np.uint64) << places * _SEVEN
    return np.bitwise_or.reduceat(groups, starts), at + used

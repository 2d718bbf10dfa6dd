"""Numbers of some bits each, laid side by side, an array at a time. What they mean is told in frame_blocks.py."""

import numpy as np
from numpy.typing import NDArray

from contract.errors import FrameError

Unsigned = NDArray[np.uint64]

VARINT_MAX_BYTES = 10
CHUNK = 1 << 16
"""Numbers handled at once, a multiple of 8: bounds the temporaries, and every chunk begins at a whole byte."""
_ONE = np.uint64(1)
_SEVEN = np.uint64(7)
_EIGHT_BYTES = 8
_LEAD_BYTES = 32
_BIG_ENDIAN = {bits: np.dtype(f">u{bits >> 3}") for bits in (8, 16, 32, 64)}
_VARINT_SHIFTS = np.arange(VARINT_MAX_BYTES, dtype=np.uint64) * _SEVEN
_VARINT_PLACES = np.arange(VARINT_MAX_BYTES)


def bit_lengths(numbers: Unsigned) -> NDArray[np.int64]:
    """How many bits each number needs; above 2**53 sometimes one more, which costs a bit and loses nothing."""
    exponents: NDArray[np.int64] = np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
    return exponents


def varint_lengths(numbers: Unsigned) -> NDArray[np.int64]:
    """How many bytes each number needs as a varint, as `varints` writes it."""
    lengths: NDArray[np.int64] = np.maximum((np.minimum(bit_lengths(numbers), 64) + 6) // 7, 1)
    return lengths


def zigzag(steps: NDArray[np.int64]) -> Unsigned:
    """The zigzags of `steps`, of the same shape."""
    return (steps << 1 ^ steps >> 63).view(np.uint64)


def unzigzag(numbers: Unsigned) -> None:
    """Turn zigzags into the two's complement of what they stand for, in place."""
    signs = numbers & _ONE
    np.negative(signs, out=signs)
    numbers >>= _ONE
    numbers ^= signs


def put_bits(out: bytearray, numbers: Unsigned, width: int) -> None:
    """Append numbers (n,) of `width` bits (1 to 57, or 64) each, filled up to a whole byte."""
    for start in range(0, len(numbers), CHUNK):
        out += _bits(numbers[start : start + CHUNK], width)


def put_varints(out: bytearray, numbers: Unsigned) -> None:
    """Append numbers (n,) as varints."""
    for start in range(0, len(numbers), CHUNK):
        chunk = numbers[start : start + CHUNK]
        lengths = varint_lengths(chunk)[:, None]
        groups = (chunk[:, None] >> _VARINT_SHIFTS).astype(np.uint8) & 0x7F
        groups[lengths - 1 > _VARINT_PLACES] |= 0x80
        out += groups[lengths > _VARINT_PLACES].tobytes()


def _bits(numbers: Unsigned, width: int) -> bytes:
    room = 8 << (width - 1 >> 3).bit_length()
    narrow = numbers.astype(_BIG_ENDIAN[room])
    if width == room:
        return narrow.tobytes()
    spread = np.unpackbits(narrow.view(np.uint8)).reshape(-1, room)
    return np.packbits(spread[:, room - width :]).tobytes()


def get_bits(data: bytes, at: int, count: int, width: int) -> Unsigned:
    """The `count` numbers of `width` bits (1 to 57, or 64) from byte `at` on, all of which are there."""
    if width in _BIG_ENDIAN:
        return np.frombuffer(data, _BIG_ENDIAN[width], count, at).astype(np.uint64)
    numbers: Unsigned = np.empty(count, dtype=np.uint64)
    run = BitWindows(data, at, at + (count * width + 7 >> 3))
    run.read(np.array([at * 8]), np.array([width]), numbers[None, :])
    return numbers


class BitWindows:
    """Bytes `start` to `end` of `data`, any 57 bits of which (64 from a whole byte on) are one look away.

    For every byte there is a window, the eight bytes from there on; a number starts within the window of its first
    byte. Beside the bytes there are zero bytes: a number may start up to 256 bits early, or end up to 64 bits late.
    """

    def __init__(self, data: bytes, start: int, end: int) -> None:
        padded = b"".join((bytes(_LEAD_BYTES), data[start:end], bytes(_EIGHT_BYTES)))
        self._windows: Unsigned = np.ndarray((len(padded) - 7,), _BIG_ENDIAN[64], padded, strides=(1,))
        self._near = len(padded) <= CHUNK
        if self._near:
            # Eight times the memory, but a quarter of the time for each look.
            self._windows = self._windows.astype(np.uint64)
        self._lead = (_LEAD_BYTES - start) * 8

    def read(self, starts: NDArray[np.int64], widths: NDArray[np.int64], out: Unsigned) -> None:
        """Fill `out` (k, n) with k runs of n numbers: run i has `widths[i]` bits a number from bit `starts[i]` on.

        starts: bits from the beginning of the data. Taken 65,536 numbers at a time.
        """
        count, length = out.shape
        starts, widths = (starts + self._lead)[:, None], widths[:, None]
        if out.size <= CHUNK:
            self._look(starts + widths * np.arange(length), widths, out)
            return
        tall, wide = max(1, CHUNK // length), min(length, CHUNK)
        for left in range(0, length, wide):
            steps = np.arange(left, min(length, left + wide))
            for top in range(0, count, tall):
                rows = slice(top, top + tall)
                self._look(starts[rows] + widths[rows] * steps, widths[rows], out[rows, left : left + wide])

    def _look(self, places: NDArray[np.int64], widths: NDArray[np.int64], out: Unsigned) -> None:
        if self._near:
            self._windows.take(places >> 3, out=out, mode="clip")
        else:
            out[...] = self._windows[places >> 3]
        places &= 7
        out <<= places.view(np.uint64)
        out >>= (64 - widths).view(np.uint64)


def get_varints(data: bytes, at: int, count: int) -> tuple[Unsigned, int]:
    """The `count` varints at `at`, modulo 2**64, and where they end; raises FrameError."""
    numbers = np.empty(count, dtype=np.uint64)
    for start in range(0, count, CHUNK):
        part, at = _read_varints(data, at, min(CHUNK, count - start))
        numbers[start : start + len(part)] = part
    return numbers, at


def _read_varints(data: bytes, at: int, count: int) -> tuple[Unsigned, int]:
    raw = np.frombuffer(data, np.uint8, min(count * VARINT_MAX_BYTES, len(data) - at), at)
    ends = (raw < 0x80).nonzero()[0][:count]
    if len(ends) < count:
        raise FrameError("columns end early")
    used = int(ends[-1]) + 1
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    if lengths.max() > VARINT_MAX_BYTES:
        raise FrameError("a number that does not end")
    places = (np.arange(used) - np.repeat(starts, lengths)).astype(np.uint64)
    groups = (raw[:used] & 0x7F).astype(np.uint64) << places * _SEVEN
    return np.bitwise_or.reduceat(groups, starts), at + used

"""Blocks: all columns of one length in a frame, packed together. Single columns are told of in frame_numbers.py.

`k` columns of `n` rows, k and n at least 1: when one of the two is 1, one column of k * n rows; else

    codes     k bytes, one a column: mode in the two high bits, width in the six low bits, as in a single column
    orders    for each code of mode 3 a byte d, from 2 to 4 and below n
    bases     one column of k rows: what each column would have as its base if it were on its own
    starts    for d = 1, 2, 3: one column of the first d-th steps of all columns whose order is above d, if any,
              those columns in the order of the residuals
    residuals for each distinct code whose width is not 0, ascending, those of mode 3 by order before code: the
              residuals of all its columns, column after column, each in `width` bits, most significant bit first;
              the last byte is filled up with zero bits. They come in three parts, each in this order: those of up
              to 8 bits and those in varints; of all others the high 8 bits, as bytes; and their other bits

    mode 3    n - d residuals: the d-th steps (the steps between the steps, for d = 2), zigzag; the base is the first
              value. Smooth signals have small second steps

What can be foreseen of a noisy number is in its high bits; zstd finds it in bytes, not in bits, and best when the three
parts are blocks of their own.

Version 1 knows neither mode 3 nor three parts: all residuals are as those of up to 8 bits, and a column of mode 3 and
width 0 is constant.
"""

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.errors import FrameError
from contract.frame_bits import BitWindows, Unsigned, bit_lengths, get_varints, unzigzag, varint_lengths, zigzag
from contract.frame_numbers import (
    FULL,
    LOWEST,
    RISING,
    VARINT,
    ZIGZAG,
    mode_and_width,
    pack_column,
    put_residuals,
    unpack_column,
)
from contract.readings import Bytes, Ints

CURVED = 3
_MAX_ORDER = 4
_ORDER_SHIFT = 8
"""Columns lie sorted by key: their order in the bits from here on, their code below."""
_MARKS = (1, ZIGZAG << 6, RISING << 6, *(order << _ORDER_SHIFT for order in range(2, _MAX_ORDER + 1)))
"""Keys from which on columns are handled alike: not constant, steps, rising steps, second, third and fourth steps."""
Keys = NDArray[np.uint16]
Rows = Ints | slice
_BYTE = 8


class _Curves:
    """The columns of a block whose second or further steps are smaller than what is above them.

    orders: of every column of the block, 0 where it is none of these.
    """

    def __init__(self, count: int) -> None:
        self.orders = np.zeros(count, dtype=np.uint16)
        self._found: list[tuple[Ints, Ints]] = []

    def look(self, steps: Ints, wide: Ints, best: Ints, codes: Ints) -> None:
        """Give the columns `wide` of a block better codes, where there are.

        steps: theirs, (k, n - 1). best: bits they need now. What a start costs counts as one residual more.
        """
        count = steps.shape[1]
        for order in range(2, min(_MAX_ORDER, count) + 1):
            steps = steps[:, 1:] - steps[:, :-1]
            widths = bit_lengths(zigzag(_extremes(steps)).max(axis=0))
            bits = widths * count
            better = (bits < best).nonzero()[0]
            if not len(better):
                return
            wide, best, steps = wide[better], bits[better], steps[better]
            codes[wide] = CURVED << 6 | np.minimum(widths[better], FULL)
            self.orders[wide] = order
            self._found.append((wide, steps))

    def keys(self, codes: Bytes) -> Keys:
        """The keys of the columns of a block with these codes."""
        keys = codes.astype(np.uint16)
        keys |= self.orders << _ORDER_SHIFT
        return keys

    def steps(self, rows: Rows, order: int) -> Ints:
        """Of the columns `rows`, ascending, all of this order."""
        wide, steps = self._found[order - 2]
        return steps[wide.searchsorted(np.arange(len(self.orders))[rows])]


def pack_block(out: bytearray, columns: Ints) -> list[int]:
    """Append columns (k, n), k and n at least 1; where in `out` bytes of another nature begin."""
    if 1 in columns.shape:
        pack_column(out, columns.reshape(-1))
        return []
    lowest, steps = np.minimum.reduce(columns, axis=1), columns[:, 1:] - columns[:, :-1]
    codes, curves = _choose(columns, lowest, steps)
    raw, keys = codes.tobytes(), None if curves is None else curves.keys(codes)
    out += raw
    if curves is not None:
        out += curves.orders[curves.orders > 0].astype(np.uint8).tobytes()
    pack_column(out, np.where(codes < ZIGZAG << 6, lowest, columns[:, 0]))
    order = _order(raw, keys)
    if curves is not None:
        _pack_starts(out, columns[order, :_MAX_ORDER], curves.orders[order])
    top, head = 0, len(out)
    high, low = bytearray(), bytearray()
    for key, count in _groups(raw, keys):
        rows = slice(top, top + count) if order is None else order[top : top + count]
        top += count
        mode, width = mode_and_width(key & 0xFF, most=CURVED)
        if not width:
            continue
        if mode == LOWEST:
            residuals = (columns[rows] - lowest[rows][:, None]).view(np.uint64)
        elif mode == RISING:
            residuals = steps[rows].view(np.uint64)
        elif mode == ZIGZAG or curves is None:
            residuals = zigzag(steps[rows])
        else:
            residuals = zigzag(curves.steps(rows, key >> _ORDER_SHIFT))
        _put(out, high, low, residuals.reshape(-1), width)
    seams = [head, len(out), len(out) + len(high), len(out) + len(high) + len(low)]
    out += high + low
    return seams if high else []


def _put(out: bytearray, high: bytearray, low: bytearray, residuals: Unsigned, width: int) -> None:
    """Append residuals of one key to `out`, or in two parts to the others."""
    if width <= _BYTE or width == VARINT:
        put_residuals(out, residuals, width)
    else:
        high += (residuals >> np.uint64(width - _BYTE)).astype(np.uint8).tobytes()
        put_residuals(low, residuals, width - _BYTE)


def _pack_starts(out: bytearray, heads: Ints, orders: Keys) -> None:
    """The first steps of the columns whose first rows are `heads` (k, 4), sorted by their orders."""
    for level in range(1, _MAX_ORDER):
        heads = heads[:, 1:] - heads[:, :-1]
        first = int(orders.searchsorted(level, side="right"))
        if first == len(orders):
            return
        pack_column(out, heads[first:, 0])


def _choose(columns: Ints, lowest: Ints, steps: Ints) -> tuple[Bytes, _Curves | None]:
    """The code of each column that needs the fewest bits, and what is to be known of those of mode 3."""
    count, length = columns.shape
    tops, extremes = np.empty((3, count), dtype=np.uint64), _extremes(steps)
    np.subtract(np.maximum.reduce(columns, axis=1), lowest, out=tops[LOWEST].view(np.int64))
    np.maximum.reduce(zigzag(extremes), axis=0, out=tops[ZIGZAG])
    # A falling step is a huge unsigned number: such a column does not rise.
    np.maximum.reduce(extremes.view(np.uint64), axis=0, out=tops[RISING])
    widths = bit_lengths(tops)
    bits = widths * (length - 1)
    bits[LOWEST] += widths[LOWEST]
    modes = bits.argmin(axis=0)
    width = widths[modes, np.arange(count)]
    codes = modes << 6 | np.minimum(width, FULL)
    curves = None
    wide = (width > _BYTE).nonzero()[0]
    if len(wide):
        packed, steps = bits[modes[wide], wide], steps[wide]
        loose = varint_lengths(zigzag(steps)).sum(axis=1) << 3
        codes[wide[loose < packed]] = ZIGZAG << 6 | VARINT
        curves = _Curves(count)
        curves.look(steps, wide, np.minimum(packed, loose), codes)
    chosen: Bytes = codes.astype(np.uint8)
    return chosen, curves if curves is not None and curves.orders.any() else None


def _extremes(steps: Ints) -> Ints:
    """The least and the greatest of each row, (2, k)."""
    found = np.empty((2, len(steps)), dtype=np.int64)
    np.minimum.reduce(steps, axis=1, out=found[0])
    np.maximum.reduce(steps, axis=1, out=found[1])
    return found


def _groups(raw: bytes, keys: Keys | None) -> list[tuple[int, int]]:
    """The distinct keys, ascending, and how many columns each has. keys: None where the codes `raw` are the keys."""
    if keys is None:
        return [(code, raw.count(code)) for code in sorted(set(raw))]
    distinct, counts = np.unique(keys, return_counts=True)
    return list(zip(distinct.tolist(), counts.tolist(), strict=True))


def unpack_block(data: bytes, at: int, count: int, length: int, version: int) -> tuple[Ints, int]:
    """The `count` columns of `length` rows at `at`, int64 (count, length), and where they end; raises FrameError."""
    if count == 1 or length == 1:
        column, at = unpack_column(data, at, count * length)
        return column.reshape(count, length), at
    raw = data[at : at + count]
    if len(raw) < count:
        raise FrameError("columns end early")
    at += count
    keys = None
    if version > 1 and max(raw) >= CURVED << 6:
        keys, at = _read_keys(data, at, raw, length)
    order, marks = _order(raw, keys), _marks(raw, keys)
    groups = _read_groups(raw, keys, version)
    bases, at = unpack_column(data, at, count)
    starts = [bases if order is None else bases[order]]
    for first in marks[3:]:
        if first < count:
            column, at = unpack_column(data, at, count - first)
            starts.append(column)
    columns = np.empty((count, length), dtype=np.int64)
    at = _read_residuals(data, at, groups, columns.view(np.uint64))
    _sum_up(columns, starts, marks)
    if order is None:
        return columns, at
    found = np.empty_like(columns)
    found[order] = columns
    return found, at


def _read_keys(data: bytes, at: int, raw: bytes, length: int) -> tuple[Keys, int]:
    """The keys of columns with these codes, of which some are of mode 3."""
    keys = np.frombuffer(raw, dtype=np.uint8).astype(np.uint16)
    curved = (keys >= CURVED << 6).nonzero()[0]
    orders = data[at : at + len(curved)]
    if len(orders) < len(curved):
        raise FrameError("columns end early")
    if min(orders) < 2 or max(orders) > min(_MAX_ORDER, length - 1):
        raise FrameError("an unknown order of steps")
    keys[curved] |= np.frombuffer(orders, dtype=np.uint8).astype(np.uint16) << _ORDER_SHIFT
    return keys, at + len(curved)


def _order(raw: bytes, keys: Keys | None) -> Ints | None:
    """Which column stands where once they are sorted by key; None where they are already."""
    if keys is not None:
        return keys.argsort(kind="stable")
    if raw == bytes(sorted(raw)):
        return None
    return np.frombuffer(raw, dtype=np.uint8).argsort(kind="stable")


def _marks(raw: bytes, keys: Keys | None) -> list[int]:
    """Where in the sorted columns each of _MARKS begins."""
    if keys is None:
        ordered = bytes(sorted(raw))
        return [bisect_left(ordered, mark) for mark in _MARKS]
    marks: list[int] = np.sort(keys).searchsorted(_MARKS).tolist()
    return marks


class _Group(NamedTuple):
    """The `number` columns from `top` on, all of one key.

    lead: the rows before the first that has a residual. high: eight bits more than `width` lie apart.
    """

    top: int
    number: int
    lead: int
    width: int
    high: bool


def _read_groups(raw: bytes, keys: Keys | None, version: int) -> list[_Group]:
    """The columns by key, ascending; raises FrameError."""
    groups, top = [], 0
    for key, count in _groups(raw, keys):
        mode, width = mode_and_width(key & 0xFF, most=CURVED if key >> _ORDER_SHIFT else RISING)
        high = version > 1 and _BYTE < width != VARINT
        groups.append(_Group(top, count, key >> _ORDER_SHIFT or int(mode != LOWEST), width - _BYTE * high, high))
        top += count
    return groups


def _read_residuals(data: bytes, at: int, groups: list[_Group], out: Unsigned) -> int:
    """Fill `out` (k, n) with the residuals of all groups, one after the other; where they end.

    What a group's lead skips is left undefined; a column of width 0 gets zeros.
    """
    begin, length, runs, loose, high_bytes = at, out.shape[1], [], [], 0
    for group in groups:
        top, count, lead, width, high = group
        stored = count * (length - lead)
        if width == VARINT:
            runs.append((begin * 8, 0, 0))
            numbers, at = get_varints(data, at, stored)
            loose.append((slice(top, top + count), lead, numbers))
            continue
        runs.append(_run(group, at, length))
        if high:
            high_bytes += stored
        else:
            at = _end(data, at, stored * width)
    high_at = at
    if high_bytes:
        at = _end(data, at, high_bytes * _BYTE)
        for position, group in enumerate(groups):
            if group.high:
                runs[position] = _run(group, at, length)
                at = _end(data, at, group.number * (length - group.lead) * group.width)
    starts, column_bits, widths = np.array(runs).T.repeat([group.number for group in groups], axis=1)
    BitWindows(data, begin, at).read(starts + column_bits * np.arange(len(out)), widths, out)
    for rows, lead, numbers in loose:
        out[rows, lead:] = numbers.reshape(-1, length - lead)
    if high_bytes:
        _add_high_bytes(np.frombuffer(data, np.uint8, high_bytes, high_at), groups, out)
    return at


def _run(group: _Group, at: int, length: int) -> tuple[int, int, int]:
    """The bit where row 0 of column 0 of the block would lie if all columns were this group's; the bits of a column.

    A column of steps begins some numbers early, for its first rows.
    """
    column_bits = (length - group.lead) * group.width
    return at * 8 - group.lead * group.width - group.top * column_bits, column_bits, group.width


def _end(data: bytes, at: int, bits: int) -> int:
    """Where so many bits from byte `at` on end; raises FrameError when they are not there."""
    end = at + (bits + 7 >> 3)
    if end > len(data):
        raise FrameError("columns end early")
    return end


def _add_high_bytes(high: Bytes, groups: list[_Group], out: Unsigned) -> None:
    at = 0
    for top, count, lead, width, apart in groups:
        if apart:
            part = out[top : top + count, lead:]
            numbers = high[at : at + part.size].astype(np.uint64).reshape(part.shape)
            numbers <<= np.uint64(width)
            part |= numbers
            at += part.size


def _sum_up(columns: Ints, starts: list[Ints], marks: list[int]) -> None:
    """Make values of the residuals in `columns` (k, n), given their bases and their first, second and third steps."""
    still, low, rising, *curved = marks
    bases = starts[0]
    if still:
        columns[:still] = bases[:still, None]
    if still < low:
        columns[still:low] += bases[still:low, None]
    for level in range(len(starts) - 1, 0, -1):
        first, end = curved[level - 1], (*curved, len(columns))[level]
        if first < end:
            unzigzag(columns[first:end, level + 1 :].view(np.uint64))
        _accumulate(columns[first:, level:], starts[level])
    if low < rising:
        unzigzag(columns[low:rising, 1:].view(np.uint64))
    if low < len(columns):
        _accumulate(columns[low:], bases[low:])


def _accumulate(steps: Ints, starts: Ints) -> None:
    """Sums of the steps (k, n) in place; the first of each is its start."""
    steps[:, 0] = starts
    np.add.accumulate(steps, axis=1, out=steps)

"""Writes the tables of a frame. What the bytes mean is described in contract/frame.py."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.errors import FrameError
from contract.frame_columns import MAX_DECIMALS, Mask, carry_forward, scale_floats
from contract.frame_layout import (
    ALL_GOOD,
    FLOAT_DECIMALS,
    FLOAT_MIXED,
    IDS_FOLLOW,
    KINDS,
    LAST,
    MISSING,
    SAME_TIMES,
    UNITS_NS,
    Writer,
    constant,
    repeats,
    same,
)
from contract.frame_numbers import fold
from contract.frame_types import MAX_TABLES, MAX_TEXT_BYTES, MAX_TEXTS
from contract.readings import Bytes, Floats, Ints, Kind, Table

Number = TypeVar("Number", bound=np.generic)


class TableWriter:
    """Writes the tables of one frame; remembers their time columns and where their stream ids ended."""

    def __init__(self, out: Writer) -> None:
        self._out = out
        self._times: dict[bytes, int] = {}
        self._last_times = -1
        self._latest: Ints | None = None
        self._next_id = 0
        self._text_bytes = 0

    def write(self, tables: tuple[Table, ...]) -> None:
        """All tables; raises FrameError for one that no decoder would take."""
        if len(tables) > MAX_TABLES:
            raise FrameError(f"{len(tables)} tables in a frame; {MAX_TABLES} is the most")
        for table in tables:
            self._write(table, last=table is tables[-1])

    def _write(self, table: Table, *, last: bool) -> None:
        count, length = len(table.streams), len(table.times)
        if table.values.shape != (length, count) or table.status.shape != (length, count):
            raise FrameError(f"a table of {length} times and {count} streams with values of {table.values.shape}")
        self._out.charge(count + length + count * length)
        start = len(self._out.shape)
        self._out.byte(0)
        mark = LAST if last else 0
        mark |= self._write_times(table.times)
        mark |= self._write_ids(table.streams)
        missing: Mask | None = None
        if not np.count_nonzero(table.status):
            mark |= ALL_GOOD
        elif count and length:
            status = np.ascontiguousarray(table.status.T)
            self._write_status(status)
            missing = status >= MISSING
            missing = missing if missing.any() else None
        mark |= self._write_values(table, missing) if count and length else KINDS.index(table.kind)
        self._out.shape[start] = mark

    def _write_times(self, times: Ints) -> int:
        if times is self._latest:
            return SAME_TIMES
        self._latest = times
        key = times.tobytes()
        known = self._times.get(key)
        if known is not None and known == self._last_times:
            return SAME_TIMES
        if known is not None:
            self._out.number(known)
            self._last_times = known
            return 0
        if self._times:
            self._out.number(len(self._times))
        self._last_times = self._times[key] = len(self._times)
        self._out.number(len(times))
        if not len(times):
            return 0
        offsets = times - self._out.time_base
        unit = _unit(offsets)
        self._out.number(fold(int(offsets[0]) // UNITS_NS[unit]) << 2 | unit)
        if len(times) > 1:
            offsets //= UNITS_NS[unit]
            steps = np.empty_like(offsets)
            np.subtract(offsets[1:], offsets[:-1], out=steps[1:])
            steps[0] = steps[1]
            self._out.columns(steps[None, :])
        return 0

    def _write_ids(self, streams: NDArray[np.int32]) -> int:
        count = len(streams)
        expected = np.arange(self._next_id, self._next_id + count)
        self._out.number(count)
        if count:
            self._next_id = int(streams[-1]) + 1
        if same(streams, expected.astype(np.int32)):
            return IDS_FOLLOW
        if int(streams.min()) < 0 or repeats(streams):
            raise FrameError("stream ids are unique within a table and not negative")
        self._out.columns((streams - expected)[None, :])
        return 0

    def _write_status(self, status: Bytes) -> None:
        codes = np.flatnonzero(np.bincount(status.reshape(-1), minlength=256))
        self._out.number(len(codes))
        self._out.shape += bytes(codes.tolist())
        if len(codes) > 1:
            ranks = np.zeros(256, dtype=np.int64)
            ranks[codes] = np.arange(len(codes))
            self._out.columns(ranks[status])

    def _write_values(self, table: Table, missing: Mask | None) -> int:
        if table.kind is Kind.TEXT:
            self._write_texts(table.values.T, missing)
            return KINDS.index(Kind.TEXT)
        if table.kind is Kind.FLOAT:
            return self._write_floats(_columns_of(table, np.float64, missing), table.decimals)
        if table.kind is Kind.INT:
            self._out.columns(_columns_of(table, np.int64, missing))
        else:
            self._out.blob(np.packbits(_columns_of(table, np.bool_, missing).reshape(-1)).tobytes())
        return KINDS.index(table.kind)

    def _write_floats(self, floats: Floats, hint: NDArray[np.int8] | None) -> int:
        integers, scales, apart = scale_floats(floats, hint)
        first = int(scales[0])
        if first <= MAX_DECIMALS and not len(apart) and constant(scales):
            self._out.columns(integers)
            return FLOAT_DECIMALS + first
        distinct, ranks, counts = np.unique(scales, return_inverse=True, return_counts=True)
        order, top = ranks.argsort(kind="stable"), 0
        self._out.number(len(distinct))
        for scale, count in zip(distinct.tolist(), counts.tolist(), strict=True):
            self._out.byte(scale)
            self._out.number(count)
            self._out.columns(integers[order[top : top + count]])
            top += count
        self._out.columns(ranks[None, :])
        self._out.number(len(apart))
        if len(apart):
            self._out.columns(np.stack([apart, floats.reshape(-1)[apart].view(np.int64)]))
        return FLOAT_MIXED

    def _write_texts(self, columns: NDArray[np.generic], missing: Mask | None) -> None:
        texts = columns.reshape(-1).tolist() if missing is None else columns[~missing].tolist()
        ranks: dict[str, int] = {}
        found = np.array([ranks.setdefault(text, len(ranks)) for text in texts], dtype=np.int64)
        grid = np.zeros(columns.shape, dtype=np.int64)
        if missing is None:
            grid[:] = found.reshape(columns.shape)
        else:
            grid[~missing] = found
            grid = carry_forward(grid, missing)
        encoded = [_utf8(text) for text in ranks]
        self._text_bytes += sum(map(len, encoded))
        if len(encoded) > MAX_TEXTS or self._text_bytes > MAX_TEXT_BYTES:
            raise FrameError(f"more than {MAX_TEXTS} texts in a table or {MAX_TEXT_BYTES} bytes of text in a frame")
        self._out.number(len(encoded))
        self._out.columns(grid)
        self._out.columns(np.array([[len(text) for text in encoded]], dtype=np.int64))
        self._out.blob(b"".join(encoded))


def _columns_of(table: Table, dtype: type[Number], missing: Mask | None) -> NDArray[Number]:
    columns: NDArray[Number] = np.ascontiguousarray(table.values.T, dtype=dtype)
    return columns if missing is None else carry_forward(columns, missing)


def _unit(offsets: Ints) -> int:
    """The index of the coarsest unit that all times are whole multiples of."""
    if np.count_nonzero(offsets % UNITS_NS[2]):
        return 0 if np.count_nonzero(offsets % UNITS_NS[1]) else 1
    return 2 if np.count_nonzero(offsets % UNITS_NS[3]) else 3


def _utf8(text: str) -> bytes:
    """UTF-8; what is no character (a lone surrogate) becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()

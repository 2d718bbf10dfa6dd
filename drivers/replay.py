"""Brings a file of readings in, as if its devices were speaking: a data logger's memory, or a test faster than time.

The file is CSV with a header, in one of two layouts, told apart by the header:

    wide    time,temperature,humidity             a column a stream
    long    time,device,stream,value              a row a reading

Times are ISO 8601 (without a zone they are UTC) or whole numbers since 1970 in `time_unit`. Blocks carry the file's
own times (`dated`), as fast as the host takes them, and listening ends where the file ends. A row that cannot be read
is counted, the first one is logged with its number; the rest of the file is not held back.

Rows are parsed 256 KiB at a time, a column at a time, in a thread; the floor is one Block object per row and scan.
"""

import asyncio
import csv
import difflib
import logging
import math
import re
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contract.errors import DeviceUnavailable
from contract.readings import ABSENT, GOOD, Bytes, Floats, Ints, Kind, Reason, Value, gap
from drivers.base import Block, Bus, BusSpec, DeviceSpec, Driver, Scan, StreamSpec

log = logging.getLogger(__name__)

CHUNK_CHARS = 256 * 1024
MAX_LINE_CHARS = 64 * 1024
# 1973-03-03. An earlier time is a number in another unit than `time_unit`.
EARLIEST_NS = 10**17
_LATEST_NS = (1 << 63) - 1
_UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_ISO = re.compile(r"((?:19|20|21)\d\d-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:?\d\d)?")
_UTC = {None, "Z", "+00:00", "+0000", "-00:00"}
_BOOLS = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}
_LONG = ("device", "stream", "value")
_BAD = gap(Reason.UNDECODABLE)


class ReplayStream(StreamSpec):
    """A stream of a file. `column`: what the file calls it, its name by default."""

    column: str | None = None


class ReplayDevice(DeviceSpec):
    """A device of a file. `label`: what the file's device column calls it, its name by default."""

    label: str | None = None
    streams: tuple[ReplayStream, ...] = Field(min_length=1)


class ReplayBusSpec(BusSpec):
    """One file. missing_values: what it writes where there is no reading."""

    file: str = Field(min_length=1)
    separator: str = Field(",", min_length=1, max_length=1)
    time_column: str = "time"
    time_unit: Literal["s", "ms", "us", "ns"] = "ns"
    encoding: Literal["utf-8", "latin-1", "gb18030"] = "utf-8"
    missing_values: tuple[str, ...] = ("", "NaN", "NAN", "nan", "NA", "null")
    devices: tuple[ReplayDevice, ...] = Field(min_length=1)


class _Column(NamedTuple):
    """One stream of a scan: its column in a wide file, its kind, its position in the block."""

    at: int
    kind: Kind
    position: int


@dataclass
class _Cells:
    """One scan's part of a wide chunk: a row a time."""

    scan: Scan
    floats: Floats
    ints: Ints
    texts: list[list[str]]
    status: Bytes

    def block(self, row: int, time_ns: int) -> Block:
        return Block(
            self.scan, time_ns, self.floats[row], self.ints[row], self.texts[row], self.status[row], dated=True
        )


class ReplayBus:
    """The readings of one file. Counters: `rows`, `malformed_rows`, and `ignored_rows` of devices nobody asked for."""

    def __init__(self, spec: ReplayBusSpec, scans: Sequence[Scan]) -> None:
        self.rows = 0
        self.malformed_rows = 0
        self.ignored_rows = 0
        self._spec = spec
        self._scans = tuple(scans)
        self._missing = set(spec.missing_values)
        self._missing_numbers = np.array([float(text) for text in self._missing if _is_number(text)])
        self._file: TextIO | None = None
        self._in_use = threading.Lock()
        self._reset()

    async def open(self) -> None:
        """Open the file and read its header. Raises DeviceUnavailable."""
        await self.close()
        try:
            await asyncio.to_thread(self._open)
        except DeviceUnavailable:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the file. Never raises."""
        await asyncio.to_thread(self._close)

    async def listen(self) -> AsyncIterator[Block]:
        """The file's blocks in its order; ends where it ends. Raises DeviceUnavailable when it cannot be read."""
        while (blocks := await asyncio.to_thread(self._next)) is not None:
            for block in blocks:
                yield block
        if self.malformed_rows:
            log.warning("%s: %d of %d rows were malformed", self._spec.file, self.malformed_rows, self.rows)

    def _reset(self) -> None:
        self.rows = self.malformed_rows = self.ignored_rows = 0
        self._header: list[str] = []
        self._wide: list[tuple[Scan, list[_Column]]] = []
        self._long: dict[tuple[str, str], tuple[Scan, _Column]] = {}
        self._rest = ""
        self._last_ns = 0
        self._together: dict[Scan, Block] = {}
        self._faults: list[tuple[int, str]] = []
        self._last_time = ("", 0)

    def _open(self) -> None:
        self._reset()
        path = Path(self._spec.file)
        encoding = "utf-8-sig" if self._spec.encoding == "utf-8" else self._spec.encoding
        try:
            self._file = path.open(encoding=encoding, errors="replace", newline="\n")
            first = self._file.readline(MAX_LINE_CHARS)
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from None
        self._header = [cell.strip() for cell in self._split(first.rstrip("\r\n"))]
        self.rows = 1
        self._plan()

    def _close(self) -> None:
        with self._in_use:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _plan(self) -> None:
        """Find where every stream stands. Raises DeviceUnavailable naming the column that is not there."""
        self._column_index(self._spec.time_column)
        if set(_LONG) <= set(self._header):
            for scan in self._scans:
                device = scan.device.label if isinstance(scan.device, ReplayDevice) else None
                for position, stream in enumerate(scan.streams):
                    key = (device or scan.device.name, _column_name(stream))
                    self._long[key] = (scan, _Column(-1, stream.type, position))
            return
        for scan in self._scans:
            columns = [
                _Column(self._column_index(_column_name(stream)), stream.type, position)
                for position, stream in enumerate(scan.streams)
            ]
            self._wide.append((scan, columns))

    def _column_index(self, name: str) -> int:
        if name in self._header:
            return self._header.index(name)
        near = difflib.get_close_matches(name, self._header, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise self._unusable(f"has no column {name!r}; {hint}Its header is: {', '.join(self._header)[:300]}")

    def _unusable(self, why: str) -> DeviceUnavailable:
        return DeviceUnavailable(Reason.DISCONNECTED, f"replay file {self._spec.file} {why}", whole_bus=True)

    def _next(self) -> list[Block] | None:
        """The blocks of the next piece of the file, None after the last one."""
        with self._in_use:
            if self._file is None:
                return None
            try:
                text = self._file.read(CHUNK_CHARS)
            except OSError as error:
                raise self._unusable(f"cannot be read: {error.strerror}") from None
            if not text and not self._rest:
                last = list(self._together.values())
                self._together = {}
                return last or None
            lines = (self._rest + text).split("\n")
            # Without more text, what is left is the last line: it has no line end.
            self._rest = lines.pop() if text else ""
            if len(self._rest) > MAX_LINE_CHARS:
                self._rest = self._rest[: MAX_LINE_CHARS + 1]
            rows = list(self._rows(lines))
            blocks = self._long_blocks(rows) if self._long else self._wide_blocks(rows)
            self._report()
            return blocks

    def _rows(self, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
        """The rows with the right number of cells, each with its number in the file."""
        separator, width = self._spec.separator, len(self._header)
        for line in lines:
            self.rows += 1
            bare = line.removesuffix("\r")
            if not bare:
                continue
            cells = bare.split(separator) if '"' not in bare else self._split(bare)
            if len(cells) == width and len(bare) <= MAX_LINE_CHARS:
                yield self.rows, cells
            else:
                self._malformed(self.rows, f"has {len(cells)} cells, the header has {width}")

    def _split(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=self._spec.separator), [])
        except csv.Error:
            return []

    def _malformed(self, row: int, why: str) -> None:
        self._faults.append((row, why))

    def _report(self) -> None:
        """Count the malformed rows of a chunk; the first of the file is logged."""
        if self._faults and self.malformed_rows == 0:
            row, why = min(self._faults)
            log.warning("%s: row %d %s; further malformed rows are counted", self._spec.file, row, why)
        self.malformed_rows += len(self._faults)
        self._faults.clear()

    def _wide_blocks(self, rows: list[tuple[int, list[str]]]) -> list[Block]:
        time_index = self._header.index(self._spec.time_column)
        times = parse_times([cells[time_index] for _, cells in rows], _UNITS_NS[self._spec.time_unit])
        kept: list[tuple[int, list[str]]] = []
        kept_ns: list[int] = []
        for row, time_ns in zip(rows, times.tolist(), strict=True):
            if time_ns < EARLIEST_NS:
                self._malformed(row[0], f"has no valid time: {row[1][time_index][:40]!r}")
            elif time_ns == self._last_ns:
                self._malformed(row[0], "has the time of the row before")
            else:
                self._last_ns = time_ns
                kept.append(row)
                kept_ns.append(time_ns)
        if not kept:
            return []
        columns = list(zip(*(cells for _, cells in kept), strict=True))
        bad_rows = np.zeros(len(kept), dtype=bool)
        parts = [self._cells(scan, places, columns, bad_rows) for scan, places in self._wide]
        for row_index in np.flatnonzero(bad_rows).tolist():
            self._malformed(kept[row_index][0], "has a cell that is no value of its stream's type")
        present = [(part.status != ABSENT).any(axis=1).tolist() for part in parts]
        return [
            part.block(row, time_ns)
            for row, time_ns in enumerate(kept_ns)
            for part, has in zip(parts, present, strict=True)
            if has[row]
        ]

    def _cells(
        self, scan: Scan, places: list[_Column], columns: list[tuple[str, ...]], bad_rows: NDArray[np.bool_]
    ) -> _Cells:
        count = len(bad_rows)
        texts: list[list[str]] = [[] for _ in range(count)]
        part = _Cells(
            scan,
            np.zeros((count, scan.n_floats)),
            np.zeros((count, scan.n_ints), dtype=np.int64),
            texts,
            np.zeros((count, len(scan.streams)), dtype=np.uint8),
        )
        for place in places:
            cells = columns[place.at]
            if place.kind is Kind.TEXT:
                for text, cell in zip(texts, cells, strict=True):
                    text.append(cell)
                status = np.array([ABSENT if cell in self._missing else GOOD for cell in cells], dtype=np.uint8)
            elif place.kind is Kind.FLOAT:
                part.floats[:, place.position], status = self._floats(cells)
            else:
                part.ints[:, place.position - scan.n_floats], status = self._ints(cells, place.kind)
            part.status[:, place.position] = status
            bad_rows |= status == _BAD
        return part

    def _floats(self, cells: Sequence[str]) -> tuple[Floats, Bytes]:
        try:
            values = np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))
        except ValueError:
            values = np.array([np.nan])
        # A gap, a NaN or a stray letter anywhere: look at each cell. Python also reads 1_000, which no logger means.
        if np.isnan(values).any() or "_" in "".join(cells):
            samples = [self._cell(cell, Kind.FLOAT) for cell in cells]
            values = np.array([value for value, _ in samples], dtype=np.float64)
            return values, np.array([status for _, status in samples], dtype=np.uint8)
        status = np.zeros(len(cells), dtype=np.uint8)
        if len(self._missing_numbers):
            status[np.isin(values, self._missing_numbers)] = ABSENT
        return values, status

    def _ints(self, cells: Sequence[str], kind: Kind) -> tuple[Ints, Bytes]:
        samples = [self._cell(cell, kind) for cell in cells]
        values = np.array([value for value, _ in samples], dtype=np.int64)
        return values, np.array([status for _, status in samples], dtype=np.uint8)

    def _cell(self, text: str, kind: Kind) -> tuple[Value, int]:
        """A cell's value and status. Its value is 0 where there is none."""
        if text in self._missing:
            return 0, ABSENT
        value = convert(text, kind)
        if value is None:
            return 0, _BAD
        if kind is Kind.FLOAT and len(self._missing_numbers) and value in self._missing_numbers:
            return 0, ABSENT
        return value, GOOD

    def _long_blocks(self, rows: list[tuple[int, list[str]]]) -> list[Block]:
        time_at = self._header.index(self._spec.time_column)
        device_at, stream_at, value_at = (self._header.index(name) for name in _LONG)
        done: list[Block] = []
        for number, cells in rows:
            time_ns = self._time(cells[time_at])
            if time_ns < EARLIEST_NS:
                self._malformed(number, f"has no valid time: {cells[time_at][:40]!r}")
                continue
            if time_ns != self._last_ns:
                done.extend(self._together.values())
                self._together = {}
                self._last_ns = time_ns
            found = self._long.get((cells[device_at], cells[stream_at]))
            if found is None:
                self.ignored_rows += 1
                continue
            self._place(number, found, cells[value_at], time_ns)
        return done

    def _place(self, number: int, found: tuple[Scan, _Column], text: str, time_ns: int) -> None:
        scan, column = found
        value, status = self._cell(text, column.kind)
        if status == ABSENT:
            return
        if status == _BAD:
            self._malformed(number, "has a cell that is no value of its stream's type")
        block = self._together.get(scan)
        if block is None:
            block = self._together[scan] = Block.empty(scan, time_ns, ABSENT)
            block.dated = True
        if block.status[column.position] != ABSENT:
            self._malformed(number, "repeats a stream at one time")
            return
        block.status[column.position] = status
        if column.kind is Kind.FLOAT:
            block.floats[column.position] = value
        elif isinstance(value, str):
            block.texts[column.position - scan.n_floats - scan.n_ints] = value
        else:
            block.ints[column.position - scan.n_floats] = value

    def _time(self, text: str) -> int:
        # Rows of one time follow each other, so most times are the one before.
        if text != self._last_time[0]:
            self._last_time = (text, parse_time(text, _UNITS_NS[self._spec.time_unit]))
        return self._last_time[1]


def parse_times(texts: list[str], unit_ns: int) -> Ints:
    """Times as ns UTC; 0 where a text is none."""
    found = [_ISO.fullmatch(text) for text in texts]
    plain = [match[1] for match in found if match and match[2] in _UTC]
    if len(plain) == len(texts):
        try:
            return np.array(plain, dtype="datetime64[ns]").astype(np.int64)
        except ValueError:
            pass  # a month 13 somewhere: find out where, one by one
    return np.array([parse_time(text, unit_ns) for text in texts], dtype=np.int64)


def parse_time(text: str, unit_ns: int) -> int:
    """A time as ns UTC; 0 when `text` is none."""
    if text.isdecimal() and len(text) <= 19:
        time_ns = int(text) * unit_ns
        return time_ns if time_ns <= _LATEST_NS else 0
    match = _ISO.fullmatch(text)
    if match is None:
        return 0
    try:
        time_ns = int(np.datetime64(match[1], "ns").astype(np.int64))
        if match[2] in _UTC:
            return time_ns
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{match[2]}").utcoffset()
    except ValueError:
        return 0
    return time_ns - round(offset.total_seconds()) * 1_000_000_000 if offset is not None else 0


def convert(text: str, kind: Kind) -> Value | None:
    """`text` as a value of `kind`; None when it is none."""
    if kind is Kind.TEXT:
        return text
    if kind is Kind.BOOL:
        return _BOOLS.get(text.casefold())
    if "_" in text:
        return None
    try:
        if kind is Kind.FLOAT:
            return float(text)
        whole = int(text)
    except ValueError:
        return None
    return whole if -_LATEST_NS - 1 <= whole <= _LATEST_NS else None


def _column_name(stream: StreamSpec) -> str:
    return (stream.column if isinstance(stream, ReplayStream) else None) or stream.name


def _is_number(text: str) -> bool:
    value = convert(text, Kind.FLOAT)
    return isinstance(value, float) and not math.isnan(value)


def _connect(spec: ReplayBusSpec, scans: Sequence[Scan]) -> Bus:
    return ReplayBus(spec, scans)


DRIVER = Driver(name="replay", bus_spec=ReplayBusSpec, connect=_connect, listening=lambda _spec: True, patient=True)

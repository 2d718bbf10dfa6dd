"""Tables to InfluxDB line protocol, fast, because every reading of the city passes here.

One line is one point: measurement = quantity; tags in sorted order; one field named after the kind of value (`value`
float, `count` integer, `state` boolean, `text` string); `quality` and `reason` when the point is not GOOD; time in ns:

    temperature,city=C,device=D,district=Q,gateway=G,stream=S,street=T value=21.5,quality=1i,reason=3i 17900000000000

NaN and infinity have no field to stand in: such a point holds quality and reason alone.

Nothing is built per reading, not even its line: a line is three references, to what stands before the value (made
once a series), to the value (made once a number, see texts.py) and to what follows it (made once a row). One join
makes a body of them, the only copy: a second one of such a size costs ten times as much, in fresh pages of memory.
0.08 us a line for numbers with a resolution, 0.3 us for doubles without one.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloud.stores.base import FramePoints, Series
from cloud.stores.texts import Decimals, reprs
from contract.errors import Rejection
from contract.readings import Kind, Quality, Reason, Table, status

FIELDS = {Kind.FLOAT: "value", Kind.INT: "count", Kind.BOOL: "state", Kind.TEXT: "text"}
NOT_A_NUMBER = status(Quality.BAD, Reason.NOT_A_NUMBER)
PREFIXES_KEPT = 300_000
HEADS_KEPT = 30_000
_PIECES = 3  # of a line: before the value, the value, after it
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TAG_SPECIAL = re.compile(r"([,= ])")
_MEASUREMENT_SPECIAL = re.compile(r"([, ])")


class Dialect(NamedTuple):
    """What a server can hold; anything else is refused here, with a reason, because the server would not say so."""

    name: str
    text: bool = True
    earliest_ns: int | None = None


INFLUX = Dialect("InfluxDB")
VICTORIA = Dialect("VictoriaMetrics", text=False, earliest_ns=1_000_000)


class Prefix(NamedTuple):
    """The part of a line in front of the value, or why the series can have none."""

    series: Series
    text: bytes
    refusal: str | None


class Heads(NamedTuple):
    """The prefixes of a table's columns. texts: theirs, in order; refused: (column, why) of those without one."""

    series: tuple[Series, ...]
    texts: list[bytes]
    refused: list[tuple[int, str]]


class Prefixes:
    """The texts that lines have in common: of the series seen lately, and of numbers. Bounded: full, it starts anew.

    Found by the identity of the Series object, or of a table's tuple of them: hashing their eight strings for every
    column of every frame would cost more than the lines.
    """

    def __init__(self, dialect: Dialect = INFLUX, kept: int = PREFIXES_KEPT) -> None:
        self.dialect = dialect
        self.numbers = Decimals()
        self._kept = kept
        self._known: dict[int, Prefix] = {}
        self._heads: dict[int, Heads] = {}

    def heads(self, series: tuple[Series, ...]) -> Heads:
        """The prefixes of a table's columns."""
        found = self._heads.get(id(series))
        if found is None or found.series is not series:
            prefixes = [self.of(one) for one in series]
            refused = [(column, one.refusal) for column, one in enumerate(prefixes) if one.refusal is not None]
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            found = self._heads[id(series)] = Heads(series, [one.text for one in prefixes], refused)
        return found

    def of(self, series: Series) -> Prefix:
        """The prefix of `series`, escaped."""
        found = self._known.get(id(series))
        if found is None or found.series is not series:
            if len(self._known) >= self._kept:
                self._known.clear()
            found = self._known[id(series)] = _prefix(series, self.dialect)
        return found


def _prefix(series: Series, dialect: Dialect) -> Prefix:
    path = series.path
    tags = (
        ("city", path.city),
        ("device", series.device),
        ("district", path.district),
        ("gateway", path.gateway),
        ("stream", series.stream),
        ("street", path.street),
    )
    if series.kind is Kind.TEXT and not dialect.text:
        return Prefix(series, b"", f"{dialect.name} stores numbers alone, not text")
    for name, text in (("quantity", series.quantity), *tags):
        # A backslash at the end would escape the separator behind it, and line protocol has no escape for that.
        if not text or text.endswith("\\") or _CONTROL.search(text):
            return Prefix(series, b"", f"line protocol cannot carry the {name} {text[:80]!r}")
    if series.quantity.startswith("#"):
        return Prefix(series, b"", f"line protocol cannot carry the quantity {series.quantity[:80]!r}")
    measurement = _MEASUREMENT_SPECIAL.sub(r"\\\1", series.quantity)
    escaped = "".join(f",{name}=" + _TAG_SPECIAL.sub(r"\\\1", text) for name, text in tags)
    return Prefix(series, _utf8(f"{measurement}{escaped} {FIELDS[series.kind]}="), None)


def _utf8(text: str) -> bytes:
    # Text that came off the wire is valid UTF-8; a lone surrogate could only be made inside the process.
    return text.encode("utf-8", "replace")


def _quoted(text: str) -> bytes:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return _utf8(f'"{text}"')


_BARE = [b"quality=%di,reason=%di" % (code >> 6, code & 0x3F) for code in range(256)]
_SUFFIX = [b",%s" % bare if code >> 6 else b"" for code, bare in enumerate(_BARE)]
_STATE = (b"f", b"t")


def _bools(values: NDArray[np.generic]) -> Sequence[bytes]:
    return list(map(_STATE.__getitem__, values.ravel().tolist()))


def _quoted_texts(values: NDArray[np.generic]) -> Sequence[bytes]:
    return [_quoted(str(value)) for value in values.ravel().tolist()]


_RENDER: dict[Kind, Callable[[NDArray[np.generic]], Sequence[bytes]]] = {
    Kind.INT: reprs,  # the "i" behind each is the first of what follows the value
    Kind.BOOL: _bools,
    Kind.TEXT: _quoted_texts,
}


class _Origin(NamedTuple):
    """Where a run of lines came from. `cells`: flat indices into the table, None when it is every cell in order."""

    frame: int
    table: Table
    series: tuple[Series, ...]
    cells: NDArray[np.intp] | None


class Lines:
    """The lines of some frames, and where each came from."""

    def __init__(self, prefixes: Prefixes) -> None:
        self.refused: list[Rejection] = []
        self._prefixes = prefixes
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._origins: list[_Origin] = []

    def __len__(self) -> int:
        return len(self._pieces) // _PIECES

    def add(self, frame: int, points: FramePoints) -> None:
        """Append every reading of a frame; what no line can carry goes to `refused`."""
        for table, series in zip(points.tables, points.series, strict=True):
            if table.status.size:
                self._add_table(frame, table, series)

    def body(self, which: range | Sequence[int]) -> bytes:
        """The lines `which` as the body of a write. A range has no step."""
        if isinstance(which, range):
            pieces = self._pieces[which.start * _PIECES : which.stop * _PIECES]
        else:
            pieces = [piece for index in which for piece in self._pieces[index * _PIECES : (index + 1) * _PIECES]]
        if pieces:
            pieces[-1] = pieces[-1][:-1]  # no line follows the last
        return b"".join(pieces)

    def rejection(self, index: int, reason: str) -> Rejection:
        """The line at `index` as the point that it is."""
        origin, row, column = self._locate(index)
        return Rejection(origin.frame, int(origin.table.streams[column]), int(origin.table.times[row]), reason)

    def family(self, index: int) -> tuple[str, str]:
        """Measurement and field of the line at `index`: what a database gives one type."""
        origin, _, column = self._locate(index)
        return origin.series[column].quantity, FIELDS[origin.series[column].kind]

    def _locate(self, index: int) -> tuple[_Origin, int, int]:
        run = bisect_right(self._starts, index) - 1
        origin = self._origins[run]
        cell = index - self._starts[run]
        if origin.cells is not None:
            cell = int(origin.cells[cell])
        row, column = divmod(cell, len(origin.table.streams))
        return origin, row, column

    def _add_table(self, frame: int, table: Table, series: tuple[Series, ...]) -> None:
        heads = self._prefixes.heads(series)
        codes = table.status
        finite = np.isfinite(table.values.astype(np.float64, copy=False)) if table.kind is Kind.FLOAT else None
        if finite is not None and not finite.all():
            codes = np.where(~finite & (codes == 0), np.uint8(NOT_A_NUMBER), codes)
        else:
            finite = None
        plain = not codes.any()  # every reading is there and GOOD
        storable = self._storable(frame, table, codes, heads)
        cells = None if storable is None else np.flatnonzero(storable)
        self._starts.append(len(self))
        self._origins.append(_Origin(frame, table, series, cells))
        self._append(table, None if plain else codes, cells, heads)
        if finite is not None:
            self._drop_values(table, codes, finite)

    def _append(
        self, table: Table, codes: NDArray[np.uint8] | None, cells: NDArray[np.intp] | None, heads: Heads
    ) -> None:
        """Three pieces a cell, row by row; values that are no numbers are written as if they were (and then not)."""
        rows, columns = table.status.shape
        unit = b"i" if table.kind is Kind.INT else b""
        stamps = [b" %d\n" % time_ns for time_ns in table.times.tolist()]
        values, decimals = table.values, table.decimals
        if cells is None:
            befores = heads.texts * rows
            afters = list(chain.from_iterable(map(repeat, stamps, repeat(columns))))
        else:
            row_of, column_of = np.divmod(cells, columns)
            befores = [heads.texts[column] for column in column_of.tolist()]
            afters = [stamps[row] for row in row_of.tolist()]
            values, decimals = values.ravel()[None, cells], None if decimals is None else decimals[column_of]
        if codes is not None:
            told = (codes.ravel() if cells is None else codes.ravel()[cells]).tolist()
            afters = [unit + _SUFFIX[code] + after for after, code in zip(afters, told, strict=True)]
        elif unit:
            afters = [unit + after for after in afters]
        pieces = [b""] * (_PIECES * len(befores))
        pieces[0::_PIECES], pieces[1::_PIECES], pieces[2::_PIECES] = (
            befores,
            self._texts(table, values, decimals),
            afters,
        )
        self._pieces += pieces

    def _texts(self, table: Table, values: NDArray[np.generic], decimals: NDArray[np.int8] | None) -> Sequence[bytes]:
        if table.kind is Kind.FLOAT:
            return self._prefixes.numbers.texts(values.astype(np.float64, copy=False), decimals)
        return _RENDER[table.kind](values)

    def _drop_values(self, table: Table, codes: NDArray[np.uint8], finite: NDArray[np.bool_]) -> None:
        """Rewrite the lines, just added, of values that are no numbers: quality and reason alone."""
        start, origin = self._starts[-1], self._origins[-1]
        flat = ~finite.ravel() if origin.cells is None else ~finite.ravel()[origin.cells]
        for position in np.flatnonzero(flat).tolist():
            cell = position if origin.cells is None else int(origin.cells[position])
            row, column = divmod(cell, len(table.streams))
            prefix = self._prefixes.of(origin.series[column]).text
            at = (start + position) * _PIECES
            self._pieces[at : at + _PIECES] = (
                prefix.removesuffix(b"value="),
                _BARE[int(codes[row, column])],
                b" %d\n" % int(table.times[row]),
            )

    def _storable(self, frame: int, table: Table, codes: NDArray[np.uint8], heads: Heads) -> NDArray[np.bool_] | None:
        """Bool (T, S): where there is a reading that a line can carry; None: everywhere. The rest goes to `refused`."""
        dialect = self._prefixes.dialect
        early = dialect.earliest_ns is not None and int(table.times.min()) < dialect.earliest_ns
        storable: NDArray[np.bool_] = codes < 0xC0
        if not heads.refused and not early:
            return None if storable.all() else storable
        for column, refusal in heads.refused:
            self._refuse(frame, table, np.flatnonzero(storable[:, column]), column, refusal)
            storable[:, column] = False
        if early and dialect.earliest_ns is not None:
            before = table.times < dialect.earliest_ns
            for column in range(len(heads.series)):
                rows = np.flatnonzero(before & storable[:, column])
                self._refuse(frame, table, rows, column, f"{dialect.name} holds no time before 1970")
            storable[before] = False
        return storable

    def _refuse(self, frame: int, table: Table, rows: NDArray[np.intp], column: int, reason: str) -> None:
        stream = int(table.streams[column])
        self.refused += [Rejection(frame, stream, int(time_ns), reason) for time_ns in table.times[rows].tolist()]

"""Tables to InfluxDB line protocol, fast, because every reading of the city passes here.

One line is one point: measurement = quantity; tags in sorted order; one field named after the kind of value (`value`
float, `count` integer, `state` boolean, `text` string); `quality` and `reason` when the point is not GOOD; time in ns:

    temperature,city=C,device=D,district=Q,gateway=G,stream=S,street=T value=21.5,quality=1i,reason=3i 17900000000000

NaN and infinity have no field to stand in: such a point holds quality and reason alone.

Nothing is built per reading but its line: the part in front of the value is made once a series, the time once a
row, floats are written by repr (the shortest text that reads back as the same double). All text is kept as Latin-1
characters that stand for UTF-8 bytes, so the last step is a copy even when a city's name is not ASCII: 0.6 to 0.9 us
of CPU a line, of which repr and str.join alone are 0.4 (bench: stores).
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloud.stores.base import FramePoints, Series
from contract.errors import Rejection
from contract.readings import Kind, Quality, Reason, Table, status

FIELDS = {Kind.FLOAT: "value", Kind.INT: "count", Kind.BOOL: "state", Kind.TEXT: "text"}
NOT_A_NUMBER = status(Quality.BAD, Reason.NOT_A_NUMBER)
PREFIXES_KEPT = 100_000
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
    text: str
    refusal: str | None


class Prefixes:
    """The prefixes of the series seen lately. Holds at most `kept`, then starts anew.

    Found by the identity of the Series object first: hashing its eight strings for every column of every frame
    would cost as much as the lines.
    """

    def __init__(self, dialect: Dialect = INFLUX, kept: int = PREFIXES_KEPT) -> None:
        self.dialect = dialect
        self._kept = kept
        self._known: dict[int, Prefix] = {}

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
        return Prefix(series, "", f"{dialect.name} stores numbers alone, not text")
    for name, text in (("quantity", series.quantity), *tags):
        # A backslash at the end would escape the separator behind it, and line protocol has no escape for that.
        if not text or text.endswith("\\") or _CONTROL.search(text):
            return Prefix(series, "", f"line protocol cannot carry the {name} {text[:80]!r}")
    if series.quantity.startswith("#"):
        return Prefix(series, "", f"line protocol cannot carry the quantity {series.quantity[:80]!r}")
    measurement = _MEASUREMENT_SPECIAL.sub(r"\\\1", series.quantity)
    escaped = "".join(f",{name}=" + _TAG_SPECIAL.sub(r"\\\1", text) for name, text in tags)
    return Prefix(series, _latin(f"{measurement}{escaped} {FIELDS[series.kind]}="), None)


def _latin(text: str) -> str:
    # Text that came off the wire is valid UTF-8; a lone surrogate could only be made inside the process.
    return text.encode("utf-8", "replace").decode("latin-1")


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if text.isascii() else f'"{_latin(text)}"'


_RENDER: dict[Kind, Callable[[list[object]], Iterable[str]]] = {
    Kind.FLOAT: lambda values: map(repr, values),
    Kind.INT: lambda values: [f"{value}i" for value in values],
    Kind.BOOL: lambda values: ["t" if value else "f" for value in values],
    Kind.TEXT: lambda values: [_quoted(str(value)) for value in values],
}
_BARE = [f"quality={code >> 6}i,reason={code & 0x3F}i" for code in range(256)]
_SUFFIX = np.array([f",{bare}" if code >> 6 else "" for code, bare in enumerate(_BARE)], dtype=object)


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
        self._lines: list[str] = []
        self._starts: list[int] = []
        self._origins: list[_Origin] = []

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, frame: int, points: FramePoints) -> None:
        """Append every reading of a frame; what no line can carry goes to `refused`."""
        for table, series in zip(points.tables, points.series, strict=True):
            self._add_table(frame, table, series)

    def body(self, which: range | Sequence[int]) -> bytes:
        """The lines `which` as the body of a write."""
        if isinstance(which, range):
            chosen = self._lines[which.start : which.stop : which.step]
        else:
            chosen = [self._lines[index] for index in which]
        return "\n".join(chosen).encode("latin-1")

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
        if not table.status.size:
            return
        prefixes = [self._prefixes.of(one) for one in series]
        codes = table.status
        if table.kind is Kind.FLOAT:
            finite = np.isfinite(table.values.astype(np.float64, copy=False))
            if not finite.all():
                codes = np.where(~finite & (codes == 0), np.uint8(NOT_A_NUMBER), codes)
        else:
            finite = None
        storable = self._storable(frame, table, codes, prefixes)
        cells = None if storable.all() else np.flatnonzero(storable)
        self._starts.append(len(self._lines))
        self._origins.append(_Origin(frame, table, series, cells))
        self._lines += _render(table, codes, cells, prefixes)
        if finite is not None and not finite.all():
            self._drop_values(table, codes, finite)

    def _drop_values(self, table: Table, codes: NDArray[np.uint8], finite: NDArray[np.bool_]) -> None:
        """Rewrite the lines, just added, of values that are no numbers: quality and reason alone."""
        start, cells = self._starts[-1], self._origins[-1].cells
        flat = ~finite.ravel() if cells is None else ~finite.ravel()[cells]
        for position in np.flatnonzero(flat).tolist():
            cell = position if cells is None else int(cells[position])
            row, column = divmod(cell, len(table.streams))
            prefix = self._prefixes.of(self._origins[-1].series[column]).text
            code, time_ns = int(codes[row, column]), int(table.times[row])
            self._lines[start + position] = f"{prefix.removesuffix('value=')}{_BARE[code]} {time_ns}"

    def _storable(
        self, frame: int, table: Table, codes: NDArray[np.uint8], prefixes: list[Prefix]
    ) -> NDArray[np.bool_]:
        """Bool (T, S): where there is a reading that a line can carry; the other readings go to `refused`."""
        storable: NDArray[np.bool_] = codes < 0xC0
        for column, prefix in enumerate(prefixes):
            if prefix.refusal is not None:
                self._refuse(frame, table, np.flatnonzero(storable[:, column]), column, prefix.refusal)
                storable[:, column] = False
        dialect = self._prefixes.dialect
        if dialect.earliest_ns is not None and int(table.times.min()) < dialect.earliest_ns:
            early = table.times < dialect.earliest_ns
            for column in range(len(prefixes)):
                rows = np.flatnonzero(early & storable[:, column])
                self._refuse(frame, table, rows, column, f"{dialect.name} holds no time before 1970")
            storable[early] = False
        return storable

    def _refuse(self, frame: int, table: Table, rows: NDArray[np.intp], column: int, reason: str) -> None:
        stream = int(table.streams[column])
        self.refused += [Rejection(frame, stream, int(time_ns), reason) for time_ns in table.times[rows].tolist()]


def _render(
    table: Table, codes: NDArray[np.uint8], cells: NDArray[np.intp] | None, prefixes: list[Prefix]
) -> list[str]:
    """One line a cell, row by row; values that are no numbers are rendered as if they were (and then rewritten)."""
    rows, columns = table.status.shape
    stamps = np.array([f" {time_ns}" for time_ns in table.times.tolist()], dtype=object)
    names = np.array([prefix.text for prefix in prefixes], dtype=object)
    if cells is None:
        values, flat = table.values.ravel(), codes.ravel()
        heads: list[str] = names.tolist() * rows
        tails: list[str] = np.repeat(stamps, columns).tolist()
    else:
        values, flat = table.values.ravel()[cells], codes.ravel()[cells]
        heads, tails = names[cells % columns].tolist(), stamps[cells // columns].tolist()
    rendered = _RENDER[table.kind](values.tolist())
    if flat.any():
        suffixes: list[str] = _SUFFIX[flat].tolist()
        parts = zip(heads, rendered, suffixes, tails, strict=True)
        return [f"{head}{value}{suffix}{tail}" for head, value, suffix, tail in parts]
    return [f"{head}{value}{tail}" for head, value, tail in zip(heads, rendered, tails, strict=True)]

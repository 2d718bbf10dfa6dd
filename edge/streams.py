"""Why: the supervisor thinks in scans, the wire thinks in stream ids; this is the one map between them.

Ids are small integers in the order of the configuration: for every scan its published streams, then the aggregates
made of it. Streams that are published together, at one time, form a `Group`: its rows become the tables of a frame.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from contract.readings import Kind
from drivers.base import DeviceSpec, Scan, StreamSpec

Indices = NDArray[np.intp]
_RANK = {Kind.FLOAT: 0, Kind.INT: 1, Kind.BOOL: 1, Kind.TEXT: 2}
NO_DECIMALS = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One published stream: what the catalogue says of it, with `spec` for everything that the config says."""

    id: int
    device: str
    spec: StreamSpec
    interval_s: float
    scheduled: bool

    @property
    def key(self) -> str:
        """The stream's name within the gateway, the same in every epoch."""
        return f"{self.device}/{self.spec.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The streams of a group that share a kind, and so a table.

    ids: int32 (S,). positions: where they stand in a row's status. columns: where in its floats, ints or texts.
    decimals: int8 (S,) for floats, NO_DECIMALS where the resolution is unknown. every: they are all of the row's floats
    or ints, in order.
    """

    kind: Kind
    ids: NDArray[np.int32]
    positions: Indices
    columns: Indices
    decimals: NDArray[np.int8] | None
    every: bool


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Streams whose readings share their times.

    span: their ids, which are consecutive. positions: where they stand in a row's status; a row may hold more
    (unpublished streams). telemetry: bool over the row, False for alarms, which are never thinned first.
    """

    index: int
    entries: tuple[Entry, ...]
    width: int
    span: slice
    positions: Indices
    telemetry: NDArray[np.bool_]
    tables: tuple[Columns, ...]
    interval_ns: int

    @property
    def whole(self) -> bool:
        """Whether every position of the row is published."""
        return len(self.entries) == self.width


@dataclass(frozen=True, slots=True, eq=False)
class WindowLayout:
    """The aggregates over one window length of one scan's float streams, or of its integer streams.

    columns: their columns in the scan's floats (or ints). positions: in its status. outputs: function and, for each
    value of a published row in order, which of `columns` it is made of. step: resolution of each mean, NaN for none.
    """

    window_ns: int
    integer: bool
    columns: Indices
    positions: Indices
    floats: tuple[tuple[str, int], ...]
    ints: tuple[tuple[str, int], ...]
    resolutions: tuple[float | None, ...]
    group: Group


@dataclass(frozen=True, slots=True, eq=False)
class ScanLayout:
    """Where the readings of one scan go."""

    scan: Scan
    scheduled: bool
    group: Group
    windows: tuple[WindowLayout, ...]


def scans_of(device: DeviceSpec) -> list[Scan]:
    """The device's scans: its streams by interval, fastest first, each ordered as Scan wants it."""

    def interval_s(stream: StreamSpec) -> float:
        return stream.interval_s or device.interval_s

    scans = []
    for seconds, streams in groupby(sorted(device.streams, key=interval_s), key=interval_s):
        ordered = sorted(streams, key=lambda stream: _RANK[stream.type])
        scans.append(Scan(device, tuple(ordered), seconds))
    return scans


def decimal_step(resolution: float) -> tuple[int, int]:
    """`resolution` as (m, d) with resolution = m / 10**d: 0.25 is (25, 2), 100.0 is (100, 0)."""
    exact = Decimal(repr(resolution)).normalize()
    exponent = exact.as_tuple().exponent
    decimals = max(0, -exponent) if isinstance(exponent, int) else 0
    return int(exact.scaleb(decimals)), decimals


class StreamTable:
    """Every stream that this gateway publishes.

    sources: each scan, and whether the gateway asks at its interval (True) or listens (False).
    """

    def __init__(self, sources: Iterable[tuple[Scan, bool]]) -> None:
        self._entries: list[Entry] = []
        self._groups: list[Group] = []
        self.scans = {
            scan: self._layout(scan, scheduled) for scan, scheduled in sources
        }  # scans are told apart by identity
        self.entries: tuple[Entry, ...] = tuple(self._entries)
        self.groups: tuple[Group, ...] = tuple(self._groups)

    def _layout(self, scan: Scan, scheduled: bool) -> ScanLayout:  # noqa: FBT001 - one private caller
        published = [spec if spec.publish else None for spec in scan.streams]
        group = self._group(scan.device.name, published, [s.type for s in scan.streams], scan.interval_s, scheduled)
        windows = []
        for integer in (False, True):
            lengths = {s.aggregate.window_s for s in scan.streams if s.aggregate and (s.type is Kind.INT) is integer}
            windows += [self._window(scan, seconds, integer=integer) for seconds in sorted(lengths)]
        return ScanLayout(scan, scheduled, group, tuple(windows))

    def _window(self, scan: Scan, window_s: float, *, integer: bool) -> WindowLayout:
        kind = Kind.INT if integer else Kind.FLOAT
        chosen = [
            (position, spec)
            for position, spec in enumerate(scan.streams)
            if spec.type is kind and spec.aggregate is not None and spec.aggregate.window_s == window_s
        ]
        made = [
            (index, function, derive(spec, function))
            for index, (_, spec) in enumerate(chosen)
            for function in (spec.aggregate.functions if spec.aggregate else ())
        ]
        made.sort(key=lambda item: _RANK[item[2].type])
        specs = [spec for _, _, spec in made]
        positions = np.array([position for position, _ in chosen], dtype=np.intp)
        return WindowLayout(
            window_ns=round(window_s * 1e9),
            integer=integer,
            columns=positions - (scan.n_floats if integer else 0),
            positions=positions,
            floats=tuple((function, index) for index, function, spec in made if spec.type is Kind.FLOAT),
            ints=tuple((function, index) for index, function, spec in made if spec.type is Kind.INT),
            resolutions=tuple(spec.resolution for spec in specs if spec.type is Kind.FLOAT),
            group=self._group(scan.device.name, specs, [spec.type for spec in specs], window_s, scheduled=True),
        )

    def _group(
        self,
        device: str,
        specs: Sequence[StreamSpec | None],
        kinds: Sequence[Kind],
        interval_s: float,
        scheduled: bool,  # noqa: FBT001 - two private callers
    ) -> Group:
        first = len(self._entries)
        entries = [
            Entry(first + number, device, spec, interval_s, scheduled)
            for number, spec in enumerate(spec for spec in specs if spec is not None)
        ]
        self._entries += entries
        positions = np.array([place for place, spec in enumerate(specs) if spec is not None], dtype=np.intp)
        telemetry = np.array([spec is None or not spec.alarm for spec in specs], dtype=np.bool_)
        span = slice(first, first + len(entries))
        tables = _tables(entries, positions, kinds)
        group = Group(
            len(self._groups),
            tuple(entries),
            len(specs),
            span,
            positions,
            telemetry,
            tables,
            round(interval_s * 1e9),
        )
        self._groups.append(group)
        return group


def _tables(entries: Sequence[Entry], positions: Indices, kinds: Sequence[Kind]) -> tuple[Columns, ...]:
    ranks = [_RANK[kind] for kind in kinds]
    starts = [ranks.count(0) * (rank > 0) + ranks.count(1) * (rank > 1) for rank in range(3)]
    tables = []
    for kind in Kind:
        mine = [(entry, int(place)) for entry, place in zip(entries, positions, strict=True) if kinds[place] is kind]
        if not mine:
            continue
        places = np.array([place for _, place in mine], dtype=np.intp)
        decimals = None
        if kind is Kind.FLOAT:
            decimals = np.array([_decimals(entry.spec.resolution) for entry, _ in mine], dtype=np.int8)
        ids = np.array([entry.id for entry, _ in mine], dtype=np.int32)
        columns = places - starts[_RANK[kind]]
        every = np.array_equal(columns, np.arange(ranks.count(_RANK[kind])))
        tables.append(Columns(kind, ids, places, columns, decimals, every))
    return tuple(tables)


def _decimals(resolution: float | None) -> int:
    if resolution is None:
        return NO_DECIMALS
    return min(decimal_step(resolution)[1], 127)


def derive(spec: StreamSpec, function: str) -> StreamSpec:
    """The stream `name.function` that a window of `spec` publishes.

    A mean has one decimal more than its readings (two for integers); a count counts readings.
    """
    update: dict[str, object] = {
        "name": f"{spec.name}.{function}",
        "aggregate": None,
        "publish": True,
        "scale": 1.0,
        "offset": 0.0,
        "deadband": None,
        "max_rate_per_s": None,
        "stuck_after_s": None,
        "interval_s": None,
    }
    if function == "mean":
        resolution = spec.resolution
        if spec.type is Kind.INT:
            update["resolution"] = _finer(resolution or 1.0, 2)
        elif resolution is not None:
            update["resolution"] = _finer(resolution, 1)
        update["type"] = Kind.FLOAT
    elif function == "count":
        update |= {"type": Kind.INT, "unit": "{count}", "resolution": None, "valid_range": None}
    return spec.model_copy(update=update)


def _finer(resolution: float, decimals: int) -> float:
    return float(Decimal(repr(resolution)).scaleb(-decimals))

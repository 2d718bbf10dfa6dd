"""What the wire benchmark sends: columns of samples, the same for every codec.

mix      20 channels at 1 Hz: five temperatures of 0.1 degree, five noisy voltages of 0.1 V, five counters, five states
world    1,000 streams of the simulated street at 1 Hz: slow temperatures and humidities with a resolution, counters,
         noisy meters without one (32-bit floats as a Modbus meter sends them, and full doubles), switches, rare texts
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.catalogue import Area, Birth, Device, Stream
from contract.frame import Counters, Frame, Header
from contract.readings import GOOD, Ints, Kind, Table
from hardware_sim.world import World

START_NS = 1_790_000_000_000_000_000
TICK_NS = 1_000_000_000
SAMPLES = 600
MIX_SAMPLES = 3600
SEED = 42


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One stream: float64, int64, bool or str samples. decimals: of its resolution; -1 when it has none."""

    name: str
    kind: Kind
    decimals: int
    values: NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Columns sampled at common times (ns), and the catalogue that names them."""

    times: Ints
    columns: list[Column]

    def batches(self, rows: int) -> Iterator["Samples"]:
        """Cut into batches of `rows` samples a stream; what is left over is left out."""
        for first in range(0, len(self.times) - rows + 1, rows):
            part = slice(first, first + rows)
            yield Samples(
                self.times[part],
                [Column(one.name, one.kind, one.decimals, one.values[part]) for one in self.columns],
            )

    def first(self, rows: int) -> "Samples":
        """The first `rows` samples of each stream."""
        return next(self.batches(rows))

    @property
    def readings(self) -> int:
        """Samples of all streams."""
        return len(self.times) * len(self.columns)

    def save(self, path: Path) -> None:
        """As .npz, for codecs that live in another environment."""
        arrays = {
            f"{number:04}|{one.kind}|{one.decimals}|{one.name}": _plain(one) for number, one in enumerate(self.columns)
        }
        with path.open("wb") as file:
            np.savez(file, times=self.times, **arrays)  # type: ignore[arg-type]


def _plain(column: Column) -> NDArray[np.generic]:
    return column.values.astype(np.str_) if column.kind is Kind.TEXT else column.values


def mix(samples: int = MIX_SAMPLES, *, even: bool = True) -> Samples:
    """The 20 channels. even: at the tick exactly, as in the comparison that the targets come from."""
    random = np.random.default_rng(SEED)
    columns = []
    for number in range(5):
        wander = 21.5 + np.cumsum(random.normal(0, 0.01, samples))
        columns.append(Column(f"temperature_{number}", Kind.FLOAT, 1, np.round(wander, 1)))
    for number in range(5):
        noisy = random.normal(230, 0.5, samples)
        columns.append(Column(f"voltage_{number}", Kind.FLOAT, 1, np.round(noisy, 1)))
    for number in range(5):
        counted = 100_000 * number + np.cumsum(random.poisson(1.5, samples))
        columns.append(Column(f"counter_{number}", Kind.INT, 0, counted.astype(np.int64)))
    for number in range(5):
        flips = np.cumsum(random.random(samples) < 0.01) % 2
        columns.append(Column(f"state_{number}", Kind.BOOL, 0, flips.astype(np.bool_)))
    times = START_NS + np.arange(samples, dtype=np.int64) * TICK_NS if even else _times(samples)
    return Samples(times, columns)


def world(samples: int = SAMPLES) -> Samples:
    """The 1,000 streams."""
    street = World(SEED)
    times = _times(samples)
    at = times / 1e9
    columns: list[Column] = []

    def add(name: str, kind: Kind, decimals: int, values: NDArray[np.generic]) -> None:
        columns.append(Column(f"{name}_{len(columns)}", kind, decimals, values))

    for number in range(150):
        sensed = street.corner(number).sense(at)
        add("temperature", Kind.FLOAT, 1, np.round(sensed["temperature"], 1))
        add("humidity", Kind.FLOAT, 1, np.round(sensed["humidity"], 1))
    for number in range(10):
        sensed = street.meter(number).sense(at)
        names = [name for name in sensed if "energy" not in name][:25]
        for name in names:
            add(name, Kind.FLOAT, -1, sensed[name].astype(np.float32).astype(np.float64))
        for name in names[:5]:
            add(name, Kind.FLOAT, -1, sensed[name])
        add("energy", Kind.INT, 0, (sensed["energy_import"] * 1000).astype(np.int64))
    for number in range(100):
        lamp = street.lamp(number).sense(at)
        add("burning_time", Kind.INT, 0, (lamp["burning_hours"] * 3600).astype(np.int64))
        add("lamp_on", Kind.BOOL, 0, lamp["on"] > 0)
        add("lamp_failed", Kind.BOOL, 0, lamp["fault"] > 0)
    for number in range(40):
        pump = street.pump(number).sense(at)
        add("pump_starts", Kind.INT, 0, pump["starts"].astype(np.int64))
        running = pump["running"] > 0
        add("pump_state", Kind.TEXT, 0, np.where(running, "running", "standby").astype(object))
    for number in range(10):
        add("program", Kind.TEXT, 0, np.full(samples, f"night-{number % 3}", dtype=object))
    if len(columns) != 1000:
        raise ValueError(f"{len(columns)} streams; expected 1,000")
    return Samples(times, columns)


def _times(samples: int) -> Ints:
    # A gateway's times are whole microseconds, a little after the tick, never quite evenly.
    late = np.random.default_rng(SEED + 1).integers(900, 2500, samples) * 1000
    times: Ints = START_NS + np.arange(samples, dtype=np.int64) * TICK_NS + late
    return times


class Framer:
    """Makes the frames that a gateway would make of samples: one table a kind, honest books."""

    def __init__(self, columns: list[Column]) -> None:
        self._due = 0
        self._sequence = 0
        self._groups: list[tuple[Kind, NDArray[np.int32], list[int], NDArray[np.int8] | None]] = []
        first = 0
        for kind in (Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.TEXT):
            places = [place for place, one in enumerate(columns) if one.kind is kind]
            if not places:
                continue
            ids = np.arange(first, first + len(places), dtype=np.int32)
            first += len(places)
            decimals = np.array([columns[place].decimals for place in places], dtype=np.int8)
            self._groups.append((kind, ids, places, decimals if kind is Kind.FLOAT else None))
        self._streams = np.arange(first, dtype=np.int32)

    def frame(self, samples: Samples) -> Frame:
        """The next frame of the gateway."""
        rows = len(samples.times)
        self._due += rows
        self._sequence += 1
        tables = tuple(
            Table(
                kind,
                ids,
                samples.times,
                _matrix([samples.columns[place].values for place in places], kind),
                np.full((rows, len(places)), GOOD, dtype=np.uint8),
                decimals,
            )
            for kind, ids, places, decimals in self._groups
        )
        nothing = np.zeros(len(self._streams), dtype=np.int64)
        until = nothing + samples.times[-1]
        counters = Counters(self._streams, nothing + self._due, nothing, nothing, until)
        closed_ns = int(samples.times[-1]) // 1_000_000 * 1_000_000 + 30_000_000
        return Frame(Header(0x1234_5678_9ABC, self._sequence, 0x89AB_CDEF, closed_ns), tables, counters=counters)


def _matrix(columns: list[NDArray[np.generic]], kind: Kind) -> NDArray[np.generic]:
    if kind is Kind.TEXT:
        texts = np.empty((len(columns[0]), len(columns)), dtype=object)
        for place, values in enumerate(columns):
            texts[:, place] = values
        return texts
    return np.ascontiguousarray(np.stack(columns, axis=1))


def entropy_bytes(samples: Samples) -> float:
    """The floor: bytes that the order-0 entropy of each column's deltas comes to, first samples and times left out."""
    total_bits = 0.0
    for one in samples.columns:
        total_bits += _entropy_bits(_deltas(one))
    return total_bits / 8


def _deltas(column: Column) -> Ints:
    values = column.values
    whole: Ints
    if column.kind in {Kind.TEXT, Kind.BOOL}:
        whole = np.unique(values.astype(np.str_), return_inverse=True)[1].astype(np.int64)
    elif column.kind is Kind.INT:
        whole = values.astype(np.int64)
    elif column.decimals >= 0:
        whole = np.rint(values.astype(np.float64) * 10**column.decimals).astype(np.int64)
    else:
        whole = values.astype(np.float64).view(np.int64)
    deltas: Ints = whole[1:] - whole[:-1]
    return deltas


def _entropy_bits(symbols: NDArray[np.generic]) -> float:
    if not len(symbols):
        return 0.0
    counts = np.unique(symbols, return_counts=True)[1]
    shares = counts / len(symbols)
    return float(-(shares * np.log2(shares)).sum() * len(symbols))


def birth(
    gateway: str, streams: int, *, devices: int = 1, area: tuple[str, str, str] = ("bench", "east", "first")
) -> Birth:
    """The catalogue of a gateway with `streams` float streams, spread evenly over its devices, ids in order."""
    each = streams // devices
    made = tuple(
        Device(
            name=f"load-{device:02}",
            streams=tuple(
                Stream(
                    id=device * each + number,
                    name=f"v{number}",
                    quantity="bench_load",
                    unit="1",
                    type=Kind.FLOAT,
                    resolution=0.1,
                    interval_s=60.0,
                    scheduled=False,
                )
                for number in range(each)
            ),
        )
        for device in range(devices)
    )
    city, district, street = area
    return Birth(gateway=gateway, area=Area(city=city, district=district, street=street), devices=made)

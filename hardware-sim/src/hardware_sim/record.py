"""The world written down: what every device would have measured, as a wide CSV. Truth for a replay, faults left out.

Columns: time_ns (UTC), time (ISO 8601, UTC), then device.signal for each signal, rounded to its decimals. Each row is a
function of (seed, time) alone, so two records of one scenario are byte for byte the same.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from hardware_sim.clock import RunningClock
from hardware_sim.devices.instrument import Instrument
from hardware_sim.devices.modbus_device import RegisterDevice
from hardware_sim.factory import make_modbus, make_talker
from hardware_sim.faults import Faults
from hardware_sim.scenario import SERIAL_TYPES, WORLDLESS, DeviceSpec, Scenario
from hardware_sim.world import World

CHUNK_ROWS = 3600
DEFAULT_START_S = 1_767_225_600.0  # 2026-01-01 00:00 UTC: records without a start are alike, too


def record(
    scenario: Scenario,
    out: Path,
    *,
    hours: float,
    interval_s: float,
    seed: int | None = None,
    devices: Collection[str] = (),
) -> int:
    """Write the CSV; returns how many rows. devices: only these, or all when empty. Memory stays flat.

    Raises OSError, and ValueError for a device that is not there or has no world to record.
    """
    known = {spec.name: spec for spec in scenario.devices if spec.type not in WORLDLESS}
    for name in devices:
        if name not in known:
            raise ValueError(f"no device {name!r} to record, expected some of {', '.join(sorted(known))}")
    world = World(scenario.seed if seed is None else seed, scenario.utc_offset_s)
    instruments = [_instrument(spec, world) for name, spec in known.items() if not devices or name in devices]
    start_s = DEFAULT_START_S if scenario.start_s is None else scenario.start_s
    rows = int(hours * 3600 / interval_s)
    names = [f"{one.name}.{signal.name}" for one in instruments for signal in one.signals]
    with out.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(["time_ns", "time", *names]) + "\n")
        for first in range(0, rows, CHUNK_ROWS):
            steps = np.arange(first, min(first + CHUNK_ROWS, rows))
            file.writelines(_lines(instruments, start_s, steps, interval_s))
    return rows


def _instrument(spec: DeviceSpec, world: World) -> Instrument:
    faults, clock = Faults(spec.name), RunningClock(0)
    if spec.type in SERIAL_TYPES:
        return make_talker(spec, world, faults, clock).instrument
    device = make_modbus(spec, world, faults, clock)
    assert isinstance(device, RegisterDevice), "the worldless ones are left out"  # noqa: S101 - for the type checker
    return device.instrument


def _lines(instruments: list[Instrument], start_s: float, steps: np.ndarray, interval_s: float) -> Iterator[str]:
    """The lines of some rows: one formatting operation each, which is what a CSV costs."""
    # Whole nanoseconds from the start, so that times are exact however long the record is.
    offsets_ns = np.rint(steps * (interval_s * 1e9)).astype(np.int64)
    times_ns = offsets_ns + round(start_s * 1e9)
    times_s = times_ns / 1e9
    iso = np.datetime_as_string(times_ns.astype("datetime64[ns]"), unit="ms").tolist()
    columns: list[list[float]] = []
    formats: list[str] = []
    for instrument in instruments:
        sensed = instrument.sense(times_s)
        columns += [sensed[signal.name].tolist() for signal in instrument.signals]
        formats += [f"%.{signal.decimals}f" for signal in instrument.signals]
    line = "%d,%sZ," + ",".join(formats) + "\n"
    for row in zip(times_ns.tolist(), iso, *columns, strict=True):
        yield line % row

"""A three-phase meter with the register map of the Eastron SDM630-Modbus V2.

Source: Eastron, "SDM630-Modbus V2 User Manual", Modbus protocol, input registers (function 4): every parameter is a
big-endian float32 in two registers; at most 40 parameters a request; unlisted addresses between them read as zero.
"""

from hardware_sim.clock import Clock
from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.modbus_device import RegisterDevice
from hardware_sim.faults import Faults
from hardware_sim.registers import Encoding, Register, Table, encode
from hardware_sim.world import Meter

_PHASES = (1, 2, 3)
SIGNALS = (
    *(Signal(f"voltage_l{n}", 200, 260, 3) for n in _PHASES),
    *(Signal(f"current_l{n}", 0, 60, 4) for n in _PHASES),
    *(Signal(f"power_l{n}", 0, 12_000, 2) for n in _PHASES),
    *(Signal(f"apparent_l{n}", 0, 12_000, 2) for n in _PHASES),
    *(Signal(f"reactive_l{n}", 0, 6000, 2) for n in _PHASES),
    *(Signal(f"factor_l{n}", 0, 1, 4) for n in _PHASES),
    Signal("voltage_mean", 200, 260, 3),
    *(Signal(f"voltage_{pair}", 340, 450, 3) for pair in ("l12", "l23", "l31")),
    Signal("current_mean", 0, 60, 4),
    Signal("current_neutral", 0, 60, 4),
    Signal("current_total", 0, 180, 4),
    Signal("power_total", 0, 36_000, 2),
    Signal("apparent_total", 0, 36_000, 2),
    Signal("reactive_total", 0, 18_000, 2),
    Signal("factor_total", 0, 1, 4),
    Signal("frequency", 49, 51, 4),
    Signal("energy_import", 0, 1e6, 4),
    Signal("energy_export", 0, 1e6, 4),
    Signal("reactive_energy_import", 0, 1e6, 4),
)
ADDRESSES = {
    **{f"voltage_l{n}": 0x00 + 2 * (n - 1) for n in _PHASES},
    **{f"current_l{n}": 0x06 + 2 * (n - 1) for n in _PHASES},
    **{f"power_l{n}": 0x0C + 2 * (n - 1) for n in _PHASES},
    **{f"apparent_l{n}": 0x12 + 2 * (n - 1) for n in _PHASES},
    **{f"reactive_l{n}": 0x18 + 2 * (n - 1) for n in _PHASES},
    **{f"factor_l{n}": 0x1E + 2 * (n - 1) for n in _PHASES},
    "voltage_mean": 0x2A,
    "voltage_l12": 0xC8,
    "voltage_l23": 0xCA,
    "voltage_l31": 0xCC,
    "current_neutral": 0xE0,
    "current_mean": 0x2E,
    "current_total": 0x30,
    "power_total": 0x34,
    "apparent_total": 0x38,
    "reactive_total": 0x3C,
    "factor_total": 0x3E,
    "frequency": 0x46,
    "energy_import": 0x48,
    "energy_export": 0x4A,
    "reactive_energy_import": 0x4C,
}
# In the map, but not in this street: angles, demands, harmonics, energies by phase. They read as 0.
_RESERVED = ((Table.INPUT, 0x00, 0x6C), (Table.INPUT, 0xC8, 0x46), (Table.INPUT, 0x14E, 0x30))
_TOTAL_KWH = 0x156


def make_meter(name: str, unit: int, meter: Meter, faults: Faults, clock: Clock) -> RegisterDevice:
    """An SDM630 that measures one of the world's feeders. It looks five times a second."""
    registers = [Register(signal, Table.INPUT, at, Encoding.FLOAT32) for signal, at in ADDRESSES.items()]
    registers.append(Register("energy_import", Table.INPUT, _TOTAL_KWH, Encoding.FLOAT32))
    constants = {
        (Table.HOLDING, 0x02): encode(60, Encoding.FLOAT32),  # demand period, minutes
        (Table.HOLDING, 0x0A): encode(3, Encoding.FLOAT32),  # system type: three phases, four wires
        (Table.HOLDING, 0x14): encode(unit, Encoding.FLOAT32),  # network node
    }
    return RegisterDevice(
        Instrument(name, SIGNALS, meter.sense, faults, clock),
        unit,
        registers,
        constants=constants,
        reserved=_RESERVED,
        max_registers=80,
    )

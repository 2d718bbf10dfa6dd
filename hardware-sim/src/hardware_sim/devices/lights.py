"""A street-light controller: four lamps a unit, in all four Modbus tables. The map is this simulator's own.

lamp n = 0..3   coil n              on (may be written: the lamp then stays as told)
                discrete n          lamp failure: on, but draws nothing
                holding n           dim level, % (may be written)
                holding 100 + 3n    lamp current, mA, uint16; 101 + 3n burning hours, uint32 CDAB
                input n             fault bits, bit 0 lamp failure
"""

import numpy as np

from hardware_sim.clock import Clock
from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.modbus_device import RegisterDevice
from hardware_sim.faults import Faults
from hardware_sim.registers import Encoding, Register, Table
from hardware_sim.waves import Floats
from hardware_sim.world import Lamp, Sensed

LAMPS = 4


def make_lights(name: str, unit: int, lamps: tuple[Lamp, ...], faults: Faults, clock: Clock) -> RegisterDevice:
    """A controller of these lamps (LAMPS of them)."""
    signals: list[Signal] = []
    registers: list[Register] = []
    for n in range(len(lamps)):
        signals += [
            Signal(f"on_{n}", 0, 1, 0, faulty=False),
            Signal(f"dim_level_{n}", 0, 100, 0, faulty=False),
            Signal(f"current_{n}", 0, 1, 4),
            Signal(f"burning_hours_{n}", 0, 100_000, 2, faulty=False),
            Signal(f"fault_{n}", 0, 0xFFFF, 0, faulty=False),
        ]
        registers += [
            Register(f"on_{n}", Table.COIL, n),
            Register(f"fault_{n}", Table.DISCRETE, n),
            Register(f"dim_level_{n}", Table.HOLDING, n),
            Register(f"current_{n}", Table.HOLDING, 100 + 3 * n, scale=0.001),
            Register(f"burning_hours_{n}", Table.HOLDING, 101 + 3 * n, Encoding.UINT32, "CDAB"),
            Register(f"fault_{n}", Table.INPUT, n),
        ]

    def sense(times_s: Floats) -> Sensed:
        parts = [lamp.sense(times_s) for lamp in lamps]
        return {f"{quantity}_{n}": values for n, part in enumerate(parts) for quantity, values in part.items()}

    def react(values: dict[str, float]) -> None:
        for n, lamp in enumerate(lamps):
            lit = values[f"on_{n}"] and not int(values[f"fault_{n}"]) & Lamp.LAMP_FAILURE
            dim = float(np.clip(values[f"dim_level_{n}"], 0, 100))
            values[f"current_{n}"] = lamp.full_amps * dim / 100 if lit else 0.0

    instrument = Instrument(name, tuple(signals), sense, faults, clock, react=react)
    writable = frozenset(f"{what}_{n}" for what in ("on", "dim_level") for n in range(len(lamps)))
    return RegisterDevice(instrument, unit, registers, writable=writable)

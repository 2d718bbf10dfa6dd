"""A pump station whose map mixes every format a driver must know. The map is this simulator's own.

holding 0     level, mm, uint16             holding 8      status bits: 0 running, 1 high level
        1-2   flow, m3/h, float32 DCBA              9      motor temperature, 0.1 degC, int16
        3-4   starts, uint32 CDAB                   10-17  serial number, 16 characters ASCII
        5-6   vibration, mm/s, float32 BADC         20-23  flow, m3/h, float64 ABCD
        7     level, cm, BCD                        24-27  starts, uint64 ABCD
coil 0 running (read only), discrete 0 high level. Other addresses do not exist.
"""

from hardware_sim.clock import Clock
from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.modbus_device import RegisterDevice
from hardware_sim.faults import Faults
from hardware_sim.registers import Encoding, Register, Table
from hardware_sim.waves import Floats
from hardware_sim.world import Pump, Sensed

SIGNALS = (
    Signal("level", 0, 3, 4),
    Signal("flow", 0, 120, 3),
    Signal("running", 0, 1, 0, faulty=False),
    Signal("starts", 0, 1e6, 0, faulty=False),
    Signal("vibration", 0, 8, 4),
    Signal("motor_temperature", -20, 90, 2),
    Signal("status", 0, 0xFFFF, 0, faulty=False),
    Signal("high_level", 0, 1, 0, faulty=False),
)
REGISTERS = (
    Register("level", Table.HOLDING, 0, scale=0.001),
    Register("flow", Table.HOLDING, 1, Encoding.FLOAT32, "DCBA"),
    Register("starts", Table.HOLDING, 3, Encoding.UINT32, "CDAB"),
    Register("vibration", Table.HOLDING, 5, Encoding.FLOAT32, "BADC"),
    Register("level", Table.HOLDING, 7, Encoding.BCD16, scale=0.01),
    Register("status", Table.HOLDING, 8),
    Register("motor_temperature", Table.HOLDING, 9, Encoding.INT16, scale=0.1),
    Register("flow", Table.HOLDING, 20, Encoding.FLOAT64),
    Register("starts", Table.HOLDING, 24, Encoding.UINT64),
    Register("running", Table.COIL, 0),
    Register("high_level", Table.DISCRETE, 0),
)


def make_pump(name: str, unit: int, pump: Pump, faults: Faults, clock: Clock) -> RegisterDevice:
    """A station around one of the world's pumps. Its serial number is WNP- and its name."""

    def sense(times_s: Floats) -> Sensed:
        sensed = pump.sense(times_s)
        return {**sensed, "high_level": sensed["status"] // 2}

    serial_number = f"WNP-{name}"[:16].ljust(16).encode("ascii", "replace")
    instrument = Instrument(name, SIGNALS, sense, faults, clock)
    return RegisterDevice(instrument, unit, REGISTERS, constants={(Table.HOLDING, 10): serial_number})

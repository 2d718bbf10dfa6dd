"""A Modbus temperature and humidity transmitter of the common kind (XY-MD02, SHT20/SHT40 behind RS-485).

Source: XY-MD02 data sheet: input register 1 temperature, int16, 0.1 degC; input register 2 humidity, uint16, 0.1 %;
holding 0x101 unit id, 0x102 baud rate, 0x103 and 0x104 corrections.
"""

from hardware_sim.clock import Clock
from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.modbus_device import RegisterDevice
from hardware_sim.faults import Faults
from hardware_sim.registers import Encoding, Register, Table, encode
from hardware_sim.world import Corner

SIGNALS = (Signal("temperature", -40, 60, 2), Signal("humidity", 0, 100, 2))


def make_transmitter(name: str, unit: int, corner: Corner, faults: Faults, clock: Clock) -> RegisterDevice:
    """A transmitter at one of the street's corners. It looks twice a second."""
    constants = {
        (Table.HOLDING, 0x101): encode(unit, Encoding.UINT16),
        (Table.HOLDING, 0x102): encode(9600, Encoding.UINT16),
        (Table.HOLDING, 0x103): bytes(4),
    }
    registers = (
        Register("temperature", Table.INPUT, 1, Encoding.INT16, scale=0.1),
        Register("humidity", Table.INPUT, 2, Encoding.UINT16, scale=0.1),
    )
    instrument = Instrument(name, SIGNALS, corner.sense, faults, clock, refresh_s=0.5)
    return RegisterDevice(instrument, unit, registers, constants=constants)

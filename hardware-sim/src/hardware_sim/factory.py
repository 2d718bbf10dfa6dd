"""From a device's description to the device: the one place that knows every type."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hardware_sim.clock import Clock
from hardware_sim.devices import climate, lights, meter, nmea, pms5003, pump, text
from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.load import CounterDevice, RampDevice
from hardware_sim.devices.modbus_device import ModbusDevice
from hardware_sim.devices.talker import Talker
from hardware_sim.faults import Faults
from hardware_sim.registers import Encoding
from hardware_sim.scenario import DeviceSpec, PortSpec
from hardware_sim.waves import Floats
from hardware_sim.world import Sensed, World

if TYPE_CHECKING:
    from hardware_sim.street.live import Order

_SERIAL_REFRESH_S = 0.05


def make_modbus(spec: DeviceSpec, world: World, faults: Faults, clock: Clock) -> ModbusDevice:
    """A Modbus device of a type in `scenario.MODBUS_TYPES`."""
    name, unit = spec.name, spec.unit
    match spec.type:
        case "sdm630":
            return meter.make_meter(name, unit, world.meter(spec.number), faults, clock)
        case "climate":
            return climate.make_transmitter(name, unit, world.corner(spec.number), faults, clock)
        case "lights":
            lamps = tuple(world.lamp(lights.LAMPS * spec.number + n) for n in range(lights.LAMPS))
            return lights.make_lights(name, unit, lamps, faults, clock)
        case "pump":
            return pump.make_pump(name, unit, world.pump(spec.number), faults, clock)
        case "counter":
            encoding = Encoding(spec.options["format"])
            return CounterDevice(name, unit, faults, clock, count=spec.options["registers"], encoding=encoding)
        case "ramp":
            return RampDevice(name, unit, faults, clock, count=spec.options["registers"])
        case other:
            raise ValueError(f"no Modbus device of type {other!r}")


def camera_order(spec: DeviceSpec, port: PortSpec, seed: int, truth: Path | None) -> "Order":
    """What camera a device of the type `camera` is. Each number sees another street; truth: the street's file."""
    from hardware_sim.street.live import Order

    file = "" if truth is None else str(truth.resolve())
    return Order(port.kind, host=port.host, port=port.port, seed=seed + spec.number, truth=file, **spec.options)


def make_talker(spec: DeviceSpec, world: World, faults: Faults, clock: Clock) -> Talker:
    """A serial device of a type in `scenario.SERIAL_TYPES`."""

    def instrument(signals: tuple[Signal, ...], sense: Callable[[Floats], Sensed]) -> Instrument:
        return Instrument(spec.name, signals, sense, faults, clock, _SERIAL_REFRESH_S)

    match spec.type:
        case "pms5003":
            return pms5003.Pms5003(instrument(pms5003.SIGNALS, world.air.sense), **spec.options)
        case "nmea-weather":
            return nmea.WeatherStation(instrument(nmea.SIGNALS, world.weather.sense), **spec.options)
        case "text":
            return text.TextSensor(instrument(text.SIGNALS, world.weather.sense), **spec.options)
        case other:
            raise ValueError(f"no serial device of type {other!r}")

"""A scenario: which devices stand on which ports, and what goes wrong with them.

The file format is in docs/simulator.md. Reading one checks everything and opens nothing.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hardware_sim.faults import (
    CAMERA_KINDS,
    MODBUS_KINDS,
    SERIAL_KINDS,
    VALUE_KINDS,
    Chance,
    Fault,
    Kind,
    Plan,
    Planned,
    Rate,
)
from hardware_sim.yaml_reader import Mapping, load

CAMERA_PORTS = ("rtsp", "mjpeg")
PORT_KINDS = ("modbus-tcp", "modbus-rtu-tcp", "modbus-rtu", "serial", *CAMERA_PORTS)
SERIAL_TYPES = ("pms5003", "nmea-weather", "text")
MODBUS_TYPES = ("sdm630", "climate", "lights", "pump", "counter", "ramp")
COUNTER_FORMATS = ("uint16", "uint32", "float32")
WORLDLESS = frozenset({"counter", "ramp", "camera"})
"""Types that `record` has nothing of: they serve numbers that measure nothing, or pictures."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device. number: which of the world's meters, lamps, pumps it looks at. options: what its type alone has."""

    name: str
    type: str
    unit: int
    number: int
    dead: bool
    options: dict[str, Any]
    plans: tuple[Plan, ...] = ()


@dataclass(frozen=True, slots=True)
class PortSpec:
    """One TCP port, one serial port (a pty linked under `link` in the run directory), or one camera."""

    name: str
    kind: str
    host: str
    port: int
    link: str
    devices: tuple[DeviceSpec, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario. start_s: world time, seconds since 1970; None is now. speed: world seconds a real second."""

    path: Path
    seed: int
    start_s: float | None
    speed: float
    utc_offset_s: float
    ports: tuple[PortSpec, ...]

    @property
    def devices(self) -> tuple[DeviceSpec, ...]:
        """Every device of every port."""
        return tuple(device for port in self.ports for device in port.devices)


def read_scenario(path: Path) -> Scenario:
    """The scenario in a file. Raises ScenarioError."""
    top = load(path)
    seed = top.integer("seed", 1)
    start_s = top.time("start")
    speed = top.number("speed", 1.0, low=0.001, high=1e6)
    offset_h = top.number("utc_offset_h", 8.0, low=-12, high=14)
    raw_ports = [(_port_head(mapping), mapping) for mapping in top.mappings("ports")]
    plans = _faults(top)
    top.done()
    seen: dict[str, Mapping] = {}
    ports = []
    for (name, kind, host, number, link), mapping in raw_ports:
        _unique(seen, f"port {name}", mapping, "name")
        if link:
            _unique(seen, f"link {link}", mapping, "link" if "link" in mapping else "name")
        devices = []
        for entry in mapping.mappings("devices"):
            device = _device(entry, kind)
            _unique(seen, f"device {device.name}", entry, "name")
            if kind != "serial" and kind not in CAMERA_PORTS:
                _unique(seen, f"port {name} unit {device.unit}", entry, "unit")
            devices.append(_with_plans(device, kind, plans))
        if (kind == "serial" or kind in CAMERA_PORTS) and len(devices) != 1:
            raise mapping.error("devices", f"a {kind} port has exactly one device")
        mapping.done()
        ports.append(PortSpec(name, kind, host, number, link, tuple(devices)))
    for device_name, (_, entry) in plans.items():
        if f"device {device_name}" not in seen:
            names = sorted(key.removeprefix("device ") for key in seen if key.startswith("device "))
            raise entry.error("device", f"no device {device_name!r}, expected one of {', '.join(names)}")
    return Scenario(path, seed, start_s, speed, offset_h * 3600, tuple(ports))


def _port_head(mapping: Mapping) -> tuple[str, str, str, int, str]:
    name = mapping.take("name", str)
    kind = mapping.choice("kind", PORT_KINDS)
    if kind in {"modbus-tcp", "modbus-rtu-tcp", *CAMERA_PORTS}:
        return name, kind, mapping.take("host", str, "127.0.0.1"), mapping.integer("port", 0, high=65_535), ""
    link = mapping.take("link", str, name)
    if "/" in link or link in {"", ".", ".."}:
        raise mapping.error("link", "expected a plain file name: it is made in the run directory")
    return name, kind, "", 0, link


def _device(entry: Mapping, kind: str) -> DeviceSpec:
    name = entry.take("name", str)
    if not name or any(character.isspace() for character in name):
        raise entry.error("name", f"expected a name without spaces, found {name!r}")
    if kind in CAMERA_PORTS:
        entry.choice("type", ("camera",))
        spec = DeviceSpec(name, "camera", 0, entry.integer("number", 0), False, _camera(entry))
        entry.done()
        return spec
    type_ = entry.choice("type", SERIAL_TYPES if kind == "serial" else MODBUS_TYPES)
    unit = entry.integer("unit", 1, low=1, high=247) if kind != "serial" else 0
    number = entry.integer("number", 0)
    dead = entry.take("dead", bool, False)
    options = _options(entry, type_)
    entry.done()
    return DeviceSpec(name, type_, unit, number, dead, options)


def _options(entry: Mapping, type_: str) -> dict[str, Any]:
    match type_:
        case "counter":
            encoding = entry.choice("format", COUNTER_FORMATS, "float32")
            return {"registers": entry.integer("registers", 100, low=2, high=2000), "format": encoding}
        case "ramp":
            return {"registers": entry.integer("registers", 100, low=1, high=65_536)}
        case "pms5003":
            return {"interval_s": entry.number("interval_s", 1.0, low=0.01)}
        case "nmea-weather":
            interval_s = entry.number("interval_s", 1.0, low=0.01)
            return {"interval_s": interval_s, "wind_unit": entry.choice("wind_unit", ("N", "M"), "N")}
        case "text":
            options: dict[str, Any] = {"style": entry.choice("style", ("pairs", "csv"), "pairs")}
            options["request"] = entry.take("request", str) if "request" in entry else None
            polled = options["request"] is not None and "interval_s" not in entry
            options["interval_s"] = None if polled else entry.number("interval_s", 1.0, low=0.01)
            return options
        case _:
            return {}


def _camera(entry: Mapping) -> dict[str, Any]:
    from hardware_sim.street.scenes import SCENES  # OpenCV, which a scenario without cameras need not load

    options: dict[str, Any] = {"scene": entry.choice("scene", tuple(SCENES), "mixed")}
    width, height = (entry.integer(key, size, low=160, high=3840) for key, size in (("width", 1280), ("height", 720)))
    if width % 2 or height % 2:
        raise entry.error("width" if width % 2 else "height", "expected an even number: video has no half pixels")
    options["size"] = (width, height)
    options["fps"] = entry.integer("fps", 10, low=1, high=30)
    options["stamped"] = entry.take("stamped", bool, False)
    options["path"] = entry.take("path", str, "/street")
    if not options["path"].startswith("/"):
        raise entry.error("path", f"expected a path that begins with /, found {options['path']!r}")
    if ("username" in entry) != ("password" in entry):
        raise entry.error(None, "expected username and password, or neither")
    account = "username" in entry
    options["account"] = (entry.take("username", str), entry.take("password", str)) if account else None
    return options


def _unique(seen: dict[str, Mapping], what: str, mapping: Mapping, key: str) -> None:
    if what in seen:
        raise mapping.error(key, f"{what} is there twice")
    seen[what] = mapping


_Faults = dict[str, tuple[list[Plan], Mapping]]


def _faults(top: Mapping) -> _Faults:
    plans: _Faults = {}
    for entry in top.mappings("faults", required=False):
        device = entry.take("device", str)
        plans.setdefault(device, ([], entry))[0].append(_plan(entry))
        entry.done()
    return plans


def _plan(entry: Mapping) -> Plan:
    fault = Fault(
        Kind(entry.choice("kind", [kind.value for kind in Kind])),
        code=entry.integer("code", 4, low=1, high=255),
        delay_s=entry.number("delay_s", 2.0, high=3600),
        drift=entry.number("drift", 0.01, low=-1000, high=1000),
        grade=entry.integer("grade", 2, low=1, high=3),
    )
    whens = [key for key in ("at_s", "per_hour", "probability") if key in entry]
    if len(whens) != 1:
        raise entry.error(None, "expected exactly one of at_s, per_hour, probability")
    if whens == ["at_s"]:
        seconds = entry.number("seconds", low=0.001) if "seconds" in entry else math.inf
        return Planned(fault, entry.number("at_s"), seconds)
    if whens == ["per_hour"]:
        return Rate(fault, entry.number("per_hour", low=0.001, high=36_000), entry.pair("seconds", low=0.001))
    if fault.kind in VALUE_KINDS | CAMERA_KINDS:
        raise entry.error("probability", f"{fault.kind} lasts for a while: expected at_s or per_hour")
    return Chance(fault, entry.number("probability", high=1))


def allowed_kinds(type_: str, kind: str) -> frozenset[Kind]:
    """The faults a device can have: its type's, on that kind of port."""
    if type_ == "camera":
        return CAMERA_KINDS
    if type_ == "ramp":
        return MODBUS_KINDS - VALUE_KINDS
    if type_ == "counter":
        return (MODBUS_KINDS - VALUE_KINDS) | {Kind.FROZEN}
    return SERIAL_KINDS if kind == "serial" else MODBUS_KINDS


def _with_plans(device: DeviceSpec, kind: str, plans: _Faults) -> DeviceSpec:
    if device.name not in plans:
        return device
    found, entry = plans[device.name]
    allowed = allowed_kinds(device.type, kind)
    for plan in found:
        if plan.fault.kind not in allowed:
            raise entry.error(None, f"{device.name} is a {device.type}: it cannot have the fault {plan.fault.kind}")
    return replace(device, plans=tuple(found))

"""Short ways to Modbus configurations and scans, for tests."""

from collections.abc import Iterable, Sequence
from typing import Any

from contract.readings import Kind
from drivers.base import Scan
from drivers.modbus_spec import ModbusBusSpec, ModbusDevice


def stream(name: str, address: int, **keys: Any) -> dict[str, Any]:
    return {"name": name, "quantity": "q", "unit": "1", "table": "holding", "address": address, **keys}


def device(*streams: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"name": f"unit-{keys.get('unit', 1)}", "unit": 1, **keys, "streams": list(streams)}


def tcp_bus(port: int, *devices: dict[str, Any], **keys: Any) -> ModbusBusSpec:
    base = {"name": "bus", "transport": "tcp", "host": "127.0.0.1", "port": port, "timeout_s": 0.3}
    return ModbusBusSpec.model_validate({**base, **keys, "devices": list(devices)})


def serial_bus(port: str, *devices: dict[str, Any], **keys: Any) -> ModbusBusSpec:
    base = {"name": "bus", "transport": "rtu", "serial_port": port, "baud_rate": 115200, "timeout_s": 0.3}
    return ModbusBusSpec.model_validate({**base, **keys, "devices": list(devices)})


def scan_of(device: ModbusDevice) -> Scan:
    order = {Kind.FLOAT: 0, Kind.INT: 1, Kind.BOOL: 1, Kind.TEXT: 2}
    return Scan(device, tuple(sorted(device.streams, key=lambda one: order[one.type])), device.interval_s)


def scans_of(spec: ModbusBusSpec) -> Sequence[Scan]:
    return [scan_of(device) for device in spec.devices]


def registers(addresses: Iterable[int], **keys: Any) -> list[dict[str, Any]]:
    return [stream(f"r{address}", address, **keys) for address in addresses]

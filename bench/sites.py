"""The sites that gateways are measured on: simulated devices and the configuration that reads them, as YAML."""

from collections.abc import Sequence
from dataclasses import dataclass, field

REGISTERS = 100


@dataclass(frozen=True, slots=True)
class Site:
    """Some ports (one bus each) with the same number of units on each, all alike but for the dead ones.

    mixed: gaps between the registers that are wanted, and every kind of number. dead: (port, unit) that never answers.
    """

    ports: int = 1
    units: int = 10
    registers: int = REGISTERS
    interval_s: float = 1.0
    mixed: bool = False
    dead: Sequence[tuple[int, int]] = field(default_factory=tuple)

    @property
    def streams(self) -> int:
        """Streams of all devices that answer."""
        each = 4 * 10 if self.mixed else self.registers
        return (self.ports * self.units - len(self.dead)) * each

    def scenario(self) -> str:
        """For weinao-sim."""
        lines = ["seed: 1", "ports:"]
        for port in range(self.ports):
            lines += [f"  - name: bus-{port}", "    kind: modbus-tcp", "    devices:"]
            lines += [
                f"      - {{name: load-{port}-{unit}, type: ramp, registers: {self.registers}, unit: {unit}, "
                f"dead: {str((port, unit) in self.dead).lower()}}}"
                for unit in range(1, self.units + 1)
            ]
        return "\n".join(lines) + "\n"

    def gateway(self, name: str, mqtt_port: int, modbus_ports: Sequence[int], publish: str = "{}") -> str:
        """For weinao-gateway. name: of the gateway, and of the outbox's folder."""
        streams = "".join(f"          - {stream}\n" for stream in (_mixed() if self.mixed else _plain(self.registers)))
        buses = []
        for port, modbus_port in enumerate(modbus_ports):
            buses.append(
                f"  - name: bus-{port}\n    driver: modbus\n    transport: tcp\n    host: 127.0.0.1\n"
                f"    port: {modbus_port}\n    devices:\n"
            )
            buses += [
                f"      - name: load-{port}-{unit}\n        unit: {unit}\n        interval_s: {self.interval_s}\n"
                f"        streams:\n{streams}"
                for unit in range(1, self.units + 1)
            ]
        return (
            f"gateway:\n  id: {name}\n  area: {{city: bench, district: east, street: first}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {mqtt_port}}}\n"
            f"outbox: {{directory: {name}, max_bytes: 1073741824, min_free_bytes: 0}}\n"
            f"publish: {publish}\nbuses:\n{''.join(buses)}"
        )


def _plain(registers: int) -> list[str]:
    return [
        f"{{name: v{number}, quantity: bench_load, unit: '1', table: holding, address: {number}}}"
        for number in range(registers)
    ]


def _mixed() -> list[str]:
    """40 streams in 4 blocks of 13 registers with 12 between them: more than the driver reads in passing."""
    forms = [(0, "uint16"), (1, "uint16"), (2, "uint16"), (3, "uint16"), (4, "int16"), (5, "int16")]
    forms += [(6, "float32"), (8, "float32"), (10, "uint32")]
    streams = []
    for base in range(0, REGISTERS, 25):
        streams += [
            f"{{name: v{base + place}, quantity: bench_{form}, unit: '1', table: holding, address: {base + place}, "
            f"format: {form}}}"
            for place, form in forms
        ]
        streams.append(
            f"{{name: bit{base}, quantity: bench_bit, unit: '1', table: holding, address: {base + 12}, bit: 0}}"
        )
    return streams


def cloud(mqtt_port: int, store: str, *, name: str = "weinao-collector") -> str:
    """For weinao-cloud collect. store: the section's value."""
    return (
        f"mqtt: {{host: 127.0.0.1, port: {mqtt_port}}}\ncollector: {{name: {name}}}\nstore: {store}\n"
        f"data: {{directory: cloud}}\nstatus: {{socket: {name}.sock}}\n"
    )

"""The register maps against the examples of their own documents, as bytes."""

import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from modbus_make import scan_of

from drivers.modbus_plan import Wanted, limits_of, plan
from drivers.modbus_scan import ScanReader
from drivers.modbus_spec import ModbusDevice
from drivers.modbus_terms import Order, Span, Table

FOLDER = Path(__file__).parents[3] / "drivers" / "profiles"


def load(name: str) -> ModbusDevice:
    data: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert data.pop("driver") == "modbus"
    assert data.pop("document")
    return ModbusDevice.model_validate({**data, "name": "d", "unit": 1})


def test_the_transmitter_reads_as_in_its_manual() -> None:
    reader = ScanReader(scan_of(load("xy-md02")))
    [ask] = reader.asks()
    assert ask.call.pdu.hex(" ") == "04 00 01 00 02"
    reader.take(ask, bytes.fromhex("0404 FF33 0222".replace(" ", "")))
    block = reader.finish(reader.new_block(0), [])
    scaled = [raw * stream.scale for raw, stream in zip(block.floats, reader.streams, strict=True)]
    assert scaled == pytest.approx([-20.5, 54.6])


def test_the_meter_is_read_in_two_requests_of_at_most_forty_parameters() -> None:
    meter = load("eastron-sdm630")
    wanted = [
        Wanted(Span(Table.INPUT, one.address, one.address + 1), position) for position, one in enumerate(meter.streams)
    ]
    requests = plan(wanted, limits_of(meter, Table.INPUT))
    assert [(request.span.first, request.count) for request in requests] == [(0x0000, 80), (0x0156, 4)]


def test_the_meters_addresses_are_those_of_its_parameter_numbers() -> None:
    # The manual numbers parameters from 1, two registers each: parameter 36 is the frequency, 37 the import, ...
    numbers = {"voltage_l1": 1, "current_l3": 6, "active_power_l1": 7, "power_factor_l3": 18, "active_power_total": 27}
    numbers |= {
        "apparent_power_total": 29,
        "reactive_power_total": 31,
        "power_factor_total": 32,
        "frequency": 36,
        "energy_import": 37,
    }
    numbers |= {"energy_export": 38, "reactive_energy_export": 40, "energy_total": 172}
    meter = load("eastron-sdm630")
    addresses = {one.name: one.address for one in meter.streams}
    assert {name: addresses[name] for name in numbers} == {name: 2 * (number - 1) for name, number in numbers.items()}
    assert {meter.order_of(one) for one in meter.streams} == {Order.ABCD}
    reader = ScanReader(scan_of(meter))
    first = reader.asks()[0]
    reader.take(first, bytes((4, 160)) + struct.pack(">40f", *range(40)))
    block = reader.finish(reader.new_block(0), [])
    found = dict(zip((one.name for one in reader.streams), block.floats.tolist(), strict=True))
    assert (found["voltage_l2"], found["frequency"], found["energy_import"]) == (1.0, 35.0, 36.0)

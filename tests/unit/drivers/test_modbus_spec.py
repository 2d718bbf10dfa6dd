from typing import Any

import pytest
from modbus_make import device, stream, tcp_bus
from pydantic import ValidationError

from contract.readings import Kind
from drivers.modbus_spec import ModbusBusSpec, ModbusDevice
from drivers.modbus_terms import Format, Order, Table


def only_stream(**keys: Any) -> Any:
    return ModbusDevice.model_validate(device(stream("s", keys.pop("address", 0), **keys))).streams[0]


def errors(model: type, data: object) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)  # type: ignore[attr-defined]
    return [(one["loc"], one["msg"]) for one in caught.value.errors()]


def bus_with(**keys: Any) -> dict[str, Any]:
    base = {"name": "b", "transport": "tcp", "host": "10.0.0.5", "devices": [device(stream("s", 0))], **keys}
    return {key: value for key, value in base.items() if value is not ...}


BAD_STREAMS = [
    (
        {"function": 9, "table": ...},
        "function code 9: expected 1 (coils), 2 (discrete inputs), 3 (holding registers) or 4 (input registers)",
    ),
    ({"function": 4}, "function: found 4, but table 'holding' is read by 3"),
    ({"address": 65_536}, "less than or equal to 65535"),
    ({"address": 65_535, "format": "uint32"}, "the 2 registers of uint32 at 65535 pass the last, 65535"),
    ({"format": "string", "length": 4, "type": "int"}, "type: expected text for format string, found int"),
    ({"format": "string"}, "length: expected with format string"),
    ({"length": 4}, "length: expected with format string"),
    ({"format": "float32", "type": "int"}, "type: expected float for format float32, found int"),
    ({"format": "int16", "type": "text"}, "type: expected int or float for format int16, found text"),
    ({"bit": 3, "type": "float"}, "type: expected bool or int for format one bit, found float"),
    ({"bit": 16}, "first <= last <= 15 in uint16, found [16, 16]"),
    ({"bits": [5, 2]}, "found [5, 2]"),
    ({"bit": 1, "bits": [0, 2]}, "expected bit or bits, found both"),
    ({"bit": 1, "format": "float32"}, "bit: expected with uint16, uint32 or uint64 registers, found float32"),
    ({"table": "coil", "format": "uint16"}, "format: expected bool for a coil, found uint16"),
    ({"format": "int24"}, "'int16'"),
    ({"adress": 4}, "Extra inputs are not permitted"),
    ({"table": []}, "'coil', 'discrete', 'holding' or 'input'"),
    ({"function": {}, "table": ...}, "function code {}: expected 1"),
]


@pytest.mark.parametrize(("keys", "words"), BAD_STREAMS)
def test_a_wrong_stream_is_refused_once_with_words_for_it(keys: dict[str, Any], words: str) -> None:
    data = {key: value for key, value in {**stream("s", 0), **keys}.items() if value is not ...}
    found = errors(ModbusDevice, device(data))
    assert len(found) == 1
    assert words in found[0][1]
    assert found[0][0][:2] == ("streams", 0)


BAD_DEVICES = [
    ([stream("a", 0), stream("a", 1)], {}, "two are called 'a'"),
    ([stream("a", 0), stream("b", 0)], {}, "overlapping streams 'a' and 'b': both read holding register 0 as uint16"),
    ([stream("a", 0, format="float32"), stream("b", 1)], {}, "holding registers 0-1 as float32 and holding register 1"),
    ([stream("a", 0), stream("b", 0, format="int16")], {}, "allow_overlap: true"),
    ([stream("a", 0, bits=[0, 3]), stream("b", 0, bit=3)], {}, "overlapping"),
    ([stream("a", 40, format="uint32")], {"forbidden": {"holding": [[41, 50]]}}, "forbidden is [41, 50]"),
    ([stream("a", 0)], {"forbidden": {"holding": [[50, 41]]}}, "found [50, 41]"),
    ([stream("a", 0)], {"unit": 248}, "unit 248: expected 1 to 247"),
    ([stream("a", 0)], {"zero_based": False}, "addresses start at 1"),
    ([stream("a", 0, format="string", length=60)], {"max_block": 50}, "takes 60 registers; max_block is 50"),
    ([stream("a", 0)], {"max_block": 126}, "less than or equal to 125"),
]


@pytest.mark.parametrize(("streams", "keys", "words"), BAD_DEVICES)
def test_a_wrong_device_is_refused(streams: list[dict[str, Any]], keys: dict[str, Any], words: str) -> None:
    found = errors(ModbusDevice, device(*streams, **keys))
    assert len(found) == 1
    assert words in found[0][1]


BAD_BUSES = [
    ({"host": None}, ("host",), "expected a name or an address, found null"),
    ({"host": ...}, (), "host: expected with transport tcp, found nothing"),
    ({"host": ""}, ("host",), "found ''"),
    ({"host": "10.0.0.5:502"}, ("host",), "the port has its own key"),
    ({"port": "/dev/ttyUSB0"}, ("port",), "a serial port's key is serial_port"),
    ({"baud_rate": 9600}, (), "baud_rate: found, but transport tcp has no such key"),
    ({"transport": "rtu", "serial_port": "/dev/ttyS0"}, (), "host: found, but transport rtu has no such key"),
    ({"transport": "rtu", "host": ...}, (), "serial_port: expected with transport rtu, found nothing"),
    ({"transport": "tls"}, (), "tls: expected with transport tls"),
    ({"tls": {"ca": "x"}}, (), "found transport tcp"),
    ({"transport": "tls", "tls": {"ca": "x", "key": "y"}}, ("tls",), "key: found without cert"),
    (
        {"devices": [device(stream("s", 0)), device(stream("s", 0), name="other")]},
        (),
        "'unit-1' and 'other' both have unit 1; expected one device a unit id",
    ),
    ({"devices": [device(stream("s", 0)), device(stream("s", 0), name="unit-1", unit=2)]}, (), "two are called"),
    (
        {"transport": "rtu-over-tcp", "devices": [device(stream("s", 0), unit=255)]},
        (),
        "expected 1 to 247 on rtu-over-tcp",
    ),
    ({"timeout_s": 0}, ("timeout_s",), "greater than 0"),
]


@pytest.mark.parametrize(("keys", "place", "words"), BAD_BUSES)
def test_a_wrong_bus_is_refused_where_it_is_wrong(keys: dict[str, Any], place: tuple[str, ...], words: str) -> None:
    found = errors(ModbusBusSpec, bus_with(**keys))
    assert len(found) == 1
    assert words in found[0][1]
    assert found[0][0] == place


def test_what_follows_need_not_be_written() -> None:
    assert only_stream(table="coil").format is Format.BOOL
    assert only_stream(table="coil").type is Kind.BOOL
    assert only_stream(format="string", length=8).type is Kind.TEXT
    assert only_stream(bit=3).type is Kind.BOOL
    assert only_stream(bits=[3, 4]).type is Kind.INT
    assert only_stream().type is Kind.INT
    assert only_stream(scale=0.1).type is Kind.FLOAT
    assert only_stream(resolution=0.1).type is Kind.FLOAT
    assert only_stream(format="float32").type is Kind.FLOAT
    by_code = {key: value for key, value in stream("s", 0, function=2).items() if key != "table"}
    assert ModbusDevice.model_validate(device(by_code)).streams[0].table is Table.DISCRETE


def test_a_devices_scale_makes_floats_of_its_integers_but_not_of_its_coils() -> None:
    scaled = ModbusDevice.model_validate(
        device(stream("a", 0), stream("b", 1, type="int"), stream("c", 0, table="coil"), scale=0.1)
    )
    assert [one.type for one in scaled.streams] == [Kind.FLOAT, Kind.INT, Kind.BOOL]


def test_a_status_word_and_its_bits_live_together() -> None:
    bits = [stream("low", 0, bits=[0, 3]), stream("door", 0, bit=4), stream("fan", 0, bit=5)]
    ModbusDevice.model_validate(device(*bits))
    ModbusDevice.model_validate(device(*bits, stream("word", 0, allow_overlap=True)))


def test_ports_silences_and_names() -> None:
    one = device(stream("s", 1), zero_based=False)
    tcp = ModbusBusSpec.model_validate(bus_with(devices=[one]))
    assert (tcp.peer, tcp.silence_s) == ("10.0.0.5:502", 0)
    assert ModbusBusSpec.model_validate(bus_with(transport="tls", tls={"ca": "x"})).peer == "10.0.0.5:802"
    assert ModbusBusSpec.model_validate(bus_with(host="fe80::1")).peer == "[fe80::1]:502"
    line = ModbusBusSpec.model_validate(bus_with(transport="rtu", host=..., serial_port="/dev/ttyS0", parity="E"))
    assert line.silence_s == pytest.approx(3.5 * 11 / 9600)
    assert tcp.devices[0].place(tcp.devices[0].streams[0]) == "holding register 1"
    assert tcp.devices[0].wire(tcp.devices[0].streams[0]) == 0
    assert tcp.devices[0].order_of(tcp.devices[0].streams[0]) is Order.ABCD
    assert tcp_bus(502, device(stream("s", 0), unit=255)).devices[0].unit == 255

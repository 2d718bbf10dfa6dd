"""pymodbus's own server as an independent peer: it encodes the values, the driver must read them back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from modbus_make import device, scans_of, stream, tcp_bus
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from contract.readings import GOOD
from drivers.modbus import ModbusBus

VALUES = [
    ("int16", ModbusClientMixin.DATATYPE.INT16, -12345),
    ("uint16", ModbusClientMixin.DATATYPE.UINT16, 54321),
    ("int32", ModbusClientMixin.DATATYPE.INT32, -1234567890),
    ("uint32", ModbusClientMixin.DATATYPE.UINT32, 3234567890),
    ("int64", ModbusClientMixin.DATATYPE.INT64, -1234567890123456789),
    ("uint64", ModbusClientMixin.DATATYPE.UINT64, 1234567890123456789),
    ("float32", ModbusClientMixin.DATATYPE.FLOAT32, 230.125),
    ("float64", ModbusClientMixin.DATATYPE.FLOAT64, -1.0e-200),
]


def words(order: str, kind: Any, value: float) -> list[int]:
    """Registers as pymodbus lays them out; it knows word order, bytes within a register are swapped here."""
    found = ModbusClientMixin.convert_to_registers(
        value, kind, word_order="little" if order in ("DCBA", "CDAB") else "big"
    )
    swapped = order in ("DCBA", "BADC")
    return [(word & 0xFF) << 8 | word >> 8 if swapped else word for word in found]


async def serve(registers: list[int], framer: FramerType) -> AsyncIterator[tuple[ModbusTcpServer, int]]:
    data = SimData(0, values=registers, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(1, simdata=[data]), framer=framer, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    listener: Any = server.transport
    yield server, listener.sockets[0].getsockname()[1]
    await server.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("transport", "framer"), [("tcp", FramerType.SOCKET), ("rtu-over-tcp", FramerType.RTU)])
@pytest.mark.parametrize("order", ["ABCD", "DCBA", "BADC", "CDAB"])
async def test_every_format_and_order_is_read_as_pymodbus_meant_it(
    transport: str, framer: FramerType, order: str
) -> None:
    registers: list[int] = []
    streams = []
    for form, kind, value in VALUES:
        streams.append(stream(form, len(registers), format=form, order=order))
        registers += words(order, kind, value)
    async for _, port in serve(registers, framer):
        spec = tcp_bus(port, device(*streams), transport=transport, timeout_s=2)
        [scan] = scans_of(spec)
        bus = ModbusBus(spec, [scan])
        async with asyncio.timeout(10):
            block = await bus.poll(scan)
        found = dict(zip([one.name for one in scan.streams], [*block.floats, *block.ints], strict=True))
        assert found == {form: value for form, _, value in VALUES}
        assert set(block.status.tolist()) == {GOOD}
        by_name = {one.name: one for one in scan.streams}
        await bus.write(scan, by_name["float32"], -0.5)
        await bus.write(scan, by_name["int16"], 7)
        block = await bus.poll(scan)
        assert block.floats[list(scan.streams).index(by_name["float32"])] == -0.5
        assert 7 in block.ints.tolist()
        await bus.close()

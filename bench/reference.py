"""The references and floors that need a process of their own, so that their CPU is their own.

    python -m bench.reference loop MODBUS_PORT MQTT_PORT UNITS INTERVAL_S   what a Python programmer writes first:
        pymodbus reads blocks of 100 registers, one JSON a block, aiomqtt QoS 1, one in flight; nothing on disk
    python -m bench.reference reads MODBUS_PORT UNITS INTERVAL_S            the same reads and nothing else: the floor
    python -m bench.reference collect MQTT_PORT STORE_URL BUCKET [--each]   paho and influxdb-client: JSON messages
        become line protocol, written 5,000 lines at a time, or each message at once

Each prints `ready`, and at SIGUSR1 one JSON object: how much it has done. INTERVAL_S 0 means as fast as it goes.
"""

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import aiomqtt
import paho.mqtt.client as mqtt
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.client import AsyncModbusTcpClient

REGISTERS = 100
TOPIC = "bench/reference"
Handle = Callable[[int, int, list[int]], Awaitable[None]]


@dataclass(slots=True)
class Done:
    """How much so far. late_s: how far a cycle began behind its schedule, at worst."""

    readings: int = 0
    late_s: float = 0.0


async def _poll(port: int, units: int, interval_s: float, done: Done, handle: Handle) -> None:
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: print(json.dumps(asdict(done)), flush=True))
    print("ready", flush=True)
    due_s = time.monotonic()
    while True:
        for unit in range(1, units + 1):
            answer = await client.read_holding_registers(0, count=REGISTERS, device_id=unit)
            await handle(unit, time.time_ns(), list(answer.registers))
            done.readings += REGISTERS
        due_s += interval_s
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
            done.late_s = max(done.late_s, time.monotonic() - due_s)


async def _loop(modbus_port: int, mqtt_port: int, units: int, interval_s: float) -> None:
    done = Done()
    async with aiomqtt.Client("127.0.0.1", mqtt_port) as client:

        async def publish(unit: int, time_ns: int, registers: list[int]) -> None:
            message = {"unit": unit, "time_ns": time_ns, "registers": registers}
            await client.publish(f"{TOPIC}/{unit}", json.dumps(message), qos=1)

        await _poll(modbus_port, units, interval_s, done, publish)


async def _reads(modbus_port: int, units: int, interval_s: float) -> None:
    async def nothing(_unit: int, _time_ns: int, _registers: list[int]) -> None:
        return

    await _poll(modbus_port, units, interval_s, Done(), nothing)


def _collect(mqtt_port: int, url: str, bucket: str, *, batch_lines: int) -> None:
    done = Done()
    store = InfluxDBClient(url=url, token="", org="")
    writer = store.write_api(write_options=SYNCHRONOUS)
    lines: list[str] = []

    def take(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        said = json.loads(message.payload)
        unit, time_ns = said["unit"], said["time_ns"]
        lines.extend(
            f"bench_reference,unit={unit},register={number} value={value} {time_ns}"
            for number, value in enumerate(said["registers"])
        )
        if len(lines) >= batch_lines:
            writer.write(bucket, record=lines)
            done.readings += len(lines)
            lines.clear()

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    asked = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: asked.set())
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.connect("127.0.0.1", mqtt_port)
    client.subscribe(f"{TOPIC}/#", qos=1)
    client.loop_start()
    while True:
        if asked.wait(0.05):
            asked.clear()
            print(json.dumps(asdict(done)), flush=True)


def main(arguments: list[str]) -> int:
    """Run one of them until it is ended."""
    match arguments:
        case ["loop", modbus_port, mqtt_port, units, interval_s]:
            asyncio.run(_loop(int(modbus_port), int(mqtt_port), int(units), float(interval_s)))
        case ["reads", modbus_port, units, interval_s]:
            asyncio.run(_reads(int(modbus_port), int(units), float(interval_s)))
        case ["collect", mqtt_port, url, bucket, *rest]:
            _collect(int(mqtt_port), url, bucket, batch_lines=1 if rest == ["--each"] else 5000)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A serial adapter for tests: the device's end of a pseudo terminal that can be pulled out and plugged in again."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

from contract.readings import Kind
from drivers.base import Scan
from drivers.serial import SerialBusSpec

ORDER = {Kind.FLOAT: 0, Kind.INT: 1, Kind.BOOL: 1, Kind.TEXT: 2}
TEMPERATURE = {"name": "t", "quantity": "temperature", "unit": "Cel", "field": "t"}


class Adapter:
    """A pseudo terminal behind a name that survives replugging, as /dev/serial/by-id has them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "usb-adapter"
        self._end = -1
        self.plug_in()

    def plug_in(self) -> None:
        self._end, other = os.openpty()
        os.set_blocking(self._end, False)
        self.path.symlink_to(os.ttyname(other))
        os.close(other)

    def unplug(self) -> None:
        if self._end >= 0:
            self.path.unlink()
            os.close(self._end)
            self._end = -1

    def say(self, data: bytes) -> None:
        os.write(self._end, data)

    async def heard(self, length: int) -> bytes:
        data = b""
        async with asyncio.timeout(5):
            while len(data) < length:
                try:
                    data += os.read(self._end, length - len(data))
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        return data

    async def asked(self, length: int, within_s: float) -> bool:
        """Whether that much is sent to the device soon; takes it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                return bool(await self.heard(length))
        return False


def spec_of(adapter: Adapter, *devices: dict[str, Any], **more: Any) -> SerialBusSpec:
    return SerialBusSpec.model_validate(
        {"name": "bus", "driver": "serial", "serial_port": str(adapter.path), "devices": list(devices), **more}
    )


def scans_of(spec: SerialBusSpec) -> list[Scan]:
    return [
        Scan(device, tuple(sorted(device.streams, key=lambda stream: ORDER[stream.type])), device.interval_s)
        for device in spec.devices
    ]

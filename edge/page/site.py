"""Why: everything the page shows comes from one place that only looks, and that is cheap to ask every second."""

import asyncio
import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.clock import Clock
from edge.config import GatewayConfig, GatewaySection
from edge.page import machine
from edge.page.causes import Language, Plight, cause
from edge.page.machine import Machine
from edge.page.trial import Decoded, Line, Trial, Trials
from edge.page.view import DeviceView, Mood, devices_of, places_of, pretty_unit, shown
from edge.status import Status
from edge.supervisor import Supervisor

# Longer than any frame is filled (60 s) and acknowledged after.
UNHEARD_S = 120.0
_ROW_BYTES = 8
_PRINTABLE = range(0x20, 0x7F)


@dataclass(frozen=True, slots=True)
class Facts:
    """The gateway at one moment. status: as `weinao-gateway status --json` says it."""

    status: dict[str, Any]
    devices: list[DeviceView]
    made_at: str

    @property
    def unheard(self) -> bool:
        """Whether the broker is there, and nobody behind it has acknowledged anything for too long."""
        uplink, outbox = self.status["uplink"], self.status["outbox"]
        silent_s = uplink["since_ago_s"] if uplink["last_ack_ago_s"] is None else uplink["last_ack_ago_s"]
        return bool(uplink["connected"] and outbox["frames"] and silent_s is not None and silent_s > UNHEARD_S)

    @property
    def ill(self) -> int:
        """How many devices need somebody."""
        return sum(1 for device in self.devices if device.mood in {Mood.FAILING, Mood.DOUBTFUL})


class Site:
    """One running gateway, as the page sees it."""

    def __init__(self, config: GatewayConfig, status: Status, supervisor: Supervisor, clock: Clock, epoch: int) -> None:
        self.gateway: GatewaySection = config.file.gateway
        self.epoch = f"{epoch:08x}"
        self.software = importlib.metadata.version("weinao")
        self.broker = f"{config.file.mqtt.host}:{config.file.mqtt.port}"
        self.trials = Trials(supervisor.workers, clock)
        self._status = status
        self._places = places_of(config.buses)
        self._directory = config.file.outbox.directory

    def facts(self) -> Facts:
        """Everything but the machine."""
        status = self._status.status({})
        return Facts(status, devices_of(status, self._places), local_time(time.time()))

    def has(self, device: str) -> bool:
        """Whether there is such a device."""
        return device in self._places

    async def machine(self) -> Machine:
        """The box that it runs on."""
        return await asyncio.to_thread(machine.look, self._directory)

    def verdict(self, trial: Trial, language: Language) -> str:
        """What is wrong by a test, and what to check; "" when it went well."""
        if trial.ok or trial.reason is None:
            return ""
        place = self._places[trial.device]
        view = next((one for one in self.facts().devices if one.name == trial.device), None)
        if view is not None and view.plight is not None and view.plight.reason is trial.reason:
            return cause(view.plight, language)
        return cause(Plight(trial.reason, place.who, place.where, place.serial), language)


def local_time(wall_s: float) -> str:
    """A moment as the gateway's own clock on the wall says it, with its distance from UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(wall_s))


def hex_rows(line: Line) -> list[tuple[str, str]]:
    """Bytes in rows of eight, which a phone has room for: in hex, and as text."""
    rows = []
    for at in range(0, len(line.data), _ROW_BYTES):
        part = line.data[at : at + _ROW_BYTES]
        text = "".join(chr(byte) if byte in _PRINTABLE else "·" for byte in part)
        rows.append((part.hex(" "), text))
    return rows


def decoded_rows(values: Sequence[Decoded]) -> list[tuple[str, str, str, str]]:
    """Name, value, unit and quality of what a test brought."""
    return [(one.name, shown(one.value, one.resolution), pretty_unit(one.unit), one.quality) for one in values]

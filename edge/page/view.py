"""Why: the page shows devices as a technician thinks of them, most in need first; the gateway knows buses and scans.

Built anew for each page from what `weinao-gateway status` says and from the configuration. Words come later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from contract.readings import Reason, Value
from drivers.base import BusSpec, DeviceSpec, StreamSpec
from edge.page.causes import Pair, Plight

_ILL_STATES = frozenset({"failing", "backing off"})
# Nothing is wrong with the device when a number is withheld or nobody came by.
_HARMLESS = frozenset({Reason.TOO_FEW, Reason.NOBODY})
_UNITS = {"Cel": "°C", "deg": "°", "1": "", "By": "B", "W.h": "Wh", "kW.h": "kWh", "kvar.h": "kvarh", "V.A": "VA"}
MAX_TEXT_CHARS = 80


class Mood(IntEnum):
    """How a device is, the worst first."""

    FAILING = 0
    DOUBTFUL = 1
    WAITING = 2
    GOOD = 3

    @property
    def word(self) -> str:
        """Its name in texts and styles."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream now. value: the last one there was, as text; age_s: how old it is. plight: when it is not good."""

    name: str
    quantity: str
    unit: str
    value: str
    quality: str
    reason: Reason
    age_s: float | None
    plight: Plight | None

    @property
    def here(self) -> bool:
        """Whether the value is of now."""
        return self.quality in {"good", "uncertain", "bad"}


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device now. where: port or host. who: how it is called there. Seconds, milliseconds, percent."""

    name: str
    bus: str
    driver: str
    where: str
    who: Pair
    manufacturer: str
    model: str
    serial_number: str
    mood: Mood
    plight: Plight | None
    words: str
    last_good_s: float | None
    latency_ms: float | None
    latency_max_ms: float | None
    success_percent: float | None
    streams: tuple[StreamView, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """What the configuration says of a device."""

    bus: BusSpec
    device: DeviceSpec
    where: str
    serial: bool
    who: Pair
    streams: Mapping[str, StreamSpec] = field(repr=False)


def places_of(buses: Sequence[BusSpec]) -> dict[str, Place]:
    """Every device of the configuration, in its order."""
    found = {}
    for bus in buses:
        told = bus.model_dump(include={"serial_port", "host", "port", "transport"}, mode="json")
        where, serial = _where(bus, told)
        for device in bus.devices:
            unit = device.model_dump(include={"unit"}).get("unit")
            who = (device.name, f"“{device.name}”") if unit is None else (f"unit {unit}", f"{unit} 号单元")
            streams = {stream.name: stream for stream in device.streams}
            found[device.name] = Place(bus, device, where, serial, who, streams)
    return found


def _where(bus: BusSpec, told: Mapping[str, Any]) -> tuple[str, bool]:
    if port := told.get("serial_port"):
        return str(port), True
    if host := told.get("host"):
        port = told.get("port") or (802 if told.get("transport") == "tls" else 502 if bus.driver == "modbus" else None)
        shown = f"[{host}]" if ":" in str(host) else str(host)
        return (f"{shown}:{port}" if port else shown), False
    return bus.name, False


def devices_of(status: Mapping[str, Any], places: Mapping[str, Place]) -> list[DeviceView]:
    """Every configured device as it is now, the ill first, else in the configuration's order."""
    streams: dict[str, list[Mapping[str, Any]]] = {}
    for stream in status["streams"]:
        streams.setdefault(stream["device"], []).append(stream)
    told = {device["name"]: device for device in status["devices"]}
    reasons = {name: _reason(told[name], streams.get(name, [])) for name in places if name in told}
    cameras = status.get("cameras") or {}
    views = []
    for name, reason in reasons.items():
        plight = _plight(reason, places[name], reasons, places) if reason is not None else None
        words = told[name]["last_error"] if told[name]["reason"] else str(cameras.get(name, {}).get("error") or "")
        views.append(_device(told[name], places[name], streams.get(name, []), plight, words))
    return sorted(views, key=lambda view: view.mood)


def _reason(device: Mapping[str, Any], streams: Sequence[Mapping[str, Any]]) -> Reason | None:
    """Why the device as a whole fails, or None when it does not."""
    if device["state"] in _ILL_STATES:
        return Reason[str(device["reason"]).upper()] if device["reason"] else Reason.NONE
    missing = [Reason[str(stream["reason"]).upper()] for stream in streams if stream["quality"] == "missing"]
    if missing and len(missing) == len(streams) and missing[0] not in _HARMLESS:
        return missing[0]
    return None


def _plight(reason: Reason, place: Place, reasons: Mapping[str, Reason | None], places: Mapping[str, Place]) -> Plight:
    others = [name for name in places if places[name].bus is place.bus and name != place.device.name]
    well = tuple(places[name].who for name in others if name in reasons and reasons[name] is None)
    ill = sum(1 for name in others if reasons.get(name) is not None)
    return Plight(reason, place.who, place.where, place.serial, well, ill)


def _device(
    told: Mapping[str, Any],
    place: Place,
    streams: Sequence[Mapping[str, Any]],
    plight: Plight | None,
    words: str,
) -> DeviceView:
    views = tuple(_stream(stream, place) for stream in streams)
    mood = Mood.GOOD
    if plight is not None:
        mood = Mood.FAILING
    elif told["state"] == "unknown" or not views or all(view.quality == "unknown" for view in views):
        mood = Mood.WAITING
    elif any(view.plight is not None for view in views):
        mood = Mood.DOUBTFUL
    spec = place.device
    return DeviceView(
        name=spec.name,
        bus=place.bus.name,
        driver=place.bus.driver,
        where=place.where,
        who=place.who,
        manufacturer=spec.manufacturer,
        model=spec.model,
        serial_number=spec.serial_number or _read_serial_number(views),
        mood=mood,
        plight=plight,
        words=words,
        last_good_s=told["last_good_s"],
        latency_ms=told["latency_p50_ms"],
        latency_max_ms=told["latency_max_ms"],
        success_percent=told["success_percent"],
        streams=views,
    )


def _read_serial_number(streams: Sequence[StreamView]) -> str:
    """A serial number that the device tells itself, as a stream of that quantity."""
    return next((one.value for one in streams if one.quantity == "serial_number" and one.value), "")


def _stream(told: Mapping[str, Any], place: Place) -> StreamView:
    spec = place.streams.get(told["stream"])
    reason = Reason[str(told["reason"]).upper()]
    ill = told["quality"] not in {"good", "unknown"} and reason not in _HARMLESS
    return StreamView(
        name=told["stream"],
        quantity=spec.quantity if spec else "",
        unit=pretty_unit(told["unit"]),
        value=shown(told["value"], spec.resolution if spec else None),
        quality=told["quality"],
        reason=reason,
        age_s=told["age_s"],
        plight=Plight(reason, place.who, place.where, place.serial) if ill else None,
    )


def shown(value: Value | None, resolution: float | None) -> str:
    """A value as people read it: as many decimals as its resolution has; "" when there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if resolution is None:
            return f"{value:.6g}"
        decimals = len(f"{resolution:.9f}".rstrip("0").partition(".")[2])
        return f"{value:.{decimals}f}"
    return value.rstrip("\x00 ")[:MAX_TEXT_CHARS]


def pretty_unit(unit: str) -> str:
    """A UCUM unit as people write it."""
    if unit in _UNITS:
        return _UNITS[unit]
    if unit.startswith("{"):
        return ""
    return unit.replace("m3", "m³").replace("m2", "m²").replace("ug", "µg").replace("[", "").replace("]", "")

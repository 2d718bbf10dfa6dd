"""The birth: this gateway's catalogue, made of its configuration."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from contract.catalogue import Birth, Device, Stewardship, Stream, decode_birth
from drivers.base import BusSpec, DeviceSpec, StreamSpec
from edge.config import GatewaySection
from edge.streams import Entry


def make_birth(
    gateway: GatewaySection,
    buses: Sequence[BusSpec],
    entries: Iterable[Entry],
    *,
    software: str,
    models: Mapping[str, str] = MappingProxyType({}),
) -> Birth:
    """The catalogue of every published stream, in the order of their ids. models: vision models and their hashes."""
    specs = {device.name: device for bus in buses for device in bus.devices}
    devices = [
        _device(name, specs.get(name), [_stream(gateway, specs.get(name), entry) for entry in group])
        for name, group in groupby(sorted(entries, key=lambda entry: entry.id), key=lambda entry: entry.device)
    ]
    return Birth(
        gateway=gateway.id,
        area=gateway.area,
        site=gateway.site,
        software=software,
        models=dict(models),
        devices=tuple(_merged(devices)),
    )


def alarms_of(birth: bytes | None) -> frozenset[int]:
    """The ids of a birth's alarms, which are never thinned."""
    devices = decode_birth(birth).devices if birth else ()
    return frozenset(stream.id for device in devices for stream in device.streams if stream.alarm)


def _device(name: str, spec: DeviceSpec | None, streams: list[Stream]) -> Device:
    if spec is None:  # the gateway itself
        return Device(name=name, streams=tuple(streams))
    return Device(
        name=name,
        manufacturer=spec.manufacturer,
        model=spec.model,
        serial_number=spec.serial_number,
        site=spec.site,
        streams=tuple(streams),
    )


def _merged(devices: Iterable[Device]) -> Iterable[Device]:
    """A device once, also when its streams do not stand together."""
    found: dict[str, Device] = {}
    for device in devices:
        known = found.get(device.name)
        both = device if known is None else known.model_copy(update={"streams": known.streams + device.streams})
        found[device.name] = both
    return found.values()


def _stream(gateway: GatewaySection, device: DeviceSpec | None, entry: Entry) -> Stream:
    spec = entry.spec
    return Stream(
        id=entry.id,
        name=spec.name,
        quantity=spec.quantity,
        unit=spec.unit,
        type=spec.type,
        resolution=spec.resolution,
        valid_range=spec.valid_range,
        interval_s=entry.interval_s,
        scheduled=entry.scheduled,
        alarm=spec.alarm,
        stewardship=_stewardship(gateway, device, spec),
    )


def _stewardship(gateway: GatewaySection, device: DeviceSpec | None, stream: StreamSpec) -> Stewardship:
    """What the stream says, else its device, else the gateway. An empty text is said; None is not."""
    levels = [stream, *([device] if device is not None else [])]
    said = {}
    for name in Stewardship.model_fields:
        values = (getattr(level, name) for level in levels)
        said[name] = next((value for value in values if value is not None), getattr(gateway, name))
    return Stewardship(**said)

"""Our world in the standard's words: what each property of each entity type is, and where its relations lead.

Thing = device, Datastream = stream, Observation = reading, ObservedProperty = quantity, Sensor = model of device,
Location and FeatureOfInterest = place. Every text here is made of streams that the reader may know of.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

from cloud.hub.entries import Entry
from cloud.hub.sensorthings.geometry import point_json
from cloud.hub.sensorthings.values import NS, Instant
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import Entity, Item, Observed, has_position
from contract.readings import Kind, quality_of, reason_of
from contract.units import UNITS

GEOJSON = "application/geo+json"
_TYPES = "http://www.opengis.net/def/observationType/OGC-OM/2.0/"
_OBSERVATION_TYPES = {
    Kind.FLOAT: "OM_Measurement",
    Kind.INT: "OM_CountObservation",
    Kind.BOOL: "OM_TruthObservation",
    Kind.TEXT: "OM_Observation",
}


class Absent:
    """A property that this entity does not have: it is left out of answers, and null in filters."""


ABSENT: Final = Absent()
Property = Callable[[View, Item, Entry], Any]


def property_of(view: View, entity: Entity, name: str) -> Any:
    """A property's value: JSON, with times as Instant and Interval; ABSENT where there is none."""
    if isinstance(entity, Observed):
        return entity.id if name in {"id", "@iot.id"} else _OBSERVATION[name](view, entity)
    if name in {"id", "@iot.id"}:
        return entity.id
    entry = view.first(entity)
    return ABSENT if entry is None else _PROPERTIES[entity.kind][name](view, entity, entry)


def related(view: View, entity: Entity, name: str) -> list[Item]:
    """Where a relation leads, but to Observations."""
    if isinstance(entity, Observed):
        return [view.of_entry(entity.entry, name)]
    return view.related(entity, name)


def ask(entry: Entry) -> str:
    """Whom to ask for readings that one may not have."""
    owner = entry.owner or "its owner, whom no birth names"
    return f"{owner} ({entry.contact})" if entry.contact else owner


# -- Thing ---------------------------------------------------------------------------------------------------------


def _thing_name(_: View, __: Item, entry: Entry) -> str:
    return f"{entry.path.gateway}/{entry.device}"


def _thing_description(_: View, __: Item, entry: Entry) -> str:
    what = " ".join(part for part in (entry.manufacturer, entry.model) if part) or f"Device {entry.device}"
    return f"{what}, {_where(entry)}"


def _thing_properties(view: View, item: Item, entry: Entry) -> dict[str, Any]:
    members = view.members(item)
    view.spend(len(members))
    return {
        **_area(entry),
        "gateway": entry.path.gateway,
        "device": entry.device,
        "site": entry.site,
        "manufacturer": entry.manufacturer,
        "model": entry.model,
        "serialNumber": entry.serial_number,
        "owners": sorted({one.owner for one in members if one.owner}),
        "active": any(one.until_ns is None for one in members),
    }


def _area(entry: Entry) -> dict[str, str]:
    return {"city": entry.path.city, "district": entry.path.district, "street": entry.path.street}


def _where(entry: Entry) -> str:
    street = f"{entry.path.city}/{entry.path.district}/{entry.path.street}"
    return f"{entry.site}, {street}" if entry.site else street


# -- Location, HistoricalLocation, FeatureOfInterest -----------------------------------------------------------------


def _place_name(_: View, __: Item, entry: Entry) -> str:
    return entry.site or entry.path.gateway


def _place_description(_: View, __: Item, entry: Entry) -> str:
    return _where(entry)


def _place_properties(_: View, __: Item, entry: Entry) -> dict[str, Any]:
    return {**_area(entry), "site": entry.site}


def _location(_: View, __: Item, entry: Entry) -> Any:
    return _point(entry)


def _feature(_: View, __: Item, entry: Entry) -> dict[str, Any]:
    if has_position(entry):
        return point_json(entry.longitude or 0.0, entry.latitude or 0.0)
    return {"type": "Feature", "geometry": None, "properties": _area(entry)}


def _point(entry: Entry) -> Any:
    return point_json(entry.longitude or 0.0, entry.latitude or 0.0) if has_position(entry) else ABSENT


def _geojson(_: View, __: Item, ___: Entry) -> str:
    return GEOJSON


def _stay_time(_: View, item: Item, __: Entry) -> Instant:
    return Instant(item.time_ns)


# -- Datastream ----------------------------------------------------------------------------------------------------


def _stream_name(_: View, __: Item, entry: Entry) -> str:
    return f"{entry.path.gateway}/{entry.device}/{entry.stream}"


def _stream_description(_: View, __: Item, entry: Entry) -> str:
    return f"{entry.quantity} of {entry.device}, {_where(entry)}"


def _observation_type(_: View, __: Item, entry: Entry) -> str:
    return _TYPES + _OBSERVATION_TYPES[entry.kind]


def _unit(_: View, __: Item, entry: Entry) -> dict[str, str | None]:
    if entry.kind in {Kind.BOOL, Kind.TEXT}:
        return {"name": None, "symbol": None, "definition": None}
    definition = f"http://www.opengis.net/def/uom/UCUM/{quote(entry.unit, safe='')}"
    return {"name": UNITS.get(entry.unit, entry.unit), "symbol": entry.unit, "definition": definition}


def _stream_properties(view: View, _: Item, entry: Entry) -> dict[str, Any]:
    may_read = view.may_read(entry)
    properties: dict[str, Any] = {
        "stream": entry.id,
        "grade": entry.grade.value,
        "owner": entry.owner,
        "contact": entry.contact,
        "readable": may_read,
        "intervalSeconds": entry.interval_s,
        "scheduled": entry.scheduled,
        "alarm": entry.alarm,
        "resolution": entry.resolution,
        "validRange": entry.valid_range,
        "retention": entry.retention,
        "legalBasis": entry.legal_basis,
        "active": entry.until_ns is None,
        "newest": None,
    }
    sample = view.sample(entry)
    if sample is not None:
        properties["newest"] = {
            "time": Instant(sample.time_ns),
            "ageSeconds": _age(view, sample.time_ns),
            **_quality(sample.quality << 6 | sample.reason),
        }
    if not may_read:
        properties["ask"] = ask(entry)
    return properties


def _absent(_: View, __: Item, ___: Entry) -> Absent:
    return ABSENT


# -- Sensor, ObservedProperty --------------------------------------------------------------------------------------


def _sensor_name(_: View, __: Item, entry: Entry) -> str:
    return " ".join(part for part in (entry.manufacturer, entry.model, entry.serial_number) if part) or "unknown device"


def _sensor_description(_: View, __: Item, entry: Entry) -> str:
    if not (entry.manufacturer or entry.model or entry.serial_number):
        return "A device whose birth names no manufacturer and no model"
    return f"Model {entry.model or 'unknown'} by {entry.manufacturer or 'an unknown manufacturer'}"


def _sensor_metadata(_: View, __: Item, entry: Entry) -> str:
    return f"manufacturer: {entry.manufacturer}; model: {entry.model}; serial number: {entry.serial_number}"


def _sensor_properties(_: View, __: Item, entry: Entry) -> dict[str, Any]:
    return {"manufacturer": entry.manufacturer, "model": entry.model, "serialNumber": entry.serial_number}


def _plain_text(_: View, __: Item, ___: Entry) -> str:
    return "text/plain"


def _quantity_name(_: View, __: Item, entry: Entry) -> str:
    return entry.quantity


def _quantity_definition(_: View, __: Item, entry: Entry) -> str:
    return f"urn:weinao:quantity:{quote(entry.quantity, safe='')}"


def _quantity_description(_: View, __: Item, entry: Entry) -> str:
    return f"The quantity '{entry.quantity}', as the births of the gateways call it"


def _no_properties(_: View, __: Item, ___: Entry) -> dict[str, Any]:
    return {}


_PROPERTIES: Mapping[str, Mapping[str, Property]] = {
    "Thing": {"name": _thing_name, "description": _thing_description, "properties": _thing_properties},
    "Location": {
        "name": _place_name,
        "description": _place_description,
        "encodingType": _geojson,
        "location": _location,
        "properties": _place_properties,
    },
    "HistoricalLocation": {"time": _stay_time},
    "FeatureOfInterest": {
        "name": _place_name,
        "description": _place_description,
        "encodingType": _geojson,
        "feature": _feature,
        "properties": _place_properties,
    },
    "Datastream": {
        "name": _stream_name,
        "description": _stream_description,
        "observationType": _observation_type,
        "unitOfMeasurement": _unit,
        "observedArea": _absent,
        "phenomenonTime": _absent,  # answers.py fills these two where it is worth a question to the store
        "resultTime": _absent,
        "properties": _stream_properties,
    },
    "Sensor": {
        "name": _sensor_name,
        "description": _sensor_description,
        "encodingType": _plain_text,
        "metadata": _sensor_metadata,  # text: a real client falls over an object
        "properties": _sensor_properties,
    },
    "ObservedProperty": {
        "name": _quantity_name,
        "definition": _quantity_definition,
        "description": _quantity_description,
        "properties": _no_properties,
    },
}

# -- Observation ---------------------------------------------------------------------------------------------------

QUALITIES: tuple[Literal["good", "uncertain", "bad", "missing"], ...] = ("good", "uncertain", "bad", "missing")


def reason_text(status: int) -> str:
    """The reason in a status byte, as every answer of the hub spells it."""
    return reason_of(status).name.lower()


def _quality(status: int) -> dict[str, str]:
    return {"quality": QUALITIES[quality_of(status)], "reason": reason_text(status)}


def _age(view: View, time_ns: int) -> float:
    return round((view.now_ns - time_ns) / NS, 3)


_OBSERVATION: Mapping[str, Callable[[View, Observed], Any]] = {
    "phenomenonTime": lambda _, one: Instant(one.time_ns),
    "resultTime": lambda _, one: Instant(one.time_ns),
    "result": lambda _, one: one.value,
    "resultQuality": lambda _, one: _quality(one.status),
    "parameters": lambda view, one: {"ageSeconds": _age(view, one.time_ns)},
}

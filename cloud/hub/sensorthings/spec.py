"""What the standard says: the eight entity types of OGC SensorThings API 1.1 (18-088), their properties and relations.

Nothing of our world is in here: model.py fills these shapes. A later version of the standard is another such file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CONFORMANCE = (
    "http://www.opengis.net/spec/iot_sensing/1.1/req/datamodel",
    "http://www.opengis.net/spec/iot_sensing/1.1/req/resource-path/resource-path-to-entities",
    "http://www.opengis.net/spec/iot_sensing/1.1/req/request-data",
)  # not data-array: that class asks for creation too

ID_NAMES = ("id", "@iot.id")
SELF_LINK = "@iot.selfLink"


@dataclass(frozen=True, slots=True)
class Navigation:
    """A relation: its name in paths, the type it leads to, and whether to a collection."""

    name: str
    target: str
    many: bool


@dataclass(frozen=True, slots=True, eq=False)
class EntityType:
    """One type. set_name: its collection. properties: in the order of answers. json: those that hold free JSON."""

    name: str
    set_name: str
    properties: tuple[str, ...]
    json: frozenset[str]
    navigations: Mapping[str, Navigation]

    def navigation(self, name: str) -> Navigation | None:
        """The relation of this name; clients mix up `Thing` and `Things`, which cannot be misunderstood."""
        found = self.navigations.get(name)
        if found is not None:
            return found
        return next((one for one in self.navigations.values() if name in _names(one.target)), None)


def _names(target: str) -> tuple[str, str]:
    return target, TYPES[target].set_name


def _type(name: str, set_name: str, properties: str, json: str, one: str, many: str) -> EntityType:
    targets = {"Locations": "Location", "Things": "Thing", "HistoricalLocations": "HistoricalLocation"}
    targets |= {"Datastreams": "Datastream", "Observations": "Observation"}
    relations = [Navigation(target, target, many=False) for target in one.split()]
    relations += [Navigation(plural, targets[plural], many=True) for plural in many.split()]
    return EntityType(
        name,
        set_name,
        tuple(properties.split()),
        frozenset(json.split()),
        MappingProxyType({relation.name: relation for relation in relations}),
    )


TYPES: Mapping[str, EntityType] = MappingProxyType(
    {
        entity_type.name: entity_type
        for entity_type in (
            _type(
                "Thing",
                "Things",
                "name description properties",
                "properties",
                "",
                "Datastreams Locations HistoricalLocations",
            ),
            _type(
                "Location",
                "Locations",
                "name description encodingType location properties",
                "location properties",
                "",
                "Things HistoricalLocations",
            ),
            _type("HistoricalLocation", "HistoricalLocations", "time", "", "Thing", "Locations"),
            _type(
                "Datastream",
                "Datastreams",
                "name description observationType unitOfMeasurement observedArea phenomenonTime resultTime properties",
                "unitOfMeasurement observedArea properties",
                "Thing Sensor ObservedProperty",
                "Observations",
            ),
            _type(
                "Sensor",
                "Sensors",
                "name description encodingType metadata properties",
                "properties",
                "",
                "Datastreams",
            ),
            _type(
                "ObservedProperty",
                "ObservedProperties",
                "name definition description properties",
                "properties",
                "",
                "Datastreams",
            ),
            _type(
                "Observation",
                "Observations",
                "phenomenonTime resultTime result resultQuality parameters",
                "resultQuality parameters",
                "Datastream FeatureOfInterest",
                "",
            ),
            _type(
                "FeatureOfInterest",
                "FeaturesOfInterest",
                "name description encodingType feature properties",
                "feature properties",
                "",
                "Observations",
            ),
        )
    }
)
SETS: Mapping[str, EntityType] = MappingProxyType({one.set_name: one for one in TYPES.values()})

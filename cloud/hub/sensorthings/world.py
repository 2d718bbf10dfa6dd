"""The catalogue as things, places, sensors and observed properties: grouped once for each version of it.

A Datastream's number is the catalogue's. The others are groups of streams, told by a number that is made of what the
group is, not of when it was seen, so that it survives restarts and purges. It has 31 bits, because real clients keep
ids in an int; where two groups meet on one number, the older keeps it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloud.hub.entries import Entry

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """An entity that is no Observation. key: what makes it itself. entries: the streams it has, invisible ones too.

    time_ns: since when, of a HistoricalLocation alone.
    """

    kind: str
    id: int | str
    key: Key
    entries: Sequence[Entry]
    time_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One reading as an Observation. value: None where the database holds quality alone."""

    entry: Entry
    time_ns: int
    value: object
    status: int

    @property
    def kind(self) -> str:
        """The entity type."""
        return "Observation"

    @property
    def id(self) -> str:
        """`<stream number>-<ns>`: the same for as long as the reading exists."""
        return f"{self.entry.number}-{self.time_ns}"


Entity = Item | Observed


def thing_key(entry: Entry) -> Key:
    """A Thing is a device of a gateway."""
    return entry.path, entry.device


def place_key(entry: Entry) -> Key:
    """A Location and a FeatureOfInterest are a place: its area, its name, where on the globe."""
    path = entry.path
    area = (path.city, path.district, path.street)
    if has_position(entry):
        return *area, entry.site, entry.latitude, entry.longitude
    return *area, entry.site or path.gateway, None, None


def has_position(entry: Entry) -> bool:
    """Whether anybody said where it is."""
    return entry.latitude is not None and entry.longitude is not None


def sensor_key(entry: Entry) -> Key:
    """A Sensor is a model, or one instrument of it where the serial number is known."""
    return entry.manufacturer, entry.model, entry.serial_number


def quantity_key(entry: Entry) -> Key:
    """An ObservedProperty is a quantity."""
    return (entry.quantity,)


class Groups:
    """Streams by one key, in the order of their oldest stream. ids: 1 to 2**31 - 1."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._members: dict[Key, list[Entry]] = {}
        self._items: dict[Key, Item] = {}
        self._by_id: dict[int, Item] = {}

    def add(self, key: Key, entry: Entry) -> None:
        """Put a stream where it belongs. Streams come by number."""
        self._members.setdefault(key, []).append(entry)

    def close(self) -> None:
        """Every stream is there: give out the ids."""
        for key, members in self._members.items():
            wanted = number_of(key)
            while wanted in self._by_id:
                wanted = wanted % 0x7FFFFFFF + 1
            item = Item(self._kind, wanted, key, members)
            self._items[key] = self._by_id[wanted] = item

    def of_key(self, key: Key) -> Item | None:
        """The group of this key."""
        return self._items.get(key)

    def of_id(self, number: int) -> Item | None:
        """The group of this id."""
        return self._by_id.get(number)

    def all(self) -> Iterable[Item]:
        """Every group, the oldest first."""
        return self._items.values()


def number_of(key: Key) -> int:
    """A number of 31 bits, 1 or more, that this key has wherever and whenever it is asked."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 0x7FFFFFFF + 1


class World:
    """Everything that is no reading, of one version of the catalogue. Immutable once built: many threads read it."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.streams: dict[int, Entry] = {}
        self._paths: dict[str, set[object]] = {}
        self.things = Groups("Thing")
        self.places = Groups("Location")
        self.features = Groups("FeatureOfInterest")
        self.sensors = Groups("Sensor")
        self.quantities = Groups("ObservedProperty")
        for entry in entries:
            self.streams[entry.number] = entry
            self._paths.setdefault(entry.path.gateway, set()).add(entry.path)
            self.things.add(thing_key(entry), entry)
            self.sensors.add(sensor_key(entry), entry)
            self.quantities.add(quantity_key(entry), entry)
            place = place_key(entry)
            self.features.add(place, entry)
            if has_position(entry):
                self.places.add(place, entry)
        self.groups: Mapping[str, Groups] = {
            "Thing": self.things,
            "Location": self.places,
            "FeatureOfInterest": self.features,
            "Sensor": self.sensors,
            "ObservedProperty": self.quantities,
        }
        for groups in self.groups.values():
            groups.close()

    def is_alone(self, entry: Entry) -> bool:
        """Whether no gateway elsewhere has this one's name: the store counts by name."""
        return len(self._paths[entry.path.gateway]) == 1


def datastream(entry: Entry) -> Item:
    """The Datastream of a stream."""
    return Item("Datastream", entry.number, (entry.number,), (entry,))

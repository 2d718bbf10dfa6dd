"""One request's view of the world: what this reader may see of it, at one moment, with so much work.

Everything that an answer or a filter looks at comes through here, and through cloud.hub.access: an invisible stream is
not there, an unreadable one has no readings.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Protocol

from cloud.hub.access import Reader, audited, readable, visible
from cloud.hub.entries import Entry
from cloud.hub.parts import Newest, Sample
from cloud.hub.problems import TooMuch
from cloud.hub.sensorthings.world import (
    Item,
    Observed,
    World,
    datastream,
    has_position,
    place_key,
    quantity_key,
    sensor_key,
    thing_key,
)
from cloud.stores.base import Columns, Selector, Series
from contract.readings import Quality

MAX_STEPS = 3_000_000
MAX_POINTS = 1_000_000
_VERSIONS_STEPS = 1000  # a question to the hub's database, in steps of evaluation


class Source(Protocol):
    """Where readings and history come from, as a worker thread asks for them. All raise StoreUnavailable."""

    def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int) -> Columns:
        """See Store.columns."""

    def count(self, selector: Selector) -> dict[tuple[str, str, str], int]:
        """See Store.count."""

    def versions(self, number: int) -> list[Entry]:
        """See Entries.versions."""


class Sight:
    """What one reader may know and have at `now_ns`, and how much work is left.

    touched: the streams above grade `open` whose readings were looked at.
    """

    def __init__(
        self,
        world: World,
        reader: Reader,
        newest: Newest,
        source: Source,
        now_ns: int,
        *,
        max_steps: int = MAX_STEPS,
        max_points: int = MAX_POINTS,
    ) -> None:
        self.world = world
        self.source = source
        self.now_ns = now_ns
        self.touched: dict[int, Entry] = {}
        self._reader = reader
        self._newest = newest
        self._steps_left = max_steps
        self._points_left = max_points

    def spend(self, steps: int) -> None:
        """Account for work. Raises TooMuch when a request has done enough."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise TooMuch("this would look at too many entities; narrow $filter or $expand, or ask a smaller set")

    def spend_points(self, points: int) -> None:
        """Account for readings of the store. Raises TooMuch when a request has looked at enough."""
        self._points_left -= points
        if self._points_left < 0:
            raise TooMuch(
                f"this would look at more than {MAX_POINTS} readings; narrow $filter by phenomenonTime, ask fewer "
                "Datastreams, or leave out $count and filters on results"
            )

    def may_read(self, entry: Entry) -> bool:
        """The rule."""
        return readable(self._reader, entry)

    def stream(self, number: int) -> Entry | None:
        """The stream of this number, if it may be known of."""
        entry = self.world.streams.get(number)
        return entry if entry is not None and visible(self._reader, entry) else None

    def members(self, item: Item) -> list[Entry]:
        """The streams of an entity that may be known of."""
        return [entry for entry in item.entries if visible(self._reader, entry)]

    def first(self, item: Item) -> Entry | None:
        """One stream of an entity that may be known of: what is said of the entity is said by its streams."""
        return next((entry for entry in item.entries if visible(self._reader, entry)), None)

    def readable_members(self, item: Item) -> list[Entry]:
        """The streams of an entity whose readings may be had."""
        return [entry for entry in item.entries if readable(self._reader, entry)]

    def sees(self, item: Item) -> bool:
        """Whether the entity has anything that may be known of."""
        return self.first(item) is not None

    def sample(self, entry: Entry) -> Sample | None:
        """The newest reading of a stream, from memory; None where there is none, or none for this reader."""
        if not self.may_read(entry):
            return None
        sample = self._newest.get(entry.number)
        return sample if sample is not None and sample.quality is not Quality.MISSING else None

    def newest(self, entry: Entry) -> Observed | None:
        """The same as an Observation, which is a value read."""
        sample = self.sample(entry)
        if sample is None:
            return None
        self.touch(entry)
        return Observed(entry, sample.time_ns, sample.value, sample.quality << 6 | sample.reason)

    def touch(self, entry: Entry) -> None:
        """Values of this stream are looked at, if only by a filter."""
        if audited(entry):
            self.touched[entry.number] = entry


class View(Sight):
    """The entities that one reader sees, and the ways between them."""

    def all(self, kind: str) -> Iterator[Item]:
        """Every entity of a type, but for Observations; the oldest first."""
        if kind == "Datastream":
            for entry in self.world.streams.values():
                self.spend(1)
                if visible(self._reader, entry):
                    yield datastream(entry)
        elif kind == "HistoricalLocation":
            for thing in self.all("Thing"):
                yield from self.history(thing)
        else:
            for item in self.world.groups[kind].all():
                self.spend(1)
                if self.sees(item):
                    yield item

    def find(self, kind: str, key: int | str) -> Item | None:
        """The entity of this id, if it may be known of; not for Observations."""
        if isinstance(key, str):
            return self._dated(kind, key)
        if kind == "Datastream":
            entry = self.stream(key)
            return None if entry is None else datastream(entry)
        groups = self.world.groups.get(kind)
        item = None if groups is None else groups.of_id(key)
        return item if item is not None and self.sees(item) else None

    def related(self, item: Item, name: str) -> list[Item]:
        """Where a relation leads, but to Observations; only what may be known of."""
        found = self._related(item, name)
        self.spend(1 + len(found))
        return found

    def of_entry(self, entry: Entry, name: str) -> Item:
        """The Thing, Sensor, ObservedProperty, Datastream or FeatureOfInterest of one visible stream."""
        match name:
            case "Datastream":
                return datastream(entry)
            case "Thing":
                found = self.world.things.of_key(thing_key(entry))
            case "Sensor":
                found = self.world.sensors.of_key(sensor_key(entry))
            case "ObservedProperty":
                found = self.world.quantities.of_key(quantity_key(entry))
            case _:
                found = self.world.features.of_key(place_key(entry))
        assert found is not None  # noqa: S101 - every stream of the world is in its groups
        return found

    def history(self, thing: Item) -> list[Item]:
        """The HistoricalLocations of a Thing, the oldest first: where its device was known to be, since when."""
        anchor = self._anchor(thing)
        if anchor is None:
            return []
        versions = [anchor]
        if anchor.version > 1:
            self.spend(_VERSIONS_STEPS)
            versions = [one for one in self.source.versions(anchor.number) if visible(self._reader, one)] or versions
        found: list[Item] = []
        before: object = None
        for version in versions:
            place = place_key(version) if has_position(version) else None
            if place is not None and place != before:
                name = f"{thing.id}-{version.since_ns}"
                found.append(Item("HistoricalLocation", name, (thing.key, place), (version,), version.since_ns))
            before = place
        return found

    def _related(self, item: Item, name: str) -> list[Item]:
        way = self._WAYS.get((item.kind, name))
        if way is not None:
            return way(self, item)
        if name == "Datastreams":
            return [datastream(entry) for entry in self.members(item)]
        return [self.of_entry(item.entries[0], name)]

    def _here(self, thing: Item) -> list[Item]:
        anchor = self._anchor(thing)
        here = None if anchor is None else self.world.places.of_key(place_key(anchor))
        return [] if here is None else [here]

    def _things(self, place: Item) -> list[Item]:
        """The devices that are there now."""
        if isinstance(place.id, str):
            return []
        things = {thing_key(entry): self.of_entry(entry, "Thing") for entry in self.members(place)}
        return [thing for thing in things.values() if self._is_at(thing, place)]

    def _anchor(self, thing: Item) -> Entry | None:
        """The stream that says where a device is: its oldest that is still in the birth, else its oldest."""
        members = self.members(thing)
        return next((entry for entry in members if entry.until_ns is None), members[0] if members else None)

    def _is_at(self, thing: Item, place: Item) -> bool:
        anchor = self._anchor(thing)
        return anchor is not None and place_key(anchor) == place.key

    def _location(self, stay: Item) -> Item:
        """The Location of a HistoricalLocation; where nothing is any more, it goes by the stay's id."""
        entry = stay.entries[0]
        here = self.world.places.of_key(place_key(entry))
        if here is not None and self.sees(here):
            return here
        return Item("Location", stay.id, place_key(entry), (entry,))

    def _there(self, stay: Item) -> list[Item]:
        return [self._location(stay)]

    def _stays(self, location: Item) -> list[Item]:
        if isinstance(location.id, str):
            stay = self._dated("HistoricalLocation", location.id)
            return [] if stay is None else [stay]
        things = self.related(location, "Things")
        return [stay for thing in things for stay in self.history(thing) if stay.key[1] == location.key]

    def _dated(self, kind: str, key: str) -> Item | None:
        """What `<thing>-<ns>` names."""
        number = key.partition("-")[0]
        if kind not in {"HistoricalLocation", "Location"} or not _is_number(number):
            return None
        thing = self.find("Thing", int(number))
        stay = None if thing is None else next((one for one in self.history(thing) if one.id == key), None)
        if stay is None or kind == "HistoricalLocation":
            return stay
        location = self._location(stay)
        return location if location.id == key else None

    _WAYS: ClassVar[Mapping[tuple[str, str], Callable[["View", Item], list[Item]]]] = {
        ("Thing", "Locations"): _here,
        ("Thing", "HistoricalLocations"): history,
        ("Location", "Things"): _things,
        ("Location", "HistoricalLocations"): _stays,
        ("HistoricalLocation", "Locations"): _there,
    }


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10

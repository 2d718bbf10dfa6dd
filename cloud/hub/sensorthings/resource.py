"""The path of a request: which entity, collection, property or reference it names, and whether this reader may have it.

`Things(5)/Datastreams(7)/Observations('7-1764')/result/$value` walks from entity to entity; whoever may not know of one
of them hears that it is not there, whoever may not have its readings hears whom to ask.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cloud.hub.entries import Entry
from cloud.hub.problems import BadQuery, NotThere
from cloud.hub.sensorthings.model import related
from cloud.hub.sensorthings.observations import forbidden, observation, observation_key
from cloud.hub.sensorthings.spec import ID_NAMES, SELF_LINK, SETS, TYPES, EntityType, Navigation
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import Entity, Item, Observed

MAX_PATH = 1000
MAX_SEGMENTS = 16
_SEGMENT = re.compile(r"([A-Za-z@.$]{1,40})(?:\(\s*('[^']{1,100}'|[\w.\-]{1,100})\s*\))?", re.ASCII)

Form = Literal["entity", "collection", "property"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names. path: as links write it.

    items or entries: the members of a collection; entries are the streams whose Observations it has. entity: the one
    entity, or whose property it is. keys: the property and the way into it. value, reference: `/$value` and `/$ref`.
    """

    entity_type: EntityType
    path: str
    form: Form
    entity: Entity | None = None
    items: Iterable[Item] | None = None
    entries: Sequence[Entry] = ()
    keys: tuple[str, ...] = ()
    value: bool = False
    reference: bool = False


def resolve(view: View, path: str) -> Target:
    """What `path`, without leading slash, names. Raises NotThere, NotAllowed and BadQuery."""
    segments = [part for part in path.strip("/").split("/") if part]
    if len(path) > MAX_PATH or len(segments) > MAX_SEGMENTS:
        raise BadQuery("path", f"at most {MAX_SEGMENTS} segments and {MAX_PATH} characters")
    walker = _Walker(view)
    target = walker.start(segments[0])
    for segment in segments[1:]:
        target = walker.step(target, segment)
    return target


def key_text(key: int | str) -> str:
    """An id in a path: numbers plain, texts in quotes."""
    return str(key) if isinstance(key, int) else f"'{key}'"


def _taken_apart(segment: str) -> tuple[str, int | str | None]:
    match = _SEGMENT.fullmatch(segment)
    if match is None:
        raise NotThere(f"no such path: {segment[:80]!r}")
    name, key = match.groups()
    if key is None:
        return name, None
    if key.startswith("'"):
        return name, key[1:-1]
    return name, int(key) if key.isdecimal() and len(key) <= 18 else key


class _Walker:
    """Walks a path, segment by segment."""

    def __init__(self, view: View) -> None:
        self._view = view

    def start(self, segment: str) -> Target:
        """The first segment: a set, or one entity of it."""
        name, key = _taken_apart(segment)
        if name not in SETS:
            raise NotThere(f"no such set: {name[:40]!r}; there are {', '.join(SETS)}")
        entity_type = SETS[name]
        if key is not None:
            return self._entity(entity_type, self._find(entity_type, key), "")
        if entity_type.name == "Observation":
            return Target(entity_type, name, "collection", entries=self._all_readable())
        return Target(entity_type, name, "collection", items=self._view.all(entity_type.name))

    def step(self, target: Target, segment: str) -> Target:
        """The next segment."""
        if target.value or target.reference:
            raise NotThere(f"nothing comes after $value and $ref: {segment[:80]!r}")
        if segment == "$ref" and target.form != "property":
            return replace(target, path=f"{target.path}/$ref", reference=True)
        if segment == "$value" and target.form == "property":
            return replace(target, path=f"{target.path}/$value", value=True)
        if target.form == "property":
            return self._deeper(target, segment)
        if target.entity is None:
            raise NotThere(f"{target.path} is a collection; write {target.path}(ID) or {target.path}/$ref")
        name, key = _taken_apart(segment)
        relation = target.entity_type.navigation(name)
        if relation is not None:
            return self._follow(target, target.entity, relation, key)
        known = (*target.entity_type.properties, *ID_NAMES, SELF_LINK)
        if name not in known or key is not None:
            names = ", ".join((*target.entity_type.properties, *target.entity_type.navigations))
            raise NotThere(f"{target.entity_type.name} has no {segment[:40]!r}; it has {names}")
        return replace(target, path=f"{target.path}/{name}", form="property", keys=(name,))

    def _deeper(self, target: Target, segment: str) -> Target:
        if target.keys[0] not in target.entity_type.json:
            raise NotThere(f"{target.path} has no parts")
        return replace(target, path=f"{target.path}/{segment}", keys=(*target.keys, segment))

    def _entity(self, entity_type: EntityType, entity: Entity, path: str) -> Target:
        own = path or f"{entity_type.set_name}({key_text(entity.id)})"
        return Target(entity_type, own, "entity", entity=entity)

    def _follow(self, target: Target, entity: Entity, relation: Navigation, key: int | str | None) -> Target:
        entity_type = TYPES[relation.target]
        path = f"{target.path}/{relation.name}"
        if relation.target == "Observation":
            return self._observations(entity, entity_type, path, key)
        found = related(self._view, entity, relation.name)
        if not relation.many:
            if key is not None:
                raise NotThere(f"{path} is one {relation.target}; leave out its id")
            return self._entity(entity_type, found[0], path)
        if key is None:
            return Target(entity_type, path, "collection", items=found)
        one = next((item for item in found if item.id == key), None)
        if one is None:
            raise NotThere(f"{path} has no {key_text(key)}")
        return self._entity(entity_type, one, f"{path}({key_text(key)})")

    def _observations(self, entity: Entity, entity_type: EntityType, path: str, key: int | str | None) -> Target:
        assert isinstance(entity, Item)  # noqa: S101 - no relation leads from an Observation to Observations
        if entity.kind == "Datastream" and not self._view.may_read(entity.entries[0]):
            raise forbidden(entity.entries[0])
        entries = self._view.readable_members(entity)
        if key is None:
            return Target(entity_type, path, "collection", entries=entries)
        one = self._reading(key)
        if one.entry.number not in {entry.number for entry in entries}:
            raise NotThere(f"{path} has no {key_text(key)}")
        return self._entity(entity_type, one, f"{path}({key_text(key)})")

    def _all_readable(self) -> list[Entry]:
        found = [item.entries[0] for item in self._view.all("Datastream")]
        return [entry for entry in found if self._view.may_read(entry)]

    def _find(self, entity_type: EntityType, key: int | str) -> Entity:
        found = self._reading(key) if entity_type.name == "Observation" else self._view.find(entity_type.name, key)
        if found is None:
            raise NotThere(f"no such entity: {entity_type.set_name}({key_text(key)})")
        return found

    def _reading(self, key: int | str) -> Observed:
        parts = observation_key(key) if isinstance(key, str) else None
        entry = None if parts is None else self._view.stream(parts[0])
        if entry is not None and not self._view.may_read(entry):
            raise forbidden(entry)
        one = None if parts is None or entry is None else observation(self._view, entry, parts[1])
        if one is None:
            raise NotThere(f"no such entity: Observations({key_text(key)})")
        return one

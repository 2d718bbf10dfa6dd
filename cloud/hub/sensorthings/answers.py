"""Answers: entities and collections as SensorThings JSON, with links, selections, expansions and pages."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from cloud.hub.entries import Entry
from cloud.hub.problems import TooMuch
from cloud.hub.sensorthings.model import ABSENT, property_of, related
from cloud.hub.sensorthings.observations import Feed, extent, forbidden
from cloud.hub.sensorthings.order import sorted_by
from cloud.hub.sensorthings.query import Expand, Query
from cloud.hub.sensorthings.resource import Target, key_text
from cloud.hub.sensorthings.spec import CONFORMANCE, ID_NAMES, SELF_LINK, SETS, TYPES
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import Entity, Item
from contract.errors import StoreUnavailable

log = logging.getLogger(__name__)

MAX_RENDERED = 100_000
PAGE_RENDERED = 20_000  # a page with expansions ends after so many entities, and says where it goes on
_DATA_ARRAY = ("id", "phenomenonTime", "resultTime", "result", "resultQuality", "parameters")
_EXTENTS = ("phenomenonTime", "resultTime")


def root(base: str) -> dict[str, Any]:
    """The service document. base: the address of the service, without a slash at its end."""
    return {
        "value": [{"name": name, "url": f"{base}/{name}"} for name in SETS],
        "serverSettings": {"conformance": list(CONFORMANCE)},
    }


class Answers:
    """Renders for one request. base: the address of the service, without a slash at its end."""

    def __init__(self, view: View, base: str) -> None:
        self._view = view
        self._base = base
        self._rendered = 0

    def collection(self, target: Target, query: Query) -> dict[str, Any]:
        """A page of a collection: entities, references, or a data array."""
        url = f"{self._base}/{target.path}"
        if target.items is not None:
            found, count, after = self._items(target.items, query, references=target.reference, whole=True)
        else:
            feed = Feed(self._view, target.entries, query)
            refused = feed.refused()
            if refused is not None:
                raise forbidden(refused)
            if query.data_array and not target.reference:
                return self._data_array(feed, query, url)
            found, count, after = self._observations(feed, query, references=target.reference)
        return self._page(found, count, query, after, url)

    def entity(self, entity: Entity, query: Query) -> dict[str, Any]:
        """One entity by itself."""
        return self._entity(entity, query, alone=True)

    def reference(self, entity: Entity) -> dict[str, Any]:
        """Where one entity is."""
        return {SELF_LINK: self._link(entity)}

    def value(self, entity: Entity, keys: Sequence[str]) -> Any:
        """A property of an entity, or a part of it; ABSENT where there is none."""
        if keys[0] == SELF_LINK:
            return self._link(entity)
        found = self._property(entity, keys[0], asked=True)
        for key in keys[1:]:
            found = found.get(key, ABSENT) if isinstance(found, dict) else ABSENT
        return found

    # -- pages -----------------------------------------------------------------------------------------------------

    def _page(
        self, found: list[Any], count: int | None, query: Query, after: tuple[str, str] | None, url: str
    ) -> dict[str, Any]:
        document: dict[str, Any] = {} if count is None else {"@iot.count": count}
        if after is not None:
            document["@iot.nextLink"] = f"{url}?{query.link(**dict([after]))}"
        document["value"] = found
        return document

    def _items(
        self, items: Iterable[Item], query: Query, *, references: bool = False, whole: bool = False
    ) -> tuple[list[Any], int | None, tuple[str, str] | None]:
        """The entities of a page, how many there are on all pages if asked, and where the next page begins.

        whole: of the request's own collection, which may end a page early when expansions make it large.
        """
        chosen, count = self._chosen(items, query)
        page, more = chosen[: query.top], len(chosen) > query.top > 0
        found: list[Any] = []
        for item in page:
            if whole and found and self._rendered > PAGE_RENDERED:
                more = True
                break
            found.append(self.reference(item) if references else self._entity(item, query))
        return found, count, ("skip", str(query.skip + len(found))) if more else None

    def _chosen(self, items: Iterable[Item], query: Query) -> tuple[list[Item], int | None]:
        """What passes the filter from the page's first entity to one behind its last, in order, and the count."""
        passing: Iterator[Item] = iter(items)
        if query.filter is not None:
            holds = query.filter.holds
            passing = (item for item in passing if holds(self._view, item))
        end = query.skip + query.top + 1
        if query.order:
            ordered = sorted_by(self._view, list(passing), query.order)
            return ordered[query.skip : end], len(ordered) if query.count else None
        if not query.count:
            return list(islice(passing, query.skip, end)), None
        chosen, count = [], 0
        for item in passing:
            if query.skip <= count < end:
                chosen.append(item)
            count += 1
        return chosen, count

    def _observations(
        self, feed: Feed, query: Query, *, references: bool = False
    ) -> tuple[list[Any], int | None, tuple[str, str] | None]:
        page = feed.page()
        count = feed.count() if query.count else None
        if references:
            return [self.reference(one) for one in page.observations], count, page.after
        return [self._entity(one, query) for one in page.observations], count, page.after

    def _data_array(self, feed: Feed, query: Query, url: str) -> dict[str, Any]:
        """The Observations of a page as rows, one group a Datastream."""
        page = feed.page()
        count = feed.count() if query.count else None
        names: tuple[str, ...] = _DATA_ARRAY
        if query.select is not None:
            asked = {"id" if keys[0] in ID_NAMES else keys[0] for keys in query.select}
            names = tuple(name for name in _DATA_ARRAY if name in asked)
        groups: dict[int, dict[str, Any]] = {}
        for one in page.observations:
            self._count_rendered()
            number = one.entry.number
            if number not in groups:
                link = f"{self._base}/Datastreams({number})"
                groups[number] = {"Datastream@iot.navigationLink": link, "components": list(names), "dataArray": []}
            groups[number]["dataArray"].append([property_of(self._view, one, name) for name in names])
        for group in groups.values():
            group["dataArray@iot.count"] = len(group["dataArray"])
        return self._page(list(groups.values()), count, query, page.after, url)

    # -- entities --------------------------------------------------------------------------------------------------

    def _entity(self, entity: Entity, query: Query, *, alone: bool = False) -> dict[str, Any]:
        self._count_rendered()
        entity_type, own = TYPES[entity.kind], self._link(entity)
        document: dict[str, Any] = {}
        if query.select is None:
            document["@iot.selfLink"] = own
            document["@iot.id"] = entity.id
            for name in entity_type.properties:
                found = self._property(entity, name, asked=alone)
                if found is not ABSENT:
                    document[name] = found
            for name in entity_type.navigations:
                document[f"{name}@iot.navigationLink"] = f"{own}/{name}"
        else:
            for keys in query.select:
                self._select(document, entity, keys, own)
        for expand in query.expand:
            self._expand(document, entity, expand, own)
        return document

    def _select(self, document: dict[str, Any], entity: Entity, keys: tuple[str, ...], own: str) -> None:
        name = keys[0]
        if name in ID_NAMES:
            document["@iot.id"] = entity.id
        elif name == SELF_LINK:
            document[SELF_LINK] = own
        elif name in TYPES[entity.kind].navigations:
            document[f"{name}@iot.navigationLink"] = f"{own}/{name}"
        else:
            found = self._property(entity, name, asked=True)
            if len(keys) == 1:
                if found is not ABSENT:
                    document[name] = found
            else:
                _put(document, found, keys)

    def _property(self, entity: Entity, name: str, *, asked: bool) -> Any:
        """asked: it is worth a question to the store; a Datastream has its extent there."""
        if not (asked and name in _EXTENTS and isinstance(entity, Item) and entity.kind == "Datastream"):
            return property_of(self._view, entity, name)
        try:
            return extent(self._view, entity.entries[0])
        except StoreUnavailable as error:
            log.debug("a Datastream is shown without its extent: %s", error)
            return ABSENT

    def _expand(self, document: dict[str, Any], entity: Entity, expand: Expand, own: str) -> None:
        name, query = expand.navigation.name, expand.query
        if expand.navigation.target == "Observation":
            assert isinstance(entity, Item)  # noqa: S101 - no relation leads from an Observation to Observations
            entries = self._view.readable_members(entity)
            if entity.kind == "Datastream" and not entries:
                return  # properties.readable says so
            page = self._expanded(entries, query)
        else:
            found = related(self._view, entity, name)
            if not expand.navigation.many:
                document[name] = self._entity(found[0], query) if found else None
                return
            page = self._items(found, query)
        document[name], count, after = page
        if count is not None:
            document[f"{name}@iot.count"] = count
        if after is not None:
            document[f"{name}@iot.nextLink"] = f"{own}/{name}?{query.link(**dict([after]))}"

    def _expanded(self, entries: list[Entry], query: Query) -> tuple[list[Any], int | None, tuple[str, str] | None]:
        return self._observations(Feed(self._view, entries, query), query)

    def _link(self, entity: Entity) -> str:
        return f"{self._base}/{TYPES[entity.kind].set_name}({key_text(entity.id)})"

    def _count_rendered(self) -> None:
        self._rendered += 1
        if self._rendered > MAX_RENDERED:
            raise TooMuch(f"one entity of this answer holds more than {MAX_RENDERED}; use $top inside $expand")


def _put(document: dict[str, Any], found: Any, keys: tuple[str, ...]) -> None:
    """`properties/area` selects that part alone, where it is."""
    for key in keys[1:]:
        found = found.get(key, ABSENT) if isinstance(found, dict) else ABSENT
    at = document
    for key in keys[:-1]:
        inner = at.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        at = inner
    if found is not ABSENT and isinstance(at, dict):
        at[keys[-1]] = found

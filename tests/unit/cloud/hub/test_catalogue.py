"""The catalogue follows the births, remembers what was, and finds among very many."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hub_state import Clock, state_of
from hypothesis import given
from hypothesis import strategies as st

from cloud.births import Births
from cloud.births_read import BirthsReader
from cloud.hub.access import Reader, readable, visible
from cloud.hub.catalogue import MAX_CHANGES_A_DAY, Catalogue
from cloud.hub.catalogue_index import Index, Query, plain
from cloud.hub.entries import Entry
from contract.catalogue import Area, Birth, Device, Grade, Site, Stewardship, Stream
from contract.readings import Kind
from contract.topics import GatewayPath


def birth_of(gateway: str, *names: str, unit: str = "m", district: str = "east", **steward: object) -> Birth:
    streams = tuple(
        Stream(
            id=number,
            name=name,
            quantity="level",
            unit=unit,
            type=Kind.FLOAT,
            interval_s=1,
            stewardship=Stewardship.model_validate(steward),
        )
        for number, name in enumerate(names)
    )
    return Birth(
        gateway=gateway,
        area=Area(city="宁波", district=district, street="first"),
        site=Site(name="泵站", latitude=29.9, longitude=121.5),
        devices=(Device(name="well", streams=streams),),
    )


class City:
    """Births as a collector keeps them, and a catalogue that follows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.births = Births(folder / "births.sqlite")
        self.catalogue = self.anew()

    def anew(self, max_streams: int = 1000) -> Catalogue:
        reader = BirthsReader(self.folder / "births.sqlite")
        return Catalogue(state_of(self.folder), reader, max_streams=max_streams, now_ns=self.clock.now_ns)

    async def publish(self, birth: Birth) -> None:
        self.clock.pass_s(1)
        self.births.take(birth.path, birth.encode())
        await self.catalogue.refresh()

    def ids(self) -> list[str]:
        return [f"{entry.device}/{entry.stream}" for entry in self.catalogue.all() if entry.until_ns is None]


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path)


async def test_a_stream_keeps_its_number_and_its_past(city: City) -> None:
    await city.publish(birth_of("gw", "level", "flow"))
    first = city.catalogue.get("宁波/east/first/gw/well/level")
    assert first is not None
    assert (first.number, first.version, first.unit, first.site) == (1, 1, "m", "泵站")
    await city.publish(birth_of("gw", "flow", "level", unit="cm"))  # another order of ids is no change of a stream
    second = city.catalogue.get("宁波/east/first/gw/well/level")
    assert second is not None
    assert (second.number, second.version, second.unit) == (1, 2, "cm")
    past = await city.catalogue.versions(1)
    assert [(one.version, one.unit, one.until_ns) for one in past] == [(1, "m", second.since_ns), (2, "cm", None)]


async def test_what_left_is_known_still_and_comes_back_under_its_number(city: City) -> None:
    await city.publish(birth_of("gw", "level", "flow"))
    await city.publish(birth_of("gw", "level"))
    gone = city.catalogue.by_number(2)
    assert gone is not None
    assert gone.until_ns == city.clock.now_ns()
    assert city.ids() == ["well/level"]
    await city.publish(birth_of("gw", "level", "flow"))
    back = city.catalogue.by_number(2)
    assert back is not None
    assert (back.version, back.until_ns, back.stream) == (2, None, "flow")
    assert [one.until_ns is None for one in await city.catalogue.versions(2)] == [False, True]


async def test_a_birth_that_says_the_same_changes_nothing(city: City) -> None:
    await city.publish(birth_of("gw", "level"))
    before = city.catalogue.version
    await city.publish(birth_of("gw", "level"))
    assert city.catalogue.version == before


async def test_everything_is_there_after_a_restart_and_births_missed_meanwhile_are_taken(city: City) -> None:
    await city.publish(birth_of("gw", "level", "flow"))
    await city.publish(birth_of("gw", "level"))
    known = city.catalogue.all()
    again = city.anew()
    await again.load()
    assert list(again.all()) == list(known)
    other = birth_of("other", "level")
    city.births.take(other.path, other.encode())
    await again.refresh()
    assert [entry.number for entry in again.all()] == [1, 2, 3]
    assert list(again.all())[:2] == list(known)


async def test_a_birth_that_brings_too_much_or_changes_all_day_is_refused_and_the_old_one_holds(city: City) -> None:
    city.catalogue = city.anew(max_streams=3)
    await city.publish(birth_of("gw", "a", "b"))
    await city.publish(birth_of("liar", *(f"s{n}" for n in range(9))))
    assert [refusal.path.gateway for refusal in city.catalogue.refusals.values()] == ["liar"]
    assert "would be more" in next(iter(city.catalogue.refusals.values())).why
    assert city.ids() == ["well/a", "well/b"]
    await city.publish(birth_of("liar", "s"))
    assert not city.catalogue.refusals
    for number in range(MAX_CHANGES_A_DAY + 5):
        await city.publish(birth_of("gw", "a", "b", owner=f"department {number}"))
    (refusal,) = city.catalogue.refusals.values()
    assert (refusal.path.gateway, refusal.why) == ("gw", "it changed 100 times within a day")
    city.clock.pass_s(86_400)
    await city.publish(birth_of("gw", "a", "b", owner="at last"))
    assert not city.catalogue.refusals
    assert {entry.owner for entry in city.catalogue.all() if entry.path.gateway == "gw"} == {"at last"}


NAMES = st.sampled_from(["a", "b", "宁波", "Straße", "c d", "ＡＢ"])
DEPARTMENTS = st.sampled_from(["", "水务局", "交通局", "Works"])
ENTRIES = st.builds(
    Entry,
    number=st.just(0),
    version=st.just(1),
    path=st.builds(GatewayPath, NAMES, NAMES, NAMES, NAMES),
    device=NAMES,
    stream=NAMES,
    quantity=NAMES,
    unit=st.just("m"),
    kind=st.sampled_from(Kind),
    interval_s=st.just(1.0),
    since_ns=st.just(0),
    until_ns=st.none() | st.just(1),
    owner=DEPARTMENTS,
    grade=st.sampled_from(Grade),
    shared_with=st.lists(DEPARTMENTS, max_size=2).map(tuple),
    latitude=st.none() | st.floats(-90, 90),
    longitude=st.none() | st.floats(-180, 180),
)
LISTS = st.lists(ENTRIES, max_size=30).map(lambda found: [replace(e, number=n + 1) for n, e in enumerate(found)])
AREAS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
READERS = st.builds(
    Reader,
    token=st.just("t"),
    department=DEPARTMENTS,
    purpose=st.just(""),
    areas=st.lists(AREAS, max_size=3).map(tuple),
)
QUERIES = st.builds(
    Query,
    area=st.none() | AREAS,
    gateway=st.none() | NAMES,
    device=st.none() | NAMES,
    owner=st.none() | DEPARTMENTS,
    quantity=st.none() | NAMES,
    grade=st.none() | st.sampled_from(Grade),
    text=st.none() | NAMES | st.just("AB") | st.just("strasse"),
    bbox=st.none() | st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90)),
    left=st.booleans(),
)


@given(LISTS, READERS)
def test_the_rule_of_all_at_once_is_the_rule(entries: Sequence[Entry], reader: Reader) -> None:
    index = Index(entries)
    assert index.visible(reader).tolist() == [visible(reader, entry) for entry in entries]
    assert index.readable(reader).tolist() == [readable(reader, entry) for entry in entries]


def slowly(entry: Entry, query: Query) -> bool:
    """What `Index.matching` promises, one entry at a time."""
    path = entry.path
    levels = (path.city, path.district, path.street)
    words = (entry.id, entry.quantity, entry.owner, entry.site, entry.manufacturer, entry.model, entry.serial_number)
    fits = [query.left or entry.until_ns is None]
    if query.area is not None:
        fits.append("/".join(levels[: query.area.count("/") + 1]) == query.area)
    for name, value in (("device", entry.device), ("owner", entry.owner), ("quantity", entry.quantity)):
        wanted = getattr(query, name)
        fits.append(wanted is None or wanted == value)
    fits.append(query.gateway in {None, path.gateway})
    fits.append(query.grade in {None, entry.grade})
    if query.text:
        fits.append(plain(query.text) in plain(" ".join(words)))
    if query.bbox is not None:
        west, south, east, north = query.bbox
        if entry.latitude is None or entry.longitude is None:
            return False
        within = west <= entry.longitude <= east if west <= east else not east < entry.longitude < west
        fits.append(south <= entry.latitude <= north and within)
    return all(fits)


@given(LISTS, QUERIES)
def test_a_search_finds_what_fits_and_nothing_else(entries: Sequence[Entry], query: Query) -> None:
    assert Index(entries).matching(query).tolist() == [slowly(entry, query) for entry in entries]

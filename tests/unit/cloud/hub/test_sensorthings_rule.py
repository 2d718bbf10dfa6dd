"""The access rule, over everything that SensorThings can say: nothing forbidden ever comes out, by any address.

Each stream has names and values that no other has; whatever an answer holds is looked through for those of streams
that the reader may not know of, or not read.
"""

import asyncio
import random
from typing import Any

from hub_kit_sensorthings import NOW, SECOND, Bench, Reading, entry
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cloud.hub.access import Reader, readable, visible
from cloud.hub.entries import Entry
from contract.catalogue import Grade
from contract.readings import GOOD

DEPARTMENTS = ["water", "traffic", "parks", ""]
BASE = "http://hub.example/sensorthings/v1.1"
OPTIONS = [
    "",
    "$count=true&$top=3",
    "$top=1&$skip=1",
    "$orderby=id desc&$top=2",
    "$filter=id ne null&$count=true",
]
EXPANDS = {
    "Things": "Datastreams($expand=Observations,Sensor,ObservedProperty),Locations,HistoricalLocations/Locations",
    "Locations": "Things/Datastreams/Observations,HistoricalLocations/Thing",
    "HistoricalLocations": "Thing/Datastreams,Locations/Things",
    "Datastreams": "Thing,Sensor/Datastreams,ObservedProperty,Observations($orderby=phenomenonTime desc;$top=1)",
    "Sensors": "Datastreams($expand=Observations($count=true),Thing)",
    "ObservedProperties": "Datastreams/Observations",
    "Observations": "Datastream/Thing,FeatureOfInterest/Observations",
    "FeaturesOfInterest": "Observations/Datastream",
}


@st.composite
def cities(draw: st.DrawFn) -> list[Entry]:
    """Up to ten streams, some of which share a device, a model or a quantity; every other text is one stream's own."""
    made = []
    for number in range(1, draw(st.integers(1, 10)) + 1):
        district, gateway, device = (draw(st.integers(1, 2)) for _ in range(3))
        own = {
            "owner": draw(st.sampled_from(DEPARTMENTS)),
            "grade": draw(st.sampled_from(list(Grade))),
            "shared_with": tuple(draw(st.lists(st.sampled_from(DEPARTMENTS[:3]), max_size=2))),
            "latitude": draw(st.sampled_from([None, 34.5])),
        }
        made.append(
            entry(
                number,
                f"stream-{number}.",
                district=f"district-{district}.",
                gateway=f"gateway-{district}-{gateway}.",
                device=f"device-{district}-{gateway}-{device}.",
                site=f"site-{district}-{gateway}-{draw(st.integers(1, 2))}.",
                contact=f"contact-{number}.",
                legal_basis=f"law-{number}.",
                model=f"model-{draw(st.integers(1, 3))}.",
                quantity=f"quantity-{draw(st.integers(1, 3))}.",
                **own,
            )
        )
    return made


def names_of(one: Entry) -> set[str]:
    """Every text that tells of a stream's existence."""
    path = one.path
    return {
        *(one.stream, one.device, one.contact, one.legal_basis, one.site, one.model, one.quantity),
        *(path.district, path.gateway),
    }


def values_of(one: Entry) -> list[Reading]:
    """Three readings whose values are this stream's alone."""
    return [(NOW - (3 - at) * SECOND, 7_000_000.25 + one.number * 10 + at, GOOD) for at in range(3)]


def links_in(document: Any) -> list[str]:
    """Every address in an answer."""
    if isinstance(document, dict):
        return [link for value in document.values() for link in links_in(value)]
    if isinstance(document, list):
        return [link for value in document for link in links_in(value)]
    return [document] if isinstance(document, str) and document.startswith(BASE) else []


READERS = st.builds(
    Reader,
    st.just("t-1"),
    st.sampled_from(DEPARTMENTS),
    st.just("test"),
    areas=st.sampled_from([(), ("weinan/district-1.",), ("weinan/district-2./main",), ("elsewhere",)]),
)


@settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # a failure names its secret
@given(cities(), READERS, st.integers(0, 2**32))
def test_nothing_forbidden_comes_out(entries: list[Entry], reader: Reader, seed: int) -> None:
    asyncio.run(_crawl(entries, reader, random.Random(seed)))


async def _crawl(entries: list[Entry], reader: Reader, chance: random.Random) -> None:
    bench = Bench(entries, {one.number: values_of(one) for one in entries})
    bench.tokens.readers["me"] = reader
    seen = [one for one in entries if visible(reader, one)]
    known = set().union(*(names_of(one) for one in seen)) if seen else set()
    hidden = set().union(*(names_of(one) for one in entries)) - known
    links = {f"Datastreams({one.number})" for one in entries if one not in seen}
    forbidden = {str(value) for one in entries if not readable(reader, one) for _, value, _ in values_of(one)}
    waiting = [""] + [f"{name}?{options}" for name in EXPANDS for options in OPTIONS]
    waiting += [f"{name}?$expand={expand}" for name, expand in EXPANDS.items()]
    waiting += [f"Datastreams({one.number}){tail}" for one in entries for tail in ("", "/Observations", "/Thing")]
    waiting += [f"Observations('{one.number}-{NOW - SECOND}')" for one in entries]
    waiting += [f"Observations?$filter=Datastream/id eq {one.number}" for one in entries]
    waiting += ["Observations?resultFormat=dataArray", "Observations?$orderby=result desc"]
    asked: set[str] = set()
    for _ in range(80):
        if not waiting:
            break
        path = waiting.pop(chance.randrange(len(waiting)))
        asked.add(path)
        answer = await bench.get(path, who="me")
        assert answer.status_code in {200, 403, 404}, (path, answer.text)
        for secret in (*hidden, *forbidden):
            assert secret not in answer.text, (path, secret)
        if answer.status_code == 200:  # a refusal repeats what was asked
            assert not [link for link in links if link in answer.text], path
            found = {link.removeprefix(BASE).lstrip("/") for link in links_in(answer.json())}
            waiting += sorted(found - asked)
    kept = {one.number for one in entries if readable(reader, one)}
    for *_, detail in bench.trail.lines:
        streams = {one.id: one for one in entries}
        assert all(streams[name].number in kept and streams[name].grade is not Grade.OPEN for name in detail["streams"])


async def test_a_value_is_audited_however_it_comes_out() -> None:
    one = entry(1, grade=Grade.SHARED, owner="parks", shared_with=("water",))
    bench = Bench([one], {1: values_of(one)})
    paths = [
        "Observations?$top=1",
        "Datastreams(1)/Observations?$orderby=phenomenonTime desc&$top=1",
        f"Observations('1-{NOW - SECOND}')/result/$value",
        f"Observations('1-{NOW - 2 * SECOND}')",
        "Things?$expand=Datastreams/Observations",
        "FeaturesOfInterest?$expand=Observations($top=1)",
        "Observations?resultFormat=dataArray",
        "Observations?$filter=result gt 0&$count=true&$top=0",
    ]
    for count, path in enumerate(paths, start=1):
        assert (await bench.get(path)).status_code == 200
        assert len(bench.trail.lines) == count, path

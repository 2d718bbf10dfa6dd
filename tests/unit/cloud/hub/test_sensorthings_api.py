import asyncio
from urllib.parse import quote

import httpx
import pytest
from hub_kit_sensorthings import BASE, NOW, SECOND, Bench, city, entry, minutes
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.hub.access import Reader
from cloud.hub.sensorthings import router
from contract.catalogue import Grade

SQUARE = "geography'POLYGON((109 34, 110 34, 110 35, 109 35, 109 34))'"
AT_SEVEN = "2026-11-23T07:00:00Z"


# -- documents -----------------------------------------------------------------------------------------------------


async def test_the_root_names_eight_sets_and_what_is_implemented() -> None:
    for path in ("", "/"):
        document = await city().ask(path)
        assert {one["name"]: one["url"] for one in document["value"]}[
            "FeaturesOfInterest"
        ] == f"{BASE}/FeaturesOfInterest"
        assert len(document["value"]) == 8
        assert "http://www.opengis.net/spec/iot_sensing/1.1/req/datamodel" in document["serverSettings"]["conformance"]


async def test_addresses_are_the_requests_own_behind_a_prefix() -> None:
    bench = Bench([entry(1)], {})
    behind = httpx.ASGITransport(bench.app, root_path="/hub")  # as a server says it that is told of a proxy's prefix
    async with httpx.AsyncClient(transport=behind, headers={"authorization": "Bearer water"}) as client:
        for scheme in ("http", "https"):
            answer = await client.get(f"{scheme}://city.example/hub/sensorthings/v1.1/Things?$count=false")
            link = answer.json()["value"][0]["@iot.selfLink"]
            assert link.startswith(f"{scheme}://city.example/hub/sensorthings/v1.1/Things(")
            assert (await client.get(link)).status_code == 200
    hostile = await bench.get("", headers={"host": 'evil"]['})
    assert hostile.status_code == 200
    assert "evil" not in hostile.text


async def test_a_datastream_says_what_whose_and_how_fresh() -> None:
    one = await city().ask("Datastreams(1)")
    assert one["name"] == "gw-1/meter/temp"
    assert one["observationType"].endswith("OM_Measurement")
    assert one["unitOfMeasurement"] == {
        "name": "degree Celsius",
        "symbol": "Cel",
        "definition": "http://www.opengis.net/def/uom/UCUM/Cel",
    }
    assert one["phenomenonTime"] == "2026-11-23T03:50:00Z/2026-11-23T07:59:00Z"
    assert one["properties"]["grade"] == "open"
    newest = {"time": "2026-11-23T07:59:00Z", "ageSeconds": 60.0, "quality": "good", "reason": "none"}
    assert one["properties"]["newest"] == newest
    truth = await city().ask("Datastreams(3)")
    assert truth["unitOfMeasurement"] == {"name": None, "symbol": None, "definition": None}


async def test_a_stream_one_may_not_read_is_there_and_says_whom_to_ask() -> None:
    bench = city()
    one = await bench.ask("Datastreams(2)")
    assert one["properties"]["readable"] is False
    assert one["properties"]["ask"] == "parks (parks@city.example)"
    assert one["properties"]["newest"] is None
    assert "phenomenonTime" not in one
    paths = (
        "Datastreams(2)/Observations",
        f"Observations('2-{NOW - 60 * SECOND}')",
        "Observations?$filter=Datastream/id eq 2",
    )
    for path in paths:
        refused = await bench.get(path)
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["owner"] == "parks"
        assert refused.json()["contact"] == "parks@city.example"
    expanded = await bench.ask("Things?$expand=Datastreams($expand=Observations($top=1))&$filter=name eq 'gw-1/meter'")
    first, second = expanded["value"][0]["Datastreams"]
    assert len(first["Observations"]) == 1
    assert "Observations" not in second
    assert second["properties"]["readable"] is False


async def test_what_is_outside_the_areas_is_not_there() -> None:
    bench = city()
    bench.tokens.readers["west"] = Reader("t-west", "water", "test", areas=("weinan/west",))
    assert len((await bench.ask("Datastreams", who="west"))["value"]) == 1
    for path in (
        "Datastreams(1)",
        "Datastreams(1)/Observations",
        f"Observations('1-{NOW - 60 * SECOND}')",
        "Datastreams(99)",
    ):
        assert (await bench.get(path, who="west")).status_code == 404
    assert (await bench.get("Things", who=None)).status_code == 401


async def test_reading_what_is_not_open_leaves_one_line_in_the_audit() -> None:
    bench = city()
    await bench.ask("Datastreams(1)/Observations")
    await bench.ask("Datastreams", who="parks")
    assert bench.trail.lines == []
    await bench.ask("Datastreams?$expand=Observations($top=1)", who="parks")
    who, action, subject, detail = bench.trail.lines[0]
    assert (who, action, subject) == ("t-parks parks", "read", "sensorthings Datastreams")
    assert detail["streams"] == ["weinan/east/main/gw-1/meter/secret"]
    await bench.ask("Datastreams(2)/Observations?$filter=result gt 1e9&$count=true", who="parks")
    assert len(bench.trail.lines) == 2  # nothing came out, but something was learned


async def test_only_reading_is_allowed() -> None:
    for method in ("POST", "PATCH", "PUT", "DELETE"):
        answer = await city().get("Things", method=method)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]


async def test_more_requests_than_can_wait_are_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "WAITING", 0)
    answer = await city().get("Things")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


# -- paths ---------------------------------------------------------------------------------------------------------


async def test_every_relation_leads_somewhere_and_back() -> None:
    bench = city()
    seen = 0
    for document in [await bench.ask(name) for name in ("Things", "Locations", "HistoricalLocations", "Datastreams")]:
        for one in document["value"]:
            for name, link in one.items():
                if name.endswith("navigationLink"):
                    answer = await bench.get(link.removeprefix(f"{BASE}/"))
                    assert answer.status_code == (403 if link.endswith("Datastreams(2)/Observations") else 200), link
                    seen += 1
    assert seen >= 30


async def test_walking_from_an_observation_to_its_neighbours() -> None:
    bench = city()
    start = f"Datastreams(1)/Observations('1-{NOW - 60 * SECOND}')"
    assert (await bench.ask(start))["result"] == 269.0
    thing = await bench.ask(f"{start}/Datastream/Thing")
    assert thing["name"] == "gw-1/meter"
    same = await bench.ask(f"{start}/Datastream/Thing/Datastreams(1)/Sensor/Datastreams(3)/ObservedProperty")
    assert same["name"] == "state"
    feature = await bench.ask(f"{start}/FeatureOfInterest")
    assert feature["feature"] == {"type": "Point", "coordinates": [109.5, 34.5]}
    nowhere = await bench.ask("Datastreams(4)/Observations?$top=1&$expand=FeatureOfInterest")
    assert nowhere["value"][0]["FeatureOfInterest"]["feature"]["geometry"] is None
    assert (await bench.ask("Datastreams(4)/Thing/Locations"))["value"] == []


async def test_properties_values_and_references() -> None:
    bench = city()
    assert await bench.ask("Datastreams(1)/name") == {"name": "gw-1/meter/temp"}
    assert await bench.ask("Datastreams(1)/unitOfMeasurement/symbol") == {"symbol": "Cel"}
    value = await bench.get("Datastreams(1)/unitOfMeasurement/symbol/$value")
    assert (value.text, value.headers["content-type"]) == ("Cel", "text/plain; charset=utf-8")
    assert (await bench.get(f"Observations('5-{NOW}')/result/$value")).text == "dé'jà"
    assert (await bench.get(f"Observations('3-{NOW - 9 * SECOND}')/result/$value")).text == "true"
    assert (await bench.get(f"Observations('4-{NOW - SECOND}')/result")).status_code == 204
    assert (await bench.get("Datastreams(1)/phenomenonTime/$value")).text.startswith("2026-11-23T03:50:00Z/")
    assert (await bench.get("Datastreams(1)/observedArea")).status_code == 204
    references = await bench.ask("Things/$ref?$top=1")
    assert list(references["value"][0]) == ["@iot.selfLink"]
    assert references["@iot.nextLink"].startswith(f"{BASE}/Things/$ref?")
    assert (await bench.ask("Datastreams(1)/Observations/$ref?$top=1"))["value"][0]["@iot.selfLink"].endswith("')")
    assert (await bench.ask("Datastreams(1)/Thing/$ref"))["@iot.selfLink"].startswith(f"{BASE}/Things(")


@pytest.mark.parametrize(
    "path",
    [
        "Nothings",
        "Things(0)",
        "Things('x')",
        "Things(1)(2)",
        "Things/name",
        "Things/$value",
        "Datastreams(1)/nothing",
        "Datastreams(1)/name/part",
        "Datastreams(1)/properties/nothing",
        "Datastreams(1)/Thing(5)",
        "Datastreams(1)/name/$value/$value",
        "Datastreams(1)/Thing/$ref/name",
        "Observations('1-5')",
        "Observations('x')",
        "Observations(5)",
        "Datastreams(3)/Observations('1-1795420740000000000')",
        "HistoricalLocations('1-2-3')",
        "Locations('1-2')",
        "Datastreams(99999999999999999999999)",
    ],
)
async def test_what_is_not_there_is_404(path: str) -> None:
    assert (await city().get(path)).status_code == 404


# -- options -------------------------------------------------------------------------------------------------------


async def test_select_gives_what_is_asked_and_nothing_else() -> None:
    document = await city().ask("Datastreams(1)?$select=id,name,properties/owner,unitOfMeasurement/symbol,Observations")
    assert document == {
        "@iot.id": 1,
        "name": "gw-1/meter/temp",
        "properties": {"owner": "water"},
        "unitOfMeasurement": {"symbol": "Cel"},
        "Observations@iot.navigationLink": f"{BASE}/Datastreams(1)/Observations",
    }


async def test_expand_nests_and_takes_options() -> None:
    document = await city().ask(
        "Things?$filter=name eq 'gw-1/meter'&$expand=Locations($select=name),Datastreams($orderby=id desc;$select=id;"
        "$count=true;$top=1;$expand=ObservedProperty($select=name)),Datastreams/Sensor"
    )
    thing = document["value"][0]
    assert thing["Locations"] == [{"name": "Pump house 3"}]
    assert thing["Datastreams@iot.count"] == 2
    assert thing["Datastreams"][0]["ObservedProperty"] == {"name": "noise"}
    assert thing["Datastreams"][0]["Sensor"]["name"] == "Acme T100"
    following = await city().ask(thing["Datastreams@iot.nextLink"].removeprefix(f"{BASE}/"))
    assert following["value"][0]["ObservedProperty"] == {"name": "temperature"}
    assert following["value"][0]["Sensor"]["name"] == "Acme T100"


async def test_the_newest_of_each_comes_from_memory() -> None:
    bench = city()
    bench.store.away = True
    document = await bench.ask("Datastreams?$expand=Observations($top=1;$orderby=phenomenonTime desc;$select=result)")
    newest = {one["@iot.id"]: one.get("Observations") for one in document["value"]}
    assert newest[1] == [{"result": 269.0}]
    assert newest[2] is None
    assert newest[4] == [{"result": None}]
    assert (await bench.ask("Datastreams(1)"))["name"] == "gw-1/meter/temp"  # without its extent
    assert (await bench.get("Datastreams(1)/Observations")).status_code == 503


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("id", [1, 2, 3, 4, 5]),
        ("id desc", [5, 4, 3, 2, 1]),
        ("Thing/name desc,name asc", [4, 5, 3, 2, 1]),
        ("observationType asc,@iot.id desc", [4, 2, 1, 5, 3]),
        ("properties/nothing,id desc", [5, 4, 3, 2, 1]),
        ("length(name) desc,id", [2, 1, 3, 4, 5]),
    ],
)
async def test_orderby_several_keys(order: str, expected: list[int]) -> None:
    document = await city().ask(f"Datastreams?$orderby={order}&$select=id")
    assert [one["@iot.id"] for one in document["value"]] == expected


async def test_pages_hold_every_entity_once() -> None:
    bench = Bench([entry(number, device=f"d{number}") for number in range(1, 2301)], {})
    first = await bench.ask("Things?$top=2147483647&$count=true")
    assert (len(first["value"]), first["@iot.count"]) == (1000, 2300)
    every = await bench.follow("Things?$top=2147483647&$orderby=name desc")
    assert len({one["@iot.id"] for one in every}) == len(every) == 2300
    assert "$top=2147483647" in first["@iot.nextLink"]  # QGIS looks for it there
    assert (await bench.ask("Things?$top=0&$count=true")) == {"@iot.count": 2300, "value": []}
    assert (await bench.ask("Things?$skip=2299"))["value"][0]["name"] == "gw-1/d2300"
    assert (await bench.ask("Things?$skip=9999&$count=true")) == {"@iot.count": 2300, "value": []}


async def test_the_query_string_of_a_next_link_is_all_it_takes() -> None:
    bench = city()
    found: list[float] = []
    query = "$filter=result ge 100 and hour(phenomenonTime) lt 7&$select=result&$top=40&$orderby=phenomenonTime desc"
    while query:
        document = await bench.ask(f"Datastreams(1)/Observations?{query}")
        found += [one["result"] for one in document["value"]]
        query = document.get("@iot.nextLink", "").partition("?")[2]
    assert found == [float(value) for value in range(209, 99, -1)]


async def test_a_large_page_ends_early_and_goes_on() -> None:
    entries = [entry(number, device=f"d{number // 25}") for number in range(1, 2500)]
    bench = Bench(entries, {number: minutes(20) for number in range(1, 2500)})
    document = await bench.ask("Things?$expand=Datastreams($expand=Observations($select=result))")
    assert 1 < len(document["value"]) < 100
    things = await bench.follow("Things?$expand=Datastreams($select=id;$expand=Observations($select=id))")
    held = [one["@iot.id"] for thing in things for stream in thing["Datastreams"] for one in stream["Observations"]]
    assert len(held) == len(set(held)) == 20 * 2499


@pytest.mark.parametrize(
    ("path", "option"),
    [
        ("Things?$filter=", "$filter"),
        ("Things?$filter=bogus eq 1", "$filter"),
        ("Things?$filter=name/part eq 1", "$filter"),
        ("Things?$filter=Datastreams/Observations/result gt 5", "$filter"),
        ("Things?$filter=Datastreams/name eq Datastreams/description", "$filter"),
        ("Things?$filter=nonsense(name)", "$filter"),
        ("Things?$filter=length(name,name) eq 1", "$filter"),
        ("Things?$filter=name in 5", "$filter"),
        ("Things?$filter=name eq 'open", "$filter"),
        ("Things?$filter=(1,2) eq 1", "$filter"),
        ("Things?$filter=Datastreams/any(d:d/id eq 1)", "$filter"),
        ("Datastreams?$filter=phenomenonTime gt now()", "$filter"),
        ("Observations?$filter=phenomenonTime gt 2026-02-31T00:00:00Z", "$filter"),
        ("Locations?$filter=geo.intersects(location,geography'CIRCLE(1 1)')", "$filter"),
        ("Locations?$filter=geo.intersects(" + SQUARE + "," + SQUARE + ")", "$filter"),
        ("Things?$select=bogus", "$select"),
        ("Things?$select=name/part", "$select"),
        ("Things?$expand=bogus", "$expand"),
        ("Things?$expand=Datastreams($bogus=1)", "$expand"),
        ("Things?$expand=Datastreams($top=1", "$expand"),
        ("Things?$expand=Datastreams($top=x)", "$top"),
        ("Things?$expand=Datastreams($filter=bogus eq 1)", "$filter"),
        ("Things?$orderby=bogus", "$orderby"),
        ("Things?$orderby=Datastreams/name", "$orderby"),
        ("Things?$orderby=", "$orderby"),
        ("Things?$top=-1", "$top"),
        ("Things?$top=x", "$top"),
        ("Things?$skip=1.5", "$skip"),
        ("Things?$count=maybe", "$count"),
        ("Things?$skiptoken=1-2", "$skiptoken"),
        ("Observations?$skiptoken=x", "$skiptoken"),
        ("Things?resultFormat=dataArray", "resultFormat"),
        ("Observations?resultFormat=GeoJSON", "resultFormat"),
        ("Things?$top=1&$top=2", "$top"),
        ("Things?$search=x", "$search"),
        ("Things?$filter=name eq '%00'", "$filter"),
        ("Things?$filter=%ff", "query"),
        ("Things?$filter=" + "x" * 8001, "$filter"),
    ],
)
async def test_a_wrong_query_is_400_and_names_the_option(path: str, option: str) -> None:
    answer = await city().get(path)
    assert answer.status_code == 400, answer.text
    assert answer.json()["parameter"] == option


async def test_options_of_the_client_itself_are_passed_by() -> None:
    assert len((await city().ask("Things?cachebuster=17&_=1"))["value"]) == 3
    one = await city().ask("Datastreams(1)?$top=5&$filter=bogus&$select=name")  # paging means nothing of one entity
    assert one == {"name": "gw-1/meter/temp"}


WORDS = st.sampled_from(
    [
        *("Things", "Datastreams(1)", "Datastreams(2)", "Observations", "Locations", "$ref", "$value", "name"),
        *("Thing", "Sensor", "properties", "owner", "Datastreams", "HistoricalLocations", "(1)", "('1-2')", "%2F"),
    ]
)
PATHS = st.one_of(st.lists(WORDS, max_size=5).map("/".join), st.text(max_size=30))
QUERIES = st.dictionaries(
    st.sampled_from(
        ["$filter", "$select", "$expand", "$orderby", "$top", "$skip", "$count", "$skiptoken", "resultFormat"]
    ),
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(
            [
                *("id", "name", "1", "0", "true", "result gt 5", "phenomenonTime desc", "Datastreams", "Observations"),
                *("phenomenonTime lt now() add duration'P36600D'", "dataArray", "1-1", "Thing/Locations", "*"),
            ]
        ),
    ),
    max_size=4,
)


@settings(max_examples=200)
@given(PATHS, QUERIES)
def test_whatever_is_asked_is_answered_or_refused(path: str, query: dict[str, str]) -> None:
    async def answer() -> httpx.Response:
        async with city().client() as client:
            return await client.get(f"{BASE}/{quote(path)}", params=query, headers={"authorization": "Bearer water"})

    assert asyncio.run(answer()).status_code in {200, 204, 400, 403, 404, 413}


# -- where things were ---------------------------------------------------------------------------------------------


async def test_a_device_that_moved_keeps_where_it_was() -> None:
    now = entry(1, version=2, since_ns=NOW - 3600 * SECOND, site="New house", latitude=34.6)
    bench = Bench([now, entry(2, device="other")], {})
    bench.catalogue.past[1] = [entry(1, until_ns=now.since_ns, site="Old house", latitude=34.1)]
    thing = (await bench.ask("Things?$filter=name eq 'gw-1/meter'&$expand=Locations"))["value"][0]
    assert [one["name"] for one in thing["Locations"]] == ["New house"]
    stays = await bench.ask(
        f"Things({thing['@iot.id']})/HistoricalLocations?$expand=Locations,Thing&$orderby=time desc"
    )
    assert [one["Locations"][0]["name"] for one in stays["value"]] == ["New house", "Old house"]
    assert stays["value"][1]["time"] == "2026-11-22T08:00:00Z"
    old = stays["value"][1]["Locations"][0]
    again = await bench.ask(old["@iot.selfLink"].removeprefix(f"{BASE}/"))
    assert again["location"]["coordinates"] == [109.5, 34.1]
    back = await bench.ask(f"{old['@iot.selfLink'].removeprefix(BASE + '/')}/HistoricalLocations")
    assert [one["@iot.id"] for one in back["value"]] == [stays["value"][1]["@iot.id"]]
    within = (
        f"Things({thing['@iot.id']})/HistoricalLocations?$filter=time gt {AT_SEVEN} and time lt 2026-11-23T08:00:00Z"
    )
    assert (await bench.ask(within))["value"] == []
    assert len((await bench.ask("HistoricalLocations?$count=true"))["value"]) == 3


async def test_ids_outlive_a_restart_and_newcomers() -> None:
    entries = [entry(number, device=f"d{number}", site=f"site {number}") for number in range(1, 50)]
    before = {one["name"]: one["@iot.id"] for one in await Bench(entries, {}).follow("Locations")}
    more = [*entries, *(entry(number, device=f"d{number}", site=f"site {number}") for number in range(50, 200))]
    after = {one["name"]: one["@iot.id"] for one in await Bench(more, {}).follow("Locations")}
    assert all(after[name] == number for name, number in before.items())
    assert len(set(after.values())) == 199
    assert all(0 < number < 2**31 for number in after.values())


async def test_the_world_follows_the_catalogue() -> None:
    bench = city()
    assert (await bench.get("Datastreams(9)")).status_code == 404
    bench.catalogue.entries[9] = entry(9)
    bench.catalogue.entries[1] = entry(1, version=2, grade=Grade.RESTRICTED, owner="parks")
    bench.catalogue.version += 1
    assert (await bench.get("Datastreams(9)")).status_code == 200
    assert (await bench.get("Datastreams(1)/Observations")).status_code == 403

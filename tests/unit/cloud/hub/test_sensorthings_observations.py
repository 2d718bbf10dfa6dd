import pytest
from hub_kit_sensorthings import BASE, NOW, SECOND, Bench, city, entry, minutes, names, results, series_of

from cloud.hub.entries import Entry
from cloud.hub.problems import TooMuch
from cloud.hub.sensorthings.observations import Feed
from cloud.hub.sensorthings.query import parse_query
from cloud.hub.sensorthings.spec import TYPES
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import World
from cloud.stores.base import Columns, Selector, Series
from contract.readings import GOOD, Kind

SQUARE = "geography'POLYGON((109 34, 110 34, 110 35, 109 35, 109 34))'"
AT_SEVEN = "2026-11-23T07:00:00Z"


# -- Observations --------------------------------------------------------------------------------------------------


async def test_the_store_is_asked_for_the_range_and_no_more() -> None:
    bench = city()
    path = (
        f"Datastreams(1)/Observations?$filter=phenomenonTime ge {AT_SEVEN} and 2026-11-23T07:03:00Z gt phenomenonTime"
    )
    assert await results(path, bench) == [210.0, 211.0, 212.0]
    hour = 3600 * SECOND
    assert bench.store.asked == [("temp", NOW - hour, NOW - hour + 180 * SECOND, 101)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"phenomenonTime eq {AT_SEVEN}", [210.0]),
        (f"phenomenonTime gt {AT_SEVEN} and phenomenonTime le 2026-11-23T07:01:00Z", [211.0]),
        (f"resultTime ge '{AT_SEVEN}' and resultTime lt 2026-11-23T15:01:00+08:00", [210.0]),
        (f"not (phenomenonTime lt {AT_SEVEN}) and result lt 212", [210.0, 211.0]),
        ("phenomenonTime gt now() sub duration'PT3M'", [268.0, 269.0]),
        ("id eq '1-1795420740000000000'", [269.0]),
        ("result in (20,269)", [20.0, 269.0]),
        ("result mod 100 eq 0", [100.0, 200.0]),
        ("result div 2 add 1 eq 11 or result eq 21.0", [20.0, 21.0]),
        ("-result lt -268", [269.0]),
        ("round(result) eq 20 and floor(result) eq 20 and ceiling(result) eq 20", [20.0]),
        ("hour(phenomenonTime) eq 7 and minute(phenomenonTime) ge 59 and second(phenomenonTime) eq 0", [269.0]),
        ("date(phenomenonTime) eq 2026-11-23 and time(phenomenonTime) eq 07:59", [269.0]),
        ("year(phenomenonTime) ne 2026 or day(phenomenonTime) ne 23 or month(phenomenonTime) ne 11", []),
        ("phenomenonTime gt mindatetime() and phenomenonTime lt maxdatetime() and result eq 30", [30.0]),
        ("Datastream/Thing/name eq 'gw-1/meter' and result eq 30", [30.0]),
        ("st_within(FeatureOfInterest/feature," + SQUARE + ") and result eq 30", [30.0]),
        ("Datastream/id eq 1 and result eq 30", [30.0]),
        ("phenomenonTime gt 2200-01-01T00:00:00Z add duration'P36500D'", []),
        ("result eq '30'", []),
        ("result eq null", []),
        ("phenomenonTime eq 5", []),
    ],
)
async def test_filters_on_observations(text: str, expected: list[float]) -> None:
    assert await results(f"Datastreams(1)/Observations?$filter={text}") == expected


async def test_quality_is_filtered_and_told() -> None:
    uncertain = "Datastreams(4)/Observations?$filter=resultQuality/quality eq 'uncertain'"
    document = await city().ask(uncertain)
    assert document["value"][0]["resultQuality"] == {"quality": "uncertain", "reason": "stuck"}
    assert document["value"][0]["parameters"] == {"ageSeconds": 5.0}
    assert await results("Datastreams(4)/Observations?$filter=resultQuality/reason eq 'not_a_number'") == [None]
    good = "Datastreams(4)/Observations?$filter=resultQuality/quality eq 'good' and result ge 6"
    assert await results(good) == [6, 7]
    assert await results("Datastreams(4)/Observations?$filter=result eq null or result eq 0") == [0, None]
    assert await results("Datastreams(3)/Observations?$filter=result eq true") == [True]
    assert await results("Datastreams(5)/Observations?$filter=startswith(result,'dé''')") == ["dé'jà"]
    assert await results("Datastreams(5)/Observations?$filter=result gt 'a'") == ["dé'jà"]


async def test_observations_of_several_streams_by_time() -> None:
    bench = city()
    everything = await bench.follow("Observations?$select=id,phenomenonTime&$top=70&$orderby=phenomenonTime desc")
    assert len(everything) == 250 + 1 + 9 + 1
    times = [one["phenomenonTime"] for one in everything]
    assert times == sorted(times, reverse=True)
    upwards = await bench.follow("Observations?$select=id,phenomenonTime&$top=70&$orderby=phenomenonTime asc")
    assert {one["@iot.id"] for one in upwards} == {one["@iot.id"] for one in everything}
    chosen = "Observations?$filter=(Datastream/id eq 3 or Datastream/id eq 4) and result ne 5&$count=true"
    assert (await bench.ask(chosen))["@iot.count"] == 9
    by_result = await results(
        "Datastreams(4)/Observations?$orderby=result desc,phenomenonTime asc&$top=2&$skip=1", bench
    )
    assert by_result == [6, 5]


async def test_pages_of_equal_times_lose_nothing() -> None:
    bench = Bench([entry(number) for number in range(1, 6)], {number: minutes(7) for number in range(1, 6)})
    for direction in ("asc", "desc"):
        every = await bench.follow(f"Observations?$select=id&$top=3&$orderby=phenomenonTime {direction}")
        assert len({one["@iot.id"] for one in every}) == len(every) == 35


async def test_counts_are_exact() -> None:
    bench = city()
    path = "Datastreams(1)/Observations?$count=true&$top=0"
    assert await bench.ask(path) == {"@iot.count": 250, "value": []}
    assert bench.store.asked == []  # the store counts by itself
    assert (await bench.ask(f"{path}&$filter=phenomenonTime ge {AT_SEVEN}"))["@iot.count"] == 60
    assert (await bench.ask(f"{path}&$filter=phenomenonTime ge {AT_SEVEN} and result gt 260"))["@iot.count"] == 9
    assert (await bench.ask(f"{path}&$filter=hour(phenomenonTime) eq 7"))["@iot.count"] == 60
    assert (await bench.ask("Observations?$count=true&$top=0"))["@iot.count"] == 261
    twins = Bench(
        [entry(1, "a", district="east"), entry(2, "a", district="west")], {1: minutes(10), 2: minutes(4)}
    )  # the store counts by names, and these have the same
    for number, count in ((1, 10), (2, 4)):
        found = await twins.ask(f"Datastreams({number})/Observations?$count=true&$top=0")
        assert found["@iot.count"] == count


async def test_readings_from_before_a_birth_changed_are_there_too() -> None:
    now = entry(1, version=2, kind=Kind.FLOAT, quantity="level")
    old = entry(1, kind=Kind.INT, quantity="depth")
    bench = Bench([now], {1: minutes(5, 0.5)})
    bench.catalogue.past[1] = [old]
    bench.store.readings[series_of(old)] = [(NOW - (9 - at) * 60 * SECOND, 100 + at, GOOD) for at in range(6)]
    path = "Datastreams(1)/Observations?$count=true&$filter=result ne null"
    document = await bench.ask(path)
    assert [one["result"] for one in document["value"]] == [100, 101, 102, 103, 0.5, 1.5, 2.5, 3.5, 4.5]
    assert document["@iot.count"] == 9  # where both held a reading, the newer series counts
    assert (await bench.ask("Datastreams(1)/Observations?$count=true&$top=0"))["@iot.count"] == 9
    newest_first = await bench.follow("Datastreams(1)/Observations?$orderby=phenomenonTime desc&$top=2")
    assert len(newest_first) == 9
    assert (await bench.ask("Datastreams(1)"))["phenomenonTime"] == "2026-11-23T07:51:00Z/2026-11-23T07:59:00Z"


async def test_data_arrays() -> None:
    document = await city().ask(
        "Observations?resultFormat=dataArray&$select=result,phenomenonTime,id&$top=3&$count=true&$filter=result lt 2"
    )
    assert document["@iot.count"] == 2
    group = document["value"][0]
    assert group["Datastream@iot.navigationLink"] == f"{BASE}/Datastreams(4)"
    assert group["components"] == ["id", "phenomenonTime", "result"]
    assert group["dataArray"][1] == [f"4-{NOW - 8 * SECOND}", "2026-11-23T07:59:52Z", 1]
    assert group["dataArray@iot.count"] == 2


async def test_too_much_is_said_and_not_tried() -> None:
    many = Bench([entry(number) for number in range(1, 600)], {})
    answer = await many.get("Observations?$orderby=phenomenonTime desc")
    assert answer.status_code == 413
    assert "Datastream" in answer.json()["detail"]


async def test_a_filter_on_results_stops_where_a_request_has_looked_at_enough() -> None:
    one = entry(1)
    bench = Bench([one], {1: minutes(3000)})
    query = parse_query([("$filter", "result lt 0")], TYPES["Observation"], NOW)
    view = View(World([one]), bench.tokens.readers["water"], bench.newest, Reads(bench), NOW, max_points=3500)
    assert Feed(view, [one], query).page().observations == []
    with pytest.raises(TooMuch, match="phenomenonTime"):
        Feed(view, [one], query).page()


class Reads:
    """The store, asked without an event loop."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int) -> Columns:
        """See Store.columns."""
        return self._bench.store.columns_now(series, start_ns, end_ns, limit)

    def count(self, selector: Selector) -> dict[tuple[str, str, str], int]:
        """Not asked."""
        raise AssertionError(selector)

    def versions(self, number: int) -> list[Entry]:
        """Not asked."""
        raise AssertionError(number)


# -- filters on entities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@iot.id eq 1", ["temp"]),
        ("id ne 1 and id lt 4", ["secret", "open"]),
        ("startswith(@iot.id,'3')", ["open"]),
        ("startswith(Thing/name,'gw-2')", ["cars"]),
        ("endswith(name,'note') or contains(name,'cars')", ["cars", "note"]),
        ("substringof('meter',name) and not (properties/readable eq false)", ["temp", "cars"]),
        ("indexof(name,'/') eq 4 and length(name) eq 17", ["secret"]),
        ("substring(name,5,5) eq 'meter' and substring(name,11) eq 'temp'", ["temp"]),
        ("toupper(tolower(trim(concat(' ',properties/owner)))) eq 'PARKS'", ["secret"]),
        ("unitOfMeasurement/symbol eq '{count}'", ["cars"]),
        ("unitOfMeasurement/symbol eq null", ["open", "note"]),
        ("properties/newest/time ge 2026-11-23T08:00:00Z", ["note"]),
        ("properties/newest/quality eq 'bad'", ["cars"]),
        ("ObservedProperty/name eq 'noise'", ["secret"]),
        ("st_within(Thing/Locations/location," + SQUARE + ") and id lt 3", ["temp", "secret"]),
        ("properties/nothing/at/all eq 1 or properties/nothing eq 1", []),
        ("true", ["temp", "secret", "open", "cars", "note"]),
        ("null", []),
        ("name", []),
        ("not (name gt 5) and id eq 1", ["temp"]),
        ("1 div 0 eq 1", []),
    ],
)
async def test_filters_on_datastreams(text: str, expected: list[str]) -> None:
    found = await names(f"Datastreams?$filter={text}")
    assert [name.rpartition("/")[2] for name in found] == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("geo.intersects(location, {square})", ["Pump house 3"]),
        ("st_intersects({square}, location)", ["Pump house 3"]),
        ("st_within(location, {square})", ["Pump house 3"]),
        ("st_contains({square}, location)", ["Pump house 3"]),
        ("st_disjoint(location, {square})", ["Far"]),
        ("st_equals(location, geography'POINT(111 34.5)')", ["Far"]),
        ("st_touches(location, geography'LINESTRING(111 34.5, 111 35)')", ["Far"]),
        ("st_overlaps(location, {square}) or st_crosses(location, {square})", []),
        ("geo.distance(location, geography'POINT(109.5 34)') le 0.5", ["Pump house 3"]),
        ("geo.length(geography'LINESTRING(0 0,3 4)') eq 5.0", ["Pump house 3", "Far"]),
        ("location/type eq 'Point' or location/geometry/type eq 'Point'", ["Pump house 3", "Far"]),
        ("Things/Datastreams/ObservedProperty/name eq 'state'", ["Pump house 3"]),
    ],
)
async def test_places(function: str, expected: list[str]) -> None:
    assert await names(f"Locations?$filter={function.format(square=SQUARE)}") == expected

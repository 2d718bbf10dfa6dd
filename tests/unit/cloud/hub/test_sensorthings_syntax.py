import pytest
from hub_kit_sensorthings import NOW, SECOND, MemoryNewest, entry
from hypothesis import example, given
from hypothesis import strategies as st

from cloud.hub.access import Reader
from cloud.hub.entries import Entry
from cloud.hub.problems import BadQuery, TooMuch
from cloud.hub.sensorthings.geometry import GeometryError, distance, intersects, parse_wkt, within
from cloud.hub.sensorthings.query import MAX_TOP, OPTIONS, parse_query, split
from cloud.hub.sensorthings.spec import SETS, TYPES
from cloud.hub.sensorthings.syntax import MAX_CHARS, parse
from cloud.hub.sensorthings.values import Instant, format_instant, parse_instant, parse_span
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import World, datastream
from cloud.stores.base import Columns, Selector, Series

VOCABULARY = (
    "and or not eq ne lt le gt ge in add sub mul div mod name id @iot.id result phenomenonTime resultQuality/quality "
    "properties/owner Datastream/Thing/name Thing/Locations/location location now() length( substringof( ( ) , / - ; "
    "'x' 'it''s' 5 -5 1.5 1e9 true null 2026-11-23T08:00:00Z 2026-11-23 08:00 duration'P1D' st_within( year( date( "
    "geography'POINT(1_2)' geography'POLYGON((0_0,1_0,1_1,0_0))' geo.distance( $top= $expand= Observations Things desc"
)
WORDS = st.sampled_from([word.replace("_", " ") if "'" in word else word for word in VOCABULARY.split()])
TEXTS = st.one_of(
    st.text(max_size=60), st.lists(WORDS, max_size=14).map(" ".join), st.lists(WORDS, max_size=14).map("".join)
)


@given(st.sampled_from(sorted(TYPES)), st.sampled_from([*OPTIONS, "resultFormat", "$search"]), TEXTS)
@example("Datastream", "$filter", "-" * 200 + "1 eq 1")
@example("Datastream", "$filter", "(" * 3000 + "1" + ")" * 3000)
@example("Datastream", "$filter", "not " * 1500 + "true")
@example("Datastream", "$filter", " or ".join(["id eq 1"] * 300))
@example("Thing", "$expand", "Datastreams(" * 500 + ")" * 500)
@example("Thing", "$expand", "Datastreams/Thing/" * 100 + "Datastreams")
@example("Thing", "$filter", "Datastreams/Thing/Datastreams/Thing/Datastreams/Thing/Datastreams/Thing/name eq 'x'")
@example("Observation", "$filter", "phenomenonTime add phenomenonTime eq now()")
@example("Observation", "$skiptoken", "1-99999999999999999999999999")
@example("Observation", "$skiptoken", "--")
@example("Thing", "$top", "٣")  # a digit, but not one of ours
def test_any_text_is_a_query_or_a_named_mistake(kind: str, option: str, text: str) -> None:
    try:
        query = parse_query([(option, text)], TYPES[kind], NOW)
    except BadQuery as problem:
        if not str(problem.more["parameter"]).startswith(("$", "resultFormat")):
            raise
        return
    assert query.top <= MAX_TOP
    if kind == "Datastream" and query.filter is not None:
        one = entry(1)
        view = View(World([one]), Reader("t-1", "water", "test"), MemoryNewest(), NoSource(), NOW)
        try:
            query.filter.holds(view, datastream(one))
        except (BadQuery, TooMuch):
            return


class NoSource:
    """Nothing is asked of the store by filters."""

    def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int) -> Columns:
        """Not asked."""
        raise AssertionError((series, start_ns, end_ns, limit))

    def count(self, selector: Selector) -> dict[tuple[str, str, str], int]:
        """Not asked."""
        raise AssertionError(selector)

    def versions(self, number: int) -> list[Entry]:
        """Not asked."""
        raise AssertionError(number)


@given(st.integers(-(2**62), 2**62))
def test_a_time_survives_text(ns: int) -> None:
    assert parse_instant(format_instant(ns)) == Instant(ns)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T08:00:00Z", 0),
        ("2026-11-23T16:00:00+08:00", 0),
        ("2026-11-23T16:00:00 08:00", 0),  # an address that nobody encoded
        ("2026-11-23T16:00:00+0800", 0),
        ("2026-11-23T07:30-0030", 0),
        ("2026-11-23T08:00:00.250", 0.25),
        ("2026-11-23T08:01", 60),
    ],
)
def test_times_as_clients_write_them(text: str, seconds: float) -> None:
    assert parse_instant(text) == Instant(NOW + int(seconds * SECOND))


def test_no_time_and_no_duration() -> None:
    for text in ("2026-02-30T00:00:00Z", "2026-11-23T25:00:00Z", "1500-01-01T00:00:00Z", "now", ""):
        assert parse_instant(text) is None
    assert parse_span("P1D") is not None
    assert parse_span("-PT1H30M") is not None
    assert parse_span("P1M") is None  # how long is a month


def test_trailing_zeros_are_not_written() -> None:
    assert format_instant(NOW) == "2026-11-23T08:00:00Z"
    assert format_instant(NOW + 120_000_000) == "2026-11-23T08:00:00.120Z"
    assert format_instant(NOW + 1) == "2026-11-23T08:00:00.000000001Z"


def test_a_long_or_deep_expression_is_refused_before_it_is_walked() -> None:
    with pytest.raises(BadQuery, match="characters"):
        parse("a" * (MAX_CHARS + 1), "$filter")
    with pytest.raises(BadQuery, match="deep"):
        parse("tolower(" * 60 + "name" + ")" * 60, "$filter")
    with pytest.raises(BadQuery, match="steps"):
        parse("/".join(["Thing"] * 20), "$filter")
    parse(" or ".join(f"Datastream/id eq {number}" for number in range(200)), "$filter")


def test_lists_split_outside_quotes_and_parentheses() -> None:
    assert split("a,b(c,d),'e,f'", ",", "$select") == ["a", "b(c,d)", "'e,f'"]
    for broken in ("a,(b", "a)", "'a", "a,,b", ""):
        with pytest.raises(BadQuery):
            split(broken, ",", "$select")


def test_the_eight_sets_are_the_standards() -> None:
    names = (
        "Things Locations HistoricalLocations Datastreams Sensors ObservedProperties Observations FeaturesOfInterest"
    )
    assert set(SETS) == set(names.split())
    for one in TYPES.values():
        for relation in one.navigations.values():
            assert any(back.target == one.name for back in TYPES[relation.target].navigations.values())


@pytest.mark.parametrize(
    "text", ["POINT(1)", "POLYGON((0 0,1 1))", "CIRCLE(1 2)", "POLYGON(0 0,1 1,2 2)", "POINT(x y)", ""]
)
def test_a_broken_shape_is_named(text: str) -> None:
    with pytest.raises(GeometryError):
        parse_wkt(text)


def test_points_and_polygons() -> None:
    ring = parse_wkt("POLYGON((0 0, 10 0, 10 10, 0 10, 0 0),(4 4, 6 4, 6 6, 4 6, 4 4))")
    inside, hole, edge, outside = (parse_wkt(f"POINT({at})") for at in ("1 1", "5 5", "0 5", "13 14"))
    assert [intersects(one, ring) for one in (inside, hole, edge, outside)] == [True, False, True, False]
    assert [within(one, ring) for one in (inside, edge)] == [True, False]
    assert distance(parse_wkt("POINT Z (0 0 7)"), parse_wkt("SRID=4326;LINESTRING(3 4, 3 9)")) == 5.0
    with pytest.raises(GeometryError):
        intersects(ring, ring)

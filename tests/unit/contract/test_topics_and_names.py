"""Topics, names and units: what gets in, and what a hostile or mistyped one is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.names import NAME_MAX_CHARS, check_name
from contract.topics import GatewayPath, TopicKind, parse, subscription
from contract.units import UNITS, check_unit

NAMES = st.from_regex(r"[\w\-][\w.\-]{0,8}( [\w.\-]{1,8})?", fullmatch=True)


@given(st.sampled_from(list(TopicKind)), NAMES, NAMES, NAMES, NAMES)
def test_a_topic_names_its_gateway(kind: TopicKind, city: str, district: str, street: str, gateway: str) -> None:
    path = GatewayPath(city, district, street, gateway)
    assert parse(path.topic(kind)) == (kind, path)


@given(st.text(max_size=80))
def test_any_other_string_is_no_topic(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize(
    "topic",
    [
        "weinao/v1/data/#",
        "weinao/v1/data/a/b/c/+",
        "weinao/v1/data/a/b/c",
        "weinao/v1/data/a/b/c/d/e",
        "weinao/v2/data/a/b/c/d",
        "weinao/v1/config/a/b/c/d",
        "/weinao/v1/data/a/b/c/d",
        "weinao/v1/data/a/b//d",
        "weinao/v1/data/a/b/../d",
        "weinao/v1/data/a/b/c/d\x00",
        "weinao/v1/data/a/b/c/d\n",
        "$share/collectors/weinao/v1/data/a/b/c/d",
    ],
)
def test_a_near_miss_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(topic)


def test_collectors_share_and_the_demo_subscribes_plainly() -> None:
    assert subscription(TopicKind.DATA, share="collectors") == "$share/collectors/weinao/v1/data/#"
    assert subscription(TopicKind.BIRTH) == "weinao/v1/birth/#"


@pytest.mark.parametrize("name", ["a", "微脑-01", "Pump 3", "x.y_z", "a" * NAME_MAX_CHARS, "Straße"])
def test_a_good_name_stays_what_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a ",
        "a  b",
        "a/b",
        "a+b",
        "#",
        "a\tb",
        "a\n",
        ".",
        "..",
        ".hidden",
        "a" * 65,
        "a,b",
        "a=b",
        "a\u200bb",
    ],
)
def test_a_name_that_would_break_a_topic_a_tag_or_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name is"):
        check_name(name)


@given(st.text(max_size=100))
def test_every_accepted_name_is_safe_everywhere(text: str) -> None:
    try:
        check_name(text)
    except ValueError:
        return
    assert text
    assert len(text) <= NAME_MAX_CHARS
    assert not set(text) & set('/+#,=\\"\x00\n\t\r')
    assert not text.startswith((".", " "))
    assert text.isprintable()


@pytest.mark.parametrize("unit", UNITS)
def test_a_known_unit_is_itself(unit: str) -> None:
    assert check_unit(unit) == unit


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("cel", "Cel"),
        ("kwh", "kW.h"),
        ("degree C", "Cel"),
        ("ug/m^3", "ug/m3"),
        ("Kpa", "kPa"),
        ("HZ", "Hz"),
        ("percent", "%"),
    ],
)
def test_a_mistyped_unit_is_told_the_one_that_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as caught:
        check_unit(typed)
    assert meant in str(caught.value).split("did you mean: ")[1]


def test_nonsense_is_quoted_short() -> None:
    with pytest.raises(ValueError, match="1 for no unit") as caught:
        check_unit("☃" * 10_000)
    assert len(str(caught.value)) < 200

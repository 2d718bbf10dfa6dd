"""Line protocol: what is written, where each line came from, and what cannot be a line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud.stores.base import FramePoints, Series
from cloud.stores.lines import INFLUX, VICTORIA, Lines, Prefixes
from contract.readings import Kind, Quality, Reason, Table, Value, status
from contract.topics import GatewayPath

PATH = GatewayPath("上海", "d", "s", "g")
TAGS = "city=上海,device=D,district=d,gateway=g,stream={},street=s"


def series(stream: str, kind: Kind, *, device: str = "D", quantity: str = "q") -> Series:
    return Series(PATH, device, stream, quantity, "1", kind)


def lines_of(*parts: tuple[Table, tuple[Series, ...]], dialect: object = INFLUX) -> Lines:
    lines = Lines(Prefixes(VICTORIA if dialect is VICTORIA else INFLUX))
    lines.add(5, FramePoints(PATH, 1, 1, tuple(table for table, _ in parts), tuple(names for _, names in parts)))
    return lines


def text_of(lines: Lines) -> list[str]:
    return lines.body(range(len(lines))).decode().split("\n")


def one(kind: Kind, value: Value, code: int = 0, time_ns: int = 17) -> Table:
    dtype = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_, Kind.TEXT: object}[kind]
    values: NDArray[np.generic] = np.empty((1, 1), dtype=dtype)
    values[0, 0] = value
    return Table(kind, np.array([9], np.int32), np.array([time_ns]), values, np.array([[code]], np.uint8))


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        (Kind.FLOAT, 0.1 + 0.2, "value=0.30000000000000004"),
        (Kind.FLOAT, -0.0, "value=-0.0"),
        (Kind.FLOAT, 1e22, "value=1e+22"),
        (Kind.INT, -(2**63), "count=-9223372036854775808i"),
        (Kind.BOOL, False, "state=f"),
        (Kind.TEXT, 'say "hi" \\ now\\', r'text="say \"hi\" \\ now\\"'),
        (Kind.TEXT, "", 'text=""'),
        (Kind.TEXT, "雨 ☂", 'text="雨 ☂"'),
    ],
)
def test_a_value_is_written_exactly(kind: Kind, value: Value, field: str) -> None:
    assert text_of(lines_of((one(kind, value), (series("S", kind),)))) == [f"q,{TAGS.format('S')} {field} 17"]


def test_rows_columns_gaps_and_quality_end_up_in_the_right_lines() -> None:
    uncertain = status(Quality.UNCERTAIN, Reason.OUT_OF_RANGE)
    table = Table(
        Kind.FLOAT,
        np.array([4, 8], np.int32),
        np.array([100, 200, 300]),
        np.array([[1.0, np.nan], [2.0, -np.inf], [np.nan, 3.0]]),
        np.array([[0, 0], [uncertain, status(Quality.BAD, Reason.SENSOR_FAULT)], [0xFF, 0]], np.uint8),
    )
    lines = lines_of((table, (series("a", Kind.FLOAT), series("b", Kind.FLOAT))))
    a, b = f"q,{TAGS.format('a')}", f"q,{TAGS.format('b')}"
    assert text_of(lines) == [
        f"{a} value=1.0 100",
        f"{b} quality=2i,reason=5i 100",
        f"{a} value=2.0,quality=1i,reason=1i 200",
        f"{b} quality=2i,reason=4i 200",
        f"{b} value=3.0 300",
    ]
    assert table.status[0, 1] == 0  # the frame itself is not touched
    assert [lines.rejection(index, "r")[:3] for index in range(5)] == [
        (5, 4, 100),
        (5, 8, 100),
        (5, 4, 200),
        (5, 8, 200),
        (5, 8, 300),
    ]
    assert lines.body([4, 0]).decode().split("\n") == [f"{b} value=3.0 300", f"{a} value=1.0 100"]


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("a b", r"a\ b"),
        ("a,b=c", r"a\,b\=c"),
        ('a"b', 'a"b'),
        ("a\\b", "a\\b"),
        ("泵 房", r"泵\ 房"),
    ],
)
def test_names_are_escaped(name: str, escaped: str) -> None:
    [line] = text_of(lines_of((one(Kind.INT, 1), (series("S", Kind.INT, device=name, quantity="a b,c=d"),))))
    assert line == rf"a\ b\,c=d,city=上海,device={escaped},district=d,gateway=g,stream=S,street=s count=1i 17"


@pytest.mark.parametrize("name", ["", "ends\\", "two\nlines", "nul\x00", "cr\r"])
def test_a_name_that_no_line_can_carry_is_refused_and_the_rest_written(name: str) -> None:
    lines = lines_of(
        (one(Kind.INT, 1), (series("S", Kind.INT, device=name),)), (one(Kind.INT, 2), (series("T", Kind.INT),))
    )
    assert text_of(lines) == [f"q,{TAGS.format('T')} count=2i 17"]
    [refused] = lines.refused
    assert refused[:3] == (5, 9, 17)
    assert "device" in refused.reason
    assert lines.rejection(0, "r").stream == 9


def test_a_measurement_cannot_pose_as_a_comment() -> None:
    assert len(lines_of((one(Kind.INT, 1), (series("S", Kind.INT, quantity="#q"),)))) == 0


def test_what_victoriametrics_would_silently_lose_is_refused() -> None:
    parts = (
        (one(Kind.TEXT, "on"), (series("S", Kind.TEXT),)),
        (one(Kind.INT, 1, time_ns=999_999), (series("T", Kind.INT),)),
    )
    lines = lines_of(*parts, dialect=VICTORIA)
    assert len(lines) == 0
    assert [refusal.reason for refusal in lines.refused] == [
        "VictoriaMetrics stores numbers alone, not text",
        "VictoriaMetrics holds no time before 1970",
    ]
    assert len(lines_of(*parts)) == 2


def test_an_empty_table_and_a_lone_surrogate_do_no_harm() -> None:
    empty = Table(
        Kind.INT, np.array([], np.int32), np.array([], np.int64), np.empty((0, 0), np.int64), np.empty((0, 0), np.uint8)
    )
    lines = lines_of((empty, ()), (one(Kind.TEXT, "a\ud800b"), (series("S", Kind.TEXT),)))
    assert text_of(lines) == [f'q,{TAGS.format("S")} text="a?b" 17']


def test_prefixes_are_bounded_and_follow_the_object() -> None:
    prefixes = Prefixes(kept=3)
    for number in range(50):
        assert f"stream=s{number},".encode() in prefixes.of(series(f"s{number}", Kind.INT)).text
        assert len(prefixes._known) <= 3


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_no_text_can_end_its_own_quotes(value: str) -> None:
    line = lines_of((one(Kind.TEXT, value), (series("S", Kind.TEXT),))).body(range(1)).decode()
    body = line.removeprefix(f"q,{TAGS.format('S')} text=").removesuffix(" 17")
    assert body[0] == body[-1] == '"'
    found, position = "", 1
    while position < len(body) - 1:  # the reader of line protocol: a backslash takes the next character as it is
        assert body[position] != '"'
        position += body[position] == "\\"
        found += body[position]
        position += 1
    assert position == len(body) - 1
    assert found == value

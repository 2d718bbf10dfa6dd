"""What a technician may write about a camera, and what follows from it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cameras import spec_of
from pydantic import ValidationError

from contract.readings import Kind
from contract.units import UNITS
from drivers.base import StewardedSpec
from drivers.base_camera import MEANINGS, CameraBusSpec, CameraDeviceSpec, Measure
from drivers.base_camera_shapes import ground_problem, line_problem, polygon_problem
from drivers.base_camera_source import SourceKind, parse_source

LINES = [{"name": "stop", "a": [0.1, 0.6], "b": [0.9, 0.6], "directions": ["in", "out"]}]
ZONES = [{"name": "queue", "polygon": [[0.2, 0.2], [0.8, 0.2], [0.8, 0.6], [0.2, 0.6]]}]
GROUND: dict[str, list[list[float]]] = {
    "picture": [[0.1, 0.9], [0.9, 0.9], [0.6, 0.3], [0.4, 0.3]],
    "metres": [[0, 0], [10, 0], [10, 30], [0, 30]],
}
URL = "rtsp://10.0.0.5/stream1"
PAGE = (Path(__file__).parents[3] / "docs" / "drivers-camera.md").read_text(encoding="utf-8")


def camera(**keys: Any) -> CameraDeviceSpec:
    return spec_of(URL, **keys).devices[0]


def names(device: CameraDeviceSpec) -> list[str]:
    return [stream.name for stream in device.streams]


def test_streams_follow_from_lines_and_zones() -> None:
    device = camera(lines=LINES, zones=ZONES, classes=["car", "bus"], ground=GROUND)
    expected = [
        f"{name}.stop.{direction}{kind}"
        for direction in ("in", "out")
        for name, kind in (("crossings", ".car"), ("crossings", ".bus"), ("crossings", ""), ("flow", ""), ("speed", ""))
    ]
    expected += [f"{name}.queue" for name in ("occupancy", "occupancy_max", "queue", "queue_max", "dwell")]
    expected += ["coverage", "frames_used", "frames_dropped", "camera_state", "model", "calibration"]
    assert names(device) == expected
    by_name = {stream.name: stream for stream in device.streams}
    flow = by_name["flow.stop.in"]
    assert (flow.quantity, flow.unit, flow.type, flow.resolution) == ("traffic_flow", "{count}/h", Kind.FLOAT, 0.1)
    assert (by_name["crossings.stop.in.car"].type, by_name["crossings.stop.in.car"].unit) == (Kind.INT, "{count}")
    assert (by_name["coverage"].valid_range, by_name["camera_state"].type) == ((0, 1), Kind.TEXT)


def test_without_ground_there_is_no_speed_and_without_classes_no_class() -> None:
    assert names(camera(lines=LINES))[:4] == [
        "crossings.stop.in",
        "flow.stop.in",
        "crossings.stop.out",
        "flow.stop.out",
    ]
    assert names(camera())[0] == "coverage"


def test_hidden_small_counts_cannot_be_had_by_subtraction() -> None:
    device = camera(lines=LINES, classes=["car", "person"], hide_below=3)
    counted = [stream for stream in device.streams if stream.line]
    assert {stream.object_class for stream in counted} == {"car", "person"}
    assert {stream.hide_below for stream in counted} == {3}
    assert {stream.hide_below for stream in device.streams if not stream.line} == {None}
    totals = camera(lines=LINES, hide_below=3)
    assert "flow.stop.in" in names(totals)


def test_a_stream_may_be_named_and_say_more() -> None:
    streams = [
        {"name": "buses", "measure": "crossings", "line": "stop", "direction": "in", "object_class": "bus"},
        {"measure": "occupancy", "zone": "queue", "hide_below": 2, "resolution": 0.1, "grade": "open"},
        {"measure": "camera_state"},
    ]
    device = camera(lines=LINES, zones=ZONES, streams=streams, hide_below=5)
    assert names(device) == ["buses", "occupancy.queue", "camera_state"]
    assert [stream.hide_below for stream in device.streams] == [5, 2, None]
    assert device.streams[1].resolution == 0.1


def test_every_measure_has_a_unit_and_a_name_of_its_own() -> None:
    assert set(MEANINGS) == set(Measure)
    assert {meaning.unit for meaning in MEANINGS.values()} <= set(UNITS)
    quantities = [meaning.quantity for meaning in MEANINGS.values()]
    assert len(set(quantities)) == len(quantities)
    assert all(meaning.resolution for meaning in MEANINGS.values() if meaning.type is Kind.FLOAT)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"measure": "crossings", "direction": "in"}, "line: missing; measure 'crossings' needs it"),
        ({"measure": "crossings", "line": "stop"}, "direction: missing"),
        ({"measure": "dwell", "line": "stop"}, "line: measure 'dwell' has none"),
        ({"measure": "coverage", "zone": "queue"}, "zone: measure 'coverage' has none"),
        ({"measure": "model", "object_class": "car"}, "object_class: measure 'model' counts no objects"),
        ({"measure": "coverage", "hide_below": 2}, "hide_below: measure 'coverage' counts no objects"),
        ({"measure": "coverage", "type": "int"}, "type: expected float for measure 'coverage', found int"),
        (
            {"measure": "dwell", "zone": "queue", "object_class": "lorry"},
            "'lorry' is not among the camera's classes; known: car",
        ),
        ({"measure": "coverage", "interval_s": 5}, "all streams of a camera share the camera's interval"),
        ({"measure": "coverage", "unit": "kmh"}, "did you mean: km/h"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(stream: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        camera(lines=LINES, zones=ZONES, classes=["car"], streams=[stream])


def test_the_same_stream_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="two are called 'coverage'"):
        camera(streams=[{"measure": "coverage"}, {"measure": "coverage"}])


def test_the_calibration_changes_with_the_scene_alone() -> None:
    first = camera(lines=LINES)
    assert re.fullmatch("[0-9a-f]{12}", first.calibration)
    assert camera(lines=LINES, fps=10, interval_s=30).calibration == first.calibration
    changes: list[dict[str, Any]] = [{"zones": ZONES}, {"ground": GROUND}, {"masks": [SQUARE]}, {"lines": []}]
    for more in changes:
        assert camera(**{"lines": LINES, **more}).calibration != first.calibration


SQUARE = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)]


def test_polygons() -> None:
    assert polygon_problem(SQUARE) == ""
    assert polygon_problem(SQUARE[::-1]) == ""
    l_shape = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.4), (0.4, 0.4), (0.4, 0.9), (0.1, 0.9)]
    assert polygon_problem(l_shape) == ""
    assert "sides 1 and 3 cross" in polygon_problem([SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]])
    assert "point 1 stands twice in a row" in polygon_problem([SQUARE[0], *SQUARE])
    assert "the last point is the first" in polygon_problem([*SQUARE, SQUARE[0]])
    touching = [(0.1, 0.1), (0.5, 0.5), (0.9, 0.1), (0.9, 0.9), (0.5, 0.5), (0.1, 0.9)]
    assert "cross" in polygon_problem(touching)
    assert "covers" in polygon_problem([(0.5, 0.5), (0.51, 0.5), (0.5, 0.51)])
    assert "covers" in polygon_problem([(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)])


def test_lines() -> None:
    assert line_problem((0, 0), (0, 0.02)) == ""
    assert "apart" in line_problem((0.5, 0.5), (0.5, 0.5))
    with pytest.raises(ValidationError, match="both are called 'in'"):
        camera(lines=[{**LINES[0], "directions": ["in", "in"]}])


def test_ground() -> None:
    def problem(picture: list[list[float]], metres: list[list[float]]) -> str:
        return ground_problem([(x, y) for x, y in picture], [(x, y) for x, y in metres])

    picture, metres = GROUND["picture"], GROUND["metres"]
    assert problem(picture, metres) == ""
    assert problem(picture, [[-x, y] for x, y in metres]) == ""  # seen from below: the other way round
    assert "same order" in problem(picture, [metres[0], metres[1], metres[3], metres[2]])
    flat = [[0.1, 0.9], [0.9, 0.9], [0.5, 0.905], [0.4, 0.3]]
    assert "picture: points 1, 2 and 3 stand on one line" in problem(flat, metres)
    assert "metres: points 1, 2 and 3" in problem(picture, [[0, 0], [1, 0], [2, 0], [0, 5]])
    assert "stand on one line" in problem([picture[0]] * 4, metres)


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("rtsp://10.0.0.5/a", SourceKind.RTSP, "rtsp://10.0.0.5:554/a"),
        ("rtsp://cam.local:8554/ch0?stream=2", SourceKind.RTSP, "rtsp://cam.local:8554/ch0"),
        ("rtsp://[fe80::1]/a", SourceKind.RTSP, "rtsp://[fe80::1]:554/a"),
        ("http://10.0.0.5", SourceKind.HTTP, "http://10.0.0.5:80/"),
        ("/dev/video0", SourceKind.V4L2, "/dev/video0"),
        ("street.mp4", SourceKind.FILE, "street.mp4"),
    ],
)
def test_sources(text: str, kind: SourceKind, shown: str) -> None:
    source = parse_source(text)
    assert (source.kind, source.shown) == (kind, shown)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://admin:hunter2@10.0.0.5/a",
        "rtsp://hunter2@10.0.0.5/a",
        "admin:hunter2@10.0.0.5/a",
        "http://10.0.0.5/v?user=admin&password=hunter2",
        "http://10.0.0.5/v?loginpas=hunter2",
        "rtsp://10.0.0.5:hunter2/a",
        "rtsp://[hunter2/a",
    ],
)
def test_a_secret_in_a_source_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_source(text)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "ftp://10.0.0.5/a", "rtsp:///a", "rtsp://10.0.0.5/a\nb", "https://10.0.0.5/a"])
def test_what_is_no_source(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        parse_source(text)


def test_credentials_are_put_where_the_camera_wants_them() -> None:
    assert (
        parse_source("rtsp://10.0.0.5/a?b=1").url("ad min", "p@s:/%")
        == "rtsp://ad%20min:p%40s%3A%2F%25@10.0.0.5:554/a?b=1"
    )
    wants = parse_source("http://10.0.0.5/v.cgi?user={username}&pwd={password}")
    assert wants.url("admin", "a&b") == "http://10.0.0.5:80/v.cgi?user=admin&pwd=a%26b"
    assert wants.shown == "http://10.0.0.5:80/v.cgi"


@pytest.mark.parametrize(
    ("source", "bus", "message"),
    [
        (URL, {"username": "admin"}, "expected both 'username' and 'password_file'"),
        (URL, {"username": "a:b", "password_file": "/x"}, "with ':' in it"),
        ("/dev/video0", {"username": "a", "password_file": "/x"}, "only cameras on the network"),
        ("http://h/v?pwd={password}", {}, "names {password}"),
    ],
)
def test_credentials_that_do_not_fit(source: str, bus: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        spec_of(source, bus=bus)


def test_every_key_is_on_the_page_and_its_examples_are_valid() -> None:
    own = set(CameraDeviceSpec.model_fields) | set(CameraBusSpec.model_fields)
    own -= set(StewardedSpec.model_fields)  # every device's; docs/configuration.md has them
    missing = {
        key
        for key in own - {"name", "profile", "driver", "devices", "site", "scale", "offset"}
        if f"`{key}`" not in PAGE
    }
    assert missing - {"manufacturer", "serial_number"} == set()
    assert {measure for measure in Measure if f"`{measure.value}`" not in PAGE} == set()
    blocks = [yaml.safe_load(block.split("```")[0]) for block in PAGE.split("```yaml")[1:]]
    buses = [block["buses"][0] for block in blocks if isinstance(block, dict) and "buses" in block]
    assert len(buses) >= 2
    for bus in buses:
        assert CameraBusSpec.model_validate(bus).devices[0].streams

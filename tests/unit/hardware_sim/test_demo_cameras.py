"""The demo's cameras: a configuration that the product takes, and a summary that does not flatter."""

from pathlib import Path

import pytest
import yaml

from drivers.registry import Registry
from edge.config import load
from hardware_sim import demo_cameras
from hardware_sim.demo_cameras import INTERVAL_S, SECOND, Points, add_to_gateway, add_to_scenario, choose, tally
from hardware_sim.scenario import read_scenario

ROOT = Path(__file__).resolve().parents[3]
LEFT, RIGHT, COVERAGE = "crossings.road.along", "crossings.road.against", "coverage"


def ends(*values: float | None) -> dict[int, float]:
    """Values of intervals one after another; None is a gap."""
    return {(place + 1) * INTERVAL_S * SECOND: value for place, value in enumerate(values) if value is not None}


@pytest.mark.parametrize("kind", ["rtsp", "mjpeg"])
def test_simulator_and_gateway_take_the_same_cameras(kind: str, tmp_path: Path) -> None:
    scenario = (ROOT / "hardware-sim/scenarios/street.yaml").read_text(encoding="utf-8")
    (tmp_path / "street.yaml").write_text(add_to_scenario(scenario, kind), encoding="utf-8")
    ports = {port.name: port for port in read_scenario(tmp_path / "street.yaml").ports}
    assert {ports[camera.mast].kind for camera in demo_cameras.CAMERAS} == {kind}
    gateway = (ROOT / "configs/demo/gateway.yaml").read_text(encoding="utf-8")
    text = add_to_gateway(gateway, kind, yaml.safe_load(scenario)["seed"], ROOT / "models")
    (tmp_path / "gateway.yaml").write_text(text, encoding="utf-8")
    config = load(tmp_path / "gateway.yaml", Registry())
    buses = {bus.name: bus for bus in config.buses}
    for camera in demo_cameras.CAMERAS:
        device = buses[camera.mast].devices[0]
        assert device.name == camera.name
        assert {LEFT, RIGHT, COVERAGE} <= {stream.name for stream in device.streams}


def test_without_a_model_there_are_no_cameras_and_it_is_said(tmp_path: Path) -> None:
    kind, words = choose(tmp_path)
    assert kind == ""
    assert str(tmp_path / "street-small.onnx") in words


def test_gaps_are_left_out_on_both_sides_and_told() -> None:
    """Two of four intervals have a count; who crossed in the others is not asked for."""
    points: Points = {LEFT: ends(1, None, 2, None), RIGHT: ends(0, None, 1, None), COVERAGE: ends(1, 0, 0.9, 0.5)}
    happened = [(round(at_s * SECOND), way) for at_s, way in [(0.1, "along"), (2.5, "along"), (4.0, "along")]]
    happened += [(round(at_s * SECOND), way) for at_s, way in [(4.1, "along"), (5.9, "against"), (6.0, "against")]]
    found = tally(points, happened)
    assert (found.counted, found.happened) == ({"along": 3, "against": 1}, {"along": 2, "against": 2})
    assert (found.intervals, found.gaps) == (4, 2)
    line = found.line("camera-1")
    assert "counted 4, truth 4 (against 1 of 2, along 3 of 2; GEH 0.0)" in line
    assert "saw 60.0% of 8 s, 2 of 4 intervals are gaps" in line


def test_a_camera_that_never_was_there_is_no_success() -> None:
    assert "counted 0, truth 0 (; GEH 0.0); saw 0.0% of 0 s" in tally({}, [(SECOND, "along")]).line("camera-2")

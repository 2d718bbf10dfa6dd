import dataclasses
from pathlib import Path

import pytest

from hardware_sim.faults import Chance, Kind, Planned, Rate
from hardware_sim.scenario import read_scenario
from hardware_sim.yaml_reader import ScenarioError

SCENARIOS = Path(__file__).parents[3] / "hardware-sim" / "scenarios"
GOOD = """\
seed: 3
start: 2026-03-01T06:00:00+08:00
ports:
  - name: a
    kind: modbus-tcp
    devices:
      - {name: m, type: sdm630, unit: 1}
      - {name: c, type: counter, unit: 2}
  - name: s
    kind: serial
    devices: [{name: t, type: text}]
faults:
  - {device: m, kind: timeout, at_s: 5, seconds: 2}
  - {device: m, kind: drift, per_hour: 2, seconds: [1, 3], drift: 0.5}
  - {device: t, kind: crc_error, probability: 0.5}
"""


def refusal(folder: Path, text: str) -> str:
    path = folder / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        read_scenario(path)
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_scenarios_are_right(path: Path) -> None:
    assert read_scenario(path).devices


def test_the_load_scenario_is_a_thousand_registers() -> None:
    devices = read_scenario(SCENARIOS / "load.yaml").devices
    assert sum(device.options["registers"] for device in devices) == 1000
    assert {device.type for device in devices} == {"counter"}


def test_a_scenario_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    scenario = read_scenario(path)
    assert (scenario.seed, scenario.start_s, scenario.speed) == (3, 1_772_316_000, 1)
    assert scenario.ports[1].link == "s"
    timeout, drift = scenario.devices[0].plans
    assert timeout == Planned(dataclasses.replace(timeout.fault, kind=Kind.TIMEOUT), 5, 2)
    assert isinstance(drift, Rate)
    assert (drift.per_hour, drift.seconds, drift.fault.drift) == (2, (1, 3), 0.5)
    assert isinstance(scenario.devices[2].plans[0], Chance)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 3", "sed: 3", ":1:1: sed: unknown key, expected one of seed, start"),
        ("seed: 3", "sed: 3", "(did you mean 'seed'?)"),
        ("seed: 3", "seed: three", ":1:7: seed: expected a whole number, found 'three'"),
        ("seed: 3", "seed: -1", ":1:7: seed: expected a whole number from 0"),
        ("seed: 3", "seed: true", ":1:7: seed: expected a whole number"),
        ("+08:00", "", ":2:8: start: expected a time like"),
        (
            "kind: modbus-tcp",
            "kind: modbus-udp",
            ":5:11: ports[0].kind: found 'modbus-udp', expected one of modbus-tcp",
        ),
        (
            "kind: modbus-tcp",
            "kind: modbus-tcp\n    port: 70000",
            ":6:11: ports[0].port: expected a whole number from 0 to 65535",
        ),
        ("name: a", "kind2: a", "ports[0]: missing key 'name': expected a text"),
        ("unit: 2", "unit: 1", ":8:40: ports[0].devices[1].unit: port a unit 1 is there twice"),
        ("unit: 2", "unit: 300", ":8:40: ports[0].devices[1].unit: expected a whole number from 1 to 247"),
        ("name: c", "name: m", ":8:16: ports[0].devices[1].name: device m is there twice"),
        ("name: c", "name: 'c 1'", "expected a name without spaces"),
        ("type: counter", "type: conter", "(did you mean 'counter'?)"),
        ("type: counter", "type: counter, format: int8", "format: found 'int8', expected one of uint16"),
        ("type: text", "type: text, requests: x", "(did you mean 'request'?)"),
        ("[{name: t, type: text}]", "[]", "devices: expected a list with at least one entry"),
        ("[{name: t, type: text}]", "[{name: t, type: text}, {name: u, type: text}]", "exactly one device"),
        ("kind: serial", "kind: serial\n    link: a/b", "expected a plain file name"),
        ("device: t", "device: x", ":15:14: faults[2].device: no device 'x', expected one of c, m, t"),
        ("kind: crc_error", "kind: exception", "t is a text: it cannot have the fault exception"),
        ("device: m, kind: drift", "device: c, kind: drift", "c is a counter: it cannot have the fault drift"),
        ("kind: crc_error", "kind: nan", "nan lasts for a while: expected at_s or per_hour"),
        ("kind: crc_error", "kind: crc", "(did you mean 'crc_error'?)"),
        (", probability: 0.5", "", "expected exactly one of at_s, per_hour, probability"),
        ("probability: 0.5", "probability: 1.5", "expected a number from 0 to 1, found 1.5"),
        ("[1, 3]", "[3, 1]", "expected a number, or [low, high]"),
        ("seed: 3", "seed: 3\nseed: 4", ":2:1: seed: given twice"),
        ("seed: 3", "seed: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    assert said in refusal(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "said"), [("", "the file is empty"), ("- 1", "expected a mapping"), ("seed: 1", "ports")]
)
def test_files_that_are_no_scenario(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_scenario(tmp_path / "none.yaml")

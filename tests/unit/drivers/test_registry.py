"""Drivers by name, and device profiles laid under a device's own keys."""

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from contract.config_file import MarkedDict, load_yaml, validate
from contract.errors import ConfigError
from drivers import profile_files
from drivers.base import Driver, DriverRegistry
from drivers.profile_files import FOLDER
from drivers.registry import BUILT_IN, GROUP, Registry
from drivers.serial import DRIVER as SERIAL
from drivers.serial import SerialBusSpec, SerialDevice

PROFILE = """\
driver: serial
manufacturer: Acme
model: T1000
document: "Acme T1000 manual, revision 3"
interval_s: 10
text: {kind: csv, columns: [t, h, p]}
streams:
  - {name: t, quantity: temperature, unit: Cel, field: t, valid_range: [-40, 60]}
  - {name: h, quantity: humidity, unit: "%", field: h}
  - {name: p, quantity: pressure, unit: hPa, field: p}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "acme-t1000.yaml").write_text(PROFILE)
    return Registry(installed=list, profiles=folder)


def device_of(tmp_path: Path, text: str) -> MarkedDict:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return load_yaml(path)


def test_it_is_the_registry_the_edge_expects() -> None:
    registry: DriverRegistry = Registry()
    assert set(BUILT_IN) <= set(registry.names())
    assert registry.get("serial") is SERIAL
    assert registry.get("serial") is registry.get("serial")


def test_an_unknown_driver_is_answered_with_the_nearest(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="no driver 'seriel'; did you mean 'serial'"):
        registry.get("seriel")


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "driver_without_extra.py").write_text("import a_client_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BUILT_IN, "modbus", "driver_without_extra")
    with pytest.raises(ConfigError, match=r"needs a_client_that_is_not_installed.*pip install 'weinao\[modbus\]'"):
        Registry(installed=list).get("modbus")


def plugin(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=GROUP)


def test_third_parties_register_by_entry_point(caplog: pytest.LogCaptureFixture) -> None:
    points = [
        plugin("theirs", "drivers.serial:DRIVER"),
        plugin("broken", "no_such_package.driver:DRIVER"),
        plugin("wrong", "drivers.serial:IDLE_S"),
        plugin("modbus", "drivers.serial:DRIVER"),
    ]
    registry = Registry(installed=lambda: points)
    assert {"theirs", "broken", "wrong"} <= set(registry.names())
    assert isinstance(registry.get("theirs"), Driver)
    assert "driver modbus of drivers.serial:DRIVER is ignored: the name is taken" in caplog.messages
    with pytest.raises(ConfigError, match="cannot be loaded: No module named 'no_such_package'"):
        registry.get("broken")
    with pytest.raises(ConfigError, match=r"is a float; expected a drivers\.base\.Driver"):
        registry.get("wrong")


def test_a_device_overrides_picks_and_adds(registry: Registry, tmp_path: Path) -> None:
    device = device_of(
        tmp_path,
        "name: roof\nprofile: acme-t1000\ninterval_s: 60\nwithout: [p]\nmodel: T1000-X\n"
        "streams:\n"
        "  - {name: t, deadband: 0.2}\n"
        '  - {name: h2, quantity: humidity, unit: "%", field: h}\n',
    )
    before = dict(device)
    expanded = registry.expand(device, "serial")
    assert dict(device) == before
    spec = SerialBusSpec.model_validate(
        {"name": "bus", "driver": "serial", "serial_port": "/dev/null", "devices": [expanded]}
    ).devices[0]
    assert [stream.name for stream in spec.streams] == ["t", "h", "h2"]
    assert (spec.streams[0].deadband, spec.streams[0].valid_range) == (0.2, (-40, 60))
    assert (spec.interval_s, spec.manufacturer, spec.model) == (60, "Acme", "T1000-X")
    assert spec.profile == "acme-t1000"


def test_only_picks_in_the_profiles_order(registry: Registry) -> None:
    device = {"name": "roof", "profile": "acme-t1000", "only": ["p", "t"]}
    assert [stream["name"] for stream in registry.expand(device, "serial")["streams"]] == ["t", "p"]


def test_a_stream_the_device_describes_is_wanted(registry: Registry) -> None:
    device = {"name": "roof", "profile": "acme-t1000", "only": ["t"], "streams": [{"name": "p", "deadband": 1}]}
    streams = registry.expand(device, "serial")["streams"]
    assert [(stream["name"], stream.get("deadband"), stream["unit"]) for stream in streams] == [
        ("t", None, "Cel"),
        ("p", 1, "hPa"),
    ]


def test_a_device_without_profile_stays_as_it_is(registry: Registry) -> None:
    device = {"name": "roof", "streams": []}
    assert registry.expand(device, "serial") is device


def test_errors_still_name_the_line_they_stand_in(registry: Registry, tmp_path: Path) -> None:
    device = device_of(
        tmp_path,
        "name: roof\nprofile: acme-t1000\nstreams:\n  - name: h\n    unit: percents\n    valid_range: [0, 1]\n",
    )
    (tmp_path / "profiles" / "acme-t1000.yaml").write_text(PROFILE.replace("field: t,", "feeld: t,"))
    expanded = registry.expand(device, "serial")
    assert isinstance(expanded, MarkedDict)
    with pytest.raises(ConfigError) as refused:
        validate(expanded, SerialDevice)
    assert [line.removeprefix(f"{tmp_path}/") for line in refused.value.problems] == [
        "gateway.yaml:5:11: streams.1.unit: an unknown UCUM unit 'percents'; did you mean: {count}?",
        "profiles/acme-t1000.yaml:8:49: streams.0.feeld: unknown key; did you mean 'field'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile: acme-t100\n", "gateway.yaml:1:10: profile: no profile 'acme-t100'; did you mean acme-t1000?"),
        ("profile: ./nowhere.yaml\n", "gateway.yaml:1:10: profile: no such file"),
        ("profile: 5\n", "gateway.yaml:1:10: profile: expected a profile's name"),
        (
            "profile: acme-t1000\nonly: [t, q]\n",
            "gateway.yaml:2:11: only.1: the profile has no stream 'q'; known: t, h, p",
        ),
        ("profile: acme-t1000\nwithout: t\n", "gateway.yaml:2:10: without: expected a list"),
        ("only: [t]\n", "gateway.yaml:1:7: only: picks streams of a profile, and there is none here"),
    ],
)
def test_a_wrong_profile_key_is_named_with_its_place(
    registry: Registry, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        registry.expand(device_of(tmp_path, text), "serial")
    assert message in str(refused.value)


def test_a_profile_of_another_driver_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="acme-t1000 is a profile of driver 'serial', but this bus has driver 'modbus'"
    ):
        registry.expand(device_of(tmp_path, "profile: acme-t1000\n"), "modbus")


def test_a_profile_may_be_a_file_beside_the_config(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PROFILE)
    assert len(registry.expand(device_of(tmp_path, "profile: ./mine.yaml\n"), "serial")["streams"]) == 3


@pytest.mark.parametrize("key", ["driver", "manufacturer", "model", "document", "streams"])
def test_a_profile_must_say_what_it_is(registry: Registry, tmp_path: Path, key: str) -> None:
    path = tmp_path / "profiles" / "acme-t1000.yaml"
    lines = PROFILE.splitlines(keepends=True)
    path.write_text(
        "".join(line for line in lines[:7] if not line.startswith(key)) + "".join(lines[7:] * (key != "streams"))
    )
    with pytest.raises(ConfigError, match=f"{key}: missing"):
        registry.expand({"profile": "acme-t1000"}, "serial")


def test_the_listing_names_document_and_streams(registry: Registry) -> None:
    [info] = registry.profiles()
    assert (info.name, info.driver, info.model, info.streams) == ("acme-t1000", "serial", "T1000", 3)
    assert info.document == "Acme T1000 manual, revision 3"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_fits_its_drivers_device(path: Path) -> None:
    registry = Registry()
    raw = profile_files.load_profile(path)
    driver = registry.get(raw["driver"])
    device = registry.expand({"name": "device", "profile": path.stem}, raw["driver"])
    devices = TypeAdapter(driver.bus_spec.model_fields["devices"].rebuild_annotation())
    # What only the place of installation knows: a Modbus unit. A driver that has no such key refuses it.
    own_keys: dict[str, Any] = {"unit": 1} if raw["driver"] == "modbus" and "unit" not in device else {}
    [spec] = devices.validate_python([{**device, **own_keys}])
    assert len(spec.streams) == len(raw["streams"])

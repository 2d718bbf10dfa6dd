"""Every sample in configs/ is accepted, and every setting there is stands in the reference, with its true default."""

import re
import subprocess
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import gateway
from cloud import cli as cloud_cli
from cloud import config as cloud_config
from cloud.hub import config as hub_config
from cloud.hub.alert_rules import AlertSettings
from cloud.hub.quality_days import QualitySettings
from cloud.stores import specs
from contract import broker, metrics_config
from contract.catalogue import Area, Site
from drivers import base, base_camera, modbus_spec, replay, serial, serial_binary, serial_samples, serial_text
from drivers.registry import Registry
from edge import cli, page_config
from edge import config as edge_config

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.name.startswith("cloud-"))
CLOUD_SAMPLES = sorted((ROOT / "configs").glob("cloud-*.yaml"))
PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
DRIVERS = ["camera", "modbus", "serial", "replay"]

# Each heading of the reference, the model whose keys it lists, and what that model inherits and another table lists.
TABLES: dict[str, tuple[type[BaseModel], type[BaseModel] | None]] = {
    "`gateway`": (edge_config.GatewaySection, None),
    "`gateway.area`": (Area, None),
    "`gateway.site`": (Site, None),
    "`mqtt`": (edge_config.MqttSection, None),
    "`mqtt.tls`": (broker.Tls, None),
    "`outbox`": (edge_config.OutboxSection, None),
    "`publish`": (edge_config.PublishSection, None),
    "`clock`": (edge_config.ClockSection, None),
    "`health`": (edge_config.HealthSection, None),
    "`status`": (edge_config.StatusSection, None),
    "`vision`": (edge_config.VisionSection, None),
    "`metrics`": (metrics_config.Metrics, None),
    "`metrics.tls`": (metrics_config.MetricsTls, None),
    "`page`": (page_config.Page, None),
    "`page.tls`": (page_config.PageTls, None),
    "The top of the file": (edge_config.GatewayFile, None),
    "A bus": (base.BusSpec, None),
    "A device": (base.DeviceSpec, None),
    "A stream": (base.StreamSpec, None),
    "A stream's `aggregate`": (base.Aggregate, None),
    "A bus of `driver: replay`": (replay.ReplayBusSpec, base.BusSpec),
    "A device of `driver: replay`": (replay.ReplayDevice, base.DeviceSpec),
    "A stream of `driver: replay`": (replay.ReplayStream, base.StreamSpec),
    "`mqtt` of the cloud": (cloud_config.Mqtt, None),
    "`mqtt.tls` of the cloud": (broker.Tls, None),
    "`collector`": (cloud_config.Collector, None),
    "`store` of `kind: embedded`": (specs.EmbeddedSpec, None),
    "`store` of `kind: influxdb1`": (specs.Influx1Spec, None),
    "`store` of `kind: influxdb2`": (specs.Influx2Spec, None),
    "`data`": (cloud_config.Data, None),
    "`status` of the cloud": (cloud_config.Status, None),
    "`metrics` of the cloud": (cloud_config.CollectorMetrics, metrics_config.Metrics),
    "`hub.metrics`": (hub_config.HubMetrics, metrics_config.Metrics),
    "`hub`": (hub_config.HubConfig, None),
    "`hub.console`": (hub_config.ConsoleSettings, None),
    "`hub.tls`": (hub_config.ServerTls, None),
    "`hub.state`": (hub_config.State, None),
    "`hub.republish`": (hub_config.Republish, None),
    "`hub.live`": (hub_config.Live, None),
    "`hub.history`": (hub_config.History, None),
    "`hub.quality`": (QualitySettings, None),
    "`hub.alerts`": (AlertSettings, None),
    "`hub.retention`": (hub_config.Retention, None),
    "The top of the cloud's file": (cloud_config.CloudConfig, None),
}
# Drivers with a page of their own, which lists what is theirs alone.
PAGES: dict[str, tuple[type[BaseModel], set[type[BaseModel]]]] = {
    "drivers-camera.md": (base_camera.CameraBusSpec, {base.BusSpec, base.DeviceSpec, base.StreamSpec}),
    "drivers-modbus.md": (modbus_spec.ModbusBusSpec, {base.BusSpec, base.DeviceSpec, base.StreamSpec}),
    "hub-quality.md": (AlertSettings, {AlertSettings}),
    "drivers-serial.md": (serial.SerialBusSpec, {base.BusSpec, base.DeviceSpec, base.StreamSpec}),
}
# Keys that the file's own code reads, before any model does.
BESIDE_THE_MODELS = {"The top of the file": {"buses"}, "A device": {"only", "without"}}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder with everything that the samples expect in /etc/weinao."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=gateway.example", "-keyout", str(tmp_path / "gateway.key")]
    subprocess.run([*command, "-out", str(tmp_path / "gateway.pem")], check=True, capture_output=True)
    for name in ("city-ca.pem", "substation-ca.pem"):
        (tmp_path / name).write_bytes((tmp_path / "gateway.pem").read_bytes())
    for name in ("mqtt-password", "camera-password"):
        (tmp_path / name).write_text("secret\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_a_gateway_sample_is_accepted(sample: Path, secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = secrets / sample.name
    copy.write_text(sample.read_text(encoding="utf-8").replace("/etc/weinao", str(secrets)), encoding="utf-8")
    code = cli.main(["check", str(copy)], Registry(), gateway.run)
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("sample", CLOUD_SAMPLES, ids=lambda path: path.name)
def test_a_cloud_sample_is_accepted(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_cli.main(["check", str(sample)]) == 0, capsys.readouterr().err


def test_the_demo_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    demo = ROOT / "configs/demo"
    assert cli.main(["check", str(demo / "gateway.yaml")], Registry(), gateway.run) == 0, capsys.readouterr().err
    assert cloud_cli.main(["check", str(demo / "cloud.yaml")]) == 0, capsys.readouterr().err


def test_every_driver_has_a_sample_that_shows_every_common_key() -> None:
    assert Registry().names() == sorted(DRIVERS)
    for driver in DRIVERS:
        texts = {path.name: path.read_text(encoding="utf-8") for path in SAMPLES}
        mine = [name for name, text in texts.items() if f"driver: {driver}" in text]
        assert mine, f"no sample for {driver}"
    for name, text in texts.items():
        for key in ("plaintext", "keepalive_s", "reconnect_max_s", "max_bytes", "min_free_bytes", "ack_timeout_s"):
            assert key in text, f"{name} does not show {key}"
        for key in ("owner", "contact", "grade", "shared_with", "retention", "legal_basis", "backoff_max_s"):
            assert key in text, f"{name} does not show {key}"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_defaults_told_by_a_sample_are_the_defaults(sample: Path) -> None:
    """`# port: 8883` in a comment of a sample says: this is the value when the key is absent."""
    sections = ("mqtt", "outbox", "publish")
    defaults = {
        key: field.default
        for section in sections
        for key, field in TABLES[f"`{section}`"][0].model_fields.items()
        if isinstance(field.default, int | float) and key not in {"linger_s", "port"}
    }
    defaults["backoff_max_s"] = edge_config.GatewayFile.model_fields["backoff_max_s"].default
    text = sample.read_text(encoding="utf-8").split("\nbuses:\n")[0]
    for key, value in re.findall(r"^ *#  *(\w+): ([\w.]+)", text, re.MULTILINE):
        if key in defaults:
            assert value == shown(defaults[key]), f"{sample.name}: {key}"


def rows_of(heading: str) -> dict[str, str]:
    """The keys that a table lists, with the cell of the default."""
    parts = PAGE.split(f"\n### {heading}\n")
    assert len(parts) == 2, f"no heading {heading!r}"
    rows: dict[str, str] = {}
    for line in re.split(r"\n#", parts[1])[0].splitlines():
        if line.startswith("| `"):
            keys, _, default, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:5])
            assert meaning or keys in {"`offset`", "`scale`"}, f"{heading}: {keys} means nothing"
            rows.update({key.strip("` "): default for key in keys.split(",")})
    return rows


def shown(value: Any) -> str:
    """A default as the reference writes it."""
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case float():
            return f"{value:g}"
        case tuple() | list():
            return "[" + ", ".join(str(one) or '""' for one in value) + "]"
        case "":
            return '""'
        case _:
            return str(value)


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_lists_every_key_with_its_default_and_nothing_else(heading: str) -> None:
    model, parent = TABLES[heading]
    rows = rows_of(heading)
    inherited = {} if parent is None else parent.model_fields
    fields = {key: field for key, field in model.model_fields.items() if key not in inherited or key in rows}
    assert set(rows) == set(fields) | BESIDE_THE_MODELS.get(heading, set())
    for key, field in fields.items():
        if field.is_required() or field.default is PydanticUndefined:
            assert rows[key] == "*needed*", f"{heading}: {key} is needed"
        elif field.default is None:
            assert rows[key] == "none", f"{heading}: {key} has no default"
        elif isinstance(field.default, BaseModel):
            assert rows[key] == ""
        else:
            assert rows[key] == f"`{shown(field.default)}`", f"{heading}: {key}"


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def reachable(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and every model under it."""
    found: set[type[BaseModel]] = set()
    waiting = [model]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [part for field in one.model_fields.values() for part in models_in(field.annotation)]
    return found


def test_no_section_is_left_out() -> None:
    roots = (edge_config.GatewayFile, base.BusSpec, replay.ReplayBusSpec, cloud_config.CloudConfig)
    elsewhere = set(reachable(AlertSettings)) - {AlertSettings}  # hub-quality.md has rules and channels
    everything = {part for root in roots for part in reachable(root)} - elsewhere
    assert everything == {model for model, _ in TABLES.values()}


@pytest.mark.parametrize("page", PAGES)
def test_a_drivers_page_has_every_key_of_its_own(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    root, parents = PAGES[page]
    known = {key for parent in parents for key in parent.model_fields} | set(Site.model_fields)
    known |= set(base.Aggregate.model_fields)
    for model in reachable(root):
        missing = {key for key in model.model_fields if key not in known and not re.search(rf"\b{key}\b", text)}
        assert not missing, f"{page} does not say what {missing} of {model.__name__} mean"


def test_the_serial_page_covers_the_formats() -> None:
    expected = {
        serial_samples.Transducer,
        serial_text.NmeaLines,
        serial_text.CsvLines,
        serial_text.RegexLines,
        serial_binary.BinaryFormat,
        serial_binary.Checksum,
        serial_binary.Length,
    }
    assert expected <= reachable(serial.SerialBusSpec)

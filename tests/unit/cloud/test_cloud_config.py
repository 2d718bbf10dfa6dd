import re
from pathlib import Path

import pytest

from cloud.config import load
from cloud.stores.specs import EmbeddedSpec
from contract.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"
GOOD = "store:\n  kind: embedded\ndata:\n  directory: d\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "cloud.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", ["cloud-demo.yaml", "cloud-influxdb1.yaml", "cloud-influxdb2.yaml"])
def test_the_samples_are_valid(name: str) -> None:
    load(CONFIGS / name)


def test_relative_paths_are_beside_the_config(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD + "mqtt: {username: u, password_file: p, tls: {ca: ca.pem}}\n"))
    assert config.data.ledger == tmp_path / "d" / "ledger.sqlite"
    assert config.status_socket == tmp_path / "d" / "status.sock"
    assert config.mqtt.password_file == tmp_path / "p"
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca == tmp_path / "ca.pem"
    assert isinstance(config.store, EmbeddedSpec)
    assert config.store.path == tmp_path / "weinao.duckdb"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "mqtt: {host: broker.city}\n", r":5:\d+: mqtt: broker.city is another machine and 'tls' is missing"),
        (GOOD + "mqtt: {embedded: true, host: 0.0.0.0}\n", "an embedded broker listens on this machine alone"),
        (GOOD + "mqtt: {tls: {ca: a, cert: b}}\n", "expected both 'cert' and 'key', or neither"),
        (GOOD + "mqtt: {password_file: p}\n", "'username' is missing: MQTT sends no password without one"),
        (GOOD + "collector:\n  batch_frame: 5\n", r":6:3: collector.batch_frame: unknown key.*batch_frames"),
        (GOOD + "collector: {name: a/b}\n", "collector.name"),
        ("data: {directory: d}\n", "store: missing"),
        (GOOD + "mqtt: {port: 70000}\n", r"mqtt.port: found 70000"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert re.search(said, str(caught.value)), str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "cloud.yaml"))


def test_plain_text_to_another_machine_must_be_meant(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD + "mqtt: {host: broker.city, plaintext: true}\n")).mqtt.tls is None

"""Beyond this machine metrics are shown only with a password, and the password only over TLS."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cloud import config as cloud_config
from contract.errors import ConfigError
from contract.metrics_config import Metrics
from drivers.registry import Registry
from edge import config as edge_config

GATEWAY = """gateway: {id: g, area: {city: a, district: b, street: c}}
mqtt: {host: 127.0.0.1}
outbox: {directory: outbox}
METRICS
buses: [{name: r, driver: replay, file: f.csv, devices: [{name: d, streams: [{name: s, quantity: q, unit: m}]}]}]
"""


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", "2001:db8::1"])  # noqa: S104
def test_a_bind_that_others_reach_needs_a_password_and_tls(address: str) -> None:
    for keys, missing in (
        ({}, "password_file"),
        ({"plaintext": True}, "password_file"),
        ({"tls": {"cert": "c", "key": "k"}}, "password_file"),
        ({"password_file": "p"}, "tls"),
    ):
        with pytest.raises(ValidationError, match=f"other machines reach {address} and '{missing}' is missing"):
            Metrics.model_validate({"address": address, **keys})
    for keys in ({"plaintext": True}, {"tls": {"cert": "c", "key": "k"}}):
        assert Metrics.model_validate({"address": address, "password_file": "p", **keys}).address == address


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_may_look_without(address: str) -> None:
    assert Metrics(address=address).credentials() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "localhost"},
        {"address": "gateway.example"},
        {"address": ""},
        {"port": 65536},
        {"port": -1},
        {"username": "a:b"},
        {"username": ""},
        {"username": "a\r\nb"},
        {"password": "in the file itself"},
        {"path": "/x"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Metrics.model_validate(wrong)


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    gateway, cloud = tmp_path / "gateway.yaml", tmp_path / "cloud.yaml"
    for text, expected in (("", None), ("metrics:", None), ("metrics: {}", (9464, 9465))):
        gateway.write_text(GATEWAY.replace("METRICS", text), encoding="utf-8")
        cloud.write_text(f"store: {{kind: embedded}}\ndata: {{directory: d}}\n{text}\n", encoding="utf-8")
        found = (edge_config.load(gateway, Registry()).file.metrics, cloud_config.load(cloud).metrics)
        assert expected == (None if found[0] is None or found[1] is None else (found[0].port, found[1].port))


def test_check_names_the_place_and_looks_into_the_files(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GATEWAY.replace("METRICS", "metrics: {address: 0.0.0.0}"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"gateway.yaml:4:10: metrics: other machines reach 0\.0\.0\.0"):
        edge_config.load(file, Registry())
    file.write_text(GATEWAY.replace("METRICS", "metrics: {password_file: secret}"), encoding="utf-8")
    assert edge_config.load(file, Registry()).file.metrics is not None
    with pytest.raises(ConfigError, match=rf"gateway.yaml:4:26: metrics.password_file: {tmp_path}/secret cannot"):
        edge_config.load(file, Registry(), open_files=True)

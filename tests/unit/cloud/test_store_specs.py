"""The configuration of a store: what is refused, and with which words."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from cloud.stores.embedded import EmbeddedStore
from cloud.stores.influx1 import InfluxV1Store
from cloud.stores.influx2 import InfluxV2Store
from cloud.stores.specs import EmbeddedSpec, Influx1Spec, Influx2Spec, StoreSpec, check_url, make_store
from contract.config_file import load
from contract.errors import ConfigError


class Config(BaseModel):
    store: StoreSpec


def config(tmp_path: Path, text: str) -> EmbeddedSpec | Influx1Spec | Influx2Spec:
    path = tmp_path / "cloud.yaml"
    path.write_text(text)
    return load(path, Config).store


INFLUX2 = "store: {{kind: influxdb2, url: '{}', bucket: city{}}}\n"


def test_each_kind_makes_its_store(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    stores = [
        make_store(config(tmp_path, text))
        for text in (
            f"store: {{kind: embedded, path: {tmp_path}/x.duckdb}}\n",
            "store: {kind: influxdb1, url: 'http://127.0.0.1:1', database: city, username: u, password: p}\n",
            INFLUX2.format("http://[::1]:1", f", token_file: {token}"),
        )
    ]
    assert [type(store) for store in stores] == [EmbeddedStore, InfluxV1Store, InfluxV2Store]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("store: {kind: influx, url: x}\n", "cloud.yaml:1:8: store: "),
        (
            "store:\n  kind: influxdb2\n  url: http://localhost:1\n  buket: b\n  bucket: c\n",
            "4:3: store.buket: unknown key",
        ),
        ("store: {kind: influxdb2, url: 'http://localhost:1'}\n", "bucket: missing"),
        (INFLUX2.format("http://10.0.0.8:8086", ""), "unencrypted"),
        (INFLUX2.format("http://localhost.evil.example", ""), "unencrypted"),
        (INFLUX2.format("ftp://localhost", ""), "begins with http:// or https://"),
        (INFLUX2.format("localhost:8086", ""), "begins with http:// or https://"),
        (INFLUX2.format("http://u:p@localhost", ""), "no credentials"),
        (INFLUX2.format("http://localhost:99999", ""), "not an address"),
        (INFLUX2.format("https://db", ", batch_lines: 20001"), "20000"),
        (INFLUX2.format("https://db", ", token: a, token_env: B"), "token and token_env say the same"),
    ],
)
def test_a_wrong_store_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config(tmp_path, text)
    assert said in str(refusal.value)


def test_plaintext_is_a_decision(tmp_path: Path) -> None:
    assert isinstance(config(tmp_path, INFLUX2.format("http://10.0.0.8:8086", ", plaintext: true")), Influx2Spec)
    check_url("https://db.example", plaintext=False)
    check_url("http://127.0.0.53:1", plaintext=False)


def test_secrets_are_not_shown_and_missing_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = config(tmp_path, INFLUX2.format("https://db", ", token: hunter2"))
    assert "hunter2" not in repr(spec)
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    for extra, said in (
        (f", token_file: {tmp_path}/none", "token_file"),
        (", token_env: NO_SUCH_TOKEN", "NO_SUCH_TOKEN"),
        (f", ca_file: {tmp_path}/none.pem", "none.pem"),
    ):
        missing = config(tmp_path, INFLUX2.format("https://db", extra))
        with pytest.raises(ConfigError, match=said):
            make_store(missing)

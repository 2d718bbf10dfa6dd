"""Which store: the part of a configuration that says so, and the one function that builds it.

Validation opens nothing; secrets in files are read when the store is made.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from cloud.stores.base import Store
from cloud.stores.line_store import BATCH_LINES, BATCH_LINES_MAX
from contract.broker import is_loopback
from contract.errors import ConfigError

SECRET_MAX_BYTES = 64 * 1024
Text = Annotated[str, Field(min_length=1, max_length=200)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EmbeddedSpec(_Spec):
    """A DuckDB file in the collector's own process; no server needed, one process may open it."""

    kind: Literal["embedded"] = "embedded"
    path: Path = Path("weinao.duckdb")
    """The file; created when missing."""
    threads: int = Field(2, ge=1, le=64)
    """Processor cores that a query may use."""
    memory_limit_mib: int = Field(512, ge=64)
    """What DuckDB may hold in memory; beyond it, queries spill to disk."""


class _ServerSpec(_Spec):
    url: str = Field(max_length=2000)
    """http:// or https://, host, port, no path of the API."""
    batch_lines: int = Field(BATCH_LINES, ge=1, le=BATCH_LINES_MAX)
    """Points a request, at most. InfluxDB recommends 5,000; 10,000 cost it a tenth less CPU, more gain little."""
    timeout_s: float = Field(15.0, gt=0, le=300)
    """Seconds for one request, all of it."""
    gzip: bool = False
    """Compress requests, about ninefold: worth it on any network slower than the machine's own."""
    ca_file: Path | None = None
    """PEM file of the authority that signed the server's certificate, when it is not one the system knows."""
    plaintext: bool = False
    """Allow http:// to another machine: everything, the credentials too, can then be read on the way."""

    @model_validator(mode="after")
    def _url_is_sound(self) -> Self:
        check_url(self.url, plaintext=self.plaintext)
        return self


class Influx2Spec(_ServerSpec):
    """InfluxDB 1.8, 2, 3 or VictoriaMetrics through the v2 write API."""

    kind: Literal["influxdb2"]
    org: str = Field("", max_length=200)
    bucket: Text
    token: SecretStr | None = None
    token_file: Path | None = None
    """A file that holds the token alone, such as a systemd credential."""
    token_env: str | None = None
    """The environment variable that holds the token."""
    reader: Literal["influxql", "victoria"] = "influxql"
    """How to read back: InfluxQL serves every InfluxDB; VictoriaMetrics needs its own."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        _at_most_one(token=self.token, token_file=self.token_file, token_env=self.token_env)
        return self


class Influx1Spec(_ServerSpec):
    """InfluxDB 1.x through /write; the database is created when it is missing."""

    kind: Literal["influxdb1"]
    database: Text
    username: str = Field("", max_length=200)
    password: SecretStr | None = None
    password_file: Path | None = None
    """A file that holds the password alone."""
    password_env: str | None = None
    """The environment variable that holds the password."""

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        _at_most_one(password=self.password, password_file=self.password_file, password_env=self.password_env)
        return self


StoreSpec = Annotated[EmbeddedSpec | Influx1Spec | Influx2Spec, Field(discriminator="kind")]


def make_store(spec: EmbeddedSpec | Influx1Spec | Influx2Spec) -> Store:
    """The store that `spec` describes, not opened yet. Raises ConfigError when a secret or an extra is missing."""
    if isinstance(spec, EmbeddedSpec):
        return _embedded(spec)
    if spec.ca_file is not None and not spec.ca_file.is_file():
        raise ConfigError([f"ca_file: {spec.ca_file}: no such file"])
    return _influx1(spec) if isinstance(spec, Influx1Spec) else _influx2(spec)


def _embedded(spec: EmbeddedSpec) -> Store:
    try:
        from cloud.stores.embedded import EmbeddedStore
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    return EmbeddedStore(spec.path, threads=spec.threads, memory_limit_bytes=spec.memory_limit_mib * 2**20)


def _influx1(spec: Influx1Spec) -> Store:
    try:
        from cloud.stores.influx1 import InfluxV1Store
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    return InfluxV1Store(
        spec.url,
        spec.database,
        spec.username,
        _secret("password", spec.password, spec.password_file, spec.password_env),
        batch_lines=spec.batch_lines,
        timeout_s=spec.timeout_s,
        gzip=spec.gzip,
        ca_file=spec.ca_file,
    )


def _influx2(spec: Influx2Spec) -> Store:
    try:
        from cloud.stores.influx2 import InfluxV2Store
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    return InfluxV2Store(
        spec.url,
        spec.org,
        spec.bucket,
        _secret("token", spec.token, spec.token_file, spec.token_env),
        reader=spec.reader,
        batch_lines=spec.batch_lines,
        timeout_s=spec.timeout_s,
        gzip=spec.gzip,
        ca_file=spec.ca_file,
    )


def check_url(url: str, *, plaintext: bool) -> None:
    """Raises ValueError unless `url` is http(s) to a host, without credentials, and encrypted off this machine."""
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"not an address: {error}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError(f"an address begins with http:// or https:// and a host; found {url[:80]!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an address holds no credentials and no query; they have keys of their own")
    if parts.scheme == "http" and not plaintext and not is_loopback(host):
        raise ValueError(
            f"http:// to {host} sends readings and credentials unencrypted; use https:// (ca_file names a private "
            "authority), or say 'plaintext: true' when the network between is trusted"
        )


def _at_most_one(**ways: object) -> None:
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} say the same thing; keep one")


def _secret(name: str, value: SecretStr | None, file: Path | None, variable: str | None) -> str:
    """The secret, from whichever place holds it; empty when none does."""
    if value is not None:
        return value.get_secret_value()
    if variable is not None:
        if variable not in os.environ:
            raise ConfigError([f"{name}_env: the environment has no variable {variable!r}"])
        return os.environ[variable].strip()
    if file is None:
        return ""
    try:
        with file.open("rb") as stream:
            return stream.read(SECRET_MAX_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{name}_file: {file}: cannot be read: {error}"]) from error


def _extra_missing(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError([f"the package {error.name!r} is missing; install it with: pip install 'weinao[cloud]'"])

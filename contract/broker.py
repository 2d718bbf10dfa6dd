"""How both ends say where the broker is and how it is trusted: the same keys, the same rules, the same words.

Without TLS only a broker on this machine is accepted, unless `plaintext: true` says that it is meant.
"""

import ipaddress
import ssl
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from contract.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A section of a configuration file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tls(Section):
    """Certificates, PEM files. ca: who signed the broker's. cert and key: our own, where the broker asks."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected both 'cert' and 'key', or neither")
        return self

    def context(self) -> ssl.SSLContext:
        """What proves the broker to us, and us to it. Reads the files; raises OSError (ssl.SSLError is one)."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.cert is not None and self.key is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


class Broker(Section):
    """One broker. keepalive_s: silence after which the connection counts as lost."""

    host: str = Field(min_length=1)
    port: int = Field(8883, ge=1, le=65535)
    tls: Tls | None = None
    plaintext: bool = False
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    keepalive_s: int = Field(30, ge=5, le=3600)
    reconnect_max_s: float = Field(60, gt=0, le=3600)

    @field_validator("host")
    @classmethod
    def _resolvable(cls, host: str) -> str:
        try:
            host.encode("idna")
        except UnicodeError as error:
            raise ValueError(f"{host[:80]!r} is no host name: {error}") from None
        return host

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.tls is None and not self.plaintext and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} is another machine and 'tls' is missing: readings and passwords would travel in "
                "plain text. Add tls: {ca: FILE}, or plaintext: true if the network itself is protected"
            )
        if self.password is not None and self.password_file is not None:
            raise ValueError("expected 'password' or 'password_file', not both")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("'username' is missing: MQTT sends no password without one")
        return self

    def read_password(self) -> str | None:
        """The password, from where the config says. Raises ConfigError when its file cannot be read."""
        if self.password_file is None:
            return self.password.get_secret_value() if self.password else None
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"mqtt.password_file: {self.password_file} cannot be read: {error}"]) from None


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine, without asking a resolver."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _beside_one(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return folder / value
    return beside(value, folder) if isinstance(value, BaseModel) else value


def beside(model: Model, folder: Path) -> Model:
    """The same model with every relative path of it, at any depth of sections and lists, in `folder`."""
    update: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            update[name] = folder / value
        elif isinstance(value, BaseModel):
            update[name] = beside(value, folder)
        elif isinstance(value, tuple):
            update[name] = tuple(_beside_one(one, folder) for one in value)
    return model.model_copy(update=update)

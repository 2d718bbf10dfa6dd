"""The cloud's configuration: what the file may say, what each key means, and why its default is what it is."""

import ipaddress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud.stores.specs import StoreSpec
from contract import config_file
from contract.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
MIB = 1024 * 1024


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine, without asking a resolver."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tls(_Section):
    """Certificates, PEM. ca: who signed the broker's. cert and key: the collector's own, where the broker asks."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> "Tls":
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected both 'cert' and 'key', or neither")
        return self


class Mqtt(_Section):
    """The broker, and how the collector reads from it.

    embedded: true runs a broker inside this process, for a demo; auto takes mosquitto when it is installed, as a child.
    share: collectors take turns (MQTT shared subscription); an embedded broker is subscribed to plainly.
    version: 5 lets the broker keep to `queue_frames`; auto tries it and falls back to 3 (3.1.1).
    session_expiry_s: how long the broker keeps what came while the collector was away. Short, because mosquitto goes on
    dealing a shared subscription's frames to the session of a dead collector, until it expires; the gateway sends those
    again. MQTT 3.1.1 has no such limit: there the broker's own setting decides.
    plaintext: permit no TLS to another machine. keepalive_s, reconnect_max_s: as their units say.
    """

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8883, ge=1, le=65535)
    embedded: bool | Literal["auto"] = False
    share: bool = True
    version: Literal["auto", 3, 5] = "auto"
    tls: Tls | None = None
    plaintext: bool = False
    username: str | None = None
    password_file: Path | None = None
    keepalive_s: int = Field(30, ge=5, le=3600)
    reconnect_max_s: float = Field(30, gt=0, le=3600)
    session_expiry_s: int = Field(60, ge=0, le=30 * 86400)

    @model_validator(mode="after")
    def _safe(self) -> "Mqtt":
        if self.embedded and not is_loopback(self.host):
            raise ValueError(f"host: an embedded broker listens on this machine alone; found {self.host!r}")
        if self.embedded and self.tls is not None:
            raise ValueError("tls: an embedded broker has none: it listens on this machine alone")
        if self.tls is None and not self.plaintext and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} is another machine and 'tls' is missing: readings and passwords would travel in "
                "plain text. Add tls: {ca: FILE}, or plaintext: true if the network itself is protected"
            )
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file: needs 'username'")
        return self

    def read_password(self) -> str | None:
        """The password, or None where the config names no file. Raises ConfigError when it cannot be read."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"mqtt.password_file: {self.password_file} cannot be read: {error}"]) from None


class Collector(_Section):
    """How much is taken at once and held in memory: at most queue_bytes + batch_bytes of messages, decoded tenfold.

    name: stable and different for every collector of a broker; it is the MQTT client id. linger_s: how long a batch
    waits for more, so that one fsync serves many frames. max_future_s: readings dated further ahead are quarantined.
    """

    name: str = Field("weinao-collector", pattern=r"^[A-Za-z0-9_.\-]{1,64}$")
    batch_frames: int = Field(500, ge=1, le=10_000)
    batch_bytes: int = Field(4 * MIB, ge=64 * 1024, le=256 * MIB)
    linger_s: float = Field(0.005, ge=0, le=5)
    queue_frames: int = Field(2000, ge=1, le=65535)
    queue_bytes: int = Field(32 * MIB, ge=64 * 1024, le=4096 * MIB)
    max_future_s: float = Field(86_400, gt=0)
    retry_max_s: float = Field(30, gt=0, le=3600)


class Data(_Section):
    """The collector's own files. Collectors of one machine may share the directory.

    keep_hours: how long the ledger remembers single hours; totals stay. quarantine_max_bytes: the oldest goes first.
    """

    directory: Path
    keep_hours: int = Field(24 * 31, ge=1, le=24 * 3660)
    quarantine_max_bytes: int = Field(256 * MIB, ge=64 * 1024)

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.directory / "ledger.sqlite"

    @property
    def births(self) -> Path:
        """The file of catalogues."""
        return self.directory / "births.sqlite"

    @property
    def quarantine(self) -> Path:
        """The quarantine's file."""
        return self.directory / "quarantine.sqlite"


class Status(_Section):
    """Where the running process answers `status` and `ledger`. Default: status.sock in data.directory."""

    socket: Path | None = None


class CloudConfig(_Section):
    """The whole file."""

    mqtt: Mqtt = Mqtt()
    collector: Collector = Collector()
    store: StoreSpec
    data: Data
    status: Status = Status()

    @property
    def status_socket(self) -> Path:
        """Where the running process answers."""
        return self.status.socket or self.data.directory / "status.sock"


def load(path: Path) -> CloudConfig:
    """The configuration in `path`, relative paths beside it. Raises ConfigError with one line for each problem."""
    return beside(config_file.load(path, CloudConfig), path.parent)


def beside(model: Model, folder: Path) -> Model:
    """The same model with every relative path of it, at any depth, in `folder`."""
    update: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            update[name] = folder / value
        elif isinstance(value, BaseModel):
            update[name] = beside(value, folder)
    return model.model_copy(update=update)

"""The cloud's configuration: what the file may say, what each key means, and why its default is what it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cloud.hub.config import HubConfig
from cloud.stores.specs import StoreSpec
from contract import config_file
from contract.broker import Broker, Section, beside, is_loopback
from contract.metrics_config import Metrics

MIB = 1024 * 1024


class Mqtt(Broker):
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
    embedded: bool | Literal["auto"] = False
    share: bool = True
    version: Literal["auto", 3, 5] = "auto"
    reconnect_max_s: float = Field(30, gt=0, le=3600)
    session_expiry_s: int = Field(60, ge=0, le=30 * 86400)

    @model_validator(mode="before")
    @classmethod
    def _embedded_is_local(cls, data: Any) -> Any:
        """Before the rules of every broker, which would advise TLS."""
        if isinstance(data, Mapping) and data.get("embedded"):
            host = data.get("host")
            if isinstance(host, str) and not is_loopback(host):
                raise ValueError(f"host: an embedded broker listens on this machine alone; found {host!r}")
            if data.get("tls") is not None:
                raise ValueError("tls: an embedded broker has none: it listens on this machine alone")
        return data


class Collector(Section):
    """How much is taken at once and held in memory: queue_bytes, and batches_under_way * batch_bytes, decoded tenfold.

    name: stable and different for every collector of a broker; it is the MQTT client id. batches_under_way: three, as
    there are three steps (decode, write, note) that can go on at once. linger_s: how long a batch waits for more, so
    that one request and one fsync serve many frames. max_future_s: readings dated further ahead are quarantined.
    """

    name: str = Field("weinao-collector", pattern=r"^[A-Za-z0-9_.\-]{1,64}$")
    batch_frames: int = Field(500, ge=1, le=10_000)
    batch_bytes: int = Field(MIB, ge=64 * 1024, le=256 * MIB)
    batches_under_way: int = Field(3, ge=1, le=16)
    linger_s: float = Field(0.005, ge=0, le=5)
    queue_frames: int = Field(2000, ge=1, le=65535)
    queue_bytes: int = Field(32 * MIB, ge=64 * 1024, le=4096 * MIB)
    max_future_s: float = Field(86_400, gt=0)
    retry_max_s: float = Field(30, gt=0, le=3600)


class Data(Section):
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
    def tail(self) -> Path:
        """The file of what passed of late; written where there is a hub."""
        return self.directory / "tail.sqlite"

    @property
    def quarantine(self) -> Path:
        """The quarantine's file."""
        return self.directory / "quarantine.sqlite"


class Status(Section):
    """Where running processes answer commands. Default: status.sock and hub.sock in data.directory.

    socket: the collector's. hub_socket: the hub's, whether it is a process of its own or not.
    """

    socket: Path | None = None
    hub_socket: Path | None = None


class CollectorMetrics(Metrics):
    """Where Prometheus finds this process. The port is not a gateway's, so that both may be on one machine."""

    port: int = Field(9465, ge=0, le=65535)


class CloudConfig(Section):
    """The whole file."""

    mqtt: Mqtt = Mqtt()
    collector: Collector = Collector()
    store: StoreSpec
    data: Data
    status: Status = Status()
    metrics: CollectorMetrics | None = None
    hub: HubConfig | None = None

    @property
    def status_socket(self) -> Path:
        """Where the running process answers."""
        return self.status.socket or self.data.directory / "status.sock"

    @property
    def hub_socket(self) -> Path:
        """Where the running hub answers, in whatever process it is."""
        return self.status.hub_socket or self.data.directory / "hub.sock"


def load(path: Path) -> CloudConfig:
    """The configuration in `path`, relative paths beside it. Raises ConfigError with one line for each problem."""
    return beside(config_file.load(path, CloudConfig), path.parent)

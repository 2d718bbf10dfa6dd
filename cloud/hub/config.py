"""The hub's part of the cloud's configuration: where it listens, where its state is, what it hands on."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cloud.hub.alert_rules import AlertSettings
from cloud.hub.quality_days import QualitySettings
from contract.broker import Section, is_loopback
from contract.metrics_config import Metrics

MIB = 1024 * 1024
ClassName = Annotated[str, Field(min_length=1, max_length=200)]
Keep = Annotated[float, Field(gt=0, le=36_600)] | Literal["forever"]


class ServerTls(Section):
    """The hub's own certificate and key, PEM."""

    certificate: Path
    key: Path


class State(Section):
    """Where tokens, catalogue history, quality, alerts and audit live.

    url: `postgresql://user@host/database`; without it a SQLite file in data.directory. password_file holds the password
    alone.
    """

    url: str | None = Field(None, max_length=500)
    password_file: Path | None = None

    @model_validator(mode="after")
    def _known_database(self) -> Self:
        if self.url is None:
            if self.password_file is not None:
                raise ValueError("password_file: only a PostgreSQL 'url' has a password")
            return self
        parts = urlsplit(self.url)
        if parts.scheme != "postgresql" or not parts.hostname or not parts.path.strip("/"):
            raise ValueError("url: expected postgresql://user@host:port/database, or no url for a SQLite file")
        if parts.password is not None:
            raise ValueError("url: holds a password; put it into a file of its own and name that as password_file")
        return self


class Republish(Section):
    """MQTT republication on `hub/v1/{owner}/{stream}`. shared: also streams of the grade shared; the broker guards."""

    enabled: bool = True
    shared: bool = False


class Live(Section):
    """Live streams. max_clients: more are told to come later. queue_events: what a client may be behind."""

    max_clients: int = Field(2000, ge=1, le=100_000)
    queue_events: int = Field(2000, ge=10, le=100_000)


class History(Section):
    """History queries. running: at once; waiting: more than those get 429."""

    running: int = Field(8, ge=1, le=64)
    waiting: int = Field(64, ge=0, le=10_000)


class Retention(Section):
    """How long the store keeps readings, by the class that a stream's `retention` names.

    classes: days, or `forever`; naming some replaces all of the default. every_hours: from one pass to the next.
    streams_per_round: streams of a round, each costs a query for every quantity and kind it ever had. pause_s: after
    each stream. round_s: between rounds, so that a catalogue of 100,000 streams takes some three hours.
    """

    classes: dict[ClassName, Keep] = Field(default={"standard": 400.0, "short": 30.0, "long": "forever"})
    every_hours: float = Field(24.0, gt=0, le=24 * 31)
    streams_per_round: int = Field(1000, ge=1, le=100_000)
    pause_s: float = Field(0.05, ge=0, le=60)
    round_s: float = Field(60.0, ge=0, le=86_400)


class ConsoleSettings(Section):
    """The console, at `/` of the hub."""

    enabled: bool = True


class HubMetrics(Metrics):
    """Where Prometheus finds the hub's own figures. The port is neither a gateway's nor the collector's."""

    port: int = Field(9466, ge=0, le=65535)


class HubConfig(Section):
    """The whole section `hub`.

    tail_max_bytes: how much of what passed is kept, so that a live stream can be taken up where it was left.
    plaintext: allow another bind address than this machine without TLS, behind a proxy that has it.
    """

    host: str = Field("127.0.0.1", min_length=1, max_length=200)
    port: int = Field(8470, ge=0, le=65535)
    tls: ServerTls | None = None
    plaintext: bool = False
    root_path: str = Field("", max_length=200, pattern=r"^(/[A-Za-z0-9_.\-]+)*$")
    state: State = State()
    tail_max_bytes: int = Field(256 * MIB, ge=MIB)
    republish: Republish = Republish()
    live: Live = Live()
    history: History = History()
    quality: QualitySettings = QualitySettings()
    alerts: AlertSettings = AlertSettings()
    retention: Retention = Retention()
    metrics: HubMetrics | None = None
    console: ConsoleSettings = ConsoleSettings()

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.tls is None and not self.plaintext and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} is reachable from other machines and 'tls' is missing: tokens would travel in plain "
                "text. Add tls: {certificate: FILE, key: FILE}, or plaintext: true behind a proxy that encrypts"
            )
        return self

"""Where a process shows its metrics, and to whom: the same keys and the same rules on the gateway and in the cloud.

Off unless the section is there. Numbers about a city's devices are nobody's business: beyond this machine they are
shown only over TLS (or where `plaintext: true` says that the network is protected) and only with a password.
"""

import base64
import ipaddress
import ssl
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from contract.broker import Section, is_loopback
from contract.errors import ConfigError


class MetricsTls(Section):
    """What proves this process to who asks; PEM files."""

    cert: Path
    key: Path


class Metrics(Section):
    """Where Prometheus finds this process: http://address:port/metrics.

    port: 0 takes any that is free; `status` tells which. password_file: holds the password alone; `username` goes with
    it. plaintext: permit no TLS on an address that other machines reach.
    """

    address: str = "127.0.0.1"
    port: int = Field(9464, ge=0, le=65535)
    username: str = Field("prometheus", min_length=1, max_length=64, pattern=r"^[^:\x00-\x1f\x7f]+$")
    password_file: Path | None = None
    tls: MetricsTls | None = None
    plaintext: bool = False

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(f"found {address[:80]!r}, expected an IP address of this machine") from None
        return address

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if is_loopback(self.address):
            return self
        if self.password_file is None:
            raise ValueError(
                f"other machines reach {self.address} and 'password_file' is missing: anybody there could read the "
                "metrics. Name a file that holds a password, or bind to 127.0.0.1"
            )
        if self.tls is None and not self.plaintext:
            raise ValueError(
                f"other machines reach {self.address} and 'tls' is missing: the password would travel in plain text. "
                "Add tls: {cert: FILE, key: FILE}, or plaintext: true if the network itself is protected"
            )
        return self

    def credentials(self) -> bytes | None:
        """What follows `Basic` in a request that may read, or None when anybody may. Raises ConfigError."""
        if self.password_file is None:
            return None
        try:
            password = self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"metrics.password_file: {self.password_file} cannot be read: {error}"]) from None
        if not password:
            raise ConfigError([f"metrics.password_file: {self.password_file} is empty; expected a password"])
        return base64.b64encode(f"{self.username}:{password}".encode())

    def context(self) -> ssl.SSLContext | None:
        """The server's side of TLS, None without. Raises ConfigError."""
        if self.tls is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.tls.cert, self.tls.key)
        except OSError as error:
            raise ConfigError(
                [f"metrics.tls: {self.tls.cert} and {self.tls.key} are no certificate and key: {error}"]
            ) from None
        return context

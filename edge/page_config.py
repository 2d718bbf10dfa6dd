"""Where the technician's page is, and who may open it.

Off unless the section is there. The page shows a city's devices and lets its reader ask them, so it always has a
password of its own, and beyond this machine it travels in TLS, or where `plaintext: true` says that the network is
itself protected (the gateway's own hotspot with WPA2, a cable to the laptop).
"""

import ipaddress
import ssl
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from contract.broker import Section, is_loopback
from contract.errors import ConfigError

MIN_PASSWORD_CHARS = 8


class PageTls(Section):
    """What proves the gateway to the browser; PEM files."""

    cert: Path
    key: Path


class Page(Section):
    """The page: http(s)://address:port/.

    port: 0 takes any that is free; `status` tells which. password_file: holds the password alone. session_s: a login
    ends so long after it began. plaintext: permit no TLS on an address that other machines reach.
    """

    address: str
    port: int = Field(8088, ge=0, le=65535)
    password_file: Path
    session_s: float = Field(8 * 3600, ge=60, le=24 * 3600)
    tls: PageTls | None = None
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
        if self.tls is None and not self.plaintext and not is_loopback(self.address):
            raise ValueError(
                f"other machines reach {self.address} and 'tls' is missing: the password would travel in plain text. "
                "Add tls: {cert: FILE, key: FILE}, or plaintext: true if the network itself is protected"
            )
        return self

    def password(self) -> str:
        """The password. Raises ConfigError."""
        try:
            password = self.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"page.password_file: {self.password_file} cannot be read: {error}"]) from None
        if len(password) < MIN_PASSWORD_CHARS:
            found, wanted = f"holds {len(password)} characters", f"at least {MIN_PASSWORD_CHARS}"
            raise ConfigError([f"page.password_file: {self.password_file} {found}; expected a password of {wanted}"])
        return password

    def context(self) -> ssl.SSLContext | None:
        """The server's side of TLS, None without. Raises ConfigError."""
        if self.tls is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.tls.cert, self.tls.key)
        except OSError as error:
            raise ConfigError(
                [f"page.tls: {self.tls.cert} and {self.tls.key} are no certificate and key: {error}"]
            ) from None
        return context

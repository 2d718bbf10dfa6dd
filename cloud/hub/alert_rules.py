"""Alert rules as the configuration says them: what is watched, when it is said, to whom.

A rule raises after its condition held for `duration_s`, and clears after the opposite held for `hold_s`; between the
two levels of a rule nothing changes. So a signal that swings around its limit raises once.
"""

import fnmatch
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from cloud.hub.entries import Entry
from contract.broker import Section
from contract.names import check_name
from contract.topics import GatewayPath

Text = Annotated[str, Field(min_length=1, max_length=200)]
RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")]


class Severity(StrEnum):
    """How bad: for who sorts and filters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Select(Section):
    """Which streams (and with them, gateways): every key that is given must match; without keys, all.

    areas: `city`, `city/district` or `city/district/street`. streams: shell patterns for
    `city/district/street/gateway/device/stream`, where `*` crosses slashes.
    """

    areas: tuple[Text, ...] = Field((), max_length=200)
    owners: tuple[Text, ...] = Field((), max_length=200)
    quantities: tuple[Text, ...] = Field((), max_length=200)
    streams: tuple[Text, ...] = Field((), max_length=200)

    @field_validator("areas")
    @classmethod
    def _areas(cls, areas: tuple[str, ...]) -> tuple[str, ...]:
        for area in areas:
            levels = area.split("/")
            if len(levels) > 3:
                raise ValueError(f"{area!r}: expected city, city/district or city/district/street")
            for level in levels:
                check_name(level)
        return areas

    def matches_path(self, path: GatewayPath) -> bool:
        """Whether this gateway is in one of the areas."""
        if not self.areas:
            return True
        levels = (path.city, path.district, path.street)
        return any(tuple(area.split("/")) == levels[: area.count("/") + 1] for area in self.areas)

    def of(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that match."""
        globs = [re.compile(fnmatch.translate(pattern)) for pattern in self.streams]
        return [
            entry
            for entry in entries
            if (not self.owners or entry.owner in self.owners)
            and (not self.quantities or entry.quantity in self.quantities)
            and self.matches_path(entry.path)
            and (not globs or any(glob.match(entry.id) for glob in globs))
        ]


class _Rule(Section):
    """What every rule has.

    name: in the API and in messages. deliver: names of channels. duration_s: the condition holds so long before it is
    said. hold_s: it is over for so long before that is said.
    """

    name: RuleName
    severity: Severity = Severity.WARNING
    select: Select = Select()
    deliver: tuple[RuleName, ...] = Field((), max_length=20)
    duration_s: float = Field(60, ge=0, le=7 * 86_400)
    hold_s: float = Field(60, ge=0, le=7 * 86_400)


class Stale(_Rule):
    """A stream's newest sample is older than `intervals` expected intervals."""

    kind: Literal["stale"]
    intervals: float = Field(3, ge=1, le=10_000)


class Offline(_Rule):
    """A gateway says (by its will) that it is gone, or nothing is heard of it for after_s and three intervals."""

    kind: Literal["offline"]
    after_s: float = Field(300, ge=1, le=7 * 86_400)
    duration_s: float = Field(120, ge=0, le=7 * 86_400)


class Completeness(_Rule):
    """Of the last whole hour, a stream received less than `below`; cleared by an hour of `clear` or more."""

    kind: Literal["completeness"]
    below: float = Field(0.9, gt=0, le=1)
    clear: float = Field(0.95, gt=0, le=1)
    duration_s: float = Field(0, ge=0, le=7 * 86_400)
    hold_s: float = Field(0, ge=0, le=7 * 86_400)

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if self.clear < self.below:
            raise ValueError(f"clear: expected {self.below:g} (below) or more; found {self.clear:g}")
        return self


class Threshold(_Rule):
    """A stream's value is above or below a limit; cleared when it has come back to `clear`.

    clear: without it the limit itself. BAD values say nothing.
    """

    kind: Literal["threshold"]
    above: float | None = None
    below: float | None = None
    clear: float | None = None

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("expected 'above' or 'below', one of them")
        if self.clear is not None and self.above is not None and self.clear > self.above:
            raise ValueError(f"clear: expected {self.above:g} (above) or less; found {self.clear:g}")
        if self.clear is not None and self.below is not None and self.clear < self.below:
            raise ValueError(f"clear: expected {self.below:g} (below) or more; found {self.clear:g}")
        if not (self.select.streams or self.select.quantities):
            raise ValueError(
                "select: a limit needs 'quantities' or 'streams': values of different things do not compare"
            )
        return self


class CameraBlind(_Rule):
    """A camera's pictures show nothing: black, covered, overexposed, or one repeated."""

    kind: Literal["camera_blind"]


class OutboxFilling(_Rule):
    """A gateway holds more than `frames` that the database does not have; cleared at half of that."""

    kind: Literal["outbox_filling"]
    frames: int = Field(1000, ge=1)
    duration_s: float = Field(300, ge=0, le=7 * 86_400)


class CertificateExpiring(_Rule):
    """One of these certificates ends within `days`. PEM files."""

    kind: Literal["certificate_expiring"]
    files: tuple[Path, ...] = Field(min_length=1, max_length=100)
    days: float = Field(30, gt=0, le=3650)
    duration_s: float = Field(0, ge=0, le=7 * 86_400)
    hold_s: float = Field(0, ge=0, le=7 * 86_400)


class LedgerUnexplained(_Rule):
    """Of a gateway's samples of the last three hours, some are neither stored, explained nor on their way."""

    kind: Literal["ledger_unexplained"]
    severity: Severity = Severity.CRITICAL
    duration_s: float = Field(300, ge=0, le=7 * 86_400)


class BirthRefused(_Rule):
    """What a gateway says of itself is refused: too large, of wrong types, another's name."""

    kind: Literal["birth_refused"]
    duration_s: float = Field(0, ge=0, le=7 * 86_400)


Rule = Annotated[
    Stale
    | Offline
    | Completeness
    | Threshold
    | CameraBlind
    | OutboxFilling
    | CertificateExpiring
    | LedgerUnexplained
    | BirthRefused,
    Field(discriminator="kind"),
]


class _Channel(Section):
    """Where alerts go. department: values of streams that are not open are told only where it may read them."""

    name: RuleName
    department: str = Field("", max_length=200)


class MqttChannel(_Channel):
    """The hub's broker, topic `hub/v1/alerts/{severity}/{rule}`; the broker's ACL guards."""

    kind: Literal["mqtt"]


class WebhookChannel(_Channel):
    """An HTTP POST of JSON. secret_file: a shared secret; the body's HMAC is in the header `X-Weinao-Signature`."""

    kind: Literal["webhook"]
    url: SecretStr
    secret_file: Path | None = None
    timeout_s: float = Field(10, gt=0, le=60)

    @field_validator("url")
    @classmethod
    def _http(cls, url: SecretStr) -> SecretStr:
        if not re.fullmatch(r"https?://[^\s/?#@]+(?:[/?#]\S*)?", url.get_secret_value()):
            raise ValueError("expected http://host/path or https://host/path, without user and password")
        return url


class AppriseChannel(_Channel):
    """Whatever the library Apprise reaches. urls_file: one address a line (`#` begins a remark): they are secrets."""

    kind: Literal["apprise"]
    urls_file: Path


Channel = Annotated[MqttChannel | WebhookChannel | AppriseChannel, Field(discriminator="kind")]


class AlertSettings(Section):
    """The section `hub.alerts`.

    check_s: how often conditions are looked at. keep_cleared_days, keep_cleared: how many past alerts are kept.
    queue: messages that may wait for a channel; give_up_s: so long one is tried.
    """

    rules: tuple[Rule, ...] = Field((), max_length=500)
    channels: tuple[Channel, ...] = Field((), max_length=50)
    check_s: float = Field(1, gt=0, le=60)
    keep_cleared_days: int = Field(90, ge=1, le=3650)
    keep_cleared: int = Field(20_000, ge=10, le=1_000_000)
    queue: int = Field(1000, ge=1, le=100_000)
    give_up_s: float = Field(6 * 3600, ge=1, le=7 * 86_400)

    @model_validator(mode="after")
    def _names(self) -> Self:
        for what, names in (
            ("rules", [rule.name for rule in self.rules]),
            ("channels", [channel.name for channel in self.channels]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: the name {twice[0]!r} is there twice")
        known = {channel.name for channel in self.channels}
        for rule in self.rules:
            for name in rule.deliver:
                if name not in known:
                    raise ValueError(
                        f"rules: {rule.name}: deliver: there is no channel {name!r}; "
                        f"known: {', '.join(sorted(known)) or 'none'}"
                    )
        return self

"""MQTT topics: `weinao/v1/{kind}/{city}/{district}/{street}/{gateway}`, and nothing else."""

from dataclasses import dataclass
from enum import StrEnum

from contract.names import check_name

ROOT = "weinao/v1"


class TopicKind(StrEnum):
    """What a topic carries, and which way."""

    BIRTH = "birth"  # gateway -> cloud, retained: the catalogue of the gateway, JSON
    STATE = "state"  # gateway -> cloud, retained, also the will: online or offline, JSON
    DATA = "data"  # gateway -> cloud: one frame a message
    ACK = "ack"  # cloud -> gateway: what is stored, JSON
    CMD = "cmd"  # cloud -> gateway
    REPLY = "reply"  # gateway -> cloud


@dataclass(frozen=True, slots=True)
class GatewayPath:
    """Where a gateway stands: its area and its name, as its topics and tags say it."""

    city: str
    district: str
    street: str
    gateway: str

    def topic(self, kind: TopicKind) -> str:
        """The one topic of `kind` that belongs to this gateway."""
        return f"{ROOT}/{kind}/{self.city}/{self.district}/{self.street}/{self.gateway}"

    def __str__(self) -> str:
        return f"{self.city}/{self.district}/{self.street}/{self.gateway}"


def parse(topic: str) -> tuple[TopicKind, GatewayPath]:
    """The kind and gateway of a topic; raises ValueError for every other string, also one with wildcards."""
    levels = topic.split("/")
    if len(levels) != 7 or f"{levels[0]}/{levels[1]}" != ROOT:
        raise ValueError(f"not a topic of {ROOT}: {topic[:200]!r}")
    kind = TopicKind(levels[2])
    city, district, street, gateway = (check_name(level) for level in levels[3:])
    return kind, GatewayPath(city, district, street, gateway)


def subscription(kind: TopicKind, *, share: str | None = None) -> str:
    """The filter for `kind` of every gateway; `share` names an MQTT shared subscription group."""
    prefix = f"$share/{share}/" if share else ""
    return f"{prefix}{ROOT}/{kind}/#"

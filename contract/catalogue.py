"""The catalogue (一本账): what a gateway says it senses, whose it is, and who may see it.

Published retained as the gateway's birth, JSON, canonical (sorted keys, no spaces, UTF-8), so that equal
catalogues are equal bytes. The epoch is the first 32 bits of the SHA-256 of those bytes; frames refer to it, and
stream ids have meaning within it alone.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import FrameError
from contract.names import Name
from contract.readings import Kind
from contract.topics import GatewayPath
from contract.units import Unit

MAX_BIRTH_BYTES = 8 * 1024 * 1024
MAX_STREAMS = 20_000
Text = Annotated[str, Field(max_length=200)]


class Grade(StrEnum):
    """Who may see a stream's values: 无条件共享, 有条件共享, 不予共享."""

    OPEN = "open"
    SHARED = "shared"
    RESTRICTED = "restricted"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Area(_Strict):
    """Where in the city, as topics and tags say it."""

    city: Name
    district: Name
    street: Name


class Site(_Strict):
    """The place itself. WGS84 degrees."""

    name: Text = ""
    latitude: float | None = Field(None, ge=-90, le=90)
    longitude: float | None = Field(None, ge=-180, le=180)


class Stewardship(_Strict):
    """Whose data this is and under which rule it is handed on."""

    owner: Text = ""
    contact: Text = ""
    grade: Grade = Grade.RESTRICTED
    shared_with: tuple[Text, ...] = ()
    retention: Text = "standard"
    legal_basis: Text = ""


class Stream(_Strict):
    """One stream of readings.

    id: within the epoch. unit: UCUM. resolution: the decimal step of the values, or None when unknown.
    interval_s: the expected seconds between readings. scheduled: the gateway asks at that interval, so every
    missing sample is counted; otherwise the device speaks when it likes. alarm: never thinned.
    """

    id: int = Field(ge=0, lt=MAX_STREAMS)
    name: Name
    quantity: Name
    unit: Unit
    type: Kind
    resolution: float | None = Field(None, gt=0)
    valid_range: tuple[float, float] | None = None
    interval_s: float = Field(gt=0)
    scheduled: bool = True
    alarm: bool = False
    stewardship: Stewardship = Stewardship()


class Device(_Strict):
    """One device and its streams."""

    name: Name
    manufacturer: Text = ""
    model: Text = ""
    serial_number: Text = ""
    site: Site | None = None
    streams: tuple[Stream, ...]


class Birth(_Strict):
    """The whole catalogue of one gateway."""

    version: Literal[1] = 1
    gateway: Name
    area: Area
    site: Site = Site()
    software: Text = ""
    models: dict[str, str] = {}
    devices: tuple[Device, ...]

    @model_validator(mode="after")
    def _unique(self) -> "Birth":
        ids = [stream.id for device in self.devices for stream in device.streams]
        if len(ids) > MAX_STREAMS:
            raise ValueError(f"{len(ids)} streams; {MAX_STREAMS} is the most one gateway may have")
        if len(set(ids)) != len(ids):
            raise ValueError("two streams share an id")
        keys = [(device.name, stream.name) for device in self.devices for stream in device.streams]
        if len(set(keys)) != len(keys):
            raise ValueError("two streams share device and name")
        return self

    @property
    def path(self) -> GatewayPath:
        """Where this gateway's topics are."""
        return GatewayPath(self.area.city, self.area.district, self.area.street, self.gateway)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    @property
    def epoch(self) -> int:
        """What frames call this catalogue."""
        return epoch_of(self.encode())


def epoch_of(data: bytes) -> int:
    """The epoch of a birth's canonical bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def decode_birth(data: bytes) -> Birth:
    """The birth in `data`; raises FrameError for anything else, in bounded memory."""
    if len(data) > MAX_BIRTH_BYTES:
        raise FrameError(f"a birth of {len(data)} bytes; {MAX_BIRTH_BYTES} is the most")
    try:
        return Birth.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise FrameError(f"not a birth: {place}: {first['msg']}") from None

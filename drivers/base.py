"""What a driver is: a config model, one class, readings a scan at a time.

A driver translates a device's protocol into blocks of readings and its failures into DeviceUnavailable.
It knows no schedule, no retry, no queue, no MQTT: the supervisor in edge/ owns those. Third parties register a
driver under the entry point group `weinao.drivers`; the object is a `Driver`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.catalogue import Grade, Site
from contract.names import Name
from contract.readings import GOOD, Bytes, Floats, Ints, Kind, Value
from contract.units import Unit

if TYPE_CHECKING:
    from drivers.base_camera import OpenCapture

# The gateway publishes NAME.success and NAME.latency of a device and NAME.count of a stream: names are at most 64.
DEVICE_NAME_MAX_CHARS = 56


class Spec(BaseModel):
    """The base of every configuration model: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Aggregate(Spec):
    """A stream made of another over windows aligned to UTC: `name.mean`, `name.max`, ..."""

    window_s: float = Field(gt=0, le=86_400)
    functions: tuple[Literal["mean", "min", "max", "count", "last"], ...] = ("mean", "min", "max")


class StewardedSpec(Spec):
    """Whose data a device or stream is and who may see it, where that differs from the level above."""

    owner: str | None = None
    contact: str | None = None
    grade: Grade | None = None
    shared_with: tuple[str, ...] | None = None
    retention: str | None = None
    legal_basis: str | None = None


class StreamSpec(StewardedSpec):
    """What every driver's stream has in common.

    The published value is `raw * scale + offset` (device scale and offset are applied first), rounded to `resolution`.
    """

    name: Name
    quantity: Name
    unit: Unit
    type: Kind = Kind.FLOAT
    resolution: float | None = Field(None, gt=0)
    scale: float = 1.0
    offset: float = 0.0
    valid_range: tuple[float, float] | None = None
    max_rate_per_s: float | None = Field(None, gt=0)
    stuck_after_s: float | None = Field(None, gt=0)
    deadband: float | None = Field(None, ge=0)
    heartbeat_s: float = Field(300, gt=0)
    aggregate: Aggregate | None = None
    publish: bool = True
    interval_s: float | None = Field(None, gt=0, le=86_400)
    alarm: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "StreamSpec":
        if self.valid_range is not None and self.valid_range[0] >= self.valid_range[1]:
            raise ValueError("valid_range: expected [low, high] with low below high")
        if self.type in {Kind.TEXT, Kind.BOOL}:
            for key in ("valid_range", "max_rate_per_s", "aggregate", "resolution"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: only numbers have it; this stream's type is {self.type.value!r}")
        if not self.publish and self.aggregate is None:
            raise ValueError("publish: false makes sense with 'aggregate' only: this stream would go nowhere")
        return self


class DeviceSpec(StewardedSpec):
    """What every driver's device has in common. Its streams with one interval are read together, as one scan."""

    name: Name
    profile: str | None = None
    manufacturer: str = ""
    model: str = ""
    serial_number: str = ""
    site: Site | None = None
    interval_s: float = Field(1.0, ge=0.01, le=86_400)
    scale: float = 1.0
    offset: float = 0.0
    streams: Sequence[StreamSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_and_windows_fit(self) -> "DeviceSpec":
        if len(self.name) > DEVICE_NAME_MAX_CHARS:
            raise ValueError(f"name: expected at most {DEVICE_NAME_MAX_CHARS} characters, found {len(self.name)}")
        for stream in self.streams:
            interval_s = stream.interval_s or self.interval_s
            if stream.aggregate and stream.aggregate.window_s < interval_s:
                raise ValueError(
                    f"stream {stream.name!r}: aggregate.window_s is {stream.aggregate.window_s:g}, "
                    f"expected at least its interval of {interval_s:g} s"
                )
            if stream.aggregate and len(stream.name) > DEVICE_NAME_MAX_CHARS:
                raise ValueError(f"stream {stream.name!r}: expected at most {DEVICE_NAME_MAX_CHARS} characters")
        return self


class BusSpec(Spec):
    """What every driver's bus has in common: one connection, and the devices that take turns on it."""

    name: Name
    driver: str
    devices: Sequence[DeviceSpec] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class Scan:
    """Streams of one device that are read together.

    `streams` is ordered: first the FLOAT ones, then INT and BOOL, then TEXT. The positions in it are the positions of
    a block's status. `good`: that status when nothing is wrong, read-only.
    """

    device: DeviceSpec
    streams: tuple[StreamSpec, ...]
    interval_s: float
    n_floats: int = field(init=False)
    n_ints: int = field(init=False)
    n_texts: int = field(init=False)
    good: Bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        order = {Kind.FLOAT: 0, Kind.INT: 1, Kind.BOOL: 1, Kind.TEXT: 2}
        ranks = [order[stream.type] for stream in self.streams]
        if ranks != sorted(ranks):
            raise ValueError("a scan's streams are ordered float, int and bool, text")
        object.__setattr__(self, "n_floats", ranks.count(0))
        object.__setattr__(self, "n_ints", ranks.count(1))
        object.__setattr__(self, "n_texts", ranks.count(2))
        good = np.full(len(ranks), GOOD, dtype=np.uint8)
        good.flags.writeable = False
        object.__setattr__(self, "good", good)


@dataclass(slots=True, eq=False)
class Block:
    """What one scan brought.

    time_ns: when it was measured, CLOCK_BOOTTIME; UTC when `dated` (the source knew). floats: float64 (n_floats,),
    ints: int64 (n_ints,) with bools as 0 and 1, texts: str (n_texts,): raw, before scale and offset.
    status: uint8 (n_floats + n_ints + n_texts,): GOOD, what the device says of the value, `gap(reason)` for a
    sample that was due and could not be had, ABSENT for one that was not due. `scan.good` itself says at no cost that
    nothing is wrong; `own_status` makes it writable.
    """

    scan: Scan
    time_ns: int
    floats: Floats
    ints: Ints
    texts: list[str]
    status: Bytes
    dated: bool = False

    @property
    def clean(self) -> bool:
        """Every value is there and good, and whoever made the block said so."""
        return self.status is self.scan.good

    def own_status(self) -> Bytes:
        """The status, to be written to."""
        if self.clean:
            self.status = self.status.copy()
        return self.status

    @classmethod
    def empty(cls, scan: Scan, time_ns: int, fill: int = GOOD) -> "Block":
        """A block of zeros, every status `fill`."""
        return cls(
            scan,
            time_ns,
            np.zeros(scan.n_floats),
            np.zeros(scan.n_ints, dtype=np.int64),
            [""] * scan.n_texts,
            np.full(len(scan.streams), fill, dtype=np.uint8),
        )


class Bus(Protocol):
    """One connection, driven by one task at a time."""

    async def open(self) -> None:
        """Connect. Raises DeviceUnavailable. May be called again after close()."""

    async def close(self) -> None:
        """Disconnect, free everything. Never raises."""


class PolledBus(Bus, Protocol):
    """A bus whose devices answer when asked."""

    async def poll(self, scan: Scan) -> Block:
        """Read every stream of the scan now.

        Raises DeviceUnavailable when the device gave nothing usable. Streams that alone could not be read are
        `gap(reason)` in the block's status. Returns within the bus's own timeout times the number of requests.
        """

    async def write(self, scan: Scan, stream: StreamSpec, value: Value) -> None:
        """Write one value. Raises DeviceUnavailable, or ValueError when the stream cannot be written."""


@runtime_checkable
class Explains(Protocol):
    """A bus that can say more about a sample that could not be had than its reason code does."""

    def explain(self, scan: Scan) -> Mapping[str, str]:
        """By stream name, for those that the last poll could not have: what the device said, and where."""


class Tap(Protocol):
    """Who is shown the bytes of a bus while a technician looks. It never waits and never raises."""

    def sent(self, data: bytes, meaning: str) -> None:
        """These bytes go out; `meaning` says in words what they ask for, where the driver knows."""

    def heard(self, data: bytes) -> None:
        """These bytes came in, in whatever pieces the system delivers."""


@runtime_checkable
class Tapped(Protocol):
    """A bus that can show the bytes on its wire."""

    def tap(self, tap: Tap | None) -> None:
        """Show `tap` every byte from now on, as it is on the wire; None ends it. May be called in any state."""


class ListeningBus(Bus, Protocol):
    """A bus whose devices speak when they like."""

    def listen(self) -> AsyncIterator[Block]:
        """Blocks as they come. Raises DeviceUnavailable when the connection is lost."""


@dataclass(frozen=True)
class Driver:
    """One kind of hardware, as the registry knows it.

    connect: makes the bus from its spec and its scans, opening nothing. listening: connect returns a ListeningBus.
    patient: blocks come from a file or log that can wait, so the host may pause it when the outbox fills.
    capture: for cameras, whose readings the gateway's own vision makes: starts taking looks. `connect` then raises.
    """

    name: str
    bus_spec: type[BusSpec]
    connect: Callable[[Any, Sequence[Scan]], Bus]
    listening: Callable[[Any], bool] = lambda _spec: False
    patient: bool = False
    capture: "OpenCapture | None" = None


@dataclass(frozen=True)
class ProfileInfo:
    """One line of `weinao-gateway profiles`. `streams`: how many there are."""

    name: str
    driver: str
    manufacturer: str
    model: str
    document: str
    streams: int


class DriverRegistry(Protocol):
    """Where the edge finds drivers without importing one."""

    def names(self) -> list[str]:
        """Every driver that can be named in a config, sorted."""

    def get(self, name: str) -> Driver:
        """The driver; raises ConfigError when it is unknown or its extra is not installed (naming the command)."""

    def profiles(self) -> list[ProfileInfo]:
        """The device profiles that come with the product, by name; raises ConfigError when one is broken."""

    def expand(self, device: dict[str, Any], driver: str) -> dict[str, Any]:
        """A device's raw config laid over its `profile`; raises ConfigError when there is no such profile."""


Timeout = Annotated[float, Field(gt=0, le=60)]

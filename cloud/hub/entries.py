"""One stream as the hub knows it: what the birth says of it, where it is, and since when.

An entry is one version of a stream's metadata. A gateway that publishes a changed birth makes a new version of the
streams that changed; the number stays, so that links and history of a stream survive a change of its unit or owner.
"""

from dataclasses import dataclass

from contract.catalogue import Grade
from contract.readings import Kind
from contract.topics import GatewayPath


@dataclass(frozen=True, slots=True)
class Entry:
    """A version of a stream's metadata.

    number: the hub's own, the same for every version, never given again. version: counts from 1. since_ns: when this
    version was first seen; until_ns: when it was replaced or left its gateway's birth, None while it holds.
    Place: the device's site where it has one, else the gateway's; WGS84 degrees.
    """

    number: int
    version: int
    path: GatewayPath
    device: str
    stream: str
    quantity: str
    unit: str
    kind: Kind
    interval_s: float
    since_ns: int
    until_ns: int | None = None
    resolution: float | None = None
    valid_range: tuple[float, float] | None = None
    scheduled: bool = True
    alarm: bool = False
    owner: str = ""
    contact: str = ""
    grade: Grade = Grade.RESTRICTED
    shared_with: tuple[str, ...] = ()
    retention: str = "standard"
    legal_basis: str = ""
    site: str = ""
    latitude: float | None = None
    longitude: float | None = None
    manufacturer: str = ""
    model: str = ""
    serial_number: str = ""

    @property
    def id(self) -> str:
        """`city/district/street/gateway/device/stream`: what people and addresses call it."""
        return f"{self.path}/{self.device}/{self.stream}"

    @property
    def key(self) -> tuple[GatewayPath, str, str]:
        """What identifies the stream, as store and ledger do."""
        return self.path, self.device, self.stream

"""Every error the product reacts to, each with exactly one reaction.

WeinaoError
├── ConfigError          stop before anything starts; say file:line:column, key, expected, found. Exit 2
├── DeviceUnavailable    back off this device (or its bus), explain the gap with `reason`
├── BackOff              wait `seconds`, then try the same again
├── FrameError           quarantine the message; never a crash
├── PartialWrite         quarantine the rejected, the rest is stored, acknowledge all
├── StoreUnavailable     stop taking, acknowledge nothing, wait `retry_after_s`
├── OutboxFull           thin the oldest, count it, go on sampling
└── Fatal                stop the process, exit 1; a supervisor (systemd) restarts it
"""

from collections.abc import Sequence
from typing import NamedTuple

from contract.readings import Reason


class WeinaoError(Exception):
    """The root: never raised itself."""


class ConfigError(WeinaoError):
    """A file or argument is wrong. `problems` holds one line each, ready for a technician to read."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DeviceUnavailable(WeinaoError):
    """A device or its connection does not answer properly.

    `reason` explains the gap. `whole_bus` is true when the connection itself is gone, so that every
    device on the bus shares the fate.
    """

    def __init__(self, reason: Reason, detail: str, *, whole_bus: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.whole_bus = whole_bus


class BackOff(WeinaoError):
    """The other side asks to wait `seconds`."""

    def __init__(self, seconds: float, detail: str) -> None:
        super().__init__(detail)
        self.seconds = seconds


class FrameError(WeinaoError):
    """Bytes that are not a frame, birth, or acknowledgement of this contract."""


class Rejection(NamedTuple):
    """One point that the store refuses: which frame of the write, which stream id, when, and the store's own reason."""

    frame: int
    stream: int
    time_ns: int
    reason: str


class PartialWrite(WeinaoError):
    """The store took all but the `rejected` points."""

    def __init__(self, rejected: Sequence[Rejection]) -> None:
        super().__init__(f"{len(rejected)} points rejected by the store")
        self.rejected = rejected


class StoreUnavailable(WeinaoError):
    """The store does not answer, or asks for time (429, 503). Nothing of the write may be taken as stored."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class OutboxFull(WeinaoError):
    """Neither the byte budget nor the disk has room for another frame, and nothing is left to thin."""


class Fatal(WeinaoError):
    """Going on would be worse than stopping."""

"""Why: what a camera has to say against its numbers, as the plain integers that are booked and travel as JSON."""

from typing import Final

from contract.readings import Quality, Reason

# About a value that is there.
CAMERA_MOVED: Final = int(Reason.CAMERA_MOVED)
VIEW_POOR: Final = int(Reason.VIEW_POOR)

# About a value that is not there.
NOT_SEEN: Final = int(Reason.NOT_SEEN)
CAMERA_BLIND: Final = int(Reason.CAMERA_BLIND)
TOO_FEW: Final = int(Reason.TOO_FEW)
NOBODY: Final = int(Reason.NOBODY)

GOOD: Final = 0
PARTIAL: Final = int(Reason.PARTIAL_WINDOW)


def uncertain(code: int) -> int:
    """The status byte of a value that may be used with care."""
    return Quality.UNCERTAIN << 6 | code


def missing(code: int) -> int:
    """The status byte of a gap."""
    return Quality.MISSING << 6 | code

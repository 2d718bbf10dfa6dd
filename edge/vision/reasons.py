"""Why: what a camera has to say against its numbers needs words that a sensor never needed.

The codes are reasons of contract.readings in all but name: six bits of a status byte, part of the wire, never
renumbered. They stand here in one place until that enumeration has them.
"""

from typing import Final

from contract.readings import Quality, Reason

# About a value that is there.
CAMERA_MOVED: Final = 8
"""The view is not the one in which lines, zones and ground were drawn."""
VIEW_POOR: Final = 9
"""The picture was blurred or its clock was wrong: things may have been missed."""

# About a value that is not there.
NOT_SEEN: Final = 26
"""Nobody looked: start-up, overload, or no frame came."""
CAMERA_BLIND: Final = 27
"""Frames came and showed nothing: black, covered, overexposed, or one picture repeated."""
TOO_FEW: Final = 28
"""So few that a person could be recognised: withheld on purpose (k-anonymity)."""
NOBODY: Final = 29
"""A mean of no objects."""

GOOD: Final = 0
PARTIAL: Final = int(Reason.PARTIAL_WINDOW)


def uncertain(code: int) -> int:
    """The status byte of a value that may be used with care."""
    return Quality.UNCERTAIN << 6 | code


def missing(code: int) -> int:
    """The status byte of a gap."""
    return Quality.MISSING << 6 | code

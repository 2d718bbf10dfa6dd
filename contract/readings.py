"""Readings, a table at a time.

A reading is (stream, time, value, status). A scan of a device measures many streams at one time, so
readings live in tables: one row a scan, one column a stream, one kind of value a table.

The status byte holds quality in its two high bits and the reason in its six low bits:

    00rrrrrr  GOOD       the value may be used
    01rrrrrr  UNCERTAIN  the value may be used with care, the reason says why
    10rrrrrr  BAD        the value is what was read, but must not be used
    11rrrrrr  MISSING    there is no value: 0xFF = nothing was due or it was suppressed (ABSENT),
                         any other = a sample was due and this reason explains why it is not there (a gap)
"""

import math
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

Value = float | int | bool | str
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class Kind(StrEnum):
    """What a stream's values are. In tables: float64, int64, bool, and Python str in an object array."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    TEXT = "text"


class Quality(IntEnum):
    """May this value be used? The two high bits of a status byte."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
    MISSING = 3


class Reason(IntEnum):
    """Why a value is not GOOD, or why it is not there. Codes are part of the wire and the database: never renumber."""

    NONE = 0
    # About a value that is there.
    OUT_OF_RANGE = 1  # outside the stream's valid range
    RATE_OF_CHANGE = 2  # changed faster than physics allows
    STUCK = 3  # has not changed at all for too long
    SENSOR_FAULT = 4  # the device itself flags the value
    NOT_A_NUMBER = 5  # NaN or infinity from the device
    CLOCK_ESTIMATED = 6  # dated before the gateway's clock could be trusted
    PARTIAL_WINDOW = 7  # an aggregate of a window that was not wholly seen
    CAMERA_MOVED = 8  # the view is not the one in which lines, zones and ground were drawn
    VIEW_POOR = 9  # the picture was blurred or its clock was wrong: things may have been missed
    # About a value that is not there.
    TIMEOUT = 16  # the device did not answer in time
    GARBAGE = 17  # it answered, but not with a valid frame (checksum, length, foreign reply)
    REFUSED = 18  # it answered with an exception
    DISCONNECTED = 19  # the port, adapter or connection is gone
    OVERRUN = 20  # the bus was still busy with earlier requests
    GATEWAY_OFF = 21  # the gateway was not running
    SILENT = 22  # a free-running device sent nothing
    UNDECODABLE = 23  # the bytes do not form a value of the declared type (bad BCD, integer overflow)
    NO_REGISTER = 24  # the device has no such register (exception 2 on this register alone)
    INTERNAL = 25  # a defect of the gateway, logged
    NOT_SEEN = 26  # nobody looked: start-up, overload, or no frame came
    CAMERA_BLIND = 27  # frames came and showed nothing: black, covered, overexposed, or one picture repeated
    TOO_FEW = 28  # so few that a person could be recognised: withheld on purpose (k-anonymity)
    NOBODY = 29  # a mean of no objects


GOOD = 0x00
ABSENT = 0xFF


def status(quality: Quality, reason: Reason = Reason.NONE) -> int:
    """The status byte of `quality` and `reason`."""
    return quality << 6 | reason


def gap(reason: Reason) -> int:
    """The status byte of a sample that was due and is not there."""
    return Quality.MISSING << 6 | reason


def quality_of(code: int) -> Quality:
    """The quality in a status byte."""
    return Quality(code >> 6)


def reason_of(code: int) -> Reason:
    """The reason in a status byte; NONE for codes this version does not know."""
    try:
        return Reason(code & 0x3F)
    except ValueError:
        return Reason.NONE


@dataclass(slots=True, frozen=True, eq=False)
class Table:
    """Readings of `S` streams of one kind at `T` times.

    streams: int32 (S,), ids within the epoch, unique. times: int64 (T,), ns, any order.
    values: (T, S) float64, int64, bool, or object holding str. status: uint8 (T, S); where its two high
    bits are both set there is no reading and the value carries no meaning.
    decimals: int8 (S,) or None: a hint, how many decimals a float stream's resolution has.
    """

    kind: Kind
    streams: NDArray[np.int32]
    times: Ints
    values: NDArray[np.generic]
    status: Bytes
    decimals: NDArray[np.int8] | None = None

    def present(self) -> NDArray[np.bool_]:
        """Bool (T, S): where a reading is."""
        return self.status < 0xC0

    def count(self) -> int:
        """Readings in this table."""
        return int(np.count_nonzero(self.present()))

    def readings(self) -> list["Reading"]:
        """Every reading as an object: for tests, exports and errors, never for the hot path."""
        rows, cols = np.nonzero(self.present())
        values = self.values[rows, cols].tolist()
        return [
            Reading(int(self.streams[col]), int(self.times[row]), value, int(self.status[row, col]))
            for row, col, value in zip(rows.tolist(), cols.tolist(), values, strict=True)
        ]


@dataclass(slots=True, frozen=True)
class Reading:
    """One reading, unpacked. Equality is exact: NaN equals NaN, -0.0 is not 0.0, 1 is not True."""

    stream: int
    time_ns: int
    value: Value
    status: int = GOOD

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reading):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[int, int, str, str, int]:
        value = self.value
        text = repr((value, math.copysign(1.0, value))) if isinstance(value, float) else repr(value)
        return self.stream, self.time_ns, type(value).__name__, text, self.status

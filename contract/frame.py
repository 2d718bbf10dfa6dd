"""The frame (placeholder header while the codec is written)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.readings import Ints, Reason, Table


@dataclass(slots=True, frozen=True)
class Gap:
    """Samples that were due and are not there, explained.

    `count` samples of each of `streams` were due from `first_ns` to `last_ns` (both inclusive).
    """

    streams: tuple[int, ...]
    first_ns: int
    last_ns: int
    count: int
    reason: Reason


@dataclass(slots=True, frozen=True, eq=False)
class Counters:
    """The gateway's books, for the streams whose numbers moved in this frame; all arrays (N,).

    For every stream, over all frames of a boot with nothing missing:
    due[last] == sum(readings) + sum(gap counts) + sum(suppressed) + sum(thinned).

    streams: int32 ids. due: int64, samples accounted since boot, up to and including this frame.
    suppressed, thinned: int64, samples this frame leaves out (deadband; byte budget).
    until_ns: int64, the time of the last sample accounted.
    """

    streams: NDArray[np.int32]
    due: Ints
    suppressed: Ints
    thinned: Ints
    until_ns: Ints


@dataclass(slots=True, frozen=True)
class Header:
    """What can be known of a frame without decompressing it.

    boot: 48 random bits of the gateway process that sampled. sequence: the outbox's number, rising across
    boots, never reused. epoch: 32 bits, the catalogue that stream ids refer to. time_base_ns: when the
    frame was closed. undated: times are CLOCK_BOOTTIME, not UTC; such a frame never leaves the gateway.
    estimated: the times were dated by guess, so every GOOD reading is UNCERTAIN(CLOCK_ESTIMATED).
    """

    boot: int
    sequence: int
    epoch: int
    time_base_ns: int
    undated: bool = False
    estimated: bool = False


@dataclass(slots=True, frozen=True, eq=False)
class Frame:
    """One batch of readings of one boot, with the gaps and the books that go with it."""

    header: Header
    tables: tuple[Table, ...] = ()
    gaps: tuple[Gap, ...] = ()
    counters: Counters | None = field(default=None)


def encode(frame: Frame) -> bytes:
    """The frame as bytes, lossless."""


def decode(data: bytes) -> Frame:
    """The frame in `data`; raises FrameError."""


def peek(data: bytes) -> Header:
    """The header alone; raises FrameError. Costs a microsecond and never decompresses."""


def with_sequence(data: bytes, sequence: int) -> bytes:
    """The same frame under the number that the outbox gave it; touches the header alone."""


def redate(data: bytes, offset_ns: int, *, estimated: bool) -> bytes:
    """An undated frame, dated: every time moved by `offset_ns`; touches the header alone."""


def thin(data: bytes, every: int, keep_whole: frozenset[int]) -> bytes:
    """The frame with each `every`-th row of telemetry kept and the rest counted as thinned.

    Streams in `keep_whole` (alarms), gaps, and counters stay whole.
    """

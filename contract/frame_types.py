"""What a frame is made of, and the limits that keep every frame decodable in bounded memory and time."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.readings import Ints, Reason, Table

MAX_FRAME_BYTES = 32 * 1024 * 1024
"""A frame on the wire."""
MAX_BODY_BYTES = 32 * 1024 * 1024
"""A body once decompressed: what stops a zip bomb."""
MAX_CELLS = 2 * 1024 * 1024
"""Integers in all columns of a frame together (values, times, ids, books): constant columns cost no bytes, so bytes
alone would not bound them. 20,000 streams a second fill it in 100 s."""
MAX_TABLES = 20_000
"""Tables of a frame: one for each stream that a gateway may have."""
MAX_GAPS = 65_536
"""Gaps of a frame, and distinct sets of streams among them."""
MAX_TEXTS = 65_536
"""Distinct texts of a table."""
MAX_TEXT_BYTES = 4 * 1024 * 1024
"""UTF-8 bytes of all distinct texts of a frame."""


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

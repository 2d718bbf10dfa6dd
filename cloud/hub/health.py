"""How fresh a stream is, in one word."""

from enum import StrEnum

from cloud.hub.entries import Entry
from cloud.hub.parts import Sample

LATE_INTERVALS, STALE_INTERVALS = 2, 10
GRACE_S = 5.0
SECOND_NS = 1_000_000_000


class Health(StrEnum):
    """Against the expected interval: on time; late; stale; never heard of; no gateway has it any more."""

    FRESH = "fresh"
    LATE = "late"
    STALE = "stale"
    SILENT = "silent"
    LEFT = "left"


def health_of(entry: Entry, newest: Sample | None, now_ns: int) -> Health:
    """The health of a stream whose newest reading is `newest`."""
    if entry.until_ns is not None:
        return Health.LEFT
    if newest is None:
        return Health.SILENT
    age_s = (now_ns - newest.time_ns) / SECOND_NS
    if age_s <= LATE_INTERVALS * entry.interval_s + GRACE_S:
        return Health.FRESH
    return Health.LATE if age_s <= STALE_INTERVALS * entry.interval_s + GRACE_S else Health.STALE

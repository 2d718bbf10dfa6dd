"""What is counted about streams, and the figures that people read, which are quotients of sums and nothing else.

Everything is a count under a code, of a stream: a tally is an int64 matrix (N, 3) of (stream, code, count), ascending,
each pair once. So an hour, a day and a month are the same thing, and a device, a street and a department too: adding
up is the one operation, and an average of averages cannot come about.

    expected  = what the gateway says was due, and what its silence hides (interval x time, scheduled streams)
    should    = expected - suppressed - withheld     within the deadband: unchanged, so not sent, and not missing;
                                                     withheld: too few people to publish, or a mean of nobody
    missing   = max(0, should - received)            received: the database confirmed it
    completeness = 1 - missing / should              by stream and hour, so that one stream's excess hides nothing
    validity     = GOOD / readings seen
    timeliness   = quantiles of (received - measured), from buckets a quarter of an octave wide, the upper edge
    freshness    = share of the looks at which the newest sample was no older than it may be

Packed: zstd over uint32 n and the three columns, the first as differences.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from cloud.ledger_book import explained_by
from contract.readings import Ints, Quality, Reason, quality_of, reason_of

LATENCY, N_LATENCY = 256, 128
SKEWED, CHECKED, FRESH = 400, 401, 402
EXPECTED, RECEIVED, SUPPRESSED, THINNED, AWAITED, IN_FLIGHT, UNEXPLAINED, MISSING, WITHHELD, SHOULD = range(512, 522)
EXPLAINED = 1024  # and a code of cloud.ledger_book
NOT_MISSING = (Reason.TOO_FEW, Reason.NOBODY)
EMPTY: Ints = np.zeros((0, 3), dtype=np.int64)
_BUCKETS_AN_OCTAVE = 4
_MAX_BYTES = 1 << 28


def merge(tallies: Sequence[Ints]) -> Ints:
    """All of them as one: what has the same stream and code adds up."""
    present = [one for one in tallies if len(one)]
    if not present:
        return EMPTY
    rows = np.concatenate(present) if len(present) > 1 else present[0]
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    rows = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], (rows[1:, :2] != rows[:-1, :2]).any(axis=1))))
    merged: Ints = rows[starts]
    merged[:, 2] = np.add.reduceat(rows[:, 2], starts)
    kept: Ints = merged[merged[:, 2] != 0]
    return kept


def pack(tally: Ints) -> bytes:
    """The tally as bytes. See the module."""
    columns = tally.T.copy()
    columns[0, 1:] = np.diff(tally[:, 0])
    return zstandard.compress(struct.pack("<I", len(tally)) + columns.tobytes(), 3)


def unpack(data: bytes) -> Ints:
    """The tally in `data`, which only this module wrote."""
    plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_BYTES)
    (count,) = struct.unpack_from("<I", plain)
    columns = np.frombuffer(plain, np.int64, count * 3, 4).reshape(3, count)
    tally: Ints = columns.T.copy()
    tally[:, 0] = np.cumsum(tally[:, 0])
    return tally


def latency_codes(latency_ns: Ints) -> Ints:
    """The code of each latency (n,): SKEWED when it is negative, as then the gateway's clock is ahead."""
    octaves = np.log2(np.maximum(latency_ns, 1_000_000) / 1e6)
    codes = LATENCY + np.minimum(np.ceil(octaves * _BUCKETS_AN_OCTAVE - 1e-9), N_LATENCY - 1).astype(np.int64)
    found: Ints = np.where(latency_ns < 0, SKEWED, codes)
    return found


def latency_edge_s(bucket: int) -> float:
    """The highest latency of a bucket, seconds: 1 ms for the first, 19 % more for each."""
    return float(2.0 ** (bucket / _BUCKETS_AN_OCTAVE)) / 1000


@dataclass(slots=True)
class Figures:
    """The sums of some streams over some time. counts: by code. failing: streams under the alarm, of `streams`."""

    streams: int = 0
    failing: int = 0
    counts: dict[int, int] = field(default_factory=dict)

    def count(self, code: int) -> int:
        """The sum under `code`."""
        return self.counts.get(code, 0)

    @property
    def completeness(self) -> float | None:
        """Share of what should have been received; None where nothing should."""
        should = self.count(SHOULD)
        return 1 - self.count(MISSING) / should if should else None

    @property
    def readings(self) -> int:
        """Readings seen, of any quality."""
        return sum(count for code, count in self.counts.items() if code < 0xC0)

    @property
    def validity(self) -> float | None:
        """Share of the readings that is GOOD; None without readings."""
        readings = self.readings
        return self.by_quality()["good"] / readings if readings else None

    @property
    def freshness(self) -> float | None:
        """Share of the looks at which the newest sample was fresh; None when nobody looked."""
        looks = self.count(CHECKED)
        return self.count(FRESH) / looks if looks else None

    @property
    def closes(self) -> bool:
        """Is every sample that was counted also accounted for, or may it still come?"""
        return self.count(UNEXPLAINED) == 0

    def by_quality(self) -> dict[str, int]:
        """Readings by `good`, `uncertain`, `bad`."""
        found = {"good": 0, "uncertain": 0, "bad": 0}
        for code, count in self.counts.items():
            if code < 0xC0:
                found[quality_of(code).name.lower()] += count
        return found

    def doubts(self) -> dict[str, int]:
        """Readings that are not GOOD, by reason."""
        found: dict[str, int] = {}
        for code, count in sorted(self.counts.items()):
            if code < 0xC0 and quality_of(code) is not Quality.GOOD:
                reason = reason_of(code).name.lower()
                found[reason] = found.get(reason, 0) + count
        return found

    def explained(self, kind: str) -> dict[str, int]:
        """`gap` or `quarantined` samples by reason."""
        found: dict[str, int] = {}
        for code, count in sorted(self.counts.items()):
            if code >= EXPLAINED:
                what, reason = explained_by(code - EXPLAINED)
                if what == kind:
                    found[reason] = found.get(reason, 0) + count
        return found

    def latency_s(self, share: float) -> float | None:
        """At most so late was `share` of the readings whose gateway's clock is not ahead; seconds."""
        buckets = sorted((code, n) for code, n in self.counts.items() if LATENCY <= code < LATENCY + N_LATENCY)
        rank = share * sum(n for _, n in buckets)
        below = 0
        for code, n in buckets:
            below += n
            if below >= rank - 1e-9:
                return round(latency_edge_s(code - LATENCY), 6)
        return None

    def as_json(self) -> dict[str, Any]:
        """The whole as JSON values."""
        return {
            "streams": self.streams,
            "failing": self.failing,
            "expected": self.count(EXPECTED),
            "suppressed": self.count(SUPPRESSED),
            "withheld": self.count(WITHHELD),
            "should": self.count(SHOULD),
            "received": self.count(RECEIVED),
            "missing": self.count(MISSING),
            "completeness": _rounded(self.completeness),
            "thinned": self.count(THINNED),
            "gaps": self.explained("gap"),
            "quarantined": self.explained("quarantined"),
            "awaited": self.count(AWAITED),
            "ledger": {
                "closes": self.closes,
                "in_flight": self.count(IN_FLIGHT),
                "unexplained": self.count(UNEXPLAINED),
            },
            "freshness": _rounded(self.freshness),
            "validity": {"share": _rounded(self.validity), **self.by_quality(), "reasons": self.doubts()},
            "timeliness": {
                "p50_s": self.latency_s(0.5),
                "p99_s": self.latency_s(0.99),
                "clock_ahead": self.count(SKEWED),
            },
        }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def group(tally: Ints, group_of: Ints, n_groups: int, *, alarm: float) -> list[Figures]:
    """The figures of each group.

    group_of: for each stream number its group, -1: none (numbers beyond are in none). alarm: a stream under this
    completeness fails.
    """
    known = (tally[:, 0] >= 0) & (tally[:, 0] < len(group_of))
    rows = tally[known]
    groups = group_of[rows[:, 0]]
    rows, groups = rows[groups >= 0], groups[groups >= 0]
    figures = [Figures() for _ in range(n_groups)]
    summed = merge([np.column_stack((groups, rows[:, 1], rows[:, 2]))])
    for at, code, count in summed.tolist():
        figures[at].counts[code] = count
    for at, count in _counted(groups, rows[:, 0], n_groups):
        figures[at].streams = count
    poor = rows[np.isin(rows[:, 0], failing(rows, alarm))]
    for at, count in _counted(group_of[poor[:, 0]], poor[:, 0], n_groups):
        figures[at].failing = count
    return figures


def _counted(groups: Ints, streams: Ints, n_groups: int) -> list[tuple[int, int]]:
    """(group, different streams) of groups that have some."""
    _, first = np.unique(streams, return_index=True)
    return list(enumerate(np.bincount(groups[first], minlength=n_groups).tolist()))


def column(tally: Ints, code: int, size: int) -> Ints:
    """Counts under `code` by stream number (size,)."""
    rows = tally[(tally[:, 1] == code) & (tally[:, 0] < size)]
    found: Ints = np.zeros(size, dtype=np.int64)
    found[rows[:, 0]] = rows[:, 2]
    return found


def failing(tally: Ints, alarm: float) -> NDArray[np.int64]:
    """Numbers of the streams whose completeness is under `alarm`, ascending."""
    should, missing = tally[tally[:, 1] == SHOULD], tally[tally[:, 1] == MISSING]
    due = dict(zip(should[:, 0].tolist(), should[:, 2].tolist(), strict=True))
    poor = [
        stream
        for stream, count in zip(missing[:, 0].tolist(), missing[:, 2].tolist(), strict=True)
        if count > (1 - alarm) * due.get(stream, 0)
    ]
    return np.array(sorted(poor), dtype=np.int64)

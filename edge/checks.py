"""Why: a number is only worth publishing with what is known against it.

The checks of one scan's columns, all streams at once: scale, quantise, judge, deadband. Each class holds the state of
its columns between scans. Quality only gets worse here: what the device itself says stays when it is worse. Statuses
are never written to: a block in which nothing is wrong shares its status with its scan.

Cost, with the packer: 20 us for a block of 100 float streams, 45-50 us with every check on (the floor, a bare
`raw * scale + offset` and a copy, is 3 us). tests/unit/edge/test_pipeline.py keeps loops over streams out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.readings import Bytes, Floats, Ints, Kind, Quality, Reason, gap, status
from drivers.base import DeviceSpec, StreamSpec
from edge.streams import decimal_step

MISSING = Quality.MISSING << 6
BAD = Quality.BAD << 6
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64] | NDArray[np.int64]

_NOT_A_NUMBER = status(Quality.BAD, Reason.NOT_A_NUMBER)
_OUT_OF_RANGE = status(Quality.BAD, Reason.OUT_OF_RANGE)
_TOO_FAST = status(Quality.UNCERTAIN, Reason.RATE_OF_CHANGE)
_STUCK = status(Quality.UNCERTAIN, Reason.STUCK)
_NEVER = 0xFE  # as the status last published: equal to no status of a reading
_EXACT = 2.0**53
_INT64_END = 2.0**63


class Quantiser:
    """Rounds float columns to their decimal resolution, so that the published double is the decimal's own.

    The value is k * m / 10**d for the nearest integer k: numerator and denominator are exact, one division rounds.
    Values too large for that (k * m >= 2**53), NaN, infinities and columns without a resolution stay as they are.
    """

    def __init__(self, resolutions: Sequence[float | None]) -> None:
        steps = [decimal_step(resolution) if resolution else (1, 0) for resolution in resolutions]
        self._has = np.array([resolution is not None for resolution in resolutions], dtype=np.bool_)
        self._any = bool(self._has.any())
        self._step = np.array([resolution or 1.0 for resolution in resolutions])
        self._m = np.array([float(m) for m, _ in steps])
        self._power = np.array([10.0**d for _, d in steps])

    def apply(self, values: Floats) -> Floats:
        """The rounded values, float64 (S,). Call under np.errstate(all="ignore")."""
        if not self._any:
            return values
        numerator = np.rint(values / self._step) * self._m
        fits = (np.abs(numerator) < _EXACT) & self._has
        # + 0.0 turns -0.0 into 0.0, which no scaled integer could carry.
        return np.where(fits, numerator / self._power + 0.0, values)


@dataclass(eq=False)
class _Limits:
    """The settings of a scan's columns as arrays, and which checks anyone asked for."""

    streams: Sequence[StreamSpec]
    low: Floats = field(init=False)
    high: Floats = field(init=False)
    rate_per_ns: Floats = field(init=False)
    stuck_ns: Floats = field(init=False)
    band: Floats = field(init=False)
    heartbeat_ns: Floats = field(init=False)

    def __post_init__(self) -> None:
        ranges = [spec.valid_range or (-np.inf, np.inf) for spec in self.streams]
        self.low = np.array([low for low, _ in ranges])
        self.high = np.array([high for _, high in ranges])
        self.rate_per_ns = np.array([(spec.max_rate_per_s or np.inf) * 1e-9 for spec in self.streams])
        self.stuck_ns = np.array([(spec.stuck_after_s or np.inf) * 1e9 for spec in self.streams])
        # A hair wider than asked: 20.3 - 20.2 is more than 0.1 in binary.
        self.band = np.array([-1.0 if spec.deadband is None else _band(spec) for spec in self.streams])
        self.heartbeat_ns = np.array([spec.heartbeat_s * 1e9 for spec in self.streams])
        self.ranged = any(spec.valid_range is not None for spec in self.streams)
        self.rated = any(spec.max_rate_per_s is not None for spec in self.streams)
        self.timed = any(spec.stuck_after_s is not None for spec in self.streams)
        self.any = self.ranged or self.rated or self.timed
        self.banded = any(spec.deadband is not None for spec in self.streams)


def _band(spec: StreamSpec) -> float:
    return 0.0 if spec.type is Kind.BOOL else (spec.deadband or 0.0) * (1 + 1e-9)


class _Checks:
    """What floats and integers have in common. Times are ns on one axis that rises."""

    def __init__(self, streams: Sequence[StreamSpec]) -> None:
        count = len(streams)
        self._limits = _Limits(streams)
        self._previous = np.full(count, np.nan)
        self._previous_ns = np.zeros(count)
        self._raw: Numbers | None = None
        self._changed_ns = np.zeros(count)
        self._published: Numbers | None = None
        self._published_ns = np.zeros(count)
        self._published_status = np.full(count, _NEVER, dtype=np.uint8)

    def _judge(self, raw: Numbers, values: Floats, codes: Bytes, now_ns: int) -> Bytes:
        """`codes`, or a copy that is worse where a check fails."""
        limits = self._limits
        found: Bytes | None = None
        finite = np.isfinite(values)
        if not finite.all():
            found = np.where(finite, 0, _NOT_A_NUMBER).astype(np.uint8)
        elif not limits.any:
            return codes
        present = codes < MISSING
        if limits.timed:
            found = _mark(found, self._stuck(raw, present, now_ns), _STUCK)
        if limits.rated:
            ok = present & finite & (codes < BAD)
            fast = np.abs(values - self._previous) > limits.rate_per_ns * (now_ns - self._previous_ns)
            found = _mark(found, fast, _TOO_FAST)
            np.copyto(self._previous, values, where=ok)
            np.copyto(self._previous_ns, now_ns, where=ok)
        if limits.ranged:
            found = _mark(found, ((values < limits.low) | (values > limits.high)) & finite, _OUT_OF_RANGE)
        return codes if found is None else np.where(present & ((found >> 6) > (codes >> 6)), found, codes)

    def _stuck(self, raw: Numbers, present: Flags, now_ns: int) -> Flags:
        if self._raw is None:
            self._raw = np.zeros_like(raw)
            self._changed_ns[:] = -1
        changed = present & ((raw != self._raw) | (self._changed_ns < 0))
        np.copyto(self._raw, raw, where=changed)
        np.copyto(self._changed_ns, now_ns, where=changed)
        return present & (now_ns - self._changed_ns >= self._limits.stuck_ns)

    def _suppressed(self, values: Numbers, codes: Bytes, now_ns: int) -> Flags | None:
        """Which readings say nothing new, or None when none does."""
        if not self._limits.banded:
            return None
        present = codes < MISSING
        if self._published is None:
            self._published = np.zeros_like(values)
        near = np.abs(values.astype(np.float64) - self._published) <= self._limits.band
        if values.dtype != np.float64:
            # Above 2**53 neighbouring integers are one double: nothing but equality proves that they are near.
            near &= (self._limits.band > 0) | (values == self._published)
        recent = now_ns - self._published_ns < self._limits.heartbeat_ns
        quiet: Flags = near & recent & (codes == self._published_status) & present
        passes = present & ~quiet
        np.copyto(self._published, values, where=passes)
        np.copyto(self._published_ns, now_ns, where=passes)
        np.copyto(self._published_status, codes, where=passes)
        return quiet if quiet.any() else None


class FloatChecks(_Checks):
    """The float columns of one scan."""

    def __init__(self, device: DeviceSpec, streams: Sequence[StreamSpec]) -> None:
        super().__init__(streams)
        self._scale, self._offset = _scaling(device, streams)
        self._plain = bool((self._scale == 1).all() and (self._offset == 0).all())
        self._quantiser = Quantiser([spec.resolution for spec in streams])

    def apply(self, raw: Floats, codes: Bytes, now_ns: int) -> tuple[Floats, Bytes, Flags | None]:
        """The published values; `codes`, or a copy where that got worse; and what the deadband holds back."""
        scaled = raw if self._plain else raw * self._scale + self._offset
        codes = self._judge(raw, scaled, codes, now_ns)
        values = self._quantiser.apply(scaled)
        return values, codes, self._suppressed(values, codes, now_ns)


class IntChecks(_Checks):
    """The integer and bool columns of one scan. A value that leaves int64 by its scale is a gap, UNDECODABLE."""

    def __init__(self, device: DeviceSpec, streams: Sequence[StreamSpec]) -> None:
        super().__init__(streams)
        self._scale, self._offset = _scaling(device, streams)
        self._plain = bool((self._scale == 1).all() and (self._offset == 0).all())
        self._unscaled = (self._scale == 1) & (self._offset == 0)
        self._exact = (
            (self._scale % 1 == 0)
            & (self._offset % 1 == 0)
            & (np.abs(self._scale) < _EXACT)
            & (np.abs(self._offset) < _EXACT)
        )
        self._whole_scale = np.where(self._exact, self._scale, 0).astype(np.int64)
        self._whole_offset = np.where(self._exact, self._offset, 0).astype(np.int64)
        self._step = np.array([_whole_step(spec) for spec in streams], dtype=np.int64)
        self._stepped = bool((self._step > 1).any())

    def apply(self, raw: Ints, codes: Bytes, now_ns: int) -> tuple[Ints, Bytes, Flags | None]:
        """The published values; `codes`, or a copy where that got worse; and what the deadband holds back."""
        values, codes = (raw, codes) if self._plain else self._scaled(raw, codes)
        if self._limits.any:
            codes = self._judge(raw, values.astype(np.float64), codes, now_ns)
        if self._stepped:
            rest = values % self._step
            values = values - rest + np.where(rest * 2 >= self._step, self._step, 0) * (self._step > 1)
        return values, codes, self._suppressed(values, codes, now_ns)

    def _scaled(self, raw: Ints, codes: Bytes) -> tuple[Ints, Bytes]:
        estimate = raw.astype(np.float64) * self._scale + self._offset
        fits = self._unscaled | (np.abs(estimate) < _INT64_END)
        if not fits.all():
            codes = np.where(fits | (codes >= MISSING), codes, gap(Reason.UNDECODABLE)).astype(np.uint8)
        rounded = np.rint(np.where(fits & ~self._exact, estimate, 0)).astype(np.int64)
        return np.where(self._exact, raw * self._whole_scale + self._whole_offset, rounded), codes


class TextChecks:
    """The text columns of one scan: only equality means anything, so only deadband (any) and stuck are known."""

    def __init__(self, streams: Sequence[StreamSpec]) -> None:
        self._streams = streams
        self._raw: list[str | None] = [None] * len(streams)
        self._changed_ns = [0] * len(streams)
        self._published: list[tuple[str, int, int] | None] = [None] * len(streams)

    def apply(self, texts: list[str], codes: Bytes, now_ns: int) -> tuple[Bytes, Flags | None]:
        """`codes`, or a copy where that got worse; and which texts the deadband holds back."""
        codes = codes.copy()
        quiet = np.zeros(len(texts), dtype=np.bool_)
        for column, (spec, text) in enumerate(zip(self._streams, texts, strict=True)):
            if codes[column] >= MISSING:
                continue
            if text != self._raw[column]:
                self._raw[column], self._changed_ns[column] = text, now_ns
            elif spec.stuck_after_s is not None and now_ns - self._changed_ns[column] >= spec.stuck_after_s * 1e9:
                codes[column] = max(int(codes[column]), _STUCK) if codes[column] < 0x40 else codes[column]
            last, code = self._published[column], int(codes[column])
            if spec.deadband is not None and last is not None and last[:2] == (text, code):
                quiet[column] = now_ns - last[2] < spec.heartbeat_s * 1e9
            if not quiet[column]:
                self._published[column] = (text, code, now_ns)
        return codes, quiet if quiet.any() else None


def _mark(found: Bytes | None, where: Flags, code: int) -> Bytes | None:
    """`found` with `code` where a check failed and nothing worse was found."""
    if not where.any():
        return found
    if found is None:
        found = np.zeros(len(where), dtype=np.uint8)
    np.copyto(found, code, where=where & (found >> 6 < code >> 6))
    return found


def _scaling(device: DeviceSpec, streams: Sequence[StreamSpec]) -> tuple[Floats, Floats]:
    """(raw * device + device) * stream + stream as one multiplication and one addition; bools are never scaled."""
    scale = np.array([1.0 if s.type is Kind.BOOL else device.scale * s.scale for s in streams])
    offset = np.array([0.0 if s.type is Kind.BOOL else device.offset * s.scale + s.offset for s in streams])
    return scale, offset


def _whole_step(spec: StreamSpec) -> int:
    step = spec.resolution or 1.0
    return int(step) if spec.type is Kind.INT and step >= 1 and step % 1 == 0 else 1

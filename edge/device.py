"""Why: ops staff must see which device is ill, since when and how badly, and the log must say it once.

One `DeviceHealth` a device and one a bus: it counts failures, decides how long to leave the device alone, and logs the
first failure and the recovery, nothing in between.
"""

import logging
import random
from collections import deque
from enum import StrEnum
from typing import Any

from contract.errors import DeviceUnavailable
from contract.readings import Reason

log = logging.getLogger(__name__)

RING = 64
_JITTER = (0.75, 1.0)
_MAX_DOUBLINGS = 32
_MAX_ERROR_CHARS = 300


class State(StrEnum):
    """How a device is."""

    UNKNOWN = "unknown"
    GOOD = "good"
    FAILING = "failing"
    BACKING_OFF = "backing off"


class DeviceHealth:
    """How one device (or one bus) is doing. Times are CLOCK_BOOTTIME ns.

    initial_s: how long it is left alone after the first failure; doubles up to max_s, always shortened by jitter so
    that devices do not come back in step.
    """

    def __init__(self, name: str, initial_s: float, max_s: float, rng: random.Random) -> None:
        self.name = name
        self.reason: Reason | None = None
        self.failures = 0
        self.until_ns = 0
        self.last_good_ns: int | None = None
        self.last_error = ""
        self._initial_s = initial_s
        self._max_s = max_s
        self._rng = rng
        self._failing_since_ns = 0
        self._outcomes: deque[bool] = deque(maxlen=RING)
        self._latencies_ms: deque[float] = deque(maxlen=RING)

    def state(self, now_ns: int) -> State:
        """How it is now."""
        if self.reason is not None:
            return State.BACKING_OFF if now_ns < self.until_ns else State.FAILING
        return State.UNKNOWN if self.last_good_ns is None else State.GOOD

    def resting(self, now_ns: int) -> Reason | None:
        """Why it is to be left alone now, or None when it may be tried."""
        return self.reason if self.reason is not None and now_ns < self.until_ns else None

    def good(self, now_ns: int, latency_s: float | None = None) -> None:
        """It answered."""
        if self.reason is not None:
            log.warning("%s: answers again after %.1f s", self.name, (now_ns - self._failing_since_ns) / 1e9)
        self.reason = None
        self.failures = 0
        self.until_ns = 0
        self.last_good_ns = now_ns
        self._outcomes.append(True)
        if latency_s is not None:
            self._latencies_ms.append(latency_s * 1e3)

    def failed(self, now_ns: int, error: DeviceUnavailable, cause: BaseException | None = None) -> None:
        """It did not answer properly: leave it alone for a while. cause: a defect to log with its traceback."""
        if self.reason is None:
            self._failing_since_ns = now_ns
            log.warning("%s: %s (%s)", self.name, error, error.reason.name.lower(), exc_info=cause)
        self.reason = error.reason
        self.last_error = str(error)[:_MAX_ERROR_CHARS]
        wait_s = min(self._max_s, self._initial_s * 2.0 ** min(self.failures, _MAX_DOUBLINGS))
        self.until_ns = now_ns + round(wait_s * self._rng.uniform(*_JITTER) * 1e9)
        self.failures += 1
        self._outcomes.append(False)

    def missed(self, count: int) -> None:
        """Samples were due and not asked for, because it is ill."""
        self._outcomes.extend([False] * min(count, RING))

    @property
    def success_percent(self) -> float | None:
        """Share of the last 64 due samples that came, or None before the first."""
        return 100.0 * sum(self._outcomes) / len(self._outcomes) if self._outcomes else None

    @property
    def latency_p50_ms(self) -> float | None:
        """Median round trip of the last 64 answers, or None before the first."""
        return sorted(self._latencies_ms)[len(self._latencies_ms) // 2] if self._latencies_ms else None

    @property
    def latency_max_ms(self) -> float | None:
        """Slowest of the last 64 answers, or None before the first."""
        return max(self._latencies_ms, default=None)

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """As plain JSON values."""
        since_good_s = None if self.last_good_ns is None else round((now_ns - self.last_good_ns) / 1e9, 1)
        return {
            "name": self.name,
            "state": self.state(now_ns).value,
            "success_percent": _rounded(self.success_percent),
            "latency_p50_ms": _rounded(self.latency_p50_ms),
            "latency_max_ms": _rounded(self.latency_max_ms),
            "last_good": "never" if since_good_s is None else f"{since_good_s:.1f} s ago",
            "last_good_s": since_good_s,
            "consecutive_failures": self.failures,
            "reason": self.reason.name.lower() if self.reason is not None else None,
            "last_error": self.last_error,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)

"""Why: a reading is worth what its time is worth, and a gateway often starts with a wrong clock.

Everything is scheduled and measured on CLOCK_BOOTTIME, which never jumps and counts through suspend. UTC is that plus
an offset, and the offset is believed only once the system clock is trusted; until then times are published undated.

Published times are whole milliseconds, plus `era` microseconds. The era counts how often the clock was ever set back
(kept on disk), so that the second 12:00:00 of a day that was lived twice is not the same point as the first.
"""

import asyncio
import ctypes
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge.tasks import pause

log = logging.getLogger(__name__)

PRECISION_NS = 1_000_000
STEP_NS = 500_000_000
# The most the offset moves in one check: slower than the shortest interval (10 ms), so times of a stream still rise.
SLEW_NS = 5_000_000
# Two readings of clocks further apart than this were torn apart by the scheduler and say nothing.
TORN_NS = 5_000_000
# No gateway ran this software before it was built: 2026-11-01T00:00:00Z.
BUILT_NS = 1_793_491_200 * 1_000_000_000
ERA_NOTE = "clock-era"
ERAS = 1000
_STA_UNSYNC = 0x40
_TIME_ERROR = 5


class Clock(Protocol):
    """The clocks of the machine."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME."""

    def wall_ns(self) -> int:
        """CLOCK_REALTIME: what the machine believes UTC to be."""

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`; may return a little early."""


class SystemClock:
    """The real clocks."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall_ns(self) -> int:
        """CLOCK_REALTIME."""
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        """asyncio's sleep."""
        await asyncio.sleep(seconds)


def system_source(clock: Clock, newest_ns: int = 0, patience_s: float = 600.0) -> Callable[[], bool]:
    """Trust a system clock that is later than the build and than `newest_ns`, the newest UTC time on this disk.

    A clock behind `newest_ns` was either set back or lost its battery; it gets `patience_s` seconds to be corrected,
    then it is believed, for the newest time may itself be the mistake. It is never believed before the build date.
    """
    began_ns = clock.boottime_ns()

    def synced() -> bool:
        wall_ns = clock.wall_ns()
        waited_s = (clock.boottime_ns() - began_ns) / 1e9
        return wall_ns > BUILT_NS and (wall_ns > newest_ns or waited_s >= patience_s)

    return synced


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is looked at; the rest is room for the kernel to write."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_synchronised() -> bool:
    """Whether adjtimex(2) says that something disciplines the clock (STA_UNSYNC is clear)."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except AttributeError:
        return False
    answer = _Timex(modes=0)
    state = int(adjtimex(ctypes.byref(answer)))
    return 0 <= state < _TIME_ERROR and not answer.status & _STA_UNSYNC


def ntp_source(marker: Path | None = Path("/run/systemd/timesync/synchronized")) -> Callable[[], bool]:
    """Trust the clock when the kernel says it is synchronised, or when `marker` exists. Reads one inode."""

    def synced() -> bool:
        return kernel_synchronised() or (marker is not None and marker.exists())

    return synced


class TrustedClock:
    """Turns CLOCK_BOOTTIME into UTC once the clock is trusted, and notices when it jumps.

    newest_ns: the newest UTC time published before; a clock behind it opens a new era. load_note, save_note: small
    values on disk by name. Call `check()` once before the first sample and `run()` beside everything else.
    """

    def __init__(
        self,
        clock: Clock,
        synced: Callable[[], bool],
        load_note: Callable[[str], bytes | None],
        save_note: Callable[[str, bytes], None],
        *,
        newest_ns: int = 0,
        recheck_s: float = 1.0,
    ) -> None:
        self.trusted = False
        self.generation = 0
        self.steps = 0
        self.error_s = 0.0
        self._clock = clock
        self._synced = synced
        self._save_note = save_note
        self._newest_ns = newest_ns
        self._recheck_s = recheck_s
        self._exact_ns = 0
        self._stepped_s = 0.0
        saved = load_note(ERA_NOTE)
        self.era = int(saved) if saved and saved.isdigit() else 0

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return self._clock.boottime_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        await self._clock.sleep(seconds)

    @property
    def offset_ns(self) -> int | None:
        """Published UTC minus CLOCK_BOOTTIME in whole milliseconds, or None while the clock is not trusted.

        Whole milliseconds plus the era: what dates the undated frames of this start of the machine.
        """
        if not self.trusted:
            return None
        return round(self._exact_ns / PRECISION_NS) * PRECISION_NS + self.era % ERAS * 1000

    def stamp(self, boottime_ns: int) -> tuple[int, bool]:
        """What to publish for that moment: (UTC, True), or (CLOCK_BOOTTIME, False) while UTC is not known."""
        whole_ns = boottime_ns // PRECISION_NS * PRECISION_NS
        offset_ns = self.offset_ns
        return (whole_ns, False) if offset_ns is None else (whole_ns + offset_ns, True)

    def age_s(self, time_ns: int | None) -> float | None:
        """Seconds since a published time; None when that is not known: no time, or one of an earlier machine start."""
        if time_ns is None:
            return None
        now_ns = self._clock.boottime_ns()
        # No machine runs for half a century: what is earlier than this software is CLOCK_BOOTTIME, not UTC.
        if time_ns >= BUILT_NS:
            if not self.trusted:
                return None
            now_ns = self.stamp(now_ns)[0]
        return None if time_ns > now_ns else round((now_ns - time_ns) / 1e9, 1)

    def take_step_s(self) -> float:
        """Seconds the clock was stepped since this was last asked; forward is positive."""
        stepped_s, self._stepped_s = self._stepped_s, 0.0
        return stepped_s

    async def run(self, stopping: asyncio.Event) -> None:
        """Look at the clock every second until `stopping`."""
        while not await pause(self._clock, self._recheck_s, stopping):
            # The source may touch a file, so it is asked outside the event loop.
            self.follow(synced=self.trusted or await asyncio.to_thread(self._synced))

    def check(self) -> None:
        """Look at the clock now."""
        self.follow(synced=self.trusted or self._synced())

    def follow(self, *, synced: bool) -> None:
        """Take the clock as it is now: start to trust it, follow its drift, or notice a step."""
        before_ns = self._clock.boottime_ns()
        wall_ns = self._clock.wall_ns()
        after_ns = self._clock.boottime_ns()
        if after_ns - before_ns > TORN_NS:
            return
        seen_ns = wall_ns - (before_ns + after_ns) // 2
        if not self.trusted:
            if synced:
                self._trust(seen_ns, wall_ns)
            return
        error_ns = seen_ns - self._exact_ns
        self.error_s = error_ns / 1e9
        if abs(error_ns) > STEP_NS:
            self._step(seen_ns, error_ns)
        else:
            self._exact_ns += max(-SLEW_NS, min(SLEW_NS, error_ns))

    def _trust(self, offset_ns: int, wall_ns: int) -> None:
        if wall_ns <= self._newest_ns:
            log.warning("the clock is %.3f s behind the newest reading on disk", (self._newest_ns - wall_ns) / 1e9)
            self._next_era()
        self._exact_ns = offset_ns
        self.trusted = True
        self.generation += 1
        log.info("the clock is trusted from now on; readings are dated")

    def _step(self, offset_ns: int, error_ns: int) -> None:
        log.warning("the clock was stepped by %+.3f s", error_ns / 1e9)
        if error_ns < 0:
            self._next_era()
        self._exact_ns = offset_ns
        self.steps += 1
        self.generation += 1
        self._stepped_s += error_ns / 1e9

    def _next_era(self) -> None:
        # On disk first: a crash in between skips an era, which costs nothing; the other order could use one twice.
        try:
            self._save_note(ERA_NOTE, str(self.era + 1).encode())
        except OSError as error:
            log.warning("the new era of the clock could not be kept on disk: %s", error)
        self.era += 1

"""Dates frames that were taken before the clock could be trusted.

A gateway without a battery-backed clock starts in 1970 or at its last shutdown. Until NTP has spoken its frames carry
CLOCK_BOOTTIME, which runs through every process of one start of the machine. Once the clock is known, one offset
dates all of them. The offset of a boot is decided once and kept on disk, so a frame that is sent again has the same
times again.

A machine that lost power before it ever knew the time leaves frames that nothing can date exactly: they are placed
right after the newest time known when they were taken, and every reading says so (UNCERTAIN, CLOCK_ESTIMATED).
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

NOTE = "datings"
MAX_BOOTS = 1000
_MACHINE_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Dating(msgspec.Struct):
    """What is known of one boot of the gateway process.

    machine: the start of the machine it ran in. newest_ns: the newest UTC time known when it began. offset_ns: UTC
    minus CLOCK_BOOTTIME, None while unknown.
    """

    machine: str
    newest_ns: int
    offset_ns: int | None = None
    estimated: bool = False


def machine_boot() -> str:
    """What tells this start of the machine from every other."""
    try:
        return _MACHINE_BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


class Datings:
    """The offsets of every boot whose frames may still wait on this disk."""

    def __init__(
        self,
        load_note: Callable[[str], bytes | None],
        save_note: Callable[[str, bytes], None],
        machine: str,
    ) -> None:
        self._save_note = save_note
        self._machine = machine
        self._settled = False
        self._boots: dict[int, Dating] = {}
        saved = load_note(NOTE)
        if saved:
            self._boots = msgspec.msgpack.decode(saved, type=dict[int, Dating])

    def begin(self, boot: int, newest_ns: int) -> None:
        """Remember that `boot` runs now, and the newest UTC time that the disk held when it began."""
        self._boots[boot] = Dating(self._machine, newest_ns)
        for old in list(self._boots)[:-MAX_BOOTS]:
            del self._boots[old]
        self._save()

    def settle(self, offset_ns: int) -> None:
        """The clock is known: UTC is CLOCK_BOOTTIME plus `offset_ns`, for every undated boot of this machine start."""
        for dating in self._boots.values():
            if dating.machine == self._machine and dating.offset_ns is None:
                dating.offset_ns = offset_ns
        self._settled = True
        self._save()

    @property
    def settled(self) -> bool:
        """Whether the clock is known, so that undated frames can go."""
        return self._settled

    def offset(self, boot: int, first_ns: int) -> tuple[int, bool] | None:
        """Nanoseconds to add to an undated frame's times and whether that is a guess, or None while it must wait.

        first_ns: the CLOCK_BOOTTIME of the oldest undated frame of that boot: where a guess begins.
        """
        dating = self._boots.get(boot)
        if dating is None:
            dating = self._boots[boot] = Dating("unknown", max(d.newest_ns for d in self._boots.values()))
        if dating.offset_ns is None and dating.machine != self._machine:
            dating.offset_ns = dating.newest_ns + 1_000_000_000 - first_ns
            dating.estimated = True
            self._save()
        return None if dating.offset_ns is None else (dating.offset_ns, dating.estimated)

    def _save(self) -> None:
        self._save_note(NOTE, msgspec.msgpack.encode(self._boots))

"""Dates frames that were taken before the clock could be trusted.

A gateway without a battery-backed clock starts in 1970 or at its last shutdown. Until NTP has spoken its frames carry
CLOCK_BOOTTIME, which runs through every process of one start of the machine. Once the clock is known, one offset
dates all of them. The offset of a boot is decided once and kept on disk before it is used, so a frame that is sent
again has the same times again.

A machine that lost power before it ever knew the time leaves frames that nothing can date exactly: they are placed as
if that machine had started right after the newest time known then, and every reading says so (UNCERTAIN,
CLOCK_ESTIMATED). All processes of one start of the machine share the guess, so their order stays. Two such starts may
be placed over each other; each therefore has a microsecond of its own (500 to 999: the clock's eras count up from 0),
so no two samples ever share a timestamp.
"""

import logging
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge.clock import BUILT_NS, PRECISION_NS

log = logging.getLogger(__name__)

NOTE = "datings"
MAX_BOOTS = 1000
_FIRST_LANE, _LANES = 500, 500
_MARGIN_NS = 1_000_000_000
_MACHINE_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Dating(msgspec.Struct):
    """What is known of one boot of the gateway process.

    machine: the start of the machine it ran in. newest_ns: the newest UTC time known when that machine's first
    undated process began, at CLOCK_BOOTTIME `began_ns`. offset_ns: UTC minus CLOCK_BOOTTIME, None while unknown.
    """

    machine: str
    newest_ns: int
    began_ns: int
    offset_ns: int | None = None
    estimated: bool = False


class _Note(msgspec.Struct):
    boots: dict[int, Dating] = {}
    guesses: int = 0


def machine_boot(source: Path = _MACHINE_BOOT) -> str:
    """What tells this start of the machine from every other; where the kernel does not say, this process alone."""
    try:
        return source.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return f"process-{secrets.token_hex(8)}"


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
        self._note = _Note()
        try:
            self._note = msgspec.msgpack.decode(load_note(NOTE) or msgspec.msgpack.encode(_Note()), type=_Note)
        except msgspec.MsgspecError as error:
            log.warning("the note that dates old frames is not readable, their times will be guessed: %s", error)

    def begin(self, boot: int, newest_ns: int, boottime_ns: int) -> None:
        """Remember that `boot` began at `boottime_ns`, and the newest UTC time that the disk held then."""
        began = Dating(self._machine, newest_ns, boottime_ns)
        for earlier in self._note.boots.values():
            if earlier.machine == self._machine and earlier.offset_ns is None:
                began = Dating(self._machine, earlier.newest_ns, earlier.began_ns)
                break
        boots = {**self._note.boots, boot: began}
        note = _Note(dict(list(boots.items())[-MAX_BOOTS:]), self._note.guesses)
        try:
            self._keep(note)
        except OSError as error:
            # Sampling matters more: if the clock stays unknown and the power fails too, the times are a wider guess.
            log.warning("the beginning of this boot cannot be kept on disk: %s", error)
            self._note = note

    def settle(self, offset_ns: int) -> None:
        """The clock is known: UTC is CLOCK_BOOTTIME plus `offset_ns`. Decides how every undated boot is dated.

        Raises OSError when that cannot be kept on disk; nothing is decided then, call it again.
        """
        boots, guesses = dict(self._note.boots), self._note.guesses
        lanes: dict[str, int] = {}
        for boot, dating in boots.items():
            if dating.offset_ns is not None:
                continue
            if dating.machine == self._machine:
                boots[boot] = msgspec.structs.replace(dating, offset_ns=offset_ns)
                continue
            if dating.machine not in lanes:
                lanes[dating.machine] = guesses
                guesses += 1
            boots[boot] = _guessed(dating, lanes[dating.machine])
        self._keep(_Note(boots, guesses))
        self._settled = True

    @property
    def settled(self) -> bool:
        """Whether the clock is known, so that undated frames can go."""
        return self._settled

    def offset(self, boot: int) -> tuple[int, bool] | None:
        """Nanoseconds to add to an undated frame's times and whether that is a guess; None while it must wait."""
        if not self._settled:
            return None
        dating = self._note.boots.get(boot)
        if dating is None:  # its note was lost, or more than MAX_BOOTS came after it
            newest_ns = max((known.newest_ns for known in self._note.boots.values()), default=0)
            dating = _guessed(Dating(f"boot-{boot}", newest_ns, 0), self._note.guesses)
            try:
                self._keep(_Note({boot: dating, **self._note.boots}, self._note.guesses + 1))
            except OSError as error:
                log.warning("frames of boot %d wait: how they are dated cannot be kept on disk: %s", boot, error)
                return None
        if dating.offset_ns is None:
            return None
        return dating.offset_ns, dating.estimated

    def _keep(self, note: _Note) -> None:
        """On disk first: what a crash may forget must not have been used."""
        self._save_note(NOTE, msgspec.msgpack.encode(note))
        self._note = note


def _guessed(dating: Dating, number: int) -> Dating:
    """The dating of a machine whose clock was never known; `number` tells the guesses on this disk apart."""
    newest_ns = max(dating.newest_ns, BUILT_NS) // PRECISION_NS * PRECISION_NS + _MARGIN_NS
    lane_ns = (_FIRST_LANE + number % _LANES) * 1000
    began_ns = dating.began_ns // PRECISION_NS * PRECISION_NS
    return msgspec.structs.replace(dating, offset_ns=newest_ns - began_ns + lane_ns, estimated=True)

"""What a serial device says and hears, without the line it says it on."""

import random
from dataclasses import dataclass
from typing import Protocol

from hardware_sim.devices.instrument import Instrument


@dataclass(frozen=True, slots=True)
class Message:
    """One complete message and what it says, by name, as rounded on the wire."""

    frame: bytes
    named: dict[str, float]


class Talker(Protocol):
    """A device on a serial line: it speaks by itself, or when asked, or both."""

    instrument: Instrument
    """What it senses with."""
    interval_s: float | None
    """How often it speaks by itself, or None."""

    def speak(self) -> list[Message]:
        """What it says by itself now."""

    def hear(self, data: bytes, /) -> list[Message]:
        """What it answers to these bytes."""

    def corrupt(self, frame: bytes) -> bytes:
        """The message with a checksum that fails; without one, such that it cannot be read."""

    def partial(self, frame: bytes) -> bytes:
        """The message broken off, in a way that spoils no other message."""

    def garbage(self, chance: random.Random, size: int) -> bytes:
        """Random bytes, in a way that spoils no other message."""


LINE_END = b"\r\n"


def noisy_line(chance: random.Random, size: int) -> bytes:
    """Random bytes above ASCII, ended as a line: whoever reads lines loses this one and not the next."""
    return bytes(chance.randrange(0x80, 0x100) for _ in range(size)) + LINE_END

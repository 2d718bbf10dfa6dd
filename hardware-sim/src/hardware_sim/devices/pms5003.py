"""A Plantower PMS5003 particle sensor.

Source: Plantower, "PMS5003 series data manual" V2.3: 32 bytes, 0x42 0x4D, length 28, thirteen big-endian uint16 (PM1.0,
PM2.5, PM10 "CF=1"; the same under atmospheric conditions; particles above 0.3, 0.5, 1.0, 2.5, 5.0, 10 um in 0.1 L;
reserved), sum of the 30 bytes before. Active mode sends by itself; the host may switch to passive (0x42 0x4D 0xE1 0 0
sum) and ask (0xE2), or put it to sleep (0xE4 0 0) and wake it (0xE4 0 1).
"""

import math
import random
import struct

from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.talker import Message

START = b"\x42\x4d"
SIGNALS = (
    *(Signal(name, 0, 1000, 2) for name in ("pm1", "pm2_5", "pm10")),
    *(Signal(name, 0, 20_000, 1) for name in ("n0_3", "n0_5", "n1_0", "n2_5", "n5_0", "n10")),
)
FIELDS = (
    *("pm1_cf1", "pm2_5_cf1", "pm10_cf1", "pm1", "pm2_5", "pm10"),
    *("n0_3", "n0_5", "n1_0", "n2_5", "n5_0", "n10"),
)
_RESERVED = 0x9700  # version 0x97, no error, as a real one sends
_COMMAND_BYTES = 7


class Pms5003:
    """See above. interval_s: between frames in active mode; a real one takes 2.3 s, or 0.2-0.8 s in changing air."""

    def __init__(self, instrument: Instrument, interval_s: float = 1.0) -> None:
        self.instrument = instrument
        self.interval_s: float | None = interval_s
        self._active = True
        self._awake = True
        self._heard = b""

    def speak(self) -> list[Message]:
        """A frame, in active mode."""
        return [self._message()] if self._active and self._awake else []

    def hear(self, data: bytes) -> list[Message]:
        """Obey commands; a wrong sum is ignored."""
        self._heard += data
        said: list[Message] = []
        while True:
            self._heard = self._heard[self._heard.find(START) :] if START in self._heard else self._heard[-1:]
            if len(self._heard) < _COMMAND_BYTES:
                return said
            command, self._heard = self._heard[:_COMMAND_BYTES], self._heard[_COMMAND_BYTES:]
            if sum(command[:5]) == int.from_bytes(command[5:], "big"):
                said += self._obey(command[2], command[4])

    def _obey(self, command: int, argument: int) -> list[Message]:
        match command:
            case 0xE1:
                self._active = bool(argument)
                body = START + bytes((0, 4, command, argument))
                return [Message(body + sum(body).to_bytes(2, "big"), {})]
            case 0xE2 if self._awake and not self._active:
                return [self._message()]
            case 0xE4:
                self._awake = bool(argument)
                return []
            case _:
                return []

    def corrupt(self, frame: bytes) -> bytes:
        """A frame with a wrong sum."""
        return frame[:-1] + bytes((frame[-1] ^ 0x5A,))

    def partial(self, frame: bytes) -> bytes:
        """Half a frame: the next start bytes begin a new one."""
        return frame[: len(frame) // 2]

    def garbage(self, chance: random.Random, size: int) -> bytes:
        """Random bytes without a start byte."""
        return chance.randbytes(size).replace(START[:1], b"\x00")

    def _message(self) -> Message:
        values = self.instrument.values()
        mass = [_count(values[name]) for name in ("pm1", "pm2_5", "pm10")]
        # "Factory" values read higher than atmospheric ones in dirty air.
        factory = [_count(value if value <= 30 else 30 + 1.5 * (value - 30)) for value in mass]
        numbers = [_count(values[name]) for name in FIELDS[6:]]
        words = [*factory, *mass, *numbers]
        body = START + struct.pack(">14H", 28, *words, _RESERVED)
        named = {name: float(word) for name, word in zip(FIELDS, words, strict=True)}
        return Message(body + sum(body).to_bytes(2, "big"), named)


def _count(value: float) -> int:
    return 0xFFFF if math.isnan(value) else min(max(round(value), 0), 0xFFFF)

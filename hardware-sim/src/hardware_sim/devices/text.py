"""A sensor that writes lines of text, by itself or when asked, as home-made and laboratory instruments do.

style pairs: `temperature=21.42,humidity=55.10`; csv: `21.42,55.10`. Every line ends in CR LF; a request is a line, too.
There is no checksum: a corrupt line carries a character that no number has.
"""

import math
import random
import re

from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.talker import LINE_END, Message, noisy_line

SIGNALS = (
    Signal("temperature", -40, 60, 2),
    Signal("humidity", 0, 100, 2),
    Signal("pressure", 850, 1100, 2),
    Signal("rain", 0, 200, 2),
    Signal("illuminance", 0, 150_000, 1),
)
MAX_HEARD_BYTES = 1024


class TextSensor:
    """See above. interval_s None and a request: it answers only. request None: it speaks only."""

    def __init__(
        self,
        instrument: Instrument,
        style: str = "pairs",
        interval_s: float | None = 1.0,
        request: str | None = None,
    ) -> None:
        self.instrument = instrument
        self._style = style
        self.interval_s: float | None = interval_s
        self._request = None if request is None else request.encode()
        self._heard = b""

    def speak(self) -> list[Message]:
        """A line."""
        return [self._message()]

    def hear(self, data: bytes) -> list[Message]:
        """A line for each proper request."""
        if self._request is None:
            return []
        *lines, self._heard = re.split(rb"[\r\n]+", self._heard + data)
        self._heard = self._heard[-MAX_HEARD_BYTES:]
        return [self._message() for line in lines if line == self._request]

    def corrupt(self, frame: bytes) -> bytes:
        """The line with every point garbled."""
        return frame.replace(b".", b"#") if b"." in frame else b"#" + frame

    def partial(self, frame: bytes) -> bytes:
        """What comes before the first number, then the line ends: half a number would be a number."""
        return re.split(rb"[-\d]", frame, maxsplit=1)[0].rstrip() + LINE_END

    def garbage(self, chance: random.Random, size: int) -> bytes:
        """A line of noise."""
        return noisy_line(chance, size)

    def _message(self) -> Message:
        values = self.instrument.values()
        texts = {
            signal.name: "nan" if math.isnan(value) else f"{value:.{signal.decimals}f}"
            for signal in self.instrument.signals
            for value in (values[signal.name],)
        }
        parts = [text if self._style == "csv" else f"{name}={text}" for name, text in texts.items()]
        return Message(",".join(parts).encode() + LINE_END, {name: float(text) for name, text in texts.items()})

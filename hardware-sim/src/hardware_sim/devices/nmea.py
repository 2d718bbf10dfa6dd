"""A weather station that speaks NMEA 0183.

Source: Airmar, "WX Series WeatherStation Technical Manual": $WIMWV (wind: angle, reference, speed, unit, status) and
$WIMDA (meteorological composite); NMEA 0183 $--XDR (transducers: type, value, unit, name), here with what MDA has no
place for.
The checksum is the XOR of everything between $ and *. A value that is not available is an empty field.
"""

import math
import random
from functools import reduce
from operator import xor

from hardware_sim.devices.instrument import Instrument, Signal
from hardware_sim.devices.talker import LINE_END, Message, noisy_line

SIGNALS = (
    Signal("temperature", -40, 60, 2),
    Signal("humidity", 0, 100, 2),
    Signal("dew_point", -50, 60, 2),
    Signal("pressure", 850, 1100, 2),
    Signal("wind_speed", 0, 60, 2),
    Signal("wind_direction", 0, 360, 1),
    Signal("rain", 0, 200, 2),
    Signal("illuminance", 0, 150_000, 1),
)
KNOTS = 3600 / 1852
INCHES_PER_HPA = 0.0295299831


def sentence(body: str) -> bytes:
    """A body with $, checksum and line end."""
    return f"${body}*{reduce(xor, body.encode(), 0):02X}".encode() + LINE_END


class WeatherStation:
    """Every interval one MWV, one MDA and one XDR. wind_unit: of MWV, N (knots, as Airmar's) or M (m/s, as others)."""

    def __init__(self, instrument: Instrument, interval_s: float = 1.0, wind_unit: str = "N") -> None:
        self.instrument = instrument
        self.interval_s: float | None = interval_s
        self._wind_unit = wind_unit

    def speak(self) -> list[Message]:
        """The three sentences. The truth names each value by sentence: `MWV.speed`, `MDA.temperature`, ..."""
        values = self.instrument.values()
        knots, metres = values["wind_speed"] * KNOTS, values["wind_speed"]
        direction = values["wind_direction"]
        wind = (
            ("direction", f"{_text(direction, 1)},T"),
            ("speed", f"{_text(knots if self._wind_unit == 'N' else metres, 1)},{self._wind_unit}"),
            ("", "V" if math.isnan(metres) else "A"),
        )
        composite = (
            ("pressure_inhg", f"{_text(values['pressure'] * INCHES_PER_HPA, 4)},I"),
            ("pressure_bar", f"{_text(values['pressure'] / 1000, 4)},B"),
            ("temperature", f"{_text(values['temperature'], 1)},C"),
            ("", ",C"),  # water temperature: none
            ("humidity", _text(values["humidity"], 1)),
            ("", ""),  # absolute humidity: none
            ("dew_point", f"{_text(values['dew_point'], 1)},C"),
            ("direction", f"{_text(direction, 1)},T"),
            ("", ",M"),  # magnetic direction: no compass
            ("speed_knots", f"{_text(knots, 1)},N"),
            ("speed", f"{_text(metres, 1)},M"),
        )
        transducers = (
            ("rain", f"G,{_text(values['rain'], 2)},,RAIN"),
            ("illuminance", f"G,{_text(values['illuminance'], 0)},,LUX"),
        )
        return [_message("MWV", wind), _message("MDA", composite), _message("XDR", transducers)]

    def hear(self, _data: bytes) -> list[Message]:
        """It listens to nobody."""
        return []

    def corrupt(self, frame: bytes) -> bytes:
        """A sentence with a wrong checksum."""
        return frame[:-4] + f"{int(frame[-4:-2], 16) ^ 0x5A:02X}".encode() + LINE_END

    def partial(self, frame: bytes) -> bytes:
        """Half a sentence, then the line ends."""
        return frame[: len(frame) // 2] + LINE_END

    def garbage(self, chance: random.Random, size: int) -> bytes:
        """A line of noise."""
        return noisy_line(chance, size)


def _text(value: float, decimals: int) -> str:
    return "" if math.isnan(value) else f"{value:.{decimals}f}"


def _message(kind: str, fields: tuple[tuple[str, str], ...]) -> Message:
    """The sentence and its named values; the value of a field is the first text in it that is a number."""
    named = {}
    for name, text in fields:
        number = next((part for part in text.split(",") if part and part[-1].isdigit()), None)
        if name:
            named[f"{kind}.{name}"] = math.nan if number is None else float(number)
    return Message(sentence(f"WI{kind}," + ",".join(text for _, text in fields)), named)

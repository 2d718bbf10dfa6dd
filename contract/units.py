"""Units, in UCUM (The Unified Code for Units of Measure), case sensitive.

Only units that city sensing uses are known, so that a typo is an error with the nearest known unit, not a
new unit. Add a line here when a new kind of sensor needs one.
"""

import difflib
from typing import Annotated

from pydantic import AfterValidator

UNITS: dict[str, str] = {
    "1": "no unit (counts, ratios, states)",
    "%": "percent",
    "[ppm]": "parts per million",
    "[ppb]": "parts per billion",
    "Cel": "degree Celsius",
    "K": "kelvin",
    "[degF]": "degree Fahrenheit",
    "V": "volt",
    "mV": "millivolt",
    "kV": "kilovolt",
    "A": "ampere",
    "mA": "milliampere",
    "W": "watt",
    "kW": "kilowatt",
    "MW": "megawatt",
    "V.A": "volt-ampere (apparent power)",
    "kV.A": "kilovolt-ampere",
    "var": "volt-ampere reactive",
    "kvar": "kilovolt-ampere reactive",
    "W.h": "watt-hour",
    "kW.h": "kilowatt-hour",
    "MW.h": "megawatt-hour",
    "V.A.h": "volt-ampere-hour",
    "kV.A.h": "kilovolt-ampere-hour",
    "var.h": "volt-ampere-reactive-hour",
    "kvar.h": "kilovolt-ampere-reactive-hour",
    "A.h": "ampere-hour",
    "Hz": "hertz",
    "deg": "degree (angle)",
    "rad": "radian",
    "Pa": "pascal",
    "hPa": "hectopascal",
    "kPa": "kilopascal",
    "MPa": "megapascal",
    "bar": "bar",
    "mbar": "millibar",
    "[in_i'Hg]": "inch of mercury",
    "m": "metre",
    "mm": "millimetre",
    "cm": "centimetre",
    "km": "kilometre",
    "um": "micrometre",
    "m/s": "metre per second",
    "km/h": "kilometre per hour",
    "[kn_i]": "knot",
    "mm/s": "millimetre per second",
    "m/s2": "metre per second squared",
    "mm/h": "millimetre per hour (rain)",
    "m3": "cubic metre",
    "L": "litre",
    "m3/h": "cubic metre per hour",
    "m3/s": "cubic metre per second",
    "L/s": "litre per second",
    "L/min": "litre per minute",
    "s": "second",
    "ms": "millisecond",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "ug/m3": "microgram per cubic metre",
    "mg/m3": "milligram per cubic metre",
    "g/m3": "gram per cubic metre",
    "mg/L": "milligram per litre",
    "[pH]": "pH",
    "uS/cm": "microsiemens per centimetre",
    "mS/cm": "millisiemens per centimetre",
    "[NTU]": "nephelometric turbidity unit",
    "lx": "lux",
    "lm": "lumen",
    "W/m2": "watt per square metre",
    "J/cm2": "joule per square centimetre",
    "dB": "decibel",
    "dB[SPL]": "decibel, sound pressure level",
    "dB[mW]": "decibel-milliwatt (radio signal)",
    "{count}": "count of things",
    "{count}/min": "things per minute",
    "{count}/h": "things per hour",
    "{count}/dL": "particles per 0.1 litre",
    "/min": "per minute (revolutions)",
    "kg": "kilogram",
    "t": "tonne",
    "N": "newton",
    "By": "byte",
    "KiBy": "kibibyte",
    "MiBy": "mebibyte",
    "By/s": "byte per second",
}


def check_unit(text: str) -> str:
    """`text` when it is a known unit; raises ValueError naming the nearest known ones."""
    if text in UNITS:
        return text
    near = difflib.get_close_matches(text, UNITS, n=3, cutoff=0.4)
    folded = [unit for unit in UNITS if unit.lower() == text.lower() or UNITS[unit].lower().startswith(text.lower())]
    hint = ", ".join(dict.fromkeys(folded + near)) or "1 for no unit"
    raise ValueError(f"an unknown UCUM unit {text[:40]!r}; did you mean: {hint}?")


Unit = Annotated[str, AfterValidator(check_unit)]

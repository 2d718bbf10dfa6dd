"""From a message to a stream's value: where it stands, whether it is valid, what it converts to.

A sampler answers with a value and its status, or with None when this message says nothing of the stream.
"""

import math
import re
from collections.abc import Callable

from pydantic import Field, model_validator

from contract.readings import GOOD, Kind, Quality, Reason, Value, gap, status
from drivers.base import Spec, StreamSpec
from drivers.serial_binary import BinaryFormat, ByteOrder, NumberFormat, number
from drivers.serial_text import CsvLines, Fields, NmeaLines, RegexLines, is_sentence, transducer_value

Sample = tuple[Value, int]
TextSampler = Callable[[Fields], Sample | None]
BinarySampler = Callable[[bytes], Sample | None]

_UNDECODABLE = gap(Reason.UNDECODABLE)
_FLAGGED = status(Quality.BAD, Reason.SENSOR_FAULT)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_TRUE = {"1", "true", "on", "yes", "a"}
_FALSE = {"0", "false", "off", "no", "v"}
_INT64 = 1 << 63


class Place(Spec):
    """Where something stands in a message.

    Text: `field`, a group's or column's name, or its number from 1. Binary: `at`, an offset in bytes from the frame's
    first byte, read as `format`; `bit` takes one bit of it, 0 the lowest.
    """

    field: str | int | None = None
    at: int | None = Field(None, ge=0)
    format: NumberFormat = "u8"
    byte_order: ByteOrder | None = None
    bit: int | None = Field(None, ge=0, le=63)


class Condition(Place):
    """That something in the same message equals a value."""

    equals: str | int


class Transducer(Spec):
    """One transducer of an NMEA XDR sentence: its type and id, and the unit that its value must have."""

    type: str = Field(min_length=1, max_length=1)
    id: str = "0"
    unit: str | None = None


class SerialStream(StreamSpec):
    """A stream of a serial device.

    Its place: see Place; in NMEA `sentence` ("MWV", or "WIMWV" for that talker alone) and the field's number, or the
    `transducer` of an XDR sentence. when: all must hold, else the message says nothing of this stream. valid: must
    hold, else the value is BAD (the sensor's own fault flag). missing_values: what the device sends instead of a value.
    """

    field: str | int | None = None
    at: int | None = Field(None, ge=0)
    format: NumberFormat | None = None
    byte_order: ByteOrder | None = None
    bit: int | None = Field(None, ge=0, le=63)
    sentence: str | None = Field(None, pattern=r"^[A-Z0-9]{3,5}$")
    transducer: Transducer | None = None
    when: tuple[Condition, ...] = ()
    valid: Condition | None = None
    missing_values: tuple[str | int | float, ...] = ()

    @model_validator(mode="after")
    def _bit_fits(self) -> "SerialStream":
        if self.bit is not None and self.bit >= 8 * number(self.format or "u8", "big").size:
            raise ValueError(f"bit: {self.format or 'u8'} has no bit {self.bit}")
        return self


def check_text(stream: SerialStream, form: RegexLines | CsvLines | NmeaLines) -> None:
    """Raises ValueError when a stream's place cannot be in such a line."""
    places = [stream.field, *(condition.field for condition in _conditions(stream))]
    if stream.at is not None or any(condition.at is not None for condition in _conditions(stream)):
        raise ValueError(f"stream {stream.name}: 'at' belongs to binary frames; give 'field'")
    if isinstance(form, NmeaLines):
        if stream.sentence is None:
            raise ValueError(f"stream {stream.name}: missing 'sentence', for example MWV")
        if (stream.field is None) == (stream.transducer is None):
            raise ValueError(f"stream {stream.name}: expected either 'field' or 'transducer'")
        if any(isinstance(place, str) for place in places):
            raise ValueError(f"stream {stream.name}: the fields of a sentence are numbered from 1; found a name")
        return
    if stream.sentence is not None or stream.transducer is not None:
        raise ValueError(f"stream {stream.name}: 'sentence' and 'transducer' belong to text of kind nmea")
    names = form.names()
    for place in [stream.field, *(condition.field for condition in _conditions(stream))]:
        if place is None:
            raise ValueError(f"stream {stream.name}: missing 'field'")
        if place not in names:
            known = ", ".join(sorted(name for name in names if isinstance(name, str))) or f"1 to {len(names)}"
            raise ValueError(f"stream {stream.name}: no field {place!r} in a line; it has: {known}")


def check_binary(stream: SerialStream, form: BinaryFormat) -> None:
    """Raises ValueError when a stream's place cannot be in such a frame."""
    if stream.field is not None or stream.sentence is not None or stream.transducer is not None:
        raise ValueError(f"stream {stream.name}: 'field', 'sentence' and 'transducer' belong to text; give 'at'")
    if stream.at is None or stream.format is None:
        raise ValueError(f"stream {stream.name}: missing 'at' or 'format'")
    if stream.type is Kind.TEXT:
        raise ValueError(f"stream {stream.name}: a binary field is a number; its type cannot be text")
    if stream.format in {"f32", "f64"} and (stream.type is not Kind.FLOAT or stream.bit is not None):
        raise ValueError(f"stream {stream.name}: {stream.format} needs type float, and has no bits")
    if any(isinstance(value, str) for value in stream.missing_values):
        raise ValueError(f"stream {stream.name}: missing_values of a binary field are numbers")
    longest = form.length if isinstance(form.length, int) else form.max_frame_bytes
    ends = [stream.at + number(stream.format, "big").size]
    for condition in _conditions(stream):
        if condition.at is None or not isinstance(condition.equals, int):
            raise ValueError(f"stream {stream.name}: a condition on a frame has 'at' and equals a whole number")
        ends.append(condition.at + number(condition.format, "big").size)
    if max(ends) > longest:
        raise ValueError(f"stream {stream.name}: ends at byte {max(ends)}, but a frame has at most {longest}")


def text_sampler(stream: SerialStream, form: RegexLines | CsvLines | NmeaLines) -> TextSampler:
    """How to take `stream` out of a line's fields."""
    missing = _missing(stream)
    comma = form.decimal_comma

    def sample(fields: Fields) -> Sample | None:
        if not _speaks_of(stream, fields):
            return None
        if stream.transducer is not None:
            found = transducer_value(fields, stream.transducer.type, stream.transducer.id)
            if found is None:
                return None
            text, unit = found
            if stream.transducer.unit not in {None, unit}:
                return 0, _UNDECODABLE
        else:
            place = fields.get(_field(stream))
            if place is None:
                return None
            text = place
        value = None if missing(text) else convert(text, stream.type, decimal_comma=comma)
        if value is None:
            return 0, _UNDECODABLE
        flagged = stream.valid is not None and fields.get(_field(stream.valid)) != str(stream.valid.equals)
        return value, _FLAGGED if flagged else GOOD

    return sample


def binary_sampler(stream: SerialStream, form: BinaryFormat) -> BinarySampler:
    """How to take `stream` out of a frame."""
    place = Place(at=stream.at, format=stream.format or "u8", byte_order=stream.byte_order, bit=stream.bit)
    read = _reader(place, form)
    when = [(_reader(condition, form), condition.equals) for condition in stream.when]
    valid = (_reader(stream.valid, form), stream.valid.equals) if stream.valid else None
    missing = set(stream.missing_values)

    def sample(frame: bytes) -> Sample | None:
        raw = read(frame)
        if raw is None or any(holds(frame) != equals for holds, equals in when):
            return None
        if raw in missing or (stream.type is Kind.INT and not -_INT64 <= raw < _INT64):
            return 0, _UNDECODABLE
        value: Value = float(raw) if stream.type is Kind.FLOAT else int(raw)
        if stream.type is Kind.BOOL:
            value = bool(raw)
        flagged = valid is not None and valid[0](frame) != valid[1]
        return value, _FLAGGED if flagged else GOOD

    return sample


def convert(text: str, kind: Kind, *, decimal_comma: bool = False) -> Value | None:
    """`text` as a value of `kind`; None when it is none."""
    if kind is Kind.TEXT:
        return text
    if kind is Kind.BOOL:
        word = text.casefold()
        return True if word in _TRUE else False if word in _FALSE else None
    if decimal_comma:
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None
    if kind is Kind.FLOAT:
        return float(text)
    if text.lstrip("+-").isdecimal():
        whole = int(text)
    else:
        real = float(text)
        if not math.isfinite(real) or real != math.floor(real):
            return None
        whole = int(real)
    return whole if -_INT64 <= whole < _INT64 else None


def _speaks_of(stream: SerialStream, fields: Fields) -> bool:
    if stream.sentence is not None and not is_sentence(fields, stream.sentence):
        return False
    return all(fields.get(_field(condition)) == str(condition.equals) for condition in stream.when)


def _conditions(stream: SerialStream) -> tuple[Condition, ...]:
    return (*stream.when, stream.valid) if stream.valid else stream.when


def _field(place: SerialStream | Condition) -> str | int:
    return place.field if place.field is not None else ""


def _missing(stream: SerialStream) -> Callable[[str], bool]:
    words = {str(value) for value in stream.missing_values}
    numbers = {float(value) for value in stream.missing_values if not isinstance(value, str)}

    def missing(text: str) -> bool:
        return text in words or (bool(numbers) and convert(text, Kind.FLOAT) in numbers)

    return missing


def _reader(place: Place, form: BinaryFormat) -> Callable[[bytes], int | float | None]:
    reader = number(place.format, place.byte_order or form.byte_order)
    at, bit = place.at or 0, place.bit

    def read(frame: bytes) -> int | float | None:
        if at + reader.size > len(frame):
            return None
        raw: int | float = reader.unpack_from(frame, at)[0]
        return raw if bit is None else int(raw) >> bit & 1

    return read

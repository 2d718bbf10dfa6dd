"""Lines of text from a serial device: where one begins and ends, and its fields.

Three kinds of line: a regular expression with groups, separated columns, and NMEA 0183 sentences. A scanner takes
bytes as they come, cut anywhere, and gives the same messages however they are cut. Its memory is bounded by
`max_line_bytes`; a regular expression therefore never sees more than that (512 by default), which keeps a pattern
that backtracks badly from hanging the gateway on a long line of noise. It does not make a bad pattern good.

Every byte fed ends in a message, in an empty line, in `garbage_bytes`, or waits for its terminator.
"""

import codecs
import csv
import re
from collections.abc import Callable
from functools import reduce
from operator import xor
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator, model_validator

from drivers.base import Spec

# A message: its fields by name and by number from 1. NMEA has the address, "WIMWV", as number 0.
Fields = dict[str | int, str]
NMEA_ADDRESS = 0


def unescape(text: str) -> str:
    r"""`text` with \r, \n, \t, \\ and \xNN turned into the characters they stand for."""
    simple = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}

    def character(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] == "x" and len(code) == 3:
            return chr(int(code[1:], 16))
        if code not in simple:
            raise ValueError(f"an unknown escape {found[0]!r}; known are \\r \\n \\t \\\\ and \\xNN")
        return simple[code]

    return re.sub(r"\\(x[0-9a-fA-F]{2}|.|$)", character, text)


Escaped = Annotated[str, AfterValidator(unescape)]


class _Lines(Spec):
    """What all kinds of line have in common. `decimal_comma`: numbers are written 21,5."""

    terminator: Escaped = Field("\n", min_length=1, max_length=8)
    encoding: Literal["ascii", "utf-8", "latin-1", "gb18030"] = "ascii"
    max_line_bytes: int = Field(512, ge=8, le=4096)
    decimal_comma: bool = False


class RegexLines(_Lines):
    """Lines that a pattern matches as a whole; its groups are the fields, by name or number."""

    kind: Literal["regex"]
    pattern: str = Field(min_length=1, max_length=1000)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if groups == 0:
            raise ValueError("has no group: write (?P<temperature>...) around each value")
        return pattern

    def names(self) -> set[str | int]:
        """The fields a line of this kind has."""
        compiled = re.compile(self.pattern)
        return {*compiled.groupindex, *range(1, compiled.groups + 1)}


class CsvLines(_Lines):
    """Separated columns. A separator of one space stands for any run of spaces and tabs."""

    kind: Literal["csv"]
    separator: Escaped = Field(",", min_length=1, max_length=1)
    columns: tuple[str, ...] = Field(min_length=1, max_length=256)

    @model_validator(mode="after")
    def _fits(self) -> "CsvLines":
        if self.decimal_comma and self.separator == ",":
            raise ValueError("separator: a comma cannot separate columns when it is the decimal comma too")
        named = [column for column in self.columns if column not in {"", "-"}]
        if len(set(named)) != len(named):
            raise ValueError("columns: a name stands twice; write - for columns that no stream uses")
        return self

    def names(self) -> set[str | int]:
        """The fields a line of this kind has."""
        return {*self.columns, *range(1, len(self.columns) + 1)} - {"", "-"}


class NmeaLines(_Lines):
    """NMEA 0183 sentences. `checksum: optional` takes sentences without one; a wrong one is never taken."""

    kind: Literal["nmea"]
    checksum: Literal["required", "optional"] = "required"


TextFormat = Annotated[RegexLines | CsvLines | NmeaLines, Field(discriminator="kind")]


class TextMessage(NamedTuple):
    """A valid line's fields, and how many bytes of the data fed came after its end."""

    message: Fields
    after: int


class LineScanner:
    """Finds the valid lines in a stream of bytes. See the module for what it counts."""

    def __init__(self, form: RegexLines | CsvLines | NmeaLines) -> None:
        self.garbage_bytes = 0
        self.bad_checksums = 0
        self._terminator = form.terminator.encode(form.encoding)
        self._max_bytes = form.max_line_bytes
        self._nmea = isinstance(form, NmeaLines)
        self._parse = _parser(form)
        self._buffer = bytearray()
        self._cut = False

    @property
    def pending(self) -> int:
        """Bytes of a line whose end has not come."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[TextMessage]:
        """The lines that `data` completes."""
        self._buffer += data
        found: list[TextMessage] = []
        begin = 0
        while (end := self._buffer.find(self._terminator, begin)) >= 0:
            begin = self._drop_overlong(begin, end)
            fields = self._line(bytes(self._buffer[begin:end]), len(self._terminator))
            begin = end + len(self._terminator)
            if fields is not None:
                found.append(TextMessage(fields, len(self._buffer) - begin))
        # The last bytes may be the beginning of a terminator: they are not of the line yet.
        begin = self._drop_overlong(begin, len(self._buffer) - len(self._terminator) + 1)
        del self._buffer[:begin]
        return found

    def idle(self) -> list[TextMessage]:
        """What can be said now that the line is silent: nothing, a line ends with its terminator."""
        return []

    def begin_mid_line(self) -> None:
        """The bytes to come may start inside a line: the first one is whole only if its own format proves it."""
        self._cut = True

    def reset(self) -> None:
        """Forget the unfinished line."""
        self.garbage_bytes += len(self._buffer)
        self._buffer.clear()
        self._cut = False

    def _drop_overlong(self, begin: int, end: int) -> int:
        excess = end - begin - self._max_bytes
        if excess <= 0:
            return begin
        self.garbage_bytes += excess
        self._cut = True
        return begin + excess

    def _line(self, line: bytes, terminator_bytes: int) -> Fields | None:
        cut, self._cut = self._cut, False
        if not line.strip():
            return None  # an empty line is no message, and no garbage
        start = 0
        if self._nmea:
            # '$' begins a sentence and may not stand inside one, so the last one is the only one that can be whole.
            start = max(line.rfind(b"$"), 0)
        elif cut:
            self.garbage_bytes += len(line) + terminator_bytes
            return None
        try:
            fields = self._parse(line[start:])
        except _BadChecksum:
            self.bad_checksums += 1
            fields = None
        self.garbage_bytes += start if fields is not None else len(line) + terminator_bytes
        return fields


class _BadChecksum(ValueError):
    pass


def _parser(form: RegexLines | CsvLines | NmeaLines) -> Callable[[bytes], Fields | None]:
    if isinstance(form, NmeaLines):
        return lambda line: parse_nmea(line, checksum_required=form.checksum == "required")
    decode = codecs.getdecoder(form.encoding)
    split = _by_pattern(form) if isinstance(form, RegexLines) else _by_column(form)

    def parse(line: bytes) -> Fields | None:
        try:
            text, _ = decode(line)
        except UnicodeDecodeError:
            return None
        return split(text.strip("\r\n \t"))

    return parse


def _by_pattern(form: RegexLines) -> Callable[[str], Fields | None]:
    pattern = re.compile(form.pattern)

    def split(text: str) -> Fields | None:
        found = pattern.fullmatch(text)
        if found is None:
            return None
        fields: Fields = {number: value for number, value in enumerate(found.groups(), 1) if value is not None}
        fields.update({name: value for name, value in found.groupdict().items() if value is not None})
        return fields

    return split


def _by_column(form: CsvLines) -> Callable[[str], Fields | None]:
    def split(text: str) -> Fields | None:
        if form.separator == " ":
            cells = text.split()
        elif '"' not in text:
            cells = text.split(form.separator)
        else:
            try:
                cells = next(csv.reader([text], delimiter=form.separator, strict=True), [])
            except csv.Error:
                return None
        if len(cells) != len(form.columns):
            return None
        fields: Fields = {number: cell.strip() for number, cell in enumerate(cells, 1)}
        fields.update({name: cell.strip() for name, cell in zip(form.columns, cells, strict=True)})
        return fields

    return split


def parse_nmea(line: bytes, *, checksum_required: bool = True) -> Fields | None:
    """The fields of `$WIMWV,...*hh`, address as number 0; None when this is no sentence.

    The checksum is the XOR of everything between '$' and '*' (NMEA 0183). Raises ValueError when it is wrong.
    """
    sentence = line.strip()
    if not sentence.startswith(b"$") or not sentence.isascii():
        return None
    body, star, digits = sentence[1:].partition(b"*")
    if star:
        try:
            told = int(digits, 16) if len(digits) == 2 else -1
        except ValueError:
            told = -1
        if told != reduce(xor, body, 0):
            raise _BadChecksum
    elif checksum_required:
        return None
    cells = body.decode("ascii").split(",")
    return {number: cell.strip() for number, cell in enumerate(cells)} if cells[0] else None


def is_sentence(fields: Fields, sentence: str) -> bool:
    """Whether a message is `sentence`: "MWV" of any talker, or "WIMWV" of that one alone."""
    address = fields.get(NMEA_ADDRESS, "")
    return address == sentence or (len(sentence) == 3 and address[:1] != "P" and address[2:] == sentence)


def transducer_value(fields: Fields, kind: str, number: str) -> tuple[str, str] | None:
    """Value and unit of one transducer of an XDR sentence, whose fields are (type, value, unit, id) repeated."""
    for first in range(1, len(fields) - 3, 4):
        if fields[first] == kind and fields[first + 3] == number:
            return fields[first + 1], fields[first + 2]
    return None

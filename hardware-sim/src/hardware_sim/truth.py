"""The truth file: every value each device ever served, as it was on the wire. What judges loss and duplication.

Format, one line a response, UTF-8, fields separated by one tab:

    time_ns  device  key  data

time_ns  CLOCK_REALTIME in ns, when the last byte had been handed to the kernel.
device   its name in the scenario.
key      `input:ADDRESS`, `holding:ADDRESS`: data is the registers from ADDRESS on, four hex digits each.
         `coil:ADDRESS:COUNT`, `discrete:ADDRESS:COUNT`: data is the bits packed as Modbus does, in hex.
         `values`: data is a JSON object of named quantities, as rounded and written by the device (NaN is NaN).
         With ` late` behind it the response was complete and valid but held back by a fault, past any sane timeout.

Only complete, valid responses are listed, after their bytes were handed to the kernel; answers that a fault withheld,
broke or misaddressed are not. Lines are in the order of time. The file grows by whole lines; a killed
simulator may leave a torn last line, which the reader leaves out.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FLUSH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """One line of the file. `values` holds registers or bits from `address` on, or is empty beside `named`."""

    time_ns: int
    device: str
    table: str
    address: int
    values: tuple[int, ...]
    named: dict[str, float]
    late: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What a response will be in the file, once it has been delivered. `data` is hex or JSON, see the format."""

    device: str
    key: str
    data: str


class Log:
    """Writes the truth file, or, without a path, only counts.

    `add` is cheap: lines wait in memory (at most FLUSH_BYTES) until `flush`, which the simulator calls ten times a
    second. Raises OSError when the disk will not take them.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file = (
            None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        )
        self._lines: list[str] = []
        self._waiting_bytes = 0
        self.responses = 0

    @property
    def writes(self) -> bool:
        """Whether anybody will read what is added."""
        return self._file is not None

    def add(self, record: Record) -> None:
        """Put down a response whose bytes have just been handed to the kernel."""
        self.responses += 1
        if self._file is None:
            return
        line = f"{time.time_ns()}\t{record.device}\t{record.key}\t{record.data}\n"
        self._lines.append(line)
        self._waiting_bytes += len(line)
        if self._waiting_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand all lines to the kernel."""
        if self._file is None or not self._lines:
            return
        data = memoryview("".join(self._lines).encode())
        self._lines.clear()
        self._waiting_bytes = 0
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def responses(path: Path, *, late: bool = False) -> Iterator[Response]:
    """The responses of a truth file in order; those marked late only when asked for. Raises ValueError, OSError."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                response = _parse(line)
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}:{number}: not a truth line: {line!r}") from error
            if late or not response.late:
                yield response


def read(path: Path, *, late: bool = False) -> Iterator[tuple[int, str, str, float]]:
    """Every value of a truth file: (time_ns, device, key, value).

    key is `input:ADDRESS`, `holding:ADDRESS` (value: the register, 0..65535), `coil:ADDRESS`, `discrete:ADDRESS` (0 or
    1), or a quantity's name. Raises ValueError, OSError.
    """
    for response in responses(path, late=late):
        for offset, value in enumerate(response.values):
            yield response.time_ns, response.device, f"{response.table}:{response.address + offset}", value
        for name, number in response.named.items():
            yield response.time_ns, response.device, name, number


def _parse(line: str) -> Response:
    time_text, device, key, data = line.rstrip("\n").split("\t")
    key, _, mark = key.partition(" ")
    if mark not in {"", "late"}:
        raise ValueError(mark)
    time_ns, late = int(time_text), mark == "late"
    if key == "values":
        return Response(time_ns, device, key, 0, (), json.loads(data), late)
    table, address, *count = key.split(":")
    values: tuple[int, ...]
    if count:
        packed = int.from_bytes(bytes.fromhex(data), "little")
        values = tuple(packed >> bit & 1 for bit in range(int(count[0])))
    else:
        values = tuple(int(data[i : i + 4], 16) for i in range(0, len(data), 4))
    return Response(time_ns, device, table, int(address), values, {}, late)

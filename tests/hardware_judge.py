"""Judges a run against broken hardware: what was served, what was stored, and what the frames explain.

The truth is the simulator's file, the stored readings are the database file's own, the gaps are those of the frames on
the broker. Times are ns UTC.
"""

import json
import math
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import duckdb
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from contract.catalogue import decode_birth
from contract.errors import FrameError
from contract.frame import decode
from contract.readings import Reason
from hardware_sim import truth

SECOND = 1_000_000_000
# Between a device's answer and the time of its reading: half a poll, on a machine that has other things to do.
TOLERANCE_NS = round(0.75 * SECOND)


class Stored(NamedTuple):
    """One reading in the database; `value` is None where the database can hold none (NaN)."""

    stream: str
    time_ns: int
    value: float | None
    status: int


@dataclass(frozen=True)
class Explained:
    """A gap of one stream."""

    device: str
    stream: str
    first_ns: int
    last_ns: int
    count: int
    reason: Reason


@dataclass(frozen=True)
class Window:
    """One fault on one device, as long as it was on."""

    device: str
    kind: str
    begin_ns: int
    end_ns: int

    def covers(self, time_ns: int, *, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        """Whether that moment is in the window, widened."""
        return self.begin_ns - before_s * SECOND <= time_ns <= self.end_ns + after_s * SECOND


class Spoiler:
    """Injects faults over the simulator's control socket and remembers when."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._answers = self._socket.makefile("rb")
        self.windows: list[Window] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()

    def inject(self, device: str, kind: str, seconds: float, **more: float) -> None:
        """Begin a fault."""
        begin_ns = time.time_ns()
        request = {"fault": kind, "device": device, "seconds": seconds, **more}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(self._answers.readline())
        assert answer["ok"], (request, answer)
        name = f"{kind} {more['code']:g}" if "code" in more else kind
        self.windows.append(Window(device, name, begin_ns, round(time.time_ns() + seconds * SECOND)))


class Witness:
    """Hears every birth and frame on the broker."""

    def __init__(self, port: int) -> None:
        self._heard: list[tuple[str, bytes]] = []
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="witness")
        self._client.on_message = lambda _c, _u, message: self._heard.append((message.topic, bytes(message.payload)))
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.subscribe([("weinao/v1/birth/#", 1), ("weinao/v1/data/#", 1)])
        self._client.loop_start()
        assert self._ready.wait(10), "the broker does not answer"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def gaps(self) -> list[Explained]:
        """Every gap of every frame, once, by the stream's name."""
        names: dict[int, tuple[str, str]] = {}
        frames = {}
        for topic, payload in self._heard:
            try:
                if topic.startswith("weinao/v1/birth/"):
                    birth = decode_birth(payload)
                    names = {s.id: (device.name, s.name) for device in birth.devices for s in device.streams}
                else:
                    frame = decode(payload)
                    frames[frame.header.boot, frame.header.sequence] = frame
            except FrameError as error:
                raise AssertionError(f"{topic}: {error}") from None
        return [
            Explained(*names[stream], gap.first_ns, gap.last_ns, gap.count, gap.reason)
            for frame in frames.values()
            for gap in frame.gaps
            for stream in gap.streams
        ]


def stored_in(path: Path) -> dict[str, list[Stored]]:
    """Every reading in the embedded store's file by device, in order of time; nobody else may have it open."""
    with duckdb.connect(str(path), read_only=True) as database:
        rows = database.execute(
            "SELECT device, stream, time_ns, coalesce(value, CAST(count AS DOUBLE)), status FROM points "
            "JOIN series ON points.series = series.id ORDER BY time_ns"
        ).fetchall()
    found: dict[str, list[Stored]] = {}
    for device, stream, time_ns, value, status in rows:
        number = None if value is None or math.isnan(value) else float(value)
        found.setdefault(device, []).append(Stored(stream, time_ns, number, status))
    return found


Served = tuple[int, Mapping[str, float | None]]


def served_by(path: Path, device: str, places: Mapping[str, Any]) -> list[Served]:
    """What each whole response of a device said of these streams, in order; None for NaN.

    places: for each stream, how to read it of a truth.Response: a function that gives None when it is not in it.
    Responses that have none of the streams are left out, and so are those that a fault held back.
    """
    found: list[Served] = []
    for response in truth.responses(path):
        if response.device != device:
            continue
        values = {stream: read(response) for stream, read in places.items()}
        present = {stream: value for stream, value in values.items() if value is not None}
        if present:
            clean = {stream: None if math.isnan(value) else value for stream, value in present.items()}
            found.append((response.time_ns, clean))
    return found


def wrong_values(readings: Sequence[Stored], served: Sequence[Served]) -> list[Stored]:
    """The readings that no response within the tolerance says."""
    return [reading for reading in readings if not any(_says(one, reading) for one in _near(served, reading.time_ns))]


def lost_responses(readings: Sequence[Stored], served: Sequence[Served]) -> list[Served]:
    """The responses of which some value was not stored within the tolerance."""
    by_stream: dict[str, list[Stored]] = {}
    for reading in readings:
        by_stream.setdefault(reading.stream, []).append(reading)
    return [
        one
        for one in served
        if not all(
            any(_says(one, reading) for reading in by_stream.get(stream, ()) if _close(reading.time_ns, one[0]))
            for stream in one[1]
        )
    ]


def _says(one: Served, reading: Stored) -> bool:
    if reading.stream not in one[1]:
        return False
    said = one[1][reading.stream]
    if said is None or reading.value is None:
        return said is reading.value
    return math.isclose(said, reading.value, rel_tol=1e-9, abs_tol=1e-9)


def _near(served: Iterable[Served], time_ns: int) -> list[Served]:
    return [one for one in served if _close(one[0], time_ns)]


def _close(one_ns: int, other_ns: int) -> bool:
    return abs(one_ns - other_ns) <= TOLERANCE_NS

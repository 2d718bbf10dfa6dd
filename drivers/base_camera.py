"""What a camera driver and the vision of the gateway agree on: the scene, a look, and who takes looks.

A camera driver turns a source into `Look`s: small pictures, masked, in the size that the model wants. Everything
that counts lives in edge/vision. A look never leaves the processes that look; what leaves is numbers.

Points are fractions of the picture: (0, 0) is its top left corner, (1, 1) its bottom right one.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field, field_validator, model_validator

from contract.names import NAME_MAX_CHARS, Name
from contract.readings import Kind
from drivers.base import BusSpec, DeviceSpec, Spec, StreamSpec
from drivers.base_camera_shapes import ground_problem, line_problem, polygon_problem
from drivers.base_camera_source import Source, parse_source

Picture = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]  # height x width x 3, BGR
Grey = np.ndarray[tuple[int, int], np.dtype[np.uint8]]  # height x width

Fraction = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Fraction, Fraction]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=32)]

THUMBNAIL = (320, 180)
"""Width and height of the grey thumbnail on which motion and the camera's health are judged."""


class Line(Spec):
    """A counting line from `a` to `b`. Its first direction crosses it from the left hand to the right hand of one who
    stands at `a` and looks at `b` in the picture; its second direction is the other way."""

    name: Name
    a: Point
    b: Point
    directions: tuple[Name, Name] = ("forward", "backward")

    @model_validator(mode="after")
    def _can_count(self) -> "Line":
        if problem := line_problem(self.a, self.b):
            raise ValueError(problem)
        if self.directions[0] == self.directions[1]:
            raise ValueError(f"directions: both are called {self.directions[0]!r}")
        return self


class Zone(Spec):
    """A part of the picture in which objects are counted while they are there."""

    name: Name
    polygon: Polygon

    @field_validator("polygon")
    @classmethod
    def _simple(cls, polygon: Polygon) -> Polygon:
        return _check_polygon(polygon)


class Ground(Spec):
    """Four points of the picture and where they are on the street, in metres: what speed needs."""

    picture: tuple[Point, Point, Point, Point]
    metres: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]

    @model_validator(mode="after")
    def _spans_a_plane(self) -> "Ground":
        if problem := ground_problem(self.picture, self.metres):
            raise ValueError(problem)
        return self


class Measure(StrEnum):
    """What a stream of a camera says about each interval."""

    CROSSINGS = "crossings"  # objects that crossed a line in one direction
    FLOW = "flow"  # the same as objects an hour, over the time that was seen
    OCCUPANCY = "occupancy"  # mean number of objects in a zone
    OCCUPANCY_MAX = "occupancy_max"
    QUEUE = "queue"  # mean number of standing objects in a zone
    QUEUE_MAX = "queue_max"
    DWELL = "dwell"  # mean seconds in a zone, of those that left it
    SPEED = "speed"  # mean km/h of those that crossed a line in one direction
    COVERAGE = "coverage"  # share of the interval that was seen
    FRAMES_USED = "frames_used"
    FRAMES_DROPPED = "frames_dropped"
    CAMERA_STATE = "camera_state"  # a word: ok, stalled, frozen, black, overexposed, ...
    MODEL = "model"  # first 12 hex digits of the model's SHA-256
    CALIBRATION = "calibration"  # first 12 hex digits of the hash of lines, zones, masks and ground


class Where(StrEnum):
    """What a measure looks at."""

    LINE = "line"
    ZONE = "zone"
    CAMERA = "camera"


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What follows from a stream's measure."""

    where: Where
    quantity: str
    unit: str
    type: Kind
    resolution: float | None = None
    valid_range: tuple[float, float] | None = None


_LINE, _ZONE, _CAMERA = Where.LINE, Where.ZONE, Where.CAMERA
MEANINGS: Mapping[Measure, _Meaning] = {
    Measure.CROSSINGS: _Meaning(_LINE, "crossings", "{count}", Kind.INT),
    Measure.FLOW: _Meaning(_LINE, "traffic_flow", "{count}/h", Kind.FLOAT, 0.1),
    Measure.SPEED: _Meaning(_LINE, "traffic_speed", "km/h", Kind.FLOAT, 0.1, (0, 250)),
    Measure.OCCUPANCY: _Meaning(_ZONE, "occupancy", "{count}", Kind.FLOAT, 0.01),
    Measure.OCCUPANCY_MAX: _Meaning(_ZONE, "occupancy_max", "{count}", Kind.INT),
    Measure.QUEUE: _Meaning(_ZONE, "queue_length", "{count}", Kind.FLOAT, 0.01),
    Measure.QUEUE_MAX: _Meaning(_ZONE, "queue_length_max", "{count}", Kind.INT),
    Measure.DWELL: _Meaning(_ZONE, "dwell_time", "s", Kind.FLOAT, 0.1),
    Measure.COVERAGE: _Meaning(_CAMERA, "camera_coverage", "1", Kind.FLOAT, 0.001, (0, 1)),
    Measure.FRAMES_USED: _Meaning(_CAMERA, "frames_used", "{count}", Kind.INT),
    Measure.FRAMES_DROPPED: _Meaning(_CAMERA, "frames_dropped", "{count}", Kind.INT),
    Measure.CAMERA_STATE: _Meaning(_CAMERA, "camera_state", "1", Kind.TEXT),
    Measure.MODEL: _Meaning(_CAMERA, "vision_model", "1", Kind.TEXT),
    Measure.CALIBRATION: _Meaning(_CAMERA, "camera_calibration", "1", Kind.TEXT),
}
"""Each measure's place, quantity, unit (UCUM), type, resolution and range. Quantities are what databases group by, so
they say more than the measure: a river has a flow too."""


class CameraStreamSpec(StreamSpec):
    """A stream of a camera: what it measures, where, and of which class (None: of all).

    Name, quantity, unit, type, resolution and range follow from the measure where they are not given.
    """

    measure: Measure
    line: Name | None = None
    direction: Name | None = None
    zone: Name | None = None
    object_class: str | None = None
    hide_below: int | None = Field(None, ge=2)  # a count from 1 to hide_below - 1 is not published (k-anonymity)

    @model_validator(mode="before")
    @classmethod
    def _from_measure(cls, data: Any) -> Any:
        return _fill(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _consistent(self) -> "CameraStreamSpec":
        meaning = MEANINGS[self.measure]
        wanted = {Where.LINE: {"line", "direction"}, Where.ZONE: {"zone"}, Where.CAMERA: set[str]()}[meaning.where]
        for key in ("line", "direction", "zone"):
            if key in wanted and getattr(self, key) is None:
                raise ValueError(f"{key}: missing; measure {self.measure.value!r} needs it")
            if key not in wanted and getattr(self, key) is not None:
                raise ValueError(f"{key}: measure {self.measure.value!r} has none")
        if meaning.where is Where.CAMERA:
            for key in ("object_class", "hide_below"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: measure {self.measure.value!r} counts no objects")
        if self.type is not meaning.type:
            raise ValueError(
                f"type: expected {meaning.type.value} for measure {self.measure.value!r}, found {self.type.value}"
            )
        return self


class CameraDeviceSpec(DeviceSpec):
    """A camera: what it looks at. `interval_s` is that of its readings."""

    interval_s: float = Field(60.0, ge=1, le=3600)
    detector: Name  # of the gateway's models, by the name of its card
    fps: float = Field(5.0, gt=0, le=30)
    classes: tuple[str, ...] = ()  # of the model; empty: all
    confidence: float | None = Field(None, gt=0, lt=1)  # None: the card's
    masks: tuple[Polygon, ...] = Field((), max_length=32)
    lines: tuple[Line, ...] = Field((), max_length=32)
    zones: tuple[Zone, ...] = Field((), max_length=32)
    ground: Ground | None = None
    hide_below: int | None = Field(None, ge=2)
    streams: Sequence[CameraStreamSpec] = ()  # empty: those that follow from lines and zones

    @field_validator("masks")
    @classmethod
    def _masks_are_simple(cls, masks: tuple[Polygon, ...]) -> tuple[Polygon, ...]:
        return tuple(_check_polygon(mask, f"mask {number + 1}: ") for number, mask in enumerate(masks))

    @model_validator(mode="after")
    def _scene_fits(self) -> "CameraDeviceSpec":
        for what, names in (
            ("lines", [line.name for line in self.lines]),
            ("zones", [zone.name for zone in self.zones]),
            ("classes", list(self.classes)),
        ):
            if twice := _twice(names):
                raise ValueError(f"{what}: two are called {twice!r}")
        streams = tuple(self.streams) or tuple(_default_streams(self))
        if twice := _twice([stream.name for stream in streams]):
            raise ValueError(f"streams: two are called {twice!r}; expected names unique in a camera")
        for stream in streams:
            for problem in self._problems(stream):
                raise ValueError(f"stream {stream.name!r}: {problem}")
        # Resolved here, so that whoever counts looks at one place.
        hidden = tuple(
            stream.model_copy(update={"hide_below": self.hide_below})
            if stream.hide_below is None and MEANINGS[stream.measure].where is not Where.CAMERA
            else stream
            for stream in streams
        )
        object.__setattr__(self, "streams", hidden)  # the model is frozen for everybody else
        return self

    def _problems(self, stream: CameraStreamSpec) -> Iterator[str]:
        lines = {line.name: line for line in self.lines}
        zones = {zone.name for zone in self.zones}
        if stream.line is not None and stream.line not in lines:
            yield f"there is no line {stream.line!r}; {_known(lines, 'lines')}"
        elif stream.line is not None and stream.direction not in lines[stream.line].directions:
            known = " and ".join(map(repr, lines[stream.line].directions))
            yield f"line {stream.line!r} has no direction {stream.direction!r}; its directions are {known}"
        if stream.zone is not None and stream.zone not in zones:
            yield f"there is no zone {stream.zone!r}; {_known(sorted(zones), 'zones')}"
        if stream.measure is Measure.SPEED and self.ground is None:
            yield "speed needs 'ground': four points of the picture and where they are on the street"
        if stream.object_class is not None and self.classes and stream.object_class not in self.classes:
            yield f"{stream.object_class!r} is not among the camera's classes; {_known(self.classes, 'classes')}"
        if stream.interval_s not in {None, self.interval_s}:
            yield "interval_s: all streams of a camera share the camera's interval"

    @property
    def calibration(self) -> str:
        """First 12 hex digits of the hash of lines, zones, masks and ground: changes when one of them does."""
        scene = self.model_dump(mode="json", include={"lines", "zones", "masks", "ground"})
        return hashlib.sha256(json.dumps(scene, sort_keys=True).encode()).hexdigest()[:12]


class CameraBusSpec(BusSpec):
    """The connection to one camera."""

    driver: Literal["camera"]
    source: str  # rtsp://, http://, /dev/video0 or a file; without user name and password
    username: str | None = Field(None, min_length=1, max_length=256)
    password_file: Path | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = Field(5.0, gt=0, le=60)
    read_timeout_s: float = Field(3.0, gt=0, le=60)
    devices: Sequence[CameraDeviceSpec] = Field(min_length=1)

    @field_validator("devices")
    @classmethod
    def _one_camera(cls, devices: Sequence[CameraDeviceSpec]) -> Sequence[CameraDeviceSpec]:
        if len(devices) > 1:
            raise ValueError(
                f"found {len(devices)} cameras; expected one, for each is a connection: give it its own bus"
            )
        return devices

    @field_validator("source")
    @classmethod
    def _no_secret_in_it(cls, source: str) -> str:
        parse_source(source)
        return source

    @model_validator(mode="after")
    def _credentials_fit(self) -> "CameraBusSpec":
        if (self.username is None) != (self.password_file is None):
            raise ValueError("password_file: expected both 'username' and 'password_file', or neither")
        if self.username is not None and not self.parsed_source.host:
            raise ValueError("username: only cameras on the network ask for one")
        if self.username is not None and ":" in self.username:
            raise ValueError("username: no camera can be told a name with ':' in it")
        if self.username is None and self.parsed_source.takes_placeholders:
            raise ValueError("source: names {password}, but 'username' and 'password_file' are missing")
        return self

    @property
    def parsed_source(self) -> Source:
        """The source taken apart; its `shown` is what people may see."""
        return parse_source(self.source)


def _check_polygon(polygon: Polygon, what: str = "") -> Polygon:
    if problem := polygon_problem(polygon):
        raise ValueError(what + problem)
    return polygon


def _twice(names: Sequence[str]) -> str:
    return next((name for position, name in enumerate(names) if name in names[:position]), "")


def _known(names: Iterable[str], what: str) -> str:
    return f"known: {', '.join(names)}" if names else f"this camera has no {what}"


def _fill(data: Mapping[str, Any]) -> dict[str, Any]:
    """A stream's raw configuration with what follows from its measure."""
    filled = dict(data)
    try:
        measure = Measure(filled.get("measure", ""))
    except ValueError:
        # The measure's own error is enough: these keep others away.
        return {"name": "stream", "quantity": "stream", "unit": "1", **filled}
    meaning = MEANINGS[measure]
    filled.setdefault("name", stream_name(measure, *(filled.get(key) for key in _NAMED_BY)))
    for key in ("quantity", "unit", "type"):
        filled.setdefault(key, getattr(meaning, key))
    if filled["type"] != Kind.TEXT:
        for key in ("resolution", "valid_range"):
            filled.setdefault(key, getattr(meaning, key))
    return filled


_NAMED_BY = ("line", "direction", "zone", "object_class")


def stream_name(measure: Measure, *parts: object) -> str:
    """What a stream is called unless the config names it: crossings.stop-line.forward.car, occupancy.crossing."""
    return ".".join([measure.value, *(str(part) for part in parts if part is not None)])


def _default_streams(device: CameraDeviceSpec) -> Iterator[CameraStreamSpec]:
    """What a camera measures when its config names no stream.

    Where small counts are hidden and classes are told apart, there are no totals over them: a total minus the classes
    that are published would show the one that is hidden.
    """
    totals = device.hide_below is None or not device.classes
    for line in device.lines:
        for direction in line.directions:
            place = {"line": line.name, "direction": direction}
            for name in device.classes:
                yield _stream(Measure.CROSSINGS, place | {"object_class": name})
            if totals:
                yield _stream(Measure.CROSSINGS, place)
                yield _stream(Measure.FLOW, place)
            if device.ground is not None:
                yield _stream(Measure.SPEED, place)
    for zone in device.zones:
        for measure, meaning in MEANINGS.items():
            if meaning.where is Where.ZONE:
                yield _stream(measure, {"zone": zone.name})
    for measure, meaning in MEANINGS.items():
        if meaning.where is Where.CAMERA:
            yield _stream(measure, {})


def _stream(measure: Measure, place: dict[str, str]) -> CameraStreamSpec:
    name = stream_name(measure, *(place.get(key) for key in _NAMED_BY))
    if len(name) > NAME_MAX_CHARS:
        raise ValueError(
            f"its stream would be called {name!r}, {len(name)} characters of {NAME_MAX_CHARS}: "
            "shorten the names of lines, directions or zones, or name the streams yourself"
        )
    return CameraStreamSpec.model_validate({"measure": measure, **place})


class CaptureState(StrEnum):
    """What a capture is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"  # connected, and no frame for longer than the read timeout
    AWAY = "away"  # refused, unreachable, wrong password: waits before it tries again


class StreamClock(StrEnum):
    """What is to be thought of a stream's own clock, compared with ours."""

    NONE = "none"  # it has none, or has not been watched for long enough
    GOOD = "good"
    WRONG = "wrong"  # runs at another speed, or jumped within the last minute


@dataclass(slots=True, eq=False)
class Look:
    """One frame, as small as it may be.

    canvas: the frame scaled by `scale` into the model's input, the rest grey 114; masks are black in it.
    thumbnail: THUMBNAIL in grey, masked alike. time_ns: when it was captured, CLOCK_BOOTTIME; where the stream has a
    good clock, that clock laid on ours, so that what the network held up is not dated late. Rises from look to look.
    stream_ns: the stream's own clock, 0 when it has none. number: frames captured so far, this one included.
    skipped: frames since the last look that were captured and not taken, most of them beyond the fps asked for.
    """

    canvas: Picture
    thumbnail: Grey
    time_ns: int
    stream_ns: int
    number: int
    skipped: int
    scale: float
    pad: tuple[int, int]  # x, y of the frame's top left corner in the canvas, pixels
    size: tuple[int, int]  # width, height of the frame


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """What a capture did so far. `error`: one sentence for the technician, without a secret; empty when it is live."""

    state: CaptureState
    error: str
    captured: int
    skipped: int
    connections: int
    restarts: int
    last_frame_ns: int  # CLOCK_BOOTTIME, 0 before the first
    dropped: int = 0  # of the skipped: kept for the model and then replaced by a newer one before anybody took it
    clock: StreamClock = StreamClock.NONE
    clock_rate: float = 1.0  # seconds of the stream's clock in a second of ours, over the last ten
    clock_jumps: int = 0  # of the stream's clock, within a connection


class Capture(Protocol):
    """Takes looks from one camera in a process of its own. None of its methods blocks for longer than 50 ms."""

    def fileno(self) -> int:
        """Readable while there is a look that was not taken."""

    def look(self) -> Look | None:
        """The newest look, once; its arrays are valid until the next call."""

    def status(self) -> CaptureStatus:
        """What it is doing."""

    def close(self) -> None:
        """End it and free everything. Never raises."""


OpenCapture = Callable[[CameraBusSpec, tuple[int, int]], Capture]
"""Starts a capture for canvases of (width, height)."""

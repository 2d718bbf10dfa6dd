"""What a camera driver and the vision of the gateway agree on: the scene, a look, and who takes looks.

A camera driver turns a source into `Look`s: small pictures, masked, in the size that the model wants. Everything
that counts lives in edge/vision. A look never leaves the processes that look; what leaves is numbers.

Points are fractions of the picture: (0, 0) is its top left corner, (1, 1) its bottom right one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from contract.names import Name
from drivers.base import BusSpec, DeviceSpec, Spec, StreamSpec

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


class Zone(Spec):
    """A part of the picture in which objects are counted while they are there."""

    name: Name
    polygon: Polygon


class Ground(Spec):
    """Four points of the picture and where they are on the street, in metres: what speed needs."""

    picture: tuple[Point, Point, Point, Point]
    metres: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]


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


class CameraStreamSpec(StreamSpec):
    """A stream of a camera: what it measures, where, and of which class (None: of all)."""

    measure: Measure
    line: Name | None = None
    direction: Name | None = None
    zone: Name | None = None
    object_class: str | None = None
    hide_below: int | None = Field(None, ge=2)  # a count from 1 to hide_below - 1 is not published (k-anonymity)


class CameraDeviceSpec(DeviceSpec):
    """A camera: what it looks at. `interval_s` is that of its readings."""

    interval_s: float = Field(60.0, ge=1, le=3600)
    model: Name
    fps: float = Field(5.0, gt=0, le=30)
    classes: tuple[str, ...] = ()  # of the model; empty: all
    confidence: float | None = Field(None, gt=0, lt=1)  # None: the card's
    masks: tuple[Polygon, ...] = ()
    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    ground: Ground | None = None
    hide_below: int | None = Field(None, ge=2)
    streams: Sequence[CameraStreamSpec] = ()  # empty: those that follow from lines and zones


class CameraBusSpec(BusSpec):
    """The connection to one camera."""

    driver: Literal["camera"]
    source: str  # rtsp://, http://, /dev/video0 or a file; without user name and password
    username: str | None = None
    password_file: Path | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = Field(5.0, gt=0, le=60)
    read_timeout_s: float = Field(3.0, gt=0, le=60)
    devices: Sequence[CameraDeviceSpec] = Field(min_length=1, max_length=1)


class CaptureState(StrEnum):
    """What a capture is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"  # connected, and no frame for longer than the read timeout
    AWAY = "away"  # refused, unreachable, wrong password: waits before it tries again


@dataclass(slots=True, eq=False)
class Look:
    """One frame, as small as it may be.

    canvas: the frame scaled by `scale` into the model's input, the rest grey 114; masks are black in it.
    thumbnail: THUMBNAIL in grey, masked alike. time_ns: when it was captured, CLOCK_BOOTTIME.
    stream_ns: the stream's own clock, 0 when it has none. number: frames captured so far, this one included.
    skipped: frames since the last look that were captured and not kept.
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

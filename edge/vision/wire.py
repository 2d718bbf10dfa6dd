"""Why: pixels live in the vision worker and its captures; this is everything that may leave them for the gateway.

The worker is a process of its own. The gateway gives it one order at the start, and now and then says that a person has
confirmed a view; what comes back are lines of JSON of the types below: numbers, and words of bounded length. There is
no field that could hold a picture, and the gateway reads no line longer than `LINE_BYTES`.
tests/unit/edge/vision/test_wire.py walks the types and proves it.
"""

from typing import Annotated, Any

import msgspec

LINE_BYTES = 64 * 1024
WORD_CHARS = 64
SENTENCE_CHARS = 300
MAX_STREAMS = 1024
VIEW_NUMBERS = 4096

Word = Annotated[str, msgspec.Meta(max_length=WORD_CHARS)]
Sentence = Annotated[str, msgspec.Meta(max_length=SENTENCE_CHARS)]
Code = Annotated[int, msgspec.Meta(ge=0, le=255)]


class CameraOrder(msgspec.Struct, frozen=True):
    """One camera to watch. bus: its CameraBusSpec as JSON. phase_ns: where its intervals begin, CLOCK_BOOTTIME modulo
    the interval. view: what was learned of its view before, or None."""

    bus: dict[str, Any]
    phase_ns: int
    view: dict[str, Any] | None


class Order(msgspec.Struct, frozen=True):
    """What the worker is to do. models: the folder of models. provider: of onnxruntime."""

    cameras: list[CameraOrder]
    models: str
    provider: str


class Confirm(msgspec.Struct, frozen=True):
    """A person has looked at what a camera shows: lines, zones and ground lie where they belong. turn: comes back with
    the answer. anyway: also when the view seems covered, which only a person can tell from another view."""

    camera: int
    turn: int
    anyway: bool = False


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """An interval of a camera ended at `time_ns`, CLOCK_BOOTTIME. values, status: one a stream, in the spec's order."""

    camera: int
    time_ns: int
    values: Annotated[list[int | float | Word | None], msgspec.Meta(max_length=MAX_STREAMS)]
    status: Annotated[list[Code], msgspec.Meta(max_length=MAX_STREAMS)]


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """How a camera is. state: a word. error: one sentence, empty when all is well. fps: looks a second, lately."""

    camera: int
    state: Word
    error: Sentence
    fps: float
    inference_ms: float
    captured: int
    skipped: int
    dropped: int
    connections: int
    restarts: int
    last_frame_ns: int


class Learned(msgspec.Struct, frozen=True, tag="learned"):
    """What a camera's view was learned to be: numbers that are no picture (edge.vision.scene). calibration: of the
    lines and zones that are drawn in it."""

    camera: int
    calibration: Word
    anchor: Annotated[list[Code], msgspec.Meta(max_length=VIEW_NUMBERS)]
    slow: Annotated[list[Code], msgspec.Meta(max_length=VIEW_NUMBERS)]
    sharpness: float
    burnt: float
    still_s: float


class Confirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """The answer to Confirm. problem: why the view was not taken, empty when it was; it is then learned anew for
    `learn_s`, and every `Learned` after this line is of the new view."""

    camera: int
    turn: int
    problem: Sentence
    learn_s: float


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The worker cannot begin: one sentence a problem."""

    problems: Annotated[list[Sentence], msgspec.Meta(max_length=16)]


Said = Closed | Seen | Learned | Confirmed | Refused

encode_order = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(Order).decode
decode_confirm = msgspec.json.Decoder(Confirm).decode
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Said)


def encode(said: Said) -> bytes:
    """One line. Raises ValueError when it is longer than the gateway reads."""
    line = _encoder.encode(said) + b"\n"
    if len(line) > LINE_BYTES:
        raise ValueError(f"a line of {len(line)} bytes; {LINE_BYTES} is the most")
    return line


def decode(line: bytes) -> Said:
    """What a line says; raises ValueError for anything else."""
    try:
        said: Said = _decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a line of the vision worker: {error}") from None
    return said

"""What a capture process is told: one line of JSON on its stdin, credentials included, so that no list of processes,
environment or file shows them.
"""

import json
from dataclasses import asdict, dataclass, field

from drivers.base_camera_source import Source, SourceKind, parse_source

Polygons = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What to capture. Sizes are (width, height); masks are in fractions of the picture.

    memory, bell: file descriptors of the ring and its eventfd. first_wait_s, most_wait_s: between two attempts.
    parent: the process whose end is ours.
    """

    source: str
    username: str
    password: str = field(repr=False)
    udp: bool
    open_timeout_s: float
    read_timeout_s: float
    fps: float
    canvas: tuple[int, int]
    thumbnail: tuple[int, int]
    masks: Polygons
    memory: int
    bell: int
    first_wait_s: float
    most_wait_s: float
    parent: int

    def as_json(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Order":
        """Reads what `as_json` wrote."""
        data = json.loads(line)
        for key in ("canvas", "thumbnail"):
            data[key] = tuple(data[key])
        data["masks"] = tuple(tuple(tuple(point) for point in mask) for mask in data["masks"])
        return cls(**data)

    @property
    def parsed_source(self) -> Source:
        """The source taken apart."""
        return parse_source(self.source)


def environment(order: Order, root: str) -> dict[str, str]:
    """All that a capture process finds in its environment; nothing of ours is inherited. root: where `drivers` is."""
    return {
        "PYTHONPATH": root,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # nothing here multiplies matrices, and each thread takes memory
        "OPENCV_LOG_LEVEL": "OFF",
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": _ffmpeg_options(order),
        "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": str(max(1, round(order.read_timeout_s))),
    }


def _ffmpeg_options(order: Order) -> str:
    """FFmpeg's options, which OpenCV takes from the environment.

    Half a second to open instead of two, with almost no backlog. The white list keeps what a camera sends from making
    FFmpeg open files or other addresses (a playlist may ask for that).
    """
    match order.parsed_source.kind:
        case SourceKind.RTSP:
            transport = "udp" if order.udp else "tcp"
            return f"rtsp_transport;{transport}|analyzeduration;200000|protocol_whitelist;rtsp,rtp,udp,tcp"
        case SourceKind.HTTP:
            return "analyzeduration;200000|protocol_whitelist;http,tcp"
        case _:
            return "protocol_whitelist;file"

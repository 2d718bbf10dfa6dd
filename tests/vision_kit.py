"""What tests of the gateway's eyes share: a model that finds colours, configurations of cameras, looks at processes."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import model_kit
import numpy as np
import onnx_make
import yaml
from cameras import MjpegServer, card, children_of

from models import seal

Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

CANVAS = (320, 192)


def colour_model(folder: Path, name: str = "colours") -> Path:
    """A sealed detector of bright cells, 320x192, in a folder of its own; the folder."""
    folder.mkdir(exist_ok=True)
    _write(folder, name, onnx_make.colour_finder(*CANVAS, "NHWC", "uint8"))
    return folder


def _write(folder: Path, name: str, content: bytes) -> None:
    width, height = CANVAS
    seen = {"name": "images", "width": width, "height": height, "layout": "NHWC", "dtype": "uint8", "colour": "BGR"}
    model_kit.write(
        folder,
        name,
        content,
        input={**seen, "normalise": "in graph"},
        classes=["blue", "green", "red"],
        thresholds={"confidence": 0.7, "iou": 0.5, "max_detections": 100},
    )
    seal.seal(folder, name)


def slow_model(folder: Path, name: str = "colours") -> Path:
    """A model that finds nothing, and takes a core a quarter of a second or more to find out."""
    folder.mkdir(exist_ok=True)
    width, height, planes, layers = *CANVAS, 64, 8
    nodes = [
        onnx_make.node("Cast", "images", "real", to=onnx_make.TYPES["float32"]),
        onnx_make.node("Transpose", "real", "planes", perm=(0, 3, 1, 2)),
        onnx_make.node("Conv", "planes first", "at0", pads=(1, 1, 1, 1)),
    ]
    weights = np.random.default_rng(1).normal(0, 0.01, (planes, planes, 3, 3)).astype(np.float32)
    tensors = [
        onnx_make.tensor("first", weights[:, :3]),
        onnx_make.tensor("weights", weights),
        onnx_make.tensor("nothing", np.array(0, np.float32)),
        onnx_make.tensor("boxes", np.tile(np.array([[[8], [8], [8], [8], [0], [0], [0]]], np.float32), (1, 1, 4))),
    ]
    nodes += [
        onnx_make.node("Conv", f"at{layer} weights", f"at{layer + 1}", pads=(1, 1, 1, 1)) for layer in range(layers)
    ]
    nodes += [
        onnx_make.node("ReduceMax", f"at{layers}", "most", keepdims=0),
        onnx_make.node("Clip", "most nothing nothing", "zero"),
        onnx_make.node("Add", "boxes zero", "output0"),
    ]
    content = onnx_make.model(
        nodes,
        [onnx_make.port("images", "uint8", (1, height, width, 3))],
        [onnx_make.port("output0", "float32", (1, 7, 4))],
        tensors,
    )
    _write(folder, name, content)
    return folder


class PictureServer(MjpegServer):
    """An MJPEG camera that shows what `draw` draws of a picture's number. freeze: it repeats the last one for ever."""

    def __init__(self, draw: Callable[[int], Picture] = lambda number: card(320, 240, number), fps: float = 10) -> None:
        self.draw = draw
        self.freeze = threading.Event()
        super().__init__(fps=fps)

    def serve(self, connection: socket.socket) -> None:
        self.read_request(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        while True:
            jpeg = cv2.imencode(".jpg", self.draw(self.sent))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            connection.sendall(head.encode() + jpeg + b"\r\n")
            self.sent += not self.freeze.is_set()
            time.sleep(1 / self.fps)


def camera_bus(name: str, source: str, *, interval_s: float = 2.0, **bus: Any) -> dict[str, Any]:
    """A bus with one camera called `name`: a line, and a zone that is half the picture."""
    camera = {
        "name": name,
        "detector": "colours",
        "interval_s": interval_s,
        "lines": [{"name": "middle", "a": [0.5, 0.1], "b": [0.5, 0.9], "directions": ["left", "right"]}],
        "zones": [{"name": "half", "polygon": [[0.0, 0.0], [0.6, 0.0], [0.6, 1.0], [0.0, 1.0]]}],
    }
    return {"name": f"bus-{name}", "driver": "camera", "source": source, "devices": [camera], **bus}


def with_cameras(text: str, models: Path, *cameras: Mapping[str, Any]) -> str:
    """A gateway's configuration with cameras, too."""
    config = yaml.safe_load(text)
    config["vision"] = {"models": str(models)}
    config["buses"] += [dict(camera) for camera in cameras]
    written: str = yaml.safe_dump(config, sort_keys=False)
    return written


def status(folder: Path, outbox: str = "outbox") -> dict[str, Any]:
    """What the running gateway says of itself, asked over its socket: a tenth of what starting the command costs."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(folder / outbox / "status.sock"))
        link.sendall(b'{"request": "status"}\n')
        with link.makefile("rb") as stream:
            answer: dict[str, Any] = json.loads(stream.readline())
    return answer


def stream_of(answer: Mapping[str, Any], device: str, stream: str) -> dict[str, Any]:
    """One stream of what `status` said."""
    found: dict[str, Any] = next(one for one in answer["streams"] if (one["device"], one["stream"]) == (device, stream))
    return found


def states(answer: Mapping[str, Any]) -> dict[str, str]:
    """The state of each camera."""
    return {name: camera["state"] for name, camera in answer["cameras"].items()}


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Poll until `condition()`; how many seconds that took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began_s


def worker_of(gateway: int) -> int:
    """The process id of a gateway's vision worker."""
    (found,) = (pid for pid in children_of(gateway) if "vision-worker" in _command(pid))
    return found


def captures_of(worker: int) -> list[int]:
    """The process ids of its captures."""
    return [pid for pid in children_of(worker) if "drivers.camera_process" in _command(pid)]


def footprint(pid: int) -> dict[str, int]:
    """Open files, threads, children and resident KiB of a process."""
    lines = (Path("/proc") / str(pid) / "status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {
        "files": len(list((Path("/proc") / str(pid) / "fd").iterdir())),
        "threads": int(fields["Threads"]),
        "children": len(children_of(pid)),
        "resident_kib": int(fields["VmRSS"].split()[0]),
    }


def _command(pid: int) -> str:
    with suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_text(encoding="utf-8").replace("\0", " ")
    return ""


def gaps_of(report: Mapping[str, Any], device: str) -> Iterator[tuple[str, dict[str, int]]]:
    """(stream, gaps by reason) of a device in what `weinao-cloud ledger --json` says."""
    for row in report["streams"]:
        if row["device"] == device:
            yield row["stream"], row["gaps"]

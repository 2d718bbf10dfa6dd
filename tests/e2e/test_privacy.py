"""No picture leaves: a marked picture stands before a camera, and every byte that any process of the gateway writes to
a socket, a pipe or a file is searched for it: as it is, as text, and in whatever can be decompressed.
"""

import base64
import os
import re
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import zstandard
from cameras import capturing, children_of, next_look, spec_of
from programs import BIN
from servers import Mosquitto, find_program
from vision_kit import Picture, PictureServer, camera_bus, colour_model, eventually, status, stream_of, with_cameras

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
LOOKING_S = 8.0
CALLS = "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg"
WITHOUT_BYTES = "sendfile,splice,tee,vmsplice,copy_file_range,process_vm_writev"
RUN = 8  # bytes in a row that are one of the picture's: by chance in a gigabyte, once in a million tests


def marked(number: int) -> Picture:
    """Noise that nothing else in the world has, with a patch that the detector finds and that moves."""
    picture = np.random.default_rng(20261123 + number % 2).integers(0, 200, (180, 320, 3), dtype=np.uint8)
    left = number % 10 * 24
    picture[60:120, left : left + 48] = (0, 0, 255)
    return picture


class Searcher:
    """Knows every run of RUN bytes of some arrays."""

    def __init__(self, arrays: Sequence[Picture]) -> None:
        runs = np.unique(np.concatenate([_runs(array.tobytes()) for array in arrays]))
        # A run of few different bytes is in every file: it marks nothing.
        steps = np.diff(np.sort(runs.view(np.uint8).reshape(-1, RUN), axis=1), axis=1)
        self._known = runs[np.count_nonzero(steps, axis=1) >= RUN - 3]

    def found(self, blob: bytes) -> str:
        """How the picture is in there; nothing when it is not."""
        for how, plain in _readings(blob):
            runs = _runs(plain)
            places = np.minimum(np.searchsorted(self._known, runs), len(self._known) - 1)
            if (self._known[places] == runs).any():
                return how
        return ""


def _runs(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Every RUN bytes in a row, as numbers."""
    if len(data) < RUN:
        return np.empty(0, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), RUN)
    return np.ascontiguousarray(windows).view(np.uint64).ravel()


def _readings(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """A blob as it is, and all that it could be a writing of."""
    yield "as it is", blob
    for frame in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), blob):
        try:
            plain = zstandard.ZstdDecompressor().decompressobj().decompress(blob[frame.start() :])
        except zstandard.ZstdError:
            continue
        yield "in zstd", plain
    for packed in re.finditer(rb"x[\x01\x5e\x9c\xda]", blob):
        try:
            yield "in zlib", zlib.decompressobj().decompress(blob[packed.start() :], 1 << 22)
        except zlib.error:
            continue
    for text in re.findall(rb"[A-Za-z0-9+/]{16,}", blob):
        for skip in range(4):
            part = text[skip : skip + (len(text) - skip) // 4 * 4]
            yield "in base64", base64.b64decode(part)
    for text in re.findall(rb"[0-9A-Fa-f]{32,}", blob):
        for skip in range(2):
            yield "in hex", bytes.fromhex(text[skip : skip + (len(text) - skip) // 2 * 2].decode())
    for text in re.findall(rb"(?:\d{1,3},\s?){15,}", blob):
        yield "as numbers", bytes(min(int(word), 255) for word in re.findall(rb"\d+", text))


@pytest.fixture(scope="module")
def searcher() -> Searcher:
    """Knows what this camera's own capture, in this test, makes of the marked picture, and the stream itself."""
    arrays: list[Picture] = []
    with PictureServer(marked) as server, capturing(spec_of(server.url)) as capture:
        for _ in range(6):
            look = next_look(capture)
            arrays += [look.thumbnail.copy(), look.canvas.copy(), np.ascontiguousarray(look.canvas[:, :, 0])]
    for number in range(10):
        picture = marked(number)
        jpeg = np.asarray(cv2.imencode(".jpg", picture)[1], np.uint8)
        grey, decoded = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        arrays += [picture, *(np.asarray(one, np.uint8) for one in (grey, decoded, jpeg[700:]))]
    return Searcher(arrays)


@pytest.mark.parametrize("form", ["raw", "base64", "hex", "numbers", "zstd", "zlib", "a crop", "jpeg"])
def test_the_searcher_would_find_it(searcher: Searcher, form: str) -> None:
    picture = marked(1)
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    leak = {
        "raw": grey.tobytes(),
        "base64": base64.b64encode(grey.tobytes()),
        "hex": grey.tobytes().hex().encode(),
        "numbers": str(grey.ravel()[:200].tolist()).encode(),
        "zstd": zstandard.compress(grey.tobytes()),
        "zlib": zlib.compress(grey.tobytes()),
        "a crop": np.ascontiguousarray(grey[10:20, 10:26]).tobytes(),
        "jpeg": np.asarray(cv2.imencode(".jpg", picture)[1]).tobytes(),
    }[form]
    assert searcher.found(os.urandom(999) + leak + b'{"and": "more"}' * 9)
    assert not searcher.found(os.urandom(100_000) + b'{"values": [1, 2.5, null], "status": [0, 0, 221]}' * 99)


def test_no_picture_leaves_any_process_of_the_gateway(tmp_path: Path, mosquitto: Mosquitto, searcher: Searcher) -> None:
    with PictureServer(marked) as server:
        models = colour_model(tmp_path / "models")
        own = f"""gateway: {{id: gw-private, area: {{city: test, district: east, street: first}}}}
mqtt: {{host: 127.0.0.1, port: {mosquitto.port}}}
outbox: {{directory: outbox, min_free_bytes: 0}}
buses: []
"""
        (tmp_path / "gateway.yaml").write_text(with_cameras(own, models, camera_bus("marked", server.url)))
        written = traced(tmp_path)
    calls = re.findall(rb"^\d+ +(\w+)\(", written, re.MULTILINE)
    assert {b"write", b"sendto"} <= set(calls), "the tracer saw nothing: this test proves nothing"
    assert not set(calls) & {name.encode() for name in WITHOUT_BYTES.split(",")}
    blobs = [bytes.fromhex(text.replace(rb"\x", b"").decode()) for text in re.findall(rb'"((?:\\x..)*)"', written)]
    assert b'"...' not in written, "a write was longer than the tracer shows"
    everything = b"\0\0\0\0".join(blobs)
    print(f"{len(calls)} calls wrote {len(everything)} bytes")
    assert b"weinao/v1/" in everything, "nothing was published"
    assert not searcher.found(everything)
    kept = [path for path in (tmp_path / "outbox").rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert not searcher.found(path.read_bytes()), path


def traced(folder: Path) -> bytes:
    """Run the gateway under a tracer for a while, with its camera live; every write of all its processes."""
    command = [
        *(find_program("strace", "strace"), "-f", "--seccomp-bpf", "-q", "-xx", "-s", "4194304", "-o", "trace"),
        *("-e", f"trace={CALLS},{WITHOUT_BYTES}", "-e", "signal=none"),
        *(str(BIN / "weinao-gateway"), "run", "gateway.yaml"),
    ]
    with (folder / "gateway.log").open("wb") as words:
        tracer = subprocess.Popen(command, cwd=folder, stdout=words, stderr=subprocess.STDOUT)
    try:
        eventually((folder / "outbox" / "status.sock").exists, 30, "the gateway runs")
        eventually(lambda: frames(folder) > 0, 40, "the camera is looked at")
        time.sleep(LOOKING_S)
        found = status(folder)
        assert stream_of(found, "marked", "occupancy_max.half")["value"] >= 1, "nothing was detected"
        os.kill(children_of(tracer.pid)[0], signal.SIGTERM)
        assert tracer.wait(30) == 0
    finally:
        if tracer.poll() is None:
            for pid in children_of(tracer.pid):
                os.kill(pid, signal.SIGKILL)
            tracer.kill()
            tracer.wait()
    return (folder / "trace").read_bytes()


def frames(folder: Path) -> int:
    camera = status(folder)["cameras"]["marked"]
    return int(camera["captured"]) if camera.get("fps") else 0

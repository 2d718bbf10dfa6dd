"""Simulated cameras over the real thing: GStreamer's RTSP server, x264 and OpenCV's FFmpeg at the other end."""

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from hardware_sim.cli import main
from hardware_sim.control import ask
from hardware_sim.street import gst, stamp
from hardware_sim.street.clip import make_clip
from hardware_sim.street.scenes import make_scene

pytestmark = pytest.mark.services

PATIENCE_S = 20.0
SCENARIO = """\
seed: 3
ports:
  - name: eye
    kind: rtsp
    devices:
      - {name: cam-1, type: camera, scene: mixed, width: 640, height: 360, fps: 10, stamped: true}
  - name: web
    kind: mjpeg
    devices:
      - {name: cam-2, type: camera, scene: queue, width: 320, height: 180, fps: 10, stamped: true,
         username: u, password: p}
"""


@pytest.fixture(autouse=True)
def _over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|analyzeduration;200000")


@contextlib.contextmanager
def capture(url: str) -> Iterator[cv2.VideoCapture]:
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 2000]
    opened = cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)
    try:
        yield opened
    finally:
        opened.release()


def read(opened: cv2.VideoCapture) -> np.ndarray | None:
    ok, picture = opened.read()
    return np.asarray(picture, np.uint8) if ok else None


def read_number(opened: cv2.VideoCapture) -> int | None:
    picture = read(opened)
    return None if picture is None else stamp.read(picture)


@contextlib.contextmanager
def simulator(folder: Path) -> Iterator[dict[str, Any]]:
    scenario, ready = folder / "s.yaml", folder / "ready.json"
    scenario.write_text(SCENARIO)
    command = [sys.executable, "-m", "hardware_sim", "run", str(scenario), "--ready-file", str(ready)]
    command += ["--truth", str(folder / "t.tsv"), "--control", str(folder / "c.sock")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready.exists():
            assert process.poll() is None, "it ended before it was ready"
            assert time.monotonic() < deadline, "it was not ready in time"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        family = psutil.Process(process.pid).children(recursive=True)
        yield json.loads(ready.read_text())
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        _, alive = psutil.wait_procs(family, 5)
        assert not alive, "a camera outlived the simulator"
    finally:
        process.kill()
        process.wait()


def tell(ready: dict[str, Any], **request: Any) -> None:
    assert ask(Path(ready["control"]), request) == {"ok": True}


def test_a_clip_is_served_from_frame_0_to_each_client_and_its_time_is_its_frame(tmp_path: Path) -> None:
    file, truth = tmp_path / "c.mp4", tmp_path / "c.jsonl"
    scene = make_scene("mixed", 1, (320, 180))
    assert make_clip(scene, file, truth, seconds=3, fps=10, stamped=True) == 30
    head, *rows = (json.loads(line) for line in truth.read_text().splitlines())
    assert head["scene"] == "mixed"
    assert [row["frame"] for row in rows] == list(range(30))
    with gst.ClipServer(file) as server:
        for _ in range(2):
            with capture(server.url) as opened:
                for number in range(25):
                    picture = read(opened)
                    assert picture is not None
                    assert stamp.read(picture) == number
                    assert opened.get(cv2.CAP_PROP_POS_MSEC) == pytest.approx(number * 100, abs=2)
                    assert rows[number]["t_s"] == number / 10
    assert not psutil.pid_exists(server.pid)


def test_the_truths_boxes_are_where_the_decoded_picture_has_the_things(tmp_path: Path) -> None:
    file, truth = tmp_path / "c.mp4", tmp_path / "c.jsonl"
    scene = make_scene("parked", 1, (640, 360))
    make_clip(scene, file, truth, seconds=1, fps=5)
    empty = make_scene("empty", 1, (640, 360))
    assert empty.parked == ()
    row = json.loads(truth.read_text().splitlines()[1])
    picture = read(cv2.VideoCapture(str(file), cv2.CAP_FFMPEG))
    assert picture is not None
    one = max((entry for entry in row["objects"] if entry[6] > 0.95), key=lambda entry: entry[5] - entry[3])
    left, top, right, bottom = (round(edge) for edge in one[2:6])
    inside = picture[top:bottom, left:right].reshape(-1, 3).astype(float)
    assert inside.std(axis=0).max() > 20  # a car has windows, wheels and lamps; asphalt has none


def test_a_live_camera_says_frames_in_order_and_obeys_faults(tmp_path: Path) -> None:
    with simulator(tmp_path) as ready:
        url = ready["ports"]["eye"]["url"]
        with capture(url) as opened:
            assert opened.isOpened()
            numbers = [read_number(opened) for _ in range(20)]
            steps = np.diff([number for number in numbers if number is not None][3:])
            assert len(numbers) - numbers.count(None) == 20
            assert set(steps.tolist()) == {1}
            refused = ask(Path(ready["control"]), {"fault": "black", "device": "cam-1", "grade": 9})
            assert refused == {"ok": False, "error": "grade: expected 1, 2 or 3, found 9"}
            tell(ready, fault="black", device="cam-1", grade=2)
            assert any((picture := read(opened)) is not None and picture[100:].mean() < 12 for _ in range(40))
            tell(ready, clear="cam-1")
            assert any((picture := read(opened)) is not None and picture[100:].mean() > 30 for _ in range(40))
            tell(ready, fault="stall", device="cam-1")
            assert any(read(opened) is None for _ in range(40))
        tell(ready, clear="cam-1")
        tell(ready, fault="disconnect", device="cam-1")
        deadline = time.monotonic() + PATIENCE_S
        while _opens(url):
            assert time.monotonic() < deadline, "the server did not go"
        tell(ready, clear="cam-1")
        while not _opens(url):
            assert time.monotonic() < deadline, "the server did not come back on its port"
    rows = [json.loads(line) for line in (tmp_path / "t.cam-1.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows[1:]] == list(range(len(rows) - 1))
    assert any(row["drawn"] for row in rows[1:])
    assert not all(row["drawn"] for row in rows[1:])


def _opens(url: str) -> bool:
    with capture(url) as opened:
        return opened.isOpened()


def test_mjpeg_wants_its_password_and_each_part_says_its_frame_and_time(tmp_path: Path) -> None:
    with simulator(tmp_path) as ready:
        where = ready["ports"]["web"]
        connection = http.client.HTTPConnection(where["host"], where["port"], timeout=PATIENCE_S)
        connection.request("GET", "/street")
        assert connection.getresponse().status == 401
        connection.close()
        secret = base64.b64encode(b"u:p").decode()
        connection.request("GET", "/street", headers={"Authorization": f"Basic {secret}"})
        response = connection.getresponse()
        assert response.status == 200
        for _ in range(5):
            head, picture = _part(response)
            assert stamp.read(picture) == int(head["x-frame"])
            assert abs(time.time() - float(head["x-timestamp"])) < 2
        tell(ready, fault="wrong_clock", device="cam-2", grade=2)
        tell(ready, fault="resize", device="cam-2", grade=2)
        for _ in range(40):
            head, picture = _part(response)
            if picture.shape[1] == 160:
                break
        assert picture.shape == (90, 160, 3)
        assert float(head["x-timestamp"]) - time.time() > 25
        connection.close()


def _part(response: http.client.HTTPResponse) -> tuple[dict[str, str], np.ndarray]:
    head: dict[str, str] = {}
    while (line := response.readline().strip().decode()) or not head:
        name, colon, value = line.partition(": ")
        if colon:
            head[name.lower()] = value
    data = response.read(int(head["content-length"]))
    return head, np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def test_rtsp_wants_its_password(tmp_path: Path) -> None:
    file = tmp_path / "c.mp4"
    make_clip(make_scene("empty", 1, (320, 180)), file, tmp_path / "c.jsonl", seconds=1, fps=5)
    with gst.ClipServer(file, account=("tech", "s3cret")) as server:
        assert not _opens(server.url)
        assert not _opens(server.url.replace("//", "//tech:wrong@"))
        assert _opens(server.url.replace("//", "//tech:s3cret@"))


def test_the_clip_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "night.mp4"
    arguments = ["clip", "queue", "--out", str(out), "--seconds", "1", "--fps", "5", "--size", "320x180"]
    assert main([*arguments, "--spoil", "night:2", "rain:1"]) == 0
    assert "5 frames" in capsys.readouterr().out
    head = json.loads(out.with_suffix(".jsonl").read_text().splitlines()[0])
    assert head["spoils"] == {"night": 2, "rain": 1}
    assert main([*arguments, "--spoil", "snow:1"]) == 2
    assert "'snow' is not a valid Spoil" in capsys.readouterr().err

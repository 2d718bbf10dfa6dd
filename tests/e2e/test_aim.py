"""`weinao-gateway aim` as a technician runs it, on a real stream: what is shown, to whom, and that nothing stays."""

import http.client
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import yaml
from cameras import children_of
from programs import Program, ask
from servers import free_port
from vision_kit import Picture, PictureServer, camera_bus, colour_model, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]
PATCH = (slice(60, 120), slice(96, 192))  # rows and columns of 180 x 320: somebody the detector is not sure of
SURE = (slice(20, 52), slice(250, 282))


def street(number: int) -> Picture:
    """Grey, with somebody in fine detail, a plain red thing, and a corner that tells one picture from the next."""
    picture = np.full((180, 320, 3), 90, np.uint8)
    checks = np.indices((60, 96)).sum(0) % 2
    picture[PATCH] = (0, 0, 200)
    picture[PATCH][..., 1] = np.where(checks, 120, 0)
    picture[SURE] = (0, 0, 255)
    picture[170:, :10] = number * 40 % 256
    return picture


def write_config(folder: Path, source: str) -> None:
    config: dict[str, Any] = {
        "gateway": {"id": "gw-1", "area": {"city": "c", "district": "d", "street": "s"}},
        "mqtt": {"host": "localhost"},
        "outbox": {"directory": "outbox"},
        "vision": {"models": str(colour_model(folder / "models"))},
        "buses": [camera_bus("gate", source, open_timeout_s=2, read_timeout_s=2)],
    }
    config["buses"][0]["devices"][0]["confidence"] = 0.95
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


@contextmanager
def aiming(folder: Path, *more: str) -> Iterator[Program]:
    with PictureServer(street) as camera:
        write_config(folder, camera.url)
        with Program(folder, "aim", "weinao-gateway", "aim", "gateway.yaml", "gate", *more) as aim:
            aim.wait_for(lambda: "320 x 180 pixels" in aim.words(), 30, "looking")
            yield aim


def url_of(aim: Program) -> str:
    found = re.search(r"http://\S+", aim.words())
    assert found is not None, aim.words()
    return found[0]


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request."""
    parts = urlsplit(url)
    assert parts.hostname == "127.0.0.1"
    link = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=10)
    link.request(method, parts.path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = link.getresponse()
    body = answer.read()
    link.close()
    return answer.status, dict(answer.getheaders()), body


def decoded(jpeg: bytes) -> Picture:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(cv2.resize(np.asarray(picture, np.uint8), (1280, 720)), np.uint8)


def detail(picture: Picture) -> float:
    """How much is to be seen of somebody, away from its edge and from what is drawn there: 16 pixels at a
    time, the median of the deviations."""
    inside = picture[260:460, 400:740, 1].astype(float)
    blocks = inside[:192, :336].reshape(12, 16, 21, 16).swapaxes(1, 2).reshape(-1, 256)
    return float(np.median(blocks.std(axis=1)))


def has_colour(picture: Picture, bgr: tuple[int, int, int]) -> bool:
    return bool((np.abs(picture.astype(int) - bgr).max(axis=2) < 60).sum() > 200)


def test_a_page_on_loopback_for_who_has_the_token_alone(tmp_path: Path) -> None:
    with aiming(tmp_path) as aim:
        url = url_of(aim)
        code, headers, body = fetch(url)
        assert code == 200
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Cache-Control"].startswith("no-store")
        assert b"line 1: middle (1: left, 2: right)" in body
        assert "行人和车辆已打码" in fetch(url, Accept_Language="zh-CN,zh;q=0.9,en;q=0.8")[2].decode()
        assert fetch(url + "../still.jpg")[0] == 404
        root = f"http://{urlsplit(url).netloc}/"
        for wrong in (root, root + "still.jpg", root + "x" * 22 + "/", root + "x" * 22 + "/still.jpg"):
            assert fetch(wrong)[0] == 404, wrong
        assert fetch(url + "still.jpg", Host="weinao.example:80")[0] == 404, "a web site reaches it through the browser"
        assert fetch(url, method="POST")[0] == 501
        shown = decoded(fetch(url + "still.jpg")[2])
        assert has_colour(shown, (0, 255, 255)), "the line"
        assert has_colour(shown, (80, 255, 80)), "a box"
        assert detail(shown) < 4, "somebody is hidden on less evidence than is counted"
        port = urlsplit(url).port or 0
        assert url.split("/")[3] not in "\n".join(line for line in aim.words().splitlines() if "open http" not in line)
        children = children_of(aim.pid)
        assert children, "the capture is a process of its own"
        assert aim.stop(10) == 0, aim.words()
        with socket.socket() as link:
            assert link.connect_ex(("127.0.0.1", port)) != 0
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5, "no process is left")


def test_what_is_revealed_is_said_loudly(tmp_path: Path) -> None:
    with aiming(tmp_path, "--reveal") as aim:
        assert "PEOPLE CAN BE RECOGNISED" in aim.words()
        assert b"PEOPLE CAN BE RECOGNISED" in fetch(url_of(aim))[2]
        assert detail(decoded(fetch(url_of(aim) + "still.jpg")[2])) > 8


def test_without_a_detector_all_of_the_picture_is_pixelated(tmp_path: Path) -> None:
    with aiming(tmp_path):
        pass
    model = tmp_path / "models" / "colours.onnx"
    model.write_bytes(model.read_bytes() + b"\0")  # no longer what its card was sealed with
    with PictureServer(lambda number: np.roll(street(number), 7, axis=1)) as camera:
        config = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
        config["buses"][0]["source"] = camera.url
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
        with Program(tmp_path, "aim2", "weinao-gateway", "aim", "gateway.yaml", "gate") as aim:
            aim.wait_for(lambda: "320 x 180 pixels" in aim.words(), 30, "looking")
            assert "colours.yaml" in aim.words()
            assert "all of the picture is pixelated" in aim.words()
            shown = decoded(fetch(url_of(aim) + "still.jpg")[2])
            assert detail(shown) < 4
            assert aim.stop(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_file_is_the_owners_alone_and_gone_at_the_end_whatever_ends_it(tmp_path: Path, number: int) -> None:
    picture = tmp_path / "now.jpg"
    with aiming(tmp_path, "--file", "now.jpg") as aim:
        aim.wait_for(picture.exists, 10, "showing a picture")
        assert stat.S_IMODE(picture.stat().st_mode) == 0o600
        assert detail(decoded(picture.read_bytes())) < 4
        os.kill(aim.pid, number)
        eventually(lambda: not aim.alive, 10, "it ends")
        eventually(lambda: not picture.exists(), 5, "the picture is gone")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"aim.log", "gateway.yaml", "models"}


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    write_config(tmp_path, "http://127.0.0.1:1/video.mjpg")
    (tmp_path / "mine.jpg").write_text("holiday")
    answer = ask("weinao-gateway", "aim", "gateway.yaml", "gate", "--file", "mine.jpg", folder=tmp_path)
    assert answer.returncode == 2
    assert f"{tmp_path}/mine.jpg: is there already; expected a new name" in answer.stderr
    assert (tmp_path / "mine.jpg").read_text() == "holiday"


def test_mistakes_are_answered_with_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    write_config(tmp_path, f"http://127.0.0.1:{port}/video.mjpg")
    unknown = ask("weinao-gateway", "aim", "gateway.yaml", "gates", folder=tmp_path)
    assert (unknown.returncode, unknown.stderr.strip()) == (2, "there is no camera 'gates'; cameras: gate")
    away = ask("weinao-gateway", "aim", "gateway.yaml", "gate", "--seconds", "4", folder=tmp_path)
    assert away.returncode == 1
    assert f"gate: 127.0.0.1:{port} refuses the connection" in away.stdout
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        busy = ask("weinao-gateway", "aim", "gateway.yaml", "gate", "--port", number, folder=tmp_path)
    assert busy.returncode == 2
    assert busy.stderr.startswith(f"--port {number}: Address already in use; expected a free one, or 0 for any")

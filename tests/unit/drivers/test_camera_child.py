"""What a capture process may say and do to its keeper: stand-ins that lie, and the order it gets."""

import json
import os
import random
import select
import stat
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from cameras import CANVAS, capturing, children_of, spec_of
from servers import wait_until

from contract.errors import ConfigError
from drivers.base_camera import CaptureState
from drivers.camera import DRIVER
from drivers.camera_capture import Pace, ProcessCapture
from drivers.camera_child import MAX_LINE_BYTES, Child, ChildFailedError, Word
from drivers.camera_order import Order, environment
from drivers.camera_ring import BadFrameError, Head, Reader, Writer
from drivers.camera_session import Budget
from drivers.camera_waits import Waits
from drivers.registry import Registry

ORDER = Order(
    source="rtsp://127.0.0.1:1/a",
    username="admin",
    password="hunter2",  # noqa: S106 - of no camera
    udp=False,
    open_timeout_s=1.0,
    read_timeout_s=1.0,
    fps=5.0,
    canvas=CANVAS,
    thumbnail=(320, 180),
    masks=(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)),),
    memory=0,
    bell=0,
    first_wait_s=0.1,
    most_wait_s=1.0,
    parent=1,
)
QUICK = Pace(first_wait_s=0.02, most_wait_s=0.05, start_s=0.5, margin_s=0.2)
BUS = {"open_timeout_s": 0.1, "read_timeout_s": 0.1}


def stand_in(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def heard(child: Child) -> list[Word] | None:
    """The next words; None at the end."""
    while True:
        select.select([child.fileno()], [], [], 5)
        words = child.words()
        if words != []:
            return words


def test_an_order_survives_its_pipe_and_hides_its_password() -> None:
    line = ORDER.as_json()
    assert line.count(b"\n") == 1
    assert Order.from_json(line) == ORDER
    assert "hunter2" not in repr(ORDER)
    assert "hunter2" not in json.dumps(environment(ORDER, "/"))


def test_options_let_a_camera_open_nothing_else() -> None:
    def options(source: str, *, udp: bool = False) -> str:
        return environment(replace(ORDER, source=source, udp=udp), "/")["OPENCV_FFMPEG_CAPTURE_OPTIONS"]

    assert "rtsp_transport;tcp" in options("rtsp://h/a")
    assert "rtsp_transport;udp" in options("rtsp://h/a", udp=True)
    assert options("rtsp://h/a").endswith("protocol_whitelist;rtsp,rtp,udp,tcp")
    assert options("http://h/a").endswith("protocol_whitelist;http,tcp")
    assert options("a.mp4") == "protocol_whitelist;file"


def test_words_are_cleaned(tmp_path: Path) -> None:
    said = json.dumps(
        {"say": "away", "error": "401 for admin:hunter2\x1b[2J" + "x" * 1000, "wait_s": 1.5, "password": 1}
    )
    child = Child(ORDER, stand_in(tmp_path, f"read order; echo '{said}'"))
    [word] = heard(child) or []
    assert word.error.startswith("401 for admin:***[2Jxxx")
    assert len(word.error) <= 310
    assert (word.wait_s, word.password) == (1.5, False)
    assert heard(child) is None
    assert child.end(polite=True) == 0


@pytest.mark.parametrize(
    "line",
    ["hello", "[1]", '{"say": "sing"}', '{"say": "away", "wait_s": -1}', '{"say": "away", "wait_s": 1e9}', "x" * 9000],
)
def test_nonsense_ends_it(tmp_path: Path, line: str) -> None:
    assert len(line) < 100 or len(line) > MAX_LINE_BYTES
    end = "" if len(line) > 100 else "\\n"
    child = Child(ORDER, stand_in(tmp_path, f"printf '%s{end}' '{line}'; exec sleep 60"))
    with pytest.raises(ChildFailedError, match="the capture process said"):
        heard(child)
    assert child.end(polite=False) == -9
    assert "SIGKILL" in child.how_it_ended()


def test_one_that_ignores_a_polite_end_is_killed(tmp_path: Path) -> None:
    child = Child(ORDER, stand_in(tmp_path, "trap '' TERM HUP PIPE; while :; do sleep 1; done"))
    assert child.end(polite=True) == -9


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exec sleep 60", "the capture process hung"),
        ("exit 3", "ended by itself, status 3"),
        (
            'echo \'{"say": "broken", "error": "ValueError at a.py:3"}\'; exec sleep 60',
            "a defect of the capture process",
        ),
        ("echo nonsense; exec sleep 60", "said what is no JSON"),
        ('echo \'{"say": "live"}\'; exec sleep 60', "the capture process hung"),
    ],
)
def test_a_bad_process_is_replaced_and_nothing_is_left(tmp_path: Path, script: str, text: str) -> None:
    spec = spec_of("rtsp://127.0.0.1:1/a", bus=BUS)
    before = set(children_of(os.getpid()))
    with capturing(spec, pace=QUICK, python=stand_in(tmp_path, script)) as capture:
        wait_until(lambda: capture.status().restarts >= 2, 10, str(capture.status()))
        wait_until(lambda: text in capture.status().error, 10, str(capture.status()))
        assert capture.status().error.endswith("it is started again")
    assert set(children_of(os.getpid())) <= before, "children of this test's own"


def test_a_process_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with capturing(spec_of("a.mp4"), pace=QUICK, python=str(tmp_path / "none")) as capture:
        wait_until(lambda: capture.status().state is CaptureState.AWAY, 5, "no state")
        assert capture.status().error == "the capture process cannot be started: No such file or directory"


def test_a_password_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    bus = {"username": "admin", "password_file": tmp_path / "none"}
    with capturing(spec_of("rtsp://127.0.0.1:1/a", bus=bus), pace=QUICK) as capture:
        wait_until(lambda: capture.status().state is CaptureState.AWAY, 5, "no state")
        assert capture.status().error == f"password_file {tmp_path}/none cannot be read: No such file or directory"


def test_a_process_that_writes_nonsense_is_replaced(tmp_path: Path) -> None:
    python = stand_in(tmp_path, 'echo \'{"say": "live"}\'; exec sleep 60')
    bus = {**BUS, "read_timeout_s": 10}
    calm = replace(QUICK, first_wait_s=20, most_wait_s=20)  # the next one must not hide this one's end
    with capturing(spec_of("rtsp://127.0.0.1:1/a", bus=bus), pace=calm, python=python) as capture:
        wait_until(lambda: capture.status().connections == 1, 5, "not live")
        assert capture.status().state is CaptureState.LIVE, "live, and its first picture is not late yet"
        hostile = Writer(capture._ring, capture.fileno())
        hostile.begin()
        hostile.publish(Head(1, 1 << 60, 0, (640, 480)))
        assert capture.look() is None
        wait_until(lambda: capture.status().restarts == 1, 5, "not replaced")
        assert "handed over a frame from another time" in capture.status().error
        capture._ring.board[:] = -1
        status = capture.status()
        assert (status.captured, status.skipped, status.last_frame_ns) == (0, 0, 0)
        with pytest.raises(BadFrameError):
            Reader(capture._ring).take(1)


def test_frames_are_kept_evenly_at_the_budget() -> None:
    def kept(fps: float, budget: float, *, jitter_s: float = 0.0, seconds: int = 60) -> list[float]:
        rng, chosen = random.Random(1), Budget(budget)
        times = [number / fps + rng.uniform(0, jitter_s) for number in range(int(fps * seconds))]
        return [time_s for time_s in times if chosen.keeps(round((100 + time_s) * 1e9))]

    for fps, budget in ((15, 5), (25, 10), (30, 5), (6, 5), (12, 5)):
        times = kept(fps, budget)
        assert len(times) == pytest.approx(60 * budget, abs=2)
        gaps = [b - a for a, b in pairwise(times)]
        assert max(gaps) <= 1 / budget + 1 / fps + 1e-6
    assert len(kept(5, 5, jitter_s=0.08)) == pytest.approx(300, abs=3)  # as fast as the budget, and jittery: none lost
    assert len(kept(2, 5)) == 120


def test_waits_double_with_jitter() -> None:
    waits = Waits(0.5, 30.0, random.Random(2))
    waited = [waits.next_s() for _ in range(40)]
    for number, seconds in enumerate(waited):
        whole_s = min(30.0, 0.5 * 2**number)
        assert whole_s / 2 <= seconds <= whole_s
    assert len(set(waited[10:])) == 30
    waits.reset()
    assert waits.next_s() <= 0.5


def test_the_registry_offers_captures_and_no_bus() -> None:
    driver = Registry(installed=list).get("camera")
    assert driver is DRIVER
    assert driver.capture is not None
    with pytest.raises(ConfigError, match="the gateway's vision reads it"):
        driver.connect(spec_of("a.mp4"), [])
    capture = driver.capture(spec_of("a.mp4"), CANVAS)
    assert isinstance(capture, ProcessCapture)
    capture.close()
    assert capture.wait_closed(5)

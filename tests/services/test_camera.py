"""The camera driver against real cameras: an RTSP server that dies and stalls, MJPEG over HTTP, files, broken peers.

V4L2 has no simulated device here (the kernel has no v4l2loopback): tests/unit/drivers/test_camera_trouble.py covers
what is said when such a camera cannot be opened, and nothing covers its pictures.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from cameras import (
    CANVAS,
    MjpegServer,
    RtspServer,
    SilentPeer,
    capturing,
    make_video,
    next_look,
    open_files,
    spec_of,
)
from servers import free_port, wait_until

from drivers.base_camera import CaptureState, CaptureStatus, StreamClock
from drivers.camera_capture import Pace, ProcessCapture, boottime_ns

pytestmark = pytest.mark.services

QUICK = Pace(first_wait_s=0.05, most_wait_s=0.2, password_wait_s=0.3, margin_s=1.0)
SECRET = "p@s:s/w?ö%"  # noqa: S105 - of a camera that lives for a second


def until(capture: ProcessCapture, what: Callable[[CaptureStatus], bool], timeout_s: float = 15.0) -> CaptureStatus:
    wait_until(lambda: what(capture.status()), timeout_s, f"{capture.status()}")
    return capture.status()


def is_state(state: CaptureState) -> Callable[[CaptureStatus], bool]:
    return lambda status: status.state is state


def test_rtsp_gives_small_fresh_pictures_at_the_rate_asked_for() -> None:
    with RtspServer(width=640, height=480, fps=15) as server, capturing(spec_of(server.url, fps=5)) as capture:
        first = next_look(capture)
        assert first.size == (640, 480)
        assert first.canvas.shape == (CANVAS[1], CANVAS[0], 3)
        assert first.thumbnail.shape == (180, 320)
        assert (first.pad, first.scale) == ((32, 0), 0.4)
        assert (first.canvas[:, :32] == 114).all()
        assert (first.canvas[:, -32:] == 114).all()
        assert first.canvas[:, 32:-32].std() > 50  # a test card, in colours
        looks, began_s = [next_look(capture)], time.monotonic()
        ages_ms = []
        while time.monotonic() - began_s < 3:
            looks.append(next_look(capture))
            ages_ms.append((boottime_ns() - looks[-1].time_ns) / 1e6)
        numbers = [look.number for look in looks]
        assert numbers == sorted(set(numbers))
        assert [look.skipped for look in looks[1:]] == [b - a - 1 for a, b in pairwise(numbers)]
        assert 13 <= len(looks) <= 18
        assert np.median(ages_ms) < 50
        spans_ms = np.diff([look.time_ns for look in looks]) / 1e6
        assert abs(np.median(spans_ms) - 200) < 15
        streams = np.diff([look.stream_ns for look in looks]) / 1e6
        assert abs(np.median(streams) - 200) < 1
        status = until(capture, lambda status: status.clock is not StreamClock.NONE)
        assert (status.state, status.error, status.connections, status.restarts) == (CaptureState.LIVE, "", 1, 0)
        assert status.clock is StreamClock.GOOD
        assert abs(status.clock_rate - 1) < 0.01
        assert status.captured - status.skipped == len(looks) + 1


def test_rtsp_over_udp() -> None:
    with RtspServer() as server, capturing(spec_of(server.url, bus={"transport": "udp"}), pace=QUICK) as capture:
        assert next_look(capture).size == (320, 240)


@pytest.mark.parametrize("method", ["digest", "basic"])
def test_credentials_open_a_camera_and_are_nowhere_to_be_seen(
    method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "password"
    secret.write_text("wrong-password\n", encoding="utf-8")
    bus = {"username": "admin", "password_file": secret}
    with (
        RtspServer(user="admin", password=SECRET, method=method) as server,
        capturing(spec_of(server.url, bus=bus), pace=QUICK) as capture,
    ):
        refused = until(capture, lambda status: "refuses the user name or the password" in status.error)
        assert (refused.state, refused.connections) == (CaptureState.AWAY, 0)
        secret.write_text(f"{SECRET}\n", encoding="utf-8")  # changed while we run: read again at the next attempt
        next_look(capture)
        [child] = capture_pids()
        for name in ("cmdline", "environ"):
            shown = Path(f"/proc/{child}/{name}").read_bytes()
            assert b"p@s" not in shown
            assert b"p%40s" not in shown
        until(capture, is_state(CaptureState.LIVE))
        server.kill()
        away = until(capture, is_state(CaptureState.AWAY))
        everything = f"{refused}{away}{caplog.text}"
        for part in (SECRET, "p%40s", "wrong-password", "admin:"):
            assert part not in everything
    assert caplog.messages.count("camera cam: pictures again") == 1


def test_a_camera_that_wants_a_password_is_told_from_one_that_is_away() -> None:
    with RtspServer(user="admin", password=SECRET) as server, capturing(spec_of(server.url), pace=QUICK) as capture:
        status = until(capture, is_state(CaptureState.AWAY))
        assert status.error == f"{server.url} wants a user name and password: set 'username' and 'password_file'"
    port = free_port()
    with capturing(spec_of(f"rtsp://127.0.0.1:{port}/cam"), pace=QUICK) as capture:
        status = until(capture, is_state(CaptureState.AWAY))
        assert status.error.startswith(f"127.0.0.1:{port} refuses the connection")


@pytest.mark.timeout(180)
def test_fifty_deaths_and_stalls_of_the_server_leak_nothing() -> None:
    """Killed and stalled in turn, with another camera running on the same machine all the while."""
    bus = {"read_timeout_s": 0.4, "open_timeout_s": 2.0}
    own = psutil.Process()
    with (
        MjpegServer(fps=15) as load,
        capturing(spec_of(load.url)) as neighbour,
        RtspServer(fps=15) as server,
        capturing(spec_of(server.url, bus=bus, fps=15), pace=QUICK) as capture,
    ):
        next_look(capture)
        next_look(neighbour)
        before = None
        for number in range(50):
            look_before = next_look(capture)
            if number % 2:
                server.stall()
                status = until(capture, lambda status: status.state in {CaptureState.STALLED, CaptureState.AWAY})
                assert status.error
                # Until the connection was given up, too: what comes back sooner is taken as if nothing had been.
                wait_until(lambda: capture._state is not CaptureState.LIVE, 5, "the connection is kept")
                server.go_on()
            else:
                server.kill()
                until(capture, lambda status: status.state is not CaptureState.LIVE)
                server.start()
            status = until(capture, is_state(CaptureState.LIVE))
            look = next_look(capture)
            assert look.number > look_before.number
            assert look.time_ns > look_before.time_ns
            if number in {5, 49}:
                counts = (open_files(), own.num_threads(), len(own.children()))
                sizes = (own.memory_info().rss, children_rss(own))
                if before is None:
                    before = (counts, sizes)
                else:
                    assert counts == before[0], "open files, threads, children"
                    assert sizes[0] - before[1][0] < 4e6
                    assert sizes[1] - before[1][1] < 4e6
        assert status.connections >= 50
        assert status.restarts == 0
        assert neighbour.status().connections == 1


def children_rss(process: psutil.Process) -> int:
    """Of our capture processes."""
    return sum(child.memory_info().rss for child in process.children() if "drivers.camera_process" in child.cmdline())


def capture_pids() -> list[int]:
    """The capture processes of this process."""
    return [child.pid for child in psutil.Process().children() if "drivers.camera_process" in child.cmdline()]


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV])
def test_a_capture_process_that_hangs_or_dies_is_replaced(how: signal.Signals) -> None:
    bus = {"read_timeout_s": 0.3}
    with MjpegServer() as server, capturing(spec_of(server.url, bus=bus), pace=QUICK) as capture:
        next_look(capture)
        until(capture, is_state(CaptureState.LIVE))
        wait_until(lambda: server.connections == 1, 5, "a connection is left")
        files = open_files()
        numbers = []
        for restarts in (1, 2, 3):
            [child] = capture_pids()
            os.kill(child, how)
            if how is signal.SIGSTOP:  # seen at once, though its replacement takes a little longer
                assert "has sent no picture for 0.3 s" in until(capture, is_state(CaptureState.STALLED), 2).error
            status = until(capture, lambda status, at_least=restarts: status.restarts >= at_least)  # type: ignore[misc]
            assert not psutil.pid_exists(child)
            until(capture, is_state(CaptureState.LIVE))
            numbers.append(next_look(capture).number)
        assert numbers == sorted(set(numbers))
        assert status.restarts == 3
        wait_until(lambda: server.connections == 1, 5, "a connection is left")
        assert open_files() == files
        assert len(capture_pids()) == 1


def test_the_capture_process_ends_with_its_parent(tmp_path: Path) -> None:
    video = make_video(tmp_path / "street.avi", frames=25)
    program = (
        "import sys, time\n"
        "from cameras import spec_of, CANVAS, next_look, children_of\n"
        "from drivers.camera_capture import ProcessCapture\n"
        "import os\n"
        "capture = ProcessCapture(spec_of(sys.argv[1]), CANVAS)\n"
        "next_look(capture)\n"
        "print(children_of(os.getpid())[0], flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(video)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{root}:{root}/tests"},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_until(lambda: not running(child), 5, "the capture process is still there")


def running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie that waits for a lazy init."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_silent_camera_delays_nobody() -> None:
    bus = {"open_timeout_s": 0.5}
    with SilentPeer() as peer:
        capture = ProcessCapture(spec_of(f"rtsp://127.0.0.1:{peer.port}/cam", bus=bus), CANVAS, pace=QUICK)
        slowest_s = 0.0
        while capture.status().state is not CaptureState.AWAY:
            began_s = time.perf_counter()
            assert capture.look() is None
            capture.status()
            slowest_s = max(slowest_s, time.perf_counter() - began_s)
        assert capture.status().error == (
            f"127.0.0.1:{peer.port} takes the connection and says nothing: restart the camera if that lasts"
        )
        began_s = time.perf_counter()
        capture.close()
        slowest_s = max(slowest_s, time.perf_counter() - began_s)
        assert slowest_s < 0.1  # 50 ms on a machine of its own
        assert capture.wait_closed(5)
        assert capture.look() is None
        capture.close()


def test_closing_while_connecting_leaves_nothing() -> None:
    files, pids = open_files(), capture_pids()
    with SilentPeer() as peer:
        for _ in range(5):
            with capturing(spec_of(f"rtsp://127.0.0.1:{peer.port}/cam")):
                wait_until(lambda: len(capture_pids()) > len(pids), 5, "no capture process")
    wait_until(lambda: open_files() == files, 5, "descriptors are left")
    assert capture_pids() == pids


def test_the_frame_that_ffmpeg_held_back_does_not_prolong_a_silence() -> None:
    """Its parser keeps one until the next begins, and hands it over when it gives up: it is as old as the silence."""
    with RtspServer(fps=10) as server:
        for _ in range(3):
            with capturing(spec_of(server.url, bus={"read_timeout_s": 2}), pace=QUICK) as capture:
                until(capture, is_state(CaptureState.LIVE))
                next_look(capture)
                server.stall()
                began_s = time.monotonic()
                until(capture, is_state(CaptureState.STALLED))
                assert time.monotonic() - began_s < 3.5
            server.go_on()


def test_mjpeg_has_no_clock_of_its_own_and_stalls_are_seen() -> None:
    bus = {"read_timeout_s": 0.5}
    with MjpegServer(size=(320, 240)) as server, capturing(spec_of(server.url, bus=bus), pace=QUICK) as capture:
        look = next_look(capture)
        assert look.stream_ns == 0
        assert look.canvas[50, 100].tolist() == pytest.approx([255, 0, 0], abs=6)
        assert look.canvas[50, 220].tolist() == pytest.approx([0, 0, 255], abs=6)
        assert look.thumbnail[20, 20] == pytest.approx(29, abs=4)  # blue, as grey
        assert capture.status().clock is StreamClock.NONE
        server.pause.set()
        began_s = time.monotonic()
        status = until(capture, is_state(CaptureState.STALLED))
        assert time.monotonic() - began_s < 2
        assert status.error == f"http://127.0.0.1:{server.port}/video.mjpg has sent no picture for 0.5 s"
        server.pause.clear()
        until(capture, is_state(CaptureState.LIVE))
        next_look(capture)


def test_another_resolution_in_mid_stream_keeps_fractions_true() -> None:
    """FFmpeg scales to the size that the connection began with, so what stands where stays."""
    with MjpegServer(size=(320, 240)) as server, capturing(spec_of(server.url), pace=QUICK) as capture:
        number = next_look(capture).number
        server.size = (640, 360)
        sent = server.sent
        wait_until(lambda: next_look(capture).number > number + 20, 10, "no more pictures")
        assert server.sent > sent
        look = next_look(capture)
        (left, top), middle = look.pad, CANVAS[0] // 2
        assert look.canvas[top + 50, left + 4 : middle - 4].mean(axis=0) == pytest.approx([255, 0, 0], abs=6)
        assert look.canvas[top + 50, middle + 4 : -left - 4].mean(axis=0) == pytest.approx([0, 0, 255], abs=6)
        assert capture.status().connections == 1
    with RtspServer(width=640, height=480) as camera, capturing(spec_of(camera.url), pace=QUICK) as capture:
        before = next_look(capture).canvas.copy()
        camera.resize(1280, 720)
        for _ in range(8):
            look = next_look(capture)
        assert np.abs(look.canvas[:120].astype(int) - before[:120]).mean() < 12
        assert capture.status().connections == 1


def test_a_picture_of_absurd_size_is_refused() -> None:
    with MjpegServer(size=(17_000, 64)) as server, capturing(spec_of(server.url), pace=QUICK) as capture:
        status = until(capture, is_state(CaptureState.AWAY))
        assert "sends pictures of 17000 x 64 pixels" in status.error
        assert status.connections == 0


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_file_plays_at_its_own_speed_over_and_over_with_masks(suffix: str, tmp_path: Path) -> None:
    video = make_video(tmp_path / f"street{suffix}", frames=20, fps=10)
    mask = [[0, 0], [0.25, 0], [0.25, 1], [0, 1]]
    with capturing(spec_of(str(video), fps=10, masks=[mask]), pace=QUICK) as capture:
        first = next_look(capture)
        left, width = first.pad[0], CANVAS[0] - 2 * first.pad[0]
        assert not first.canvas[:, left : left + width // 4].any()
        assert not first.thumbnail[:, :80].any()
        assert first.canvas[50, left + width // 4 + 4].tolist() == pytest.approx([255, 0, 0], abs=12)
        times = [first.time_ns, *(next_look(capture).time_ns for _ in range(24))]
        assert abs(np.median(np.diff(times)) / 1e6 - 100) < 10
        status = until(capture, lambda status: status.connections >= 2)
        assert (status.state, status.restarts, status.clock_jumps) == (CaptureState.LIVE, 0, 0)

"""`make demo`: it ends 0 with a closed ledger, and whichever process is killed, it reports and does not hang."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import ask
from vision_kit import eventually, states, status

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hardware_sim", "demo", "--seconds", str(seconds), "--folder", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pids(demo: subprocess.Popen[str]) -> dict[str, int]:
    """The processes that the demo names, once all three run."""
    found: dict[str, int] = {}
    assert demo.stdout is not None
    while len(found) < 3:
        line = demo.stdout.readline()
        assert line, "the demo ended before it had started"
        if match := re.match(r"\s+(\w+)\s+pid (\d+), log", line):
            found[match[1]] = int(match[2])
    return found


def test_the_ledger_closes(tmp_path: Path) -> None:
    said, _ = start(tmp_path / "demo", 15).communicate(timeout=120)
    assert "meter-1/voltage_l1" in said
    cameras = re.findall(r"camera-(\d): counted (\d+), truth (\d+) .*; saw (\d+\.\d)%", said)
    assert [number for number, *_ in cameras] == ["1", "2"], said
    for _, counted, truth, seen in cameras:
        assert abs(int(counted) - int(truth)) <= 3, said
        assert float(seen) > 50, said
    last = [line for line in said.splitlines() if line.startswith("ledger:")][-1]
    assert last.endswith("unexplained 0: closed"), said


def states_of(folder: Path) -> dict[str, str]:
    """What the running gateway says of its cameras; nothing while it does not answer yet."""
    return states(status(folder, "gateway")) if (folder / "gateway" / "status.sock").exists() else {}


def fault(folder: Path, kind: str, camera: str, seconds: int) -> None:
    answer = ask("weinao-sim", "fault", "sim.sock", kind, camera, "--seconds", str(seconds), folder=folder)
    assert answer.returncode == 0, answer


def test_a_stalled_and_a_frozen_camera_are_gaps_and_the_sensors_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo = start(folder, 80)
    pids(demo)
    eventually(lambda: states_of(folder) == {"camera-1": "ok", "camera-2": "ok"}, 30, "both are looked at")
    fault(folder, "frozen", "camera-2", 40)
    fault(folder, "stall", "camera-1", 15)
    stalled_s = eventually(lambda: states_of(folder)["camera-1"] in {"stalled", "away"}, 20, "the stall is found")
    frozen_s = eventually(lambda: states_of(folder)["camera-2"] == "frozen", 40, "the frozen picture is found")
    print(f"stalled after {stalled_s:.1f} s, frozen after {frozen_s + stalled_s:.1f} s")
    assert stalled_s <= 5
    assert stalled_s + frozen_s <= 30
    said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    gaps = dict(re.findall(r"(camera-\d): counted .*, (\d+) of \d+ intervals are gaps", said))
    assert int(gaps["camera-1"]) >= 5, said
    assert int(gaps["camera-2"]) >= 5, said
    for line in re.findall(r"^gw-demo/meter-1/.*$", said, re.MULTILINE):
        _, expected, stored, *_ = line.split()
        assert int(expected) - int(stored) <= 1, line
    last = [line for line in said.splitlines() if line.startswith("ledger:")][-1]
    assert last.endswith("unexplained 0: closed"), said


@pytest.mark.parametrize("victim", ["simulator", "cloud", "gateway"])
def test_a_killed_process_is_reported(tmp_path: Path, victim: str) -> None:
    demo = start(tmp_path / "demo", 60)
    running = pids(demo)
    subprocess.run(["kill", "-9", str(running[victim])], check=True)
    began_s = time.monotonic()
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert f"the demo stopped: {victim} was killed by signal {signal.SIGKILL.value}" in said
    assert time.monotonic() - began_s < 30
    for pid in running.values():
        assert not Path(f"/proc/{pid}").exists()

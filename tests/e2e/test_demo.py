"""`make demo`: it ends 0 with a closed ledger, and whichever process is killed, it reports and does not hang."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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

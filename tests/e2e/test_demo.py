"""`make demo`: it ends 0 with a closed ledger, and whichever process is killed, it reports and does not hang."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from programs import Program, ask
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


DOCUMENTED = re.compile(r"^(curl .*?)\s+# (\d{3})$", re.MULTILINE)
FROST = ROOT / "tests" / "frost_walk.py"


def test_the_hub_shows_each_department_what_it_may_see(tmp_path: Path) -> None:
    """After the demo: the lines of docs/hub.md as written, and FROST's client beside the ledger."""
    folder = tmp_path / "demo"
    said, _ = start(folder, 8).communicate(timeout=120)
    shell = {match[1]: match[2] for match in re.finditer(r"^\s+([A-Z]+)=(wn_\S+)", said, re.MULTILINE)}
    assert sorted(shell) == ["MUNICIPAL", "TRAFFIC", "WATER"], said
    address = re.findall(r"hub\s+(http://127.0.0.1:\d+)/docs", said)[0]
    command = ("weinao-cloud", "run", "cloud.yaml", "--ready-file", "again.ready")
    with Program(folder, "cloud-again", *command, ready=folder / "again.ready") as cloud:
        eventually(lambda: knows_all(address, shell["WATER"]), 20, "the hub knows the newest values")
        for line, status_code in documented(address):
            answer = subprocess.run(
                ["bash", "-c", f"{line} -o answer -w '%{{http_code}}'"],
                cwd=tmp_path, env={**os.environ, **shell}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert answer.stdout == status_code, (line, answer.stdout, answer.stderr)
        walked: dict[str, int] = {}
        for token in shell.values():
            walk = subprocess.run(
                [sys.executable, str(FROST), f"{address}/sensorthings/v1.1", token],
                capture_output=True,
                text=True,
                check=False,
            )
            assert walk.returncode == 0, walk.stderr
            walked |= json.loads(walk.stdout)["walked"]
        books = json.loads(ask("weinao-cloud", "ledger", "cloud.yaml", "--json", folder=folder).stdout)
        stored = {
            f"{row['gateway'].rpartition('/')[2]}/{row['device']}/{row['stream']}": row["stored"]
            for row in books["streams"]
        }
        assert walked == {name: stored[name] for name in walked}
        assert walked.keys() == stored.keys()
        print(f"frost-sta-client walked {sum(walked.values())} observations of {len(walked)} datastreams: the ledger's")
        assert cloud.stop() == 0


def documented(address: str) -> list[tuple[str, str]]:
    """The lines of docs/hub.md for the demo, and what each answers."""
    page = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
    block = page.split("```sh demo\n")[1].split("```")[0].replace("http://127.0.0.1:8470", address)
    names = "; ".join(line for line in block.splitlines() if re.match(r"[A-Z]+=", line))
    found = [(f"{names}; {line}", code) for line, code in DOCUMENTED.findall(block)]
    assert len(found) == block.count("\ncurl ")
    return found


def knows_all(address: str, token: str) -> bool:
    answer = httpx.get(f"{address}/api/v1/latest", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    return answer.status_code == 200 and answer.json()["total"] > 50

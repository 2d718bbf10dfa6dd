import contextlib
import csv
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware_sim import truth
from hardware_sim.cli import main
from hardware_sim.control import ask
from hardware_sim.world import World

SCENARIO = """\
seed: 42
start: 2026-03-01T06:00:00+08:00
ports:
  - name: tcp
    kind: modbus-tcp
    devices:
      - {name: meter, type: sdm630, unit: 1}
      - {name: counter, type: counter, unit: 2}
  - {name: dust, kind: serial, link: ttyDust, devices: [{name: dust-1, type: pms5003}]}
"""
PATIENCE_S = 15.0


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    return path


@contextlib.contextmanager
def simulator(folder: Path, scenario: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The real process, ready."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "hardware_sim", "run", str(scenario), "--ready-file", str(ready)]
    command += ["--run-dir", str(folder / "run"), "--truth", str(folder / "t.tsv"), "--control", str(folder / "c.sock")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready.exists():
            assert process.poll() is None, "it ended before it was ready"
            assert time.monotonic() < deadline, "it was not ready in time"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        yield process, json.loads(ready.read_text())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_counter(port: int) -> list[float]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 2, 3, 0, 100))
        data = connection.makefile("rb").read(209)
    return list(struct.unpack(">50f", data[9:]))


def test_the_process_says_where_serves_and_ends_on_sigterm_with_the_truth_whole(tmp_path: Path, scenario: Path) -> None:
    with simulator(tmp_path, scenario) as (process, ready):
        assert ready["pid"] == process.pid
        assert ready["ports"]["tcp"]["devices"]["counter"] == {"type": "counter", "unit": 2}
        assert Path(ready["ports"]["dust"]["path"]).is_symlink()
        got = [read_counter(ready["ports"]["tcp"]["port"]) for _ in range(20)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout is not None
        printed = process.stdout.read()
    assert f"127.0.0.1:{ready['ports']['tcp']['port']}" in printed
    served = [one for one in truth.responses(tmp_path / "t.tsv") if one.device == "counter"]
    values = [list(struct.unpack(">50f", struct.pack(">100H", *one.values))) for one in served]
    assert values == got
    assert not (tmp_path / "run" / "ttyDust").is_symlink()
    assert not (tmp_path / "c.sock").exists()


def test_a_fault_at_run_time_through_the_command(
    tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with simulator(tmp_path, scenario) as (_, ready):
        control = Path(ready["control"])
        port = ready["ports"]["tcp"]["port"]
        assert main(["fault", str(control), "exception", "counter"]) == 0
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
            connection.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 2, 3, 0, 100))
            assert connection.makefile("rb").read(9)[7:] == b"\x83\x04"
        assert ask(control, {"status": True})["devices"]["counter"]["faults"] == ["exception"]
        assert ask(control, {"clear": "counter"}) == {"ok": True}
        assert read_counter(port)[0] == 1000
        assert main(["fault", str(control), "exception", "dust-1"]) == 2
        assert main(["fault", str(control), "timeout", "nobody", "--seconds", "3"]) == 2
        said = capsys.readouterr().err
        assert "dust-1 is a pms5003: it cannot have the fault exception" in said
        assert "no device 'nobody', expected one of counter, dust-1, meter" in said
        for request in (
            {"fault": "flood", "device": "meter"},
            {"fault": "nan", "device": "meter", "second": 1},
            [1],
            {},
        ):
            reply = ask(control, request)  # type: ignore[arg-type]
            assert reply["ok"] is False
            assert reply["error"]
        assert ask(control, {"fault": "timeout", "device": "meter", "seconds": "5"})["ok"] is False


def test_it_ends_by_itself_when_told(tmp_path: Path, scenario: Path) -> None:
    with simulator(tmp_path, scenario, "--seconds", "0.3") as (process, _):
        assert process.wait(PATIENCE_S) == 0


def test_exit_codes(tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(SCENARIO.replace("sdm630", "sdm360"))
    assert main(["run", str(bad)]) == 2
    assert f"{bad}:7:29: ports[0].devices[0].type: found 'sdm360'" in capsys.readouterr().err
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
    assert main(["fault", str(tmp_path / "no.sock"), "timeout", "meter"]) == 1
    for wrong in ([], ["run"], ["run", str(scenario), "--seconds", "-1"], ["fault", "c.sock", "flood", "meter"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        scenario.write_text(
            SCENARIO.replace("kind: modbus-tcp", f"kind: modbus-tcp\n    port: {taken.getsockname()[1]}")
        )
        assert main(["run", str(scenario), "--run-dir", str(tmp_path / "run")]) == 1


def test_a_record_is_the_world_and_twice_the_same(tmp_path: Path, scenario: Path) -> None:
    for name in ("one.csv", "two.csv"):
        assert main(["record", str(scenario), "--hours", "1.5", "--interval", "2", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    with (tmp_path / "one.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2700
    assert not any(name.startswith("counter.") for name in rows[0])
    assert rows[0]["time"] == "2026-02-28T22:00:00.000Z"
    times_ns = np.array([int(row["time_ns"]) for row in rows])
    assert times_ns[0] == 1_772_316_000 * 10**9
    assert (np.diff(times_ns) == 2 * 10**9).all()
    sensed = World(42).meter(0).sense(times_ns / 1e9)
    volts = np.array([float(row["meter.voltage_l1"]) for row in rows])
    np.testing.assert_allclose(volts, sensed["voltage_l1"], atol=0.00051)


def test_a_record_of_some_devices_and_another_street(
    tmp_path: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "some.csv"
    command = ["record", str(scenario), "--hours", "0.01", "--out", str(out)]
    assert main([*command, "--devices", "dust-1"]) == 0
    first = out.read_text()
    assert first.startswith("time_ns,time,dust-1.pm1,")
    assert "meter" not in first
    assert main([*command, "--seed", "7", "--devices", "dust-1"]) == 0
    assert out.read_text() != first
    assert main([*command, "--devices", "counter"]) == 2
    assert "no device 'counter' to record" in capsys.readouterr().err

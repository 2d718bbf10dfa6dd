"""`weinao-gateway probe` on the demo street: what a technician reads when a device is dead and a register is wrong."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import Program, ask
from servers import free_port

pytestmark = [pytest.mark.e2e]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Path]:
    """The demo's simulated street and configuration, on ports of their own; a broker's port that listens."""
    port, mqtt = free_port(), free_port()
    scenario = (ROOT / "hardware-sim/scenarios/street.yaml").read_text(encoding="utf-8")
    (tmp_path / "street.yaml").write_text(scenario.replace("5020", str(port)), encoding="utf-8")
    config = (ROOT / "configs/demo/gateway.yaml").read_text(encoding="utf-8")
    config = config.replace("5020", str(port)).replace("18830", str(mqtt))
    (tmp_path / "gateway.yaml").write_text(config, encoding="utf-8")
    ready = tmp_path / "sim.json"
    arguments = ("weinao-sim", "run", "street.yaml", "--ready-file", "sim.json", "--run-dir", "run")
    with (
        socket.create_server(("127.0.0.1", mqtt)),
        Program(tmp_path, "simulator", *arguments, "--control", "sim.sock", ready=ready),
    ):
        yield tmp_path


def test_everything_answers(street: Path) -> None:
    answer = ask("weinao-gateway", "probe", "gateway.yaml", "--json", folder=street)
    report = json.loads(answer.stdout)
    assert answer.returncode == 0, report
    assert all(device["ok"] for device in report["devices"])
    assert {device["device"] for device in report["devices"]} >= {"meter-1", "climate-2", "dust-1", "weather-1"}


def test_a_dead_device_and_an_illegal_register_are_both_named(street: Path) -> None:
    config = (street / "gateway.yaml").read_text(encoding="utf-8")
    wrong = "          - {name: ghost, quantity: flow, unit: m3/h, table: holding, address: 4000}\n"
    marker = "          - {name: level, quantity: water_level"
    (street / "gateway.yaml").write_text(config.replace(marker, wrong + marker), encoding="utf-8")
    told = ask("weinao-sim", "fault", "sim.sock", "timeout", "climate-2", "--seconds", "60", folder=street)
    assert told.returncode == 0, told.stderr
    answer = ask("weinao-gateway", "probe", "gateway.yaml", folder=street)
    assert answer.returncode == 1, answer.stdout
    lines = answer.stdout.splitlines()
    assert any("climate-2" in line and "FAILED" in line for line in lines), answer.stdout
    assert any("climate-1" in line and "ok" in line for line in lines), answer.stdout
    assert any(line.startswith("climate-2:") and "unit 12" in line for line in lines), answer.stdout
    assert any(line.startswith("pump-1: ghost:") and "4000" in line for line in lines), answer.stdout


def test_what_cannot_be_reached_is_said_with_what_to_do(street: Path) -> None:
    config = (street / "gateway.yaml").read_text(encoding="utf-8")
    config = config.replace("serial_port: run/ttyDust", "serial_port: run/ttyNone")
    config = config.replace("    host: 127.0.0.1\n    port", "    host: cabinet.invalid\n    port")
    (street / "gateway.yaml").write_text(config, encoding="utf-8")
    answer = ask("weinao-gateway", "probe", "gateway.yaml", folder=street)
    assert answer.returncode == 1
    assert "cabinet.invalid" in answer.stdout
    assert "run/ttyNone" in answer.stdout
    assert "is the adapter plugged in?" in answer.stdout

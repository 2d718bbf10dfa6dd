"""The commands beside `run` and `probe`: what they print, what they exit with, and the same for machines."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import gateway
from contract import local_socket
from contract.errors import Fatal
from drivers.base import DriverRegistry
from drivers.registry import Registry
from edge import cli
from edge.config import GatewayConfig

CONFIG = """gateway: {id: gw-1, area: {city: ningbo, district: haishu, street: jiefang}}
mqtt: {host: 127.0.0.1, port: 1883}
outbox: {directory: outbox}
buses:
  - name: day
    driver: replay
    file: day.csv
    devices: [{name: meter, streams: [{name: power, quantity: power, unit: kW, column: power}]}]
"""
STATUS: dict[str, Any] = {
    "gateway": "gw-1",
    "uptime_s": 12.0,
    "clock": "trusted",
    "uplink": {"connected": True, "last_error": "", "acknowledged": 41, "retransmitted": 2},
    "outbox": {"frames": 3, "bytes": 1_500_000, "max_bytes": 536_870_912},
    "devices": [
        {"name": "meter", "state": "good", "success_percent": 99.5, "latency_p50_ms": 4.0, "last_good": "0.3 s ago"}
    ],
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "day.csv").write_text("time,power\n", encoding="ascii")
    (tmp_path / "gateway.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path / "gateway.yaml"


def typed(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments], Registry(), gateway.run)


async def asked(config: Path, answers: Mapping[str, Any], *arguments: str) -> int:
    """A command beside a running gateway that answers so."""
    handlers = {name: lambda _, answer=answer: answer for name, answer in answers.items()}
    async with local_socket.serve(config.parent / "outbox" / "status.sock", handlers):
        return await asyncio.to_thread(typed, arguments[0], config, *arguments[1:])


def test_check_says_what_was_understood_and_what_to_do_next(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("check", config) == 0
    said = capsys.readouterr().out
    assert "fine. Gateway gw-1 in ningbo / haishu / jiefang" in said
    assert "bus day (replay): 1 streams of meter" in said
    assert f"Next: weinao-gateway probe {config}" in said


def test_check_for_machines(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("check", config, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "gateway": "gw-1",
        "buses": 1,
        "devices": 1,
        "streams": 1,
    }


def test_check_touches_nothing(config: Path) -> None:
    before = sorted(config.parent.rglob("*"))
    assert typed("check", config) == 0
    assert sorted(config.parent.rglob("*")) == before


def test_status_when_nothing_runs_says_how_to_start_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("status", config) == 1
    said = capsys.readouterr()
    assert "the gateway is not running" in said.out
    assert f"Start it: weinao-gateway run {config}" in said.out
    assert "Traceback" not in said.err


def test_status_when_nothing_runs_for_machines(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("status", config, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["running"], answer["ok"]) == (False, False)


async def test_status_of_a_healthy_gateway(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await asked(config, {"status": STATUS}, "status") == 0
    said = capsys.readouterr().out
    assert "gateway gw-1, up 12 s, clock trusted" in said
    assert "uplink connected; 41 frames acknowledged, 2 sent again" in said
    assert "outbox 3 frames, 1.5 of 537 MB" in said
    assert "99.5" in said
    assert "None" not in said


async def test_status_shows_what_cameras_see(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = {"state": "ok", "error": "", "fps": 4.97, "inference_ms": 3.1, "dropped": 2, "connections": 1, "restarts": 0}
    cameras = {"junction": {**seen, "last_frame_ago_s": 0.1}}
    assert await asked(config, {"status": {**STATUS, "cameras": cameras}}, "status") == 0
    said = capsys.readouterr().out
    assert "junction" in said
    assert "4.97" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cameras": {"junction": {"state": "unwatched", "error": "the worker ended"}}}, "the worker ended"),
        ({"cameras": {"junction": {"state": "frozen", "error": ""}}}, "frozen"),
        ({"uplink": {**STATUS["uplink"], "connected": False, "last_error": "refused"}}, "NOT connected (refused)"),
        (
            {"devices": [{"name": "meter", "state": "backing off", "reason": "timeout", "last_error": "no answer"}]},
            "backing off, timeout",
        ),
    ],
)
async def test_status_exits_1_when_something_is_wrong_out_there(
    config: Path, changes: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asked(config, {"status": {**STATUS, **changes}}, "status") == 1
    assert words in capsys.readouterr().out
    assert await asked(config, {"status": {**STATUS, **changes}}, "status", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["running"], answer["ok"], answer["gateway"]) == (True, False, "gw-1")


async def test_outbox_of_a_running_gateway(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await asked(config, {"outbox": {"frames": 3, "thinned_readings": 0}}, "outbox") == 0
    assert "thinned readings         0" in capsys.readouterr().out
    assert await asked(config, {"outbox": {"frames": 3}}, "outbox", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"running": True, "frames": 3}


def test_outbox_when_nothing_runs_looks_at_the_folder(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("outbox", config, "--json") == 0
    folder = config.parent / "outbox"
    assert json.loads(capsys.readouterr().out) == {"running": False, "directory": str(folder), "bytes": 0}
    (folder / "births").mkdir(parents=True)
    (folder / "births" / "1.json").write_bytes(b"x" * 700)
    (folder / "gone").symlink_to(folder / "nowhere")
    assert typed("outbox", config, "--json") == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 700


def test_profiles_name_the_product_and_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("profiles") == 0
    said = capsys.readouterr().out
    assert "eastron-sdm630" in said
    assert typed("profiles", "--json") == 0
    found = {profile["name"]: profile for profile in json.loads(capsys.readouterr().out)}
    assert found["eastron-sdm630"]["driver"] == "modbus"
    assert found["eastron-sdm630"]["streams"] > 10
    assert all(profile["document"] for profile in found.values())


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Fatal("the disk fails"), 1, "stopped: the disk fails"),
        (OSError(28, "No space left on device"), 1, "stopped: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_run_ends_with_a_sentence_and_an_exit_code(
    config: Path, error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_config: GatewayConfig, _registry: DriverRegistry) -> int:
        raise error

    assert cli.main(["run", str(config)], Registry(), run) == code
    assert words in capsys.readouterr().err

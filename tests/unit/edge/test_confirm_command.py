"""`weinao-gateway confirm`: what it asks the running gateway, what it prints, what it exits with."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import gateway
from contract import local_socket
from drivers.registry import Registry
from edge import cli, config

CONFIG = """gateway: {id: gw-1, area: {city: ningbo, district: haishu, street: jiefang}}
mqtt: {host: 127.0.0.1, port: 1883}
outbox: {directory: outbox}
buses:
  - name: eyes-1
    driver: camera
    source: rtsp://192.0.2.1/stream2
    devices: [{name: junction, detector: street-small, lines: [{name: stop, a: [0.1, 0.6], b: [0.9, 0.6]}]}]
"""
Asked = list[dict[str, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "gateway.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path / "gateway.yaml"


def typed(path: Path, *arguments: str) -> int:
    return cli.main(["confirm", str(path), *arguments], Registry(), gateway.run)


def taken(asked: Asked) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
    async def confirm(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        if request["anyway"]:
            raise ValueError("its picture is black just now: confirm when the street is to be seen")
        return {"camera": request["camera"], "learn_s": 30.0}

    return confirm


async def beside(path: Path, asked: Asked, *arguments: str) -> int:
    """The command beside a running gateway."""
    async with local_socket.serve(path.parent / "outbox" / "status.sock", {"confirm": taken(asked)}):
        return await asyncio.to_thread(typed, path, *arguments)


async def test_a_confirmed_view_and_what_comes_next(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: Asked = []
    assert await beside(path, asked, "junction") == 0
    said = capsys.readouterr().out
    assert "junction: confirmed" in said
    assert "learned for 30 s" in said
    assert f"weinao-gateway status {path}" in said
    calibration = config.load(path, Registry()).buses[0].devices[0].calibration  # type: ignore[attr-defined]
    assert asked == [{"camera": "junction", "calibration": calibration, "anyway": False}]
    assert await beside(path, asked, "eyes-1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"confirmed": True, "camera": "junction", "learn_s": 30.0}


async def test_a_refusal_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await beside(path, [], "junction", "--anyway") == 1
    assert "junction: NOT confirmed: its picture is black just now" in capsys.readouterr().out
    assert await beside(path, [], "junction", "--anyway", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["confirmed"], answer["problem"][:20]) == (False, "its picture is black")


def test_without_a_gateway_it_says_how_to_start_one(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(path, "junction") == 1
    said = capsys.readouterr().out
    assert "NOT confirmed: the gateway is not running" in said
    assert f"weinao-gateway run {path}" in said


def test_a_camera_that_is_not_in_the_configuration_is_the_arguments_fault(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(path, "juction") == 2
    assert "there is no camera 'juction'; cameras: junction" in capsys.readouterr().err


async def test_a_gateway_of_an_older_version_is_an_answer_too(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with local_socket.serve(path.parent / "outbox" / "status.sock", {"status": lambda _: {}}):
        assert await asyncio.to_thread(typed, path, "junction") == 1
    assert "NOT confirmed: expected a JSON line with 'request', one of: status" in capsys.readouterr().out

"""The local socket: what a command asks and a running process answers."""

import asyncio
import stat
from pathlib import Path

import pytest

from contract.local_socket import NobodyThere, ask, serve


def _refuse(_: dict[str, object]) -> dict[str, object]:
    raise ValueError("no stream of that name")


async def _slowly(request: dict[str, object]) -> dict[str, object]:
    await asyncio.sleep(0)
    if "name" not in request:
        raise ValueError("whose?")
    return {"of": request["name"]}


async def test_an_answer_may_take_its_time_and_be_no(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    async with serve(path, {"slow": _slowly}):
        assert await asyncio.to_thread(ask, path, "slow", name="a") == {"of": "a"}
        with pytest.raises(ValueError, match="whose"):
            await asyncio.to_thread(ask, path, "slow")


async def test_answers_and_keeps_others_out(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    async with serve(path, {"echo": lambda request: {"got": request}, "refuse": _refuse}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asyncio.to_thread(ask, path, "echo", stream="a") == {"got": {"stream": "a"}}
        with pytest.raises(ValueError, match="no stream of that name"):
            await asyncio.to_thread(ask, path, "refuse")
        with pytest.raises(ValueError, match="echo, refuse"):
            await asyncio.to_thread(ask, path, "unknown")
    assert not path.exists()


async def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 60) / ("e" * 60) / "status.sock"
    async with serve(path, {"echo": lambda _: {"fine": True}}):
        assert await asyncio.to_thread(ask, path, "echo") == {"fine": True}


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"[" * 60_000 + b"\n", b"\xff\xfe\n", b'{"request": 3}\n'])
async def test_nonsense_is_answered_not_obeyed(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "s.sock"
    async with serve(path, {"echo": lambda _: {}}):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        assert b"error" in await reader.readline()
        writer.close()


def test_nobody_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(NobodyThere, match="is it running"):
        ask(tmp_path / "missing.sock", "status")

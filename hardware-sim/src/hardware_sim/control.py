"""Faults on demand: a unix socket that takes one JSON object a line and answers each with one line.

    {"fault": "timeout", "device": "meter-1", "seconds": 5}     seconds left out: until cleared
                                                                also "code", "delay_s", "drift", "grade", see faults.py
    {"clear": "meter-1"}
    {"status": true}

Answers: {"ok": true}, with "devices" for status; or {"ok": false, "error": "..."}.
"""

import asyncio
import contextlib
import json
import math
import socket
from pathlib import Path
from typing import Any, Self

from hardware_sim.faults import Fault, Kind
from hardware_sim.simulator import RequestError, Simulator

MAX_LINE_BYTES = 4096


class Control:
    """The socket, for as long as the `async with`. Raises OSError when it cannot be made."""

    def __init__(self, path: Path, simulator: Simulator) -> None:
        self._path = path
        self._simulator = simulator
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._reply(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):
            pass  # a line too long, or the asker has gone: either way there is nobody to answer
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **self._obey(json.loads(line))}
        except (RequestError, ValueError) as error:
            return {"ok": False, "error": str(error)}

    def _obey(self, request: Any) -> dict[str, Any]:
        match request:
            case {"status": True}:
                return {"devices": self._simulator.status()}
            case {"clear": str(device)}:
                self._simulator.clear(device)
            case {"fault": str(kind), "device": str(device), **rest}:
                seconds = _number(rest, "seconds", math.inf)
                fault = Fault(
                    _kind(kind),
                    code=int(_number(rest, "code", 4)) & 0xFF,
                    delay_s=_number(rest, "delay_s", 2.0),
                    drift=_number(rest, "drift", 0.01),
                    grade=_grade(rest),
                )
                if rest:
                    raise RequestError(f"unknown key {next(iter(rest))!r}")
                self._simulator.inject(device, fault, seconds)
            case _:
                raise RequestError("expected a JSON object with one of: fault and device, clear, status")
        return {}


def _kind(text: str) -> Kind:
    if text not in set(Kind):
        raise RequestError(f"no fault {text!r}, expected one of {', '.join(kind.value for kind in Kind)}")
    return Kind(text)


def _number(rest: dict[Any, Any], key: str, default: float) -> float:
    """Take a number out of a request."""
    value = rest.pop(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise RequestError(f"{key}: expected a number, found {value!r}")
    return float(value)


def _grade(rest: dict[Any, Any]) -> int:
    grade = _number(rest, "grade", 2)
    if grade not in {1, 2, 3}:
        raise RequestError(f"grade: expected 1, 2 or 3, found {grade:g}")
    return int(grade)


def ask(path: Path, request: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request and return the answer. For the command line and for tests. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as file:
            reply = json.loads(file.readline() or b"null")
    if not isinstance(reply, dict):
        raise ConnectionError(f"{path} gave no answer")
    return reply

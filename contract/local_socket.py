"""How a command asks the process that runs on the same machine: one JSON line there, one back, over a Unix socket.

Used by `weinao-gateway status | outbox | confirm` and `weinao-cloud ledger`. The socket's mode is its access control;
nothing here listens on a network.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from contract.errors import WeinaoError

log = logging.getLogger(__name__)

MAX_ADDRESS_BYTES = 100
MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 64 * 1024 * 1024
Answer = dict[str, Any]
Handler = Callable[[Answer], Answer | Awaitable[Answer]]


class NobodyThere(WeinaoError):
    """No process answers on the socket."""


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name for the socket that fits into the kernel's 108 bytes, however deep its folder lies."""
    if len(os.fsencode(path)) < MAX_ADDRESS_BYTES:
        yield os.fspath(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@contextlib.asynccontextmanager
async def serve(path: Path, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answer requests at `path` (mode 0600) while the context lasts. A handler's ValueError is told to the asker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), timeout=10)
            writer.write(json.dumps(await _answer(line, handlers), default=str).encode() + b"\n")
            await asyncio.wait_for(writer.drain(), timeout=30)
        except (TimeoutError, ConnectionError, ValueError):
            log.debug("a local request was cut short")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    with _address(path) as address:
        server = await asyncio.start_unix_server(answer, address, limit=MAX_REQUEST_BYTES)
    path.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def _answer(line: bytes, handlers: Mapping[str, Handler]) -> Answer:
    try:
        request = json.loads(line)
        handler = handlers[request.pop("request")]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {"error": f"expected a JSON line with 'request', one of: {', '.join(sorted(handlers))}"}
    try:
        answer = handler(request)
        return answer if isinstance(answer, dict) else await answer
    except ValueError as error:
        return {"error": str(error)}


def ask(path: Path, request: str, *, timeout_s: float = 10, **arguments: object) -> Answer:
    """The running process's answer. Raises NobodyThere, or ValueError with the process's own words."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout_s)
        try:
            with _address(path) as address:
                link.connect(address)
            link.sendall(json.dumps({"request": request, **arguments}).encode() + b"\n")
            with link.makefile("rb") as stream:
                line = stream.readline(MAX_REPLY_BYTES)
        except OSError as error:
            raise NobodyThere(f"nothing answers at {path}: is it running? ({error.strerror or error})") from None
    if not line:
        raise NobodyThere(f"{path}: the process went away before it answered")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise NobodyThere(f"{path}: not our process")
    if "error" in answer:
        raise ValueError(str(answer["error"]))
    return answer

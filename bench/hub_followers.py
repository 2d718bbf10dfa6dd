"""Live clients of the hub's benchmark, many in one process: URL TOKEN COUNT PART FILE. Ends when its input does.

A client follows one gateway's device, so that most clients ask for something of their own. Sockets and a minimum of
parsing: the clients shall not cost what is measured. FILE gets how late each reading came, from its event's `seen`.
"""

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

GATEWAYS, DEVICES = 200, 10
SEEN = b'"seen": "'


async def follow(host: str, port: int, token: str, number: int, late_ms: list[float], others: list[int]) -> None:
    """One client, until cancelled."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    device = number // GATEWAYS % DEVICES
    path = f"/api/v1/live?gateway=gw{number % GATEWAYS:03}&device=dev{device}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    try:
        while line := await reader.readline():
            if line.startswith(b"data:") and SEEN in line:
                text = line.split(SEEN)[1][:30].decode()
                late_ms.append((time.time() - seconds(text)) * 1e3)
            elif line.startswith(b"event:") and b"reading" not in line:
                others[0] += 1
    finally:
        writer.close()


def seconds(text: str) -> float:
    """Of an RFC 3339 time of today: hours, minutes and seconds are enough."""
    day = int(time.time() // 86_400) * 86_400
    return day + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + float(text[17:29])


async def main() -> None:
    """All clients of this process."""
    url, token, count, part, file = sys.argv[1:]
    address = urlsplit(url)
    late_ms: list[float] = []
    others = [0]
    first = int(part) * int(count)
    tasks = [
        asyncio.create_task(follow(str(address.hostname), int(address.port or 80), token, first + at, late_ms, others))
        for at in range(int(count))
    ]
    await asyncio.to_thread(sys.stdin.readline)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(Path(file).write_text, json.dumps({"late_ms": late_ms, "others": others[0]}), "utf-8")


if __name__ == "__main__":
    asyncio.run(main())

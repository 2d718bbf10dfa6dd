"""Two hundred clients of a hub's live stream in one process, as EventSource would be: they come back with the last id.

argv: URL of the hub, a token, a file with one stream id a line (a client each), a folder. Each client appends what it
gets to `FOLDER/N.log`, a line `id time` a reading, and whatever else it is told as `! event data`. Ends on SIGTERM.
"""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

import httpx

PATIENCE_S = 40.0


async def follow(client: httpx.AsyncClient, stream: str, log: Path) -> None:
    """One client, until cancelled."""
    last = ""
    with log.open("a", encoding="utf-8", buffering=1) as out:
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            with contextlib.suppress(httpx.HTTPError):
                async with client.stream(
                    "GET", f"/api/v1/live?stream={quote(stream, safe='')}", headers=headers
                ) as got:
                    if got.status_code != 200:
                        print(f"! status {got.status_code}", file=out)
                    else:
                        last = await read(got, last, out)
            await asyncio.sleep(0.3)


async def read(got: httpx.Response, last: str, out: TextIO) -> str:
    """The events of one connection; the id of the last one."""
    event, number, data = "message", "", ""
    try:
        async for line in got.aiter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                event = value
            elif key == "id":
                number = value
            elif key == "data":
                data = value
            elif not line and data:
                if event == "reading":
                    last = number
                    print(f"{number} {json.loads(data)['time']}", file=out)
                else:
                    print(f"! {event} {data}", file=out)
                event, data = "message", ""
    except httpx.HTTPError:
        return last
    return last


async def main() -> None:
    """All clients, until SIGTERM."""
    url, token, streams, folder = sys.argv[1:]
    limits = httpx.Limits(max_connections=None)
    timeout = httpx.Timeout(PATIENCE_S, connect=5)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=timeout) as client:
        names = Path(streams).read_text(encoding="utf-8").split("\n")
        tasks = [asyncio.create_task(follow(client, name, Path(folder) / f"{n}.log")) for n, name in enumerate(names)]
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: [task.cancel() for task in tasks])
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())

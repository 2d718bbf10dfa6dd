"""The process that the kill test kills: a zygote that forks workers which append as fast as they can.

Run as `python outbox_child.py DIRECTORY`. For each line on stdin, a worker is forked, opens the outbox, and writes to
stdout, unbuffered: `pid N`, then one durable sequence a line. When it is dead, `dead`. Forking spares a hundred
interpreter starts; the worker is a process of its own all the same, and SIGKILL takes it whole.
"""

import asyncio
import os
import sys
from pathlib import Path

from outbox_kit import make_frame

from edge.outbox import Outbox

APPENDERS = 4


def say(line: str) -> None:
    """One write each: a killed process leaves no half line."""
    os.write(1, f"{line}\n".encode())


async def work(directory: Path, boot: int) -> None:
    """Append until killed."""
    outbox = Outbox.open(
        directory, max_bytes=64 << 20, segment_bytes=64 << 10, min_free_bytes=0, state=lambda: b"books" * 100
    )
    frames = [make_frame(number, rows=40, boot=boot, noisy=True) for number in range(8)]
    say(f"pid {os.getpid()}")

    async def append_for_ever() -> None:
        while True:
            for sequence in await outbox.append(frames[:2]):
                say(str(sequence))

    async with asyncio.TaskGroup() as group:
        for _ in range(APPENDERS):
            group.create_task(append_for_ever())


def main() -> None:
    """One worker a line."""
    for boot, _ in enumerate(sys.stdin, start=1):
        worker = os.fork()
        if worker == 0:
            asyncio.run(work(Path(sys.argv[1]), boot))
        os.waitpid(worker, 0)
        say("dead")


if __name__ == "__main__":
    main()

"""The dead letters: frames that the cloud will never take, and damaged bytes, kept for whoever wants to know why.

One JSON file each, in `dead-letters/`, named by sequence:

    {"sequence": 42, "boot": 123, "reason": "...", "frame": "<base64>"}

A letter is durable before the frame leaves the outbox. The folder has a byte budget; beyond it the oldest letter is
dropped and counted.
"""

import base64
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from edge.outbox_disk import Disk, no_room, on_disk

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Letter:
    """One frame, or damaged bytes. `sequence` and `boot` are None where damage took them. `name` is unique."""

    name: str
    sequence: int | None
    boot: int | None
    reason: str
    data: bytes


class DeadLetters:
    """The folder. Used by one thread at a time; the counts may be read by any."""

    def __init__(self, directory: Path, max_bytes: int, disk: Disk) -> None:
        self.dropped = 0
        self.max_bytes = max_bytes
        self._directory = directory / "dead-letters"
        self._disk = disk
        self._directory.mkdir(mode=0o700, exist_ok=True)
        letters = sorted(path for path in self._directory.iterdir() if path.suffix == ".json")
        self._sizes = {path.name: on_disk(path.stat().st_size) for path in letters}
        self._total = sum(self._sizes.values())
        for passing in self._directory.glob("*.new"):
            disk.remove(passing)

    def __len__(self) -> int:
        return len(self._sizes)

    def bytes(self) -> int:
        """What the folder occupies."""
        return self._total

    def add(self, letter: Letter) -> None:
        """Keep a letter, durably; drops older ones, or this one, where budget or disk say so. Raises OSError."""
        body = json.dumps(
            {
                "sequence": letter.sequence,
                "boot": letter.boot,
                "reason": letter.reason,
                "frame": base64.b64encode(letter.data).decode(),
            }
        ).encode()
        name = f"{letter.name}.json"
        size = on_disk(len(body))
        if size > self.max_bytes:
            self._lost(letter, "it is larger than their budget")
            return
        self._total -= self._sizes.pop(name, 0)
        while self._sizes and self._total + size > self.max_bytes:
            self._drop_oldest()
        while True:
            try:
                self._disk.write_file(self._directory / name, body)
            except OSError as error:
                if not no_room(error):
                    raise
                if not self._sizes:
                    self._lost(letter, "the disk is full")
                    return
                self._drop_oldest()
            else:
                self._sizes[name] = size
                self._total += size
                return

    def _drop_oldest(self) -> None:
        name = next(iter(self._sizes))
        self._disk.remove(self._directory / name)
        self._total -= self._sizes.pop(name)
        self.dropped += 1

    def _lost(self, letter: Letter, why: str) -> None:
        self.dropped += 1
        log.error("dead letter %s (%s) cannot be kept: %s", letter.name, letter.reason, why)

"""Small files that must survive beside the frames: births, without which queued frames mean nothing, and notes.

Each is replaced whole: written under another name, synced, renamed, the folder synced.
"""

import re
from pathlib import Path

from edge.outbox_disk import Disk
from edge.outbox_index import Index

_NOTE = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class KeyFiles:
    """The part of the outbox that keeps births by epoch and notes by name. Blocks for two syncs when it saves."""

    def __init__(self, directory: Path, disk: Disk, index: Index) -> None:
        self._births = directory / "births"
        self._notes = directory / "notes"
        self._files_disk = disk
        self._index = index
        for folder in (self._births, self._notes):
            folder.mkdir(mode=0o700, exist_ok=True)
            for passing in folder.glob("*.new"):
                disk.remove(passing)
        disk.sync_directory(directory)

    def save_birth(self, epoch: int, data: bytes) -> None:
        """Keep the catalogue in force, durably; forget those that no queued frame refers to. Raises OSError."""
        path = self._birth_path(epoch)
        if self.birth(epoch) != data:
            self._files_disk.write_file(path, data)
        needed = {self._birth_path(used).name for used in self.epochs()} | {path.name}
        for found in self._births.iterdir():
            if found.name not in needed:
                self._files_disk.remove(found)

    def epochs(self) -> set[int]:
        """The catalogues that waiting frames refer to."""
        with self._index.lock:
            return self._index.epochs()

    def birth(self, epoch: int) -> bytes | None:
        """The catalogue of this epoch, or None."""
        return _read(self._birth_path(epoch))

    def save_note(self, name: str, data: bytes) -> None:
        """Keep a value under `name` (lower-case letters, digits, - and _), durably. Raises OSError, ValueError."""
        self._files_disk.write_file(self._note_path(name), data)

    def load_note(self, name: str) -> bytes | None:
        """What was last saved under `name`, or None. Raises ValueError for a name that cannot be."""
        return _read(self._note_path(name))

    def _birth_path(self, epoch: int) -> Path:
        return self._births / f"{epoch:08x}.json"

    def _note_path(self, name: str) -> Path:
        if not _NOTE.fullmatch(name):
            raise ValueError(f"not a note's name: {name!r}")
        return self._notes / name


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None

"""The few things the outbox asks of a file system, in one small class.

Everything that can meet a full or a failing disk goes through here, so that a test can stand a disk of 40 KiB in its
place. Nothing is retried: an error is told once, as OSError, and whoever asked knows what it means.
"""

import errno
import os
from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def no_room(error: OSError) -> bool:
    """Whether the disk, or our quota of it, is full: the one failure that making room cures."""
    return error.errno in _NO_ROOM


class Disk:
    """A directory's disk. Files are 0600; offsets and sizes are bytes; every method raises OSError."""

    def create(self, path: Path) -> int:
        """A new, empty file for writing, as a descriptor. An old file of that name is emptied."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """All of `data` at `offset`. After an error some of it may stand there: truncate."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(descriptor, rest, offset)
            offset += written
            rest = rest[written:]

    def sync(self, descriptor: int) -> None:
        """Returns when the file's bytes and length survive a power cut."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file off at `size`."""
        os.ftruncate(descriptor, size)

    def replace(self, source: Path, target: Path) -> None:
        """Rename over `target`, atomically and durably."""
        source.replace(target)
        self.sync_directory(target.parent)

    def remove(self, path: Path) -> None:
        """Delete the file if it is there. Not durable by itself: a deleted file may come back after a power cut."""
        path.unlink(missing_ok=True)

    def sync_directory(self, directory: Path) -> None:
        """Returns when created and renamed files of the directory survive a power cut."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, directory: Path) -> int:
        """What an ordinary process may still write."""
        numbers = os.statvfs(directory)
        return numbers.f_bavail * numbers.f_frsize

    def allocate(self, path: Path, size: int) -> None:
        """A file that really holds `size` bytes of disk, whatever comes after."""
        descriptor = self.create(path)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)

    def write_file(self, path: Path, data: bytes) -> None:
        """A whole small file, atomically and durably: the old content or the new one, never a mixture."""
        passing = path.with_name(path.name + ".new")
        try:
            descriptor = self.create(passing)
            try:
                self.write(descriptor, data, 0)
                self.sync(descriptor)
            finally:
                os.close(descriptor)
            self.replace(passing, path)
        except OSError:
            self.remove(passing)
            raise


def read_at(path: Path, offset: int, length: int) -> bytes:
    """`length` bytes at `offset`; fewer where the file ends. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def on_disk(size: int) -> int:
    """What a file of `size` bytes occupies: whole blocks of 4 KiB, as on every file system a gateway has."""
    return -(-size // 4096) * 4096


class Reserve:
    """A file that holds disk space back, so that there is room to rewrite a segment on a disk that is full."""

    def __init__(self, directory: Path, size: int, disk: Disk) -> None:
        self.size = size
        self.held_bytes = 0
        self._path = directory / "reserve"
        self._disk = disk

    def establish(self) -> bool:
        """Hold the space, unless it is held already. False when the disk has not that much left."""
        try:
            if self._path.stat().st_size == self.size:
                self.held_bytes = self.size
                return True
        except FileNotFoundError:
            pass
        try:
            self._disk.allocate(self._path, self.size)
        except OSError as error:
            if not no_room(error):
                raise
            self._disk.remove(self._path)
            return False
        self.held_bytes = self.size
        return True

    def release(self) -> None:
        """Give the space to whoever writes next."""
        self._disk.remove(self._path)
        self.held_bytes = 0

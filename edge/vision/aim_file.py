"""Why: a picture of a street must not stay on a disk because the process that put it there was killed.

The file is made anew with mode 0600, never over another one, and replaced as a whole. A guard process waits for the
end of a pipe, which the kernel closes however its owner ends, and then removes what is left.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from contract.errors import ConfigError

_GUARD = (
    "import os, signal, sys\n"
    "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    "print(flush=True)\n"
    "sys.stdin.read()\n"
    "for name in sys.argv[1:]:\n"
    "    try:\n"
    "        os.unlink(name)\n"
    "    except OSError:\n"
    "        pass\n"
)


class PictureFile:
    """A JPEG that is there as long as its owner. Raises ConfigError when the path is taken, OSError."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - links are not followed
        self._part = self._path.with_name(self._path.name + ".part")
        for one in (self._path, self._part):
            if os.path.lexists(one):
                raise ConfigError([f"{one}: is there already; expected a new name, because it is removed at the end"])
        self._guard = subprocess.Popen(  # noqa: S603 - fixed arguments
            [sys.executable, "-I", "-S", "-c", _GUARD, str(self._part), str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._guard.stdin is not None and self._guard.stdout is not None  # noqa: S101, PT018 - PIPE says so
        self._guard.stdout.readline()

    def write(self, jpeg: bytes) -> None:
        """Replace the picture. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self._part.unlink()
        with os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(jpeg)
        self._part.replace(self._path)

    def close(self) -> None:
        """Remove it."""
        self._guard.communicate()

"""The product's real programs as child processes: started with the commands people type, killed as the world kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

BIN = Path(sys.executable).parent
START_S = 30.0


class Program:
    """One process. A context manager: ended, by force if need be, on exit."""

    def __init__(self, folder: Path, name: str, *arguments: str, ready: Path | None = None) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._command = [str(BIN / arguments[0]), *arguments[1:]]
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.kill()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; it must have been started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        assert not self.alive, f"{self.name} runs already"
        if self._ready is not None:
            self._ready.unlink(missing_ok=True)
        with self.log.open("ab") as words:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        if self._ready is not None:
            ready = self._ready
            self.wait_for(ready.exists, START_S, "ready")

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until `condition()`; fails with the log's end when it does not come or the process ends."""
        deadline_s = time.monotonic() + seconds
        while not condition():
            assert self.alive, f"{self.name} ended instead of being {what}:\n{self.words()}"
            assert time.monotonic() < deadline_s, f"{self.name} is not {what} after {seconds} s:\n{self.words()}"
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM, and its exit code; fails when it does not stop in time."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {seconds} s:\n{self.words()}") from None

    def words(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def ask(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One short command, with what it printed."""
    command = [str(BIN / arguments[0]), *arguments[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)

"""The keeper's end of a capture process: start it, hear what it says, end it for certain.

What the process says is not believed more than what a camera sends: lines are short, few and checked.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drivers.camera_order import Order, environment

MAX_LINE_BYTES = 4096
READ_BYTES = 16 * 1024
MAX_ERROR_CHARS = 300
POLITE_S = 0.6
_ROOT = str(Path(__file__).resolve().parents[1])
_WORDS = {"live", "stalled", "away", "broken"}


@dataclass(frozen=True, slots=True)
class Word:
    """What a capture process said. wait_s: how long it waits before its next attempt."""

    say: Literal["live", "stalled", "away", "broken"]
    error: str = ""
    wait_s: float = 0.0
    password: bool = False


class ChildFailedError(Exception):
    """A capture process must be replaced; the text says why."""


class Child:
    """One capture process. Raises OSError when it cannot be started."""

    def __init__(self, order: Order, python: str = sys.executable) -> None:
        self._secret = order.password
        self._rest = b""
        # A session of its own: Ctrl-C in a terminal is the gateway's to handle.
        self._process = subprocess.Popen(  # noqa: S603 - fixed arguments
            [python, "-P", "-m", "drivers.camera_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(order, _ROOT),
            pass_fds=(order.memory, order.bell),
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 - PIPE says so
        self._orders, self._words = self._process.stdin, self._process.stdout
        os.set_blocking(self._words.fileno(), False)
        os.set_blocking(self._orders.fileno(), False)  # one that never reads must not hold us up
        line = order.as_json()
        try:
            written = self._orders.write(line)
        except BrokenPipeError:
            return  # it is dead already, which shows when its words end
        if written != len(line):
            self.end(polite=False)
            raise OSError(errno.ENOBUFS, "its order does not fit into a pipe")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Readable when it said something, or ended."""
        return self._words.fileno()

    def words(self) -> list[Word] | None:
        """What it said since the last call; None when it has ended. Raises ChildFailedError for nonsense."""
        try:
            data = os.read(self._words.fileno(), READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ChildFailedError("the capture process said a line without end")
        return [self._word(line) for line in lines]

    def end(self, *, polite: bool) -> int:
        """End it, whatever it is doing, and free everything. polite: it may say goodbye to its camera first.

        Its exit status, negative for a signal.
        """
        self._orders.close()
        try:
            if not polite:
                self._process.kill()
            self._process.wait(POLITE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()
        return self._process.returncode

    def how_it_ended(self) -> str:
        """In words, for a process whose end nobody wanted."""
        status = self._process.returncode
        if status is not None and status < 0:
            with contextlib.suppress(ValueError):
                return f"the capture process was ended by {signal.Signals(-status).name}"
        return f"the capture process ended by itself, status {status}"

    def _word(self, line: bytes) -> Word:
        try:
            said = json.loads(line[:MAX_LINE_BYTES])
        except ValueError:
            raise ChildFailedError("the capture process said what is no JSON") from None
        if not isinstance(said, dict) or said.get("say") not in _WORDS:
            raise ChildFailedError("the capture process said an unknown word")
        wait_s = said.get("wait_s", 0.0)
        if not isinstance(wait_s, float | int) or not 0 <= wait_s <= 3600:
            raise ChildFailedError("the capture process said an impossible wait")
        return Word(said["say"], self._cleaned(str(said.get("error", ""))), float(wait_s), said.get("password") is True)

    def _cleaned(self, text: str) -> str:
        if self._secret:
            text = text.replace(self._secret, "***")
        return "".join(char for char in text[:MAX_ERROR_CHARS] if char.isprintable())

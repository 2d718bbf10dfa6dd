"""Why: the worker waits for its gateway and its cameras at once, so what the gateway says must never hold it up.

The order comes first, confirmations after it: a line each (edge/vision/wire.py).
"""

import os

from edge.vision.wire import Confirm, Order, decode_confirm, decode_order

MOST_BYTES = 16 * 1024 * 1024
"""Longer than any order: who sends more without an end of line is no gateway of ours."""
_CHUNK = 64 * 1024


class Orders:
    """Lines from a pipe. `read` it when it is readable, then `waiting` has what was said."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held = bytearray()

    def fileno(self) -> int:
        """To wait on."""
        return self._fd

    def first(self) -> Order:
        """The order; waits for it. Raises MsgspecError, ValueError for anything else."""
        while b"\n" not in self._held and self.read():
            pass
        return decode_order(self._line())

    def read(self) -> bool:
        """Take what there is; False when the gateway has closed the pipe or is gone. Raises ValueError."""
        data = os.read(self._fd, _CHUNK)
        self._held += data
        if len(self._held) > MOST_BYTES:
            raise ValueError(f"a line of more than {MOST_BYTES} bytes")
        return bool(data)

    def waiting(self) -> list[Confirm]:
        """What was said since the last time. Raises MsgspecError for anything else."""
        found = []
        while b"\n" in self._held:
            found.append(decode_confirm(self._line()))
        return found

    def _line(self) -> bytes:
        line, end, rest = self._held.partition(b"\n")
        self._held = rest
        return bytes(line + end)

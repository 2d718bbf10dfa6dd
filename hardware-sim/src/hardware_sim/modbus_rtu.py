"""Modbus RTU: frames without a length, on a bus of several units.

A request's length follows from its function. Bytes that do not make a request with a valid CRC are thrown away, as
is what is left of a request when the bus has been silent: a master that fails begins anew.
"""

import time
from collections.abc import Callable

from hardware_sim.modbus_wire import Engine, RtuFramer, Sink, crc16

SILENCE_S = 0.05  # far above 3.5 characters at 9600 baud (4 ms), since a pty's bytes come in lumps
MAX_FRAME = 256


class RtuReader:
    """Cuts requests out of bytes and hands them to the units. `monotonic` is for silence."""

    def __init__(self, engine: Engine, sink: Sink, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._sink = sink
        self._monotonic = monotonic
        self._buffer = bytearray()
        self._last_s = 0.0
        self.discarded_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        now_s = self._monotonic()
        if self._buffer and now_s - self._last_s > SILENCE_S:
            self._discard(len(self._buffer))
        self._last_s = now_s
        self._buffer += data
        while self._take():
            pass

    def _take(self) -> bool:
        """Take one request off the buffer; False when more bytes are needed."""
        size = _request_size(self._buffer)
        if size is None or size > len(self._buffer):
            return False
        frame = bytes(self._buffer[:size])
        if size > MAX_FRAME or crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            self._discard(1)  # perhaps a request begins further on
            return True
        del self._buffer[:size]
        unit = frame[0]
        if unit:  # 0 is a broadcast, which nobody answers
            self._engine.request(unit, frame[1:-2], RtuFramer(unit), self._sink)
        return True

    def _discard(self, count: int) -> None:
        self.discarded_bytes += count
        del self._buffer[:count]


def _request_size(buffer: bytearray) -> int | None:
    """How long the request at the start is, or None while that cannot be told."""
    if len(buffer) < 2:
        return None
    if buffer[1] in {15, 16}:
        return 9 + buffer[6] if len(buffer) > 6 else None
    return 8

"""Modbus over TCP sockets: MBAP framing, several units behind one port; and RTU frames over TCP.

The parser is written by hand, since the simulator must never be what a benchmark measures (bench figure in
docs/simulator.md). Answers to requests that arrived together leave in one write.
"""

from hardware_sim import truth
from hardware_sim.modbus_rtu import RtuReader
from hardware_sim.modbus_wire import MBAP, Engine, TcpFramer
from hardware_sim.tcp import Connection

MAX_LENGTH = 254  # unit id and PDU


class MbapConnection(Connection):
    """One Modbus TCP client. A frame that is not Modbus ends the connection."""

    def __init__(self, engine: Engine, log: truth.Log, connections: set[Connection]) -> None:
        super().__init__(log, connections)
        self._engine = engine
        self._rest = b""
        self._batch: list[tuple[bytes, truth.Record | None]] | None = None

    def data_received(self, data: bytes) -> None:
        """Take whole requests, keep the rest."""
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        self._batch = []
        while end - at >= 8:
            transaction, protocol, length, unit = MBAP.unpack_from(buffer, at)
            if protocol or not 2 <= length <= MAX_LENGTH:
                self._batch = None
                self.drop()
                return
            stop = at + 6 + length
            if stop > end:
                break
            self._engine.request(unit, buffer[at + 7 : stop], TcpFramer(transaction, unit), self)
            at = stop
        self._rest = buffer[at:]
        batch, self._batch = self._batch, None
        if len(batch) == 1:
            super().send(*batch[0])
        elif batch:
            self._send_together(batch)

    def send(self, data: bytes, record: truth.Record | None) -> None:
        """Send, together with the other answers to what has just arrived."""
        if self._batch is not None:
            self._batch.append((data, record))
        else:
            super().send(data, record)

    def _send_together(self, batch: list[tuple[bytes, truth.Record | None]]) -> None:
        # One record's delivery is the delivery of all: the first one goes with the bytes, the others follow it.
        records = [record for _, record in batch if record is not None]
        data = b"".join([frame for frame, _ in batch])
        super().send(data, records[0] if records else None)
        for record in records[1:]:
            super().send(b"", record)


class RtuOverTcpConnection(Connection):
    """One client that speaks RTU frames over TCP."""

    def __init__(self, engine: Engine, log: truth.Log, connections: set[Connection]) -> None:
        super().__init__(log, connections)
        self._reader = RtuReader(engine, self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._reader.feed(data)

"""What a connection really costs on the network: payload and headers, counted by the kernel.

A forwarder between a gateway and its broker. TCP_INFO of the accepted socket knows the bytes and the segments of both
directions; each segment adds 52 bytes of IPv4 and TCP headers (20 + 20 + 12 of timestamps). Ethernet, or what a mobile
network adds, comes on top and is not ours to measure. Retransmissions do not happen on loopback.
"""

import socket
import struct
import threading
from dataclasses import dataclass
from typing import Self

HEADER_BYTES = 52
_BYTES = struct.Struct("=QQII")  # tcpi_bytes_acked, tcpi_bytes_received, tcpi_segs_out, tcpi_segs_in (Linux 4.6)
_OFFSET = 120


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of one connection, both directions together."""

    payload_bytes: int = 0
    segments: int = 0

    @property
    def wire_bytes(self) -> int:
        """With the headers of IP and TCP."""
        return self.payload_bytes + HEADER_BYTES * self.segments

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.payload_bytes - other.payload_bytes, self.segments - other.segments)

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.payload_bytes + other.payload_bytes, self.segments + other.segments)


def traffic(sock: socket.socket) -> Traffic:
    """What the kernel has counted on a connected socket so far."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    acked, received, segments_out, segments_in = _BYTES.unpack_from(info, _OFFSET)
    return Traffic(acked + received, segments_out + segments_in)


class TcpMeter:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target` and counts. A context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._clients: list[socket.socket] = []
        self._ended = Traffic()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True, name="meter-accept").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        with self._lock:
            for client in self._clients:
                _shut(client)

    def total(self) -> Traffic:
        """Of every connection so far."""
        with self._lock:
            found = self._ended
            for client in self._clients:
                found += traffic(client)
        return found

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                return
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._clients.append(client)
            threading.Thread(target=_pump, args=(client, server), daemon=True, name="meter-up").start()
            threading.Thread(target=self._down, args=(server, client), daemon=True, name="meter-down").start()

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        _pump(server, client)
        with self._lock:
            self._ended += traffic(client)
            self._clients.remove(client)
        client.close()
        server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        _shut(sink)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return

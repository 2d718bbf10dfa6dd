"""A cable that can be pulled: a TCP forwarder between a client and a server of the tests.

While it is cut nothing passes and nothing is closed, as with a real cable: connections stay open and silent, new ones
are never answered. When it is whole again the old connections are gone, as after a NAT or a firewall forgot them.
"""

import contextlib
import socket
import threading
from typing import Self

CHUNK_BYTES = 65536


class Wire:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`. A context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._whole = threading.Event()
        self._whole.set()
        self._stopped = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True, name="wire-accept").start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._whole.set()
        self._listener.close()
        self._drop()

    def cut(self) -> None:
        """Pull the cable."""
        self._whole.clear()

    def mend(self) -> None:
        """Plug it in again; what was connected before is not any more."""
        self._drop()
        self._whole.set()

    def _drop(self) -> None:
        for pair in self._pairs:
            for end in pair:
                _close(end)
        self._pairs.clear()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True, name="wire-serve").start()

    def _serve(self, client: socket.socket) -> None:
        if not self._whole.is_set():
            self._whole.wait()
            _close(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            _close(client)
            return
        server.settimeout(None)
        self._pairs.append((client, server))
        threading.Thread(target=self._pump, args=(client, server), daemon=True, name="wire-up").start()
        self._pump(server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK_BYTES):
                self._whole.wait()
                sink.sendall(data)
        except OSError:
            pass
        finally:
            if self._whole.is_set():
                _close(source)
                _close(sink)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()

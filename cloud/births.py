"""Every catalogue seen, by gateway and epoch, so that a frame sent before a change can be read after it.

SQLite, beside the ledger. Bounded: the `keep` births a gateway used last. A frame of a forgotten epoch is answered like
one of an epoch never seen: the gateway publishes that birth again.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from cloud.sqlite_file import connect, transaction
from contract.catalogue import Birth, decode_birth, epoch_of
from contract.errors import FrameError
from contract.topics import GatewayPath

_SCHEMA = """
CREATE TABLE IF NOT EXISTS births (
    path TEXT NOT NULL, epoch INTEGER NOT NULL, seen INTEGER NOT NULL, birth BLOB NOT NULL,
    PRIMARY KEY (path, epoch));
"""


class Births:
    """The catalogues of all gateways. Every method may be called from any thread.

    cached_streams: streams of births in memory, 2 kB each; whoever uses a birth often keeps what he made of it.
    """

    def __init__(self, file: Path, *, keep: int = 32, cached_streams: int = 10_000) -> None:
        self._db = connect(file, _SCHEMA)
        self._keep = keep
        self._cached_streams = cached_streams
        self._cache: OrderedDict[tuple[GatewayPath, int], Birth] = OrderedDict()
        self._streams = 0
        self._lock = threading.RLock()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is taken inside becomes durable at its end, with one sync of the disk."""
        with self._lock, transaction(self._db):
            yield

    def take(self, path: GatewayPath, payload: bytes) -> Birth:
        """Keep the birth that came on the topic of `path`. Raises FrameError when it is none, or another gateway's.

        The epoch is that of the canonical form, whatever spaces or order of keys the payload has.
        """
        birth = decode_birth(payload)
        if birth.path != path:
            raise FrameError(f"the birth of {birth.path} on the topic of {path}")
        canonical = birth.encode()
        epoch = epoch_of(canonical)
        with self._lock, transaction(self._db):
            (seen,) = self._db.execute("SELECT coalesce(max(seen), 0) + 1 FROM births").fetchone()
            self._db.execute(
                "INSERT INTO births VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET seen = excluded.seen",
                (str(path), epoch, seen, canonical),
            )
            self._db.execute(
                "DELETE FROM births WHERE path = ?1 AND epoch NOT IN "
                "(SELECT epoch FROM births WHERE path = ?1 ORDER BY seen DESC LIMIT ?2)",
                (str(path), self._keep),
            )
            self._remember(path, epoch, birth)
        return birth

    def get(self, path: GatewayPath, epoch: int) -> Birth | None:
        """The catalogue that this gateway's frames of `epoch` refer to, or None when it never came."""
        with self._lock:
            found = self._cache.get((path, epoch))
            if found is not None:
                self._cache.move_to_end((path, epoch))
                return found
            row = self._db.execute(
                "SELECT birth FROM births WHERE path = ? AND epoch = ?", (str(path), epoch)
            ).fetchone()
            if row is None:
                return None
            birth = decode_birth(row[0])
            self._remember(path, epoch, birth)
            return birth

    def latest(self) -> dict[GatewayPath, Birth]:
        """The newest catalogue of every gateway."""
        with self._lock:
            rows = self._db.execute("SELECT birth, max(seen) FROM births GROUP BY path ORDER BY path").fetchall()
        found = [decode_birth(row[0]) for row in rows]
        return {birth.path: birth for birth in found}

    def _remember(self, path: GatewayPath, epoch: int, birth: Birth) -> None:
        if (path, epoch) not in self._cache:
            self._streams += _n_streams(birth)
        self._cache[path, epoch] = birth
        while self._streams > self._cached_streams and len(self._cache) > 1:
            self._streams -= _n_streams(self._cache.popitem(last=False)[1])


def _n_streams(birth: Birth) -> int:
    return sum(len(device.streams) for device in birth.devices)

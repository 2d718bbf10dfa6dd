"""A real PostgreSQL for tests, as tests/servers.py has the others: own port, own data, stopped, killed and started.

It refuses to run as root and needs a folder that its user can reach, which pytest's are not: so its data is in a folder
of its own under the system's temporary one, and it runs as the user `postgres` when the tests are root's.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from servers import Server, ServerFailed, ServerMissing

PACKAGE = "postgresql"
USER = "postgres"


def programs() -> Path:
    """Where the newest PostgreSQL's programs are, or ServerMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ServerMissing(f"postgres is not installed; run: apt-get install -y --no-install-recommends {PACKAGE}")
    return found[-1].parent


class PostgreSQL(Server):
    """PostgreSQL on 127.0.0.1, one superuser `weinao` without a password."""

    program = "setpriv"
    package = "util-linux"

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        super().__init__(folder)
        self._data = Path(tempfile.mkdtemp(prefix="weinao-postgres-"))
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            os.chown(self._data, account.pw_uid, account.pw_gid)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._data, ignore_errors=True)

    @property
    def url(self) -> str:
        """What the hub's configuration says."""
        return f"postgresql://weinao@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> list[str]:
        """Make the cluster the first time; the arguments to start with."""
        cluster = self._data / "cluster"
        if not cluster.exists():
            words = [
                "initdb",
                "-D",
                str(cluster),
                "-U",
                "weinao",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-N",
            ]
            made = subprocess.run(
                [self._binary, *self._as_user(), str(self._programs / words[0]), *words[1:]],
                cwd=self._data, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if made.returncode != 0:
                raise ServerFailed(f"initdb: {made.stderr}")
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self._as_user(), str(self._programs / "postgres"), "-D", str(cluster), *options]

    def ready(self) -> bool:
        """Whether it takes a session: the port alone is open before."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.settimeout(1)
                body = b"\x00\x03\x00\x00user\x00weinao\x00database\x00postgres\x00\x00"
                link.sendall((len(body) + 4).to_bytes(4, "big") + body)
                return link.recv(1) == b"R"
        except OSError:
            return False

    @staticmethod
    def _as_user() -> list[str]:
        if os.geteuid() != 0:
            return ["--"]
        return [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]

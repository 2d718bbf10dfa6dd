"""Real servers for tests and benchmarks: mosquitto, InfluxDB 1.x, VictoriaMetrics, and nginx in front of InfluxDB.

Each runs as a child process on free loopback ports with a configuration and a data folder of its own, and can be
stopped, killed, paused and started again on the same port with the same data, because that is what happens to servers.
A machine without one of the programs fails the test with the command that installs it.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_given_out: set[int] = set()


class ServerMissing(AssertionError):
    """A program that the tests need is not installed; the message names the command that installs it."""


class ServerFailed(AssertionError):
    """A server did not start or stop; the message ends with its log."""


def find_program(name: str, package: str) -> str:
    """The path of a program, or ServerMissing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if found is None:
        raise ServerMissing(f"{name} is not installed; run: apt-get install -y --no-install-recommends {package}")
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on and that this process was not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given_out:
            _given_out.add(port)
            return port


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until `condition()`; raises ServerFailed after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


class Server:
    """One server process. A context manager: started on entry, stopped on exit."""

    program: str
    package: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._binary = find_program(self.program, self.package)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        if self._process is None:
            raise ServerFailed(f"{self.program} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive (a paused one is)."""
        return self._alive()

    @property
    def log(self) -> str:
        """The last 4 kB that the server said."""
        path = self.folder / f"{self.program}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def start(self) -> None:
        """Start it, on the same port and data as before, and wait until it answers. Nothing happens when it runs."""
        if self._alive():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = self.prepare()
        with (self.folder / f"{self.program}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.ready():
            if not self._alive() or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.program} did not start:\n{self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it the polite way (SIGTERM), killing it only when it does not go. Nothing happens when it is stopped."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it the way a power cut does (SIGKILL)."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        process = psutil.Process(self.pid)
        process.suspend()
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, 5, f"{self.program} frozen")

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def prepare(self) -> list[str]:
        """Write the configuration; the arguments to start with."""
        raise ServerFailed(f"{type(self).__name__} says nothing of how it starts")

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # a paused process acts on a signal only once it goes on
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)


class HttpServer(Server):
    """A server that speaks HTTP."""

    health = "/"

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether it answers its health address."""
        try:
            status, _ = self.request("GET", self.health)
        except (OSError, http.client.HTTPException):
            return False
        return status < 500

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One plain request: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Mosquitto(Server):
    """A mosquitto broker with persistence. `extra` lines end its configuration (users, ACLs, limits)."""

    program = "mosquitto"
    package = "mosquitto"

    def __init__(self, folder: Path, extra: str = "") -> None:
        super().__init__(folder)
        self.extra = extra

    def prepare(self) -> list[str]:
        """Write mosquitto.conf; persistence is written as rarely as the default, so a kill loses what a crash would."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {data}/",
            "max_queued_messages 0",
            "max_inflight_messages 1000",
            "log_dest stderr",
            self.extra if "allow_anonymous" in self.extra else f"allow_anonymous true\n{self.extra}",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it drops to a user who may not read the test's folder
        path = self.folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return ["-c", str(path)]

    def forget(self) -> None:
        """Delete what a stopped broker kept on disk: sessions, queues, retained messages."""
        if self.running:
            raise ServerFailed("mosquitto runs: stop it before its data is deleted")
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class InfluxDB(HttpServer):
    """InfluxDB 1.x (Debian's 1.6.7)."""

    program = "influxd"
    package = "influxdb"
    health = "/ping"

    def __init__(self, folder: Path, *, auth: bool = False) -> None:
        super().__init__(folder)
        self.auth = auth
        self._rpc_port = free_port()

    def prepare(self) -> list[str]:
        """Write influxdb.conf: everything that the tests do not use is off."""
        path = self.folder / "influxdb.conf"
        path.write_text(
            f"""reporting-disabled = true
bind-address = "127.0.0.1:{self._rpc_port}"
[meta]
  dir = "{self.folder}/meta"
[data]
  dir = "{self.folder}/data"
  wal-dir = "{self.folder}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{self.port}"
  auth-enabled = {str(self.auth).lower()}
  log-enabled = false
[continuous_queries]
  enabled = false
"""
        )
        return ["-config", str(path)]

    def fresh_database(self) -> str:
        """The name of a database that nobody has used; it is not created yet."""
        return f"t{uuid.uuid4().hex[:12]}"


class VictoriaMetrics(HttpServer):
    """VictoriaMetrics, single node, keeping points of any age."""

    program = "victoria-metrics"
    package = "victoria-metrics"
    health = "/health"

    def prepare(self) -> list[str]:
        """Command-line arguments alone; little memory, so that it fits beside everything else."""
        return [
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-storageDataPath={self.folder}/data",
            "-retentionPeriod=100y",
            "-dedup.minScrapeInterval=1ms",  # a sample written again is one sample, as in every other store
            "-memory.allowedBytes=256MB",
            "-loggerLevel=WARN",
        ]

    def flush(self) -> None:
        """Make everything written so far visible to queries now, instead of after about a second."""
        self.request("GET", "/internal/force_flush")


class NginxV2(HttpServer):
    """nginx that gives an InfluxDB 1.x the v2 write API: /api/v2/write becomes /write, everything else passes."""

    program = "nginx"
    package = "nginx-light"
    health = "/ping"

    def __init__(self, folder: Path, influxdb: InfluxDB) -> None:
        super().__init__(folder)
        self.influxdb = influxdb

    def prepare(self) -> list[str]:
        """Write nginx.conf: one process, every path inside the folder."""
        path = self.folder / "nginx.conf"
        folders = "\n".join(
            f"  {kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path.write_text(
            f"""daemon off;
master_process off;
pid {self.folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
{folders}
  client_max_body_size 32m;
  upstream influxdb {{ server 127.0.0.1:{self.influxdb.port} max_fails=0; keepalive 8; }}
  map $arg_precision $v1_precision {{ default n; us u; ms ms; s s; }}
  server {{
    listen 127.0.0.1:{self.port};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location = /api/v2/write {{
      rewrite ^ /write?db=$arg_bucket&precision=$v1_precision? break;
      proxy_pass http://influxdb;
    }}
    location / {{ proxy_pass http://influxdb; }}
  }}
}}
"""
        )
        return ["-p", str(self.folder), "-e", "stderr", "-c", str(path)]

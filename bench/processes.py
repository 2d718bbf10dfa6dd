"""Real processes, and what they cost: CPU to the nanosecond, memory, and a way to start what is measured.

CPU comes from /proc/PID/task/*/schedstat, the scheduler's own count: `times()` of a process knows ticks of 10 ms, and a
gateway that works once a second uses fewer.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
from programs import Program

BROKER = "set_tcp_nodelay true"
"""mosquitto as it should run: without this, Nagle's algorithm holds every acknowledgement back for 40 ms."""
ROOT = Path(__file__).resolve().parent.parent


class BenchFailed(Exception):
    """A benchmark could not be run; the message says why. The others go on."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for the files of one run, gone afterwards. On the disk of TMPDIR: set it to measure another disk."""
    with tempfile.TemporaryDirectory(prefix="weinao-bench-") as path:
        yield Path(path)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until `condition()`; raises BenchFailed after `seconds`."""
    deadline_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline_s:
            raise BenchFailed(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process so far, those that have ended not included."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that just ended
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def rss_mb(pid: int) -> float:
    """Resident memory, MB of 10**6 bytes."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


@dataclass(slots=True)
class Meter:
    """CPU of some processes between two moments."""

    pids: dict[str, int]
    began_s: float
    before: dict[str, float]

    @classmethod
    def start(cls, **pids: int) -> "Meter":
        """From now on."""
        return cls(pids, time.monotonic(), {name: cpu_s(pid) for name, pid in pids.items()})

    def seconds(self) -> float:
        """Wall seconds so far."""
        return time.monotonic() - self.began_s

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each process so far."""
        return {name: cpu_s(pid) - self.before[name] for name, pid in self.pids.items()}


class Child:
    """A module of ours as a process of its own, so that its CPU is its own. Ended, by force if need be, on exit."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def line(self) -> str:
        """The next line that it prints. Raises BenchFailed when it ended instead."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        said = self._process.stdout.readline()
        if not said:
            raise BenchFailed(f"{self._process.args!r} ended with {self._process.wait()}")
        return said.strip()

    def ask(self) -> dict[str, float]:
        """SIGUSR1, and the JSON object that it answers with."""
        self._process.send_signal(signal.SIGUSR1)
        answer: dict[str, float] = json.loads(self.line())
        return answer


def simulator(where: Path, scenario: str) -> Program:
    """The simulated hardware of a scenario (YAML text); its ports are in `where/sim.json` once it is ready."""
    (where / "scenario.yaml").write_text(scenario, encoding="utf-8")
    return Program(
        where,
        "simulator",
        *("weinao-sim", "run", "scenario.yaml", "--ready-file", "sim.json", "--run-dir", "run"),
        ready=where / "sim.json",
    )


def gateway(where: Path, name: str = "gateway") -> Program:
    """A gateway whose configuration is `where/NAME.yaml` and whose outbox is `where/NAME`."""
    return Program(where, name, "weinao-gateway", "run", f"{name}.yaml", ready=where / name / "status.sock")


def collector(where: Path, name: str = "cloud") -> Program:
    """A collector whose configuration is `where/NAME.yaml`."""
    return Program(
        where,
        name,
        *("weinao-cloud", "collect", f"{name}.yaml", "--ready-file", f"{name}.ready"),
        ready=where / f"{name}.ready",
    )

"""The demo: the simulated street, a gateway, a broker, a collector and a database as real processes, then the ledger.

It starts what `docs/technician.md` tells a technician to start, with the same commands, from configs/demo. The live
table asks the running processes over their local sockets. Whatever ends before it should is named, with its last
words, and the demo ends with it: it reports, it never hangs.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hardware_sim import demo_cameras, demo_hub

READY_S = 60.0
DRAIN_S = 30.0
LAST_WORDS = 12
PORTS = ("5020", "18830", "18554", "18555", demo_hub.PORT)  # of configs/demo and the cameras: replaced when taken
SHOWN = ("crossings.", "occupancy.", "queue.", "speed.", "coverage", "camera_state")
"""What the live table shows of a camera."""


class DemoFailedError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass
class Process:
    """One real process of the demo and the file its words go to."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LAST_WORDS:])

    def stop(self, patience_s: float) -> int:
        """Ask it to stop, wait, and end it by force if it does not; its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


class Demo:
    """The processes, in the order they start; they stop in the other order."""

    def __init__(self, folder: Path, configs: Path, scenario: Path, models: Path) -> None:
        self.folder = folder
        self.configs = configs
        self.scenario = scenario
        self.models = models
        self.cameras = ""  # how they send; nothing when there are none
        self.processes: list[Process] = []

    def prepare(self) -> None:
        """An empty folder with this run's configuration; ports that are taken are replaced by free ones."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.cameras, words = demo_cameras.choose(self.models)
        print(f"  {words}", flush=True)
        swaps = {port: str(_free_port()) for port in PORTS if _taken(int(port))}
        for source in (*sorted(self.configs.glob("*.yaml")), self.scenario):
            text = self._with_cameras(source)
            for old, new in swaps.items():
                text = text.replace(old, new)
            (self.folder / source.name).write_text(text, encoding="utf-8")

    def _with_cameras(self, source: Path) -> str:
        text = source.read_text(encoding="utf-8")
        if self.cameras and source == self.scenario:
            return demo_cameras.add_to_scenario(text, self.cameras)
        if self.cameras and source.name == "gateway.yaml":
            seed: int = yaml.safe_load(self.scenario.read_text(encoding="utf-8"))["seed"]
            return demo_cameras.add_to_gateway(text, self.cameras, seed, self.models)
        return text

    def start(self, name: str, *command: str, until: str) -> None:
        """Start one process and wait until the file `until` is there."""
        log = self.folder / f"{name}.log"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as words:
            child = subprocess.Popen(  # noqa: S603 - fixed commands of our own
                command, cwd=self.folder, stdout=words, stderr=subprocess.STDOUT, env=environment
            )
        self.processes.append(Process(name, child, log))
        deadline_s = time.monotonic() + READY_S
        while not (self.folder / until).exists():
            self.check()
            if time.monotonic() > deadline_s:
                raise DemoFailedError(f"{name} is not ready after {READY_S:.0f} s:\n{self.processes[-1].last_words()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise DemoFailedError when a process has ended by itself."""
        for process in self.processes:
            code = process.child.poll()
            if code is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise DemoFailedError(f"{process.name} {how}. Its last words:\n{process.last_words()}")

    def stop(self, name: str, patience_s: float = 20) -> None:
        """Stop one process on purpose; raises DemoFailedError when it does not end well."""
        process = next(process for process in self.processes if process.name == name)
        self.processes.remove(process)
        code = process.stop(patience_s)
        if code != 0:
            raise DemoFailedError(f"{name} did not stop cleanly (exit code {code}):\n{process.last_words()}")

    def stop_all(self) -> None:
        """Stop whatever still runs, last started first."""
        for process in reversed(self.processes):
            process.stop(10)


def ask(path: Path, request: str) -> dict[str, Any] | None:
    """What the process at a local socket answers, or None while nobody does."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        try:
            link.connect(os.path.relpath(path))
            link.sendall(json.dumps({"request": request}).encode() + b"\n")
            with link.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline())
        except (OSError, ValueError):
            return None
    return answer


def table(status: dict[str, Any], elapsed_s: float) -> list[str]:
    """The live table: one line a stream."""
    uplink, outbox = status["uplink"], status["outbox"]
    lines = [
        f"{elapsed_s:5.0f} s   gateway {status['gateway']}   uplink {'up' if uplink['connected'] else 'DOWN'}",
        f"          outbox {outbox['frames']} frames   acknowledged {uplink['acknowledged']} frames",
        f"  {'stream':32} {'value':>14} {'unit':8} {'quality':10} {'age':>7}",
    ]
    for stream in status["streams"]:
        if stream["device"] == "gateway":
            continue  # its own health: `weinao-gateway status` shows it
        if stream["device"] in status["cameras"] and not stream["stream"].startswith(SHOWN):
            continue
        age = "-" if stream["age_s"] is None else f"{stream['age_s']:.1f} s"
        value = "-" if stream["value"] is None else str(stream["value"])
        name = f"{stream['device']}/{stream['stream']}"
        lines.append(f"  {name:32} {value:>14} {stream['unit']:8} {stream['quality']:10} {age:>7}")
    return lines


def watch(demo: Demo, seconds: float | None) -> None:
    """Show the live table until the time is over, Ctrl-C, or a process ends."""
    live = sys.stdout.isatty()
    began_s = time.monotonic()
    shown_s = -1e9
    while seconds is None or time.monotonic() - began_s < seconds:
        demo.check()
        now_s = time.monotonic()
        if now_s - shown_s >= (1 if live else 10):
            status = ask(demo.folder / "gateway" / "status.sock", "status")
            if status is not None and any(stream["value"] is not None for stream in status["streams"]):
                shown_s = now_s
                text = "\n".join(table(status, now_s - began_s))
                print(f"\x1b[2J\x1b[H{text}" if live else text, flush=True)
        time.sleep(0.1)


def drained(demo: Demo) -> None:
    """Wait until nothing is in flight, so that the ledger can close."""
    deadline_s = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline_s:
        demo.check()
        answer = ask(demo.folder / "cloud" / "status.sock", "ledger")
        if answer is not None and answer["totals"]["in_flight"] == 0:
            return
        time.sleep(0.2)


def run(demo: Demo, python: str, seconds: float | None) -> int:
    """The whole demo; the exit code."""
    programs = Path(python).absolute().parent
    print("starting: simulated street, cloud (broker, collector, store), gateway ...", flush=True)
    demo.prepare()
    scenario = demo.scenario.name
    files = ("--truth", "truth.log", "--ready-file", "sim.ready", "--control", "sim.sock", "--run-dir", "run")
    demo.start("simulator", str(programs / "weinao-sim"), "run", scenario, *files, until="sim.ready")
    made = _tokens(programs / "weinao-cloud", demo.folder)
    demo.start(
        "cloud", str(programs / "weinao-cloud"), "run", "cloud.yaml", "--ready-file", "cloud.ready", until="cloud.ready"
    )
    demo.start("gateway", str(programs / "weinao-gateway"), "run", "gateway.yaml", until="gateway/status.sock")
    for process in demo.processes:
        print(f"  {process.name:10} pid {process.child.pid}, log {process.log}")
    print(f"  more: weinao-gateway status {demo.folder}/gateway.yaml, weinao-cloud ledger {demo.folder}/cloud.yaml")
    demo_hub.show(demo_hub.address(demo.folder), made, print)
    if demo.cameras:
        print(
            f"  try: weinao-sim fault {demo.folder}/sim.sock stall camera-1 --seconds 20   (or: frozen, black, moved)"
        )
    try:
        watch(demo, seconds)
    except KeyboardInterrupt:
        print("\nstopping ...")
    demo.stop("gateway")
    drained(demo)
    ledger = subprocess.run(  # noqa: S603 - fixed command of our own
        [str(programs / "weinao-cloud"), "ledger", "cloud.yaml"], cwd=demo.folder, check=False, timeout=60
    )
    demo.stop("cloud")
    demo.stop("simulator")
    if demo.cameras:
        print("\n".join(demo_cameras.summary(demo.folder, demo.folder / "cloud" / "weinao.duckdb")))
    return ledger.returncode


def _tokens(program: Path, folder: Path) -> dict[str, str]:
    try:
        return demo_hub.tokens(program, folder)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise DemoFailedError(f"no tokens: {error}\n{error.stderr!s}") from None


def main(arguments: Sequence[str]) -> int:
    """`weinao-sim demo`: 0 when the ledger closes, 1 when it does not or a process ended."""
    parser = argparse.ArgumentParser(prog="weinao-sim demo")
    parser.add_argument("--seconds", type=float, default=None, help="end by itself after so long (default: Ctrl-C)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose environment has the programs")
    parser.add_argument("--folder", type=Path, default=Path("demo-data"))
    parser.add_argument("--configs", type=Path, default=Path("configs/demo"))
    parser.add_argument("--scenario", type=Path, default=Path("hardware-sim/scenarios/street.yaml"))
    parser.add_argument("--models", type=Path, default=Path("models"), help="what cameras are looked at with")
    options = parser.parse_args(arguments)
    demo = Demo(options.folder.absolute(), options.configs, options.scenario, options.models)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(demo, options.python, options.seconds)
    except DemoFailedError as error:
        print(f"the demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        demo.stop_all()


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

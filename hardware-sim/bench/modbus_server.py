"""How many block requests a second the simulated Modbus TCP server answers, so that it is never what a test measures.

    python hardware-sim/bench/modbus_server.py [--seconds 5] [--truth]

One client with 32 requests in flight reads blocks of 100 registers from the load scenario's counters (and from a ramp),
against the real process. Requests per CPU second of the server is what one core can do; the floor is a bare loop that
sends ready-made answers of the same size back.
"""
# ruff: noqa: INP001, S603 - a script, which starts its own servers

import argparse
import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IN_FLIGHT = 32
REQUEST_BYTES = 12
REPLY_BYTES = 9 + 200
SCENARIO = """\
ports:
  - name: load
    kind: modbus-tcp
    devices:
      - {name: counter, type: counter, unit: 1}
      - {name: ramp, type: ramp, unit: 2}
"""


class Pipeline(asyncio.Protocol):
    """Keeps IN_FLIGHT requests under way and counts whole answers by their size."""

    def __init__(self, unit: int) -> None:
        self.answers = 0
        self._rest = 0
        self._transport: asyncio.WriteTransport | None = None
        self._requests = [struct.pack(">HHHBBHH", n, 0, 6, unit, 3, 0, 100) for n in range(IN_FLIGHT)]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Fill the pipe."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - for the type checker
        self._transport = transport
        transport.write(b"".join(self._requests))

    def data_received(self, data: bytes) -> None:
        """As many new requests as answers came."""
        whole, self._rest = divmod(self._rest + len(data), REPLY_BYTES)
        self.answers += whole
        if whole and self._transport is not None:
            self._transport.write(b"".join(self._requests[:1]) * whole)


class Bare(asyncio.Protocol):
    """The floor: a ready-made answer for every twelve bytes."""

    def __init__(self) -> None:
        self._rest = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer without looking."""
        whole, self._rest = divmod(self._rest + len(data), REQUEST_BYTES)
        if self._transport is not None:
            self._transport.write(bytes(REPLY_BYTES) * whole)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(what: str, pid: int, port: int, unit: int, seconds: float) -> None:
    """One run, one line."""
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(lambda: Pipeline(unit), "127.0.0.1", port)
    before_cpu, before, began = cpu_s(pid), client.answers, time.monotonic()
    await asyncio.sleep(seconds)
    answers, took, cpu = client.answers - before, time.monotonic() - began, cpu_s(pid) - before_cpu
    transport.close()
    print(f"{what:8} {answers / took:9,.0f} requests/s   {answers / cpu:9,.0f} per CPU second of the server")


async def serve_bare() -> None:
    """Be the floor's server: print the port, run until killed."""
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Start both servers, measure, stop them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--truth", action="store_true", help="with the truth file written")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        asyncio.run(serve_bare())
        return
    with tempfile.TemporaryDirectory() as folder:
        scenario, ready = Path(folder, "scenario.yaml"), Path(folder, "ready.json")
        scenario.write_text(SCENARIO)
        command = [sys.executable, "-m", "hardware_sim", "run", str(scenario), "--ready-file", str(ready)]
        command += ["--truth", str(Path(folder, "truth.tsv"))] if options.truth else []
        simulator = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        bare = subprocess.Popen([sys.executable, __file__, "--bare"], stdout=subprocess.PIPE, text=True)
        try:
            assert bare.stdout is not None  # noqa: S101 - it is a pipe
            bare_port = int(bare.stdout.readline())
            while not ready.exists():
                time.sleep(0.05)
            port = json.loads(ready.read_text())["ports"]["load"]["port"]
            asyncio.run(measure("floor", bare.pid, bare_port, 1, options.seconds))
            asyncio.run(measure("counter", simulator.pid, port, 1, options.seconds))
            asyncio.run(measure("ramp", simulator.pid, port, 2, options.seconds))
        finally:
            for process in (simulator, bare):
                process.send_signal(signal.SIGTERM)
                process.wait(10)


if __name__ == "__main__":
    main()

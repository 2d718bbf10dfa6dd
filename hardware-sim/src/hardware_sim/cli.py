"""What is typed: `weinao-sim run | record | fault | clip | snippet | demo`.

Exit codes: 0 fine, 2 the scenario or the arguments are wrong, 1 anything else.
"""

import argparse
import asyncio
import logging
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from hardware_sim import truth
from hardware_sim.clock import RunningClock
from hardware_sim.control import Control, ask
from hardware_sim.faults import Kind
from hardware_sim.record import record
from hardware_sim.scenario import Scenario, read_scenario
from hardware_sim.simulator import Simulator, write_ready
from hardware_sim.street_commands import clip_command, clip_parser, snippet_command
from hardware_sim.yaml_reader import ScenarioError

FAILED, WRONG = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code (argparse leaves by itself with 2)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:
        from hardware_sim import demo

        return demo.main(arguments[1:])
    options = _parser().parse_args(arguments)
    commands = {"record": _record, "fault": _fault, "clip": clip_command, "snippet": snippet_command}
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        if options.command == "run":
            return asyncio.run(_run(options))
        return commands[options.command](options)
    except ScenarioError as error:
        print(error, file=sys.stderr)
        return WRONG
    except OSError as error:
        print(f"weinao-sim: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weinao-sim", description="A simulated street: its devices and its truth.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a scenario's devices until SIGTERM or SIGINT")
    run.add_argument("scenario", type=Path)
    run.add_argument("--truth", type=Path, help="write every value served to this file")
    run.add_argument("--control", type=Path, help="take faults at run time on this unix socket")
    run.add_argument("--seconds", type=_positive, help="stop by itself")
    run.add_argument("--seed", type=int, help="another street than the scenario's")
    run.add_argument("--ready-file", type=Path, help="write addresses here, as JSON, once everything listens")
    run.add_argument("--run-dir", type=Path, help="where serial ports appear (default: in the temporary directory)")
    rec = commands.add_parser("record", help="write the world as CSV, as fast as possible")
    rec.add_argument("scenario", type=Path)
    rec.add_argument("--hours", type=_positive, default=24.0)
    rec.add_argument("--interval", type=_positive, default=1.0, help="seconds")
    rec.add_argument("--out", type=Path, required=True)
    rec.add_argument("--seed", type=int)
    rec.add_argument("--devices", nargs="+", default=[], metavar="NAME")
    fault = commands.add_parser("fault", help="begin a fault in a running simulator")
    fault.add_argument("socket", type=Path)
    fault.add_argument("kind", choices=[kind.value for kind in Kind])
    fault.add_argument("device")
    fault.add_argument("--grade", type=int, choices=(1, 2, 3), default=2, help="of a camera's fault: 3 is severe")
    fault.add_argument("--seconds", type=_positive, help="default: until the simulator ends")
    clip_parser(commands)
    snippet = commands.add_parser("snippet", help="print the gateway's configuration of a scenario's camera, as YAML")
    snippet.add_argument("scenario", type=Path)
    snippet.add_argument("device")
    snippet.add_argument("--seed", type=int)
    snippet.add_argument("--ready-file", type=Path, help="of the running simulator: the address it really has")
    commands.add_parser("demo", help="the whole of Weinao on simulated hardware (see: weinao-sim demo --help)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, found {text}")
    return value


async def _run(options: argparse.Namespace) -> int:
    scenario: Scenario = read_scenario(options.scenario)
    run_dir: Path = options.run_dir or Path(tempfile.gettempdir()) / "weinao-sim" / scenario.path.stem
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.seconds is not None:
        loop.call_later(options.seconds, stop.set)
    clock = RunningClock(time.time() if scenario.start_s is None else scenario.start_s, scenario.speed)
    simulator = Simulator(scenario, clock, truth.Log(options.truth), run_dir, options.seed)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(simulator)
        if options.control is not None:
            await stack.enter_async_context(Control(options.control, simulator))
        _print_addresses(simulator)
        if options.ready_file is not None:
            write_ready(options.ready_file, simulator, options.control, options.truth)
        await simulator.watch(stop)
    return 0


def _print_addresses(simulator: Simulator) -> None:
    for name, where in simulator.addresses().items():
        place = where.get("url") or where.get("path") or f"{where['host']}:{where['port']}"
        devices = ", ".join(
            f"{device} ({about['type']}, unit {about['unit']})" if about["unit"] else f"{device} ({about['type']})"
            for device, about in where["devices"].items()
        )
        print(f"{name}  {where['kind']}  {place}  {devices}", flush=True)


def _record(options: argparse.Namespace) -> int:
    scenario = read_scenario(options.scenario)
    began = time.monotonic()
    try:
        rows = record(
            scenario,
            options.out,
            hours=options.hours,
            interval_s=options.interval,
            seed=options.seed,
            devices=options.devices,
        )
    except ValueError as error:
        print(f"weinao-sim: {error}", file=sys.stderr)
        return WRONG
    print(f"{options.out}: {rows} rows in {time.monotonic() - began:.1f} s")
    return 0


def _fault(options: argparse.Namespace) -> int:
    request = {"fault": options.kind, "device": options.device, "grade": options.grade}
    if options.seconds is not None:
        request["seconds"] = options.seconds
    reply = ask(options.socket, request)
    if not reply.get("ok"):
        print(f"weinao-sim: {reply.get('error')}", file=sys.stderr)
        return WRONG
    return 0

"""The command line of the gateway: `weinao-gateway check | probe | run | status | outbox | profiles | models`."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from contract.errors import ConfigError, Fatal
from drivers.base import DriverRegistry
from edge.config import GatewayConfig, load

Run = Callable[[GatewayConfig, DriverRegistry], int]

_HELP = {
    "check": "is this configuration right? touches no device and no network",
    "probe": "touch every device and the broker once, and say what answers",
    "run": "sample, keep, send, until stopped",
    "status": "how is the running gateway?",
    "outbox": "what waits on this disk?",
}


def main(arguments: Sequence[str], registry: DriverRegistry, run: Run) -> int:
    """Do what was typed; returns the exit code: 0 fine, 2 configuration or arguments wrong, 1 anything else."""
    if list(arguments) == ["vision-worker"]:  # the gateway's own, for nobody to type
        return _vision_worker(registry)
    options = _parser().parse_args(arguments)
    _log(logging.DEBUG if options.verbose else logging.INFO)
    try:
        return _do(options, registry, run)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except (Fatal, OSError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _vision_worker(registry: DriverRegistry) -> int:
    from edge.vision.worker import serve_standard_streams

    _log(logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which then ends this process
    return serve_standard_streams(registry)


def _log(level: int) -> None:
    logging.basicConfig(
        level=level,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def _do(options: argparse.Namespace, registry: DriverRegistry, run: Run) -> int:
    if options.command == "run":
        return run(load(options.config, registry), registry)
    from edge import commands  # what prints tables is no burden to what runs for years

    if options.command == "profiles":
        return commands.profiles(registry, as_json=options.json)
    if options.command == "models":
        from edge import commands_camera

        return commands_camera.models(options.config, registry, as_json=options.json)
    path: Path = options.config
    if options.command == "probe":
        return asyncio.run(commands.probe(path, registry, as_json=options.json))
    command = {"check": commands.check, "status": commands.status, "outbox": commands.outbox}[options.command]
    return command(path, registry, as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weinao-gateway", description="The edge gateway of a city's micro-brain.")
    parser.add_argument("--verbose", action="store_true", help="log what happens in detail")
    commands_ = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands_.add_parser(name, help=text, description=text)
        command.add_argument("config", type=Path, metavar="CONFIG", help="the gateway's YAML file")
        if name != "run":
            command.add_argument("--json", action="store_true", help="print JSON")
    profiles = commands_.add_parser("profiles", help="the device profiles that come with the product")
    profiles.add_argument("--json", action="store_true", help="print JSON")
    models = commands_.add_parser("models", help="the vision models of a configuration, or the product's own")
    models.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="the gateway's YAML file")
    models.add_argument("--json", action="store_true", help="print JSON")
    return parser

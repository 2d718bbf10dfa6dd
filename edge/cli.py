"""The command line: `weinao-gateway check | probe | run | status | outbox | profiles | models | aim | confirm`."""

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
    if options.command == "aim":
        return _aim(options, registry)
    if options.command in {"models", "confirm"}:
        return _about_cameras(options, registry)
    path: Path = options.config
    if options.command == "probe":
        return asyncio.run(commands.probe(path, registry, as_json=options.json))
    command = {"check": commands.check, "status": commands.status, "outbox": commands.outbox}[options.command]
    return command(path, registry, as_json=options.json)


def _about_cameras(options: argparse.Namespace, registry: DriverRegistry) -> int:
    from edge import commands_camera

    if options.command == "models":
        return commands_camera.models(options.config, registry, as_json=options.json)
    name, anyway = options.camera, options.anyway
    return commands_camera.confirm(options.config, name, registry, anyway=anyway, as_json=options.json)


def _aim(options: argparse.Namespace, registry: DriverRegistry) -> int:
    from edge.commands_aim import aim
    from edge.vision.aim import Wishes

    wishes = Wishes(options.port, options.file, options.reveal, options.grid, options.seconds)
    return aim(options.config, options.camera, registry, wishes)


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
    _add_aim(commands_)
    _add_confirm(commands_)
    return parser


def _add_confirm(commands_: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "what a camera of the running gateway shows now is right: lines and zones lie where they belong"
    confirm = commands_.add_parser("confirm", help=text, description=text)
    confirm.add_argument("config", type=Path, metavar="CONFIG", help="the gateway's YAML file")
    confirm.add_argument("camera", metavar="CAMERA", help="its name in the configuration")
    confirm.add_argument("--anyway", action="store_true", help="also when the view seems covered: you have looked")
    confirm.add_argument("--json", action="store_true", help="print JSON")


def _add_aim(commands_: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "what does a camera see, and where do its lines lie? on this machine alone, gone at the end"
    aim = commands_.add_parser("aim", help=text, description=text)
    aim.add_argument("config", type=Path, metavar="CONFIG", help="the gateway's YAML file")
    aim.add_argument("camera", metavar="CAMERA", help="its name in the configuration")
    aim.add_argument("--port", type=_port, default=0, help="of the page on 127.0.0.1 (default: any that is free)")
    aim.add_argument("--file", type=Path, metavar="PICTURE.jpg", help="a picture there instead of a page")
    aim.add_argument("--grid", action="store_true", help="draw tenths of the picture, to read coordinates from")
    aim.add_argument("--reveal", action="store_true", help="do not pixelate people and vehicles")
    aim.add_argument("--seconds", type=_seconds, default=600.0, help="end after so long (default: 600)")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a port from 0 to 65535")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 1 <= seconds <= 86_400:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r}: expected seconds from 1 to 86400")

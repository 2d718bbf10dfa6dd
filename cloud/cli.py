"""weinao-cloud: what operators type. Exit codes: 0 fine, 2 the config or arguments are wrong, 1 anything else."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cloud import cli_hub, commands_show
from cloud.config import CloudConfig, load
from contract.errors import ConfigError, Fatal, StoreUnavailable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return _do(options, load(options.config))
    except ConfigError as error:
        for line in error.problems:
            print(line, file=sys.stderr)
        return 2
    except (Fatal, StoreUnavailable) as error:
        print(f"weinao-cloud: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


def _do(options: argparse.Namespace, config: CloudConfig) -> int:
    match options.command:
        case "check":
            return commands_show.check(options.config, config)
        case "ledger":
            return commands_show.ledger(config, as_json=options.json, stream=options.stream, hours=options.hours)
        case "status":
            return commands_show.status(config, as_json=options.json)
        case command if command in cli_hub.COMMANDS:
            return cli_hub.do(options, config)
        case _:
            return _run(options, config)


def _run(options: argparse.Namespace, config: CloudConfig) -> int:
    try:
        import asyncio

        from cloud.run import Role, run_until_signalled
    except ModuleNotFoundError as error:
        raise ConfigError([f"the package {error.name!r} is missing; run: pip install 'weinao[cloud]'"]) from None
    asyncio.run(run_until_signalled(config, role=Role(options.command), ready_file=options.ready_file))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weinao-cloud", description="Collect the readings of a city's gateways.")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more in the log")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("config", type=Path, metavar="CONFIG", help="the cloud's YAML file")
        return made

    command("check", "Read the config and say what is wrong with it; touch nothing.")
    for name, text in (
        ("run", "Run the collector, with the embedded broker and the hub if the config says so."),
        ("collect", "Run one collector against a broker that runs elsewhere."),
        ("hub", "Run the hub alone, beside collectors that share data.directory."),
    ):
        running = command(name, text)
        running.add_argument("--ready-file", type=Path, metavar="FILE", help="written once it works")
    books = command("ledger", "Show what was expected, stored and explained; exit 1 unless it closes.")
    books.add_argument("--json", action="store_true", help="print JSON")
    books.add_argument("--stream", metavar="TEXT", help="only streams whose gateway/device/stream contains TEXT")
    books.add_argument("--hours", action="store_true", help="show every hour apart")
    cli_hub.add_parsers(commands)
    shown = command("status", "Ask the running process how it is.")
    shown.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())

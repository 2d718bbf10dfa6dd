"""The commands of the hub: what `weinao-cloud token ...` and `weinao-cloud audit ...` take, and who does it."""

import argparse
from pathlib import Path
from typing import Any

from cloud.config import CloudConfig
from contract.errors import ConfigError

COMMANDS = frozenset({"token", "audit", "purge"})
ROLES = ("reader", "operator", "admin")


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the hub's commands to the others."""
    _add_token(_group(commands, "token", "Make, list and revoke the tokens of departments."))
    _add_purge(commands)
    verbs = _group(commands, "audit", "Look at the audit.")
    verify = _verb(verbs, "verify", "Walk the whole audit: 1 when a line was altered, removed, added or cut off.")
    verify.add_argument(
        "--anchor", type=Path, metavar="FILE", help="a message of the topic hub/v1/audit, to check with"
    )


def do(options: argparse.Namespace, config: CloudConfig) -> int:
    """Run one of the hub's commands; the exit code. Raises ConfigError when the extra is missing."""
    try:
        from cloud import commands_purge, commands_state
    except ModuleNotFoundError as error:
        raise ConfigError([f"the package {error.name!r} is missing; run: pip install 'weinao[cloud,hub]'"]) from None
    if options.command == "purge":
        return commands_purge.do(options, config)
    match options.command, options.verb:
        case "token", "create":
            return commands_state.token_create(
                config,
                department=options.department,
                purpose=options.purpose,
                role=options.role,
                areas=options.area,
                expires_days=options.days,
                as_json=options.json,
            )
        case "token", "list":
            return commands_state.token_list(config, as_json=options.json)
        case "token", _:
            return commands_state.token_revoke(config, options.token)
        case _:
            return commands_state.audit_verify(config, anchor=options.anchor)


def _add_purge(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Destroy everything measured so far, everywhere, and write a certificate; 1 while something is left."
    made = commands.add_parser("purge", help=text, description=text)
    made.add_argument("config", type=Path, metavar="CONFIG", help="the cloud's YAML file")
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--stream", metavar="NAME", help="city/district/street/gateway/device/stream")
    which.add_argument("--device", metavar="NAME", help="city/district/street/gateway/device")
    which.add_argument("--gateway", metavar="NAME", help="city/district/street/gateway")
    which.add_argument("--department", metavar="NAME", help="every stream whose owner is NAME")
    which.add_argument("--id", metavar="ID", help="destroy nothing: show the certificate of an earlier purge")
    made.add_argument("--reason", metavar="TEXT", help="why; the certificate and the audit say it")
    made.add_argument("--by", metavar="WHO", help="who orders it")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--wait", type=float, default=60.0, metavar="S", help="for gateways to answer (60 s)")
    made.add_argument("--certificate", type=Path, metavar="FILE", help="write the certificate here, JSON")
    made.add_argument("--json", action="store_true", help="print JSON")


def _add_token(verbs: Any) -> None:
    create = _verb(verbs, "create", "Make a token and print it, this once.")
    create.add_argument("--department", required=True, metavar="NAME", help="as the streams' owner and shared_with say")
    create.add_argument("--purpose", required=True, metavar="TEXT", help="what it is for; the audit says it")
    create.add_argument("--role", choices=ROLES, default="reader", help="operator: alerts; admin: tokens, audit, purge")
    create.add_argument(
        "--area",
        action="append",
        default=[],
        metavar="CITY/DISTRICT",
        help="this area only; may be given several times",
    )
    create.add_argument("--days", type=_days, default=365.0, metavar="N", help="how long it is good (365)")
    create.add_argument("--json", action="store_true", help="print JSON")
    shown = _verb(verbs, "list", "Show every token, without its secret.")
    shown.add_argument("--json", action="store_true", help="print JSON")
    revoke = _verb(verbs, "revoke", "Refuse a token from now on.")
    revoke.add_argument("token", metavar="ID", help="the token's id, its part between the underscores")


def _group(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str) -> Any:
    made = commands.add_parser(name, help=text, description=text)
    return made.add_subparsers(dest="verb", required=True, metavar="VERB")


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    made.add_argument("config", type=Path, metavar="CONFIG", help="the cloud's YAML file")
    return made


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 3660:
        raise argparse.ArgumentTypeError(f"expected days above 0, at most 3660; found {text}")
    return days

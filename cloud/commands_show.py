"""The commands that show and change nothing: check, ledger, status."""

import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud.config import CloudConfig
from cloud.ledger_read import read_file
from cloud.ledger_report import LedgerReport, Row, from_json
from contract import local_socket

PIPE_COLUMNS = 160


def check(file: Path, config: CloudConfig) -> int:
    """Say that the config is right, and what it amounts to."""
    broker = f"{config.mqtt.host}:{config.mqtt.port}" + (" (embedded)" if config.mqtt.embedded else "")
    _say(f"{file}: fine; broker {broker}, store {config.store.kind}, files in {config.data.directory}")
    return 0


def ledger(config: CloudConfig, *, as_json: bool, stream: str | None, hours: bool) -> int:
    """Show the ledger of the running process, or of its file when none runs. 1 when it does not close."""
    try:
        report = _ledger_report(config, stream=stream, hours=hours)
    except (FileNotFoundError, ValueError) as error:
        print(f"weinao-cloud ledger: {error}", file=sys.stderr)
        return 1
    if as_json:
        _say(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        _print_rows(report.hours if hours else report.rows)
        _say(report.summary())
    return 0 if report.closes else 1


def status(config: CloudConfig, *, as_json: bool) -> int:
    """Show how the collector and the hub of this machine are, one process or two. 1 when neither runs."""
    answer: dict[str, Any] = {}
    problem: Exception | None = None
    try:
        answer = local_socket.ask(config.status_socket, "status")
    except (local_socket.NobodyThere, ValueError) as error:
        problem = error
    if config.hub is not None:
        with contextlib.suppress(local_socket.NobodyThere, ValueError):
            answer["hub"] = local_socket.ask(config.hub_socket, "status")
    if not answer:
        print(f"weinao-cloud status: {problem}", file=sys.stderr)
        return 1
    if as_json:
        _say(json.dumps(answer, ensure_ascii=False))
        return 0
    if problem is None:
        _print_status(answer)
    else:
        _say(f"collector: {problem}")
    if "hub" in answer:
        _print_hub(answer["hub"])
    elif config.hub is not None:
        _say("hub: none answers on this machine")
    return 0


def _ledger_report(config: CloudConfig, *, stream: str | None, hours: bool) -> LedgerReport:
    try:
        return from_json(local_socket.ask(config.status_socket, "ledger", stream=stream, hours=hours))
    except local_socket.NobodyThere:
        return read_file(config.data.ledger, stream=stream, hours=hours)


def _print_rows(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    with_hours = any(row.hour is not None for row in rows)
    if with_hours:
        table.add_column("hour (UTC)", no_wrap=True)
    table.add_column("stream", no_wrap=True)
    for name in ("expected", "stored"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("explained", overflow="fold")
    for name in ("in flight", "unexplained"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            *([_hour(row.hour)] if with_hours else []),
            f"{row.gateway.rpartition('/')[2]}/{row.device}/{row.stream}",
            str(row.expected),
            str(row.stored),
            _explained(row),
            str(row.in_flight),
            str(row.unexplained),
        ]
        table.add_row(*cells, style=None if row.closes else "bold red")
    # A pipe or a log has no width of its own; a name cut in two cannot be searched for.
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    Console(markup=False, highlight=False, width=width).print(table)


def _print_status(answer: dict[str, Any]) -> None:
    collected, totals = answer["collector"], answer["quarantine"]
    _say(f"pid {answer['pid']}, up {answer['uptime_s']:.0f} s")
    _say(f"broker {answer['broker']}: {'subscribed' if answer['subscribed'] else 'away'}, {answer['waiting']} waiting")
    _say(f"store: {collected['trouble'] or 'taking'}")
    _say(
        f"frames {collected['frames']}, readings {collected['readings']}, duplicates {collected['duplicates']}, "
        f"rejected {collected['rejected']}"
    )
    _say(f"quarantine: {totals['entries']} entries, {totals['bytes']} bytes, {totals['dropped_entries']} dropped")
    for gateway in answer["gateways"]:
        state = {True: "online", False: "offline", None: "unheard of"}[gateway["online"]]
        _say(f"gateway {gateway['gateway']}: {state}, {gateway['frames']} frames")
    _say(answer["ledger"]["summary"])


def _print_hub(told: dict[str, Any]) -> None:
    feed, live, broker = told["feed"], told["live"], told["broker"]
    _say(
        f"hub: pid {told['pid']}, up {told['uptime_s']:.0f} s, {told['streams']} streams, "
        f"{live['clients']} live clients"
    )
    _say(f"hub followed {feed['frames']} frames, {feed['readings']} readings, {feed['lost']} frames lost on the way")
    refused = f", {told['births_refused']} births refused" if told["births_refused"] else ""
    _say(
        f"hub at the broker: {'connected' if broker['connected'] else 'away'}, "
        f"{live['dropped']} slow clients dropped{refused}"
    )
    for channel in told["alerts"]["channels"]:
        waiting = f"{channel['waiting']} waiting, {channel['dropped']} given up"
        error = f"; {channel['last_error']}" if channel["last_error"] else ""
        _say(f"alerts to {channel['channel']}: {channel['sent']} sent, {waiting}{error}")


def _explained(row: Row) -> str:
    counts = {"suppressed": row.suppressed, "thinned": row.thinned, **row.gaps}
    counts |= {f"quarantined: {reason}": count for reason, count in row.quarantined.items()}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


def _hour(hour: int | None) -> str:
    return "" if hour is None else datetime.fromtimestamp(hour * 3600, tz=UTC).strftime("%m-%d %H:00")


def _say(text: str) -> None:
    print(text)

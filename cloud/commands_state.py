"""`weinao-cloud token ...` and `weinao-cloud audit verify`: what an administrator types beside the running hub."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cloud.config import CloudConfig
from cloud.hub.access import Role
from cloud.hub.audit import Audit, Head, read_anchor
from cloud.hub.database import Database, database_url
from cloud.hub.times import format_time
from cloud.hub.tokens import NEVER_NS, Token, TokenBook
from contract.errors import ConfigError

DAY_S = 86_400.0
_BY = "weinao-cloud"


def state_of(config: CloudConfig) -> Database:
    """The hub's state as the configuration says, its tables made. Raises ConfigError, StoreUnavailable."""
    if config.hub is None:
        raise ConfigError(["hub: this configuration has no hub; add 'hub: {}' for one on 127.0.0.1:8470"])
    state, password = config.hub.state, None
    if state.password_file is not None:
        try:
            password = state.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"hub.state.password_file: {state.password_file} cannot be read: {error}"]) from None
    database = Database(database_url(config.data.directory / "hub.sqlite", state.url, password))
    database.create()
    return database


def token_create(
    config: CloudConfig,
    *,
    department: str,
    purpose: str,
    role: str,
    areas: Sequence[str],
    expires_days: float,
    as_json: bool,
) -> int:
    """Make a token and print it: this once."""
    database = state_of(config)
    try:
        made, secret = TokenBook(database).create(
            department, purpose, role=Role(role), areas=areas, lifetime_s=expires_days * DAY_S, by=_BY
        )
        detail = {"department": department, "purpose": purpose, "role": role, "areas": list(areas)}
        Audit(database).write(_BY, "token created", made.reader.token, detail)
    finally:
        database.close()
    if as_json:
        print(json.dumps({"token": secret, "id": made.reader.token, "expires": _until(made)}, ensure_ascii=False))
    else:
        print(secret)
        print(f"for {department}, {purpose}; until {_until(made)}. It is shown this once.", file=sys.stderr)
    return 0


def token_list(config: CloudConfig, *, as_json: bool) -> int:
    """Print every token, without secrets."""
    database = state_of(config)
    try:
        found = TokenBook(database).listed()
    finally:
        database.close()
    rows = [
        {
            "id": token.reader.token,
            "department": token.reader.department,
            "purpose": token.reader.purpose,
            "role": token.reader.role.value,
            "areas": list(token.reader.areas),
            "until": _until(token),
            "state": "good" if token.good(time.time_ns()) else "revoked" if token.revoked_ns else "expired",
        }
        for token in found
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    for row in rows:
        areas = ", ".join(row["areas"]) if isinstance(row["areas"], list) and row["areas"] else "everywhere"
        print(
            f"{row['id']}  {row['state']:8} until {row['until']}  {row['role']:8} {row['department']}: "
            f"{row['purpose']} ({areas})"
        )
    return 0


def token_revoke(config: CloudConfig, token: str) -> int:
    """Refuse a token from now on: 1 when there is none of this id."""
    database = state_of(config)
    try:
        done = TokenBook(database).revoke(token)
        if done:
            Audit(database).write(_BY, "token revoked", token, {})
    finally:
        database.close()
    print(f"{token}: revoked" if done else f"{token}: there is no such token that is not revoked")
    return 0 if done else 1


def audit_verify(config: CloudConfig, *, anchor: Path | None) -> int:
    """Walk the audit: 0 when it holds, 1 when a line was altered, removed, added or cut off."""
    head: Head | None = None
    if anchor is not None:
        try:
            head = read_anchor(anchor.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError([f"{anchor}: {error}"]) from None
    database = state_of(config)
    try:
        reached, wrong = Audit(database).verify(head)
    finally:
        database.close()
    if wrong is not None:
        print(f"audit: BROKEN: {wrong}")
        return 1
    against = f", as anchored at line {head.seq}" if head is not None else ""
    print(f"audit: {reached.seq} lines, all of them hold{against}; head {reached.hash[:16]}")
    return 0


def _until(token: Token) -> str:
    return "ever" if token.expires_ns == NEVER_NS else format_time(token.expires_ns)

"""`weinao-cloud purge`: destroys a stream, device, gateway's data or department everywhere, and writes a certificate.

While a cloud process runs on this machine it does the work: it has the embedded store open, and what is in its memory
must go, too. Otherwise the command works on the store and the files itself; gateways are told by the hub, later.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from cloud.births_read import BirthsReader
from cloud.commands_state import state_of
from cloud.config import CloudConfig
from cloud.hub.audit import Audit
from cloud.hub.catalogue import Catalogue
from cloud.hub.entries import Entry
from cloud.purge import KINDS, Document, Order, PurgeBook, Purger, digest
from cloud.quarantine_purge import FilesPurge
from cloud.stores.specs import EmbeddedSpec, make_store
from contract import local_socket
from contract.errors import ConfigError, Fatal, StoreUnavailable

_LOOK_S = 0.5
_WORK_S = 3600.0  # the store may be large
MAX_TEXT = 300


def do(options: argparse.Namespace, config: CloudConfig) -> int:
    """Run the command; the exit code. Raises ConfigError, Fatal, StoreUnavailable."""
    document = _shown(config, options.id) if options.id else _ordered(options, config)
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    if options.certificate is not None:
        try:
            options.certificate.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError([f"--certificate: {options.certificate} cannot be written: {error}"]) from None
    sys.stdout.write(text if options.json else as_text(document))
    return 0 if document["complete"] and digest(document) == document["sha256"] else 1


def purge_handler(purger: Purger, entries: Callable[[], Iterable[Entry]]) -> local_socket.Handler:
    """Answers `purge` on the local socket: starts one and gives its certificate as far as it goes.

    Raises ValueError with the words for whoever asked.
    """

    async def answer(asked: dict[str, Any]) -> dict[str, Any]:
        words = [asked.get(name) for name in ("kind", "name", "reason", "by")]
        if not all(isinstance(word, str) and 0 < len(word) <= MAX_TEXT for word in words):
            raise ValueError(f"kind, name, reason and by: expected texts of 1 to {MAX_TEXT} characters")
        try:
            return {"certificate": await purger.start(Order(*map(str, words)), entries())}
        except (ConfigError, StoreUnavailable) as error:
            raise ValueError(str(error)) from None

    return answer


def _ordered(options: argparse.Namespace, config: CloudConfig) -> Document:
    kind, name = next((kind, getattr(options, kind)) for kind in KINDS if getattr(options, kind))
    missing = [f"--{key}: needed" for key in ("reason", "by") if not getattr(options, key)]
    if missing:
        raise ConfigError(missing)
    order = Order(kind, name, options.reason, options.by)
    if not options.yes:
        _ask(order)
    try:
        answer = local_socket.ask(
            config.hub_socket, "purge", timeout_s=_WORK_S, kind=kind, name=name, reason=order.reason, by=order.by
        )
        document: Document = answer["certificate"]
    except local_socket.NobodyThere:
        _refuse_beside_collector(config)
        document = asyncio.run(_direct(config, order))
    except ValueError as error:
        raise Fatal(f"the running process does not purge: {error}") from None
    return _waited(config, document, options.wait)


def _refuse_beside_collector(config: CloudConfig) -> None:
    """An embedded store belongs to one process at a time. Raises Fatal with what to do."""
    if not isinstance(config.store, EmbeddedSpec):
        return
    with contextlib.suppress(local_socket.NobodyThere, ValueError):
        pid = local_socket.ask(config.status_socket, "status")["pid"]
        raise Fatal(
            f"process {pid} has the embedded store open and no hub runs in it; stop it, or run the hub in it "
            "(`weinao-cloud run` with a `hub:` section), then purge again"
        )


def _ask(order: Order) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(["--yes: needed where nobody can be asked"])
    print(f"Everything measured so far of {order.kind} {order.name} is destroyed for good.", file=sys.stderr)
    print("Type its name to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != order.name:
        raise ConfigError(["the names differ; nothing was done"])


async def _direct(config: CloudConfig, order: Order) -> Document:
    """Without a running process. Raises ConfigError, StoreUnavailable."""
    database = await asyncio.to_thread(state_of, config)
    births = BirthsReader(config.data.births)
    store = make_store(config.store)
    try:
        await store.open()
        catalogue = Catalogue(database, births)
        await catalogue.load()
        await catalogue.refresh()
        files = FilesPurge(config.data.quarantine, config.data.tail, births)
        return await Purger(store, files, database, Audit(database)).start(order, catalogue.all())
    finally:
        await store.close()
        births.close()
        await asyncio.to_thread(database.close)


def _waited(config: CloudConfig, document: Document, wait_s: float) -> Document:
    """The certificate when it is complete, or as it stands after `wait_s`: the hub finishes it."""
    database = state_of(config)
    try:
        book, until_s = PurgeBook(database), time.monotonic() + wait_s
        while True:
            document = book.get(document["id"]) or document
            if document["complete"] or time.monotonic() >= until_s:
                return document
            time.sleep(_LOOK_S)
    finally:
        database.close()


def _shown(config: CloudConfig, purge_id: str) -> Document:
    database = state_of(config)
    try:
        found = PurgeBook(database).get(purge_id)
    finally:
        database.close()
    if found is None:
        raise ConfigError([f"--id: there was no purge {purge_id!r}"])
    return found


def as_text(document: Document) -> str:
    """The certificate for people."""
    what = document["what"]
    lines = [
        f"Certificate of destruction {document['id']}: {'COMPLETE' if document['complete'] else 'NOT COMPLETE'}",
        f"what       {what['kind']} {what['name']}: {what['count']} streams, devices or gateways",
        *(f"           {name}" for name in what["names"][:20]),
        *([f"           and {what['count'] - 20} more"] if what["count"] > 20 else []),
        f"until      {document['until']}",
        f"who        {document['who']}",
        f"why        {document['why']}",
        f"asked      {document['asked']}",
        f"finished   {document['finished'] or 'no'}",
        "",
        f"{'place':<12}{'before':>12}{'destroyed':>12}{'after':>12}",
    ]
    for name, place in document["places"].items():
        numbers = "".join(f"{place[key]:>12}" for key in ("before", "destroyed", "after"))
        lines.append(f"{name:<12}{numbers}  {place['detail']}".rstrip())
    lines.append("")
    lines += [
        f"{one['gateway']}: {one['state']}, {one['readings']} readings; {one['detail']}" for one in document["gateways"]
    ]
    return "\n".join([*lines, "", document["note"], f"SHA-256 {document['sha256']}"]) + "\n"

"""OGC SensorThings API 1.1, read-only, at /sensorthings/v1.1: what QGIS, Grafana and FROST's clients speak.

An answer is computed in a worker thread, a few at a time, so that a large one delays no live stream; where it needs
the store or the hub's database, the thread asks the event loop. Addresses in answers are made of the request's own.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.params import Depends as Dependency

from cloud.hub.access import Reader
from cloud.hub.entries import Entry
from cloud.hub.parts import Asker, Hub, HubPart
from cloud.hub.problems import BadQuery, Busy, NotThere
from cloud.hub.sensorthings.answers import Answers, root
from cloud.hub.sensorthings.model import ABSENT
from cloud.hub.sensorthings.query import MAX_SKIP, parse_query
from cloud.hub.sensorthings.resource import Target, resolve
from cloud.hub.sensorthings.syntax import MAX_CHARS
from cloud.hub.sensorthings.values import to_json, to_text
from cloud.hub.sensorthings.view import View
from cloud.hub.sensorthings.world import World
from cloud.stores.base import Columns, Selector, Series

PREFIX = "/sensorthings/v1.1"
WORKERS = 4  # answers computed at once: they bound the memory, and there are two cores
WAITING = 200  # more than these are told to come later
MAX_QUERY_CHARS = 16_000
_RETRY_AFTER_S = 2.0
_MAX_FIELDS = 50
_AUDITED_IDS = 100
_HOST = re.compile(r"[\w.\-]{1,255}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?", re.ASCII)


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/problem+json": {}}}


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Entities, an entity, a property; `/$value` is plain text", "content": {"text/plain": {}}},
    204: {"description": "The property has no value"},
    400: _problem("A query option is wrong; `parameter` names it"),
    401: _problem("No token, or one that is unknown, expired or revoked"),
    403: _problem("Readings that your department may not have; names whom to ask"),
    404: _problem("No such entity, or none that you may know of"),
    413: _problem("The answer would look at too much; says what to narrow"),
    429: _problem("Too many requests at once, or too many wrong tokens"),
    503: _problem("The database does not answer"),
}

router = APIRouter(prefix=PREFIX, tags=["SensorThings"])


_SELECT = "Properties, separated by commas: name,properties/owner"
_EXPAND = "Relations, each with options of its own: Observations($top=1;$orderby=phenomenonTime desc)"
_ORDERBY = "Keys, each with asc or desc: phenomenonTime desc"
_FILTER = "Which ones: phenomenonTime ge 2026-01-01T00:00:00Z and resultQuality/quality eq 'good'"


def _option(name: str, description: str, **bounds: Any) -> Any:
    return Query(alias=name, description=description, **bounds)


class Options:
    """The query options, for the API's document; they are parsed as the standard has them, in query.py."""

    def __init__(
        self,
        _filter: Annotated[str | None, _option("$filter", _FILTER, max_length=MAX_CHARS)] = None,
        _select: Annotated[str | None, _option("$select", _SELECT, max_length=MAX_CHARS)] = None,
        _expand: Annotated[str | None, _option("$expand", _EXPAND, max_length=MAX_CHARS)] = None,
        _orderby: Annotated[str | None, _option("$orderby", _ORDERBY, max_length=MAX_CHARS)] = None,
        _top: Annotated[int | None, _option("$top", "How many; at most 1000 come", ge=0, le=2**63)] = None,
        _skip: Annotated[int | None, _option("$skip", "How many to leave out", ge=0, le=MAX_SKIP)] = None,
        _count: Annotated[bool | None, _option("$count", "Say how many there are")] = None,
        _format: Annotated[str | None, _option("resultFormat", "dataArray", max_length=20)] = None,
    ) -> None: ...


Documented: Dependency = Depends(Options)


@router.get("", responses=_RESPONSES, summary="The entity sets and what is implemented")
async def read_root(request: Request, _: Asker) -> Response:
    """The service document."""
    return _json(root(base_of(request)))


@router.get("/{path:path}", responses=_RESPONSES, dependencies=[Documented], summary="Entities by path")
async def read(path: str, request: Request, hub: HubPart, reader: Asker) -> Response:
    """What a resource path names: a collection, an entity, a property, `/$value`, `/$ref`."""
    if not path.strip("/"):
        return _json(root(base_of(request)))
    pairs = pairs_of(request)
    if _kept(request).limiter.statistics().tasks_waiting >= WAITING:
        raise Busy(f"{WAITING} SensorThings requests wait already", retry_after_s=_RETRY_AFTER_S)
    world = await _world_of(request, hub)
    view = View(world, reader, hub.newest, _Bridge(hub), hub.now_ns())
    answer = partial(_answer, view, path, pairs, base_of(request))
    response = await to_thread.run_sync(answer, limiter=_kept(request).limiter)
    if view.touched:
        await _record(hub, reader, path, pairs, list(view.touched.values()))
    return response


def _answer(view: View, path: str, pairs: Sequence[tuple[str, str]], base: str) -> Response:
    """The whole answer, in a worker thread."""
    target = resolve(view, path)
    answers = Answers(view, base)
    if target.form == "property":
        return _property(answers, target)
    query = parse_query(pairs, target.entity_type, view.now_ns, collection=target.form == "collection")
    if target.entity is None:
        return _json(answers.collection(target, query))
    return _json(answers.reference(target.entity) if target.reference else answers.entity(target.entity, query))


def _property(answers: Answers, target: Target) -> Response:
    assert target.entity is not None  # noqa: S101 - a property is one of an entity
    found = answers.value(target.entity, target.keys)
    if found is ABSENT and len(target.keys) > 1:
        raise NotThere(f"nothing at {target.path}")
    if found is ABSENT or found is None:
        return Response(status_code=204)
    if target.value:
        return Response(to_text(found).encode(), media_type="text/plain; charset=utf-8")
    return _json({target.keys[-1]: found})


def _json(document: object) -> Response:
    return Response(to_json(document), media_type="application/json")


async def _record(
    hub: Hub, reader: Reader, path: str, pairs: Sequence[tuple[str, str]], entries: Sequence[Entry]
) -> None:
    """One line of the audit for a request that looked at values above grade `open`."""
    detail = {
        "streams": [entry.id for entry in entries[:_AUDITED_IDS]],
        "count": len(entries),
        "query": "&".join(f"{name}={value}" for name, value in pairs)[:500],
    }
    await hub.trail.record(f"{reader.token} {reader.department}", "read", f"sensorthings {path[:200]}", detail)


def pairs_of(request: Request) -> list[tuple[str, str]]:
    """The query of a request. Raises BadQuery."""
    raw = bytes(request.scope["query_string"])
    if len(raw) > MAX_QUERY_CHARS:
        raise BadQuery("query", f"at most {MAX_QUERY_CHARS} characters", f"{len(raw)} characters")
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:  # UnicodeDecodeError too
        raise BadQuery("query", f"UTF-8, at most {_MAX_FIELDS} options") from None


def base_of(request: Request) -> str:
    """The service's address as this client wrote it, behind whatever prefix a proxy gave it."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        server = request.scope.get("server") or ("localhost", None)
        host = f"{server[0]}:{server[1]}" if server[1] else str(server[0])
    prefix = quote(str(request.scope.get("root_path", "")).rstrip("/"))
    return f"{request.scope['scheme']}://{host}{prefix}{PREFIX}"


# -- what is kept between requests -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Kept:
    """The world of the newest catalogue, and how many answers are computed at once."""

    limiter: CapacityLimiter
    lock: threading.Lock
    version: int | None = None
    world: World | None = None

    def build(self, version: int, entries: Sequence[Entry]) -> World:
        """The world of these entries; of two that come at once, one builds it. In a worker thread."""
        with self.lock:
            if self.world is None or self.version != version:
                self.world, self.version = World(entries), version
            return self.world


def _kept(request: Request) -> _Kept:
    state = request.app.state
    kept = getattr(state, "sensorthings", None)
    if not isinstance(kept, _Kept):
        kept = state.sensorthings = _Kept(CapacityLimiter(WORKERS), threading.Lock())
    return kept


async def _world_of(request: Request, hub: Hub) -> World:
    kept, version = _kept(request), hub.catalogue.version
    if kept.world is not None and kept.version == version:
        return kept.world
    entries = tuple(hub.catalogue.all())
    return await to_thread.run_sync(kept.build, version, entries, limiter=kept.limiter)


class _Bridge:
    """The store and the catalogue's history, asked from a worker thread."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def columns(self, series: Series, start_ns: int, end_ns: int, *, limit: int) -> Columns:
        """See Store.columns."""
        return from_thread.run(partial(self._hub.store.columns, series, start_ns, end_ns, limit=limit))

    def count(self, selector: Selector) -> dict[tuple[str, str, str], int]:
        """See Store.count."""
        return from_thread.run(self._hub.store.count, selector)

    def versions(self, number: int) -> list[Entry]:
        """See Entries.versions."""
        return from_thread.run(self._hub.catalogue.versions, number)

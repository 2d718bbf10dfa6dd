"""The newest values, and values as they come: server-sent events, or a WebSocket where a browser wants one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, Header, WebSocket, WebSocketDisconnect
from fastapi import Query as Parameter
from fastapi.responses import Response, StreamingResponse

from cloud.hub.access import Reader, audited, readable, visible
from cloud.hub.catalogue_index import Query
from cloud.hub.entries import Entry
from cloud.hub.filters import check_text, filters_of
from cloud.hub.live import worded
from cloud.hub.parts import Asker, Hub, HubPart, Told, hub_of, secret_in
from cloud.hub.passing import read_event_id
from cloud.hub.problems import BadQuery, NotAllowed, NotThere, Problem

router = APIRouter(prefix="/api/v1", tags=["values"])
MAX_STREAMS = 200
MAX_PAGE = 1000
HEARTBEAT_S = 15
HELLO_S = 10.0
MAX_NAMED = 100
_TRY_AGAIN, _POLICY, _SLOW = 1013, 1008, 4008
_ANY = Query()
Filters = Annotated[Query, Depends(filters_of)]
Streams = Annotated[list[str] | None, Parameter(max_length=MAX_STREAMS, description="ids of streams; repeatable")]


@router.get("/latest")
async def latest(
    asker: Asker,
    hub: HubPart,
    query: Filters,
    stream: Streams = None,
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = 100,
    after: Annotated[int, Parameter(ge=0, le=2**31 - 1, description="`next` of the page before")] = 0,
) -> Response:
    """The newest value of each stream that you may read, by number, a page at a time."""
    index = hub.catalogue.index
    mask = index.readable(asker) & index.matching(query)
    if stream:
        numbers = [entry.number for entry in named(hub, asker, stream)]
        mask &= np.isin(index.numbers, numbers)
    places = np.flatnonzero(mask)
    first = int(np.searchsorted(index.numbers[places], after, side="right"))
    entries = [index.entries[at] for at in places[first : first + limit]]
    await _record(hub, asker, "latest", entries)
    now_ns = hub.now_ns()
    found = {
        "total": len(places),
        "values": [valued(hub, entry, now_ns) for entry in entries],
        "next": entries[-1].number if entries and first + limit < len(places) else None,
    }
    return Response(msgspec.json.encode(found), media_type="application/json")


@router.get(
    "/latest/{stream_id:path}", responses={403: {"description": "not yours"}, 404: {"description": "no such stream"}}
)
async def latest_of(stream_id: str, asker: Asker, hub: HubPart) -> dict[str, Any]:
    """The newest value of one stream."""
    (entry,) = named(hub, asker, [stream_id])
    await _record(hub, asker, "latest", [entry])
    return valued(hub, entry, hub.now_ns())


@router.get("/live", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def live(
    asker: Asker,
    hub: HubPart,
    query: Filters,
    stream: Streams = None,
    after: Annotated[str | None, Parameter(max_length=40, description="the id of the last event you had")] = None,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> Response:
    """Values as they come, as server-sent events; `Last-Event-ID` or `after` takes up where you were."""
    position = _position(last_event_id or after)
    numbers = [entry.number for entry in named(hub, asker, stream)] if stream else None
    await hub.live.ready()
    hub.live.open()
    await _record(hub, asker, "live", _of_wish(hub, asker, numbers, query))
    following = hub.live.follow(asker, numbers, None if query == _ANY else query, position)
    return StreamingResponse(
        _server_sent(following), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


@router.websocket("/live/ws")
async def live_socket(socket: WebSocket) -> None:
    """Values as they come. The first message is {"token", "stream": [...], "after"}; then arrays of readings come."""
    hub = hub_of(socket)
    await socket.accept()
    try:
        async with asyncio.timeout(HELLO_S):
            hello = msgspec.json.decode(await socket.receive_text(), type=_Hello)
        secret = hello.token or secret_in(socket.headers.get("authorization", ""))
        reader = await hub.tokens.reader_of(secret, socket.client.host if socket.client else "")
        if reader is None:
            await socket.close(_POLICY, "this token is unknown, expired or revoked")
            return
        query = filters_of(
            area=hello.area, gateway=None, device=None, owner=hello.owner, quantity=hello.quantity, grade=None,
            text=None, bbox=None, left=False,
        )  # fmt: skip
        numbers = [entry.number for entry in named(hub, reader, hello.stream)] if hello.stream else None
        position = _position(hello.after)
        await hub.live.ready()
        hub.live.open()
        await _record(hub, reader, "live", _of_wish(hub, reader, numbers, query))
    except (msgspec.MsgspecError, TimeoutError, KeyError):
        with contextlib.suppress(RuntimeError):
            await socket.close(_POLICY, 'expected {"token": "...", "stream": [...]} within ten seconds')
        return
    except Problem as problem:
        await socket.close(_TRY_AGAIN if problem.status in {429, 503} else _POLICY, problem.detail[:100])
        return
    except WebSocketDisconnect:
        return
    await _speak(socket, hub.live.follow(reader, numbers, None if query == _ANY else query, position))


class _Hello(msgspec.Struct, forbid_unknown_fields=True):
    token: str = ""
    stream: list[str] = []
    area: str | None = None
    owner: str | None = None
    quantity: str | None = None
    after: str | None = None


async def _speak(socket: WebSocket, following: AsyncGenerator[list[Told] | None]) -> None:
    listening = asyncio.create_task(_until_gone(socket), name="live socket")
    try:
        async for told in following:
            if listening.done():
                return
            if told is None:
                continue
            for end in (one for one in told if one.event != "reading"):
                if end.event == "dropped":
                    await socket.close(_SLOW, "slower than the readings come; resume with the last id")
                    return
                await socket.send_text(json.dumps({"event": end.event, **json.loads(end.data)}))
            readings = [one.data for one in told if one.event == "reading"]
            if readings:
                await socket.send_text(f"[{','.join(readings)}]")
        await socket.close(_POLICY, "this token is not good any more")
    except (WebSocketDisconnect, RuntimeError):
        return  # gone in the middle of a word
    finally:
        listening.cancel()
        await following.aclose()


async def _until_gone(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive()


async def _server_sent(following: AsyncGenerator[list[Told] | None]) -> AsyncIterator[bytes]:
    yield b": here\n\n"
    quiet_s = 0
    async for told in following:
        if told is None:
            quiet_s += 1
            if quiet_s >= HEARTBEAT_S:
                quiet_s = 0
                yield b": still here\n\n"
            continue
        quiet_s = 0
        yield "".join(_sse(one) for one in told).encode()
    yield b"event: end\ndata: {}\n\n"


def _sse(one: Told) -> str:
    head = f"id: {one.id}\n" if one.id else ""
    return f"{head}event: {one.event}\ndata: {one.data}\n\n"


def valued(hub: Hub, entry: Entry, now_ns: int) -> dict[str, Any]:
    """A stream's newest value with its age."""
    found: dict[str, Any] = {"stream": entry.id, "number": entry.number, "quantity": entry.quantity, "unit": entry.unit}
    one = hub.newest.get(entry.number)
    if one is None:
        return {**found, "time": None, "value": None, "quality": "missing", "reason": "silent", "age_s": None}
    return {**found, **worded(one), "age_s": round((now_ns - one.time_ns) / 1e9, 3)}


def named(hub: Hub, reader: Reader, ids: list[str]) -> list[Entry]:
    """The streams of these ids. Raises NotThere, NotAllowed."""
    found = []
    for stream_id in ids:
        entry = hub.catalogue.get(check_text("stream", stream_id))
        if entry is None or not visible(reader, entry):
            raise NotThere(f"no such stream: {stream_id[:200]}")
        if not readable(reader, entry):
            ask = entry.contact or entry.owner or "the operator of the hub"
            raise NotAllowed(f"{entry.id} is {entry.grade.value}, of {entry.owner or 'nobody'}: ask {ask}", ask=ask)
        found.append(entry)
    return found


def _of_wish(hub: Hub, reader: Reader, numbers: list[int] | None, query: Query) -> list[Entry]:
    index = hub.catalogue.index
    if numbers is not None:
        return [entry for number in numbers if (entry := hub.catalogue.by_number(number)) is not None]
    return [index.entries[at] for at in np.flatnonzero(index.readable(reader) & index.matching(query)).tolist()]


async def _record(hub: Hub, reader: Reader, action: str, entries: list[Entry]) -> None:
    named = [entry.id for entry in entries if audited(entry)]
    if named:
        detail = {"streams": named[:MAX_NAMED], "count": len(named), "purpose": reader.purpose}
        subject = named[0] if len(named) == 1 else f"{len(named)} streams"
        await hub.trail.record(f"{reader.token} {reader.department}", action, subject, detail)


def _position(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    try:
        return read_event_id(text)
    except ValueError:
        raise BadQuery("Last-Event-ID", "the id of an event of this stream, such as 1234.5", text) from None

"""Commands from the cloud to a gateway, and what purging means for one frame.

JSON on the gateway's `cmd` topic, and one or more answers on its `reply` topic:

    {"id": "p-1f3c", "kind": "purge", "until_ns": 1790..., "streams": [["meter-1", "power"], ["meter-2", ""]]}
    {"id": "p-1f3c", "done": true, "readings": 1200, "detail": "3 frames rewritten"}

id: given by the cloud; a command of an id that is known is not done again, only answered again. streams: device and
name; an empty name means the whole device, an empty list the whole gateway. until_ns: readings measured before it.
done: false as long as something may still be there; the gateway goes on by itself and answers again at the end.
readings: how many were destroyed for this command so far.

A command that gets lost is sent again by the cloud. Who may publish it is decided by the broker's access rules.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.catalogue import Birth
from contract.errors import FrameError
from contract.frame_types import Counters, Frame
from contract.readings import ABSENT, Ints, Kind, Table

MAX_BYTES = 4 * 1024 * 1024
MAX_STREAMS = 20_000
MAX_DETAIL_CHARS = 500
MAX_ID_CHARS = 100


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a gateway is told to do. See the module for its fields."""

    id: str
    kind: Literal["purge"]
    until_ns: int
    streams: list[tuple[str, str]] = []


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a gateway answers. See the module for its fields."""

    id: str
    done: bool
    readings: int = 0
    detail: str = ""


Message = TypeVar("Message", Command, Reply)
_encoder = msgspec.json.Encoder()
_commands = msgspec.json.Decoder(Command)
_replies = msgspec.json.Decoder(Reply)


def encode(message: Command | Reply) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def decode_command(data: bytes) -> Command:
    """The command in `data`; raises FrameError for anything else."""
    command = _decoded(data, _commands)
    if len(command.streams) > MAX_STREAMS:
        raise FrameError(f"a command about {len(command.streams)} streams; {MAX_STREAMS} is the most")
    return command


def decode_reply(data: bytes) -> Reply:
    """The reply in `data`; raises FrameError for anything else."""
    reply = _decoded(data, _replies)
    if reply.readings < 0:
        raise FrameError("not a reply: a negative count")
    return reply


def _decoded(data: bytes, decoder: "msgspec.json.Decoder[Message]") -> Message:
    if len(data) > MAX_BYTES:
        raise FrameError(f"a message of {len(data)} bytes; {MAX_BYTES} is the most")
    try:
        found = decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a command or reply: {error}") from None
    if not 0 < len(found.id) <= MAX_ID_CHARS:
        raise FrameError(f"an id has 1 to {MAX_ID_CHARS} characters")
    return found


def chosen(birth: Birth, streams: Iterable[tuple[str, str]]) -> frozenset[int]:
    """The ids of a catalogue that a command's `streams`, which are not empty, are about."""
    names = frozenset(streams)
    return frozenset(
        stream.id
        for device in birth.devices
        for stream in device.streams
        if (device.name, stream.name) in names or (device.name, "") in names
    )


def without(frame: Frame, streams: Collection[int] | None, until_ns: int) -> tuple[Frame, int]:
    """The frame without the readings of these streams (None: of all) before `until_ns`, and how many those were.

    The readings of other streams, gaps, and every number of the books stay; what is destroyed counts as thinned, so
    that readings + gaps + suppressed + thinned is what it was and the ledger closes. Undated readings count as older
    than any `until_ns`. Where a frame has no books for the stream, readings go all the same.
    """
    wanted = None if streams is None else np.fromiter(streams, dtype=np.int64)
    tables, lost = [], dict[int, int]()
    for table in frame.tables:
        kept, dropped = _without(table, wanted, None if frame.header.undated else until_ns)
        if kept.times.size:
            tables.append(kept)
        for stream, count in zip(table.streams[dropped > 0].tolist(), dropped[dropped > 0].tolist(), strict=True):
            lost[stream] = lost.get(stream, 0) + count
    if not lost:
        return frame, 0
    return replace(frame, tables=tuple(tables), counters=_counted(frame.counters, lost)), sum(lost.values())


def _without(table: Table, streams: Ints | None, until_ns: int | None) -> tuple[Table, Ints]:
    """The table without the readings, values included, and rows that are empty now; and how many each column lost."""
    columns: NDArray[np.bool_] = (
        np.ones(len(table.streams), np.bool_) if streams is None else np.isin(table.streams, streams)
    )
    rows = np.ones(len(table.times), np.bool_) if until_ns is None else table.times < until_ns
    dropped = rows[:, None] & columns & table.present()
    counts: Ints = np.count_nonzero(dropped, axis=0).astype(np.int64)
    if not counts.any():
        return table, counts
    nothing = "" if table.kind is Kind.TEXT else 0
    values = np.where(dropped, np.array(nothing, dtype=table.values.dtype), table.values)
    status = np.where(dropped, np.uint8(ABSENT), table.status)
    left = (status != ABSENT).any(axis=1)
    return replace(table, times=table.times[left], values=values[left], status=status[left]), counts


def _counted(counters: Counters | None, lost: dict[int, int]) -> Counters | None:
    if counters is None:
        return None
    more = [lost.get(stream, 0) for stream in counters.streams.tolist()]
    return replace(counters, thinned=counters.thinned + np.array(more, dtype=np.int64))

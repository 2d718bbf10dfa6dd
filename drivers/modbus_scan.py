"""One scan of one device: its requests, where their replies go, and what the device taught us by refusing.

An exception 2 says that some register of a block does not exist, not which. The guilty ones are found by halving, once;
from then on the plan goes around them, and a retry now and then notices when they come to exist. Refusals by a device
of which nothing could be read at all are doubtful: many answer so while they start.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contract.readings import GOOD, Reason, gap
from drivers.base import Block, Scan
from drivers.modbus_decode import Decoder
from drivers.modbus_frame import Call, read_call
from drivers.modbus_plan import Limits, Request, Wanted, hull, limits_of, plan
from drivers.modbus_spec import ModbusDevice, ModbusStream
from drivers.modbus_terms import Span, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A planned request, compiled: what to send, which part of the buffer its reply fills, whose values it brings."""

    request: Request
    call: Call
    place: slice
    positions: NDArray[np.intp]


class Troubles:
    """Why values of a scan are missing, by position: logged when it starts and when it ends."""

    def __init__(self, device: str, streams: Sequence[ModbusStream]) -> None:
        self.texts: dict[int, str] = {}
        self._device = device
        self._streams = streams

    def begin(self, positions: Iterable[int], text: str) -> None:
        """These values are missing because of `text`."""
        fresh = [position for position in positions if position not in self.texts]
        self.texts.update(dict.fromkeys(positions, text))
        if fresh:
            more = f" and {len(fresh) - 5} more" if len(fresh) > 5 else ""
            log.warning("%s: %s: no value of %s%s", self._device, text, self._names(fresh), more)

    def end(self, positions: Iterable[int]) -> None:
        """These values are there again."""
        back = [position for position in positions if self.texts.pop(position, None) is not None]
        if back:
            log.info("%s: %s answered again (%d values)", self._device, self._names(back), len(back))

    def _names(self, positions: Sequence[int]) -> str:
        return ", ".join(self._streams[position].name for position in positions[:5])


class Missing:
    """The registers of a scan that do not exist, by position, and when each is looked for again (ns).

    What was refused while nothing at all could be read is doubtful: the device may only have been starting.
    """

    def __init__(self) -> None:
        self.retry_at_ns: dict[int, int] = {}
        self._doubtful: set[int] = set()
        self._forgiven_ns: int | None = None

    def due(self, now_ns: int, most: int) -> list[int]:
        """Those whose time has come, at most so many."""
        return [position for position, at_ns in self.retry_at_ns.items() if at_ns <= now_ns][:most]

    def next(self) -> int:
        """One of them, another one each time. There must be some."""
        position, at_ns = next(iter(self.retry_at_ns.items()))
        del self.retry_at_ns[position]
        self.retry_at_ns[position] = at_ns
        return position

    def doubt(self, positions: Iterable[int]) -> None:
        """These were refused while nothing could be read."""
        self._doubtful.update(positions)

    def forgiven(self, now_ns: int, again_after_ns: int) -> set[int]:
        """Something can be read now: the doubtful ones, but not too often, for the device may be right."""
        if not self._doubtful or (self._forgiven_ns is not None and now_ns - self._forgiven_ns < again_after_ns):
            return set()
        self._forgiven_ns = now_ns
        forgiven = self._doubtful & self.retry_at_ns.keys()
        self._doubtful.clear()
        return forgiven


class ScanReader:
    """The state of one scan across polls. Bounded by the scan's own size."""

    def __init__(self, scan: Scan) -> None:
        if not isinstance(scan.device, ModbusDevice):
            raise TypeError(f"a Modbus bus polls Modbus devices, found {type(scan.device).__name__}")
        self.scan = scan
        self.device = scan.device
        self.streams: list[ModbusStream] = [stream for stream in scan.streams if isinstance(stream, ModbusStream)]
        self.wanted: list[Wanted] = []
        for position, stream in enumerate(self.streams):
            first = self.device.wire(stream)
            self.wanted.append(Wanted(Span(stream.table, first, first + stream.registers - 1), position))
        self._asks: list[Ask] = []
        self.missing = Missing()
        self.troubles = Troubles(self.device.name, self.streams)
        self._cuts: dict[Table, set[int]] = defaultdict(set)
        self._outdated = False
        self._compile()

    def asks(self) -> tuple[Ask, ...]:
        """The requests of one poll, planned anew if the last one learned something."""
        if self._outdated:
            self._compile()
        return tuple(self._asks)

    def call_for(self, request: Request) -> Call:
        """The read of `request`."""
        return read_call(self.device.unit, request.span, self.device.name_span(request.span))

    def call_of(self, position: int) -> Call:
        """The read of one stream alone."""
        return self.call_for(hull([self.wanted[position]]))

    def _compile(self) -> None:
        places: list[tuple[int, int] | None] = [None] * len(self.streams)
        self._asks, size = [], 0
        for table in Table:
            wanted = [
                one for one in self.wanted if one.span.table is table and one.position not in self.missing.retry_at_ns
            ]
            for request in plan(wanted, self._limits(table)) if wanted else ():
                call = self.call_for(request)
                length = call.length - 2
                positions = np.array([one.position for one in request.wanted], dtype=np.intp)
                self._asks.append(Ask(request, call, slice(size, size + length), positions))
                for one in request.wanted:
                    offset = one.span.first - request.span.first
                    places[one.position] = (size + offset // 8, offset % 8) if table.is_bits else (size + 2 * offset, 0)
                size += length
        orders = [(stream, self.device.order_of(stream)) for stream in self.streams]
        self.decoder = Decoder(orders, places, self.scan.n_floats, size)
        self._status = np.full(len(self.streams), GOOD, dtype=np.uint8)
        self._status[list(self.missing.retry_at_ns)] = gap(Reason.NO_REGISTER)
        self._outdated = False

    def _limits(self, table: Table) -> Limits:
        own = limits_of(self.device, table)
        missing = [(one.span.first, one.span.last) for one in self.wanted if one.position in self.missing.retry_at_ns]
        return replace(own, forbidden=(*own.forbidden, *missing), cuts=frozenset(self._cuts[table]))

    def new_block(self, time_ns: int) -> Block:
        """A block in which only the missing registers are gaps."""
        scan = self.scan
        ints = np.zeros(scan.n_ints, dtype=np.int64)
        status = self._status.copy() if self.missing.retry_at_ns else scan.good
        return Block(scan, time_ns, np.zeros(scan.n_floats), ints, [""] * scan.n_texts, status)

    def take(self, ask: Ask, pdu: bytes) -> None:
        """Store a reply to a planned request."""
        self.decoder.buffer[ask.place] = pdu[2:]

    def take_part(self, ask: Ask, part: Span, pdu: bytes) -> None:
        """Store a reply to a part of a planned request."""
        offset = part.first - ask.request.span.first
        if not part.table.is_bits:
            start = ask.place.start + 2 * offset
            self.decoder.buffer[start : start + len(pdu) - 2] = pdu[2:]
            return
        for bit in range(part.last - part.first + 1):
            byte, mask = ask.place.start + (offset + bit) // 8, 1 << (offset + bit) % 8
            on = pdu[2 + bit // 8] >> bit % 8 & 1
            self.decoder.buffer[byte] = self.decoder.buffer[byte] & ~mask | (mask if on else 0)

    def finish(self, block: Block, gaps: Iterable[tuple[Sequence[int] | NDArray[np.intp], int]]) -> Block:
        """Decode what was stored, then lay the gaps over it."""
        self.decoder.decode(block)
        for positions, code in gaps:
            block.own_status()[positions] = code
        if block.clean:
            return block
        missing = block.status >= 0xC0
        if missing.any():
            block.floats[missing[: len(block.floats)]] = 0.0
            block.ints[missing[len(block.floats) : len(block.floats) + len(block.ints)]] = 0
        return block

    def postpone(self, ask: Ask) -> None:
        """Let the others go first next time, so that one silent block starves no other."""
        self._asks.remove(ask)
        self._asks.append(ask)

    def condemn(self, one: Wanted, text: str, retry_at_ns: int) -> None:
        """The device has no such register: leave it out until `retry_at_ns`."""
        self.missing.retry_at_ns[one.position] = retry_at_ns
        self._outdated = True
        self.troubles.begin((one.position,), text)

    def cut(self, before: Span) -> None:
        """Reading across this place is refused though both sides can be read: never do so again."""
        self._cuts[before.table].add(before.first)
        self._outdated = True
        log.info("%s: %s is read apart from what precedes it", self.device.name, self.device.name_span(before))

    def restore(self, positions: Iterable[int]) -> None:
        """These registers exist after all: read them with the others from the next plan on."""
        back = list(positions)
        for position in back:
            del self.missing.retry_at_ns[position]
            self._outdated = True
        self.troubles.end(back)

"""Modbus: registers of meters, transmitters and controllers become blocks of readings.

The bus polls through its own transaction loop (drivers/modbus_link.py) because a late or foreign reply must never pass
for the answer, which pymodbus's client does not ensure (drivers/modbus_frame.py says where); pymodbus encodes requests
and checksums. Reads are planned (modbus_plan), replies decoded by columns (modbus_decode), refusals learned from
(modbus_scan).

What each failure becomes:

    no answer in time                 DeviceUnavailable(TIMEOUT); or, when part of the scan was read, gaps(TIMEOUT)
    garbage, checksum, foreign reply  the same with GARBAGE
    connection refused, lost          DeviceUnavailable(DISCONNECTED, whole_bus=True)
    exception 2                       halved until the register is named: gap(NO_REGISTER), looked at again later;
                                      sooner when nothing at all could be read, for the device may only be starting
    exceptions 5, 6, 10, 11           the device or its gateway is busy or away: nothing more is asked of it in this
                                      poll, gaps(REFUSED); DeviceUnavailable(REFUSED) when nothing was read
    other exceptions                  gaps(REFUSED) for that request; DeviceUnavailable(REFUSED) when nothing was read
    bytes that form no value          gap(UNDECODABLE)

Values are raw on both ways: scale and offset are the pipeline's.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from contract.errors import DeviceUnavailable
from contract.readings import Reason, Value, gap
from drivers.base import Block, Driver, Scan, StreamSpec, Tap
from drivers.modbus_decode import encode
from drivers.modbus_frame import ILLEGAL_ADDRESS, Call, exception_text, hex_of, write_call
from drivers.modbus_link import Link
from drivers.modbus_plan import Wanted, hull
from drivers.modbus_scan import Ask, ScanReader
from drivers.modbus_spec import ModbusBusSpec, ModbusDevice, ModbusStream
from drivers.modbus_terms import Span, Table

RETRY_MISSING_NS = 600 * 10**9  # a register that does not exist is looked for again after ten minutes
_RETRIES_PER_POLL = 2
_HALVINGS_PER_POLL = 32  # bounds how long a poll may take while guilty registers are being found
_AWAY = (5, 6, 10, 11)


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class _Poll:
    """What one poll has found so far."""

    def __init__(self) -> None:
        self.read = 0
        self.halvings = 0
        self.condemned: list[int] = []
        self.gaps: list[tuple[Sequence[int] | NDArray[np.intp], int]] = []
        self.failure: DeviceUnavailable | None = None

    def fail(self, positions: Sequence[int] | NDArray[np.intp], reason: Reason, text: str) -> None:
        self.gaps.append((positions, gap(reason)))
        self.failure = self.failure or DeviceUnavailable(reason, text)


class ModbusBus:
    """One connection and its devices. `clock_ns`: CLOCK_BOOTTIME, for readings and retries."""

    def __init__(self, spec: ModbusBusSpec, scans: Sequence[Scan], clock_ns: Callable[[], int] = _boottime_ns) -> None:
        self._spec = spec
        self._clock_ns = clock_ns
        self._link = Link(spec)
        self._readers = {scan: ScanReader(scan) for scan in scans}
        self._frames: dict[str, tuple[bytes, bytes]] = {}

    async def open(self) -> None:
        """Connect. Raises DeviceUnavailable(DISCONNECTED, whole_bus=True)."""
        await self._link.open()

    async def close(self) -> None:
        """Disconnect. Never raises."""
        self._link.close()

    async def poll(self, scan: Scan) -> Block:
        """Read the scan. Its time is half way between the first request and the last reply."""
        reader = self._readers[scan]
        await self._link.ready()
        begun_ns = self._clock_ns()
        found = _Poll()
        asks = reader.asks() or await self._ask_again(reader)
        for index, ask in enumerate(asks):
            stop = await self._read(reader, ask, found)
            if stop is not None:
                rest = np.concatenate([left.positions for left in asks[index:]])
                self._explain(reader, rest, found, *stop)
                break
        ended_ns = self._clock_ns()
        block = reader.finish(reader.new_block(begun_ns + (ended_ns - begun_ns) // 2), found.gaps)
        if reader.missing.retry_at_ns:
            await self._retry_missing(reader, ended_ns)
        if not found.read:
            reader.missing.doubt(found.condemned)
            raise found.failure or self._nothing_there(reader)
        reader.restore(reader.missing.forgiven(ended_ns, RETRY_MISSING_NS))
        return block

    async def _ask_again(self, reader: ScanReader) -> tuple[Ask, ...]:
        """No register is known to exist: look for one, another one each time. Its answer brings all of them back."""
        pdu = await self._ask(reader.device, reader.call_of(reader.missing.next()))
        if pdu[0] < 0x80:
            reader.restore(tuple(reader.missing.retry_at_ns))
        return reader.asks()

    async def _read(self, reader: ScanReader, ask: Ask, found: _Poll) -> tuple[Reason, str] | None:
        """Do one planned request; the reason when the device is to be left alone for the rest of this poll."""
        try:
            pdu = await self._ask(reader.device, ask.call)
            if pdu[0] >= 0x80 and pdu[1] == ILLEGAL_ADDRESS:
                await self._narrow(reader, ask, ask.request.wanted, found)
                return None
        except DeviceUnavailable as error:
            reader.postpone(ask)
            if error.whole_bus or not found.read:
                raise
            return error.reason, str(error)
        if pdu[0] < 0x80:
            reader.take(ask, pdu)
            found.read += 1
            if reader.troubles.texts:
                reader.troubles.end(ask.positions.tolist())
            return None
        text = self._refusal(ask.call, pdu)
        if pdu[1] in _AWAY:
            return Reason.REFUSED, text
        self._explain(reader, ask.positions, found, Reason.REFUSED, text)
        return None

    async def _narrow(self, reader: ScanReader, ask: Ask, wanted: Sequence[Wanted], found: _Poll) -> None:
        """`wanted` together met exception 2: read what can be read of it, and find what cannot."""
        if len(wanted) == 1:
            call = reader.call_for(hull(wanted))
            text = self._refusal(call, bytes((call.pdu[0] | 0x80, ILLEGAL_ADDRESS)))
            reader.condemn(wanted[0], text, self._clock_ns() + RETRY_MISSING_NS)
            found.condemned.append(wanted[0].position)
            found.fail((wanted[0].position,), Reason.NO_REGISTER, text)
            return
        middle = len(wanted) // 2
        halves = wanted[:middle], wanted[middle:]
        if all([await self._read_part(reader, ask, half, found) for half in halves]):  # both, whatever the first says
            reader.cut(halves[1][0].span)

    async def _read_part(self, reader: ScanReader, ask: Ask, wanted: Sequence[Wanted], found: _Poll) -> bool:
        """Read a part of a planned request; False unless that went well at once."""
        positions = [one.position for one in wanted]
        part = hull(wanted)
        call = reader.call_for(part)
        found.halvings += 1
        if found.halvings > _HALVINGS_PER_POLL:
            found.fail(positions, Reason.REFUSED, f"{ask.call.where}: still finding out which registers exist")
            return False
        pdu = await self._ask(reader.device, call)
        if pdu[0] < 0x80:
            reader.take_part(ask, part.span, pdu)
            found.read += 1
            return True
        if pdu[1] == ILLEGAL_ADDRESS:
            await self._narrow(reader, ask, wanted, found)
        else:
            self._explain(reader, positions, found, Reason.REFUSED, self._refusal(call, pdu))
        return False

    async def _retry_missing(self, reader: ScanReader, now_ns: int) -> None:
        for position in reader.missing.due(now_ns, _RETRIES_PER_POLL):
            reader.missing.retry_at_ns[position] = now_ns + RETRY_MISSING_NS
            try:
                pdu = await self._ask(reader.device, reader.call_of(position))
            except DeviceUnavailable:
                return  # the next poll meets the same trouble and explains it
            if pdu[0] < 0x80:
                reader.restore((position,))

    async def write(self, scan: Scan, stream: StreamSpec, value: Value) -> None:
        """Write one raw value (before scale and offset) with function 5, 6, 15 or 16.

        Raises ValueError when the stream is read-only, a bit field, or cannot hold the value; DeviceUnavailable.
        """
        device = scan.device
        if not isinstance(device, ModbusDevice) or not isinstance(stream, ModbusStream):
            raise TypeError("a Modbus bus writes streams of Modbus devices")
        if stream.table not in (Table.COIL, Table.HOLDING):
            raise ValueError(f"{stream.name!r}: {device.place(stream)} is read-only")
        raw = encode(stream, device.order_of(stream), value)
        first = device.wire(stream)
        span = Span(stream.table, first, first + stream.registers - 1)
        call = write_call(device.unit, span, raw, device.name_span(span), single=device.write_single)
        pdu = await self._ask(device, call)
        if pdu[0] >= 0x80:
            raise DeviceUnavailable(Reason.REFUSED, self._refusal(call, pdu))

    def explain(self, scan: Scan) -> dict[str, str]:
        """For each stream of the scan that the device refuses: why, naming the register."""
        reader = self._readers[scan]
        return {reader.streams[position].name: text for position, text in reader.troubles.texts.items()}

    def last_exchange(self, device: str) -> str:
        """Hex of the device's last request frame and reply PDU, for a technician with the manual; empty before any."""
        return hex_of(self._frames.get(device, ()))

    def tap(self, tap: Tap | None) -> None:
        """Show `tap` every request and reply as frames on the wire (inside TLS); None ends it."""
        self._link.tap = tap

    async def _ask(self, device: ModbusDevice, call: Call) -> bytes:
        try:
            return await self._link.ask(call)
        finally:
            self._frames[device.name] = (self._link.last_request, self._link.last_reply)

    def _refusal(self, call: Call, pdu: bytes) -> str:
        return f"{exception_text(pdu[1])} for {call.where} of unit {call.unit} on {self._spec.peer}"

    @staticmethod
    def _explain(
        reader: ScanReader, positions: Sequence[int] | NDArray[np.intp], found: _Poll, reason: Reason, text: str
    ) -> None:
        found.fail(positions, reason, text)
        reader.troubles.begin([int(position) for position in positions], text)

    @staticmethod
    def _nothing_there(reader: ScanReader) -> DeviceUnavailable:
        texts = sorted(set(reader.troubles.texts.values()))
        more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
        return DeviceUnavailable(Reason.NO_REGISTER, "; ".join(texts[:3]) + more)


def connect(spec: ModbusBusSpec, scans: Sequence[Scan]) -> ModbusBus:
    """The bus of `spec`, not yet opened."""
    return ModbusBus(spec, scans)


DRIVER = Driver(name="modbus", bus_spec=ModbusBusSpec, connect=connect)

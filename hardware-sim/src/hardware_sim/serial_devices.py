"""A serial device on its pty: speaks on time, answers when asked, misbehaves as told."""

import asyncio
import json
from pathlib import Path

from hardware_sim import truth
from hardware_sim.clock import Clock
from hardware_sim.devices.talker import Message, Talker
from hardware_sim.faults import Kind
from hardware_sim.modbus_wire import Tally
from hardware_sim.pty_port import PtyPort


class SerialLine:
    """One talker on one pty. `run` speaks until cancelled."""

    def __init__(self, talker: Talker, link: Path, log: truth.Log, clock: Clock, *, dead: bool = False) -> None:
        self.talker = talker
        self.tally = Tally()
        self.port = PtyPort(link, log)
        self.port.take = self._hear
        self._clock = clock
        self._dead = dead

    @property
    def talks(self) -> bool:
        """Whether it says anything by itself."""
        return self.talker.interval_s is not None and not self._dead

    async def run(self) -> None:
        """Speak every interval, without drift; what came due while the machine slept is left out."""
        interval_s = self.talker.interval_s
        if interval_s is None:
            return
        due_s = self._clock.elapsed_s()
        while True:
            now_s = self._clock.elapsed_s()
            due_s += interval_s * max(1, (now_s - due_s) // interval_s)
            await asyncio.sleep(max(0, due_s - now_s))
            for message in self.talker.speak():
                self._say(message, asked=False)

    def _hear(self, data: bytes) -> None:
        if self._dead:
            return
        for message in self.talker.hear(data):
            self._say(message, asked=True)

    def _say(self, message: Message, *, asked: bool) -> None:
        self.tally.requests += 1
        talker = self.talker
        record = self._record(message, late=False)
        faults = talker.instrument.faults
        fault = faults.wire(self._clock.elapsed_s())
        if fault is None:
            self.port.send(message.frame, record)
            return
        self.tally.spoiled += 1
        match fault.kind:
            case Kind.CRC_ERROR:
                self.port.send(talker.corrupt(message.frame), None)
            case Kind.PARTIAL:
                self.port.send(talker.partial(message.frame), None)
            case Kind.GARBAGE:
                self.port.send(talker.garbage(faults.chance, len(message.frame)), None)
            case Kind.LATE_REPLY:
                # Nobody waits for what is said unasked: that it is late is not to be seen.
                record = self._record(message, late=asked)
                asyncio.get_running_loop().call_later(fault.delay_s, self.port.send, message.frame, record)
            case _:
                pass

    def _record(self, message: Message, *, late: bool) -> truth.Record | None:
        if not message.named:
            return None
        key = "values late" if late else "values"
        return truth.Record(self.talker.instrument.name, key, json.dumps(message.named, separators=(",", ":")))

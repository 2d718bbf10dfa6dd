"""The uplink: carries frames from the outbox to the broker, and acknowledgements back.

A frame is sent, and stays on disk. The broker's PUBACK is flow control only; what frees the disk is the acknowledgement
of the collector, which it sends when the database has the frame. Until then at most `window_frames` are under way. What
is not acknowledged in time is sent again, ever less often; after a reconnect everything under way is sent again. The
collector recognises what it has, so sending twice is harmless.

Order: live frames first, newest before older, so that the city sees the present; then the backlog, oldest first, at a
bounded rate and never more than three quarters of the window. A frame is live while it is the newest or was taken in
the last ten seconds of this connection.
"""

import asyncio
import json
import logging
import ssl
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import aiomqtt

from contract import ack as acks
from contract.errors import ConfigError, FrameError
from contract.frame import redate
from contract.topics import GatewayPath, TopicKind
from edge.config import MqttSection, PublishSection
from edge.dating import Datings
from edge.flights import Backoff, Flights, merged
from edge.outbox import Leased, Outbox
from edge.purge import SETTLE_S, Commands

log = logging.getLogger(__name__)

STATE_INTERVAL_S = 15.0
TICK_S = 1.0
LIVE_S = 10.0
STEADY_S = 10.0
FAREWELL_S = 2.0
# A frame that the broker does not confirm for so long is stuck in a dead connection, however slow the line.
PUBACK_S = 120.0
# More than any window: no collector sends it, so looking each range up would only serve who wants to keep us busy.
MAX_RANGES = 4096
MAX_REASON_CHARS = 500
_SUBSCRIPTION_REFUSED = 0x80

# Each of these means: no connection now. Files of the configuration are read at every attempt, so they may be renewed.
_Lost = (aiomqtt.MqttError, OSError, ConfigError)


@dataclass(slots=True)
class UplinkStats:
    """What the uplink did since the process began; times are CLOCK_MONOTONIC seconds."""

    connected: bool = False
    since_s: float = field(default_factory=time.monotonic)
    connections: int = 0
    failures: int = 0
    frames_sent: int = 0
    bytes_sent: int = 0
    retransmitted: int = 0
    acknowledged: int = 0
    rejected: int = 0
    bad_acks: int = 0
    last_ack_s: float | None = None
    last_error: str = ""


class Uplink:
    """One gateway's connection to its broker, for as long as the process lives."""

    def __init__(
        self,
        path: GatewayPath,
        outbox: Outbox,
        mqtt: MqttSection,
        publish: PublishSection,
        *,
        boot: int,
        epoch: int,
        datings: Datings,
    ) -> None:
        self.stats = UplinkStats()
        self._path = path
        self._outbox = outbox
        self._mqtt = mqtt
        self._backlog_bytes_per_s = publish.backlog_bytes_per_s
        self._window = publish.window_frames
        self._boot = boot
        self._epoch = epoch
        self._datings = datings
        self._commands = Commands(outbox, settle_s=publish.effective_linger_s() + SETTLE_S)
        self._flights = Flights(publish.window_frames, publish.ack_timeout_s)
        self._backoff = Backoff(mqtt.reconnect_max_s)
        self._wake = asyncio.Event()
        self._ages: deque[int] = deque(maxlen=round(LIVE_S / TICK_S))
        self._live_waits = True
        self._births_told: dict[int, float] = {}
        self._tokens = 0.0
        self._refilled_s = time.monotonic()
        self._undated_from_s = 0.0
        self._complained = False
        self._bad_ack_told = False

    async def run(self) -> None:
        """Connect, work, and connect again with jittered backoff, until cancelled. Raises Fatal when the disk fails.

        Cancelled while connected, it tells the city that this gateway stops on purpose; best effort, two seconds.
        """
        while True:
            # A task of its own: a connection that breaks while we are told to stop must not swallow the cancellation.
            session = asyncio.create_task(self._session(), name="uplink-session")
            try:
                await asyncio.wait({session})
            except asyncio.CancelledError:
                session.cancel()
                await asyncio.gather(session, return_exceptions=True)
                raise
            try:
                session.result()
            except _Lost as error:
                self._lost(error)
            await asyncio.sleep(self._backoff.next_s())

    async def _session(self) -> None:
        """One connection, from first to last. Raises what ended it, single, never as a group."""
        try:
            async with await self._client() as client:
                try:
                    await self._work(client)
                except asyncio.CancelledError:
                    await self._farewell(client)
                    raise
        except BaseExceptionGroup as group:
            raise _worst(group) from group
        finally:
            self._flights.clear()
            self._outbox.release_all()

    async def _client(self) -> aiomqtt.Client:
        password, tls = await asyncio.to_thread(self._secrets)
        will = json.dumps({"online": False, "boot": self._boot}).encode()
        client = aiomqtt.Client(
            self._mqtt.host,
            self._mqtt.port,
            username=self._mqtt.username,
            password=password,
            identifier=f"gateway-{self._path.gateway}",
            will=aiomqtt.Will(self._path.topic(TopicKind.STATE), will, qos=1, retain=True),
            clean_session=True,
            keepalive=self._mqtt.keepalive_s,
            tls_context=tls,
            timeout=max(10.0, float(self._mqtt.keepalive_s)),
            max_queued_incoming_messages=1000,
            max_inflight_messages=self._window + 4,
        )
        client.pending_calls_threshold = self._window + 8
        return client

    def _secrets(self) -> tuple[str | None, ssl.SSLContext | None]:
        """The password and the certificates as their files are now. Raises ConfigError, OSError."""
        tls = self._mqtt.tls
        return self._mqtt.read_password(), None if tls is None else tls.context()

    async def _work(self, client: aiomqtt.Client) -> None:
        topic = self._path.topic(TopicKind.ACK)
        # At QoS 0: an acknowledgement that is lost costs one frame sent twice, and saves a PUBACK for each that is not.
        answers = await client.subscribe(topic, qos=0)
        if any((answer if isinstance(answer, int) else answer.value) >= _SUBSCRIPTION_REFUSED for answer in answers):
            raise aiomqtt.MqttError(f"the broker refuses the subscription to {topic}: check its access rules")
        # A broker that knows no commands carries readings all the same: its purges stay pending at the cloud.
        await client.subscribe(self._path.topic(TopicKind.CMD), qos=1)
        self._births_told.clear()
        for epoch in self._outbox.epochs() - {self._epoch}:
            await self._publish_birth(client, epoch)
        await self._publish_birth(client, self._epoch)
        await self._publish_state(client, online=True)
        self._ages.clear()
        self._ages.append(self._outbox.next_sequence - 1)
        self._found()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(client), name="uplink-receive")
                group.create_task(self._send(client, group), name="uplink-send")
                group.create_task(self._tick(), name="uplink-tick")
                group.create_task(self._tell(client), name="uplink-tell")
                group.create_task(self._watch(), name="uplink-watch")
                group.create_task(self._commands.run(lambda data: self._reply(client, data)), name="uplink-commands")
        finally:
            self._over()

    async def _farewell(self, client: aiomqtt.Client) -> None:
        client.timeout = FAREWELL_S
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._publish_state(client, online=False)
        except (aiomqtt.MqttError, TimeoutError):
            log.info("the broker could not be told that this gateway stops; its will says so later")

    async def _publish_birth(self, client: aiomqtt.Client, epoch: int) -> bool:
        """Whether there is one. Only the catalogue in force is retained; an older one is told once, for its frames."""
        data = self._outbox.birth(epoch)
        if data is None:
            return False
        retain = epoch == self._epoch
        await client.publish(self._path.topic(TopicKind.BIRTH), data, qos=1, retain=retain, timeout=PUBACK_S)
        return True

    async def _publish_state(self, client: aiomqtt.Client, *, online: bool) -> None:
        state = {
            "online": online,
            "boot": self._boot,
            "next_sequence": self._outbox.next_sequence,
            "oldest_sequence": self._outbox.oldest_sequence,
        }
        data = json.dumps(state).encode()
        await client.publish(self._path.topic(TopicKind.STATE), data, qos=1, retain=True, timeout=PUBACK_S)

    async def _reply(self, client: aiomqtt.Client, data: bytes) -> None:
        await client.publish(self._path.topic(TopicKind.REPLY), data, qos=1, timeout=PUBACK_S)

    async def _tell(self, client: aiomqtt.Client) -> None:
        while True:
            await asyncio.sleep(STATE_INTERVAL_S)
            await self._publish_state(client, online=True)

    async def _tick(self) -> None:
        """Lets late frames go again, refills the backlog's allowance, and lets live frames grow old."""
        while True:
            await asyncio.sleep(TICK_S)
            late = self._flights.late(time.monotonic())
            self.stats.retransmitted += len(late)
            for sequence in late:
                self._outbox.release(sequence)
            self._ages.append(self._outbox.next_sequence)
            self._live_waits = True
            self._wake.set()

    async def _watch(self) -> None:
        while True:
            await self._outbox.arrived()
            self._live_waits = True
            self._wake.set()

    async def _receive(self, client: aiomqtt.Client) -> None:
        commanding = self._path.topic(TopicKind.CMD)
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else bytes(str(message.payload), "utf-8")
            if message.topic.value == commanding:
                self._commands.take(payload)
                continue
            try:
                ack = _decoded(payload)
            except FrameError as error:
                self.stats.bad_acks += 1
                if not self._bad_ack_told:
                    log.warning("an acknowledgement was not understood and is ignored: %s", error)
                self._bad_ack_told = True
                continue
            self._bad_ack_told = False
            self._take(ack)
            for epoch in set(ack.unknown_epochs[:100]):
                await self._introduce(client, ack.boot, epoch)
            self._wake.set()

    def _take(self, ack: acks.Ack) -> None:
        """What the database has is free; what the cloud will never take goes to the dead letters."""
        now_s = time.monotonic()
        self.stats.last_ack_s = now_s
        stored = merged(ack.stored)
        self.stats.acknowledged += self._outbox.commit(ack.boot, stored)
        self._flights.landed(ack.boot, stored, now_s)
        if not ack.rejected:
            return
        refused = [(sequence, sequence) for sequence, _ in ack.rejected]
        self.stats.rejected += self._flights.landed(ack.boot, refused, now_s)
        for sequence, reason in ack.rejected:
            self._outbox.reject(ack.boot, sequence, reason[:MAX_REASON_CHARS])
        first, why = ack.rejected[0]
        log.error(
            "the cloud rejects %d frames, the first is %d: %s; they are kept in the dead letters",
            len(ack.rejected),
            first,
            why[:MAX_REASON_CHARS],
        )

    async def _introduce(self, client: aiomqtt.Client, boot: int, epoch: int) -> None:
        """The cloud does not know a catalogue: tell it, then send again what waits for it, at once.

        Answers to frames that left before the birth arrive for a while; a catalogue is told once a second at most.
        """
        now_s = time.monotonic()
        waiting = self._flights.of_epoch(boot, epoch)
        if not waiting or now_s - self._births_told.get(epoch, -STEADY_S) < 1:
            return
        if not await self._publish_birth(client, epoch):
            log.error("the catalogue %08x is lost: %d of its frames go to the dead letters", epoch, len(waiting))
            for sequence in waiting:
                self._outbox.reject(boot, sequence, "its catalogue is lost")
            self._flights.drop(waiting)
            return
        self._births_told[epoch] = now_s
        again = [sequence for sequence in waiting if sequence in self._flights]
        self._flights.drop(again)
        self.stats.retransmitted += len(again)
        for sequence in again:
            self._outbox.release(sequence)
        self._live_waits = True

    async def _send(self, client: aiomqtt.Client, group: asyncio.TaskGroup) -> None:
        """Keeps the window full: live frames first, then the backlog."""
        while True:
            leased = self._next()
            if leased is None:
                await self._wake.wait()
                self._wake.clear()
                continue
            data = self._dated(leased)
            if data is None:
                continue
            size = len(data)
            self._flights.sent(leased.sequence, leased.boot, leased.epoch, size)
            self.stats.frames_sent += 1
            self.stats.bytes_sent += size
            group.create_task(self._carry(client, leased.sequence, data), name="uplink-publish")
            await asyncio.sleep(0)

    async def _carry(self, client: aiomqtt.Client, sequence: int, data: bytes) -> None:
        """Hand a frame to the broker; its patience begins when the broker has it."""
        await client.publish(self._path.topic(TopicKind.DATA), data, qos=1, timeout=PUBACK_S)
        self._flights.confirmed(sequence, len(data), time.monotonic())
        self._wake.set()

    def _next(self) -> Leased | None:
        """The next frame to send, or None when the window, the allowance or the outbox says no."""
        if not self._flights.room(backlog=False):
            return None
        undated = self._datings.settled and time.monotonic() >= self._undated_from_s
        if self._live_waits:
            leased = self._outbox.lease(newest=True, undated=undated)
            if leased is None or leased.sequence >= self._live_from:
                return leased
            self._outbox.release(leased.sequence)
            self._live_waits = False
        self._refill()
        if self._tokens <= 0 or not self._flights.room(backlog=True):
            return None
        leased = self._outbox.lease(newest=False, undated=undated)
        if leased is not None:
            self._tokens -= len(leased.data)
        return leased

    @property
    def _live_from(self) -> int:
        """The first sequence that is live: what came within LIVE_S, and always the newest."""
        return min(self._ages[0], self._outbox.next_sequence - 1)

    def _refill(self) -> None:
        now_s = time.monotonic()
        rate = self._backlog_bytes_per_s
        self._tokens = min(rate, self._tokens + (now_s - self._refilled_s) * rate)
        self._refilled_s = now_s

    def _dated(self, leased: Leased) -> bytes | None:
        """The frame as it may leave: dated. None when it cannot leave now, or never and is in the dead letters."""
        if not leased.undated:
            return leased.data
        offset = self._datings.offset(leased.boot)
        if offset is None:
            self._outbox.release(leased.sequence)
            self._undated_from_s = time.monotonic() + 1
            return None
        try:
            return redate(leased.data, offset[0], estimated=offset[1])
        except FrameError as error:
            log.warning("frame %d cannot be dated: %s; it is kept in the dead letters", leased.sequence, error)
            self._outbox.reject(leased.boot, leased.sequence, f"cannot be dated: {error}")
            return None

    def _found(self) -> None:
        self.stats.connected = True
        self.stats.connections += 1
        self.stats.since_s = time.monotonic()
        log.info("connected to the broker at %s:%d", self._mqtt.host, self._mqtt.port)
        self._complained = False

    def _over(self) -> None:
        now_s = time.monotonic()
        if now_s - self.stats.since_s >= STEADY_S:
            self._backoff.reset()
        self.stats.connected = False
        self.stats.since_s = now_s

    def _lost(self, error: BaseException) -> None:
        self.stats.failures += 1
        self.stats.last_error = str(error)
        if not self._complained:
            log.warning(
                "no connection to the broker at %s:%d (%s); sampling goes on to disk, trying again",
                self._mqtt.host,
                self._mqtt.port,
                error,
            )
        self._complained = True


def _decoded(data: bytes) -> acks.Ack:
    ack = acks.decode(data)
    if max(len(ack.stored), len(ack.rejected)) > MAX_RANGES:
        raise FrameError(f"{max(len(ack.stored), len(ack.rejected))} entries; {MAX_RANGES} are the most")
    return ack


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group that matters most: one that a new connection does not heal, if there is one."""
    leaves = list(_leaves(group.exceptions))
    return next((error for error in leaves if not isinstance(error, _Lost)), leaves[0])


def _leaves(errors: Sequence[BaseException]) -> Iterable[BaseException]:
    for error in errors:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error.exceptions)
        else:
            yield error

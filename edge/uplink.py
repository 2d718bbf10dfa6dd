"""The uplink: carries frames from the outbox to the broker, and acknowledgements back.

A frame is sent, and stays on disk. The broker's PUBACK is flow control only; what frees the disk is the acknowledgement
of the collector, which it sends when the database has the frame. Until then at most `window_frames` are under way. What
is not acknowledged in time is sent again, ever less often; after a reconnect everything under way is sent again. The
collector recognises what it has, so sending twice is harmless.

Order: live frames first, newest before older, so that the city sees the present; then the backlog, oldest first, at a
bounded rate and never more than three quarters of the window.
"""

import asyncio
import json
import logging
import random
import ssl
import time
from dataclasses import dataclass, field

import aiomqtt

from contract import ack as acks
from contract.errors import FrameError
from contract.frame import redate
from contract.topics import GatewayPath, TopicKind
from edge.config import MqttSection, PublishSection
from edge.dating import Datings
from edge.outbox import Leased, Outbox

log = logging.getLogger(__name__)

RETRY_MAX_S = 60.0
STATE_INTERVAL_S = 15.0
TICK_S = 0.25


@dataclass(slots=True)
class UplinkStats:
    """What the uplink did since the process began; times are CLOCK_MONOTONIC seconds."""

    connected: bool = False
    since_s: float = field(default_factory=time.monotonic)
    reconnects: int = 0
    frames_sent: int = 0
    bytes_sent: int = 0
    retransmitted: int = 0
    acknowledged: int = 0
    rejected: int = 0
    bad_acks: int = 0
    last_ack_s: float | None = None
    last_error: str = ""


@dataclass(slots=True)
class _Flight:
    """One frame under way."""

    deadline_s: float


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
        self._publish = publish
        self._boot = boot
        self._epoch = epoch
        self._datings = datings
        self._flights: dict[int, _Flight] = {}
        self._attempts: dict[int, int] = {}
        self._wake = asyncio.Event()
        self._live_from = 0
        self._tokens = 0.0
        self._refilled_s = time.monotonic()
        self._complained = False

    async def run(self) -> None:
        """Connect, work, and connect again with jittered backoff, until cancelled."""
        wait_s = 0.5
        while True:
            began_s = time.monotonic()
            try:
                await self._session()
            except* (aiomqtt.MqttError, OSError) as group:
                self._lost(_first(group))
            if time.monotonic() - began_s > 10:
                wait_s = 0.5
            # Full jitter: a thousand gateways that lost one broker must not come back in one second.
            await asyncio.sleep(random.uniform(0.1, wait_s))  # noqa: S311 - jitter, not a secret
            wait_s = min(wait_s * 2, self._mqtt.reconnect_max_s)

    async def announce_stop(self) -> None:
        """Tell the city that this gateway stops on purpose; best effort, at most two seconds."""
        try:
            async with asyncio.timeout(2), self._client() as client:
                await self._publish_state(client, online=False)
        except (aiomqtt.MqttError, OSError, TimeoutError):
            log.info("the broker could not be told that this gateway stops")

    def _client(self) -> aiomqtt.Client:
        tls = None
        if self._mqtt.tls:
            tls = ssl.create_default_context(cafile=str(self._mqtt.tls.ca))
            if self._mqtt.tls.cert and self._mqtt.tls.key:
                tls.load_cert_chain(self._mqtt.tls.cert, self._mqtt.tls.key)
        will = json.dumps({"online": False, "boot": self._boot}).encode()
        client = aiomqtt.Client(
            self._mqtt.host,
            self._mqtt.port,
            username=self._mqtt.username,
            password=self._mqtt.read_password(),
            identifier=f"gateway-{self._path.gateway}",
            will=aiomqtt.Will(self._path.topic(TopicKind.STATE), will, qos=1, retain=True),
            clean_session=True,
            keepalive=self._mqtt.keepalive_s,
            tls_context=tls,
            timeout=max(10.0, float(self._mqtt.keepalive_s)),
            max_queued_incoming_messages=1000,
            max_inflight_messages=self._publish.window_frames + 4,
        )
        client.pending_calls_threshold = self._publish.window_frames + 8
        return client

    async def _session(self) -> None:
        async with self._client() as client:
            await client.subscribe(self._path.topic(TopicKind.ACK), qos=1)
            for epoch in self._outbox.epochs() - {self._epoch}:
                await self._publish_birth(client, epoch)
            await self._publish_birth(client, self._epoch)
            await self._publish_state(client, online=True)
            self._found()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._receive(client), name="uplink-receive")
                    group.create_task(self._send(client, group), name="uplink-send")
                    group.create_task(self._tick(client), name="uplink-tick")
                    group.create_task(self._watch(), name="uplink-watch")
            finally:
                self.stats.connected = False
                self._flights.clear()
                self._attempts.clear()
                self._outbox.release_all()

    async def _publish_birth(self, client: aiomqtt.Client, epoch: int) -> None:
        """Only the catalogue in force is retained; an older one is told once, for the frames that still refer to it."""
        data = self._outbox.birth(epoch)
        if data is not None:
            await client.publish(self._path.topic(TopicKind.BIRTH), data, qos=1, retain=epoch == self._epoch)

    async def _publish_state(self, client: aiomqtt.Client, *, online: bool) -> None:
        state = {
            "online": online,
            "boot": self._boot,
            "next_sequence": self._outbox.next_sequence,
            "oldest_sequence": self._outbox.oldest_sequence,
        }
        await client.publish(self._path.topic(TopicKind.STATE), json.dumps(state).encode(), qos=1, retain=True)

    async def _tick(self, client: aiomqtt.Client) -> None:
        """Lets late frames go again, refills the backlog's allowance, and tells the state now and then."""
        told_s = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            for sequence in [number for number, flight in self._flights.items() if flight.deadline_s < now_s]:
                del self._flights[sequence]
                self._outbox.release(sequence)
                self.stats.retransmitted += 1
            self._wake.set()
            if now_s - told_s >= STATE_INTERVAL_S:
                told_s = now_s
                await self._publish_state(client, online=True)

    async def _watch(self) -> None:
        while True:
            await self._outbox.arrived()
            self._wake.set()

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload
            try:
                ack = acks.decode(payload if isinstance(payload, bytes) else bytes(str(payload), "utf-8"))
            except FrameError as error:
                self.stats.bad_acks += 1
                log.warning("an acknowledgement was not understood and is ignored: %s", error)
                continue
            self.stats.last_ack_s = time.monotonic()
            self.stats.acknowledged += self._outbox.commit(ack.boot, ack.stored)
            for sequence, reason in ack.rejected:
                self.stats.rejected += 1
                log.error("the cloud rejects frame %d: %s; it is kept in the dead letters", sequence, reason)
                self._outbox.reject(ack.boot, sequence, reason)
            for epoch in ack.unknown_epochs[:100]:
                await self._publish_birth(client, epoch)
            self._landed(ack)
            self._wake.set()

    def _landed(self, ack: acks.Ack) -> None:
        """Frames of the acknowledgement are no longer under way; those that waited for a birth go again at once."""
        numbers = {number for number, _ in ack.rejected}
        for sequence in list(self._flights):
            if sequence in numbers or any(low <= sequence <= high for low, high in ack.stored):
                del self._flights[sequence]
                self._attempts.pop(sequence, None)
        if ack.unknown_epochs:
            for flight in self._flights.values():
                flight.deadline_s = min(flight.deadline_s, time.monotonic() + 1.0)

    async def _send(self, client: aiomqtt.Client, group: asyncio.TaskGroup) -> None:
        """Keeps the window full: live frames first, then the backlog."""
        self._live_from = self._outbox.next_sequence - 1
        while True:
            leased = self._next()
            if leased is None:
                await self._woken()
                continue
            data = self._dated(leased)
            if data is None:
                self._outbox.release(leased.sequence)
                await self._woken()
                continue
            attempt = self._attempts[leased.sequence] = self._attempts.get(leased.sequence, -1) + 1
            patience_s = min(self._publish.ack_timeout_s * 2**attempt, RETRY_MAX_S + self._publish.ack_timeout_s)
            self._flights[leased.sequence] = _Flight(time.monotonic() + patience_s)
            self.stats.frames_sent += 1
            self.stats.bytes_sent += len(data)
            group.create_task(client.publish(self._path.topic(TopicKind.DATA), data, qos=1), name="uplink-publish")
            await asyncio.sleep(0)

    def _next(self) -> Leased | None:
        """The next frame to send, or None when the window, the allowance or the outbox says no."""
        window = self._publish.window_frames
        if len(self._flights) >= window:
            return None
        undated = self._datings.settled
        leased = self._outbox.lease(newest=True, undated=undated)
        if leased is None or leased.sequence >= self._live_from:
            return leased
        self._outbox.release(leased.sequence)
        self._refill()
        if len(self._flights) >= max(1, window * 3 // 4) or self._tokens <= 0:
            return None
        leased = self._outbox.lease(newest=False, undated=undated)
        if leased is not None:
            self._tokens -= len(leased.data)
        return leased

    def _refill(self) -> None:
        now_s = time.monotonic()
        rate = self._publish.backlog_bytes_per_s
        self._tokens = min(rate, self._tokens + (now_s - self._refilled_s) * rate)
        self._refilled_s = now_s

    def _dated(self, leased: Leased) -> bytes | None:
        """The frame as it may leave: dated. None while nothing can date it."""
        if not leased.undated:
            return leased.data
        offset = self._datings.offset(leased.boot, leased.time_base_ns)
        return None if offset is None else redate(leased.data, offset[0], estimated=offset[1])

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    def _found(self) -> None:
        self.stats.connected = True
        self.stats.since_s = time.monotonic()
        log.info("connected to the broker at %s:%d", self._mqtt.host, self._mqtt.port)
        self._complained = False

    def _lost(self, error: BaseException) -> None:
        if self.stats.connected or not self._complained:
            log.warning(
                "no connection to the broker at %s:%d (%s); sampling goes on to disk, trying again",
                self._mqtt.host,
                self._mqtt.port,
                error,
            )
        self._complained = True
        self.stats.reconnects += 1
        self.stats.last_error = str(error)
        self.stats.since_s = time.monotonic()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""The collector's hand on the broker: messages come in, PUBACK goes back only when their fate is decided.

paho-mqtt on the running event loop, without a thread of its own: reading, queueing and acknowledging then happen in one
place. A connection is one paho client; a message remembers its connection, so that a PUBACK never goes to a later one,
where its number may mean another message. The session is persistent: what is not PUBACKed comes again.

Memory: at most `queue_frames` messages and `queue_bytes` bytes wait, and BURST messages that one read may bring beyond.
MQTT 5's receive maximum asks the broker to keep to the count; mosquitto 2.0.11 exceeds it sixfold, and MQTT 3.1.1 has
none. So when the queue is full nothing more is read, and TCP holds the broker back. That cannot outlast the keep-alive:
then reading goes on, and a message beyond the bounds is let go *without* PUBACK and counted as withheld; when the queue
has drained, the connection is made anew, and the broker sends it again.

A session that the broker still has is not subscribed to again: that would bring every retained birth of the city. Only
the embedded broker is, which has few gateways and no persistence.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud.config import Collector, Mqtt
from contract.errors import ConfigError
from contract.topics import TopicKind, subscription

log = logging.getLogger(__name__)

SHARE = "collectors"
CONNECT_TIMEOUT_S = 10.0
_MISC_S = 1.0  # paho wants loop_misc about once a second: keep-alives
_FIRST_WAIT_S = 0.5
_MAX_ACKS_QUEUED = 2000  # acks to gateways that wait for the broker; a lost ack is asked for again
_MAX_ACKS_SENT = 1000
BURST = _MAX_ACKS_QUEUED + _MAX_ACKS_SENT  # paho reads as many packets at once as acks wait for their PUBACK


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message as it came, and how to answer for it."""

    topic: str
    payload: bytes
    puback: Callable[[], None] = lambda: None


@dataclass(slots=True)
class IntakeCounts:
    """Since the process started. withheld: let go for lack of room, to be sent again by the broker."""

    received: int = 0
    received_bytes: int = 0
    withheld: int = 0
    acks_dropped: int = 0
    connections: int = 0


class MessageQueue:
    """Messages that wait, bounded in number and bytes. One event loop only."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._waiting: deque[Message] = deque()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether nothing more should come."""
        return len(self._waiting) >= self._max_messages or self._bytes >= self._max_bytes

    def put(self, message: Message) -> bool:
        """Take it, or say False when there is no room. One message always fits into an empty queue."""
        too_many = len(self._waiting) >= self._max_messages + BURST
        if self._waiting and (too_many or self._bytes + len(message.payload) > self._max_bytes):
            return False
        self._waiting.append(message)
        self._bytes += len(message.payload)
        self._arrived.set()
        return True

    async def take(self, max_messages: int, max_bytes: int, linger_s: float) -> list[Message]:
        """At least one message, in order; more that come within `linger_s`, up to the bounds."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        if linger_s and len(self._waiting) < max_messages and self._bytes < max_bytes:
            await asyncio.sleep(linger_s)
        taken: list[Message] = []
        n_bytes = 0
        while self._waiting and len(taken) < max_messages:
            n_bytes += len(self._waiting[0].payload)
            if taken and n_bytes > max_bytes:
                break
            taken.append(self._waiting.popleft())
            self._bytes -= len(taken[-1].payload)
        return taken


class Intake:
    """The subscription of one collector. `run` keeps it alive; `take`, `done` and `publish` are the collector's.

    tap: is told topic and payload of every message that is taken, as it arrives.
    """

    def __init__(
        self,
        settings: Mqtt,
        collector: Collector,
        jitter: random.Random | None = None,
        tap: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._settings = settings
        self._collector = collector
        self._tap = tap
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads reconnects, no secret
        self._queue = MessageQueue(collector.queue_frames, collector.queue_bytes)
        self._link: _Link | None = None
        self._first_version = 3 if settings.embedded is True or settings.version == 3 else 5
        self._version = self._first_version
        self._known_to_broker = False
        self.counts = IntakeCounts()
        self.subscribed = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Messages in the queue."""
        return len(self._queue)

    async def run(self) -> None:
        """Connect, subscribe and stay so until cancelled. A broker that is away is waited for; said once."""
        secrets = _Secrets(self._settings.read_password(), _tls_context(self._settings))
        wait_s = _FIRST_WAIT_S
        complained = False
        try:
            while True:
                link = _Link(self._settings, self._collector, self._version, secrets, self._on_message)
                link.subscribed_before = self._known_to_broker
                try:
                    await link.open()
                    self._subscribed(link, after_trouble=complained)
                    complained, wait_s = False, _FIRST_WAIT_S
                    await link.closed.wait()
                    trouble = link.trouble
                except _VersionRefused:
                    log.info("the broker does not seem to speak MQTT 5; trying 3.1.1")
                    self._version = 3
                    continue
                except OSError as error:
                    trouble = str(error) or type(error).__name__
                    self._version = self._first_version  # it may have been away, not old
                finally:
                    self._link = None
                    self.subscribed.clear()
                    link.close()
                if not complained:
                    log.warning("the broker at %s:%d: %s", self._settings.host, self._settings.port, trouble)
                    complained = True
                await asyncio.sleep(wait_s * self._jitter.uniform(0.5, 1.5))
                wait_s = min(wait_s * 2, self._settings.reconnect_max_s)
        finally:
            self._link = None

    async def take(self, max_messages: int, max_bytes: int, linger_s: float) -> list[Message]:
        """The next messages, at least one. See MessageQueue.take."""
        if self._link is not None and self._link.withheld and not len(self._queue):
            self._link.give_up("the queue has room again; taking what was withheld")
        taken = await self._queue.take(max_messages, max_bytes, linger_s)
        if self._link is not None and not self._queue.full:
            self._link.read_on()
        return taken

    def done(self, messages: Sequence[Message]) -> None:
        """PUBACK them: their fate is decided and durable."""
        for message in messages:
            message.puback()

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send at QoS 1; False, and counted, when the broker is away or behind: it will be asked for again."""
        if self._link is not None and self._link.publish(topic, payload):
            return True
        self.counts.acks_dropped += 1
        return False

    def _subscribed(self, link: "_Link", *, after_trouble: bool) -> None:
        self._link = link
        self._known_to_broker = True
        self.counts.connections += 1
        self.subscribed.set()
        if after_trouble:
            log.warning("the broker at %s:%d is back", self._settings.host, self._settings.port)

    def _on_message(self, link: "_Link", message: Message) -> None:
        if self._queue.put(message):
            self.counts.received += 1
            self.counts.received_bytes += len(message.payload)
            if self._tap is not None:
                self._tap(message.topic, message.payload)
            if self._queue.full:
                link.stop_reading()
            return
        if not link.withheld:
            log.warning("the queue is full; what comes now is left with the broker")
        link.withheld += 1
        self.counts.withheld += 1


@dataclass(frozen=True, slots=True)
class _Secrets:
    password: str | None
    tls: ssl.SSLContext | None


def _tls_context(settings: Mqtt) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    try:
        return settings.tls.context()
    except OSError as error:
        raise ConfigError([f"mqtt.tls: {error}"]) from None


class _VersionRefused(Exception):
    """The broker does not speak MQTT 5."""


class _Link:
    """One connection: a paho client driven by the event loop's readiness callbacks."""

    def __init__(
        self,
        settings: Mqtt,
        collector: Collector,
        version: int,
        secrets: "_Secrets",
        on_message: "Callable[[_Link, Message], None]",
    ) -> None:
        self._settings = settings
        self._collector = collector
        self._version = version
        self._deliver = on_message
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[None] = self._loop.create_future()
        self._awaited_subacks: set[int | None] = set()
        self._misc: asyncio.Task[None] | None = None
        self._still_since_s: float | None = None
        self._must_read = False
        self.subscribed_before = False
        self.closed = asyncio.Event()
        self.trouble = "the connection was lost"
        self.withheld = 0
        self._client = self._make_client(secrets)

    def _make_client(self, secrets: "_Secrets") -> mqtt.Client:
        five = self._version == 5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._collector.name,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if five else False,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_queued_messages_set(_MAX_ACKS_QUEUED)
        client.max_inflight_messages_set(_MAX_ACKS_SENT)
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, secrets.password)
        if secrets.tls is not None:
            client.tls_set_context(secrets.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_no_write
        return client

    async def open(self) -> None:
        """Connect and subscribe. Raises OSError (TimeoutError among them) or _VersionRefused."""
        properties = None
        if self._version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = self._collector.queue_frames
            properties.SessionExpiryInterval = self._settings.session_expiry_s
        arguments: dict[str, Any] = {"clean_start": False, "properties": properties} if self._version == 5 else {}
        # Resolving, TCP and TLS block; afterwards everything happens on the loop.
        await asyncio.to_thread(
            self._client.connect, self._settings.host, self._settings.port, self._settings.keepalive_s, **arguments
        )
        sock = self._client.socket()
        if sock is None:
            raise ConnectionError("the connection was lost")
        self._loop.add_reader(sock, self._readable)
        if self._client.want_write():
            self._loop.add_writer(sock, self._client.loop_write)
        self._misc = asyncio.create_task(self._keep_alive(), name="mqtt keep-alive")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._outcome

    def close(self) -> None:
        """Leave, politely when connected. Never raises."""
        if self._misc is not None:
            self._misc.cancel()
        if self._outcome.done() and not self._outcome.cancelled():
            self._outcome.exception()  # seen
        self._client.disconnect()
        if self._client.socket() is not None:
            self._client.loop_write()
        self._drop_socket()

    def give_up(self, why: str) -> None:
        """End this connection, so that the next one gets again what was not acknowledged."""
        self.trouble = why
        self._client.disconnect()
        self.closed.set()

    def publish(self, topic: str, payload: bytes) -> bool:
        """Hand over at QoS 1; False when there is no room or no connection."""
        if self.closed.is_set():
            return False
        return self._client.publish(topic, payload, qos=1).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def stop_reading(self) -> None:
        """Leave what comes to TCP, for as long as the keep-alive permits."""
        sock = self._client.socket()
        if self._still_since_s is None and not self._must_read and sock is not None:
            self._still_since_s = self._loop.time()
            self._loop.remove_reader(sock)

    def read_on(self) -> None:
        """Take up reading again."""
        sock = self._client.socket()
        self._must_read = False
        if self._still_since_s is not None and sock is not None and not self.closed.is_set():
            self._still_since_s = None
            self._loop.add_reader(sock, self._readable)
            self._loop.call_soon(self._readable)  # TLS may hold decrypted packets, of which the selector knows nothing

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_MISC_S)
            still_since_s = self._still_since_s
            if still_since_s is not None and self._loop.time() - still_since_s > self._settings.keepalive_s / 2:
                self.read_on()
                self._must_read = True  # the broker's answers to our pings are among it
            if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._end("the broker stopped answering")
                return

    def _readable(self) -> None:
        sock = self._client.socket()
        while self._still_since_s is None and self._client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            # TLS may have decrypted more than one packet, of which the selector knows nothing.
            if not (isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending()):
                return

    def _on_connect(
        self, client: mqtt.Client, _data: Any, flags: mqtt.ConnectFlags, code: ReasonCode, _properties: Any
    ) -> None:
        if code.is_failure:
            unsupported = str(code) == "Unsupported protocol version" and self._version == 5
            if unsupported and self._settings.version == "auto":
                self._fail(_VersionRefused())
            else:
                self._fail(ConnectionError(f"refused: {code}"))
            return
        if flags.session_present and self.subscribed_before and self._settings.embedded is not True:
            if not self._outcome.done():
                self._outcome.set_result(None)
            return
        share = SHARE if self._settings.share and self._settings.embedded is not True else None
        topics = [
            subscription(TopicKind.BIRTH),
            subscription(TopicKind.STATE),
            subscription(TopicKind.DATA, share=share),
        ]
        for topic in topics:  # births first, so that frames find theirs
            self._awaited_subacks.add(client.subscribe(topic, qos=1)[1])

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        if any(code.is_failure for code in codes):
            self._fail(PermissionError(f"the broker refuses a subscription: {codes[0]}"))
            return
        self._awaited_subacks.discard(mid)
        if not self._awaited_subacks and not self._outcome.done():
            self._outcome.set_result(None)

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        def puback(mid: int = message.mid, qos: int = message.qos) -> None:
            if not self.closed.is_set():
                client.ack(mid, qos)

        self._deliver(self, Message(message.topic, bytes(message.payload), puback))

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._end(f"disconnected: {code}")

    def _end(self, why: str) -> None:
        if not self.closed.is_set():
            self.trouble = why
            self.closed.set()
        if not self._outcome.done():
            # mosquitto says that it does not know version 5; others just hang up.
            hung_up_on_five = self._version == 5 and self._settings.version == "auto" and not self._awaited_subacks
            self._fail(_VersionRefused() if hung_up_on_five else ConnectionError(why))

    def _fail(self, error: Exception) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)

    def _on_want_write(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:
        if self._misc is not None:  # before that, open() asks
            self._loop.add_writer(sock, self._client.loop_write)

    def _on_no_write(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:
        if self._misc is not None:
            self._loop.remove_writer(sock)

    def _on_socket_close(self, _client: mqtt.Client, _data: Any, sock: Any) -> None:
        if self._misc is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _drop_socket(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(ValueError, OSError):
                self._loop.remove_reader(sock)
                self._loop.remove_writer(sock)
                sock.close()

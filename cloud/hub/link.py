"""The hub's own connection to the broker: what it hands on (readings, alerts, the audit's head), commands, replies.

Apart from the collector's: what is published here may be lost or late without a reading being lost. paho in a thread of
its own, at most `MAX_QUEUED` messages waiting; whoever publishes is told whether there was room.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from cloud.config import Mqtt
from cloud.hub.deliver import Undelivered
from contract.errors import ConfigError
from contract.topics import TopicKind, subscription

log = logging.getLogger(__name__)

MAX_QUEUED = 5000
MAX_IN_FLIGHT = 500
CONNECT_TIMEOUT_S = 10.0
_FIRST_WAIT_S = 0.5

Heard = Callable[[str, bytes], None]


class HubLink:
    """One connection for as long as `run` runs. publish: on the event loop; heard: told there of gateways' replies.

    What was handed over and not confirmed when a connection ends is gone; connections tells who wants to say it again.
    """

    def __init__(self, settings: Mqtt, name: str, jitter: random.Random | None = None) -> None:
        self.connected = asyncio.Event()
        self.refused = 0
        self.connections = 0
        self._settings = settings
        self.heard: list[Heard] = []
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads reconnects, no secret
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()
        self._name = name
        self._client = self._make()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand over at QoS 1; False, and counted, when the broker is away or behind."""
        if self.connected.is_set():
            done = self._client.publish(topic, payload, qos=1, retain=retain)
            if done.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                return True
        self.refused += 1
        return False

    def publish_retained(self, topic: str, payload: bytes) -> bool:
        """As `publish`, kept by the broker for who subscribes later."""
        return self.publish(topic, payload, retain=True)

    async def deliver(self, topic: str, payload: bytes) -> None:
        """As `publish`. Raises Undelivered when it could not be."""
        if not self.publish(topic, payload):
            raise Undelivered("the broker is away")

    async def run(self) -> None:
        """Connect and stay so until cancelled; a broker that is away is waited for. Raises ConfigError."""
        wait_s = _FIRST_WAIT_S
        try:
            while True:
                self._gone.clear()
                self._client = self._make()  # one that is started twice loses a pair of sockets
                self._authorise()
                try:
                    await asyncio.to_thread(
                        self._client.connect, self._settings.host, self._settings.port, self._settings.keepalive_s
                    )
                    self._client.loop_start()
                    await self._gone.wait()
                    wait_s = _FIRST_WAIT_S
                except OSError as error:
                    log.debug("the hub's link: %s", error)  # the collector's says it for people
                finally:
                    self.connected.clear()
                    await asyncio.to_thread(self._client.loop_stop)
                await asyncio.sleep(wait_s * self._jitter.uniform(0.5, 1.5))
                wait_s = min(wait_s * 2, self._settings.reconnect_max_s)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _make(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._name,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_queued_messages_set(MAX_QUEUED)
        client.max_inflight_messages_set(MAX_IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _authorise(self) -> None:
        if self._settings.username is not None:
            self._client.username_pw_set(self._settings.username, self._settings.read_password())
        if self._settings.tls is not None:
            try:
                context: ssl.SSLContext = self._settings.tls.context()
            except OSError as error:
                raise ConfigError([f"mqtt.tls: {error}"]) from None
            self._client.tls_set_context(context)

    def _on_connect(self, client: mqtt.Client, _: object, __: object, reason: object, ___: object) -> None:
        if getattr(reason, "is_failure", True):
            self._call(self._gone.set)
            return
        client.subscribe(subscription(TopicKind.REPLY), qos=1)
        self._call(self._begin)

    def _on_disconnect(self, *_: object) -> None:
        self._call(self.connected.clear)
        self._call(self._gone.set)

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        self._call(lambda: self._hear(message.topic, bytes(message.payload)))

    def _begin(self) -> None:
        self.connections += 1
        self.connected.set()

    def _hear(self, topic: str, payload: bytes) -> None:
        for tell in self.heard:
            tell(topic, payload)

    def _call(self, what: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what)

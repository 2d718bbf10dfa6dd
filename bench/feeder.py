"""Many gateways at once, frame level: their births, their frames made beforehand, and a window as a gateway keeps it.

One MQTT connection in this process speaks for all of them (the scale benchmark gives each its own). A frame counts when
the collector has acknowledged it, which it does when the database has it.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Self

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.processes import BenchFailed
from bench.wire_data import TICK_NS, birth
from contract import ack, frame
from contract.catalogue import Birth
from contract.frame import Counters, Frame, Header
from contract.readings import GOOD, Kind, Table
from contract.topics import TopicKind, parse, subscription

BOOT = 77
WINDOW = 300


@dataclass(frozen=True, slots=True)
class Shape:
    """What is sent: `gateways` of `streams` each, `rows` times a frame, `rounds` frames from each."""

    gateways: int = 40
    streams: int = 100
    rows: int = 10
    rounds: int = 60

    @property
    def points(self) -> int:
        """Points of one frame."""
        return self.streams * self.rows

    @property
    def frames(self) -> int:
        """Frames of all gateways."""
        return self.gateways * self.rounds


def births(shape: Shape) -> list[Birth]:
    """The catalogues."""
    return [birth(f"gw-{number:04}", shape.streams) for number in range(shape.gateways)]


def frames(shape: Shape, catalogue: Birth, *, end_ns: int, seed: int) -> list[Frame]:
    """Every frame of one gateway, its last reading at `end_ns`: noisy values of 0.1, one table, honest books."""
    random = np.random.default_rng(seed)
    streams = np.arange(shape.streams, dtype=np.int32)
    decimals = np.ones(shape.streams, dtype=np.int8)
    nothing = np.zeros(shape.streams, dtype=np.int64)
    status = np.full((shape.rows, shape.streams), GOOD, dtype=np.uint8)
    first_ns = end_ns - shape.rows * shape.rounds * TICK_NS
    made = []
    for number in range(shape.rounds):
        times = first_ns + (number * shape.rows + 1 + np.arange(shape.rows, dtype=np.int64)) * TICK_NS
        values = np.round(random.normal(230, 5, (shape.rows, shape.streams)), 1)
        table = Table(Kind.FLOAT, streams, times, values, status, decimals)
        due = nothing + (number + 1) * shape.rows
        counters = Counters(streams, due, nothing, nothing, nothing + times[-1])
        header = Header(BOOT, number + 1, catalogue.epoch, int(times[-1]))
        made.append(Frame(header, (table,), counters=counters))
    return made


class Feeder:
    """Publishes births, then frames, at most WINDOW of them unacknowledged. A context manager."""

    def __init__(self, port: int, shape: Shape) -> None:
        self.shape = shape
        self.acknowledged = 0
        self._port = port
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.max_inflight_messages_set(WINDOW)
        self._client.max_queued_messages_set(0)
        self._births = births(shape)
        self._under_way: set[tuple[str, int]] = set()
        self._waiting = self._prepare()

    def _prepare(self) -> deque[tuple[str, str, int, bytes]]:
        """(topic, gateway, sequence, frame) in the order of time, one gateway after the other."""
        end_ns = time.time_ns() // TICK_NS * TICK_NS
        columns = [
            [
                (one.path.topic(TopicKind.DATA), one.gateway, made.header.sequence, frame.encode(made))
                for made in frames(self.shape, one, end_ns=end_ns, seed=number)
            ]
            for number, one in enumerate(self._births)
        ]
        return deque(message for round_ in zip(*columns, strict=True) for message in round_)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all frames that wait."""
        return sum(len(data) for *_, data in self._waiting)

    def __enter__(self) -> Self:
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._client.subscribe(subscription(TopicKind.ACK), qos=1)
        if not self._ready.wait(10):
            raise BenchFailed("mosquitto did not confirm the feeder's subscription")
        for one in self._births:
            self._client.publish(one.path.topic(TopicKind.BIRTH), one.encode(), qos=1, retain=True).wait_for_publish(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def begin(self) -> None:
        """Send the first window; the rest follows the acknowledgements."""
        for _ in range(min(WINDOW, len(self._waiting))):
            self._send()

    def wait(self, share: float, seconds: float) -> None:
        """Until that share of all frames is acknowledged."""
        deadline_s = time.monotonic() + seconds
        while self.acknowledged < share * self.shape.frames:
            if time.monotonic() > deadline_s:
                raise BenchFailed(f"{self.acknowledged} of {self.shape.frames} frames acknowledged in {seconds:g} s")
            time.sleep(0.005)

    def _send(self) -> None:
        topic, gateway, sequence, data = self._waiting.popleft()
        self._under_way.add((gateway, sequence))
        self._client.publish(topic, data, qos=1)

    def _take(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        gateway = parse(message.topic)[1].gateway
        answer = ack.decode(bytes(message.payload))
        if answer.rejected:
            raise BenchFailed(f"a frame was rejected: {answer.rejected[0]}")
        for low, high in answer.stored:
            for sequence in range(low, high + 1):
                if (gateway, sequence) in self._under_way:
                    self._under_way.discard((gateway, sequence))
                    self.acknowledged += 1
                    if self._waiting:
                        self._send()

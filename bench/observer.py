"""Listens on the broker beside the collector: what a gateway sent and when, and when the city had it.

It keeps bytes and times while something is measured, and decodes afterwards, so that looking costs nothing then.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.processes import BenchFailed
from contract import ack, frame
from contract.catalogue import Birth, decode_birth
from contract.readings import Ints, Reason
from contract.topics import TopicKind, parse, subscription

DEVICES = "load-"


@dataclass(frozen=True, slots=True)
class Heard:
    """One message, and when it came (UTC, ns)."""

    at_ns: int
    gateway: str
    payload: bytes


@dataclass(slots=True)
class Seen:
    """What frames held of the site's devices, health streams left out. times: ns, of each device's first stream."""

    frames: int = 0
    payload_bytes: int = 0
    readings: int = 0
    gaps: Counter[Reason] = field(default_factory=Counter)
    thinned: int = 0
    times: dict[str, Ints] = field(default_factory=dict)


class Observer:
    """A plain MQTT client in a thread of its own. A context manager."""

    def __init__(self, port: int) -> None:
        self.births: dict[str, Birth] = {}
        self.frames: list[Heard] = []
        self.acks: list[Heard] = []
        self._port = port
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)

    def __enter__(self) -> Self:
        kinds = (TopicKind.BIRTH, TopicKind.DATA, TopicKind.ACK)
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._client.subscribe([(subscription(kind), 1) for kind in kinds])
        if not self._ready.wait(10):
            raise BenchFailed("mosquitto did not confirm the observer's subscriptions")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        at_ns = time.time_ns()
        kind, path = parse(message.topic)
        if kind is TopicKind.BIRTH:
            self.births[path.gateway] = decode_birth(bytes(message.payload))
        else:
            heard = Heard(at_ns, path.gateway, bytes(message.payload))
            (self.frames if kind is TopicKind.DATA else self.acks).append(heard)

    def decoded(self, gateway: str, since_ns: int = 0, until_ns: int = 1 << 62) -> Iterator[tuple[Heard, frame.Frame]]:
        """The gateway's frames that were closed in the interval, each once, in the order they came."""
        known: set[tuple[int, int]] = set()
        for heard in list(self.frames):
            header = frame.peek(heard.payload)
            if heard.gateway != gateway or not since_ns <= header.time_base_ns < until_ns:
                continue
            if (header.boot, header.sequence) not in known:
                known.add((header.boot, header.sequence))
                yield heard, frame.decode(heard.payload)

    def devices(self, gateway: str) -> dict[int, str]:
        """The device of each stream id of the site's devices."""
        birth = self.births[gateway]
        return {
            stream.id: device.name
            for device in birth.devices
            if device.name.startswith(DEVICES)
            for stream in device.streams
        }

    def look(self, gateway: str, since_ns: int = 0, until_ns: int = 1 << 62) -> Seen:
        """Everything of the gateway's frames that were closed in the interval."""
        seen = Seen()
        devices = self.devices(gateway)
        first: dict[str, int] = {}
        for stream, device in devices.items():
            first[device] = min(stream, first.get(device, stream))
        firsts = {stream: device for device, stream in first.items()}
        parts: dict[str, list[Ints]] = {}
        for heard, found in self.decoded(gateway, since_ns, until_ns):
            seen.frames += 1
            seen.payload_bytes += len(heard.payload)
            for table in found.tables:
                if int(table.streams[0]) not in devices:
                    continue
                seen.readings += table.count()
                for column in np.flatnonzero(np.isin(table.streams, list(firsts))).tolist():
                    device = firsts[int(table.streams[column])]
                    parts.setdefault(device, []).append(table.times[table.present()[:, column]])
            for gap in found.gaps:
                seen.gaps[gap.reason] += gap.count * sum(stream in devices for stream in gap.streams)
            if found.counters is not None:
                seen.thinned += int(found.counters.thinned.sum())
        seen.times = {device: np.sort(np.concatenate(times)) for device, times in parts.items()}
        return seen

    def first_stored_ns(self, gateway: str, since_ns: int) -> int | None:
        """When the city acknowledged the first reading of a device, of the boot that began after `since_ns`."""
        devices = self.devices(gateway) if gateway in self.births else {}
        for _, found in self.decoded(gateway, since_ns):
            if any(int(table.streams[0]) in devices for table in found.tables):
                return self._acknowledged_ns(gateway, found.header)
        return None

    def _acknowledged_ns(self, gateway: str, header: frame.Header) -> int | None:
        for heard in list(self.acks):
            answer = ack.decode(heard.payload)
            stored = any(low <= header.sequence <= high for low, high in answer.stored)
            if stored and heard.gateway == gateway and answer.boot == header.boot:
                return heard.at_ns
        return None


def lateness(times: Ints, interval_s: float) -> float:
    """How late the latest of a device's cycles was, as a share of its interval, beside the earliest of its grid."""
    interval_ns = round(interval_s * 1e9)
    since = times - times[0]
    off = since - np.rint(since / interval_ns).astype(np.int64) * interval_ns
    return float((off - off.min()).max() / interval_ns)

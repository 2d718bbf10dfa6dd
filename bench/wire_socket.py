"""Bytes on the socket: the frame, MQTT's publish and its confirmation, our acknowledgement, TCP and IP.

Frames travel as a gateway's do, one at a time, each answered by the city's acknowledgement, through a real mosquitto;
the kernel counts bytes and segments of the gateway's connection.
"""

import socket
import threading
from itertools import islice
from pathlib import Path
from typing import Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from servers import Mosquitto

from bench.processes import BenchFailed
from bench.report import Figure, Report
from bench.tcp_meter import traffic
from bench.wire_codecs import json_rows, zstd
from bench.wire_data import Framer, Samples
from contract import ack, frame
from contract.topics import GatewayPath, TopicKind

PATH = GatewayPath("Changzhou", "Xinbei", "Taihu Road", "gw-17")
MESSAGES = 40


def socket_figures(report: Report, where: Path, samples: Samples, sizes: tuple[int, ...]) -> None:
    """Bytes a reading on the gateway's connection, by samples a frame. Reference: zstd JSON, not acknowledged by us."""
    with Mosquitto(where / "mosquitto") as broker, _Pair(broker.port) as pair:
        for rows in sizes:
            framer = Framer(samples.columns)
            batches = list(islice(samples.batches(rows), MESSAGES))
            readings = sum(batch.readings for batch in batches)
            frames = [frame.encode(framer.frame(batch)) for batch in batches]
            ours = pair.carry(frames, acknowledged=True)
            theirs = pair.carry([zstd(json_rows(batch)) for batch in batches], acknowledged=False)
            payload = sum(map(len, frames))
            report.add(
                Figure(
                    f"wire/mix/{rows}/socket_bytes_per_reading",
                    ours / readings,
                    "B",
                    floor=payload / readings,
                    reference=theirs / readings,
                    note="floor: the payload alone" if rows == sizes[0] else "",
                )
            )


class _Pair:
    """A gateway's MQTT connection, and the city's that answers."""

    def __init__(self, port: int) -> None:
        self._gateway, self._city = (mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311) for _ in range(2))
        self._heard = threading.Event()
        self._ready = threading.Semaphore(0)
        self._port = port

    def __enter__(self) -> Self:
        self._gateway.on_message = lambda *_: self._heard.set()
        self._city.on_message = self._answer
        # The gateway hears acknowledgements at QoS 0, as the product's uplink does.
        for client, kind, qos in ((self._gateway, TopicKind.ACK, 0), (self._city, TopicKind.DATA, 1)):
            client.on_subscribe = lambda *_: self._ready.release()
            client.connect("127.0.0.1", self._port)
            client.loop_start()
            client.subscribe(PATH.topic(kind), qos=qos)
            if not self._ready.acquire(timeout=10):
                raise BenchFailed("mosquitto did not confirm a subscription")
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self._gateway, self._city):
            client.disconnect()
            client.loop_stop()

    def carry(self, messages: list[bytes], *, acknowledged: bool) -> int:
        """Wire bytes, both ways, of the messages sent one after the other."""
        sock = self._gateway.socket()
        if not isinstance(sock, socket.socket):
            raise BenchFailed("the connection to mosquitto is gone")
        before = traffic(sock)
        for message in messages:
            self._heard.clear()
            topic = PATH.topic(TopicKind.DATA if acknowledged else TopicKind.REPLY)
            self._gateway.publish(topic, message, qos=1).wait_for_publish(10)
            if acknowledged and not self._heard.wait(10):
                raise BenchFailed("an acknowledgement did not come")
        return (traffic(sock) - before).wire_bytes

    def _answer(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        header = frame.peek(bytes(message.payload))
        found = ack.Ack(header.boot, [(header.sequence, header.sequence)])
        client.publish(PATH.topic(TopicKind.ACK), ack.encode(found), qos=1)

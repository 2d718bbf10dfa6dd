"""Delivery of alerts: each channel takes its messages from the database one after the other, until it has them.

A failed delivery is tried again with growing pauses, and given up after hours; both are counted and shown. Nothing
here holds up the rules, and nothing is in memory but the message at hand. Addresses and secrets of channels are never
in a log line: errors of HTTP clients carry them, so of an error only its kind is told.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import urllib3

from cloud.hub import alert_rules as rules
from cloud.hub.alert_store import AlertStore, Message
from contract.errors import ConfigError, StoreUnavailable

log = logging.getLogger(__name__)

Publish = Callable[[str, bytes], Awaitable[None]]  # topic, payload; raises Undelivered
SIGNATURE = "X-Weinao-Signature"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_LOOK_AGAIN_S = 30.0
_ANSWER_BYTES = 4096


class Undelivered(Exception):
    """The channel did not take a message: try again later. The text holds no address and no secret."""


class Sender(Protocol):
    """One channel's way out."""

    async def send(self, body: Mapping[str, Any]) -> None:
        """Deliver one message. Raises Undelivered."""


@dataclass(slots=True)
class Counts:
    """What became of a channel's messages since the process began. dropped: given up."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0
    last_sent_ns: int = 0
    last_error: str = ""


class MqttSender:
    """`hub/v1/alerts/{severity}/{rule}` by a given publish function."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    async def send(self, body: Mapping[str, Any]) -> None:
        """Deliver one message. Raises Undelivered."""
        await self._publish(f"hub/v1/alerts/{body['severity']}/{body['rule']}", _json(body))


class WebhookSender:
    """POSTs JSON. With a secret, the header `X-Weinao-Signature: sha256=HEX` is the HMAC of the body.

    Redirects are not followed: an answer that is not 2xx is a failure. Reads the secret's file; raises ConfigError.
    """

    def __init__(self, channel: rules.WebhookChannel) -> None:
        self._url = channel.url.get_secret_value()
        self._secret: bytes | None = None
        if channel.secret_file is not None:
            self._secret = _read_secret(channel.name, "secret_file", channel.secret_file.read_text).encode()
        self._http = urllib3.PoolManager(
            num_pools=1, maxsize=1, retries=False, timeout=urllib3.Timeout(total=channel.timeout_s)
        )

    async def send(self, body: Mapping[str, Any]) -> None:
        """Deliver one message. Raises Undelivered."""
        await asyncio.to_thread(self._send, _json(body))

    def _send(self, data: bytes) -> None:
        headers = {"content-type": "application/json", "user-agent": "weinao-hub"}
        if self._secret is not None:
            headers[SIGNATURE] = "sha256=" + hmac.new(self._secret, data, hashlib.sha256).hexdigest()
        try:
            answer = self._http.request(
                "POST", self._url, body=data, headers=headers, redirect=False, preload_content=False
            )
            try:
                answer.read(_ANSWER_BYTES)  # what it says does not matter; a little of it lets the connection be kept
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Undelivered(type(error).__name__) from None
        if not 200 <= answer.status < 300:
            raise Undelivered(f"HTTP {answer.status}")


class AppriseSender:
    """Whatever addresses of the library Apprise. Reads their file; raises ConfigError.

    Apprise logs addresses, so its logger is silenced; what failed is told by the result.
    """

    def __init__(self, channel: rules.AppriseChannel) -> None:
        import apprise

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        text = _read_secret(channel.name, "urls_file", channel.urls_file.read_text)
        lines = [line.strip() for line in text.splitlines()]
        urls = [line for line in lines if line and not line.startswith("#")]
        self._types = {
            "info": apprise.NotifyType.INFO,
            "warning": apprise.NotifyType.WARNING,
            "critical": apprise.NotifyType.FAILURE,
        }
        self._over = apprise.NotifyType.SUCCESS
        self._apprise = apprise.Apprise()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its plugins import what Python is about to drop
            refused = [number for number, url in enumerate(urls, 1) if not self._apprise.add(url)]
        if refused:
            raise ConfigError([f"channel {channel.name}: urls_file: address {refused[0]} is none that Apprise knows"])
        if not urls:
            raise ConfigError([f"channel {channel.name}: urls_file: expected at least one address"])

    async def send(self, body: Mapping[str, Any]) -> None:
        """Deliver one message. Raises Undelivered."""
        kind = self._over if body["event"] == "cleared" else self._types[body["severity"]]
        title, text = _words(body)
        if not await asyncio.to_thread(self._apprise.notify, body=text, title=title, notify_type=kind):
            raise Undelivered("an address of the channel did not take it")


class Deliverer:
    """All channels. `run` delivers until cancelled. publish: for mqtt channels; without one they wait."""

    def __init__(
        self,
        settings: rules.AlertSettings,
        store: AlertStore,
        *,
        publish: Publish | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self.counts = {channel.name: Counts() for channel in settings.channels}
        self._settings = settings
        self._store = store
        self._now_ns = now_ns
        self._pause_s = pause_s
        self._senders = {channel.name: make_sender(channel, publish) for channel in settings.channels}
        self._news: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self, channels: Sequence[str]) -> None:
        """There are messages for these channels. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            for name in channels:
                self._loop.call_soon_threadsafe(self._news[name].set)

    async def run(self) -> None:
        """Deliver until cancelled."""
        self._news = {name: asyncio.Event() for name in self._senders}
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for name, sender in self._senders.items():
                tasks.create_task(self._deliver(name, sender), name=f"alerts to {name}")

    def told(self) -> list[dict[str, Any]]:
        """Every channel's counts, for people. Blocking; raises StoreUnavailable."""
        waiting = self._store.waiting(list(self.counts))
        kinds = {channel.name: channel.kind for channel in self._settings.channels}
        return [
            {"channel": name, "kind": kinds[name], **asdict(counts), "waiting": waiting[name]}
            for name, counts in self.counts.items()
        ]

    async def _deliver(self, name: str, sender: Sender) -> None:
        news, counts, pause_s = self._news[name], self.counts[name], self._pause_s
        while True:
            news.clear()
            try:
                message = await asyncio.to_thread(self._store.next_message, name)
                if message is None:
                    await _either(news, _LOOK_AGAIN_S)
                    continue
                if await self._try(sender, message, counts):
                    await asyncio.to_thread(self._store.done, message.id)
                    pause_s = self._pause_s
                    continue
            except StoreUnavailable:
                log.debug("the messages of channel %s cannot be read at present", name)  # the engine says so once
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _try(self, sender: Sender, message: Message, counts: Counts) -> bool:
        """Whether the message is dealt with: delivered, or given up."""
        try:
            await sender.send(message.body)
        except Undelivered as error:
            counts.failed += 1
            if not counts.last_error:
                log.warning("channel %s does not take alerts: %s; trying again", message.channel, error)
            counts.last_error = str(error)
            if self._now_ns() - message.made_ns < self._settings.give_up_s * 1e9:
                return False
            counts.dropped += 1
            log.warning("channel %s: a message was given up after %g s", message.channel, self._settings.give_up_s)
            return True
        if counts.last_error:
            log.warning("channel %s takes alerts again", message.channel)
        counts.sent, counts.last_sent_ns, counts.last_error = counts.sent + 1, self._now_ns(), ""
        return True


def make_sender(channel: rules.Channel, publish: Publish | None) -> Sender:
    """The way out of this channel. Raises ConfigError when a file of it cannot be used."""
    match channel:
        case rules.MqttChannel():
            return MqttSender(publish or _nowhere)
        case rules.WebhookChannel():
            return WebhookSender(channel)
        case rules.AppriseChannel():
            return AppriseSender(channel)


async def _nowhere(_: str, __: bytes) -> None:
    raise Undelivered("this process has no connection to a broker")


async def _either(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return


def _read_secret(name: str, key: str, read: Callable[..., str]) -> str:
    try:
        return read(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"channel {name}: {key} cannot be read: {type(error).__name__}"]) from None


def _words(body: Mapping[str, Any]) -> tuple[str, str]:
    title = f"[{body['severity']}] {body['event']}: {body['rule']}"
    lines: Iterable[str] = (
        str(body["message"]),
        f"value: {body['value']:g}" if body.get("value") is not None else "",
        f"since {body['raised_at']}",
        f"responsible: {body['owner']} {body['contact']}".rstrip() if body.get("owner") else "",
        f"alert {body['id']}",
    )
    return title, "\n".join(line for line in lines if line)


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

"""A broker for the demo, inside this process or as its child: one setting, nothing to install or configure.

`embedded: true` is amqtt in this process: about a thousand messages a second, MQTT 3.1.1, forgets everything at the
end, and must be subscribed to plainly because its `$share` loses messages. `embedded: auto` starts mosquitto instead
when it is installed. Both listen on loopback alone. Everything else than a demo deserves a broker of its own.
"""

import asyncio
import contextlib
import getpass
import logging
import shutil
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Any, Protocol

from cloud.config import Mqtt
from contract.errors import ConfigError, Fatal

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
_WATCH_S = 0.5


class Broker(Protocol):
    """A broker that lives as long as this process."""

    async def start(self) -> None:
        """Listen. Raises Fatal when it cannot."""

    async def died(self) -> str:
        """Returns when it ended by itself, saying how."""

    async def stop(self) -> None:
        """End it. Never raises."""


def make_broker(settings: Mqtt, folder: Path) -> Broker:
    """The broker that resolved settings ask for; `folder` is where a child keeps its data."""
    program = find_mosquitto() if settings.embedded == "auto" else None
    return ChildBroker(program, settings, folder) if program else InProcessBroker(settings)


def resolve(settings: Mqtt) -> Mqtt:
    """`embedded: auto` becomes true where mosquitto is not installed, so that broker and intake agree."""
    if settings.embedded == "auto" and find_mosquitto() is None:
        return settings.model_copy(update={"embedded": True})
    return settings


def find_mosquitto() -> str | None:
    """mosquitto's program, if it is installed; Debian keeps it where users' PATH does not look."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class InProcessBroker:
    """amqtt on this event loop."""

    def __init__(self, settings: Mqtt) -> None:
        self._bind = f"{settings.host}:{settings.port}"
        self._broker: Any = None

    async def start(self) -> None:
        """Listen. Raises Fatal when the port is taken, ConfigError when amqtt is not installed."""
        try:
            import amqtt.broker
        except ModuleNotFoundError as error:
            raise ConfigError([f"the package {error.name!r} is missing; run: pip install 'weinao[cloud]'"]) from None
        _one_line_logs()
        asyncio.get_running_loop().set_exception_handler(_one_line_for_amqtt)
        self._broker = amqtt.broker.Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": self._bind}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        try:
            await self._broker.start()
        except amqtt.broker.BrokerError as error:
            raise Fatal(f"the embedded broker cannot listen at {self._bind}: {error}") from None

    async def died(self) -> str:
        """Returns when amqtt left its started state."""
        while self._broker.transitions.is_started():  # noqa: ASYNC110 - amqtt has no event to wait for
            await asyncio.sleep(_WATCH_S)
        return "the embedded broker stopped"

    async def stop(self) -> None:
        """Close every connection."""
        if self._broker is not None and self._broker.transitions.is_started():
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._broker.shutdown()


class ChildBroker:
    """mosquitto as a child process, with a configuration and data of its own."""

    def __init__(self, program: str, settings: Mqtt, folder: Path) -> None:
        self._program = program
        self._host = settings.host
        self._port = settings.port
        self._folder = folder
        self._child: Process | None = None

    async def start(self) -> None:
        """Start it and wait until it listens. Raises Fatal with what it said."""
        if await self._listens():
            raise Fatal(f"{self._host}:{self._port} is in use; name another mqtt.port, or stop what listens there")
        config = await asyncio.to_thread(self._write_config)
        command = [self._program, "-c", str(config)]
        setpriv = shutil.which("setpriv")
        if setpriv is not None:  # so that it does not outlive us, whatever kills us
            command = [setpriv, "--pdeathsig", "TERM", *command]
        self._child = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._listens():
                    if self._child.returncode is not None:
                        raise Fatal(f"mosquitto ended at once; it said: {self._last_words()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await self.stop()
            raise Fatal(f"mosquitto does not listen at {self._host}:{self._port}: {self._last_words()}") from None

    async def died(self) -> str:
        """Returns when the child ended."""
        assert self._child is not None  # noqa: S101 - started before
        code = await self._child.wait()
        return f"mosquitto ended with code {code}: {self._last_words()}"

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when it does not go."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    def _write_config(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "mosquitto.conf"
        config.write_text(
            f"listener {self._port} {self._host}\nallow_anonymous true\n"
            f"user {getpass.getuser()}\n"  # otherwise root becomes a user who may not write here
            f"persistence true\npersistence_location {self._folder.absolute()}/\n"
            "max_queued_messages 0\nmax_inflight_messages 0\n"
            f"log_dest file {self._folder.absolute()}/mosquitto.log\nlog_type error\nlog_type warning\n",
            encoding="utf-8",
        )
        return config

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            return False
        writer.close()
        return True

    def _last_words(self) -> str:
        try:
            lines = (self._folder / "mosquitto.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "nothing"
        return lines[-1] if lines else "nothing"


class _OneLine(logging.Handler):
    """amqtt's records as one line of ours: it prints a traceback for every client that drops while connecting."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage().splitlines()[0][:200] if record.getMessage() else ""
        log.log(
            min(record.levelno, logging.WARNING), "embedded broker: %s%s", text, f" ({error!r:.200})" if error else ""
        )


def _one_line_logs() -> None:
    for name in ("amqtt", "transitions"):
        noisy = logging.getLogger(name)
        noisy.setLevel(logging.WARNING)
        noisy.propagate = False
        noisy.handlers = [_OneLine()]


def _one_line_for_amqtt(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("amqtt"):
            log.warning("embedded broker: a client's connection failed: %r", error)
            return
        trace = trace.tb_next
    loop.default_exception_handler(context)

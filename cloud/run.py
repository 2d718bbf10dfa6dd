"""The cloud's composition root: makes the parts, starts them in order, stops them in two phases.

Stop, first phase: take nothing more, finish the batch at hand. Second phase, after `GRACE_S`: cancel; what is not
acknowledged then comes again.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any

from cloud.births import Births
from cloud.broker import make_broker, resolve
from cloud.collector import Collector
from cloud.config import CloudConfig
from cloud.intake import Intake
from cloud.ledger import Ledger
from cloud.metrics import CollectorMetrics, Taps
from cloud.metrics_taps import CountedQuarantine, TimedSource, TimedStore
from cloud.quarantine import Quarantine
from cloud.stores.base import Store
from cloud.stores.specs import make_store
from cloud.tail import Tail
from contract import local_socket
from contract.errors import ConfigError, Fatal, StoreUnavailable
from contract.metrics_http import MetricsServer

log = logging.getLogger(__name__)

GRACE_S = 10.0
_FIRST_RETRY_S = 0.5


class Role(StrEnum):
    """What a process does of all that the configuration says. run: everything; collect, hub: that alone."""

    RUN = "run"
    COLLECT = "collect"
    HUB = "hub"


class Cloud:
    """One running cloud process: a store, the collector's files, an intake, and perhaps a broker and the hub."""

    def __init__(self, config: CloudConfig, *, role: Role, ready_file: Path | None = None) -> None:
        self._config = config.model_copy(update={"mqtt": resolve(config.mqtt)})
        self._with_broker = role is Role.RUN and bool(config.mqtt.embedded)
        self._with_hub = role is Role.RUN and config.hub is not None
        self._ready_file = ready_file
        self._stopping = asyncio.Event()
        self._started = time.monotonic()
        self._metrics: MetricsServer | None = None

    def stop(self) -> None:
        """Begin to stop. `run` returns when everything is."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`. Raises Fatal when going on makes no sense, ConfigError when it never did."""
        data = self._config.data
        with contextlib.ExitStack() as files:
            try:
                ledger = Ledger(data.ledger, keep_hours=data.keep_hours)
                files.callback(ledger.close)
                births = Births(data.births)
                files.callback(births.close)
                quarantine = CountedQuarantine(data.quarantine, max_bytes=data.quarantine_max_bytes)
                files.callback(quarantine.close)
                tail = self._make_tail()
            except StoreUnavailable as error:
                raise Fatal(f"the collector's files cannot be opened: {error}") from None
            async with self._broker() as died, self._opened_store() as store, _written(tail):
                if store is None:
                    return
                intake = Intake(self._config.mqtt, self._config.collector, tap=None if tail is None else tail.put)
                taps = Taps(TimedSource(intake), TimedStore(store), quarantine)
                collector = Collector(
                    taps.source,
                    taps.store,
                    ledger=ledger,
                    births=births,
                    quarantine=quarantine,
                    settings=self._config.collector,
                    before_ack=None if tail is None else tail.synced,
                )
                handlers: dict[str, local_socket.Handler] = {
                    "status": lambda _: self._status(intake, collector, ledger, quarantine),
                    "ledger": lambda asked: _report(ledger, asked),
                }
                metrics = CollectorMetrics(self._config, taps, intake, collector)
                answering = local_socket.serve(self._config.status_socket, handlers)
                async with self._shown(metrics), self._hub(store) as hub, answering:
                    await self._guard(intake, collector, died, hub)
            await asyncio.to_thread(_last_fold, ledger)

    async def run_hub(self) -> None:
        """Run the hub alone until `stop`, beside collectors that share the data directory. Raises as `run`."""
        async with self._opened_store() as store:
            if store is None:
                return
            from cloud.hub.serve import serving

            async with serving(self._config, store) as hub:
                stopping = asyncio.create_task(self._stopping.wait(), name="stop")
                self._say_ready()
                await asyncio.wait({hub, stopping}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                self._unsay_ready()
                _end_of(hub, stopped=self._stopping.is_set())

    def _make_tail(self) -> Tail | None:
        hub = self._config.hub
        return None if hub is None else Tail(self._config.data.tail, max_bytes=hub.tail_max_bytes)

    @contextlib.asynccontextmanager
    async def _hub(self, store: Store) -> AsyncIterator["asyncio.Task[None] | None"]:
        if not self._with_hub:
            yield None
            return
        from cloud.hub.serve import serving

        async with serving(self._config, store) as hub:
            yield hub

    @contextlib.asynccontextmanager
    async def _shown(self, metrics: CollectorMetrics) -> AsyncIterator[None]:
        if self._config.metrics is None:
            yield
            return
        async with metrics.serve() as self._metrics:
            yield

    @contextlib.asynccontextmanager
    async def _broker(self) -> AsyncIterator["asyncio.Task[str] | None"]:
        if not self._with_broker:
            yield None
            return
        broker = make_broker(self._config.mqtt, self._config.data.directory / "broker")
        await broker.start()
        died = asyncio.create_task(broker.died(), name="broker watch")
        try:
            yield died
        finally:
            died.cancel()
            await broker.stop()

    @contextlib.asynccontextmanager
    async def _opened_store(self) -> AsyncIterator[Store | None]:
        """The store, opened; one that is away is waited for. None when we were told to stop before."""
        store = make_store(self._config.store)
        wait_s, complained = _FIRST_RETRY_S, False
        opened = False
        try:
            while not opened and not self._stopping.is_set():
                try:
                    await store.open()
                    opened = True
                except StoreUnavailable as error:
                    if not complained:
                        log.warning("the store does not open: %s; trying again", error)
                    complained = True
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(error.retry_after_s or wait_s):
                            await self._stopping.wait()
                    wait_s = min(wait_s * 2, self._config.collector.retry_max_s)
            if opened and complained:
                log.warning("the store is open")
            yield store if opened else None
        finally:
            await store.close()

    async def _guard(
        self,
        intake: Intake,
        collector: Collector,
        died: "asyncio.Task[str] | None",
        hub: "asyncio.Task[None] | None",
    ) -> None:
        """Run the tasks; the first that ends decides: the stop is normal, anything else is fatal."""
        reading = asyncio.create_task(intake.run(), name="intake")
        collecting = asyncio.create_task(collector.run(), name="collector")
        stopping = asyncio.create_task(self._stopping.wait(), name="stop")
        announcing = asyncio.create_task(self._announce(intake), name="ready")
        tasks: set[asyncio.Task[Any]] = {reading, collecting, stopping, announcing}
        try:
            watched: set[asyncio.Task[Any]] = {reading, collecting, stopping}
            watched |= ({died} if died else set()) | ({hub} if hub else set())
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if died in done and not self._stopping.is_set():
                raise Fatal(f"the broker of this process is gone: {died.result() if died else ''}")
            for task in done & {reading, collecting}:
                task.result()
            if hub in done and hub is not None:
                _end_of(hub, stopped=self._stopping.is_set())
            collector.stop()
            _, late = await asyncio.wait({collecting}, timeout=GRACE_S)
            if late:
                log.warning("stopped without finishing the batch at hand; it will come again")
            else:
                collecting.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._unsay_ready()

    async def _announce(self, intake: Intake) -> None:
        await intake.subscribed.wait()
        log.info("collecting from %s:%d", self._config.mqtt.host, self._config.mqtt.port)
        await asyncio.to_thread(self._say_ready)

    def _say_ready(self) -> None:
        if self._ready_file is not None:
            _write_whole(self._ready_file, f"{os.getpid()}\n")

    def _unsay_ready(self) -> None:
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)

    def _status(self, intake: Intake, collector: Collector, ledger: Ledger, quarantine: Quarantine) -> dict[str, Any]:
        report = ledger.report()
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "broker": f"{self._config.mqtt.host}:{self._config.mqtt.port}",
            "subscribed": intake.subscribed.is_set(),
            "waiting": intake.waiting,
            "intake": asdict(intake.counts),
            "collector": asdict(collector.counts),
            "quarantine": asdict(quarantine.totals()),
            "gateways": [asdict(row) for row in report.gateways],
            "metrics": None if self._metrics is None else self._metrics.told(),
            "ledger": {"summary": report.summary(), "closes": report.closes, **report.totals},
        }


def _report(ledger: Ledger, asked: dict[str, Any]) -> dict[str, Any]:
    stream = asked.get("stream")
    if stream is not None and not isinstance(stream, str):
        raise ValueError("stream: expected text")
    return ledger.report(stream=stream, hours=bool(asked.get("hours"))).as_json()


def _last_fold(ledger: Ledger) -> None:
    with contextlib.suppress(StoreUnavailable):  # receipts that are not folded are complete as they are
        ledger.fold(time.time_ns())


def _write_whole(file: Path, text: str) -> None:
    """Nobody ever reads half of it."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


@contextlib.asynccontextmanager
async def _written(tail: Tail | None) -> AsyncIterator[None]:
    """The tail's writing, for as long as the block runs and until the last of it is on the disk."""
    if tail is None:
        yield
        return
    writing = asyncio.create_task(tail.run(), name="tail")
    try:
        yield
    finally:
        await asyncio.sleep(0)  # a task that never began would not end its file
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def _end_of(hub: "asyncio.Task[None]", *, stopped: bool) -> None:
    """Raise what ended the hub, or Fatal when it ended by itself."""
    if hub.done():
        hub.result()
        if not stopped:
            raise Fatal("the hub ended by itself")


async def run_until_signalled(config: CloudConfig, *, role: Role, ready_file: Path | None) -> None:
    """Run until SIGTERM or SIGINT. Raises what Cloud.run and Cloud.run_hub raise."""
    if role is Role.HUB and config.hub is None:
        raise ConfigError(["hub: this configuration has no hub; add 'hub: {}' for one on 127.0.0.1:8470"])
    cloud = Cloud(config, role=role, ready_file=ready_file)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, cloud.stop)
    await (cloud.run_hub() if role is Role.HUB else cloud.run())

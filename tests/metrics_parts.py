"""A gateway and a collector that are wired and not running, for the tests of what they show."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memory_store import MemoryStore

import gateway
from cloud import config as cloud_config
from cloud.births import Births
from cloud.collector import Collector
from cloud.intake import Intake
from cloud.ledger import Ledger
from cloud.metrics import CollectorMetrics, Taps
from cloud.metrics_taps import CountedQuarantine, TimedSource, TimedStore
from drivers.registry import Registry
from edge import config as edge_config
from edge.runtime import Parts

SECRET = "planted-51ab"  # noqa: S105 - to be searched for
GATEWAY = f"""gateway: {{id: gw-1, area: {{city: a, district: b, street: c}}}}
mqtt: {{host: 127.0.0.1, port: 1, username: u, password: {SECRET}}}
outbox: {{directory: outbox, min_free_bytes: 0}}
metrics: {{port: 0}}
buses:
  - {{name: logger, driver: replay, file: f.csv, devices: [
      {{name: well, streams: [{{name: level, quantity: q, unit: m}}, {{name: flow, quantity: q, unit: m3/h}}]}},
      {{name: pump, streams: [{{name: level, quantity: q, unit: m}}]}}]}}
"""


def wired_gateway(folder: Path, text: str = GATEWAY) -> Parts:
    """The parts of a gateway as `run` wires them. Close its outbox."""
    file = folder / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    return gateway.wire(edge_config.load(file, Registry()), Registry())


@dataclass
class CollectorParts:
    """A collector whose source is no broker."""

    metrics: CollectorMetrics
    collector: Collector
    ledger: Ledger
    intake: Intake
    taps: Taps
    store: MemoryStore


@contextmanager
def wired_collector(folder: Path) -> Iterator[CollectorParts]:
    """The parts of a collector as `run` wires them."""
    file = folder / "cloud.yaml"
    file.write_text(
        f"mqtt: {{port: 1, username: u, password: {SECRET}}}\nstore: {{kind: embedded}}\ndata: {{directory: data}}\n"
        "metrics: {port: 0}\n",
        encoding="utf-8",
    )
    config = cloud_config.load(file)
    ledger, births = Ledger(config.data.ledger), Births(config.data.births)
    quarantine = CountedQuarantine(config.data.quarantine, max_bytes=1 << 20)
    intake, store = Intake(config.mqtt, config.collector), MemoryStore()
    taps = Taps(TimedSource(intake), TimedStore(store), quarantine)
    collector = Collector(
        taps.source, taps.store, ledger=ledger, births=births, quarantine=quarantine, settings=config.collector
    )
    metrics = CollectorMetrics(config, taps, intake, collector)
    try:
        yield CollectorParts(metrics, collector, ledger, intake, taps, store)
    finally:
        for one in (ledger, births, quarantine):
            one.close()

"""What gateway and collector say of themselves in the same words: the builder of a page, its histograms, the process.

prometheus_client is imported where a page is made, in the thread that makes it: a process without `metrics` never pays
for it, and one with them never stops its event loop for it.
"""

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

COMMON_PREFIX = "weinao_"
# By the value of the one label, or by the values of several.
Labelled = Mapping[str, float] | Mapping[tuple[str, str], float] | Mapping[tuple[str, ...], float]

# Of disks and databases, seconds.
WORK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LAG_EVERY_S = 0.5


class Histogram:
    """How long something took, in buckets; one writer, any reader. bounds_s: upper ends, inclusive, ascending."""

    def __init__(self, bounds_s: Sequence[float] = WORK_S) -> None:
        self.sum_s = 0.0
        self._bounds_s = tuple(bounds_s)
        self._counts = [0] * (len(self._bounds_s) + 1)

    @property
    def count(self) -> int:
        """How often it was observed."""
        return sum(self._counts)

    def observe(self, seconds: float) -> None:
        """It took so long once more."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Pairs of an upper end and how many took at most that; the last is all of them."""
        total = 0
        pairs = []
        for bound, count in zip((*map(repr, self._bounds_s), "+Inf"), tuple(self._counts), strict=True):
            total += count
            pairs.append((bound, float(total)))
        return pairs


class LoopLag:
    """How late the event loop wakes who sleeps: what every deadline of the process suffers."""

    def __init__(self) -> None:
        self.seconds = Histogram(LAG_S)

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.seconds.observe(max(0.0, loop.time() - due_s))


class Page:
    """Metric families in order. prefix: of every name. A value of None is a family that has nothing to say yet."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: list[Metric] = []

    def gauge(self, name: str, text: str, value: float | Labelled | None, labels: Sequence[str] = ()) -> None:
        """What goes up and down. With `labels`: a value for each of theirs."""
        from prometheus_client.metrics_core import GaugeMetricFamily

        family = GaugeMetricFamily(self._prefix + name, text, labels=tuple(labels))
        for row, one in _rows(value):
            family.add_metric(row, one)
        self._families.append(family)

    def counter(self, name: str, text: str, value: float | Labelled | None, labels: Sequence[str] = ()) -> None:
        """What only rises while the process lives; `_total` is added to its name."""
        from prometheus_client.metrics_core import CounterMetricFamily

        family = CounterMetricFamily(self._prefix + name, text, labels=tuple(labels))
        for row, one in _rows(value):
            family.add_metric(row, one)
        self._families.append(family)

    def histogram(self, name: str, text: str, histogram: Histogram) -> None:
        """How long something took."""
        from prometheus_client.metrics_core import HistogramMetricFamily

        family = HistogramMetricFamily(self._prefix + name, text)
        family.add_metric([], buckets=histogram.buckets(), sum_value=histogram.sum_s)
        self._families.append(family)

    def info(self, text: str, facts: Mapping[str, str]) -> None:
        """One constant 1 whose labels say who this is; `info` is its name."""
        self.gauge("info", text, {tuple(facts.values()): 1}, tuple(facts))

    def process(self, component: str, software: str, lag: LoopLag, answers: Mapping[int, int]) -> None:
        """What every process of ours says under the same names: build, memory, CPU, files, event loop, who asked."""
        from prometheus_client.process_collector import ProcessCollector

        common = Page(COMMON_PREFIX)
        build = {"component": component, "version": software}
        build |= {"python": platform.python_version(), "machine": platform.machine()}
        common.gauge("build_info", "1; what runs here.", {tuple(build.values()): 1}, tuple(build))
        common.histogram("event_loop_lag_seconds", "How late the event loop wakes a sleeper.", lag.seconds)
        common.counter(
            "metrics_requests",
            "Requests for this page, by HTTP status.",
            {str(code): count for code, count in sorted(answers.items())},
            ("code",),
        )
        self._families += [*common.collect(), *ProcessCollector(registry=None).collect()]

    def collect(self) -> "Iterable[Metric]":
        """For prometheus_client."""
        return self._families

    def as_bytes(self) -> bytes:
        """The page in Prometheus' text format 0.0.4."""
        from prometheus_client.exposition import generate_latest
        from prometheus_client.registry import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)


def _rows(value: float | Labelled | None) -> Iterable[tuple[tuple[str, ...], float]]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        return (((), float(value)),)
    return [((key,) if isinstance(key, str) else key, float(one)) for key, one in value.items()]

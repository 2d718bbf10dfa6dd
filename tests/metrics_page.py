"""Scraping as Prometheus does it, and what every page must keep to."""

import asyncio
import http.client
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

LABELS = {
    *("bus", "channel", "city", "code", "collector", "component", "device", "district", "gateway", "kind", "le"),
    *("machine", "outcome", "python", "quality", "reason", "state", "store", "street", "version"),
}
NAME = re.compile(r"(weinao|process)(_[a-z0-9]+)+")
# Prometheus wants base units; these are what people write instead.
NO_UNITS = re.compile(r"_(ms|us|ns|millis|milliseconds|microseconds|minutes|hours|kb|mb|kib|mib|percent)(_|$)")


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    text: str

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of that name whose labels include these; None when there is none."""
        found = [
            sample.value
            for family in families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) < 2, f"{name} {labels}: {len(found)} samples"
        return found[0] if found else None


def scrape(port: int, path: str = "/metrics", *, method: str = "GET", user: str = "", password: str = "") -> Answer:
    """One request. The default user says nothing of who it is."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    if user:
        headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    try:
        link.request(method, path, headers=headers)
        answer = link.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
    finally:
        link.close()


async def happens(condition: Callable[[], bool]) -> None:
    """Look every 10 ms; fails after 10 s."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 10 s")


def families(text: str) -> list[Metric]:
    """The page as Prometheus' own parser reads it."""
    return list(text_string_to_metric_families(text))


def names(text: str) -> set[str]:
    """Every metric of ours on the page by the name that a query uses; of a histogram, that of its family."""
    kinds = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    return {name for name in kinds if name.startswith("weinao_")}


def check(text: str) -> None:
    """Naming, units, help, labels and uniqueness by https://prometheus.io/docs/practices/naming/."""
    assert text.endswith("\n")
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    assert set(kinds) == set(helps)
    assert len(kinds) == text.count("# TYPE "), "a family stands twice on the page"
    for name, kind in kinds.items():
        assert NAME.fullmatch(name), name
        assert not NO_UNITS.search(name), f"{name}: not a base unit"
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert not name.endswith("_age"), name
        assert helps[name].endswith("."), f"{name}: {helps[name]!r} is no sentence"
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for family in families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in seen, f"{key} stands twice"
            seen.add(key)
            assert set(sample.labels) <= LABELS, sample

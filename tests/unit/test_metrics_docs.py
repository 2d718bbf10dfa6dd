"""Every metric is in the operator's handbook and nothing else is; every alert asks for metrics that exist."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from memory_store import MemoryStore
from metrics_page import LABELS, families, names
from metrics_parts import wired_collector, wired_gateway

from cloud import config as cloud_config
from cloud.hub import serve
from cloud.hub.figures import HubMetrics
from edge.metrics import GatewayMetrics

ROOT = Path(__file__).parents[2]
HANDBOOK = (ROOT / "docs/operator.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "configs/prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]

HUB = """
mqtt: {port: 1}
store: {kind: embedded}
data: {directory: hub-data}
hub: {metrics: {port: 0}, alerts: {channels: [{name: duty, kind: mqtt}]}}
"""


async def _pages(folder: Path) -> str:
    """Both pages, of parts that are wired and idle."""
    parts = wired_gateway(folder)
    assert parts.taps is not None
    metrics = GatewayMetrics(
        parts.config.file, parts.taps, parts.clock, parts.supervisor, parts.packer, parts.outbox, parts.uplink
    )
    try:
        text = await metrics.page()
    finally:
        await parts.outbox.close()
    with wired_collector(folder) as collector:
        text += await collector.metrics.page()
    return (text + await _hub_page(folder)).decode()


async def _hub_page(folder: Path) -> bytes:
    file = folder / "hub.yaml"
    file.write_text(HUB, encoding="utf-8")
    config = cloud_config.load(file)
    assert config.hub is not None
    parts = await serve.make(config, MemoryStore())
    try:
        return await HubMetrics(config.hub.metrics, parts.figures).page()
    finally:
        parts.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return asyncio.run(_pages(tmp_path_factory.mktemp("pages")))


def told() -> dict[str, list[str]]:
    """The labels of each metric as the handbook lists them."""
    rows = re.findall(r"^\| `(weinao_\w+)` \| ([^|]*)\| [^|]+\|$", HANDBOOK, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a metric stands twice"
    return {name: [label for label in labels.replace(" ", "").split(",") if label] for name, labels in rows}


def test_the_handbook_lists_every_metric_and_no_other(page: str) -> None:
    assert set(told()) == names(page)


def test_the_handbook_lists_every_label(page: str) -> None:
    listed = told()
    for family in families(page):
        name = family.name if family.name in listed else f"{family.name}_total"
        if not name.startswith("process_"):
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(listed[name]), name
    assert {label for labels in listed.values() for label in labels} <= LABELS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_exist_and_says_what_to_do(rule: dict[str, Any], page: str) -> None:
    known = {"up", *names(page)}
    known |= {f"{name}_{part}" for name in names(page) for part in ("bucket", "count", "sum")}
    asked = set(re.findall(r"\b(?:up|weinao_\w+|process_\w+)\b", rule["expr"]))
    assert asked
    assert asked <= known
    by = {
        label for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.replace(" ", "").split(",")
    }
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    labels = {"instance", *(label for name in asked for label in told().get(name, []))}
    assert used <= (by or labels), f"{rule['alert']} tells labels that its query does not keep"
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["description"].endswith(".")
    assert f"| `{rule['alert']}` | {rule['labels']['severity']} | " in HANDBOOK


def test_alerts_have_names_of_their_own() -> None:
    alerts = [rule["alert"] for rule in RULES]
    assert len(alerts) == len(set(alerts)) > 20
    assert set(re.findall(r"^\| `(Weinao\w+)`", HANDBOOK, re.MULTILINE)) == set(alerts)

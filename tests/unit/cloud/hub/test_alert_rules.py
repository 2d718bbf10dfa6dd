"""Rules in config: what is wrong is said in words that somebody can act on."""

from pathlib import Path

import pytest
from hub_kit_quality import make_entry
from pydantic import ValidationError

from cloud.hub.alert_rules import AlertSettings, Select
from contract.topics import GatewayPath

PATH = GatewayPath("Changzhou", "Xinbei", "Taihu Road", "gw-1")
LEVEL = {"kind": "threshold", "name": "high", "select": {"quantities": ["level"]}}


def problem(rules: list[dict[str, object]], channels: list[dict[str, object]] | None = None) -> str:
    with pytest.raises(ValidationError) as caught:
        AlertSettings.model_validate({"rules": rules, "channels": channels or []})
    return str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (LEVEL, "expected 'above' or 'below'"),
        (LEVEL | {"above": 2, "below": 1}, "expected 'above' or 'below'"),
        (LEVEL | {"above": 2, "clear": 3}, "clear: expected 2 (above) or less; found 3"),
        (LEVEL | {"below": 2, "clear": 1}, "clear: expected 2 (below) or more; found 1"),
        ({"kind": "threshold", "name": "x", "above": 1}, "select: a limit needs 'quantities' or 'streams'"),
        ({"kind": "completeness", "name": "x", "below": 0.9, "clear": 0.8}, "clear: expected 0.9 (below) or more"),
        ({"kind": "offline", "name": "x", "select": {"areas": ["a/b/c/d"]}}, "expected city, city/district"),
        ({"kind": "stale", "name": "x", "deliver": ["duty"]}, "there is no channel 'duty'; known: none"),
        ({"kind": "sleepy", "name": "x"}, "'stale', 'offline', 'completeness'"),
        ({"kind": "stale", "name": "x", "interval": 3}, "Extra inputs"),
    ],
)
def test_what_is_wrong_is_named(rule: dict[str, object], words: str) -> None:
    assert words in problem([rule])


def test_names_are_unique_and_addresses_are_addresses() -> None:
    stale: dict[str, object] = {"kind": "stale", "name": "x"}
    assert "the name 'x' is there twice" in problem([stale, stale])
    for url in ("ftp://host/x", "https://user:secret@host/x", "host/x"):
        hook: dict[str, object] = {"kind": "webhook", "name": "duty", "url": url}
        assert "expected http://host/path" in problem([], [hook])


def test_the_address_of_a_webhook_is_not_printed() -> None:
    hook = {"kind": "webhook", "name": "duty", "url": "https://hooks.example/secret-token"}
    settings = AlertSettings.model_validate({"channels": [hook]})
    assert "secret-token" not in repr(settings)
    assert "secret-token" not in settings.model_dump_json()


def test_a_selector_needs_every_key_to_match() -> None:
    entries = [
        make_entry(1, PATH, "a"),
        make_entry(2, PATH, "b", quantity="flow"),
        make_entry(3, PATH, "c", owner="Roads"),
        make_entry(4, GatewayPath("Changzhou", "Xinbei Old", "x", "gw-2"), "a"),
    ]

    def numbers(**keys: tuple[str, ...]) -> list[int]:
        return [entry.number for entry in Select.model_validate(keys).of(entries)]

    assert numbers() == [1, 2, 3, 4]
    assert numbers(areas=("Changzhou/Xinbei",)) == [1, 2, 3]
    assert numbers(areas=("Changzhou/Xinbei",), owners=("Water",), quantities=("level",)) == [1]
    assert numbers(streams=("*/gw-?/meter/[ab]",)) == [1, 2, 4]


def test_a_certificate_rule_names_files() -> None:
    rule = {"kind": "certificate_expiring", "name": "tls", "files": ["hub.pem"]}
    assert AlertSettings.model_validate({"rules": [rule]}).rules[0].files == (Path("hub.pem"),)  # type: ignore[union-attr]

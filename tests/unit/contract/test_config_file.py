"""Configuration files are refused with the place and the reason."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from contract.config_file import load, load_yaml
from contract.errors import ConfigError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: int
    host: str = "localhost"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    servers: list[Inner]


def problems(path: Path, text: str | bytes) -> list[str]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as refused:
        load(path, Outer)
    return [line.replace(str(path), "FILE") for line in refused.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("servers:\n  - port: x\n", "FILE:2:11: servers.0.port: found 'x', expected a valid integer"),
        ("servers:\n  - prot: 1\n    port: 1\n", "FILE:2:5: servers.0.prot: unknown key; did you mean 'port'?"),
        ("servers:\n  - host: a\n", "FILE:2:5: servers.0.port: missing; this key is required"),
        ("servers:\n  - {port: 1, host: null}\n", "FILE:2:21: servers.0.host: found nothing (null), expected"),
        ("servers: []\nservers: []\n", "FILE:2:1: servers: the same key stands already at line 1"),
        ("servers: [\n", "FILE:2:1: not valid YAML:"),
        ("\tservers: []\n", "FILE:1:1: not valid YAML:"),
        ("", "FILE:1:1: the file is empty"),
        ("# a comment\n", "FILE:1:1: the file is empty"),
        ("- 1\n", "FILE:1:1: found a list, expected 'key: value' lines"),
        (b"\xff\xfe\x00", "FILE: not UTF-8 text"),
        ("servers: !!python/object:os.system {}\n", "FILE:1:10: not valid YAML"),
        ("a: " * 40 + "1", "FILE:1:5: not valid YAML"),
        ("servers: " + "[" * 40 + "]" * 40, "nested deeper than 32 levels"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str | bytes, expected: str) -> None:
    found = problems(tmp_path / "c.yaml", text)
    assert any(expected in line for line in found), found


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("a: 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no such file. Did you mean .*gateway\.yaml\?"):
        load_yaml(tmp_path / "gatway.yaml")


def test_numbers_and_words_are_what_a_person_meant(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: 0x10\nb: 12:30\nc: no\nd: 2026-01-01\ne: true\nf: 1e3\ng: 007\n", encoding="utf-8")
    assert load_yaml(path) == {"a": 16, "b": "12:30", "c": "no", "d": "2026-01-01", "e": True, "f": "1e3", "g": "007"}


def test_anchors_cannot_explode(tmp_path: Path) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    path = tmp_path / "c.yaml"
    path.write_text(bomb, encoding="utf-8")
    with pytest.raises(ConfigError, match="anchors"):
        load_yaml(path)


@given(st.text(max_size=300))
def test_any_text_is_a_mapping_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with contextlib.suppress(ConfigError):
        assert isinstance(load_yaml(path), dict)

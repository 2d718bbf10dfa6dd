"""YAML that knows where it stands: every complaint names file, line, column, key and what was expected."""

import datetime as dt
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T", str, int, float, bool)


class ScenarioError(Exception):
    """The scenario cannot be run. The reaction: print it, exit 2."""


_NAMES: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class Mapping:
    """One YAML mapping, taken apart key by key; what is left over at `done` is an error."""

    def __init__(self, path: Path, node: yaml.Node, where: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            raise ScenarioError(f"{_place(path, node)}: {where}: expected a mapping of keys to values")
        self._path = path
        self._node = node
        self._where = where
        self._known: list[str] = []
        self._nodes: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value in self._nodes:
                raise ScenarioError(f"{_place(path, key)}: {self._name(key.value)}: given twice")
            self._nodes[key.value] = value

    def __contains__(self, key: str) -> bool:
        self._known.append(key)  # who asks for a key knows it
        return key in self._nodes

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """A value of a type; required when there is no default. Raises ScenarioError."""
        self._known.append(key)
        node = self._nodes.get(key)
        if node is None:
            if default is None:
                raise self.error(None, f"missing key {key!r}: expected {_NAMES[kind]}")
            return default
        value = _value(node)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"expected {_NAMES[kind]}, found {_shown(node)}")
        return value

    def number(self, key: str, default: float | None = None, low: float = 0, high: float = 1e9) -> float:
        """A number within bounds. Raises ScenarioError."""
        value = self.take(key, float, default)
        if not low <= value <= high:
            raise self.error(key, f"expected a number from {low:g} to {high:g}, found {value:g}")
        return value

    def integer(self, key: str, default: int | None = None, low: int = 0, high: int = 2**31) -> int:
        """A whole number within bounds. Raises ScenarioError."""
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise self.error(key, f"expected a whole number from {low} to {high}, found {value}")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of some words. Raises ScenarioError."""
        value = self.take(key, str, default)
        if value not in choices:
            raise self.error(key, f"found {value!r}, expected one of {', '.join(choices)}{_nearest(value, choices)}")
        return value

    def pair(self, key: str, low: float = 0) -> tuple[float, float]:
        """`[low, high]`, or one number for both. Raises ScenarioError."""
        self._known.append(key)
        node = self._nodes.get(key)
        value = None if node is None else _value(node)
        both = value if isinstance(value, list) else [value, value]
        numbers = [float(x) for x in both if isinstance(x, int | float) and x >= low]
        if len(both) != 2 or len(numbers) != 2 or numbers[0] > numbers[1]:
            raise self.error(key if node else None, f"{key}: expected a number, or [low, high], from {low:g} on")
        return numbers[0], numbers[1]

    def time(self, key: str) -> float | None:
        """An ISO 8601 time with its offset, as seconds since 1970; None when it is not given. Raises ScenarioError."""
        self._known.append(key)
        node = self._nodes.get(key)
        if node is None:
            return None
        try:
            moment = dt.datetime.fromisoformat(str(node.value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self.error(key, f"expected a time like 2026-03-01T06:00:00+08:00, found {_shown(node)}")
        return moment.timestamp()

    def mappings(self, key: str, *, required: bool = True) -> Iterator["Mapping"]:
        """The mappings of a list. Raises ScenarioError."""
        self._known.append(key)
        node = self._nodes.get(key)
        if node is None and not required:
            return
        if not isinstance(node, yaml.SequenceNode) or (required and not node.value):
            raise self.error(key if node else None, f"{key}: expected a list with at least one entry")
        for index, item in enumerate(node.value):
            yield Mapping(self._path, item, self._name(f"{key}[{index}]"))

    def done(self) -> None:
        """Nothing else may be here. Raises ScenarioError with the nearest known key."""
        for key, _ in self._node.value:
            if key.value not in self._known:
                raise ScenarioError(
                    f"{_place(self._path, key)}: {self._name(key.value)}: unknown key, "
                    f"expected one of {', '.join(dict.fromkeys(self._known))}{_nearest(key.value, self._known)}"
                )

    def error(self, key: str | None, message: str) -> ScenarioError:
        """An error at a key of this mapping, or at the mapping."""
        node: yaml.Node = self._node if key is None else self._nodes.get(key, self._node)
        where = self._where if key is None else self._name(key)
        return ScenarioError(f"{_place(self._path, node)}: {where}: {message}")

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where != "scenario" else key


def load(path: Path) -> Mapping:
    """A file's outermost mapping. Raises ScenarioError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path}: not YAML: {error}") from error
    if node is None:
        raise ScenarioError(f"{path}:1:1: the file is empty: expected a scenario with 'ports'")
    return Mapping(path, node, "scenario")


def _value(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _place(path: Path, node: yaml.Node) -> str:
    mark = node.start_mark
    return f"{path}:{mark.line + 1}:{mark.column + 1}"


def _shown(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"


def _nearest(found: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(found, known, 1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""

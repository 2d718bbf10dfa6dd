"""How every configuration file is read, and refused: the same words and the same place everywhere.

YAML becomes plain dicts and lists that remember the file, line and column of every key and value; pydantic models
validate them; every problem becomes one line:

    gateway.yaml:14:9: buses.0.devices.1.unit: found 300, expected a number from 0 to 255
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from contract.errors import ConfigError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
_PLAIN_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
Model = TypeVar("Model", bound=BaseModel)


class Mark(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class MarkedDict(dict[str, Any]):
    """A mapping that remembers where it, each key and each value stood."""

    mark: Mark
    keys_at: dict[str, Mark]
    values_at: dict[str, Mark]


class MarkedList(list[Any]):
    """A sequence that remembers where it and each item stood."""

    mark: Mark
    items_at: list[Mark]


class _Loader(yaml.CSafeLoader):
    """A loader that reads what a person meant: no dates, no octal or sexagesimal numbers, `no` is a word.

    libyaml's: a thousand streams are read in 0.05 s, a tenth of what PyYAML's own parser takes.
    """


# 12:30:00 or 2024-01-01 stay the text a person wrote; NO and on stay text too: only true and false are booleans.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":timestamp", ":bool", ":int"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)


def load_yaml(path: Path) -> MarkedDict:
    """The mapping in a YAML file, with the place of everything. Raises ConfigError."""
    name = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError([f"{name}: larger than {MAX_BYTES} bytes: is this a configuration file?"])
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{name}: no such file. {_files_like(path)}"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{name}: is a folder; expected a YAML file"]) from None
    except PermissionError:
        raise ConfigError([f"{name}: may not be read by this user"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{name}: not UTF-8 text (byte {error.start}); save the file as UTF-8"]) from None
    data = _parse(text, name)
    if not isinstance(data, MarkedDict):
        raise ConfigError([f"{name}:1:1: found a {_kind(data)}, expected 'key: value' lines"])
    return data


def _parse(text: str, name: str) -> Any:
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise ConfigError([f"{name}: YAML anchors and aliases (&, *) are not used here; write it out"])
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise ConfigError([f"{name}:1:1: the file is empty"])
            return _build(node, name, loader, depth=0)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        where = f":{place.line + 1}:{place.column + 1}" if place else ""
        raise ConfigError([f"{name}{where}: not valid YAML: {error.problem or error.context}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}: not valid YAML: {str(error).splitlines()[0]}"]) from None


def load(path: Path, model: type[Model]) -> Model:
    """The validated configuration in a YAML file. Raises ConfigError with one line a problem."""
    return validate(load_yaml(path), model)


def validate(data: MarkedDict, model: type[Model]) -> Model:
    """The model of `data`. Raises ConfigError with one line a problem, in the file's order."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(describe(error, data, model)) from None


def describe(error: ValidationError, data: MarkedDict, model: type[BaseModel]) -> list[str]:
    """One line a problem: place, key, what was found, what was expected, the nearest known key."""
    found: list[tuple[Mark, str]] = []
    for problem in error.errors(include_url=False):
        if problem["type"] == "too_short" and problem["input"]:
            continue  # pydantic dropped the items that are wrong themselves: they are told on their own
        mark, steps = _locate(data, problem["loc"], on_key=problem["type"] == "extra_forbidden")
        found.append((mark, f"{mark}: {_sentence(dict(problem), steps, model)}"))
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


def problem_at(data: object, steps: Sequence[str | int], text: str) -> str:
    """One problem's line, for checks that stand outside a model."""
    mark, shown = _locate(data, tuple(steps), on_key=False)
    return f"{mark}: {'.'.join(shown)}: {text}"


def _build(node: yaml.Node, file: str, loader: _Loader, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ConfigError([f"{_mark(node, file)}: nested deeper than {MAX_DEPTH} levels"])
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise ConfigError([f"{_mark(node, file)}: not valid YAML here: the tag {node.tag!r}"])
    if isinstance(node, yaml.MappingNode):
        mapping = MarkedDict()
        mapping.mark, mapping.keys_at, mapping.values_at = _mark(node, file), {}, {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError([f"{_mark(key_node, file)}: a key must be plain text"])
            key = str(key_node.value)
            if key in mapping:
                first = mapping.keys_at[key].line
                raise ConfigError([f"{_mark(key_node, file)}: {key}: the same key stands already at line {first}"])
            mapping[key] = _build(value_node, file, loader, depth + 1)
            mapping.keys_at[key], mapping.values_at[key] = _mark(key_node, file), _mark(value_node, file)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        items = MarkedList(_build(child, file, loader, depth + 1) for child in node.value)
        items.mark = _mark(node, file)
        items.items_at = [_mark(child, file) for child in node.value]
        return items
    try:
        return loader.construct_object(node)
    except (ValueError, TypeError) as error:
        raise ConfigError([f"{_mark(node, file)}: {error}"]) from None


def _mark(node: yaml.Node, file: str) -> Mark:
    return Mark(file, node.start_mark.line + 1, node.start_mark.column + 1)


def _locate(data: object, loc: tuple[str | int, ...], *, on_key: bool) -> tuple[Mark, list[str]]:
    """The nearest place in the file to a pydantic location, and the steps that exist in the file or were expected."""
    mark = getattr(data, "mark", Mark("?", 1, 1))
    shown: list[str] = []
    for position, step in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(data, MarkedDict) and step in data:
            mark = data.keys_at[str(step)] if last and on_key else data.values_at[str(step)]
            data = data[str(step)]
        elif isinstance(data, MarkedList) and isinstance(step, int) and step < len(data):
            mark, data = data.items_at[step], data[step]
        elif not last or data is None or not isinstance(data, MarkedDict):
            continue  # a step of pydantic's own (the name of a union's member), not of the file
        shown.append(str(step))
    return mark, shown


def _sentence(problem: dict[str, Any], steps: list[str], model: type[BaseModel]) -> str:
    key = ".".join(steps)
    kind, found = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        near = _nearest(steps[-1], _known_keys(problem, model))
        return f"{key}: unknown key{near}"
    if kind == "missing":
        return f"{key}: missing; this key is required"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if kind in {"value_error", "assertion_error"}:
        return f"{key}: {message}" if key else message
    expected = message.removeprefix("Input should be ").removeprefix("Input ")
    return f"{key}: found {_show(found)}, expected {expected}"


def _known_keys(problem: dict[str, Any], model: type[BaseModel]) -> list[str]:
    """Every key any model reachable from `model` knows: good enough to name the nearest one."""
    del problem
    seen: set[type[BaseModel]] = set()
    keys: list[str] = []
    todo: list[Any] = [model]
    while todo:
        current = todo.pop()
        if isinstance(current, type) and issubclass(current, BaseModel):
            if current not in seen:
                seen.add(current)
                keys.extend(field.alias or name for name, field in current.model_fields.items())
                todo.extend(field.annotation for field in current.model_fields.values())
        else:
            todo.extend(get_args(current))
    return sorted(set(keys))


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _files_like(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in {".yaml", ".yml"}]
    except OSError:
        return f"The folder {path.parent} is not there either."
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.4)
    return (
        f"Did you mean {path.parent / near[0]}?"
        if near
        else f"In {path.parent}: {', '.join(sorted(names)[:5]) or 'no YAML file'}."
    )


def _kind(value: object) -> str:
    names = {type(None): "nothing", str: "text", bool: "true/false", int: "number", float: "number"}
    if isinstance(value, list):
        return "list"
    return "mapping" if isinstance(value, dict) else names.get(type(value), type(value).__name__)


def _show(value: object) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, list | dict):
        return f"a {_kind(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

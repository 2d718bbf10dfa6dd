"""Device profiles: what is the same for every device of a product, written once, with the document it came from.

A profile is a YAML file with `driver`, `manufacturer`, `model`, `document`, `streams`, and any other key that a device
of its driver may have. A device names it and overrides what is different at its place:

    - name: air
      profile: plantower-pms5003       # a profile that comes with Weinao, or the path of a file
      only: [pm2_5, pm10]              # pick; or  without: [...]
      streams:
        - {name: pm2_5, deadband: 2}   # laid over the profile's stream of that name; a new name is a new stream

The marks of contract.config_file survive, so that an error names the line of the file where the key stands.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from contract.config_file import MarkedDict, MarkedList, load_yaml, problem_at
from contract.errors import ConfigError
from drivers.base import ProfileInfo

FOLDER = Path(__file__).parent / "profiles"
_TEXTS = ("driver", "manufacturer", "model", "document")
# What describes the profile itself and is no key of a device.
_ABOUT = {"driver", "document"}


def list_profiles(folder: Path = FOLDER) -> list[ProfileInfo]:
    """Every profile in a folder, by name. Raises ConfigError when one is broken."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        data = load_profile(path)
        about = {key: str(data[key]) for key in _TEXTS}
        found.append(ProfileInfo(name=path.stem, streams=len(data["streams"]), **about))
    return found


def load_profile(path: Path) -> MarkedDict:
    """The profile in a file; raises ConfigError when it is not one."""
    data = load_yaml(path)
    problems = [
        f"{data.mark}: {key}: missing; a profile names its driver, manufacturer, model, document and streams"
        for key in (*_TEXTS, "streams")
        if key not in data
    ]
    problems += [
        problem_at(data, [key], "expected text")
        for key in _TEXTS
        if key in data and not (isinstance(data[key], str) and data[key].strip())
    ]
    if "streams" in data and _by_name(data["streams"]) is None:
        problems.append(problem_at(data, ["streams"], "expected a list of streams, each with a name"))
    problems += [
        problem_at(data, [key], "belongs to a device, not to a profile") for key in ("name", "profile") if key in data
    ]
    if problems:
        raise ConfigError(problems)
    return data


def expand(device: dict[str, Any], driver: str, folder: Path = FOLDER) -> dict[str, Any]:
    """A device's raw config laid over its profile's; the device itself when it names none. Raises ConfigError.

    Neither is changed.
    """
    if "profile" not in device:
        for key in ("only", "without"):
            if key in device:
                raise ConfigError([problem_at(device, [key], "picks streams of a profile, and there is none here")])
        return device
    profile = load_profile(_find(device, folder))
    if profile["driver"] != driver:
        text = f"is a profile of driver {profile['driver']!r}, but this bus has driver {driver!r}"
        raise ConfigError([problem_at(device, ["profile"], f"{device['profile']} {text}")])
    result = _overlay(profile, device, leave_out={*_ABOUT, "only", "without", "streams"})
    streams = _merge_streams(profile["streams"], device)
    _put(result, "streams", streams, device if "streams" in device else profile)
    return result


def _find(device: dict[str, Any], folder: Path) -> Path:
    """The file of the profile that a device names."""
    name = device["profile"]
    if not isinstance(name, str) or not name:
        raise ConfigError([problem_at(device, ["profile"], "expected a profile's name or the path of its file")])
    if "/" in name or name.endswith((".yaml", ".yml")):
        mark = getattr(device, "mark", None)
        path = (Path(mark.file).parent if mark else Path()) / name
        if not path.is_file():
            raise ConfigError([problem_at(device, ["profile"], f"no such file: {path}")])
        return path
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(entry.stem for entry in folder.glob("*.yaml"))
        raise ConfigError([problem_at(device, ["profile"], f"no profile {name!r}; {_known(name, known)}")])
    return path


def _merge_streams(profile_streams: Any, device: dict[str, Any]) -> Any:
    known = _by_name(profile_streams) or {}
    chosen = _choose(list(known), device)
    own_streams = device.get("streams", [])
    own = _by_name(own_streams)
    if own is None:
        return own_streams  # the model says what is wrong with it, and where
    merged = MarkedList(_overlay(known[name], own[name]) if name in own else known[name] for name in chosen)
    # What the device describes it wants, also when `only` or `without` would drop it.
    merged.extend(
        _overlay(known[name], stream) if name in known else stream for name, stream in own.items() if name not in chosen
    )
    merged.mark = getattr(own_streams, "mark", profile_streams.mark)
    merged.items_at = [getattr(stream, "mark", merged.mark) for stream in merged]
    return merged


def _choose(names: list[str], device: dict[str, Any]) -> list[str]:
    picked: dict[str, set[str]] = {}
    for key in ("only", "without"):
        if key not in device:
            continue
        value = device[key]
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ConfigError([problem_at(device, [key], "expected a list of stream names")])
        for position, name in enumerate(value):
            if name not in names:
                text = f"the profile has no stream {name!r}; {_known(name, names)}"
                raise ConfigError([problem_at(device, [key, position], text)])
        picked[key] = set(value)
    return [name for name in names if name in picked.get("only", names) and name not in picked.get("without", ())]


def _by_name(streams: Any) -> dict[str, Any] | None:
    """Streams by name; None when that is not what it is, or when a name stands twice."""
    if not isinstance(streams, list):
        return None
    found: dict[str, Any] = {}
    for stream in streams:
        name = stream.get("name") if isinstance(stream, dict) else None
        if not isinstance(name, str) or name in found:
            return None
        found[name] = stream
    return found


def _overlay(base: MarkedDict, top: dict[str, Any], leave_out: Iterable[str] = ()) -> MarkedDict:
    """The keys of both, `top` winning, each with the place where it stands."""
    result = MarkedDict()
    result.mark = getattr(top, "mark", base.mark)
    result.keys_at, result.values_at = {}, {}
    for source in (base, top):
        for key, value in source.items():
            if key not in leave_out:
                _put(result, key, value, source)
    return result


def _put(result: MarkedDict, key: str, value: Any, source: dict[str, Any]) -> None:
    result[key] = value
    if isinstance(source, MarkedDict):
        result.keys_at[key], result.values_at[key] = source.keys_at[key], source.values_at[key]
    else:
        result.keys_at[key] = result.values_at[key] = result.mark


def _known(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"

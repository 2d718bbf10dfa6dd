"""Every driver by name, loaded when a config first names it.

Lazy, because a gateway with nothing but Modbus needs no camera library. A new driver of ours is one line in BUILT_IN;
anybody else's is an entry point in the group `weinao.drivers` whose object is a drivers.base.Driver
(docs/writing-a-driver.md).
"""

import difflib
import importlib
import logging
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from contract.errors import ConfigError
from drivers import profile_files
from drivers.base import Driver, ProfileInfo

log = logging.getLogger(__name__)

GROUP = "weinao.drivers"
BUILT_IN = {
    "camera": "drivers.camera",
    "modbus": "drivers.modbus",
    "replay": "drivers.replay",
    "serial": "drivers.serial",
}
# The extra of pyproject.toml that a driver needs.
EXTRAS = {"camera": "vision", "modbus": "modbus", "serial": "serial"}


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


class Registry:
    """Implements drivers.base.DriverRegistry."""

    def __init__(
        self,
        *,
        installed: Callable[[], Iterable[EntryPoint]] = _installed,
        profiles: Path = profile_files.FOLDER,
    ) -> None:
        self._profiles = profiles
        self._loaded: dict[str, Driver] = {}
        self._plugins: dict[str, EntryPoint] = {}
        for point in installed():
            if point.name in BUILT_IN or point.name in self._plugins:
                log.warning("driver %s of %s is ignored: the name is taken", point.name, point.value)
            else:
                self._plugins[point.name] = point

    def names(self) -> list[str]:
        """Every driver that can be named in a config, sorted."""
        return sorted({*BUILT_IN, *self._plugins})

    def get(self, name: str) -> Driver:
        """The driver; raises ConfigError when it is unknown or its extra is not installed (naming the command)."""
        if name not in self._loaded:
            if name in BUILT_IN:
                self._loaded[name] = _load_built_in(name)
            elif name in self._plugins:
                self._loaded[name] = _load_plugin(self._plugins[name])
            else:
                near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ConfigError([f"no driver {name!r}; {hint}known: {', '.join(self.names())}"])
        return self._loaded[name]

    def expand(self, device: dict[str, Any], driver: str) -> dict[str, Any]:
        """A device's raw config laid over its `profile`; raises ConfigError when there is no such profile."""
        return profile_files.expand(device, driver, self._profiles)

    def profiles(self) -> list[ProfileInfo]:
        """Every device profile that comes with Weinao, by name."""
        return profile_files.list_profiles(self._profiles)


def _load_built_in(name: str) -> Driver:
    try:
        module = importlib.import_module(BUILT_IN[name])
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if name not in EXTRAS or missing in {"drivers", "contract", ""}:
            raise  # a broken installation, not a missing extra
        text = f"driver {name!r} needs {missing}, which is not installed: pip install 'weinao[{EXTRAS[name]}]'"
        raise ConfigError([text]) from None
    driver = module.DRIVER
    if not isinstance(driver, Driver):
        raise TypeError(f"{BUILT_IN[name]}.DRIVER is not a Driver")
    return driver


def _load_plugin(point: EntryPoint) -> Driver:
    source = f"driver {point.name!r} ({point.value})"
    try:
        driver = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"{source} cannot be loaded: {error}"]) from None
    if not isinstance(driver, Driver):
        raise ConfigError([f"{source} is a {type(driver).__name__}; expected a drivers.base.Driver"])
    return driver

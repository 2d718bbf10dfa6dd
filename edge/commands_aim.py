"""What a technician types to see what a camera sees, where its lines lie, and whether things are found."""

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from contract.errors import ConfigError
from drivers.base import DriverRegistry
from drivers.base_camera import CameraBusSpec
from edge import config as configs

if TYPE_CHECKING:
    from edge.vision.aim import Wishes


def aim(path: Path, name: str, registry: DriverRegistry, wishes: "Wishes") -> int:
    """Show a camera until SIGINT, SIGTERM, SIGHUP or the end of the time. Raises ConfigError, OSError.

    Returns 0 when a picture was shown, 1 when the camera gave none.
    """
    config = configs.load(path, registry)
    spec = camera_of(config, name)
    open_capture = registry.get(spec.driver).capture
    if open_capture is None:
        raise ConfigError(["the camera driver of this installation takes no looks"])
    from edge.vision import aim as showing
    from edge.vision.worker import confine
    from models.sessions import Provider

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    confine()
    camera, section = spec.devices[0], config.file.vision
    provider = msgspec.convert(section.provider, Provider)
    finder, least = showing.detector_of(section.folder, camera, provider, _say)
    artist = showing.Artist(camera, finder, least, wishes)
    return showing.run(spec, open_capture, artist, stopping=stopping.is_set, say=_say)


def camera_of(config: configs.GatewayConfig, name: str) -> CameraBusSpec:
    """The camera of a name, or of its bus's name. Raises ConfigError that lists those there are."""
    cameras = {bus.devices[0].name: bus for bus in config.buses if isinstance(bus, CameraBusSpec)}
    found = cameras.get(name) or next((bus for bus in cameras.values() if bus.name == name), None)
    if found is None:
        known = f"cameras: {', '.join(cameras)}" if cameras else "this configuration has no camera"
        raise ConfigError([f"there is no camera {name!r}; {known}"])
    return found


def _say(words: str) -> None:
    print(words, flush=True)

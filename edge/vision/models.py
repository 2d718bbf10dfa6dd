"""What a configuration asks of a model, before anything starts: that it is there, and knows what is to be counted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from contract.errors import ConfigError
from drivers.base import BusSpec
from drivers.base_camera import CameraBusSpec
from models.cards import list_models, load_card


def model_problems(bus: BusSpec, folder: Path) -> Iterator[tuple[list[str | int], str]]:
    """What is wrong between a camera and its model: the key within the camera's configuration, and a sentence."""
    if not isinstance(bus, CameraBusSpec):
        return
    camera = bus.devices[0]
    try:
        card = load_card(folder, camera.detector).card
    except ConfigError as error:
        known = ", ".join(listed.name for listed in list_models(folder)) if folder.is_dir() else "none, no such folder"
        yield ["detector"], f"{error.problems[0]} (models in {folder}: {known or 'none'})"
        return
    if card.task != "detect":
        yield ["detector"], f"{camera.detector!r} is made to {card.task}; expected a model that detects objects"
        return
    classes = card.reported
    for name in camera.classes:
        if name not in classes:
            yield ["classes"], f"{camera.detector!r} knows no class {name!r}; known: {', '.join(classes)}"
    for number, stream in enumerate(camera.streams):
        if stream.object_class is not None and stream.object_class not in classes:
            text = f"{camera.detector!r} knows no class {stream.object_class!r}; known: {', '.join(classes)}"
            yield ["streams", number, "object_class"], text


def model_hashes(buses: Sequence[BusSpec], folder: Path) -> dict[str, str]:
    """The models that the cameras of a configuration name, and the SHA-256 of each. Raises ConfigError."""
    names = {camera.detector for bus in buses if isinstance(bus, CameraBusSpec) for camera in bus.devices}
    return {name: load_card(folder, name).card.sha256 for name in sorted(names)}

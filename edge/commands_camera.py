"""What a technician types about cameras beside `probe` and `aim`: which models there are, and that a view is right.

Needs no onnxruntime and no OpenCV.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from contract import local_socket
from drivers.base import DriverRegistry
from edge import config as configs
from edge.commands_aim import camera_of
from models.cards import Listed, list_models

PIPE_COLUMNS = 200
_COLUMNS = ("name", "task", "classes", "input", "licence", "accuracy")


def models(path: Path | None, registry: DriverRegistry, *, as_json: bool) -> int:
    """Every model of a configuration's folder, or of the product's own; exit 1 when one of them cannot be used."""
    vision = configs.load(path, registry).file.vision if path is not None else configs.VisionSection()
    found = list_models(vision.folder)
    if as_json:
        print(json.dumps([_told(listed) for listed in found], ensure_ascii=False))
    else:
        _print(found, vision.folder)
    return 1 if any(listed.problems for listed in found) else 0


def confirm(path: Path, name: str, registry: DriverRegistry, *, anyway: bool, as_json: bool) -> int:
    """Make what a camera of the running gateway shows now its calibrated view; exit 1 with the reason when it is not.

    Raises ConfigError when the configuration has no such camera.
    """
    config = configs.load(path, registry)
    camera = camera_of(config, name).devices[0]
    try:
        answer = local_socket.ask(
            config.status_socket, "confirm", camera=camera.name, calibration=camera.calibration, anyway=anyway
        )
    except local_socket.NobodyThere as error:
        problem = f"the gateway is not running: {error}. Start it: weinao-gateway run {path}"
    except ValueError as error:
        problem = str(error)
    else:
        problem = ""
    if as_json:
        told = {"problem": problem} if problem else {"learn_s": answer["learn_s"]}
        print(json.dumps({"confirmed": not problem, "camera": camera.name, **told}, ensure_ascii=False))
    elif problem:
        print(f"{camera.name}: NOT confirmed: {problem}")
    else:
        print(f"{camera.name}: confirmed. What it shows now is the view that its lines belong to;")
        print(
            f"it is learned for {answer['learn_s']:.0f} s: leave the camera alone. Then: weinao-gateway status {path}"
        )
    return 1 if problem else 0


def _told(listed: Listed) -> dict[str, Any]:
    told: dict[str, Any] = {"name": listed.name, "ok": not listed.problems, "problems": listed.problems}
    if (card := listed.card) is not None:
        told |= {"task": card.task, "classes": card.reported, "input": [card.input.width, card.input.height]}
        told |= {"licence": card.licence, "sha256": card.sha256, "limits": card.limits}
        told["accuracy"] = (
            card.accuracy if isinstance(card.accuracy, str) else [one.model_dump() for one in card.accuracy]
        )
    return told


def _print(found: list[Listed], folder: Path) -> None:
    table = Table(show_lines=True)
    for heading in (*_COLUMNS, "result"):
        table.add_column(heading)
    for listed in found:
        told = _told(listed)
        shown = [listed.name, *("",) * (len(_COLUMNS) - 1)]
        if "task" in told:
            accuracy = told["accuracy"]
            if not isinstance(accuracy, str):
                first, more = accuracy[0], len(accuracy) - 1  # the card begins with the figure that sums it up
                accuracy = f"{first['measure']} {first['value']:g}" + (f", {more} more with --json" if more else "")
            size = f"{told['input'][0]} x {told['input'][1]}"
            shown = [listed.name, told["task"], ", ".join(told["classes"]), size, told["licence"], accuracy]
        table.add_row(*shown, "UNUSABLE" if listed.problems else "ok")
    print(f"models in {folder}:")
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    Console(markup=False, highlight=False, width=width).print(table)
    for listed in found:
        for problem in listed.problems:
            print(f"{listed.name}: {problem}")

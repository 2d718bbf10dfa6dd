"""What is typed about cameras: `weinao-sim clip` and `weinao-sim snippet`. OpenCV is loaded when one of them runs."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from hardware_sim.scenario import CAMERA_PORTS, read_scenario

WRONG = 2
MODEL = "street-small"


def clip_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The arguments of `clip`."""
    clip = commands.add_parser("clip", help="draw a scene into an MP4 file, with its truth beside it")
    clip.add_argument("scene")
    clip.add_argument("--out", type=Path, required=True, help="FILE.mp4; the truth goes to FILE.jsonl")
    clip.add_argument("--seconds", type=float, default=60.0)
    clip.add_argument("--fps", type=int, default=10)
    clip.add_argument("--size", type=_size, default=(1280, 720), metavar="WxH")
    clip.add_argument("--seed", type=int, default=1)
    clip.add_argument("--spoil", type=_spoil, nargs="+", default=[], metavar="KIND:GRADE")
    clip.add_argument("--stamped", action="store_true", help="write each frame's number into its picture")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) % 2 == 0 and int(height) % 2 == 0):
        raise argparse.ArgumentTypeError(f"expected even numbers like 1280x720, found {text!r}")
    return int(width), int(height)


def _spoil(text: str) -> tuple[str, int]:
    kind, _, grade = text.partition(":")
    if grade not in {"", "1", "2", "3"}:
        raise argparse.ArgumentTypeError(f"expected KIND:GRADE with a grade from 1 to 3, found {text!r}")
    return kind, int(grade or 2)


def clip_command(options: argparse.Namespace) -> int:
    """Draw a clip. Raises OSError when GStreamer is missing or the disk is full."""
    from hardware_sim.street.clip import make_clip
    from hardware_sim.street.conditions import Spoil
    from hardware_sim.street.scenes import make_scene

    try:
        scene = make_scene(options.scene, options.seed, options.size)
        spoils = {Spoil(kind): grade for kind, grade in options.spoil}
    except ValueError as error:
        print(f"weinao-sim: {error}", file=sys.stderr)
        return WRONG
    began, truth = time.monotonic(), options.out.with_suffix(".jsonl")
    frames = make_clip(
        scene, options.out, truth, seconds=options.seconds, fps=options.fps, spoils=spoils, stamped=options.stamped
    )
    print(f"{options.out}: {frames} frames in {time.monotonic() - began:.1f} s; the truth: {truth}")
    return 0


def snippet_command(options: argparse.Namespace) -> int:
    """Print a camera's bus for a gateway's configuration. Raises ScenarioError."""
    scenario = read_scenario(options.scenario)
    seed = scenario.seed if options.seed is None else options.seed
    for port in scenario.ports:
        device = port.devices[0]
        if port.kind in CAMERA_PORTS and device.name == options.device:
            where = f"{port.host}:{port.port}{device.options['path']}"
            source = f"{'rtsp' if port.kind == 'rtsp' else 'http'}://{where}"
            if options.ready_file is not None:  # where it really listens, when the scenario lets the system choose
                source = json.loads(options.ready_file.read_text(encoding="utf-8"))["ports"][port.name]["url"]
            made = bus(port.name, device.name, source, device.options, seed + device.number)
            print(yaml.safe_dump({"buses": [made]}, sort_keys=False, default_flow_style=None, width=110), end="")
            return 0
    cameras = ", ".join(port.devices[0].name for port in scenario.ports if port.kind in CAMERA_PORTS)
    print(f"weinao-sim: no camera {options.device!r}, expected one of: {cameras or 'none'}", file=sys.stderr)
    return WRONG


def bus(name: str, device: str, source: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """A camera as one entry of a gateway's `buses`: its lines, zones and ground are the scene's."""
    from hardware_sim.street.scenes import make_scene

    scene = make_scene(options["scene"], seed, options["size"])
    ground = scene.calibration()
    camera: dict[str, Any] = {
        "name": device,
        "interval_s": 10,
        "detector": MODEL,
        "lines": [
            {"name": line.name, "a": list(line.a), "b": list(line.b), "directions": list(line.directions)}
            for line in scene.picture_lines()
        ],
        "zones": [
            {"name": zone.name, "polygon": [list(point) for point in zone.polygon]} for zone in scene.picture_zones()
        ],
        "ground": {
            "picture": [list(point) for point in ground.picture],
            "metres": [list(point) for point in ground.metres],
        },
    }
    made: dict[str, Any] = {"name": name, "driver": "camera", "source": source}
    if options["account"] is not None:
        made["username"] = options["account"][0]
        made["password_file"] = f"{device}.password"
    return {**made, "devices": [camera]}

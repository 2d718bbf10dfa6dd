"""A scene drawn once into a file: H.264 in MP4 and, beside it, the truth of each frame. What benchmarks are run on.

The truth is one JSON object a line: first the scene (camera, lines, zones, ground, spoils), then each frame as
`witness.Moment.line` writes it. Frame n of the file has the time n / fps, so a receiver that is served from frame 0
(gst.ClipServer) knows the frame by the stream's time.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hardware_sim.street.conditions import Spoil
from hardware_sim.street.film import Film
from hardware_sim.street.gst import Child, GstError, i420
from hardware_sim.street.scenes import Scene


def make_clip(
    scene: Scene, file: Path, truth: Path, *, seconds: float, fps: int, spoils: Mapping[Spoil, int] | None = None,
    stamped: bool = False,
) -> int:  # fmt: skip
    """Draw and encode a scene; returns the frames. Raises GstError, OSError, ValueError (a wrong grade)."""
    film = Film(scene, fps, stamped=stamped)
    film.spoil(spoils or {})
    width, height = scene.camera.size
    child = Child(["encode", str(width), str(height), str(fps), str(file)])
    frames = round(seconds * fps)
    with truth.open("w", encoding="utf-8") as lines:
        lines.write(json.dumps(about(scene, fps, spoils or {})) + "\n")
        for _ in range(frames):
            shot = film.next()
            if shot.bgr is None or not child.write(i420(shot.bgr)):
                break
            lines.write(shot.moment.line() + "\n")
    child.end_input()
    if child.wait_for("ended") != "ok":
        raise GstError(f"{file}: the encoder failed")
    child.close()
    return frames


def about(scene: Scene, fps: float, spoils: Mapping[Spoil, int]) -> dict[str, Any]:
    """The scene as the first line of a truth file."""
    camera = asdict(scene.camera)
    ground = scene.calibration()
    return {
        "scene": scene.name,
        "seed": scene.seed,
        "fps": fps,
        "camera": camera,
        "lines": [asdict(line) for line in scene.picture_lines()],
        "zones": [asdict(zone) for zone in scene.picture_zones()],
        "ground": asdict(ground),
        "spoils": {spoil.value: grade for spoil, grade in spoils.items()},
    }

"""One drawn camera whose health is judged: what went wrong in its picture when, and when that was noticed.

`python -m bench.vision_watch` works off tasks of bench/vision_pool.py. The street is drawn, encoded as H.264 and
decoded again, because a still street after H.264 may repeat its picture bit for bit, and that is what a frozen camera
must be told from; then come the gateway's own thumbnail and judgement. No network and no clock: an hour takes seconds.
"""

from typing import Any

import cv2
import numpy as np

from bench.processes import ROOT, BenchFailed, folder
from bench.vision_film import MODEL, SECOND, START_NS, frames
from bench.vision_pool import Task, serve
from drivers.base_camera import THUMBNAIL
from drivers.camera_picture import Painter
from drivers.camera_ring import Slot
from edge.vision.health import CameraHealth
from hardware_sim.street.conditions import Spoil
from hardware_sim.street.film import Film
from hardware_sim.street.gst import Child, i420
from hardware_sim.street.scenes import make_scene
from models.cards import load_card

SIZE = (640, 360)


def watch(task: Task) -> list[list[Any]]:
    """[[seconds, state], ...] of each change of a camera's state.

    fps: pictures a second. key_each: one picture of as many is a key frame. spoils: what is wrong with the picture all
    the time; then, at_s: what is wrong from that second on.
    """
    width, height = SIZE
    film = Film(make_scene(task["scene"], task["seed"], SIZE), task["fps"])
    always = {Spoil(name): grade for name, grade in task["spoils"].items()}
    film.spoil(always)
    later = {Spoil(name): grade for name, grade in task.get("then", {}).items()}
    with folder() as where:
        file = where / "watch.mp4"
        encoder = Child(["encode", str(width), str(height), str(task["key_each"]), str(file)])
        for number in range(round(task["seconds"] * task["fps"])):
            if later and number == round(task["at_s"] * task["fps"]):
                film.spoil(always | later)
            shot = film.next()
            if shot.bgr is None or not encoder.write(i420(shot.bgr)):
                raise BenchFailed("a street could not be drawn")
        encoder.end_input()
        ended = encoder.wait_for("ended")
        encoder.close()
        if ended != "ok":
            raise BenchFailed(f"the encoder: {ended}")
        changes: list[list[Any]] = []
        card = load_card(ROOT / "models", MODEL).card.input
        health, painter = CameraHealth(), Painter((card.width, card.height), THUMBNAIL, ())
        canvas = np.zeros((card.height, card.width, 3), np.uint8)
        slot = Slot(np.zeros(8, np.int64), canvas, np.zeros(THUMBNAIL[::-1], np.uint8))
        for number, picture in enumerate(frames(file)):
            painter.paint(picture, slot)
            time_s = number / task["fps"]
            state = health.look(START_NS + round(time_s * SECOND), slot.thumbnail).state.value
            if not changes or changes[-1][1] != state:
                changes.append([time_s, state])
    return changes


def main() -> None:
    """Work off tasks."""
    cv2.setNumThreads(1)
    serve(watch)


if __name__ == "__main__":
    main()

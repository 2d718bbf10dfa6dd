"""Before it counts: what a technician is told of a camera, and of the models, by the commands that he types."""

import json
from pathlib import Path

import numpy as np
import pytest
from cameras import MjpegServer, spec_of
from programs import ask
from servers import free_port

from drivers.base_camera import THUMBNAIL
from drivers.camera import open_capture
from edge.vision.probe import hints, look_once

pytestmark = pytest.mark.services


def test_a_camera_that_is_there_says_its_size_and_its_pace() -> None:
    with MjpegServer() as server:
        sight = look_once(spec_of(server.url), open_capture, watch_s=1.0)
    assert sight.problem == ""
    assert sight.size[0] > sight.size[1] > 0
    assert sight.fps > 1
    assert "pictures/s" in sight.told()


def test_a_camera_that_is_not_there_is_one_sentence() -> None:
    sight = look_once(spec_of(f"rtsp://127.0.0.1:{free_port()}/cam"), open_capture)
    assert "refuses the connection" in sight.problem
    assert sight.first_ms is None


@pytest.mark.parametrize(("grey", "word"), [(2, "BLACK"), (120, "BLACK"), (254, "OVEREXPOSED")])
def test_a_picture_that_shows_nothing_says_what_to_do(grey: int, word: str) -> None:
    width, height = THUMBNAIL
    (said,) = hints(np.full((height, width), grey, dtype=np.uint8))
    assert said.startswith(word)


def test_a_picture_of_something_is_left_in_peace() -> None:
    width, height = THUMBNAIL
    street = np.random.default_rng(1).integers(20, 200, (height // 20, width // 20), dtype=np.uint8)
    assert hints(street.repeat(20, axis=0).repeat(20, axis=1)) == []


def test_the_models_are_listed_with_what_they_are_for(tmp_path: Path) -> None:
    told = ask("weinao-gateway", "models", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "street-small" in told.stdout
    as_json = json.loads(ask("weinao-gateway", "models", "--json", folder=tmp_path).stdout)
    (ours,) = [one for one in as_json if one["name"] == "street-small"]
    assert ours["ok"]
    assert ours["classes"] == ["person", "cyclist", "car", "bus"]
    assert "drawn streets" in " ".join(ours["limits"])

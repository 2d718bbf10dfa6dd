import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hardware_sim.cli import main
from hardware_sim.faults import CAMERA_KINDS, Active, Fault, Kind
from hardware_sim.scenario import allowed_kinds, read_scenario
from hardware_sim.street import gst, stamp
from hardware_sim.street.camera_port import wrong_with
from hardware_sim.street.clip import make_clip
from hardware_sim.street.conditions import Spoil, setup
from hardware_sim.street.film import Film
from hardware_sim.street.live import Order, Wrong
from hardware_sim.street.outlets import Trouble
from hardware_sim.street.scenes import make_scene
from hardware_sim.yaml_reader import ScenarioError

SCENE = make_scene("mixed", 2, (320, 180))
SCENARIO = """\
seed: 5
ports:
  - name: eyes
    kind: rtsp
    port: 8554
    devices: [{name: cam-1, type: camera, scene: queue, number: 2, width: 640, height: 360, fps: 5}]
faults:
  - {device: cam-1, kind: fog, grade: 3, at_s: 5, seconds: 2}
"""


def shots(spoils: dict[Spoil, int], count: int = 2) -> list[np.ndarray]:
    film = Film(SCENE, 5)
    film.spoil(spoils)
    pictures = [film.next().bgr for _ in range(count)]
    return [picture for picture in pictures if picture is not None]


CLEAN = shots({})[1].astype(float)


@pytest.mark.parametrize("spoil", [spoil for spoil in Spoil if spoil is not Spoil.FROZEN])
def test_each_spoil_changes_the_picture_and_more_so_by_grade(spoil: Spoil) -> None:
    slight, severe = (np.abs(shots({spoil: grade})[1] - CLEAN).mean() for grade in (1, 3))
    assert slight > 0.05
    assert severe >= slight * 0.9 or spoil in {Spoil.EXPOSURE, Spoil.OCCLUDED, Spoil.BLACK}


def test_what_health_looks_for_is_there() -> None:
    assert shots({Spoil.BLACK: 2})[1].std() < 2
    assert shots({Spoil.COVERED: 3})[1].std() < 14
    assert (shots({Spoil.EXPOSURE: 3})[1] > 250).mean() > 0.5
    sharp = cv2.Laplacian(cv2.cvtColor(shots({})[1], cv2.COLOR_BGR2GRAY), cv2.CV_64F).var()
    blurred = cv2.Laplacian(cv2.cvtColor(shots({Spoil.BLUR: 3})[1], cv2.COLOR_BGR2GRAY), cv2.CV_64F).var()
    assert blurred < 0.3 * sharp


def test_a_frozen_picture_repeats_while_the_truth_goes_on() -> None:
    film = Film(SCENE, 5)
    first = film.next()
    film.spoil({Spoil.FROZEN: 1})
    second = film.next()
    assert second.bgr is first.bgr
    assert second.moment.number == 1
    film.spoil({})
    third = film.next().bgr
    assert third is not None
    assert first.bgr is not None
    assert not np.array_equal(third, first.bgr)


def test_a_moved_camera_moves_boxes_and_leaves_crossings_to_the_calibrated_view() -> None:
    still, moved = Film(SCENE, 5), Film(SCENE, 5)
    moved.spoil({Spoil.MOVED: 2})
    crossings: dict[str, list[object]] = {"still": [], "moved": []}
    for _ in range(100):
        crossings["still"] += still.next(draw=False).moment.crossings
        crossings["moved"] += moved.next(draw=False).moment.crossings
    assert crossings["still"] == crossings["moved"]
    assert still.next().moment.objects != moved.next().moment.objects


def test_a_wrong_grade_is_refused() -> None:
    with pytest.raises(ValueError, match="fog: expected a grade from 1 to 3, found 4"):
        setup(SCENE, {Spoil.FOG: 4})


@pytest.mark.parametrize("width", [320, 640, 1280])
def test_a_frame_knows_its_number_after_jpeg(width: int) -> None:
    picture = np.full((width * 9 // 16, width, 3), 120, np.uint8)
    assert stamp.read(picture) is None
    for number in (0, 1, 12_345, 2**24 - 1):
        stamp.write(picture, number)
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])
        assert stamp.read(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)) == number


def test_a_scenario_has_cameras_and_their_faults(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    (device,) = read_scenario(path).devices
    assert device.options["size"] == (640, 360)
    assert device.plans[0].fault == Fault(Kind.FOG, grade=3)
    assert allowed_kinds("camera", "rtsp") == CAMERA_KINDS
    assert not allowed_kinds("sdm630", "modbus-tcp") & {Kind.FOG, Kind.STALL, Kind.MOVED}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scene: queue", "scene: queu", "did you mean 'queue'?"),
        ("width: 640", "width: 641", "expected an even number"),
        ("fps: 5", "fps: 5, username: u", "expected username and password, or neither"),
        ("kind: fog", "kind: drift", "cam-1 is a camera: it cannot have the fault drift"),
        ("grade: 3", "grade: 4", "expected a whole number from 1 to 3, found 4"),
        ("type: camera", "type: ramp", "expected one of camera"),
    ],
)
def test_a_wrong_camera_is_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace(old, new))
    with pytest.raises(ScenarioError) as refused:
        read_scenario(path)
    assert message in str(refused.value)


def test_faults_become_what_the_camera_is_told() -> None:
    active = [
        Active(Fault(kind, grade=grade), 0, 1)
        for kind, grade in ((Kind.NIGHT, 3), (Kind.STALL, 2), (Kind.PACKET_LOSS, 1), (Kind.RESIZE, 2))
    ]
    wrong = wrong_with(active)
    assert wrong == Wrong({Spoil.NIGHT: 3}, Trouble(stall=True, loss=0.005, shrink=2.0))
    assert Wrong.read(wrong.line().decode()) == wrong
    order = Order("rtsp", "mixed", 1, (640, 360), 5, "127.0.0.1", 0, "/street", ("u", "p"))
    assert Order.read(order.line().decode()) == order


def test_the_snippet_is_the_bus_of_a_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    assert main(["snippet", str(path), "cam-1"]) == 0
    printed = capsys.readouterr().out
    assert "driver: camera" in printed
    assert "source: rtsp://127.0.0.1:8554/street" in printed
    assert "directions: [along, against]" in printed
    assert main(["snippet", str(path), "cam-2"]) == 2


def test_a_missing_gstreamer_is_one_error_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gst, "PYTHON", sys.executable)  # which has no `gi`, as a bare Debian has none
    with pytest.raises(gst.GstError, match=r"apt-get install python3-gi gir1\.2-gst-rtsp-server-1\.0"):
        make_clip(SCENE, tmp_path / "c.mp4", tmp_path / "c.jsonl", seconds=1, fps=5)
    monkeypatch.setattr(gst, "PYTHON", "/nonexistent/python3")
    with pytest.raises(gst.GstError, match=r"apt-get install python3-gi gir1\.2-gst-rtsp-server-1\.0"):
        gst.check()

import math

import numpy as np
import pytest

from hardware_sim.street import views
from hardware_sim.street.bodies import KINDS, Body, random_looks
from hardware_sim.street.camera import Camera
from hardware_sim.street.layout import Street
from hardware_sim.street.light import make_light
from hardware_sim.street.order import paint_order
from hardware_sim.street.sight import Sight
from hardware_sim.street.stage import Stage

CAMERA = Camera((640, 384), 0.0, -7.0, 7.0, 60.0, 25.0, 65.0, 1.5)


def test_a_view_is_a_function_of_its_seed() -> None:
    first, again = (views.random_view(7).picture(1.5) for _ in range(2))
    assert (first.bgr == again.bgr).all()
    assert first.objects == again.objects
    assert first.bgr.shape == (192, 320, 3)
    assert not (views.random_view(8).picture(1.5).bgr == first.bgr).all()


def test_held_out_views_have_poses_that_training_never_has() -> None:
    for seed in range(25):
        assert views.pose_split(views.random_view(seed, split="heldout").camera) == "heldout"
        assert views.pose_split(views.random_view(seed, split="train").camera) == "train"


def test_views_show_every_kind_and_boxes_stay_in_the_picture() -> None:
    kinds = set()
    for seed in range(40, 52):
        for seen in views.random_view(seed).picture(0.0).objects:
            kinds.add(seen.kind)
            left, top, right, bottom = seen.box
            assert 0 <= left < right <= 320
            assert 0 <= top < bottom <= 192
            assert 0 <= seen.visible <= 1
    assert kinds == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_as_tight_as_the_pixels_drawn(kind: str) -> None:
    stage = Stage(CAMERA, Street(), make_light("day"))
    nobody = stage.picture([]).bgr
    for seed, heading in ((1, 0.0), (2, 70.0), (3, 200.0)):
        body = Body(5, random_looks(kind, seed), 9.0, 1.0, heading, 0.4, 1.3)  # type: ignore[arg-type]
        (seen,) = stage.picture([body]).objects
        alone = Stage(CAMERA, Street(), make_light("day", sunny=0.0))
        object.__setattr__(alone.light, "shadow", 0.0)  # without its shadow, what differs is the body
        rows, columns = np.nonzero((alone.picture([body]).bgr != nobody).any(axis=2))
        drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.array(seen.box) - drawn).max() <= 2.5
        assert seen.visible == 1.0


def test_who_stands_behind_a_bus_is_seen_in_part() -> None:
    stage = Stage(CAMERA, Street(), make_light("day"))
    bus = Body(1, random_looks("bus", 4), 8.0, -1.5, 0.0)
    behind = Body(2, random_looks("car", 4), 9.0, 2.0, 180.0)
    by_id = {seen.id: seen for seen in stage.picture([behind, bus]).objects}
    assert by_id[1].visible == 1.0
    assert 0 <= by_id[2].visible < 0.9
    alone = stage.picture([behind]).objects[0]
    assert alone.visible == 1.0
    assert alone.box == by_id[2].box


def test_a_bus_does_not_hide_the_car_beside_its_tail_although_its_nose_is_nearer() -> None:
    bus = [(22.0, -0.2), (10.0, -0.2), (10.0, -2.8), (22.0, -2.8)]
    car = [(20.0, 2.4), (16.0, 2.4), (16.0, 0.6), (20.0, 0.6)]
    assert paint_order([bus, car], [16.0, 19.0], [(0, 1)], (0.0, 8.0)) == [0, 1]
    assert paint_order([bus, car], [16.0, 19.0], [(0, 1)], (0.0, -8.0)) == [1, 0]


def test_pixels_and_ground_are_each_others_inverse() -> None:
    ground = np.array([[5.0, 2.0], [12.0, -3.0], [30.0, 6.0]])
    pixels, _ = CAMERA.see(np.column_stack([ground, np.zeros(3)]))
    assert CAMERA.ground(pixels) == pytest.approx(ground, abs=1e-6)
    mapped = CAMERA.ground_to_picture @ np.array([5.0, 2.0, 1.0])
    assert mapped[:2] / mapped[2] == pytest.approx(pixels[0])
    assert math.isnan(CAMERA.ground(np.array([[320.0, -400.0]]))[0, 0])


def test_a_person_is_as_tall_in_the_picture_as_perspective_says() -> None:
    level = Camera((640, 384), 0.0, 0.0, 1.5, 0.0, 0.0)
    ((_, box),) = Sight(level).boxes([Body(1, random_looks("person", 11), 20.0, 0.0, 90.0)])
    height_m = (box[3] - box[1]) * 20.0 / level.focal_px
    assert height_m == pytest.approx(1.72 * random_looks("person", 11).scale, abs=0.12)

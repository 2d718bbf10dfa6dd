import itertools
import json
from collections import Counter

import numpy as np
import pytest

from drivers.base_camera import Ground, Line, Zone
from hardware_sim.street import scenes, witness
from hardware_sim.street.bodies import Body, random_looks
from hardware_sim.street.marks import PictureLine, side
from hardware_sim.street.scenes import SCENES, Scene, make_scene
from hardware_sim.street.stage import Seen
from hardware_sim.street.views import pose_split
from hardware_sim.street.witness import Moment, Witness, watch


def moments(name: str, seconds: float, fps: float = 5, seed: int = 1) -> list[Moment]:
    return list(watch(make_scene(name, seed), seconds, fps))


def test_a_scene_is_the_same_each_time_and_at_any_frame_rate() -> None:
    scene = make_scene("mixed", 3)
    slow, fast = scene.traffic(), scene.traffic()
    for number in range(41):
        at_fast = fast.at(number / 8)
        if number % 4 == 0:
            assert [(b.id, b.x, b.y) for b in slow.at(number / 8)] == [(b.id, b.x, b.y) for b in at_fast]


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_seen_from_a_held_out_pose_with_its_line_in_the_picture(name: str) -> None:
    for seed in range(1, 7):
        scene = make_scene(name, seed)
        assert pose_split(scene.camera) == "heldout"
        assert scene.picture_lines()[0].name == "road"
        assert {zone.name for zone in scene.picture_zones()} == {"approach", "road"}


def test_vehicles_never_run_into_one_another() -> None:
    for name in ("dense", "queue", "u-turn"):
        for moment in moments(name, 60, seed=2):
            vehicles = [body for body in moment.bodies if body.kind in {"car", "bus"}]
            for index, one in enumerate(vehicles):
                for other in vehicles[:index]:
                    reach = (one.looks.length + other.looks.length) / 2
                    along, across = abs(one.x - other.x), abs(one.y - other.y)
                    straight = abs(one.heading_deg - other.heading_deg) % 180 < 5
                    assert not (straight and across < 1.5 and along < reach - 0.1), (moment.t_s, one, other)


def test_a_queue_stands_and_creeps_and_each_vehicle_crosses_once() -> None:
    seen = moments("queue", 150)
    assert max(standing for moment in seen for _, standing in moment.zones.values()) >= 2
    passed = Counter(
        (crossing.id, crossing.of) for moment in seen for crossing in moment.crossings if crossing.line == "road"
    )
    assert len(passed) > 40
    assert max(passed.values()) == 1


def test_who_turns_round_on_the_line_crosses_it_twice_or_not_at_all() -> None:
    ways: dict[int, list[str]] = {}
    for moment in moments("u-turn", 260):
        for crossing in moment.crossings:
            if crossing.line == "road" and crossing.kind == "car" and crossing.of == "body":
                ways.setdefault(crossing.id, []).append(crossing.direction)
    turned = [way for way in ways.values() if len(way) == 2]
    assert turned
    assert all(way == ["along", "against"] for way in turned)
    assert {len(way) for way in ways.values()} <= {1, 2}


def test_nobody_crosses_the_kerb_line_that_they_walk_along() -> None:
    seen = moments("parallel", 120)
    assert not [crossing for moment in seen for crossing in moment.crossings if crossing.line.startswith("kerb")]
    assert len({body.id for moment in seen for body in moment.bodies if body.kind == "person"}) > 5


def test_people_who_turn_back_are_counted_in_both_directions() -> None:
    ways: dict[int, list[str]] = {}
    for moment in moments("reverse", 160):
        for crossing in moment.crossings:
            if crossing.line.startswith("pavement") and crossing.of == "body":
                ways.setdefault(crossing.id, []).append(crossing.direction)
    back = [way for way in ways.values() if len(way) > 1]
    assert len(back) >= 3
    assert all(a != b for way in back for a, b in itertools.pairwise(way))


def test_empty_and_parked_streets_have_no_crossings() -> None:
    assert not any(moment.objects for moment in moments("empty", 20))
    parked = moments("parked", 20)
    assert not any(moment.crossings for moment in parked)
    assert len({len(moment.objects) for moment in parked}) == 1
    assert parked[0].objects


def drive(scene: Scene, xs: list[float]) -> list[witness.Crossing]:
    watcher = Witness(scene)
    found: list[witness.Crossing] = []
    for number, x in enumerate(xs):
        body = Body(1, random_looks("person", 1), x, 0.0, 0.0, speed_mps=1.0)
        pixels, _ = scene.camera.see(np.array([(x, 0.0, 0.0)]))
        u, v = pixels[0].tolist()
        seen = Seen(1, "person", (u - 5, v - 20, u + 5, v), 1.0)
        found += watcher.look(number, number * 0.2, [body], [seen]).crossings
    return [crossing for crossing in found if crossing.line == "road"]


def test_a_crossing_has_its_time_to_the_step_and_a_touch_is_none() -> None:
    scene = make_scene("free-flow", 2)
    assert drive(scene, [-2, -1, -0.2, 0.3, -0.3, 0.4, -1, -2]) == []
    crossed = drive(scene, [-2, -1, -0.5, 0.5, 1])
    assert [(one.of, one.direction) for one in crossed] == [("box", "along"), ("body", "along")]
    assert [one.t_s for one in crossed] == pytest.approx([0.5, 0.5], abs=0.01)
    assert [one.direction for one in drive(scene, [1, -1, 1, -1])][::2] == ["against", "along", "against"]


def test_the_first_direction_goes_from_the_left_to_the_right_hand() -> None:
    line = PictureLine("l", (0.5, 0.9), (0.5, 0.1), ("right", "left"))  # who looks from a to b looks up the picture
    assert side(line, (0.8, 0.5), 1.0)[0] > 0
    assert side(line, (0.2, 0.5), 1.0)[0] < 0
    scene = make_scene("free-flow", 1)
    road = scene.picture_lines()[0]
    pixels, _ = scene.camera.see(np.array([(2.0, 0.0, 0.0), (-2.0, 0.0, 0.0)]))
    after, before = (pixels / np.array(scene.camera.size)).tolist()
    aspect = scene.camera.size[0] / scene.camera.size[1]
    assert side(road, (after[0], after[1]), aspect)[0] > 0 > side(road, (before[0], before[1]), aspect)[0]


def test_lines_zones_and_ground_are_what_a_gateway_takes() -> None:
    for name in SCENES:
        scene = make_scene(name, 4)
        for line in scene.picture_lines():
            Line(name=line.name, a=line.a, b=line.b, directions=line.directions)
        for zone in scene.picture_zones():
            Zone(name=zone.name, polygon=zone.polygon)
        ground = scene.calibration()
        Ground(picture=ground.picture, metres=ground.metres)
        found = scene.camera.ground(np.array(ground.picture) * np.array(scene.camera.size))
        assert found == pytest.approx(np.array(ground.metres), abs=1e-3)


def test_a_moment_is_one_line_of_json_and_stays_end_with_their_dwell() -> None:
    seen = moments("mixed", 60)
    rows = [json.loads(moment.line()) for moment in seen]
    assert all(len(row["objects"]) == len(moment.objects) for row, moment in zip(rows, seen, strict=True))
    stays = [stay for moment in seen for stay in moment.stays]
    assert stays
    assert all(stay.left_s > stay.entered_s for stay in stays)
    assert {"zone", "id", "kind", "entered_s", "left_s", "whole"} == set(
        next(r for r in rows if "stays" in r)["stays"][0]
    )


def test_an_unknown_scene_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no scene 'busy', expected one of free-flow"):
        scenes.make_scene("busy")

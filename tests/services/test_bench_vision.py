"""`python -m bench vision` in small: what its lines say, and that a film is looked at as a gateway would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import ALL, GROUPS, NAMES
from bench.processes import ROOT
from bench.vision_film import MODEL, SIZE, WARM_S, film
from bench.vision_pool import work_off
from bench.vision_scores import Pass, match_passes
from models import registry

pytestmark = pytest.mark.services


def test_layer_b_as_people_run_it() -> None:
    command = [sys.executable, "-m", "bench", "vision-decoding", "--quick", "--json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    figures = {one["metric"]: one for one in map(json.loads, answer.stdout.splitlines())}
    for name in ("box_error_px", "kept_equal", "nms_unequal", "whole_pictures_error"):
        assert figures[f"vision/B/{name}"]["ok"] is True, figures[f"vision/B/{name}"]


def test_vision_is_a_group_and_not_what_runs_by_itself() -> None:
    assert not set(GROUPS["vision"]) & set(NAMES)
    for name in GROUPS["vision"]:
        assert (ROOT / "bench" / f"{name.replace('-', '_')}.py").is_file()
    page = (ROOT / "docs" / "vision-accuracy.md").read_text(encoding="utf-8")
    assert all(f"<!-- bench {name} -->" in page and f"<!-- end of {name} -->" in page for name in GROUPS["vision"])
    assert set(GROUPS["vision"]) < set(ALL)


def test_a_film_is_counted_and_its_boxes_are_judged(tmp_path: Path) -> None:
    task = {"scene": "dense", "seed": 1, "seconds": 30.0, "spoils": {}, "keep": str(tmp_path)}
    seen = film(task, registry.load(ROOT / "models", MODEL))
    assert SIZE == (960, 540)
    assert seen.states == ["ok"]
    assert [one[2:] for one in seen.intervals] == [[1.0, False]] * 2
    truth, said = ([Pass(*one) for one in ones if one[3] >= WARM_S] for ones in (seen.truth, seen.said))
    assert len(truth) >= 10
    assert len(match_passes(truth, said, 0.5).pairs) >= 0.7 * len(truth)
    assert sum(wanted for _, _, wanted in seen.boxes.values()) >= 50
    assert (tmp_path / "film.mp4").stat().st_size > 0


def test_a_spoilt_camera_is_found_by_a_pool_of_watchers() -> None:
    task = {"scene": "empty", "seed": 1, "spoils": {}, "fps": 2, "key_each": 2, "seconds": 60.0}
    tasks = [{**task, "then": {"black": 2}, "at_s": 50.0}, {**task, "then": {"frozen": 1}, "at_s": 35.0}]
    found = {next(iter(one["then"])): changes for one, changes in work_off("bench.vision_watch", tasks)}
    assert found["black"][-1][1] == "black"
    assert 50 < found["black"][-1][0] <= 55
    assert found["frozen"][-1][1] == "frozen"
    assert 55 <= found["frozen"][-1][0] <= 57

"""The yardsticks of `python -m bench vision`, each against a case that can be computed on paper."""

import math

import numpy as np
import pytest

from bench.vision_health import found_after_s
from bench.vision_scores import (
    Pass,
    average_precision,
    bootstrap,
    geh,
    judge_boxes,
    mape,
    match_passes,
    mean_known,
)
from bench.vision_street import Shown


def test_geh_of_two_hourly_flows() -> None:
    assert geh(1000, 900) == pytest.approx(math.sqrt(2 * 100**2 / 1900))  # 3.244
    assert geh(900, 1000) == geh(1000, 900)
    assert geh(120, 0) == pytest.approx(math.sqrt(240))
    assert geh(0, 0) == 0


def test_mape_is_a_share_of_the_truth_and_never_of_nothing() -> None:
    assert mape([(9, 10), (22, 20)]) == pytest.approx(0.1)  # 0.1 and 0.1
    assert mape([(10, 10), (0, 10)]) == pytest.approx(0.5)
    for pairs in ([], [(1, 0)]):
        with pytest.raises(ValueError, match="nothing"):
            mape(pairs)


TRUTH = [Pass("road", "along", "car", 10.0), Pass("road", "along", "bus", 12.0), Pass("road", "against", "car", 20.0)]


def test_passages_are_paired_by_line_direction_and_time_and_their_class_is_judged_apart() -> None:
    said = [
        Pass("road", "along", "car", 10.3),
        Pass("road", "along", "car", 12.4),  # in time, of another class
        Pass("road", "along", "car", 20.1),  # the other direction
        Pass("road", "against", "car", 20.6),  # too late
    ]
    found = match_passes(TRUTH, said, 0.5)
    assert (len(found.pairs), found.right_kind) == (2, 1)
    assert found.lost == [TRUTH[2]]
    assert found.invented == said[2:]
    assert found.f1() == pytest.approx(2 * 1 / (3 + 4))
    assert math.isnan(match_passes([], [], 0.5).f1())


def test_one_passage_of_the_truth_is_found_once_and_by_the_nearest() -> None:
    said = [Pass("road", "along", "car", 9.8), Pass("road", "along", "car", 10.1)]
    found = match_passes(TRUTH[:1], said, 0.5)
    assert found.pairs == [(TRUTH[0], said[1])]
    assert found.invented == [said[0]]


def test_of_two_at_one_time_the_right_class_is_paired() -> None:
    truth = [Pass("road", "along", "bus", 10.0), Pass("road", "along", "car", 10.0)]
    assert match_passes(truth, list(reversed(truth)), 0.5).right_kind == 2


def boxes(*rows: tuple[float, float, float, float]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def test_a_box_is_right_when_it_takes_a_free_object_and_ignored_ones_count_neither_way() -> None:
    truth = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    said = boxes((0, 0, 10, 9), (0, 1, 10, 10), (40, 0, 50, 10), (60, 0, 70, 10))
    verdicts = judge_boxes(said, np.array([0.9, 0.8, 0.7, 0.6]), truth, np.array([False, False, True]))
    assert verdicts.wanted == 2
    assert verdicts.scores == [0.9, 0.8, 0.6]  # the one on the ignored object is gone
    assert verdicts.right == [True, False, False]  # the second finds its object taken


def test_average_precision_by_hand() -> None:
    # right, wrong, right of four objects: precision 1 up to a recall of 1/4, 2/3 up to 1/2, 0 beyond; of the 101
    # recalls 26 are at most 1/4, and 25 more at most 1/2.
    def precision(scores: list[float], right: list[bool], wanted: int) -> float:
        return average_precision(np.array(scores, dtype=np.float64), np.array(right, dtype=np.bool_), wanted)

    assert precision([0.7, 0.9, 0.8], [True, True, False], 4) == pytest.approx((26 * 1 + 25 * 2 / 3) / 101)
    assert precision([], [], 3) == 0
    assert precision([0.5], [True], 1) == 1
    assert math.isnan(precision([0.5], [False], 0))


def test_the_bootstrap_of_one_value_has_no_width_and_of_two_reaches_both() -> None:
    assert bootstrap([3.0], lambda drawn: sum(drawn) / len(drawn)) == (3.0, 3.0)
    low, high = bootstrap([0.0, 1.0], lambda drawn: sum(drawn) / len(drawn))
    assert (low, high) == (0.0, 1.0)
    # The standard error of the mean of 100 halves is 0.05; 1.96 of them on each side.
    low, high = bootstrap([0.0, 1.0] * 50, lambda drawn: sum(drawn) / len(drawn))
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)
    assert all(math.isnan(end) for end in bootstrap([1.0], lambda _: math.nan))


def test_a_mean_of_what_is_known() -> None:
    assert mean_known([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(mean_known([math.nan]))


def test_flows_are_over_the_time_that_was_seen_and_leave_explained_gaps_out() -> None:
    seen = {
        "truth": [["road", "along", "car", t] for t in (5.0, 10.0, 40.0, 70.0)],
        "said": [["road", "along", "car", t] for t in (5.1, 70.2)],
        # Half of the first half minute was seen; nothing was said of the second.
        "intervals": [[3.0, 33.0, 0.5, False], [33.0, 63.0, 0.0, True], [63.0, 93.0, 1.0, False]],
        "boxes": {},
        "states": ["ok"],
    }
    shown = Shown({"scene": "mixed", "seed": 1, "seconds": 90.0, "spoils": {}}, seen)
    (flow,) = shown.traffic
    assert flow.counted == pytest.approx(2 * 3600 / 45)
    assert flow.true == pytest.approx(3 * 3600 / 60)
    assert flow.count == 3
    assert shown.gaps == pytest.approx(1 / 3)


def test_people_alone_are_counted_on_lines_for_people() -> None:
    seen = {
        "truth": [["crossing", "leftwards", "bus", 5.0], ["crossing", "leftwards", "person", 6.0]],
        "said": [["crossing", "leftwards", "car", 5.0], ["crossing", "leftwards", "person", 6.2]],
    }
    found = Shown({"seconds": 90.0, "spoils": {}}, seen).matched(road=False)
    assert (len(found.pairs), found.lost, found.invented) == (1, [], [])


def test_a_trouble_is_found_when_its_own_state_is_said() -> None:
    changes = [[0.0, "ok"], [46.0, "blurred"], [48.4, "black"], [60.0, "ok"]]
    assert found_after_s(changes, frozenset({"black"}), 45.0) == pytest.approx(3.4)
    assert found_after_s(changes, frozenset({"frozen"}), 45.0) is None
    assert found_after_s([[10.0, "black"], [50.0, "ok"]], frozenset({"black"}), 45.0) is None

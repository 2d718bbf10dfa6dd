"""Health: how soon a camera that shows nothing, or something else, is found, and how often a good one is accused.

What changes in the picture (black, covered, frozen, moved; three grades each) and ten hours of good street go through
H.264 and the gateway's thumbnail into its judgement, without a network (bench/vision_watch.py): so ten hours take
minutes. A camera that stalls is a real one: an RTSP server that stops in the middle of its stream, with its connection
open, and a whole vision worker that must say so.
"""

import time
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from cameras import RtspServer

from bench.processes import BenchFailed
from bench.report import Figure, Report
from bench.vision_film import MODEL
from bench.vision_live import LiveWorker, bus_of, now_ns
from bench.vision_pool import Task, work_off
from drivers.base_camera import CameraDeviceSpec
from edge.vision.wire import Seen

FIRST_SEED = 7501
HALF_HOUR_S = 1800.0
GOOD: tuple[tuple[str, dict[str, int]], ...] = (
    ("parked", {}), ("empty", {}), ("free-flow", {}), ("mixed", {}), ("queue", {}), ("parked", {}), ("groups", {}),
    ("empty", {}), ("dense", {}), ("free-flow", {}), ("parked", {"night": 1}), ("free-flow", {"night": 1}),
    ("empty", {"rain": 1}), ("mixed", {"rain": 1}), ("parked", {}), ("empty", {}), ("u-turn", {}), ("reverse", {}),
    ("queue", {}), ("mixed", {}),
)  # fmt: skip
"""Half an hour each, ten hours together."""
GOOD_FPS, GOOD_KEY_EACH = 1, 4
TROUBLE_FPS, TROUBLE_AT_S, PATIENCE_S = 5, 45.0, 45.0
"""Nothing but black is known of a view before it was looked at for half a minute."""
SCENES = ("free-flow", "empty", "mixed", "parked", "queue")
TROUBLES: dict[str, tuple[frozenset[str], float, tuple[int, ...]]] = {
    "black": (frozenset({"black"}), 5.0, (1, 2, 3)),
    "covered": (frozenset({"covered", "black"}), 5.0, (1, 2, 3)),
    "frozen": (frozenset({"frozen"}), 30.0, (1,)),
    "moved": (frozenset({"moved"}), 30.0, (1, 2, 3)),
}
"""Which states say so, the target in seconds, the grades (hardware_sim.street.conditions)."""
SEEDS_EACH, QUICK_SEEDS_EACH, QUICK_GOOD = 5, 1, 4
STALLS, QUICK_STALLS, STALLED_S = 6, 2, 5.0
STALL_STATES = frozenset({"stalled", "away"})
STALL_PATIENCE_S = 20.0


def run(report: Report, *, quick: bool) -> None:
    """Every figure of the camera's health."""
    good, trouble = _good(quick=quick), _trouble(QUICK_SEEDS_EACH if quick else SEEDS_EACH)
    found = [(task, changes) for task, changes in work_off("bench.vision_watch", good + trouble)]
    _tell_stalls(report, QUICK_STALLS if quick else STALLS)
    for name in TROUBLES:
        _tell_trouble(report, name, [(task, changes) for task, changes in found if name in task.get("then", {})])
    _tell_good(report, [(task, changes) for task, changes in found if "then" not in task])


def _good(*, quick: bool) -> list[Task]:
    return [
        {
            "scene": scene,
            "seed": FIRST_SEED + number,
            "spoils": spoils,
            "seconds": HALF_HOUR_S / 10 if quick else HALF_HOUR_S,
            "fps": GOOD_FPS,
            "key_each": GOOD_KEY_EACH,
        }
        for number, (scene, spoils) in enumerate(GOOD[:QUICK_GOOD] if quick else GOOD)
    ]


def _trouble(seeds_each: int) -> list[Task]:
    scenes = cycle(SCENES)
    return [
        {
            "scene": next(scenes),
            "seed": FIRST_SEED + 100 + number,
            "spoils": {},
            "then": {name: grade},
            "at_s": TROUBLE_AT_S,
            "seconds": TROUBLE_AT_S + PATIENCE_S,
            "fps": TROUBLE_FPS,
            "key_each": TROUBLE_FPS,
        }
        for name, (_, _, grades) in TROUBLES.items()
        for grade in grades
        for number in range(seeds_each)
    ]


def found_after_s(changes: Sequence[Sequence[Any]], states: frozenset[str], at_s: float) -> float | None:
    """Seconds from `at_s` until a camera's state was one of `states`; None when it never was."""
    return next((time_s - at_s for time_s, state in changes if state in states and time_s >= at_s), None)


def _tell_trouble(report: Report, name: str, cases: Sequence[tuple[Task, Any]]) -> None:
    states, target_s, grades = TROUBLES[name]
    by_grade: dict[int, list[float | None]] = {}
    for task, changes in cases:
        by_grade.setdefault(task["then"][name], []).append(found_after_s(changes, states, task["at_s"]))
    delays = [one for grade in grades for one in by_grade[grade]]
    known = [one for one in delays if one is not None]
    told = "; ".join(f"grade {grade}: {_worst(by_grade[grade])}" for grade in grades)
    late = sum(one is None or one > target_s for one in delays)
    # What was not found within the patience was not found: that has no time, and misses the target.
    worst = max(known) if len(known) == len(delays) else None
    note = f"the slowest of {len(delays)}; {told}"
    report.add(Figure(f"vision/health/{name}_found_s", worst, "s", target=target_s, note=note))
    report.add(
        Figure(f"vision/health/{name}_late", float(late), "", note=f"of {len(delays)}, later than {target_s:g} s")
    )


def _worst(delays: Sequence[float | None]) -> str:
    known = [one for one in delays if one is not None]
    missing = len(delays) - len(known)
    slowest = f"{max(known):.1f} s" if known else "never"
    return f"{slowest}, {missing} not found" if missing and known else slowest


def _tell_good(report: Report, cases: Sequence[tuple[Task, Any]]) -> None:
    """A state that is not ok, in a street where all is well, is a false alarm each time it begins."""
    alarms = [
        f"{task['scene']} {time_s / 60:.0f} min: {state}"
        for task, changes in cases
        for time_s, state in changes
        if state != "ok"
    ]
    hours = sum(task["seconds"] for task, _ in cases) / 3600
    parked = sum(task["seconds"] for task, _ in cases if task["scene"] in {"parked", "empty"}) / 3600
    note = f"in {hours:.1f} h of good street, {parked:.1f} h of them without anything that moves"
    note += f"; {', '.join(alarms[:5])}" if alarms else ""
    report.add(Figure("vision/health/false_alarms", float(len(alarms)), "", target=0.0, note=note))


def _tell_stalls(report: Report, times: int) -> None:
    """From the moment a camera falls silent until the worker says so."""
    delays = []
    with RtspServer(fps=10) as server:
        camera = CameraDeviceSpec.model_validate({"name": "stalls", "detector": MODEL})
        with LiveWorker([bus_of(camera, server.url)]) as worker:
            for _ in range(times):
                worker.wait_live()
                time.sleep(1)
                began_ns = now_ns()
                server.stall()
                delays.append(_stalled_after_s(worker, began_ns))
                server.go_on()
                _wait_back(worker, now_ns())
    note = f"the slowest of {times}, over RTSP, by a whole worker"
    report.add(Figure("vision/health/stalled_found_s", max(delays), "s", target=STALLED_S, note=note))


def _stalled_after_s(worker: LiveWorker, began_ns: int) -> float:
    deadline_s = time.monotonic() + STALL_PATIENCE_S
    while time.monotonic() < deadline_s:
        for one in list(worker.heard):
            if one.at_ns >= began_ns and isinstance(one.said, Seen) and one.said.state in STALL_STATES:
                return (one.at_ns - began_ns) / 1e9
        time.sleep(0.02)
    raise BenchFailed(f"a stalled camera was not found within {STALL_PATIENCE_S:g} s")


def _wait_back(worker: LiveWorker, since_ns: int) -> None:
    deadline_s = time.monotonic() + 2 * STALL_PATIENCE_S
    while time.monotonic() < deadline_s:
        last = worker.last(0)
        if last is not None and last.last_frame_ns > since_ns and last.state not in STALL_STATES:
            return
        time.sleep(0.02)
    raise BenchFailed("a camera that went on was not seen again")

"""Layer C: drawn streets as H.264, held-out seeds and poses, through decoder, detector, tracker and counter.

Clean: twenty films of five minutes, each another street, pose and traffic. Degraded: eight things that spoil a picture,
three grades each, a film a grade. They are looked at from a file, faster than they run (bench/vision_film.py says what
that leaves out); four of the clean ones are also shown to a whole worker over RTSP in real time, and its published
counts are held against the same truth. Traffic is everything that crosses the line over the road; walkers are people
who cross the lines on pavements, kerbs and crossings, and have figures of their own.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from bench.processes import folder
from bench.report import Figure, Report
from bench.vision_film import FPS, WARM_S, camera_of, passages_of
from bench.vision_live import SECOND, LiveWorker, bus_of
from bench.vision_pool import Task, work_off
from bench.vision_scores import (
    Matched,
    Pass,
    average_precision,
    bootstrap,
    geh,
    mape,
    match_passes,
    mean_known,
)
from drivers.base_camera import CameraDeviceSpec
from edge.vision.wire import Closed
from hardware_sim.street.conditions import GRADES, Spoil
from hardware_sim.street.gst import ClipServer

SEEDS, CLEAN_S, SPOILT_S, LIVE, LIVE_S = 20, 300.0, 75.0, 4, 90.0
QUICK_SEEDS, QUICK_S, QUICK_LIVE_S = 4, 60.0, 30.0
FIRST_SEED = 7001
CLEAN_SCENES = (
    "free-flow",
    "mixed",
    "queue",
    "free-flow",
    "dense",
    "mixed",
    "u-turn",
    "free-flow",
    "groups",
    "reverse",
)
SPOILT_SCENES = ("free-flow", "mixed", "queue", "dense")
SPOILS = (
    Spoil.NIGHT, Spoil.RAIN, Spoil.FOG, Spoil.BLUR, Spoil.DROPLET, Spoil.OCCLUDED, Spoil.SHAKE, Spoil.EXPOSURE,
)  # fmt: skip
"""What spoils a picture without making the camera useless: black, covered, moved and frozen are for its health."""
WITHIN_S = 0.5
EDGE_S = 1.5
"""Nobody can know what crosses so near to the end: a passage is certain only behind the line."""
ROAD, WALKER = "road", "person"
"""What people's lines are crossed by besides (a bus that overhangs the kerb) no city counts there either."""
LEAST_COUNT = 10
"""A share of fewer says nothing: where fewer than this crossed in five minutes, no MAPE is made."""
LIVE_INTERVAL_S = 5


@dataclass(frozen=True, slots=True)
class Flow:
    """One direction of a line, where a count was published: objects an hour, counted and true; how many truly were."""

    where: str
    counted: float
    true: float
    count: int

    @property
    def geh(self) -> float:
        """How far apart they are."""
        return geh(self.counted, self.true)


@dataclass(frozen=True)
class Shown:
    """A film, and what was seen in it."""

    task: Task
    seen: dict[str, Any]

    def passes(self, key: str, *, road: bool) -> list[Pass]:
        """The passages of the truth, or those said, in the time that counts."""
        until_s = WARM_S + float(self.task["seconds"]) - EDGE_S
        found = [Pass(*one) for one in self.seen[key] if WARM_S <= one[3] < until_s]
        return [one for one in found if (one.line == ROAD if road else one.line != ROAD and one.kind == WALKER)]

    def matched(self, *, road: bool) -> Matched:
        """Truth and said, matched."""
        return match_passes(self.passes("truth", road=road), self.passes("said", road=road), WITHIN_S)

    @cached_property
    def traffic(self) -> list[Flow]:
        """Flows over the road."""
        return list(self._flows(road=True))

    @cached_property
    def walkers(self) -> list[Flow]:
        """Flows of people on their own lines."""
        return list(self._flows(road=False))

    def _flows(self, *, road: bool) -> Iterator[Flow]:
        shown = [one for one in self.seen["intervals"] if not one[3]]
        true_s = sum(to_s - from_s for from_s, to_s, *_ in shown)
        seen_s = sum((to_s - from_s) * share for from_s, to_s, share, _ in shown)
        if not seen_s:
            return
        counts: dict[tuple[str, str], list[int]] = {}
        for place, key in enumerate(("said", "truth")):
            for one in self.passes(key, road=road):
                if any(from_s <= one.t_s < to_s for from_s, to_s, *_ in shown):
                    counts.setdefault((one.line, one.direction), [0, 0])[place] += 1
        for (_, direction), (said, true) in counts.items():
            where = f"{self.task['scene']} {self.task['seed']} {direction}"
            yield Flow(where, said * 3600 / seen_s, true * 3600 / true_s, true)

    @property
    def gaps(self) -> float:
        """The share of intervals of which nothing was said."""
        intervals = self.seen["intervals"]
        return sum(bool(one[3]) for one in intervals) / max(1, len(intervals))


Figures = Callable[[Sequence[Shown]], float]
FlowsOf = Callable[[Shown], list[Flow]]
TRAFFIC: FlowsOf = attrgetter("traffic")
WALKERS: FlowsOf = attrgetter("walkers")


def tasks(*, quick: bool) -> tuple[list[Task], list[Task]]:
    """The clean films and the spoilt ones."""
    count, clean_s, spoilt_s = (QUICK_SEEDS, QUICK_S, QUICK_S / 2) if quick else (SEEDS, CLEAN_S, SPOILT_S)
    clean = [
        {"scene": scene, "seed": FIRST_SEED + number, "seconds": clean_s, "spoils": {}}
        for number, scene in enumerate(islice(cycle(CLEAN_SCENES), count))
    ]
    spoilt = [
        {"seconds": spoilt_s, "spoils": {spoil.value: grade}}
        for grade in (GRADES[1:2] if quick else GRADES)
        for spoil in SPOILS
    ]
    for number, (task, scene) in enumerate(zip(spoilt, cycle(SPOILT_SCENES), strict=False)):
        task |= {"scene": scene, "seed": FIRST_SEED + 100 + number}
    return clean, spoilt


def run(report: Report, *, quick: bool) -> None:
    """Every figure of layer C."""
    clean, spoilt = tasks(quick=quick)
    began_s = time.monotonic()
    with folder() as where, ThreadPoolExecutor(1) as air:
        for number, task in enumerate(clean[:LIVE]):
            kept = where / str(number)
            kept.mkdir()
            task["keep"] = str(kept)
        films = [Path(task["keep"]) for task in clean[:LIVE]]
        airing: Future[list[Aired]] | None = None
        shown: list[Shown] = []
        for task, seen in work_off("bench.vision_film", clean + spoilt):
            shown.append(Shown(task, seen))
            if airing is None and sum("keep" in one.task for one in shown) == len(films):
                # The worker has a higher priority than those who draw.
                airing = air.submit(_live, films, QUICK_LIVE_S if quick else LIVE_S)
        live = airing.result() if airing is not None else []
    clean_ones = [one for one in shown if not one.task["spoils"]]
    spoilt_ones = [one for one in shown if one.task["spoils"]]
    minutes = sum(task["seconds"] for task in clean) / 60
    about = f"{len(clean_ones)} seeds, {minutes:.0f} min of street"
    _tell_boxes(report, "clean", clean_ones, about, target=0.80)
    _tell_flows(report, clean_ones)
    _tell_passes(report, "clean", clean_ones, road=True)
    _tell_passes(report, "clean", clean_ones, road=False)
    _tell_live(report, live)
    _tell_boxes(report, "degraded", spoilt_ones, f"{len(spoilt_ones)} films")
    _tell_spoilt(report, spoilt_ones)
    _tell_passes(report, "degraded", spoilt_ones, road=True)
    _tell_passes(report, "degraded", spoilt_ones, road=False)
    report.add(Figure("vision/C/wall_s", time.monotonic() - began_s, "s"))


def _tell_boxes(report: Report, name: str, shown: Sequence[Shown], about: str, target: float | None = None) -> None:
    """Average precision of the detector alone."""
    classes = list(shown[0].seen["boxes"])
    numbers = {
        id(one): {
            kind: (np.array(scores, dtype=np.float64), np.array(right, dtype=np.bool_))
            for kind, (scores, right, _) in one.seen["boxes"].items()
        }
        for one in shown
    }

    def of(kind: str) -> Figures:
        def figure(chosen: Sequence[Shown]) -> float:
            mine = [numbers[id(one)][kind] for one in chosen]
            scores, right = np.concatenate([one for one, _ in mine]), np.concatenate([one for _, one in mine])
            return average_precision(scores, right, sum(one.seen["boxes"][kind][2] for one in chosen))

        return figure

    def over_all(chosen: Sequence[Shown]) -> float:
        return mean_known([of(kind)(chosen) for kind in classes])

    objects = sum(one.seen["boxes"][kind][2] for one in shown for kind in classes)
    note = f"{_between(bootstrap(shown, over_all, 100))}; {objects} objects, {about}"
    report.add(Figure(f"vision/C/{name}/map50", over_all(shown), "", target=target, higher=True, note=note))
    for kind in classes:
        wanted = sum(one.seen["boxes"][kind][2] for one in shown)
        report.add(Figure(f"vision/C/{name}/ap50/{kind}", of(kind)(shown), "", higher=True, note=f"{wanted} objects"))


def _tell_flows(report: Report, shown: Sequence[Shown]) -> None:
    """How far the counts of clean streets are off."""
    for head, of, target in (("", TRAFFIC, 2.0), ("walkers/", WALKERS, None)):
        flows = [flow for one in shown for flow in of(one)]
        if not flows:
            report.add(Figure(f"vision/C/clean/{head}geh_max", None, "", target=target, note="nobody crossed"))
            continue

        def worst(chosen: Sequence[Shown], of: FlowsOf = of) -> float:
            return max((flow.geh for one in chosen for flow in of(one)), default=0.0)

        under = sum(flow.geh < 2 for flow in flows)
        most = max(flows, key=lambda flow: flow.geh)
        note = f"{_between(bootstrap(shown, worst))}; {under} of {len(flows)} directions below 2; "
        note += f"the worst: {most.where}, {most.counted:.0f} instead of {most.true:.0f} an hour"
        report.add(Figure(f"vision/C/clean/{head}geh_max", most.geh, "", target=target, note=note))
        report.add(_count_mape(f"vision/C/clean/{head}count_mape", shown, of, 4.0 if target else None))


def _count_mape(metric: str, shown: Sequence[Shown], of: FlowsOf, target: float | None) -> Figure:
    def pairs(chosen: Sequence[Shown]) -> list[tuple[float, float]]:
        return [(flow.counted, flow.true) for one in chosen for flow in of(one) if flow.count >= LEAST_COUNT]

    def share(chosen: Sequence[Shown]) -> float:
        found = pairs(chosen)
        return 100 * mape(found) if found else float("nan")

    found = pairs(shown)
    if not found:
        return Figure(metric, None, "%", target=target, note=f"nowhere did {LEAST_COUNT} cross")
    note = f"{_between(bootstrap(shown, share))}; {len(found)} directions of {LEAST_COUNT} passages or more"
    return Figure(metric, share(shown), "%", target=target, note=note)


def _tell_passes(report: Report, name: str, shown: Sequence[Shown], *, road: bool) -> None:
    """Passage by passage: found, of the right class, lost, invented."""
    matches = {id(one): one.matched(road=road) for one in shown}
    totals = {key: (one.right_kind, len(one.pairs), len(one.lost), len(one.invented)) for key, one in matches.items()}

    def f1(chosen: Sequence[Shown]) -> float:
        right, pairs, lost, invented = (sum(totals[id(one)][place] for one in chosen) for place in range(4))
        return 2 * right / (2 * pairs + lost + invented) if pairs + lost + invented else float("nan")

    def class_share(chosen: Sequence[Shown]) -> float:
        right, pairs = (sum(totals[id(one)][place] for one in chosen) for place in range(2))
        return 100 * right / pairs if pairs else float("nan")

    found = Matched()
    for one in matches.values():
        found = found.add(one)
    head = f"vision/C/{name}/" + ("" if road else "walkers/")
    truths, said = len(found.pairs) + len(found.lost), len(found.pairs) + len(found.invented)
    low_high = _between(bootstrap(shown, f1))
    note = f"{low_high}; {truths} true, {said} said, within {WITHIN_S:g} s, right direction and class"
    report.add(Figure(f"{head}crossing_f1", found.f1(), "", higher=True, note=note))
    for what, ones in (("lost", found.lost), ("invented", found.invented)):
        kinds = {kind: sum(one.kind == kind for one in ones) for kind in sorted({one.kind for one in ones})}
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
        report.add(Figure(f"{head}{what}", 100 * len(ones) / max(1, truths), "% of true", note=listed))
    target = 95.0 if name == "clean" and road else None
    note = f"{_between(bootstrap(shown, class_share))}; of {len(found.pairs)} matched"
    report.add(Figure(f"{head}class_share", class_share(shown), "%", target=target, higher=True, note=note))


def _tell_spoilt(report: Report, shown: Sequence[Shown]) -> None:
    """How many flows of spoilt pictures are near enough."""

    def under(limit: float) -> Figures:
        def share(chosen: Sequence[Shown]) -> float:
            found = [flow.geh < limit for one in chosen for flow in one.traffic]
            return 100 * sum(found) / len(found) if found else float("nan")

        return share

    count = sum(len(one.traffic) for one in shown)
    for limit, target in ((3, None), (4, 90.0)):
        note = f"{_between(bootstrap(shown, under(limit)))}; {count} directions"
        metric = f"vision/C/degraded/geh_under_{limit}_share"
        report.add(Figure(metric, under(limit)(shown), "%", target=target, higher=True, note=note))
    for spoil in SPOILS:
        mine = [one for one in shown if spoil.value in one.task["spoils"]]
        worst = [max((flow.geh for flow in one.traffic), default=None) for one in mine]
        gaps, states = (sum(one.gaps for one in mine) / len(mine), [one.seen["states"][-1] for one in mine])
        said = ", ".join("no count" if one is None else f"{one:.1f}" for one in worst)
        note = f"worst of each grade: {said}; {gaps:.0%} of intervals without a count; state {', '.join(states)}"
        known = [one for one in worst if one is not None]
        report.add(Figure(f"vision/C/degraded/{spoil.value}/geh_max", max(known, default=None), "", note=note))
    gaps = sum(one.gaps for one in shown) / len(shown)
    note = "intervals that were explained gaps, because the camera's health said so"
    report.add(Figure("vision/C/degraded/gap_share", 100 * gaps, "%", note=note))


@dataclass(frozen=True)
class Aired:
    """What a live worker published of one direction of a film, and the truth of the same time."""

    name: str
    said: int
    true: int
    coverage: float


def _live(films: Sequence[Path], seconds: float) -> list[Aired]:
    """Show films to a worker over RTSP, in real time."""
    with ExitStack() as stack:
        return _show(stack, films, seconds)


def _show(stack: ExitStack, films: Sequence[Path], seconds: float) -> list[Aired]:
    heads, moments = [], []
    for film in films:
        head, *rest = ((film / "truth.jsonl").read_text(encoding="utf-8")).splitlines()
        heads.append(json.loads(head))
        moments.append([json.loads(line) for line in rest])
    servers = [stack.enter_context(ClipServer(film / "film.mp4")) for film in films]
    cameras = [camera_of(head, name=f"cam-{number}", interval_s=LIVE_INTERVAL_S) for number, head in enumerate(heads)]
    buses = [bus_of(camera, server.url) for camera, server in zip(cameras, servers, strict=True)]
    with LiveWorker(buses) as worker:
        worker.wait_live()
        time.sleep(seconds)
        return [
            aired
            for number, (camera, rows) in enumerate(zip(cameras, moments, strict=True))
            for aired in _aired(worker, number, camera, rows)
        ]


def _aired(worker: LiveWorker, number: int, camera: CameraDeviceSpec, moments: Sequence[dict[str, Any]]) -> list[Aired]:
    """Published counts of the intervals that lie within the film, beside its truth."""
    last = worker.last(number)
    if last is None:
        return []
    # The file is served from its first frame on, and a frame is every 1 / FPS s.
    began_ns = last.last_frame_ns - (last.captured - 1) * SECOND // FPS
    said = [0] * len(camera.streams)
    spans, coverage = [], []
    for one in worker.intervals(number):
        closed = one.said
        if not isinstance(closed, Closed):
            continue
        to_s = (closed.time_ns - began_ns) / SECOND
        from_s = to_s - LIVE_INTERVAL_S
        if from_s < WARM_S or to_s > len(moments) / FPS - EDGE_S:
            continue
        spans.append((from_s, to_s))
        coverage.append(float(closed.values[0] or 0))
        for place, value in enumerate(closed.values[1:], 1):
            said[place] += value if isinstance(value, int) else 0
    truth = [Pass(*one) for moment in moments for one in passages_of(moment)]
    inside = [one for one in truth if any(from_s <= one.t_s < to_s for from_s, to_s in spans)]
    found = []
    for place, stream in enumerate(camera.streams[1:], 1):
        if stream.line == ROAD:
            true = sum((one.line, one.direction) == (stream.line, stream.direction) for one in inside)
            name = f"{camera.name} {stream.direction}"
            found.append(Aired(name, said[place], true, sum(coverage) / max(1, len(coverage))))
    return found


def _tell_live(report: Report, aired: Sequence[Aired]) -> None:
    """The whole chain, over RTSP."""
    true, said = sum(one.true for one in aired), sum(one.said for one in aired)
    apart = sum(abs(one.said - one.true) for one in aired)
    listed = ", ".join(f"{one.said}/{one.true}" for one in aired)
    note = f"said/true by direction: {listed}; coverage {min(one.coverage for one in aired):.3f} at least"
    figure = 100 * apart / true if true else None
    report.add(Figure("vision/C/live/count_off", figure, "% of true", note=f"{said} said, {true} true; {note}"))


def _between(ends: tuple[float, float]) -> str:
    return f"95 % of {ends[0]:.3g} to {ends[1]:.3g}"

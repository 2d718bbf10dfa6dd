"""Layer A: truth boxes with controlled noise, 5 looks a second: how well are things counted when what is seen is known?

Clean: the boxes of everything of which a third is not hidden. Noisy: of these 15 % are missed, every edge trembles by
3 % of the box, 10 % carry another class, and 5 % more boxes are of nothing. Speed also with 30 % of the frames dropped.
A crossing is right when one of the truth in the same direction, of the same class, is within half a second of it.
"""

import json
import math
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.processes import BenchFailed
from bench.report import Figure, Report
from bench.vision_scores import bootstrap
from bench.vision_truth import CLASSES, LENGTH_S, STEP_S, Floats, Passage, Truth, street
from edge.vision.assign import match
from edge.vision.counter import Counter
from edge.vision.geometry import Flags, box_overlaps
from edge.vision.tracks import Numbers

FPS = 5
SEEDS = 24
TOLERANCE_S = 0.5
EDGE_S = 1.5
"""Passages so near to the begin or end of a run are not asked for: nobody could know them."""
INTERVAL_S = 20.0
ASPECT = 16 / 9
LEAST_VISIBLE = 0.34
PICTURE = np.array([1280.0, 720.0, 1280.0, 720.0])
ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-bench-vision" / "bin" / "python"
INSTALL = "not installed: make bench-peers"


@dataclass(frozen=True)
class Noise:
    """What stands between truth and boxes."""

    missed: float = 0.0
    false: float = 0.0
    tremble: float = 0.0
    flipped: float = 0.0
    dropped: float = 0.0
    hidden: bool = False

    def shown(self, truth: Truth) -> Flags:
        """(steps, movers): who can have a box at all."""
        return (truth.large > 0) & ((truth.seen >= LEAST_VISIBLE) | (not self.hidden))


CLEAN = Noise()
NOISY = Noise(missed=0.15, false=0.05, tremble=0.03, flipped=0.10)
LOSSY = replace(NOISY, dropped=0.30)
HIDDEN = replace(NOISY, hidden=True)


@dataclass(frozen=True)
class LookBoxes:
    """A look: boxes (n, 4) as fractions, and the truth at that time."""

    t_s: float
    step: int
    boxes: Floats
    scores: Floats
    kinds: Numbers


@dataclass
class Outcome:
    """What a counter said of a run. tracked: of each look the boxes it believes in, with their numbers."""

    passages: list[Passage] = field(default_factory=list)
    tracked: list[tuple[Floats, Numbers]] = field(default_factory=list)
    occupancy: list[float] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)


Counting = Callable[[Truth, Sequence[LookBoxes]], Outcome]


def looks(truth: Truth, noise: Noise, seed: int) -> list[LookBoxes]:
    """The looks of a run, with noise of its own seed."""
    rng = np.random.default_rng((seed, 77))
    found = []
    shown = noise.shown(truth)
    for step in range(0, len(truth.boxes), round(1 / FPS / STEP_S)):
        here = np.flatnonzero(shown[step])
        boxes = truth.boxes[step, here]
        kinds = np.array([CLASSES.index(truth.kinds[index]) for index in here], dtype=np.int64)
        keep = rng.random(len(here)) >= noise.missed
        boxes, kinds = boxes[keep], kinds[keep]
        extent = boxes[:, [2, 3, 2, 3]] - boxes[:, [0, 1, 0, 1]]
        boxes = boxes + rng.normal(0, 1, boxes.shape) * noise.tremble * extent
        flip = rng.random(len(kinds)) < noise.flipped
        kinds = np.where(flip, (kinds + rng.integers(1, len(CLASSES), len(kinds))) % len(CLASSES), kinds)
        scores = rng.uniform(0.5, 0.95, len(kinds))
        wrong = rng.poisson(noise.false * len(here)) if noise.false else 0
        if wrong:
            size = rng.uniform(0.03, 0.15, (wrong, 2))
            corner = rng.uniform(0, 1, (wrong, 2)) * (1 - size)
            boxes = np.concatenate([boxes, np.column_stack([corner, corner + size])])
            kinds = np.concatenate([kinds, rng.integers(0, len(CLASSES), wrong)])
            scores = np.concatenate([scores, rng.uniform(0.5, 0.8, wrong)])
        if rng.random() >= noise.dropped:
            found.append(LookBoxes(step * STEP_S, step, np.clip(boxes, 0, 1), scores, kinds))
    return found


def ours(truth: Truth, given: Sequence[LookBoxes]) -> Outcome:
    """edge.vision's counter."""
    counter = Counter(truth.spec, CLASSES)
    outcome = Outcome()
    interval_ns = round(INTERVAL_S * 1e9)
    start_ns, ends_ns = 10**9, 10**9 + interval_ns
    counter.begin(start_ns, ends_ns)
    scale = np.array([ASPECT, 1.0, ASPECT, 1.0])
    crossings = []
    for look in given:
        while start_ns + look.t_s * 1e9 >= ends_ns:
            _close(counter, outcome, ends_ns - interval_ns, ends_ns)
            ends_ns += interval_ns
        crossings += counter.see(start_ns + round(look.t_s * 1e9), look.boxes, look.scores, look.kinds)
        sure = np.array([track.confirmed for track in counter.tracker.tracks], dtype=np.bool_)
        numbers = np.array([track.number for track in counter.tracker.tracks], dtype=np.int64)
        outcome.tracked.append((counter.tracker.boxes()[sure] / scale, numbers[sure]))
    _close(counter, outcome, ends_ns - interval_ns, ends_ns)
    for crossing in crossings:
        line = truth.spec.lines[crossing.line]
        kind = CLASSES[crossing.track.kind]
        kmh = math.nan if crossing.kmh is None else crossing.kmh
        t_s = (crossing.time_ns - start_ns) * 1e-9
        outcome.passages.append(Passage(line.name, line.directions[crossing.direction], kind, t_s, kmh))
    return outcome


def _close(counter: Counter, outcome: Outcome, from_ns: int, to_ns: int) -> None:
    said = {one.stream: one for one in counter.close(from_ns, to_ns)}
    for name, values in (("occupancy", outcome.occupancy), ("queue", outcome.queue)):
        value = said[name].value
        values.append(float(value) if isinstance(value, (int, float)) else math.nan)


@dataclass
class Score:
    """How a run compares with its truth."""

    right: int = 0
    wrong: int = 0
    lost: int = 0
    kmh_off: list[float] = field(default_factory=list)
    misses: list[Passage] = field(default_factory=list)
    inventions: list[Passage] = field(default_factory=list)
    idf1: float = math.nan
    occupancy_off: list[float] = field(default_factory=list)
    queue_off: list[float] = field(default_factory=list)

    @property
    def f1(self) -> float:
        """Crossings: twice the right ones over all of the truth and all that were said."""
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.lost)


def judge(truth: Truth, noise: Noise, given: Sequence[LookBoxes], outcome: Outcome) -> Score:
    """Compare."""
    score = Score()
    shown = noise.shown(truth)
    asked = [one for one in truth.passages if EDGE_S < one.t_s < LENGTH_S - EDGE_S]
    said = [one for one in outcome.passages if EDGE_S - 0.5 < one.t_s < LENGTH_S - EDGE_S + 0.5]
    hidden = [one for one in asked if not _could_be_known(shown, one)]
    asked = [one for one in asked if one not in hidden] + hidden
    costs = np.full((len(asked), len(said)), np.inf)
    for row, want in enumerate(asked):
        for column, have in enumerate(said):
            if (want.line, want.direction, want.kind) == (have.line, have.direction, have.kind):
                costs[row, column] = abs(want.t_s - have.t_s)
    pairs = match(costs, TOLERANCE_S)
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    known = len(asked) - len(hidden)
    score.misses = [one for row, one in enumerate(asked[:known]) if row not in rows]
    inside = (EDGE_S, LENGTH_S - EDGE_S)
    score.inventions = [
        one for column, one in enumerate(said) if column not in columns and inside[0] < one.t_s < inside[1]
    ]
    score.right, score.lost = known - len(score.misses), len(score.misses)
    score.wrong = len(score.inventions)
    score.kmh_off = [
        abs(asked[row].kmh - said[column].kmh) for row, column in pairs if not math.isnan(said[column].kmh)
    ]
    score.idf1 = _idf1(truth, shown, given, outcome)
    steps = round(INTERVAL_S / STEP_S)
    for name, want_all, have_all in (
        ("occupancy", truth.occupancy, outcome.occupancy),
        ("queue", truth.queue, outcome.queue),
    ):
        off = score.occupancy_off if name == "occupancy" else score.queue_off
        for index, value in enumerate(have_all):
            off.append(abs(value - float(want_all[index * steps : (index + 1) * steps].mean())))
    return score


def _could_be_known(visible: Flags, passage: Passage) -> bool:
    """Whether its mover could have a box for half of the second before the line and of that after it."""
    step, second = round(passage.t_s / STEP_S), round(1 / STEP_S)
    shown = visible[:, passage.mover]
    before, after = shown[max(0, step - second) : step], shown[step : step + second]
    return bool(before.mean() >= 0.5 and after.mean() >= 0.5)


def _idf1(truth: Truth, visible: Flags, given: Sequence[LookBoxes], outcome: Outcome) -> float:
    """Twice the boxes that one number has in common with one truth, over all boxes of both; overlap of a half.

    Boxes around somebody hidden count neither for nor against.
    """
    together: dict[tuple[int, int], int] = {}
    wanted = had = 0
    for look, (boxes, numbers) in zip(given, outcome.tracked, strict=True):
        here = np.flatnonzero(np.isfinite(truth.boxes[look.step, :, 0]))
        shown = visible[look.step, here]
        wanted += int(shown.sum())
        had += len(numbers)
        if not len(here) or not len(numbers):
            continue
        costs = 1 - box_overlaps(truth.boxes[look.step, here], boxes) + 0.2 * ~shown[:, None]
        for row, column in match(np.where(costs > 0.5 + 0.2 * ~shown[:, None], np.inf, costs), 1.0):
            if shown[row]:
                pair = int(here[row]), int(numbers[column])
                together[pair] = together.get(pair, 0) + 1
            else:
                had -= 1
    people, names = sorted({pair[0] for pair in together}), sorted({pair[1] for pair in together})
    costs = np.zeros((len(people), len(names)))
    for (person, name), count in together.items():
        costs[people.index(person), names.index(name)] = -count
    return 2 * -sum(float(costs[pair]) for pair in match(costs, 0.0)) / max(1, wanted + had)


@dataclass
class Tested:
    """Everything that a counter scored with one noise, by seed."""

    scores: list[Score]

    def f1(self) -> tuple[float, str]:
        """Over all crossings of all seeds; the note says the interval and both kinds of mistakes."""

        def pooled(chosen: Sequence[Score]) -> float:
            right = sum(one.right for one in chosen)
            return 2 * right / max(1, 2 * right + sum(one.wrong + one.lost for one in chosen))

        low, high = bootstrap(self.scores, pooled)
        wrong, lost = sum(one.wrong for one in self.scores), sum(one.lost for one in self.scores)
        right = sum(one.right for one in self.scores)
        note = f"95 % of {low:.4f} to {high:.4f}; {right} right, {wrong} invented, {lost} lost"
        return pooled(self.scores), note

    def mean(self, values: Callable[[Score], Sequence[float]]) -> tuple[float, str]:
        """The mean of all values of all seeds, and its interval."""

        def pooled(chosen: Sequence[Score]) -> float:
            return float(np.mean([value for one in chosen for value in values(one)]))

        low, high = bootstrap(self.scores, pooled)
        count = sum(len(values(one)) for one in self.scores)
        return pooled(self.scores), f"95 % of {low:.3g} to {high:.3g}; {count} values"


def tested(truths: Sequence[Truth], noise: Noise, counting: Counting) -> Tested:
    """Let a counter count every run."""
    scores = []
    for seed, truth in enumerate(truths):
        given = looks(truth, noise, seed)
        scores.append(judge(truth, noise, given, counting(truth, given)))
    return Tested(scores)


def peers(truths: Sequence[Truth], noise: Noise) -> dict[str, Tested]:
    """What the peers score on the same boxes; nothing when they are not installed. Raises BenchFailed."""
    if not PEERS.exists():
        return {}
    lines = []
    for seed, truth in enumerate(truths):
        given = looks(truth, noise, seed)
        drawn = [
            {"name": line.name, "a": _pixels(line.a), "b": _pixels(line.b), "directions": line.directions}
            for line in truth.spec.lines
        ]
        seen = [[one.t_s, (one.boxes * PICTURE).tolist(), one.scores.tolist(), one.kinds.tolist()] for one in given]
        lines.append(json.dumps({"lines": drawn, "fps": FPS, "looks": seen}))
    command = [str(PEERS), str(ROOT / "bench" / "vision_peers.py")]
    answer = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if answer.returncode:
        raise BenchFailed(f"the peers in .venv-bench-vision failed: {answer.stderr.strip().splitlines()[-1]}")
    said = [json.loads(line) for line in answer.stdout.splitlines()]
    names = list(dict.fromkeys(one["peer"] for one in said))
    found: dict[str, Tested] = {name: Tested([]) for name in names}
    for index, one in enumerate(said):
        truth = truths[index // len(names)]
        passages = [Passage(line, way, CLASSES[kind], t_s, math.nan) for line, way, kind, t_s in one["passages"]]
        found[one["peer"]].scores.append(judge(truth, noise, [], Outcome(passages)))
    return found


def _pixels(point: tuple[float, float]) -> list[float]:
    return [point[0] * float(PICTURE[0]), point[1] * float(PICTURE[1])]


def run(report: Report, *, quick: bool) -> None:
    """Every figure of layer A."""
    truths = [street(seed) for seed in range(6 if quick else SEEDS)]
    with ThreadPoolExecutor(1) as beside:
        asked = {name: beside.submit(peers, truths, noise) for name, noise in (("clean", CLEAN), ("noisy", NOISY))}
        clean, noisy = tested(truths, CLEAN, ours), tested(truths, NOISY, ours)
        lossy, hidden = tested(truths, LOSSY, ours), tested(truths, HIDDEN, ours)
        others = {name: answer.result() for name, answer in asked.items()}
    for name, result, target in (
        ("clean/crossing_f1", clean, 0.99),
        ("noisy/crossing_f1", noisy, 0.95),
        ("hidden/crossing_f1", hidden, None),
        ("dropped/crossing_f1", lossy, None),
    ):
        value, note = result.f1()
        scored = {peer: one.f1() for peer, one in others.get(name.split("/", maxsplit=1)[0], {}).items()}
        best = max((figure for figure, _ in scored.values()), default=None)
        for peer, (figure, said) in scored.items():
            report.add(Figure(f"vision/A/{name}/{peer}", figure, "", higher=True, note=said))
        note += "" if scored or target is None else f"; peers {INSTALL}"
        report.add(Figure(f"vision/A/{name}", value, "", target=target, reference=best, higher=True, note=note))
    for name, result, values, unit, target, higher in (
        ("noisy/idf1", noisy, lambda one: [one.idf1], "", 0.95, True),
        ("hidden/idf1", hidden, lambda one: [one.idf1], "", None, True),
        ("noisy/occupancy_mae", noisy, lambda one: one.occupancy_off, "objects", 0.2, False),
        ("noisy/queue_mae", noisy, lambda one: one.queue_off, "objects", 0.5, False),
        ("dropped/speed_mae", lossy, lambda one: one.kmh_off, "km/h", 2.0, False),
    ):
        value, note = result.mean(values)
        report.add(Figure(f"vision/A/{name}", value, unit, target=target, higher=higher, note=note))
    report.add(Figure("vision/A/noisy/ms_a_look", _cost_ms(truths[0]), "ms", note="tracking and counting, one thread"))


def _cost_ms(truth: Truth) -> float:
    given = looks(truth, NOISY, 0)
    began = time.process_time()
    ours(truth, given)
    return (time.process_time() - began) / len(given) * 1e3

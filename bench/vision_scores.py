"""The yardsticks of vision: GEH, MAPE, passages matched in time, average precision, and how sure any of them is.

Nothing of the product stands in here, so that it cannot agree with itself: the judge has its own matching. Every
definition is one that others use, and tests/unit/bench holds each against a case computed by hand.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Case = TypeVar("Case")

DRAWS = 400
"""Of the bootstrap: with as many, the ends of a 95 % interval are known to a tenth of its width."""
OVERLAP = 0.5
RECALLS = 101


def geh(counted_per_h: float, true_per_h: float) -> float:
    """How far apart two hourly flows are: sqrt(2 (M - C)^2 / (M + C)), 0 for two zeros. Below 5 is the usual bar.

    Source: G. E. Havers; UK Department for Transport, TAG unit M3.1.
    """
    both = counted_per_h + true_per_h
    return math.sqrt(2 * (counted_per_h - true_per_h) ** 2 / both) if both else 0.0


def mape(pairs: Sequence[tuple[float, float]]) -> float:
    """Mean of |counted - true| / true over (counted, true), as a share. Raises ValueError for a truth of nothing."""
    if not pairs or any(true <= 0 for _, true in pairs):
        raise ValueError("a share of nothing")
    return sum(abs(counted - true) / true for counted, true in pairs) / len(pairs)


def bootstrap(
    cases: Sequence[Case], figure: Callable[[Sequence[Case]], float], draws: int = DRAWS
) -> tuple[float, float]:
    """Where 95 % of the figures of as many cases, drawn with replacement, lie. NaN draws are left out."""
    rng = np.random.default_rng(1)
    drawn = [figure([cases[index] for index in rng.integers(0, len(cases), len(cases))]) for _ in range(draws)]
    known = [one for one in drawn if not math.isnan(one)]
    if not known:
        return math.nan, math.nan
    return float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))


class Pass(NamedTuple):
    """Somebody crossed a line: which, in which direction, of what class, when (seconds)."""

    line: str
    direction: str
    kind: str
    t_s: float


@dataclass(slots=True)
class Matched:
    """Passages of the truth against those said. pairs: (true, said). lost: true alone; invented: said alone."""

    pairs: list[tuple[Pass, Pass]] = field(default_factory=list)
    lost: list[Pass] = field(default_factory=list)
    invented: list[Pass] = field(default_factory=list)

    def add(self, other: "Matched") -> "Matched":
        """Both together."""
        return Matched(self.pairs + other.pairs, self.lost + other.lost, self.invented + other.invented)

    @property
    def right_kind(self) -> int:
        """Pairs of one class."""
        return sum(true.kind == said.kind for true, said in self.pairs)

    def f1(self) -> float:
        """Twice the pairs of one class over all of the truth and all that were said; NaN for nothing and nothing."""
        both = 2 * len(self.pairs) + len(self.lost) + len(self.invented)
        return 2 * self.right_kind / both if both else math.nan


def match_passes(truth: Sequence[Pass], said: Sequence[Pass], within_s: float) -> Matched:
    """Pair what crossed the same line in the same direction within `within_s`, the nearest in time first, class aside.

    Of two that are equally near, the one of the same class.
    """
    near = sorted(
        (abs(want.t_s - have.t_s), want.kind != have.kind, row, column)
        for row, want in enumerate(truth)
        for column, have in enumerate(said)
        if (want.line, want.direction) == (have.line, have.direction) and abs(want.t_s - have.t_s) <= within_s
    )
    rows, columns = set[int](), set[int]()
    found = Matched()
    for _, _, row, column in near:
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.pairs.append((truth[row], said[column]))
    found.lost = [one for row, one in enumerate(truth) if row not in rows]
    found.invented = [one for column, one in enumerate(said) if column not in columns]
    return found


@dataclass(slots=True)
class Verdicts:
    """One class over many pictures: the score of each detection that counts, whether it is right; objects to find."""

    scores: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    wanted: int = 0

    def add(self, other: "Verdicts") -> None:
        """More pictures."""
        self.scores += other.scores
        self.right += other.right
        self.wanted += other.wanted


def judge_boxes(found: Floats, scores: Floats, truth: Floats, ignore: Flags) -> Verdicts:
    """Boxes (n, 4) of one class in one picture, xyxy, against the truth (m, 4): COCO's matching at an IoU of 0.5.

    The surest takes the free object that it overlaps most. One that meets only ignored objects is neither right nor
    wrong, and nobody is asked for those.
    """
    verdicts = Verdicts(wanted=int((~ignore).sum()))
    free = np.ones(len(truth), np.bool_)
    for row in np.argsort(-scores, kind="stable").tolist():
        share = overlaps(found[row], truth)
        takers = (share >= OVERLAP) & free & ~ignore
        if takers.any():
            free[int(np.where(takers, share, -1.0).argmax())] = False
        elif ((share >= OVERLAP) & ignore).any():
            continue
        verdicts.scores.append(float(scores[row]))
        verdicts.right.append(bool(takers.any()))
    return verdicts


def overlaps(box: Floats, others: Floats) -> Floats:
    """IoU of one box with each of (n, 4)."""
    sides = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    share: Floats = common / np.maximum(areas - common, 1e-12)
    return share


def average_precision(scores: Floats, right: Flags, wanted: int) -> float:
    """The area under the best precision at or beyond each of 101 recalls, 0 to 1; NaN with nothing to find.

    scores, right: of every detection that counts, in any order. wanted: the objects to find.
    """
    if not wanted:
        return math.nan
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")].astype(np.int64))
    recall, precision = hits / wanted, hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, np.linspace(0, 1, RECALLS), side="left")
    return float(np.append(best, 0.0)[place.clip(max=len(hits))].mean())


def mean_known(values: Sequence[float]) -> float:
    """The mean of those that are numbers; NaN when none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan

"""What a benchmark says: figures beside their target, their floor and their reference, one object a line or a table.

A figure without its floor says nothing, so all four stand in one record. What misses its target is printed as a miss.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    metric: stable name, parts divided by slashes. target: the bound that `ok` is judged by, None when it only informs.
    floor: what the bare machine or library needs for the same work, measured in the same run. reference: what the
    usual Python program needs for it, in the same run. All in `unit`. higher: larger figures are better.
    note: what a reader of the table should know; `value` is None when it says why there is no figure.
    """

    metric: str
    value: float | None
    unit: str
    target: float | None = None
    floor: float | None = None
    reference: float | None = None
    higher: bool = False
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without a target. A figure that could not be had misses its target."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.target if self.higher else self.value <= self.target

    def as_json(self) -> str:
        """The object of one line; its keys are stable."""
        keys = {"metric": self.metric, "value": _short(self.value), "unit": self.unit, "target": self.target}
        keys |= {"floor": _short(self.floor), "reference": _short(self.reference), "ok": self.ok}
        return json.dumps(keys | ({"note": self.note} if self.note else {}), ensure_ascii=False)


def _short(number: float | None) -> float | None:
    """Four significant digits: no benchmark knows more."""
    return None if number is None else float(f"{number:.4g}")


def text(number: float | None) -> str:
    """A number as people read it."""
    if number is None:
        return "-"
    size = abs(number)
    if size >= 1000:
        return f"{number:,.0f}"
    return f"{number:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


@dataclass(slots=True)
class Report:
    """Prints each figure as soon as it is known: a table for people, JSON lines for programs."""

    out: TextIO
    as_json: bool
    figures: list[Figure] = field(default_factory=list)

    def begin(self, name: str, what: str) -> None:
        """The head of a benchmark's table."""
        if self.as_json:
            return
        print(f"\n{name}: {what}", file=self.out)
        head = f"{'metric':<48}{'figure':>11} {'unit':<14}{'target':>10}{'floor':>11}{'/floor':>8}"
        print(f"{head}{'reference':>11}{'/ref.':>8}  ", file=self.out, flush=True)

    def add(self, *figures: Figure) -> None:
        """Print figures and remember them."""
        for figure in figures:
            self.figures.append(figure)
            line = figure.as_json() if self.as_json else _row(figure)
            print(line, file=self.out, flush=True)

    def end(self, name: str, seconds: float) -> None:
        """The foot of a benchmark's table."""
        if not self.as_json:
            print(f"{name}: {seconds:.0f} s", file=self.out, flush=True)

    def missed(self) -> list[str]:
        """The metrics that miss their target."""
        return [figure.metric for figure in self.figures if figure.ok is False]


def _row(figure: Figure) -> str:
    sign = ">=" if figure.higher else "<="
    target = "" if figure.target is None else f"{sign} {text(figure.target)}"
    verdict = {None: "", True: "ok", False: "MISS"}[figure.ok]
    cells = f"{figure.metric:<48}{text(figure.value):>11} {figure.unit:<14}{target:>10}{text(figure.floor):>11}"
    cells += f"{_ratio(figure.value, figure.floor):>8}{text(figure.reference):>11}"
    cells += f"{_ratio(figure.value, figure.reference):>8}  {verdict:<4}"
    return f"{cells} {figure.note}".rstrip()


def _ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value is not None and base else "-"


def markdown(figures: Iterable[Figure]) -> str:
    """The figures as a table for docs/performance.md."""
    rows = ["| metric | figure | target | floor | reference | |", "|---|---|---|---|---|---|"]
    for one in figures:
        sign = "≥" if one.higher else "≤"
        target = "" if one.target is None else f"{sign} {text(one.target)}"
        verdict = {None: "", True: "ok", False: "**miss**"}[one.ok]
        beside = [_beside(one.value, base) for base in (one.floor, one.reference)]
        said = " ".join(part for part in (verdict, one.note) if part)
        rows.append(
            f"| `{one.metric}` | {text(one.value)} {one.unit} | {target} | {beside[0]} | {beside[1]} | {said} |"
        )
    return "\n".join(rows)


def _beside(value: float | None, base: float | None) -> str:
    """A base, and how many times it the value is."""
    if base is None:
        return ""
    return text(base) if value is None or not base else f"{text(base)} ({value / base:.2f}x)"


def record(page: str, name: str, figures: Iterable[Figure]) -> str:
    """The page with the table between the marks of this benchmark renewed. Raises ValueError without such marks."""
    begin, end = f"<!-- bench {name} -->", f"<!-- end of {name} -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no {begin} ... {end} in the page")
    return f"{head}{begin}\n{markdown(figures)}\n{end}{tail}"


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of `values` lie; the largest for 1. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a quantile of nothing")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

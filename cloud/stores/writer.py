"""Lines to a database in batches, and the outcome of every single line.

A 400 or 422 means different things: InfluxDB 1.x and 3 stored the good lines, 2.x stored none after 400 and the rest
after 422. Writing a line again is the same point, so the refused batch is simply cut into smaller ones and sent again
until the guilty lines are found: first by measurement and field, because that is what a type conflict is about, then
in halves. The server's own "dropped=N" ends the search early when it drops everything it was sent.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from cloud.stores.base import FramePoints
from cloud.stores.http import Answer, unavailable
from cloud.stores.lines import Lines, Prefixes
from contract.errors import Rejection

Post = Callable[[bytes], Answer]
_DROPPED = re.compile(r"\s*dropped=(\d+)\b")
_PREAMBLE = re.compile(r"^(?:write failed: |failure writing points to database: )*(?:partial write: )?")


class LineWriter:
    """Writes frames through `post`, at most `batch_lines` lines a request."""

    def __init__(self, url: str, post: Post, prefixes: Prefixes, *, batch_lines: int) -> None:
        self._url = url
        self._post = post
        self._prefixes = prefixes
        self._batch_lines = batch_lines

    def write(self, frames: Sequence[FramePoints]) -> list[Rejection]:
        """Store every point of `frames` but the returned ones. Raises StoreUnavailable; then nothing may be assumed."""
        rejected: list[Rejection] = []
        for group in self._groups(frames):
            lines = Lines(self._prefixes)
            for index in group:
                lines.add(index, frames[index])
            rejected += lines.refused
            for batch in self._batches(len(lines)):
                rejected += [lines.rejection(index, reason) for index, reason in self._store(lines, batch)]
        return rejected

    def _groups(self, frames: Sequence[FramePoints]) -> Iterator[list[int]]:
        """Frames packed so that each group fills a batch; memory is bounded by a batch and one frame."""
        group: list[int] = []
        size = 0
        for index, frame in enumerate(frames):
            count = sum(table.count() for table in frame.tables)
            if group and size + count > self._batch_lines:
                yield group
                group, size = [], 0
            group.append(index)
            size += count
        if group:
            yield group

    def _batches(self, count: int) -> Iterator[range]:
        """`count` lines in the fewest batches, all of about one size."""
        parts = -(-count // self._batch_lines)
        for part in range(parts):
            yield range(count * part // parts, count * (part + 1) // parts)

    def _store(self, lines: Lines, batch: range) -> list[tuple[int, str]]:
        """Send a batch; the lines that the database refuses, each with its reason."""
        guilty: list[tuple[int, str]] = []
        todo: list[Sequence[int]] = [batch]
        while todo:
            part = todo.pop()
            answer = self._post(lines.body(part if isinstance(part, range) else list(part)))
            if answer.ok:
                continue
            refused = answer.status in (400, 422) and answer.structured
            if not refused and answer.status != 413:
                raise unavailable(self._url, answer)
            if len(part) == 1 or (refused and _dropped(answer) >= len(part)):
                reason = _reason(answer)
                guilty += [(index, reason) for index in part]
            else:
                todo += reversed(_split(lines, part, by_family=refused and part is batch))
        return guilty


def _split(lines: Lines, part: Sequence[int], *, by_family: bool) -> list[Sequence[int]]:
    """Smaller parts of `part`: its measurements and fields when there are several, else its halves."""
    if by_family:
        families: dict[tuple[str, str], list[int]] = {}
        for index in part:
            families.setdefault(lines.family(index), []).append(index)
        if len(families) > 1:
            return list(families.values())
    middle = len(part) // 2
    return [part[:middle], part[middle:]]


def _dropped(answer: Answer) -> int:
    found = _DROPPED.search(answer.detail)
    return int(found[1]) if found else 0


def _reason(answer: Answer) -> str:
    if answer.status == 413:
        return "larger than the database accepts"
    return _PREAMBLE.sub("", _DROPPED.sub("", answer.detail)).strip() or f"refused ({answer.status})"

"""Lines to a database in batches, and the outcome of every single line.

A 400 or 422 means different things: InfluxDB 1.x and 3 stored the good lines, 2.x stored none after 400 and the rest
after 422. Writing a line again is the same point, so the refused batch is simply cut into smaller ones and sent again
until the guilty lines are found: first by measurement and field, because that is what a type conflict is about, then
in halves. The server's own "dropped=N" ends the search early when it drops everything it was sent.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence

from cloud.stores.base import FramePoints
from cloud.stores.http import Answer, unavailable
from cloud.stores.lines import Lines, Prefixes
from contract.errors import Rejection

Post = Callable[[bytes], Answer]
_DROPPED = re.compile(r"\s*dropped=(\d+)\b")
_PREAMBLE = re.compile(r"^(?:write failed: |failure writing points to database: )*(?:partial write: )?")


class LineWriter:
    """One write of some frames through `post`, at most `batch_lines` lines a request.

    `work` may run in several threads at once, to keep that many requests under way: they take the frames in turns, so
    lines are made by one thread while the others wait for the database. Memory: a batch and a frame for each thread.
    """

    def __init__(
        self, frames: Sequence[FramePoints], url: str, post: Post, prefixes: Prefixes, *, batch_lines: int
    ) -> None:
        self.rejected: list[Rejection] = []
        self._frames = frames
        self._url = url
        self._post = post
        self._prefixes = prefixes
        self._batch_lines = batch_lines
        self._taken = 0
        self._turn = threading.Lock()
        self._given_up = False

    def work(self) -> None:
        """Store frames until none is left; what the database refuses is in `rejected` then.

        Raises StoreUnavailable; then nothing may be assumed, and the other threads take no more.
        """
        try:
            while (lines := self._take()) is not None:
                rejected = lines.refused
                for batch in self._batches(len(lines)):
                    rejected += [lines.rejection(index, reason) for index, reason in self._store(lines, batch)]
                self.rejected += rejected
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Take no more frames; requests under way end."""
        self._given_up = True

    def _take(self) -> Lines | None:
        """The lines of the next frames, as many as fill a batch."""
        with self._turn:
            if self._given_up or self._taken == len(self._frames):
                return None
            lines = Lines(self._prefixes)
            while self._taken < len(self._frames):
                frame = self._frames[self._taken]
                if len(lines) and len(lines) + sum(table.status.size for table in frame.tables) > self._batch_lines:
                    break
                lines.add(self._taken, frame)
                self._taken += 1
            return lines

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

"""Endless batches to learn from, prepared in a thread while the network computes."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.train.augment import Strength, sample, shares
from models.train.labels import CLASSES, Floats, Truth
from models.train.scenes import Picture, Shard, drawn_shards, open_shard

Canvases = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Canvases (n, height, width, 3) and what is on each."""

    pictures: Canvases
    truths: list[Truth]


class Pool:
    """The shards drawn so far, as one list of scenes; rare classes are picked more often."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder = folder
        self._limit = limit
        self._shards: list[Shard] = []
        self._where: list[tuple[int, int]] = []
        self._until: Floats = np.zeros(0, np.float32)

    def refresh(self) -> int:
        """Takes up shards that appeared since; returns the number of scenes."""
        numbers = drawn_shards(self._folder)[: self._limit]
        if len(numbers) != len(self._shards):
            self._shards = [open_shard(self._folder, number) for number in numbers]
            self._where = [(n, i) for n, shard in enumerate(self._shards) for i in range(len(shard.pictures))]
            counts = np.concatenate([self._counts(shard) for shard in self._shards])
            self._until = np.cumsum(shares(counts), dtype=np.float64).astype(np.float32)
        return len(self._where)

    @staticmethod
    def _counts(shard: Shard) -> Floats:
        counts = np.zeros((len(shard.pictures), len(CLASSES)), np.float32)
        for index in range(len(counts)):
            truth = shard.truth(index)
            np.add.at(counts[index], truth.classes[~truth.ignore], 1)
        return counts

    def pick(self, rng: np.random.Generator) -> tuple[Picture, Truth]:
        """A random frame with its objects, in pixels of the frame."""
        at = min(int(np.searchsorted(self._until, rng.random())), len(self._where) - 1)
        number, index = self._where[at]
        return np.asarray(self._shards[number].pictures[index]), self._shards[number].lesson(index)


def make_batch(pool: Pool, size: int, seed: int, step: int, strength: Strength) -> Batch:
    """The batch of a step: the same for the same pool, seed and step."""
    rng = np.random.default_rng((seed, step))
    drawn = [sample(pool.pick, rng, strength) for _ in range(size)]
    return Batch(np.stack([picture for picture, _ in drawn]), [truth for _, truth in drawn])


@contextmanager
def prepared(
    pool: Pool, size: int, seed: int, steps: range, strengths: dict[int, Strength]
) -> Iterator[Iterator[Batch]]:
    """The batches of `steps`, two ahead. strengths: from which step on which augmentation holds."""
    ready: queue.Queue[Batch] = queue.Queue(2)
    over = threading.Event()

    def work() -> None:
        for step in steps:
            if step % 250 == 0:
                pool.refresh()
            strength = strengths[max(begin for begin in strengths if begin <= step)]
            batch = make_batch(pool, size, seed, step, strength)
            while not over.is_set():
                try:
                    ready.put(batch, timeout=0.5)
                    break
                except queue.Full:
                    continue
            if over.is_set():
                return

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        yield (ready.get() for _ in steps)
    finally:
        over.set()
        thread.join(10)

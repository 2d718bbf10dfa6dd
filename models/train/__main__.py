"""Makes the detector `street-small`: draws scenes, trains, judges on held-out ones, exports.

    python -m models.train                 all of it, from nothing to models/street-small.onnx
    python -m models.train draw|fit|export one step; each takes up what the one before left

Needs the environment that `make -C models/train` makes (torch), and the simulator on the path. See docs/training.md.
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from models.train.scenes import Split, draw_shard

TRAIN_SHARDS, HELDOUT_SHARDS = 48, 5


def draw(scenes: Path, train_shards: int, heldout_shards: int) -> None:
    """Draws what is missing of both splits."""
    from hardware_sim.street.views import random_view

    wanted: list[tuple[Split, int]] = [("heldout", number) for number in range(heldout_shards)]
    wanted += [("train", number) for number in range(train_shards)]
    for split, number in wanted:
        draw_shard(scenes / split, number, split, random_view)


def main(arguments: list[str] | None = None) -> int:
    """See the module; 0."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Makes the detector street-small.")
    parser.add_argument("step", nargs="?", choices=("all", "draw", "fit", "export"), default="all")
    parser.add_argument("--folder", type=Path, default=Path("dist/train"), help="scenes, checkpoints and log")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where the detector goes")
    parser.add_argument("--name", default="street-small")
    parser.add_argument("--steps", type=int, help="batches to learn from")
    parser.add_argument("--start", type=Path, help="a checkpoint whose weights to begin from, when there is none yet")
    parser.add_argument("--processes", type=int, default=2, help="one a core")
    parser.add_argument("--train-shards", type=int, default=TRAIN_SHARDS)
    parser.add_argument("--heldout-shards", type=int, default=HELDOUT_SHARDS)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    scenes, run = given.folder / "scenes", given.folder / "run"
    if given.step in ("all", "draw"):
        draw(scenes, given.train_shards, given.heldout_shards)
    if given.step in ("all", "fit"):
        from models.train.fit import Plan, fit

        plan = Plan() if given.steps is None else replace(Plan(), steps=given.steps)
        fit(plan, scenes, run, given.processes, given.start)
    if given.step in ("all", "export"):
        from models.train.export import export

        lines = export(run / "checkpoint.pt", scenes, given.models, given.name)
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

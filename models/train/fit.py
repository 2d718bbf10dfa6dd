"""Training: an hour or two of two slow cores; may be stopped and resumed at any time.

One process a core, each with one thread and its share of the batch: threads that meet after each layer lose two thirds
of their time on a machine that others use, too, processes that meet once a step almost nothing.

bf16 in the convolutions, channels last, AdamW, an average of the weights that is what gets exported. The learning
rate warms up, stays, and falls along a cosine over the last part, so that the end can be moved while training runs.
"""

# mypy: disable-error-code="import-not-found, no-any-return"
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, distributed, multiprocessing

from models.train.assign import Anchors, anchors_of
from models.train.augment import Strength
from models.train.batches import Batch, Pool, prepared
from models.train.judge import Canvases, Report, evaluate
from models.train.labels import CANVAS, Floats
from models.train.loss import losses
from models.train.net import Deployed, StreetNet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. Steps are batches."""

    steps: int = 30_000
    batch: int = 16
    rate: float = 2e-3
    decay: float = 0.02  # AdamW's weight decay, on convolutions alone
    warm_up: int = 300
    falling: float = 0.65  # share of the steps over which the rate falls
    calm: float = 0.05  # share of the steps, at the end, on whole canvases without patchwork, with little zoom
    average_steps: int = 1000  # the average of the weights looks back over about so many steps
    seed: int = 20261123
    evaluate_every: int = 500
    save_every: int = 100


def rate_at(plan: Plan, step: int) -> float:
    """The learning rate of a step."""
    if step < plan.warm_up:
        return plan.rate * (step + 1) / plan.warm_up
    start = plan.steps * (1 - plan.falling)
    if step <= start:
        return plan.rate
    return plan.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * (step - start) / (plan.steps - start))) / 2)


class Trainer:
    """A network under training with everything that a resumed run needs."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.step = 0
        self.net = StreetNet().to(memory_format=torch.channels_last)
        self.average = StreetNet().eval()
        self.average.load_state_dict(self.net.state_dict())
        convolutions = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": convolutions, "weight_decay": plan.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.99))
        self._anchors: dict[tuple[int, ...], Anchors] = {}
        self._file = folder / "checkpoint.pt"

    def resume(self) -> bool:
        """Takes up where the last run stopped; False when there was none."""
        if not self._file.exists():
            return False
        state: dict[str, Any] = torch.load(self._file, weights_only=True)
        self.step = state["step"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    def begin_from(self, file: Path) -> None:
        """Takes the averaged weights of another run, and nothing else of it."""
        state: dict[str, Any] = torch.load(file, weights_only=True)
        for net in (self.net, self.average):
            net.load_state_dict(state["average"])

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        aside = self._file.with_suffix(".part")
        state = {"step": self.step, "net": self.net.state_dict(), "average": self.average.state_dict()}
        torch.save(state | {"optimizer": self.optimizer.state_dict()}, aside)
        aside.rename(self._file)

    def _anchors_of(self, batch: Batch) -> Anchors:
        height, width = batch.pictures.shape[1:3]
        if (width, height) not in self._anchors:
            self._anchors[width, height] = anchors_of((width, height))
        return self._anchors[width, height]

    def _share_gradients(self) -> None:
        if not distributed.is_initialized():
            return
        gradients = [p.grad for p in self.net.parameters()]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) / distributed.get_world_size()
        distributed.all_reduce(flat)
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def learn(self, batch: Batch) -> tuple[float, float]:
        """One step; returns score loss and box loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.plan, self.step)
        self.net.train()
        pictures = to_tensor(batch.pictures)
        with torch.autocast("cpu", torch.bfloat16):
            raw = self.net(pictures)
        score_loss, box_loss = losses(raw.float(), batch.truths, self._anchors_of(batch))
        self.optimizer.zero_grad()
        (score_loss + box_loss).backward()
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimizer.step()
        self.step += 1
        self._average_weights()
        return float(score_loss.detach()), float(box_loss.detach())

    def _average_weights(self) -> None:
        keep = 1 - 1 / min(self.plan.average_steps, 1 + self.step / 4)
        with torch.no_grad():
            for mine, new in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
                if mine.dtype.is_floating_point:
                    mine.mul_(keep).add_(new, alpha=1 - keep)


def to_tensor(pictures: Canvases) -> Tensor:
    """Canvases (n, height, width, 3) as the network takes them, 0..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(255.0)


def answers_of(net: StreetNet) -> Callable[[Canvases], Floats]:
    """The network as the judge wants it."""
    deployed = Deployed(net).eval()

    def answer(pictures: Canvases) -> Floats:
        with torch.no_grad():
            return np.asarray(deployed.answers(to_tensor(pictures)).numpy())

    return answer


def fit(plan: Plan, scenes: Path, folder: Path, processes: int = 2, start: Path | None = None) -> None:
    """Trains to the end of the plan; leaves checkpoint.pt and log.md in `folder`. start: a checkpoint to begin from."""
    folder.mkdir(parents=True, exist_ok=True)
    meeting = folder / f"meeting-{os.getpid()}"
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        multiprocessing.start_processes(_fit_one, (processes, meeting, plan, scenes, folder, start), processes)
    finally:
        meeting.unlink(missing_ok=True)


def _fit_one(
    rank: int, processes: int, meeting: Path, plan: Plan, scenes: Path, folder: Path, start: Path | None
) -> None:
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=processes)
    trainer = Trainer(plan, folder)
    if trainer.resume():
        log.info("resumed at step %d", trainer.step)
    elif start is not None:
        trainer.begin_from(start)
    pool = Pool(scenes / "train")
    log.info("%d scenes to begin with", pool.refresh())
    strengths = {0: Strength(), round(plan.steps * (1 - plan.calm)): Strength((0.9, 1.1), 0.0, CANVAS)}
    begun, sums = time.monotonic(), np.zeros(2)
    steps = range(trainer.step, plan.steps)
    with prepared(pool, plan.batch // processes, plan.seed + rank, steps, strengths) as batches:
        for batch in batches:
            sums += trainer.learn(batch)
            if rank:
                continue
            if trainer.step % 50 == 0:
                pace, (score_loss, box_loss) = (time.monotonic() - begun) / 50, sums / 50
                log.info("step %d score %.3f box %.3f, %.3f s a step", trainer.step, score_loss, box_loss, pace)
                begun, sums = time.monotonic(), np.zeros(2)
            if trainer.step % plan.save_every == 0 or trainer.step == plan.steps:
                trainer.save()
            if trainer.step % plan.evaluate_every == 0:
                note(folder, trainer.step, evaluate(answers_of(trainer.average), scenes / "heldout", 0.3, shards=2))
    distributed.barrier()
    distributed.destroy_process_group()


def note(folder: Path, step: int, report: Report) -> None:
    """Adds a line to the training log of the folder."""
    line = f"| {step} | {report.mean:.3f} | " + " | ".join(f"{value:.3f}" for value in report.classes) + " |"
    log.info("evaluation %s", line)
    with (folder / "log.md").open("a", encoding="utf-8") as out:
        out.write(line + "\n")

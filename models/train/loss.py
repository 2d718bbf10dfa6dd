"""What the network is told after each step: score as well as you overlap, and overlap more."""

# mypy: disable-error-code="import-not-found, no-any-return"
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.train.assign import Anchors, align, candidates, silenced
from models.train.labels import Floats, Ints, Truth
from models.train.net import decode

BOX_WEIGHT = 6.0
"""Of the box loss against the score loss; YOLOv8 has 15, with twice as coarse a head for small objects."""
CLASS_WEIGHTS = (1.5, 2.5, 1.0, 2.0)
"""Of each class of CLASSES: roughly the root of how much rarer than cars they are."""
SURE = 0.2
"""No chosen anchor's box counts less than this, so that boxes that miss still learn."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a batch is to learn: chosen anchors (picture, anchor), their objects, and the score each should give."""

    pictures: Ints
    places: Ints
    boxes: Floats
    classes: Ints
    targets: Floats


def teach(boxes: Floats, scores: Floats, truths: Sequence[Truth], anchors: Anchors) -> Lesson:
    """Chooses the anchors. boxes (batch, 4, anchors), scores (batch, classes, anchors): what the network says now."""
    count = len(anchors.strides)
    wanted = [np.flatnonzero(~truth.ignore) for truth in truths]
    owner = np.repeat(np.arange(len(truths)), [len(rows) for rows in wanted])
    real = np.concatenate([truth.boxes[rows] for truth, rows in zip(truths, wanted, strict=True)])
    kinds = np.concatenate([truth.classes[rows] for truth, rows in zip(truths, wanted, strict=True)])
    objects, places = candidates(real, anchors)
    picture = owner[objects]
    said = boxes[picture, :, places]
    kept, targets = align(
        objects, picture * count + places, scores[picture, kinds[objects], places], _paired(said, real[objects])
    )
    chosen = objects[kept]
    return Lesson(owner[chosen], places[kept], real[chosen], kinds[chosen], targets)


def _paired(a: Floats, b: Floats) -> Floats:
    """Overlap of each row of `a` with the same row of `b`."""
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)


def complete_overlap(a: Tensor, b: Tensor) -> Tensor:
    """CIoU of paired boxes (Zheng et al. 2020): overlap, less distance of centres, less difference of aspect."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    overlap = shared / (size_a.prod(1) + size_b.prod(1) - shared + 1e-7)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]).square().sum(1) / 4
    angle = torch.atan(size_b[:, 0] / size_b[:, 1]) - torch.atan(size_a[:, 0] / (size_a[:, 1] + 1e-7))
    aspect = 4 / torch.pi**2 * angle.square()
    with torch.no_grad():
        share = aspect / (1 - overlap + aspect + 1e-7)
    return overlap - apart / (hull.square().sum(1) + 1e-7) - share * aspect


def losses(raw: Tensor, truths: Sequence[Truth], anchors: Anchors) -> tuple[Tensor, Tensor]:
    """Score loss and box loss of a batch. raw: (batch, 4 + classes, anchors) of the network, float32."""
    boxes = decode(raw[:, :4], torch.from_numpy(anchors.centres.T.copy()), torch.from_numpy(anchors.strides))
    logits = raw[:, 4:]
    with torch.no_grad():
        lesson = teach(boxes.numpy(), logits.sigmoid().numpy(), truths, anchors)
    target = torch.zeros_like(logits)
    at = (torch.from_numpy(lesson.pictures), torch.from_numpy(lesson.classes), torch.from_numpy(lesson.places))
    weight = torch.from_numpy(lesson.targets)
    target[at] = weight
    quiet = torch.from_numpy(np.stack([silenced(truth.boxes[truth.ignore], anchors) for truth in truths]))
    quiet[at[0], at[2]] = False
    of_class = torch.tensor(CLASS_WEIGHTS)
    rarity = of_class[at[1]]
    total = (weight * rarity).sum().clamp(min=len(truths) / 8)
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    score_loss = (each * of_class[:, None] * (~quiet)[:, None]).sum() / total
    sure = weight.clamp(min=SURE) * rarity
    missed = 1 - complete_overlap(boxes.transpose(1, 2)[at[0], at[2]], torch.from_numpy(lesson.boxes))
    return score_loss, BOX_WEIGHT * (missed * sure).sum() / sure.sum().clamp(min=1.0)

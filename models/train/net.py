"""The network: as small as a gateway's one core needs it, with a level of stride 4 because people are small.

Plain 3x3 convolutions with ReLU in widths of 16, which onnxruntime runs as blocks of a vector register. Four levels
(strides 4 to 32) of one decoupled head: four numbers for the box, one logit a class.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.train.labels import CANVAS, CLASSES

STRIDES = (4, 8, 16, 32)
LOG_SIZE_LIMIT = 4.0
"""A box is at most e^4 strides wide: beyond the canvas on every level, and finite whatever the weights say."""


class ConvUnit(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """A bottleneck of half the width, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = ConvUnit(width, width // 2, 1)
        self.widen = ConvUnit(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as `x`."""
        return x + self.widen(self.squeeze(x))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvUnit(inputs, outputs, stride=2), Residual(outputs))


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0)


class Head(nn.Module):
    """One level's answers: (batch, 4 + classes, height, width), boxes first, all raw."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.box = nn.Sequential(ConvUnit(inputs, width), nn.Conv2d(width, 4, 1))
        self.score = nn.Sequential(ConvUnit(inputs, width), nn.Conv2d(width, len(CLASSES), 1))
        nn.init.zeros_(self.box[1].bias)
        nn.init.constant_(self.box[1].bias[2:], 1.1)  # a fresh box is three strides wide
        nn.init.constant_(self.score[1].bias, -4.6)  # a fresh score is 0.01: almost everything is background

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([self.box(x), self.score(x)], 1)


class StreetNet(nn.Module):
    """Pictures (batch, 3, height, width) in 0..1, BGR, to raw answers (batch, 4 + classes, anchors)."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 96, 128), neck: int = 32, fine: int = 16) -> None:
        super().__init__()
        stem, w4, w8, w16, w32 = widths
        self.stem = ConvUnit(3, stem, stride=2)
        self.stage4, self.stage8 = _stage(stem, w4), _stage(w4, w8)
        self.stage16, self.stage32 = _stage(w8, w16), _stage(w16, w32)
        self.lateral32, self.lateral16 = ConvUnit(w32, neck, 1), ConvUnit(w16, neck, 1)
        self.lateral8, self.lateral4 = ConvUnit(w8, neck, 1), ConvUnit(w4, fine, 1)
        self.smooth16, self.smooth8, self.narrow = ConvUnit(neck, neck), ConvUnit(neck, neck), ConvUnit(neck, fine, 1)
        self.heads = nn.ModuleList([Head(fine, fine), Head(neck, neck), Head(neck, neck), Head(neck, neck)])

    def levels(self, x: Tensor) -> list[Tensor]:
        """The raw answers of each stride of `STRIDES`, as maps."""
        at4 = self.stage4(self.stem(x))
        at8 = self.stage8(at4)
        at16 = self.stage16(at8)
        top = self.lateral32(self.stage32(at16))
        middle = self.smooth16(self.lateral16(at16) + _double(top))
        low = self.smooth8(self.lateral8(at8) + _double(middle))
        finest = self.lateral4(at4) + _double(self.narrow(low))
        return [head(part) for head, part in zip(self.heads, (finest, low, middle, top), strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """See the class; anchors run level by level, row by row. Permuted, not flattened: channels stay last."""
        rows = [level.permute(0, 2, 3, 1).flatten(1, 2) for level in self.levels(x)]
        return torch.cat(rows, 1).transpose(1, 2)


def decode(raw: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes x0 y0 x1 y1 in pixels of `raw` (batch, 4, anchors); centres (2, anchors), strides (anchors), in pixels."""
    middle = raw[:, :2] * strides + centres
    half = raw[:, 2:4].clamp(-LOG_SIZE_LIMIT, LOG_SIZE_LIMIT).exp() * strides / 2
    return torch.cat([middle - half, middle + half], 1)


class Deployed(nn.Module):
    """What is exported: uint8 (1, height, width, 3) BGR to (1, 4 + classes, anchors), boxes x y w h in pixels."""

    def __init__(self, net: StreetNet) -> None:
        super().__init__()
        self.net = net
        width, height = CANVAS
        rows = [torch.arange(height // s) + 0.5 for s in STRIDES]
        columns = [torch.arange(width // s) + 0.5 for s in STRIDES]
        grids = [torch.meshgrid(r, c, indexing="ij") for r, c in zip(rows, columns, strict=True)]
        self.grids = [torch.stack([x, y])[None] for y, x in grids]

    def answers(self, pictures: Tensor) -> Tensor:
        """The same of what `StreetNet` takes."""
        found = []
        for raw, grid, stride in zip(self.net.levels(pictures), self.grids, STRIDES, strict=True):
            middle = (raw[:, :2] + grid) * stride
            size = raw[:, 2:4].clamp(-LOG_SIZE_LIMIT, LOG_SIZE_LIMIT).exp() * stride
            found.append(torch.cat([middle, size, raw[:, 4:].sigmoid()], 1).flatten(2))
        return torch.cat(found, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class; `fold_scale` has put the scale 1/255 into the first weights."""
        return self.answers(pictures.permute(0, 3, 1, 2).float())


def fold_scale(net: StreetNet) -> None:
    """Lets a trained network take 0..255 instead of 0..1."""
    with torch.no_grad():
        net.stem[0].weight /= 255.0

"""EfficientNet-Lite0 (Tan and Le, "EfficientNet", 2019; the Lite variant of 2020: no squeeze-and-excitation, ReLU6 for swish).

Weights have the names of the PyTorch port by ML Illustrated. Uses torch: only the conversion of a package and the backend for a
GPU import it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

CLASSES, WIDTH = 1_000, 1_280  # of ImageNet; of the embedding
STEM = 32


class Stage(NamedTuple):
    """Blocks of one shape; only the first of them has the stride."""

    kernel: int
    repeats: int
    channels: int
    expansion: int
    stride: int


LITE0 = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class SameConv(nn.Conv2d):
    """A convolution whose output is ceil(input / stride) long, with the odd pixel of the padding at the bottom and the right, as in
    TensorFlow."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:
            return super().forward(x)
        # The height and width of pictures are multiples of 32, so that this is the padding at every resolution.
        whole = max(kernel - stride, 0)
        before = whole // 2
        return super().forward(functional.pad(x, (before, whole - before, before, whole - before)))


class Block(nn.Module):
    """Widen, filter each channel by itself, narrow; with a shortcut where the shape stays."""

    def __init__(self, channels_in: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = channels_in * stage.expansion
        if stage.expansion != 1:
            self._expand_conv = SameConv(channels_in, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SameConv(wide, wide, stage.kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = SameConv(wide, stage.channels, 1, bias=False)
        self._bn2 = _norm(stage.channels)
        self._widens = stage.expansion != 1
        self._has_shortcut = stride == 1 and channels_in == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self._widens else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        narrow: Tensor = self._bn2(self._project_conv(y))
        return x + narrow if self._has_shortcut else narrow


class EfficientNetLite(nn.Module):
    """pixels: uint8 (n, height, width, 3), height and width multiples of 32. Returns logits, float32 (n, 1000), and the embedding
    that they are computed from, float32 (n, 1280)."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self._mean, self._deviation = mean, deviation
        self._conv_stem = SameConv(3, STEM, 3, 2, bias=False)
        self._bn0 = _norm(STEM)
        blocks: list[Block] = []
        channels = STEM
        for stage in LITE0:
            for repeat in range(stage.repeats):
                blocks.append(Block(channels, stage, stage.stride if repeat == 0 else 1))
                channels = stage.channels
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = SameConv(channels, WIDTH, 1, bias=False)
        self._bn1 = _norm(WIDTH)
        self._fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = (pixels.permute(0, 3, 1, 2).float() - self._mean) / self._deviation
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        x = functional.relu6(self._bn1(self._conv_head(self._blocks(x))))
        embedding = x.mean(dim=(2, 3))
        return self._fc(embedding), embedding


def signature(side: int) -> dict[str, Any]:
    """Inputs and outputs of the network for pictures of side x side pixels."""
    return {
        "inputs": {"pixels": {"dtype": "uint8", "shape": ["n", side, side, 3]}},
        "outputs": {
            "logits": {"dtype": "float32", "shape": ["n", CLASSES]},
            "embedding": {"dtype": "float32", "shape": ["n", WIDTH]},
        },
    }

"""The network of the picture models: a small residual convolutional network.

Uses torch: only trainers and the exporter import it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., 2015); halves height and width."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = nn.Conv2d(channels_in, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.max_pool2d(torch.relu(self.body(x) + self.shortcut(x)), 2)


class ConvNet(nn.Module):
    """pixels: uint8 (n, height, width, channels). Returns logits, float32 (n, classes), and the embedding that they are computed
    from, float32 (n, 2 * widths[-1])."""

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...], dropout: float = 0.2) -> None:
        super().__init__()
        blocks = [Block(before, width) for before, width in zip((channels, *widths), widths, strict=False)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], classes))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.blocks(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)
        embedding = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return self.head(embedding), embedding


def outputs(classes: int, widths: tuple[int, ...]) -> dict[str, Any]:
    """The outputs of the network, in the form of a signature."""
    return {
        "logits": {"dtype": "float32", "shape": ["n", classes]},
        "embedding": {"dtype": "float32", "shape": ["n", 2 * widths[-1]]},
    }

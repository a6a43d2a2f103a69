"""The network of the transcription model: dilated convolutions over log-mel frames, with CTC.

Uses torch: only the trainer and the exporter import it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 4  # input frames per output frame


class Layer(nn.Module):
    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation, groups=width, bias=False),
            nn.Conv1d(width, width, 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        out: Tensor = (x + self.body(x)) * there
        return out


class Listener(nn.Module):
    """features: float32 (n, frames, mels), 0 for padding. lengths: int64 (n,). Returns log-probabilities
    (n, ceil(frames / STRIDE), tokens). Padding past a row's length does not affect the row's output."""

    def __init__(self, mels: int, tokens: int, width: int = 128, layers: int = 6, dropout: float = 0.15) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv1d(mels, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.narrower = nn.Sequential(
            nn.Conv1d(width, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.layers = nn.ModuleList(Layer(width, 2 ** (i % 3), dropout) for i in range(layers))
        self.head = nn.Conv1d(width, tokens, 1)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        x = self.narrow(features.transpose(1, 2))
        x = self.narrower(x * _there(x, (lengths + 1) // 2))
        there = _there(x, (lengths + 3) // 4)
        x = x * there
        for layer in self.layers:
            x = layer(x, there)
        return torch.log_softmax(self.head(x).transpose(1, 2), dim=-1)


def _there(x: Tensor, lengths: Tensor) -> Tensor:
    """A mask of shape (n, 1, t): 1 inside each row's length, 0 past it."""
    at = torch.arange(x.shape[2], device=x.device)
    return (at[None, None, :] < lengths[:, None, None]).to(x.dtype)

"""The network of the translation model: a transformer encoder and a recurrent decoder.

Encoder: pre-norm transformer (Vaswani et al., 2017). Decoder: simpler simple recurrent units with cross attention (Kim et al.,
2019, "From Research to Production and Back"). Their state has a fixed size, so a step costs the same for a sentence of any
length, and nothing is cached. Source, target and output share one embedding table. Uses torch: only the trainer and the exporter
import it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as f

MAX_POSITIONS = 256


@dataclass(frozen=True)
class Shape:
    vocabulary: int
    width: int = 192
    inner: int = 768
    heads: int = 4
    encoder_layers: int = 3
    decoder_layers: int = 2
    dropout: float = 0.1


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.query, self.out = nn.Linear(shape.width, shape.width), nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """x: (n, t, width). keys, values: (n, heads, s, width / heads). mask: (n, 1, 1, s), 0 or a large negative."""
        found = f.scaled_dot_product_attention(
            split(self.query(x), self.heads), keys, values, mask, dropout_p=self.dropout if self.training else 0.0
        )
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out


def split(x: Tensor, heads: int) -> Tensor:
    """(n, t, width) to (n, heads, t, width / heads)."""
    n, t, width = x.shape
    return x.reshape(n, t, heads, width // heads).transpose(1, 2)


class FeedForward(nn.Sequential):
    def __init__(self, shape: Shape) -> None:
        super().__init__(
            nn.Linear(shape.width, shape.inner), nn.ReLU(), nn.Dropout(shape.dropout), nn.Linear(shape.inner, shape.width)
        )


class EncoderLayer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm_attention, self.norm_inner = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attention, self.key_value = Attention(shape), nn.Linear(shape.width, 2 * shape.width)
        self.inner, self.drop = FeedForward(shape), nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm_attention(x)
        keys, values = self.key_value(normed).chunk(2, dim=-1)
        x = x + self.drop(self.attention(normed, split(keys, self.heads), split(values, self.heads), mask))
        out: Tensor = x + self.drop(self.inner(self.norm_inner(x)))
        return out


class DecoderLayer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm_recurrent, self.norm_attention, self.norm_inner = (nn.LayerNorm(shape.width) for _ in range(3))
        self.gate_input = nn.Linear(shape.width, 2 * shape.width)
        self.attention, self.inner, self.drop = Attention(shape), FeedForward(shape), nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, state: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x: (n, t, width). state: (n, width), before the first of the t steps. Returns the output, and the state after the last
        step."""
        gate, given = self.gate_input(self.norm_recurrent(x)).chunk(2, dim=-1)
        gate = torch.sigmoid(gate)
        given = (1 - gate) * given
        states = []
        for step in range(x.shape[1]):
            state = gate[:, step] * state + given[:, step]
            states.append(state)
        x = x + self.drop(torch.relu(torch.stack(states, dim=1)))
        x = x + self.drop(self.attention(self.norm_attention(x), keys, values, mask))
        return x + self.drop(self.inner(self.norm_inner(x))), state


class Translator(nn.Module):
    """tokens: int64, padded with 0. `encode` computes the attention keys and values of all decoder layers once."""

    positions: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
        self.encoder = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.memory = nn.Linear(shape.width, 2 * shape.width * shape.decoder_layers)
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.drop = nn.Dropout(shape.dropout)
        self.register_buffer("positions", _positions(shape.width), persistent=False)

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tokens: (n, s). Returns keys and values, (layers, n, heads, s, width / heads), and the mask, (n, 1, 1, s)."""
        mask = torch.where(tokens == 0, -1e4, 0.0)[:, None, None, :]
        x = self.drop(self.embedding(tokens) * math.sqrt(self.shape.width) + self.positions[: tokens.shape[1]])
        for layer in self.encoder:
            x = layer(x, mask)
        memory = self.memory(self.encoder_norm(x)).chunk(2 * self.shape.decoder_layers, dim=-1)
        parts = [split(part, self.shape.heads) for part in memory]
        return torch.stack(parts[0::2]), torch.stack(parts[1::2]), mask

    def decode(self, tokens: Tensor, states: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """tokens: (n, t). states: (layers, n, width). Returns logits (n, t, vocabulary), and the states after the last token."""
        x = self.drop(self.embedding(tokens) * math.sqrt(self.shape.width))
        after = []
        for number, layer in enumerate(self.decoder):
            x, state = layer(x, states[number], keys[number], values[number], mask)
            after.append(state)
        return f.linear(self.decoder_norm(x), self.embedding.weight), torch.stack(after)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits of each next token, (n, t, vocabulary), for training: the decoder is given the true tokens before it."""
        keys, values, mask = self.encode(source)
        states = torch.zeros(self.shape.decoder_layers, len(source), self.shape.width)
        logits, _ = self.decode(target, states, keys, values, mask)
        return logits


class Encode(nn.Module):
    """The module that is exported as `encoder.onnx`."""

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.translator.encode(tokens)


class Step(nn.Module):
    """The module that is exported as `decoder.onnx`: one step. Returns log-probabilities (n, vocabulary), and the new states."""

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, tokens: Tensor, states: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        logits, after = self.translator.decode(tokens, states, keys, values, mask)
        return torch.log_softmax(logits[:, 0], dim=-1), after


def _positions(width: int) -> Tensor:
    """Sinusoids, shape (MAX_POSITIONS, width)."""
    at = torch.arange(MAX_POSITIONS)[:, None]
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([torch.sin(at * rates), torch.cos(at * rates)], dim=2).flatten(1)

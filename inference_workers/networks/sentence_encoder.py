"""MiniLM, an encoder of sentences (Wang et al. 2020), and the text classifier that adds its judgement to that of hashed n-grams.

The encoder is BERT's (Devlin et al. 2018), with the names of its checkpoints. Uses torch: only trainers, the conversion of packages and
the backend for a GPU import it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from inference_workers.networks.hashed_linear import INPUTS as HASHED_INPUTS
from inference_workers.networks.hashed_linear import HashedLinear
from schemas.errors import ModelRefused

INPUTS = (*HASHED_INPUTS, "tokens", "mask")


@dataclass(frozen=True)
class Shape:
    vocabulary: int
    positions: int
    width: int
    layers: int
    heads: int
    inner_width: int
    epsilon: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """config: of a checkpoint."""
        return cls(
            config["vocab_size"],
            config["max_position_embeddings"],
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["intermediate_size"],
            config["layer_norm_eps"],
        )


class SentenceEncoder(nn.Module):
    """tokens, mask: int64 (n, length), mask 0 for padding. Returns the mean over tokens, scaled to length 1, float32 (n, width)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = _Embeddings(shape)
        self.encoder = _Layers(shape)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        hidden = self.embeddings(tokens)
        there = mask.to(hidden.dtype)
        hidden = self.encoder(hidden, (1.0 - there)[:, None, None, :] * -1e9)
        mean = (hidden * there[:, :, None]).sum(dim=1) / there.sum(dim=1, keepdim=True).clamp(min=1.0)
        scaled: Tensor = mean / mean.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
        return scaled


class _Embeddings(nn.Module):
    """Looks vectors up by index: an exported embedding layer would be named as the network's output is."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(2, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, shape.epsilon)

    def forward(self, tokens: Tensor) -> Tensor:
        summed = self.word_embeddings.weight[tokens] + self.position_embeddings.weight[: tokens.shape[1]]
        normal: Tensor = self.LayerNorm(summed + self.token_type_embeddings.weight[0])
        return normal


class _Layers(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))

    def forward(self, hidden: Tensor, hidden_out: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden, hidden_out)
        return hidden


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = _Attention(shape)
        self.intermediate = _Dense(shape.width, shape.inner_width)
        self.output = _Joint(shape.inner_width, shape)

    def forward(self, hidden: Tensor, hidden_out: Tensor) -> Tensor:
        hidden = self.attention(hidden, hidden_out)
        joined: Tensor = self.output(nn.functional.gelu(self.intermediate.dense(hidden)), hidden)
        return joined


class _Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self = _Heads(shape)
        self.output = _Joint(shape.width, shape)

    def forward(self, hidden: Tensor, hidden_out: Tensor) -> Tensor:
        joined: Tensor = self.output(self.self(hidden, hidden_out), hidden)
        return joined


class _Heads(nn.Module):
    """hidden: (n, length, width). hidden_out: (n, 1, 1, length), far below 0 for padding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width)
        self.key = nn.Linear(shape.width, shape.width)
        self.value = nn.Linear(shape.width, shape.width)

    def forward(self, hidden: Tensor, hidden_out: Tensor) -> Tensor:
        n, length, width = hidden.shape
        query, key, value = (
            part(hidden).view(n, length, self._heads, width // self._heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(width // self._heads) + hidden_out).softmax(dim=-1)
        mixed: Tensor = (weights @ value).transpose(1, 2).reshape(n, length, width)
        return mixed


class _Dense(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)


class _Joint(_Dense):
    """Adds a change to what was there, and normalises it."""

    def __init__(self, width_in: int, shape: Shape) -> None:
        super().__init__(width_in, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, shape.epsilon)

    def forward(self, change: Tensor, hidden: Tensor) -> Tensor:
        joined: Tensor = self.LayerNorm(self.dense(change) + hidden)
        return joined


def of_checkpoint(folder: Path) -> SentenceEncoder:
    """A checkpoint of BERT's kind, in the Hugging Face layout. Raises ModelRefused if it is of another kind."""
    state = load_file(folder / "model.safetensors")
    encoder = SentenceEncoder(Shape.of(json.loads((folder / "config.json").read_text())))
    expected = encoder.state_dict()
    try:
        encoder.load_state_dict({name: value for name, value in state.items() if name in expected})
    except RuntimeError as error:
        raise ModelRefused(f"{folder}: its weights do not fit the encoder: {error}") from error
    return encoder.eval()


class HashedAndEncoded(nn.Module):
    """The sum of the logits of hashed n-grams, scaled by category, and of a linear layer on the sentence's embedding. Returns logits,
    float32 (n, classes), and the embedding, float32 (n, width)."""

    head_weights: Tensor
    head_scale: Tensor
    head_bias: Tensor

    def __init__(self, hashed: HashedLinear, encoder: SentenceEncoder, width: int, classes: int) -> None:
        super().__init__()
        self.hashed, self.encoder = hashed, encoder
        self.register_buffer("head_weights", torch.zeros(width, classes))
        self.register_buffer("head_scale", torch.ones(classes))
        self.register_buffer("head_bias", torch.zeros(classes))

    def forward(
        self, word_buckets: Tensor, word_counts: Tensor, char_buckets: Tensor, char_counts: Tensor, tokens: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        embedding = self.encoder(tokens, mask)
        by_ngrams = self.hashed(word_buckets, word_counts, char_buckets, char_counts)
        return by_ngrams * self.head_scale + embedding @ self.head_weights + self.head_bias, embedding

"""The Llama decoder: RMSNorm, rotary embedding, grouped-query attention, SwiGLU. One forward pass over rows of many sequences.

Method: Touvron et al., "LLaMA", 2023, arXiv:2302.13971; names of weights and of the config as in the Hugging Face layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from inference_workers.chat.linears import Linear
from inference_workers.chat.token_choice import HostLogits, Logits
from schemas.errors import ModelRefused

DEFAULT_THETA = 10_000.0


@dataclass(frozen=True)
class LlamaConfig:
    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    context_tokens: int
    theta: float
    epsilon: float
    tied: bool

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> LlamaConfig:
        """From a checkpoint's config.json. Raises ModelRefused for another architecture, or a variant that is not implemented."""
        if config.get("model_type") != "llama":
            raise ModelRefused(f"architecture {config.get('model_type')!r} is not implemented: the chat engine runs Llama models")
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        wrong = {
            "hidden_act": config.get("hidden_act", "silu") != "silu",
            "attention_bias": bool(config.get("attention_bias")),
            "mlp_bias": bool(config.get("mlp_bias")),
            "rope_scaling": rope.get("rope_type", rope.get("type", "default")) != "default",
        }
        if any(wrong.values()):
            raise ModelRefused(
                f"a Llama variant that is not implemented: {', '.join(name for name, is_so in wrong.items() if is_so)}"
            )
        heads = int(config["num_attention_heads"])
        return cls(
            vocabulary=int(config["vocab_size"]),
            width=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_width=int(config.get("head_dim") or config["hidden_size"] // heads),
            context_tokens=int(config["max_position_embeddings"]),
            theta=float(rope.get("rope_theta") or config.get("rope_theta") or DEFAULT_THETA),
            epsilon=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    def rotations(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of each position, float32 (context_tokens, head_width // 2)."""
        powers = torch.arange(0, self.head_width, 2, dtype=torch.int64).float() / self.head_width
        angles = torch.outer(torch.arange(self.context_tokens).float(), 1 / self.theta**powers)
        return angles.cos(), angles.sin()


@dataclass(frozen=True)
class StepRows:
    """One step's input, a row for each token that is computed. tokens: int64 (n,). rows: int32 (n, 2), the row's sequence, as an index
    of tables, and its position; rows of a sequence lie together, in order. tables: int32 (sequences, blocks), block numbers of the
    KV cache. wanted: int64 (m,), the rows whose logits are needed."""

    tokens: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    tables: npt.NDArray[np.int32]
    wanted: npt.NDArray[np.int64]


class Operations(Protocol):
    """What lies between the products, with the KV cache."""

    def begin(self, step: StepRows) -> None:
        """The step whose rows the next calls compute."""
        ...

    def norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """x: (n, width), weight: (width,). Returns (n, width)."""
        ...

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Rotate, write keys and values to the cache, and attend. qkv: (n, (heads + 2 * kv_heads) * head_width). Returns (n, heads *
        head_width)."""
        ...

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """gate_up: (n, 2 * inner). Returns (n, inner)."""
        ...

    def logits(self, made: torch.Tensor) -> Logits:
        """made: float32 (m, vocabulary)."""
        ...


@dataclass(frozen=True)
class _Layer:
    norm_in: torch.Tensor
    qkv: Linear
    out: Linear
    norm_between: torch.Tensor
    gate_up: Linear
    down: Linear


class Llama:
    def __init__(
        self,
        config: LlamaConfig,
        weights: Mapping[str, torch.Tensor],
        linear: Callable[[torch.Tensor], Linear],
        operations: Operations,
        dtype: torch.dtype,
    ) -> None:
        """weights: by the names of the Hugging Face layout, on the device of the model. Raises ModelRefused if one is missing."""
        self._operations = operations
        try:
            self._embedding, self._dtype = (
                weights["model.embed_tokens.weight"].clone(),
                dtype,
            )  # of its own: not a view of the file
            self._layers = [_layer(weights, f"model.layers.{n}.", linear, dtype) for n in range(config.layers)]
            self._norm = weights["model.norm.weight"].to(dtype)
            self._head = linear(weights["model.embed_tokens.weight" if config.tied else "lm_head.weight"])
        except KeyError as error:
            raise ModelRefused(f"the checkpoint has no weight {error}") from error

    @torch.inference_mode()
    def logits(self, step: StepRows) -> Logits:
        """Logits of the wanted rows. Writes keys and values of all rows to the cache."""
        device = self._embedding.device
        self._operations.begin(step)
        x = self.hidden(torch.from_numpy(step.tokens).to(device))
        if not len(step.wanted):  # parts of prompts alone
            return HostLogits(np.empty((0, 0), np.float32))
        return self._operations.logits(self.head(x[torch.from_numpy(step.wanted).to(device)]))

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """What comes out of the last layer for the rows of the step that `Operations.begin` was told: int64 (n,) to (n, width)."""
        operations = self._operations
        x = self._embedding[tokens].to(self._dtype)
        for number, layer in enumerate(self._layers):
            x += layer.out(operations.attend(number, layer.qkv(operations.norm(x, layer.norm_in))))
            x += layer.down(operations.gate(layer.gate_up(operations.norm(x, layer.norm_between))))
        return x

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """(m, width) to logits, float32 (m, vocabulary)."""
        return self._head(self._operations.norm(x, self._norm)).float()


def _layer(
    weights: Mapping[str, torch.Tensor], name: str, linear: Callable[[torch.Tensor], Linear], dtype: torch.dtype
) -> _Layer:
    def joined(*parts: str) -> Linear:
        return linear(torch.cat([weights[f"{name}{part}_proj.weight"] for part in parts]))

    return _Layer(
        norm_in=weights[f"{name}input_layernorm.weight"].to(dtype),
        qkv=joined("self_attn.q", "self_attn.k", "self_attn.v"),
        out=joined("self_attn.o"),
        norm_between=weights[f"{name}post_attention_layernorm.weight"].to(dtype),
        gate_up=joined("mlp.gate", "mlp.up"),
        down=joined("mlp.down"),
    )

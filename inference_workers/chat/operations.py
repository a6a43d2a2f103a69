"""The KV cache, and what lies between the products of a model, on a CPU by our kernels; `gpu/torch_operations.py` is the same by PyTorch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from inference_workers.chat import cpu_kernels
from inference_workers.chat.llama import LlamaConfig, StepRows
from inference_workers.chat.token_choice import HostLogits, Logits


class CpuOperations:
    """float32. Every row is computed alone: see cpu_kernels."""

    def __init__(self, config: LlamaConfig, blocks: int, block_tokens: int, threads: int = 1) -> None:
        self._config, self._threads = config, threads
        self._pool = ThreadPoolExecutor(threads - 1, "attention") if threads > 1 else None
        # NumPy asks Linux for large pages, and memory is taken as blocks are first used.
        shape = (2, config.layers, blocks, config.kv_heads, block_tokens, config.head_width)
        self._keys, self._values = np.zeros(shape, np.float32)
        self._cosine, self._sine = (part.numpy() for part in config.rotations())

    def norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """float32 (n, width) and (width,) to (n, width)."""
        out = torch.empty_like(x)
        cpu_kernels.rms_norm(x.numpy(), weight.numpy(), self._config.epsilon, out.numpy())
        return out

    def begin(self, step: StepRows) -> None:
        self._step = step

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """float32 (n, (heads + 2 * kv_heads) * head_width) to (n, heads * head_width)."""
        config, keys, values, step = self._config, self._keys[layer], self._values[layer], self._step
        parts = qkv.numpy().reshape(len(qkv), -1, config.head_width)
        out = np.empty((len(qkv), config.heads, config.head_width), np.float32)
        cpu_kernels.store(parts, self._cosine, self._sine, step.rows, step.tables, keys, values)
        first, *others = _equal_work(step.rows, self._threads)
        waits = [
            self._pool.submit(cpu_kernels.attend, parts, step.rows, step.tables, keys, values, out, *span)
            for span in others
            if self._pool
        ]
        cpu_kernels.attend(parts, step.rows, step.tables, keys, values, out, *first)
        for wait in waits:
            wait.result()
        return torch.from_numpy(out.reshape(len(qkv), -1))

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """float32 (n, 2 * inner) to (n, inner)."""
        out = torch.empty(len(gate_up), self._config.inner)
        cpu_kernels.gate(gate_up.numpy(), out.numpy())
        return out

    def logits(self, made: torch.Tensor) -> Logits:
        return HostLogits(made.numpy())


def _equal_work(rows: npt.NDArray[np.int32], parts: int) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each part: a row's work is its position. rows: int32 (n, 2)."""
    if parts == 1 or len(rows) < 2 * parts:
        return [(0, len(rows))]
    work = np.cumsum(rows[:, 1] + 1)
    cuts = [0, *(int(np.searchsorted(work, work[-1] * part / parts)) for part in range(1, parts)), len(rows)]
    return list(pairwise(cuts))

"""The KV cache, and what lies between the products of a model: on a CPU by our kernels, elsewhere by PyTorch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from inference_workers.chat import cpu_kernels
from inference_workers.chat.llama import LlamaConfig, StepRows


def cache_shape(config: LlamaConfig, blocks: int, block_tokens: int) -> tuple[int, ...]:
    """Of keys and values of all blocks: (2, layers, blocks, kv_heads, block_tokens, head_width)."""
    return (2, config.layers, blocks, config.kv_heads, block_tokens, config.head_width)


class CpuOperations:
    """float32. Every row is computed alone: see cpu_kernels."""

    def __init__(self, config: LlamaConfig, blocks: int, block_tokens: int, threads: int = 1) -> None:
        self._config, self._threads = config, threads
        self._pool = ThreadPoolExecutor(threads - 1, "attention") if threads > 1 else None
        # NumPy asks Linux for large pages, and memory is taken as blocks are first used.
        self._keys, self._values = np.zeros(cache_shape(config, blocks, block_tokens), np.float32)
        self._cosine, self._sine = (part.numpy() for part in config.rotations())

    def norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """float32 (n, width) and (width,) to (n, width)."""
        out = torch.empty_like(x)
        cpu_kernels.rms_norm(x.numpy(), weight.numpy(), self._config.epsilon, out.numpy())
        return out

    def attend(self, layer: int, qkv: torch.Tensor, step: StepRows) -> torch.Tensor:
        """float32 (n, (heads + 2 * kv_heads) * head_width) to (n, heads * head_width)."""
        config, keys, values = self._config, self._keys[layer], self._values[layer]
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


class TorchOperations:
    """Any device and dtype. Attention gathers each sequence's blocks; its last bits depend on the number of rows."""

    def __init__(self, config: LlamaConfig, blocks: int, block_tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self._config, self._size = config, block_tokens
        self._keys, self._values = torch.zeros(cache_shape(config, blocks, block_tokens), dtype=dtype, device=device)
        self._cosine, self._sine = (torch.cat([part, part], 1).to(device, dtype) for part in config.rotations())

    def norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(n, width) and (width,) to (n, width)."""
        return torch.nn.functional.rms_norm(x, (x.shape[1],), weight, self._config.epsilon)

    def attend(self, layer: int, qkv: torch.Tensor, step: StepRows) -> torch.Tensor:
        """(n, (heads + 2 * kv_heads) * head_width) to (n, heads * head_width)."""
        heads, kv_heads = self._config.heads, self._config.kv_heads
        parts = qkv.view(len(qkv), -1, self._config.head_width)
        owners, positions = (torch.from_numpy(column).to(qkv.device).long() for column in step.rows.T)
        tables = torch.from_numpy(step.tables).to(qkv.device).long()
        cosine, sine = self._cosine[positions][:, None], self._sine[positions][:, None]
        turned = parts[:, : heads + kv_heads]
        turned = turned * cosine + _turn(turned) * sine
        keys, values = self._keys[layer], self._values[layer]
        blocks, offsets = tables[owners, positions // self._size], positions % self._size
        keys[blocks, :, offsets] = turned[:, heads:]
        values[blocks, :, offsets] = parts[:, heads + kv_heads :]
        out = torch.empty_like(parts[:, :heads])
        for first, last in _sequences(step.rows):
            table = tables[step.rows[first, 0], : step.rows[last - 1, 1] // self._size + 1]
            mask = torch.arange(len(table) * self._size, device=qkv.device) <= positions[first:last, None]
            k, v = (part[table].transpose(0, 1).flatten(1, 2)[None] for part in (keys, values))
            q = turned[first:last, :heads].transpose(0, 1)[None]
            attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
            out[first:last] = attended[0].transpose(0, 1)
        return out.flatten(1)

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """(n, 2 * inner) to (n, inner)."""
        left, right = gate_up.chunk(2, 1)
        return torch.nn.functional.silu(left) * right


def _equal_work(rows: npt.NDArray[np.int32], parts: int) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each part: a row's work is its position. rows: int32 (n, 2)."""
    if parts == 1 or len(rows) < 2 * parts:
        return [(0, len(rows))]
    work = np.cumsum(rows[:, 1] + 1)
    cuts = [0, *(int(np.searchsorted(work, work[-1] * part / parts)) for part in range(1, parts)), len(rows)]
    return list(pairwise(cuts))


def _turn(x: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return torch.cat([-right, left], -1)


def _sequences(rows: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each sequence. rows: int32 (n, 2)."""
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))

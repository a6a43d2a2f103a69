"""The KV cache, and what lies between the products of a model, by PyTorch on any device and in any dtype.

A decoding sequence has one row in a step, and all of them attend in one call, over copies of their blocks or by a kernel that reads the
cache where it lies; a prompt's rows attend in a call of their own. The last bits of a result depend on the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from inference_workers.chat.gpu.device_choice import DeviceLogits
from inference_workers.chat.llama import LlamaConfig, StepRows
from inference_workers.chat.token_choice import Logits


@dataclass(frozen=True)
class RowsOnDevice:
    """The rows of a step. positions: int64 (n,). blocks, offsets: int64 (n,), where a row's keys and values lie. tables: int64
    (decoding, width), the blocks of the first rows, which are a sequence each. prompts: the other rows: first row, end, the sequence's
    blocks, and bool (rows, positions), what each may see."""

    positions: torch.Tensor
    blocks: torch.Tensor
    offsets: torch.Tensor
    tables: torch.Tensor
    prompts: tuple[tuple[int, int, torch.Tensor, torch.Tensor], ...] = ()


class TorchOperations:
    def __init__(
        self, config: LlamaConfig, blocks: int, block_tokens: int, dtype: torch.dtype, device: torch.device, kernel: bool = False
    ) -> None:
        """kernel: see `EngineSettings.attention_kernel`."""
        self._config, self._size, self._device = config, block_tokens, device
        self.spare_block = blocks  # rows that fill up a captured step write here
        shape = (2, config.layers, blocks + 1, block_tokens, config.kv_heads, config.head_width)
        self._keys, self._values = torch.zeros(shape, dtype=dtype, device=device)
        self._cosine, self._sine = (torch.cat([part, part], 1).to(device, dtype) for part in config.rotations())
        self._rows: RowsOnDevice
        self._decode = gathered
        if kernel:
            from inference_workers.chat.gpu import attention_kernel  # its compiler is there where a GPU is

            self._decode = attention_kernel.attend

    def begin(self, step: StepRows) -> None:
        owners, positions = step.rows.T
        firsts = np.flatnonzero(np.diff(owners, prepend=-1))
        counts = np.diff(firsts, append=len(owners))
        decoding = int(np.argmax(counts > 1)) if (counts > 1).any() else len(counts)
        tables = torch.from_numpy(step.tables).to(self._device).long()
        places = torch.from_numpy(step.rows).to(self._device).long()
        blocks = tables[places[:, 0], places[:, 1] // self._size]
        width = int(positions[:decoding].max()) // self._size + 1 if decoding else 0
        prompts = []
        for first, count in zip(firsts[decoding:].tolist(), counts[decoding:].tolist(), strict=True):
            end = first + count
            table = tables[owners[first], : int(positions[end - 1]) // self._size + 1]
            prompts.append((first, end, table, _seen(places[first:end, 1], len(table) * self._size)))
        offsets = places[:, 1] % self._size
        self._rows = RowsOnDevice(places[:, 1], blocks, offsets, tables[:decoding, :width], tuple(prompts))

    def begin_decoding(self, positions: torch.Tensor, tables: torch.Tensor) -> None:
        """A step of decoding rows alone, without a word from the host. positions: int64 (n,); tables: int64 (n, width), on the device."""
        blocks = tables.gather(1, (positions // self._size)[:, None])[:, 0]
        self._rows = RowsOnDevice(positions, blocks, positions % self._size, tables)

    def norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(n, width) and (width,) to (n, width)."""
        return torch.nn.functional.rms_norm(x, (x.shape[1],), weight, self._config.epsilon)

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """(n, (heads + 2 * kv_heads) * head_width) to (n, heads * head_width)."""
        rows, heads, kv_heads = self._rows, self._config.heads, self._config.kv_heads
        parts = qkv.view(len(qkv), -1, self._config.head_width)
        cosine, sine = self._cosine[rows.positions][:, None], self._sine[rows.positions][:, None]
        turned = parts[:, : heads + kv_heads]
        turned = turned * cosine + _turn(turned) * sine
        keys, values = self._keys[layer], self._values[layer]
        keys[rows.blocks, rows.offsets] = turned[:, heads:]
        values[rows.blocks, rows.offsets] = parts[:, heads + kv_heads :]
        queries = turned[:, :heads].unflatten(1, (kv_heads, -1))  # heads of a group are rows of one attention
        out = torch.empty_like(queries)
        decoding = len(rows.tables)
        if decoding:
            out[:decoding] = self._decode(queries[:decoding], keys, values, rows.tables, rows.positions[:decoding])
        for first, end, table, seen in rows.prompts:
            k, v = (part[table].flatten(0, 1).transpose(0, 1)[None] for part in (keys, values))
            q = queries[first:end].permute(1, 2, 0, 3)
            mask = seen.repeat(q.shape[1], 1)
            attended = torch.nn.functional.scaled_dot_product_attention(q.flatten(1, 2)[None], k, v, attn_mask=mask)
            out[first:end] = attended[0].view(q.shape).permute(2, 0, 1, 3)
        return out.flatten(1)

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """(n, 2 * inner) to (n, inner)."""
        left, right = gate_up.chunk(2, 1)
        return torch.nn.functional.silu(left) * right

    def logits(self, made: torch.Tensor) -> Logits:
        return DeviceLogits(made)


def gathered(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, tables: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """What `attention_kernel.attend` computes, on any device: each sequence's blocks are copied together."""
    k, v = (part[tables].flatten(1, 2).transpose(1, 2) for part in (keys, values))
    mask = _seen(positions, k.shape[2])[:, None, None]
    return torch.nn.functional.scaled_dot_product_attention(queries, k, v, attn_mask=mask)


def _seen(positions: torch.Tensor, count: int) -> torch.Tensor:
    """bool (n, count): a row sees what is not after it."""
    return torch.arange(count, device=positions.device) <= positions[:, None]


def _turn(x: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return torch.cat([-right, left], -1)

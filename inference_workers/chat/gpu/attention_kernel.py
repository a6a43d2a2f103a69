"""Attention of decoding sequences on a GPU, over a KV cache in blocks. Each key and value is read once, where it lies, and only those
that a sequence has.

Method: Kwon et al., "PagedAttention", 2023, arXiv:2309.06180; long contexts are computed in parts that run side by side, as in
Flash-Decoding (Dao et al., 2023), with the running softmax of Milakov and Gimelshein, 2018, arXiv:1805.02867.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

PART = 256  # positions that one program reads
READ = 64  # positions of one read
LEAST = 16  # the smallest side of a product on tensor cores


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, tables: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """queries: (n, kv_heads, group, head_width), a row of each sequence. keys, values: (blocks, block_tokens, kv_heads, head_width),
    contiguous. tables: int64 (n, width), the blocks of each sequence. positions: int64 (n,), of the rows; what is after them is not
    read. Returns what queries are, in shape and dtype."""
    count, kv_heads, group, head = queries.shape
    block_tokens, width = keys.shape[1], tables.shape[1]
    parts = triton.cdiv(width * block_tokens, PART)
    sums = torch.empty((count, kv_heads, parts, group, head), dtype=torch.float32, device=queries.device)
    weights = torch.empty((count, kv_heads, parts, group), dtype=torch.float32, device=queries.device)
    _part[(count, kv_heads, parts)](
        queries.contiguous(),
        keys,
        values,
        tables,
        positions,
        sums,
        weights,
        tables.stride(0),
        positions.stride(0),
        head**-0.5,
        kv_heads=kv_heads,
        group=group,
        head=head,
        block_tokens=block_tokens,
        group_side=max(LEAST, triton.next_power_of_2(group)),
        head_side=max(LEAST, triton.next_power_of_2(head)),
        part_size=PART,
        read=READ,
    )
    if parts == 1:
        return sums[:, :, 0].to(queries.dtype)
    return (sums * weights.softmax(2)[..., None]).sum(2).to(queries.dtype)


@triton.jit  # type: ignore[untyped-decorator]
def _part(  # type: ignore[no-untyped-def]
    queries,
    keys,
    values,
    tables,
    positions,
    sums,
    weights,
    table_stride,
    position_stride,
    scale,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head: tl.constexpr,
    block_tokens: tl.constexpr,
    group_side: tl.constexpr,
    head_side: tl.constexpr,
    part_size: tl.constexpr,
    read: tl.constexpr,
):
    """One part of one sequence and group of heads: the mean of its values, and the logarithm of the weight that it has."""
    row, kv_head, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    heads, places = tl.arange(0, group_side), tl.arange(0, head_side)
    known = (heads < group)[:, None] & (places < head)[None, :]
    owner = row * kv_heads + kv_head
    query = tl.load(queries + (owner * group + heads)[:, None] * head + places[None, :], mask=known, other=0.0)
    length = tl.load(positions + row * position_stride) + 1
    first, end = part * part_size, tl.minimum(part * part_size + part_size, length)
    most = tl.full((group_side,), float("-inf"), tl.float32)
    total = tl.zeros((group_side,), tl.float32)
    mean = tl.zeros((group_side, head_side), tl.float32)
    for start in range(first, end, read):
        at = start + tl.arange(0, read)
        seen = at < end
        block = tl.load(tables + row * table_stride + at // block_tokens, mask=seen, other=0)
        base = ((block * block_tokens + at % block_tokens) * kv_heads + kv_head) * head
        there = seen[:, None] & (places < head)[None, :]
        key = tl.load(keys + base[:, None] + places[None, :], mask=there, other=0.0)
        value = tl.load(values + base[:, None] + places[None, :], mask=there, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(seen[None, :], score, float("-inf"))
        higher = tl.maximum(most, tl.max(score, 1))
        share = tl.exp(score - higher[:, None])
        kept = tl.exp(most - higher)
        total = total * kept + tl.sum(share, 1)
        mean = mean * kept[:, None] + tl.dot(share.to(value.dtype), value, input_precision="ieee")
        most = higher
    whole = tl.where(total > 0, total, 1.0)
    out = (owner * tl.num_programs(2) + part) * group + heads
    tl.store(sums + out[:, None] * head + places[None, :], mean / whole[:, None], mask=known)
    tl.store(weights + out, most + tl.log(whole), mask=heads < group)

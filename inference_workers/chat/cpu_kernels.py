"""What PyTorch has no kernel for on a CPU, compiled by Numba: attention over a paged KV cache, and the small steps between products.

Every kernel computes a row from that row alone, in an order that depends on its own length only. So a row's result is the same to
the bit whatever else is in the batch, and wherever its blocks lie: batching, chunks of a prompt, shared prefixes and recomputation
change no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

LOG2_E = np.float32(1.4426950408889634)
SUMS_MAY_BE_VECTORISED = {"contract", "reassoc", "nsz", "arcp"}  # without the assumption that no number is infinite


def kernel(function: F) -> F:
    """Compiled at its first call, and kept on disk; runs without the interpreter's lock."""
    return cast(F, njit(fastmath=SUMS_MAY_BE_VECTORISED, nogil=True, error_model="numpy", cache=True)(function))


@kernel
def exp_in_place(s: Floats, n: int, top: Any, scale: Any, powers: Ints, twos: Floats) -> None:
    """s[j] = exp((s[j] - top) * scale) for j < n, all float32 (n,); twos is a view of powers. Relative error below 2e-7: a polynomial for the
    fraction of a power of two, exponent bits for the rest, so that it vectorises."""
    factor = np.float32(scale) * LOG2_E
    for j in range(n):
        x = min(max((s[j] - np.float32(top)) * factor, np.float32(-126)), np.float32(127))
        whole = np.floor(x)
        t = x - whole
        powers[j] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        p = np.float32(2.1702255e-4) * t + np.float32(1.2439688e-3)
        p = p * t + np.float32(9.6788410e-3)
        p = p * t + np.float32(5.5483342e-2)
        p = p * t + np.float32(2.4022984e-1)
        p = p * t + np.float32(6.9314698e-1)
        s[j] = p * t + np.float32(1.0)
    for j in range(n):
        s[j] *= twos[j]


@kernel
def score_block(q: Floats, keys: Floats, s: Floats) -> None:
    """s[j] = q · keys[j]. q: float32 (width,), keys: (size, width), s: (size,); size a multiple of 4."""
    for j in range(0, keys.shape[0], 4):
        k0, k1, k2, k3 = keys[j], keys[j + 1], keys[j + 2], keys[j + 3]
        a0 = a1 = a2 = a3 = np.float32(0)
        for d in range(q.shape[0]):
            x = q[d]
            a0 += x * k0[d]
            a1 += x * k1[d]
            a2 += x * k2[d]
            a3 += x * k3[d]
        s[j], s[j + 1], s[j + 2], s[j + 3] = a0, a1, a2, a3


@kernel
def weigh_block(s: Floats, v: Floats, out: Floats) -> None:
    """out += s @ v. s: float32 (size,), v: (size, width), out: (width,); size a multiple of 8."""
    for j in range(0, v.shape[0], 8):
        p0, p1, p2, p3, p4, p5, p6, p7 = s[j], s[j + 1], s[j + 2], s[j + 3], s[j + 4], s[j + 5], s[j + 6], s[j + 7]
        for d in range(out.shape[0]):
            first = (p0 * v[j, d] + p1 * v[j + 1, d]) + (p2 * v[j + 2, d] + p3 * v[j + 3, d])
            second = (p4 * v[j + 4, d] + p5 * v[j + 5, d]) + (p6 * v[j + 6, d] + p7 * v[j + 7, d])
            out[d] += first + second


@kernel
def rotate(x: Floats, cosine: Floats, sine: Floats) -> None:
    """Rotary position embedding in place: halves are paired, as in the Hugging Face layout. x: float32 (width,), others (width // 2,)."""
    half = x.shape[0] // 2
    for d in range(half):
        a, b = x[d], x[d + half]
        x[d] = a * cosine[d] - b * sine[d]
        x[d + half] = b * cosine[d] + a * sine[d]


@kernel
def store(qkv: Floats, cosine: Floats, sine: Floats, rows: Ints, tables: Ints, keys: Floats, values: Floats) -> None:
    """Rotate queries and keys of qkv, float32 (n, heads + 2 * kv_heads, width), and write keys and values to the cache.

    rows: int32 (n, 2), sequence and position of each row. tables: int32 (sequences, blocks). keys, values: float32 (blocks, kv_heads,
    size, width).
    """
    kv_heads, size = keys.shape[1], keys.shape[2]
    heads = qkv.shape[1] - 2 * kv_heads
    for r in range(qkv.shape[0]):
        position = rows[r, 1]
        block, offset = tables[rows[r, 0], position // size], position % size
        for h in range(heads + kv_heads):
            rotate(qkv[r, h], cosine[position], sine[position])
        for h in range(kv_heads):
            for d in range(qkv.shape[2]):
                keys[block, h, offset, d] = qkv[r, heads + h, d]
                values[block, h, offset, d] = qkv[r, heads + kv_heads + h, d]


@kernel
def attend(qkv: Floats, rows: Ints, tables: Ints, keys: Floats, values: Floats, out: Floats, first: int, last: int) -> None:
    """Attention of rows first to last over the cached positions up to their own. out: float32 (n, heads, width); others as in `store`."""
    kv_heads, size, width = keys.shape[1], keys.shape[2], keys.shape[3]
    heads = out.shape[1]
    room = tables.shape[1] * size
    scores, powers = np.empty(room, np.float32), np.empty(room, np.int32)
    twos = powers.view(np.float32)
    scale = np.float32(1 / np.sqrt(np.float64(width)))
    for r in range(first, last):
        n = rows[r, 1] + 1
        blocks = (n + size - 1) // size
        table = tables[rows[r, 0]]
        for h in range(heads):
            shared = h // (heads // kv_heads)
            for b in range(blocks):
                score_block(qkv[r, h], keys[table[b], shared], scores[b * size : (b + 1) * size])
            top = scores[0]
            for j in range(n):
                top = max(top, scores[j])
            exp_in_place(scores, n, top, scale, powers, twos)
            total = np.float32(0)
            for j in range(n):
                total += scores[j]
            scores[n : blocks * size] = 0
            answer = out[r, h]
            answer[:] = 0
            for b in range(blocks):
                weigh_block(scores[b * size : (b + 1) * size], values[table[b], shared], answer)
            for d in range(width):
                answer[d] /= total


@kernel
def rms_norm(x: Floats, weight: Floats, epsilon: float, out: Floats) -> None:
    """out = x / rms(x) * weight, by row. x, out: float32 (n, width); weight: (width,)."""
    width = x.shape[1]
    for r in range(x.shape[0]):
        squares = np.float32(0)
        for d in range(width):
            squares += x[r, d] * x[r, d]
        factor = np.float32(1 / np.sqrt(squares / np.float32(width) + np.float32(epsilon)))
        for d in range(width):
            out[r, d] = x[r, d] * factor * weight[d]


@kernel
def gate(gate_up: Floats, out: Floats) -> None:
    """SwiGLU: silu of the first half times the second. gate_up: float32 (n, 2 * width); out: (n, width)."""
    width = out.shape[1]
    powers = np.empty(width, np.int32)
    twos = powers.view(np.float32)
    for r in range(out.shape[0]):
        exponentials = out[r]
        for d in range(width):
            exponentials[d] = gate_up[r, d]
        exp_in_place(exponentials, width, 0.0, -1.0, powers, twos)
        for d in range(width):
            out[r, d] = gate_up[r, d] / (np.float32(1) + exponentials[d]) * gate_up[r, width + d]


@kernel
def quantize_rows(x: Floats, inverse: Floats, most: float, whole: Floats, scales: Floats) -> None:
    """Each row of x * inverse as whole numbers from -most to most, kept as float32, and the scale that brings them back. x, whole:
    float32 (n, width); inverse: (width,); scales: (n, 1)."""
    for r in range(x.shape[0]):
        top = np.float32(1e-20)
        for d in range(x.shape[1]):
            whole[r, d] = x[r, d] * inverse[d]
            top = max(top, abs(whole[r, d]))
        factor = np.float32(most) / top
        scales[r, 0] = top / np.float32(most)
        for d in range(x.shape[1]):
            whole[r, d] = np.rint(whole[r, d] * factor)

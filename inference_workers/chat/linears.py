"""Products with weights, by how the weights are kept. A linear maps float (n, inputs) to float (n, outputs)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from inference_workers.chat import cpu_kernels

Linear = Callable[[torch.Tensor], torch.Tensor]


class Dense:
    """Weights as they are: float32, or bfloat16 where activations are. Its sums depend on the number of rows in the last bits."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, inputs) in the dtype of the weight. Returns (n, outputs)."""
        return torch.nn.functional.linear(x, self._weight)


class Half:
    """float16 weights and float32 sums, by FBGEMM: half the bytes, and no loss where a checkpoint has 16 bits. The same to the bit for
    any number of rows."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._packed: Any = torch.ops.quantized.linear_prepack_fp16(weight.float(), None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32 (n, inputs). Returns float32 (n, outputs)."""
        made: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return made


class Int8:
    """Weights in 8 bits with a scale for each output, activations in 8 bits with a scale for each row, by FBGEMM.

    Its sums are whole numbers, so that they are the same to the bit for any number of rows. Without VNNI instructions FBGEMM's sums of
    two products overflow 16 bits; then activations take 7 bits.
    """

    def __init__(self, weight: torch.Tensor, factors: torch.Tensor) -> None:
        """weight: (outputs, inputs). factors: float32 (inputs,), what inputs are divided by before they are rounded."""
        weight = weight.float() * factors
        self._inverse = (1 / factors).numpy()
        scales = (weight.abs().amax(1) / 127).clamp_min(1e-12).double()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():  # PyTorch calls the constructor deprecated, and has no other way to FBGEMM's kernel
            warnings.simplefilter("ignore", UserWarning)
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._packed: Any = torch.ops.quantized.linear_prepack(quantized, None)
        self._most = 127.0 if _has_vnni() else 63.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32 (n, inputs). Returns float32 (n, outputs)."""
        whole, scales = torch.empty_like(x), np.empty((len(x), 1), np.float32)
        cpu_kernels.quantize_rows(x.numpy(), self._inverse, self._most, whole.numpy(), scales)
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        made: torch.Tensor = multiply(whole, 1.0, 128, self._packed)
        return made.mul_(torch.from_numpy(scales))


def _has_vnni() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_vnni") or able.get("avx_vnni"))

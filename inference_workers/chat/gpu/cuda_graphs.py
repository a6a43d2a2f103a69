"""Decoding on a GPU by CUDA graphs: a step is hundreds of small kernels, and to start each from Python takes longer than they run.

A graph is captured for a number of sequences and of blocks, each rounded up to a power of two, when it is first needed; what is left
over are rows that write to a spare block. A step that reads prompts runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from inference_workers.chat.gpu.device_choice import DeviceLogits
from inference_workers.chat.gpu.torch_operations import TorchOperations
from inference_workers.chat.llama import Llama, StepRows
from inference_workers.chat.token_choice import Logits

FEWEST_BLOCKS = 8


class GraphedLlama:
    """A `Network` of the engine. network: on a GPU, with these operations."""

    def __init__(self, network: Llama, operations: TorchOperations, device: torch.device) -> None:
        self._network, self._operations, self._device = network, operations, device
        self._graphs: dict[tuple[int, int], Graph] = {}

    def logits(self, step: StepRows) -> Logits:
        """See `Network`. The result is valid until the next call."""
        if not len(step.wanted) == len(step.tables) == len(step.rows):
            return self._network.logits(step)
        count, width = _power(len(step.rows), 1), _power(step.tables.shape[1], FEWEST_BLOCKS)
        if (count, width) not in self._graphs:
            self._graphs[count, width] = Graph(self._computed, count, width, self._operations.spare_block, self._device)
        return DeviceLogits(self._graphs[count, width].run(step))

    def _computed(self, tokens: torch.Tensor, positions: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        self._operations.begin_decoding(positions, tables)
        return self._network.head(self._network.hidden(tokens))


class Graph:
    """compute: tokens int64 (count,), positions int64 (count,), tables int64 (count, width), on the device, to float32 (count,
    vocabulary)."""

    def __init__(
        self,
        compute: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        count: int,
        width: int,
        spare_block: int,
        device: torch.device,
    ) -> None:
        self._spare_block = spare_block
        self._host = torch.zeros((count, width + 2), dtype=torch.int64, pin_memory=device.type == "cuda")
        self._input = torch.zeros((count, width + 2), dtype=torch.int64, device=device)
        self._fill(np.empty((0,), np.int64), np.empty((0, 2), np.int32), np.empty((0, 0), np.int32))
        self._replay = self._captured(lambda: compute(self._input[:, 0], self._input[:, 1], self._input[:, 2:]))

    def run(self, step: StepRows) -> torch.Tensor:
        self._fill(step.tokens, step.rows, step.tables)
        return self._replay()[: len(step.rows)]

    def _captured(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            compute()  # libraries allocate their workspaces in a first call, and must not within the capture
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                logits = compute()

        def replay() -> torch.Tensor:
            graph.replay()
            return logits

        return replay

    def _fill(self, tokens: npt.NDArray[np.int64], rows: npt.NDArray[np.int32], tables: npt.NDArray[np.int32]) -> None:
        host = self._host.numpy()
        host[:, :2], host[:, 2:] = 0, self._spare_block
        host[: len(rows), 0], host[: len(rows), 1] = tokens, rows[:, 1]
        host[: len(tables), 2 : 2 + tables.shape[1]] = tables
        self._input.copy_(self._host)


def _power(count: int, least: int) -> int:
    """The smallest power of two that is neither below count nor below least."""
    return 1 << (max(count, least) - 1).bit_length()

"""The network of the benchmarks: an MLP in plain numpy, on one thread. It imports nothing of Millrace, because the programs of
`bench peers` import it in environments of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

WIDTH = 32
Floats = npt.NDArray[np.float32]


class Mlp:
    """32-256-256-2. `heavy` repeats the middle layer, at width 512, until a record costs about a millisecond."""

    def __init__(self, heavy: int = 0) -> None:
        random = np.random.default_rng(1)
        width = 512 if heavy else 256
        sizes = [(WIDTH, width), *[(width, width)] * max(1, heavy), (width, 2)]
        self.layers = [(random.standard_normal(size) / np.sqrt(size[0])).astype(np.float32) for size in sizes]

    def __call__(self, x: Floats) -> Floats:
        """Logits of shape (n, 2) for inputs of shape (n, 32)."""
        for layer in self.layers[:-1]:
            x = np.maximum(x @ layer, 0)
        logits: Floats = x @ self.layers[-1]
        return logits

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {"logits": self(inputs["tensor"])}

    def close(self) -> None:
        return

"""The network as a runtime of MLServer, which reads JSON requests of its own format from Kafka."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import decode_args

from tests.benchmarks.network import Mlp


class Network(MLModel):  # type: ignore[misc]  # a class of a library without types
    async def load(self) -> bool:
        self.network = Mlp()
        return True

    @decode_args  # type: ignore[untyped-decorator]
    async def predict(self, tensor: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]  # read by the decorator
        return self.network(tensor)

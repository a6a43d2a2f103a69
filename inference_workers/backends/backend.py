"""What runs a network: one protocol for ONNX Runtime, torch and remote servers, one contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


class Backend(Protocol):
    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name. Raises InvalidRequest for inputs that the signature does not allow, RetryLater where a
        server did not answer."""
        ...

    def close(self) -> None: ...

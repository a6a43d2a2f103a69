"""ONNX Runtime on the CPU: the default for the shipped models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnxruntime

from inference_workers.backends.backend import Arrays
from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused

ANY = -1


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """type: as the runtime names it, tensor(float). width: size of its second dimension; 0 if it has none, ANY if it is not fixed."""

    name: str
    type: str
    width: int


def _width(shape: Sequence[Any]) -> int:
    """A dimension that is not fixed is a name or None."""
    if len(shape) < 2:
        return 0
    return shape[1] if isinstance(shape[1], int) else ANY


class OnnxNetwork:
    """One thread per worker process: throughput comes from more processes, as thread barriers stall on shared cores."""

    def __init__(self, folder: ModelFolder, file: str = "model.onnx", threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = folder.path / file
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises errors of kinds that it does not export
            raise ModelRefused(f"{path} is not a model that ONNX Runtime can run: {error}") from error
        self.outputs = [output.name for output in self._session.get_outputs()]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = [OnnxInput(given.name, given.type, _width(given.shape)) for given in self._session.get_inputs()]

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Dtype and shape of each as in the version's signature."""
        return dict(zip(self.outputs, self._session.run(self.outputs, dict(inputs)), strict=True))

    def close(self) -> None:
        return

"""Models of tables in ONNX, as the exporters of scikit-learn, XGBoost and LightGBM write them.

Inputs: one per column, or one matrix whose columns the declaration names. Outputs: probabilities, as an array or as one map per
row, or predicted numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.backends.onnx import ANY, OnnxInput, OnnxNetwork
from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused

NUMBER_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
TEXT_TYPE = "tensor(string)"


class OnnxTable:
    def __init__(self, folder: ModelFolder, columns: Sequence[str] = (), labels: Sequence[str] = ()) -> None:
        """columns: names of the columns of a model with one matrix. labels: names of its classes, in its order. Raises ModelRefused."""
        file = str(folder.config.get("file", "model.onnx"))
        self._network, self._path = OnnxNetwork(folder, file), folder.path / file
        columns = tuple(columns) or tuple(folder.config.get("columns", ()))
        self._matrix = _matrix_of(self._network.inputs, columns)
        self.numbers, self.categories = self._columns(columns)
        self.number_types: Mapping[str, np.dtype[Any]] = self._number_types()
        self.labels = self._labels(tuple(labels) or folder.coverage)

    def _columns(self, columns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the numeric and of the categorical columns."""
        inputs = self._network.inputs
        for given in inputs:
            if given.type not in NUMBER_TYPES and given.type != TEXT_TYPE:
                raise ModelRefused(f"{self._path}: input {given.name} has type {given.type}; a table has numbers and texts")
        if self._matrix is None:
            if columns and set(columns) != {given.name for given in inputs}:
                raise ModelRefused(
                    f"{self._path} has the columns {', '.join(given.name for given in inputs)}, not {', '.join(columns)}"
                )
            texts = tuple(given.name for given in inputs if given.type == TEXT_TYPE)
            return tuple(given.name for given in inputs if given.type != TEXT_TYPE), texts
        if not columns or self._matrix.width not in (len(columns), ANY):
            width = "any number of" if self._matrix.width == ANY else self._matrix.width
            raise ModelRefused(
                f"{self._path} has one input of {width} columns, and {len(columns)} are named: "
                'columns = ["first", "second", …] in the declaration names them, in the order of the training data'
            )
        return (columns, ()) if self._matrix.type != TEXT_TYPE else ((), columns)

    def _number_types(self) -> dict[str, np.dtype[Any]]:
        inputs = {given.name: given for given in self._network.inputs}
        of_column = {name: self._matrix or inputs[name] for name in self.numbers}
        return {name: np.dtype(_dtype(given)) for name, given in of_column.items()}

    def _labels(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        outputs = self._example_outputs()
        self.answers_examples = outputs is not None
        if outputs is None:
            if labels or len(self._network.outputs) == 1:
                return labels
            raise ModelRefused(
                f"{self._path} answers no made-up row, because it refuses categories that it does not know, so its classes cannot "
                'be asked: labels = ["first", "second", …] in the declaration names them'
            )
        found = _classes(outputs)
        if found is None:
            if (shape := _numbers(outputs).shape) not in ((2,), (2, 1)) or _numbers(outputs).dtype.kind not in "fiu":
                raise ModelRefused(
                    f"{self._path} predicts {shape[1:]} values of {_numbers(outputs).dtype} a row; one number is taken"
                )
            if labels:
                raise ModelRefused(f"{self._path} predicts numbers; it has no classes to be named {', '.join(labels)}")
            return ()
        if labels and len(labels) != len(found):
            raise ModelRefused(f"{self._path} has {len(found)} classes, and labels names {len(labels)}: {', '.join(labels)}")
        if (own := _own_labels(outputs)) is not None and not isinstance(_probabilities(outputs), list):
            self._check_names(own, _probabilities(outputs), labels)
        # Exporters write classes as a map, whose keys come sorted: the same names in another order are a slip, not new names.
        return found if not labels or set(labels) == set(found) else labels

    def _check_names(self, own: Sequence[str], probabilities: npt.NDArray[Any], labels: tuple[str, ...]) -> None:
        """Names that the model gives its answers must be those of the largest probability. Raises ModelRefused."""
        if not labels:
            raise ModelRefused(
                f"{self._path} calls an answer {own[0]!r}, but not which of its {probabilities.shape[1]} probabilities that is: "
                'labels = ["first", "second", …] in the declaration names them, in the sorted order of its own class names'
            )
        largest = [labels[at] for at in probabilities.argmax(axis=1)]
        if list(own) != largest and len(set(probabilities[0].tolist())) > 1:
            raise ModelRefused(
                f"{self._path} calls an answer {own[0]!r}, and labels calls it {largest[0]!r}: labels names its classes in the sorted "
                "order of its own class names"
            )

    def _example_outputs(self) -> dict[str, npt.NDArray[Any]] | None:
        """The outputs for a row that we make up; None if the model refuses its categories. Raises ModelRefused."""
        example: dict[str, float | str] = {**dict.fromkeys(self.numbers, 0.0), **dict.fromkeys(self.categories, "")}
        try:
            return self._network.run(self._inputs([example, example]))
        except Exception as error:  # the runtime raises errors of kinds that it does not export
            if self.categories:
                return None
            raise ModelRefused(f"{self._path} does not answer a row of zeros: {error}") from error

    def scores(self, rows: Sequence[Mapping[str, float | str]]) -> npt.NDArray[np.float32]:
        """Float32 (n, labels) probabilities, or float32 (n, 1) predicted numbers."""
        outputs = self._network.run(self._inputs(rows))
        if not self.labels:
            return _numbers(outputs).reshape(len(rows), 1).astype(np.float32)
        probabilities = _probabilities(outputs)
        if isinstance(probabilities, list):
            keys = self.labels if set(self.labels) == probabilities[0].keys() else sorted(probabilities[0])
            probabilities = np.array([[row[key] for key in keys] for row in probabilities])
        if probabilities is None or probabilities.shape[1] != len(self.labels):
            width = "no" if probabilities is None else probabilities.shape[1]
            raise ModelRefused(f"{self._path} gives {width} probabilities for {len(self.labels)} classes")
        as_float32: npt.NDArray[np.float32] = probabilities.astype(np.float32)
        return as_float32

    def _inputs(self, rows: Sequence[Mapping[str, float | str]]) -> dict[str, npt.NDArray[Any]]:
        if self._matrix is not None:
            columns = self.numbers or self.categories
            return {self._matrix.name: np.array([[row[name] for name in columns] for row in rows], _dtype(self._matrix))}
        return {
            given.name: np.array([row[given.name] for row in rows], _dtype(given)).reshape((-1, 1) if given.width else (-1,))
            for given in self._network.inputs
        }

    def close(self) -> None:
        self._network.close()


def _dtype(given: OnnxInput) -> Any:
    return object if given.type == TEXT_TYPE else NUMBER_TYPES[given.type]


def _matrix_of(inputs: Sequence[OnnxInput], columns: tuple[str, ...]) -> OnnxInput | None:
    """The only input, if it has several columns, any number of them, or one that the declaration calls otherwise."""
    if len(inputs) != 1:
        return None
    (given,) = inputs
    renamed = given.width == 1 and len(columns) == 1 and columns[0] != given.name
    return given if given.width > 1 or given.width == ANY or renamed else None


def _probabilities(outputs: Mapping[str, Any]) -> Any:
    """The output with probabilities: a list of maps (ZipMap), or float (n, classes). None for a model that predicts numbers."""
    for value in outputs.values():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return value
    arrays = [value for value in outputs.values() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    if len(arrays) > 1 and all(value.ndim == 1 or value.shape[1] == 1 for value in arrays) and len(outputs) == len(arrays) + 1:
        return np.stack([value.reshape(-1) for value in arrays], 1)  # skl2onnx, zipmap="columns": one output a class
    floats = [value for value in arrays if value.ndim == 2]
    return floats[0] if len(outputs) > 1 and floats and floats[0].shape[1] > 1 else None


def _classes(outputs: Mapping[str, Any]) -> tuple[str, ...] | None:
    probabilities = _probabilities(outputs)
    if probabilities is None:
        return None
    if isinstance(probabilities, list):
        return tuple(str(key) for key in sorted(probabilities[0]))
    names = [name for name, value in outputs.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    if len(names) == probabilities.shape[1]:  # i0, i1 for the classes 0 and 1, sfine and sfraud for fine and fraud
        return tuple(name[1:] for name in names)
    return tuple(str(number) for number in range(probabilities.shape[1]))


def _own_labels(outputs: Mapping[str, Any]) -> list[str] | None:
    """The classes that a model answers with by name; None if it answers with numbers, or with probabilities of named outputs."""
    texts = [value for value in outputs.values() if isinstance(value, np.ndarray) and value.dtype.kind in "OU"]
    floats = [value for value in outputs.values() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    return [str(name) for name in texts[0].reshape(-1)] if texts and len(floats) == 1 else None


def _numbers(outputs: Mapping[str, Any]) -> npt.NDArray[Any]:
    (value, *_) = outputs.values()
    numbers: npt.NDArray[Any] = np.asarray(value)
    return numbers

"""A model's decisions, and whether they are right: one definition for the detectors and the gate. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


def decisions(outputs: npt.NDArray[Any], thresholds: npt.NDArray[Any] | None) -> Bools:
    """The decisions of each entry, bool (entries, names). outputs: of the same shape. thresholds: (names,), values from which an
    output holds; without them the largest output holds."""
    if thresholds is not None:
        return np.asarray(outputs >= thresholds)
    found = np.zeros(outputs.shape, np.bool_)
    if len(found):
        found[np.arange(len(found)), outputs.argmax(axis=1)] = True
    return found


def decided(record: Mapping[str, Any], n: int) -> Bools:
    """The decisions of the n entries of a record of the prediction log or of an outcome: bool (n, names)."""
    outputs = np.frombuffer(record["outputs"], record["outputs_dtype"]).reshape(n, -1)
    return decisions(outputs, np.frombuffer(record["thresholds"], "<f4") if record["thresholds"] else None)


def is_right(said: Sequence[bool], names: Sequence[str], truth: Mapping[str, bool]) -> bool | None:
    """Whether the decisions equal all known labels of the named outputs; None if no label is known."""
    told = [one == truth[name] for name, one in zip(names, said, strict=True) if name in truth]
    return all(told) if told else None

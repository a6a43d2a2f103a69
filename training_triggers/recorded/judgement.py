"""What a model's outputs say, and whether that is right: one judgement for the detectors and the gate. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


def decisions(outputs: npt.NDArray[Any], thresholds: npt.NDArray[Any] | None) -> Bools:
    """(entries, names), of outputs of that shape: what each entry is said to be. thresholds: (names,), from which an output
    holds; without them the largest output holds."""
    if thresholds is not None:
        return np.asarray(outputs >= thresholds)
    found = np.zeros(outputs.shape, np.bool_)
    if len(found):
        found[np.arange(len(found)), outputs.argmax(axis=1)] = True
    return found


def decided(record: Mapping[str, Any], n: int) -> Bools:
    """(n, names): what each of the n entries of a record was said to be, of the prediction log or of an outcome."""
    outputs = np.frombuffer(record["outputs"], record["outputs_dtype"]).reshape(n, -1)
    return decisions(outputs, np.frombuffer(record["thresholds"], "<f4") if record["thresholds"] else None)


def is_right(said: Sequence[bool], names: Sequence[str], truth: Mapping[str, bool]) -> bool | None:
    """Whether all that is known of the named outputs is as it was said; None where nothing is known."""
    told = [one == truth[name] for name, one in zip(names, said, strict=True) if name in truth]
    return all(told) if told else None

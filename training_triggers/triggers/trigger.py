"""The trigger interface: takes baseline and window of one signal, and returns a finding. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training_triggers.triggers.baseline_spread import Sizes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """statistic: the trigger's own. p_value: of no change, if the trigger is a test. effect: size of the change, from 0."""

    statistic: float
    p_value: float | None
    effect: float


class Trigger(Protocol):
    """least_effect: a change counts from this size on; large samples also show smaller ones, which mean nothing. of: the signals
    that it compares, by `schemas/signals.py`: each column of a kind separately, or several together, (n, columns)."""

    name: str
    of: str
    least_effect: float

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        """baseline, window: float64 (n,) each, n at least 1, with any finite or infinite values; NaN is passed as -inf, so that a
        change in the share of missing values shows like any other. sizes: the number of independent entries that they count as;
        without it, each entry counts as one."""
        ...


def inflation(baseline: Floats, window: Floats, sizes: Sizes | None) -> float:
    """Factor by which the variance of the comparison exceeds that of independent entries; at least 1. baseline, window: float64
    (n,) or (n, columns), of any two lengths."""
    return 1.0 if sizes is None else max(1.0, sizes.inflation(len(baseline), len(window)))


def holm(p_values: list[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979, "A simple sequentially rejective multiple test procedure"), in the order
    given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def chi_square_p(x: float, degrees: float) -> float:
    """Chance of at least x, by the cube-root approximation (Wilson and Hilferty 1931, "The distribution of chi-square")."""
    spread = 2 / (9 * degrees)
    z = ((max(0.0, x) / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))


class Due(Protocol):
    """A trigger that uses only the number of entries and the time since the first of them."""

    name: str
    signal: str
    least_effect: float

    def due(self, entries: int, age_s: float) -> tuple[int, Finding] | None:
        """How often it has been due by now, and the finding; None if never."""
        ...

"""The trigger seam: baseline and window of one signal in, a finding out. Pure."""

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
    """statistic: the trigger's own. p_value: of no change, where the trigger is a test. effect: size of the change, from 0."""

    statistic: float
    p_value: float | None
    effect: float


class Trigger(Protocol):
    """least_effect: from this size on a change counts; smaller ones are found in large samples and mean nothing. of: what it compares,
    by `schemas/signals.py`: each column of a kind for itself, or several together, (n, columns)."""

    name: str
    of: str
    least_effect: float

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        """Both of shape (n,), n at least 1, any finite or infinite values: what is not a number comes as -inf, so that a
        change in how much is missing shows like any other. sizes: as how many independent entries they count; without, each for one."""
        ...


def inflation(baseline: Floats, window: Floats, sizes: Sizes | None) -> float:
    """Of the variance of what is compared, over independent entries; at least 1."""
    return 1.0 if sizes is None else max(1.0, sizes.inflation(len(baseline), len(window)))


def holm(p_values: list[float]) -> list[float]:
    """Adjusted for their number (Holm 1979, "A simple sequentially rejective multiple test procedure"), in the order given."""
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
    """A trigger that looks at nothing but how much came and how long ago the first of it did."""

    name: str
    signal: str
    least_effect: float

    def due(self, entries: int, age_s: float) -> tuple[int, Finding] | None:
        """How often it has been due by now, and the finding; None where it was never."""
        ...

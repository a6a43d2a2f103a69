"""The choice of a token. The random number of a position depends on the seed and the position alone (a counter-based generator), so
an answer can be continued anywhere, by anybody, as if it had never been interrupted.

Method: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (Philox).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference_workers.chat.engine import MIN_TEMPERATURE, Sampling

Floats = npt.NDArray[np.float32]
WORD = 2**64


@dataclass(frozen=True, slots=True)
class Asked:
    """How the token of a row is chosen. position: of the token in the answer, from 0. allowed: bool (vocabulary,), what a schema permits;
    None for all. logprob: whether the token's log probability is wanted, beside what `sampling.logprobs` asks for."""

    sampling: Sampling
    position: int
    allowed: npt.NDArray[np.bool_] | None = None
    logprob: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """alternatives: the most probable tokens with their log probabilities, as many as `sampling.logprobs`."""

    token: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


NOT_FINITE = Choice(-1)  # of a row with numbers that are not finite


class Logits(Protocol):
    """The logits of a step, a row for each wanted row, wherever they are."""

    def choices(self, asked: Mapping[int, Asked]) -> dict[int, Choice]:
        """The choice for each row that is asked for, by its number."""
        ...


class HostLogits:
    """rows: float32 (m, vocabulary)."""

    def __init__(self, rows: Floats) -> None:
        self.rows = rows

    def choices(self, asked: Mapping[int, Asked]) -> dict[int, Choice]:
        return {row: choice_of(self.rows[row], one) for row, one in asked.items()}


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for one position of one answer."""
    (word,) = np.random.Philox(key=seed % WORD, counter=position).random_raw(1)
    return float(word >> np.uint64(11)) / 2**53


def choice_of(logits: Floats, asked: Asked) -> Choice:
    """logits: float32 (vocabulary,), as the model gave them."""
    if not np.isfinite(logits).all():
        return NOT_FINITE
    sampling, count = asked.sampling, asked.sampling.logprobs
    open_logits = logits if asked.allowed is None else np.where(asked.allowed, logits, np.float32(-np.inf))
    if sampling.temperature < MIN_TEMPERATURE:
        token = int(open_logits.argmax())
    else:
        token = _sample(open_logits, sampling, uniform(sampling.seed, asked.position))
    if not count:
        return Choice(token, logprob_of(logits, token) if asked.logprob else None)
    logprobs = _log_softmax(logits)
    best = np.argpartition(-logprobs, count - 1)[:count]
    best = best[np.argsort(-logprobs[best], kind="stable")]
    return Choice(token, float(logprobs[token]), tuple((int(one), float(logprobs[one])) for one in best))


def logprob_of(logits: Floats, token: int) -> float:
    """The natural logarithm of a token's probability. logits: float32 (vocabulary,), as the model gave them."""
    most = logits.max()
    return float(logits[token] - most - np.log(np.exp(logits - most).sum()))


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - float(np.log(np.exp(shifted).sum()))


def _sample(logits: Floats, sampling: Sampling, number: float) -> int:
    """By inversion: tokens in the order of the vocabulary, or by falling probability where top_p cuts the rest off."""
    scaled = (logits.astype(np.float64) - float(logits.max())) / sampling.temperature
    weights = np.exp(scaled)
    if sampling.top_p >= 1:
        return _inverted(weights, number)
    order = np.argsort(-weights, kind="stable")
    sums = np.cumsum(weights[order])
    kept = int(np.searchsorted(sums, sampling.top_p * sums[-1])) + 1
    return int(order[_inverted(weights[order[:kept]], number)])


def _inverted(weights: npt.NDArray[np.float64], number: float) -> int:
    sums = np.cumsum(weights)
    return int(min(np.searchsorted(sums, number * sums[-1], side="right"), np.flatnonzero(weights)[-1]))

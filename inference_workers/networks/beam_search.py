"""Beam search over a network that predicts one token per step. numpy only; the network is a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.networks.tokens import END, PAD, START

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# (tokens (m,), states (layers, m, width), rows (m,)) to log-probabilities (m, vocabulary) and the new states
Step = Callable[[Ints, Floats, Ints], tuple[Floats, Floats]]


def beam_search(step: Step, states: Floats, longest: int, width: int, penalty: float = 1.0) -> list[tuple[list[int], float]]:
    """The best tokens of each of n sentences, and their mean log-probability. With width 1 the search is greedy.

    states: (layers, n, width of the network), before START. Sentences that have ended keep their score; the best is chosen by
    score / length ** penalty (Wu et al., 2016, without the constant).
    """
    layers, n, size = states.shape
    rows = np.repeat(np.arange(n), width)
    states = np.repeat(states, width, axis=1)
    tokens = np.full(n * width, START, np.int64)
    scores = np.full((n, width), -np.inf)
    scores[:, 0] = 0.0  # all beams are equal at first, so only one of them may grow
    history = np.zeros((n, width, 0), np.int64)
    lengths = np.zeros((n, width), np.int64)
    ended = np.zeros((n, width), np.bool_)
    for _ in range(longest):
        log_probabilities, states = step(tokens, states, rows)
        grown = log_probabilities.reshape(n, width, -1).astype(np.float64)
        grown[:, :, PAD] = -np.inf
        grown[ended] = -np.inf
        grown[ended, PAD] = 0.0
        total = (scores[:, :, None] + grown).reshape(n, -1)
        best = np.argpartition(-total, width - 1, axis=1)[:, :width]
        scores = np.take_along_axis(total, best, axis=1)
        parents, chosen = best // grown.shape[2], best % grown.shape[2]
        history = np.concatenate([_from(history, parents), chosen[:, :, None]], axis=2)
        was_ended = _from(ended, parents)
        lengths = _from(lengths, parents) + ~was_ended
        ended = was_ended | (chosen == END)
        if ended.all():
            break
        states = states.reshape(layers, n, width, size)[:, np.arange(n)[:, None], parents].reshape(layers, n * width, size)
        tokens = chosen.reshape(-1)
    rank = scores / np.maximum(lengths, 1) ** penalty
    rank = np.where(ended, rank, rank - 1e6)  # a sentence that was cut is taken only if none ended
    picks = rank.argmax(axis=1)
    return [
        (
            [token for token in history[i, pick].tolist() if token not in (PAD, END)],
            float(scores[i, pick] / max(1, lengths[i, pick])),
        )
        for i, pick in enumerate(picks.tolist())
    ]


def _from(values: npt.NDArray[Any], parents: Ints) -> npt.NDArray[Any]:
    """values of each beam's parent. values: (n, width, …)."""
    return values[np.arange(len(values))[:, None], parents]

"""Beam search and the bucketing around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_workers.backends.scorers import buckets
from inference_workers.networks.beam_search import beam_search
from inference_workers.networks.speech import best_path
from inference_workers.networks.tokens import END

A, B, C = 4, 5, 6


def network(table: dict[int, dict[int, float]], vocabulary: int = 7):  # type: ignore[no-untyped-def]
    """Log-probabilities that depend on the last token only."""

    def step(tokens, states, rows):  # type: ignore[no-untyped-def]
        out = np.full((len(tokens), vocabulary), -50.0, np.float32)
        for i, token in enumerate(tokens.tolist()):
            for after, probability in table[token].items():
                out[i, after] = np.log(probability)
        return out, states

    return step


# the greedy way starts with A and ends worse than the one that starts with B
TABLE = {
    1: {A: 0.6, B: 0.4},
    A: {END: 0.3, C: 0.35, B: 0.35},
    B: {END: 0.95, A: 0.05},
    C: {END: 0.5, A: 0.5},
    0: {0: 1.0},
    END: {0: 1.0},
}


def test_a_wider_beam_finds_what_the_greedy_way_misses() -> None:
    states = np.zeros((1, 2, 3), np.float32)
    greedy = beam_search(network(TABLE), states, 6, 1)
    wide = beam_search(network(TABLE), states, 6, 3)
    assert greedy[0][0][0] == A
    assert [tokens for tokens, _ in wide] == [[B], [B]]
    assert wide[0][1] == pytest.approx(np.log(0.4 * 0.95) / 2, abs=1e-5)


def test_a_sentence_that_never_ends_is_cut_at_the_longest() -> None:
    ((tokens, _),) = beam_search(network({1: {A: 1.0}, A: {A: 1.0}, 0: {0: 1.0}}), np.zeros((1, 1, 3), np.float32), 5, 2)
    assert tokens == [A] * 5


@given(st.lists(st.integers(1, 60), max_size=80))
def test_buckets_hold_every_row_once_and_like_lengths_together(lengths: list[int]) -> None:
    groups = buckets(lengths)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        found = [lengths[row] for row in group]
        assert max(found) <= min(found) * 1.25 + 2


def test_repeats_are_one_word_and_blanks_are_none() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 1, 0, 1, 2, 2, 2, 0]]
    words = best_path(probabilities, ["", "one", "two"], 0.04)
    assert [word.text for word in words] == ["one", "one", "two"]
    assert [word.start_s for word in words] == pytest.approx([0.04, 0.16, 0.20])
    assert [word.end_s for word in words] == pytest.approx([0.12, 0.20, 0.32])

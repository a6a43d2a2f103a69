"""Softmax over all items, and over a sample with log-Q correction."""

from __future__ import annotations

import pytest
import torch

from training_triggers.trainers.recommending.softmax_losses import full_softmax, sampled_softmax, sampling

ITEMS, ROWS = 60, 4


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn(ROWS, ITEMS, generator=torch.Generator().manual_seed(0))


TARGETS = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
WEIGHTS = torch.tensor([[1.0, 1.0], [1.0, 0.0], [2.0, 1.0], [0.0, 0.0]])


def test_full_softmax_is_the_weighted_mean_cross_entropy_of_the_targets(logits: torch.Tensor) -> None:
    logs = logits.log_softmax(dim=1)
    by_hand = [-(logs[0, 1] + logs[0, 2]) / 2, -logs[1, 3], -(2 * logs[2, 5] + logs[2, 6]) / 3]
    assert full_softmax(logits, TARGETS, WEIGHTS) == pytest.approx(float(sum(by_hand)) / 3, rel=1e-5)


def test_seen_items_take_no_part(logits: torch.Tensor) -> None:
    seen = torch.zeros(ROWS, ITEMS, dtype=torch.bool)
    seen[:, 20:] = True
    expected = full_softmax(logits[:, :20], TARGETS, WEIGHTS)
    assert full_softmax(logits, TARGETS, WEIGHTS, seen) == pytest.approx(float(expected), rel=1e-5)


def _sampled(logits: torch.Tensor, chances: torch.Tensor, size: int, seed: int, corrected: bool = True) -> float:
    sample = torch.multinomial(chances, size, replacement=True, generator=torch.Generator().manual_seed(seed))
    log_q = torch.log(size * chances[sample]) if corrected else torch.zeros(size)
    return float(sampled_softmax(logits.gather(1, TARGETS), logits[:, sample], log_q, WEIGHTS))


def test_log_q_makes_the_sampled_loss_that_of_all_items(logits: torch.Tensor) -> None:
    """Popular items are drawn far more often; corrected, the loss is nevertheless that over all items."""
    chances = sampling(torch.arange(ITEMS, dtype=torch.float32) ** 2)
    whole = float(full_softmax(logits, TARGETS, WEIGHTS))
    assert _sampled(logits, chances, 200_000, 1) == pytest.approx(whole, abs=0.02)
    assert abs(_sampled(logits, chances, 200_000, 1, corrected=False) - whole) > 5
    many = [_sampled(logits, chances, 2_000, seed) for seed in range(50)]
    assert sum(many) / len(many) == pytest.approx(whole, abs=0.1)


def test_negatives_are_drawn_by_smoothed_popularity() -> None:
    chances = sampling(torch.tensor([0.0, 15.0]))
    assert chances.sum() == pytest.approx(1) and chances[1] / chances[0] == pytest.approx(8)

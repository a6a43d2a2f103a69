"""Softmax losses over items: full where the catalogue is small, sampled with log-Q correction where it is large."""

from __future__ import annotations

import torch
from torch import Tensor

FAR = -1e9


def full_softmax(logits: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
    """Cross entropy against several targets of each row, averaged over rows that have one. logits: (n, items). targets: int64 (n, k),
    weights: float32 (n, k), 0 where there is none. seen: bool (n, items), items that cannot be recommended and take no part."""
    if seen is not None:
        logits = logits.masked_fill(seen, FAR)
    partition = logits.logsumexp(dim=-1)
    return _mean(partition, logits.gather(1, targets), weights)


def sampled_softmax(positive: Tensor, sampled: Tensor, log_q: Tensor, weights: Tensor) -> Tensor:
    """The same with a sample of items instead of all: each sampled logit is corrected by the logarithm of how often the sampler was
    expected to draw it, so that popular items, which are drawn more often, are not pushed down for it (Bengio and Senécal 2008; Yi et
    al. 2019). The partition is then that of all items, in expectation.

    positive: logits of the targets (n, k). sampled: logits of the sample (n, s). log_q: (s,), the logarithm of its expected number of
    draws, s times its probability. weights: (n, k)."""
    partition = (sampled - log_q).logsumexp(dim=-1)
    return _mean(torch.logaddexp(partition, positive.max(dim=-1).values.detach() - 20.0), positive, weights)


def _mean(partition: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(dim=-1)
    loss = partition - (positive * weights).sum(dim=-1) / total.clamp(min=1e-9)
    there = (total > 0).float()
    return (loss * there).sum() / there.sum().clamp(min=1)


def sampling(popularity: Tensor, power: float = 0.75) -> Tensor:
    """Probability of each item to be drawn as a negative: its popularity, smoothed."""
    smoothed = (popularity + 1.0) ** power
    return smoothed / smoothed.sum()

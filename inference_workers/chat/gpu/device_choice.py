"""The choice of tokens where the logits are: one pass over all rows, and a few numbers come back instead of whole vocabularies.

The same arithmetic as token_choice.py, in float64. Rows with a schema, or whose alternatives are wanted, are copied and chosen there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from inference_workers.chat.engine import MIN_TEMPERATURE, Sampling
from inference_workers.chat.token_choice import NOT_FINITE, Asked, Choice, choice_of, uniform

# float64 logits (m, vocabulary), temperature, top_p and random number (m, 1) to tokens, int64 (m,)
Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class DeviceLogits:
    """See `Logits`. rows: float32 (m, vocabulary), on any device."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows = rows

    @torch.inference_mode()
    def choices(self, asked: Mapping[int, Asked]) -> dict[int, Choice]:
        made: dict[int, Choice] = {}
        ways: dict[Way, list[int]] = {}
        for number, one in asked.items():
            if one.allowed is not None or one.sampling.logprobs:
                made[number] = choice_of(self._rows[number].cpu().numpy(), one)
            else:
                ways.setdefault(_way(one.sampling), []).append(number)
        for choose, numbers in ways.items():
            rows = self._rows[torch.tensor(numbers, device=self._rows.device)].double()
            tokens = choose(rows, *self._parameters([asked[number] for number in numbers]))
            logprobs = rows.gather(1, tokens[:, None])[:, 0] - rows.logsumexp(1)
            told = torch.stack([tokens.double(), logprobs, rows.isfinite().all(1).double()]).tolist()
            for number, token, logprob, finite in zip(numbers, *told, strict=True):
                made[number] = Choice(int(token), logprob if asked[number].logprob else None) if finite else NOT_FINITE
        return made

    def _parameters(self, asked: list[Asked]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Temperature, top_p and random number of each row, float64 (m, 1)."""
        table = [
            [one.sampling.temperature, one.sampling.top_p, uniform(one.sampling.seed, one.position)]
            if one.sampling.temperature >= MIN_TEMPERATURE
            else [1.0, 1.0, 0.0]
            for one in asked
        ]
        columns = torch.tensor(table, dtype=torch.float64).to(self._rows.device)
        return columns[:, :1], columns[:, 1:2], columns[:, 2:]


def _way(sampling: Sampling) -> Way:
    if sampling.temperature < MIN_TEMPERATURE:
        return _best
    return _sampled if sampling.top_p >= 1 else _sampled_of_top


def _best(rows: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    return rows.argmax(1)


def _sampled(rows: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    weights = _weights(rows, temperature)
    return _inverted(weights, weights.cumsum(1), number)


def _sampled_of_top(rows: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    weights, order = _weights(rows, temperature).sort(dim=1, descending=True, stable=True)
    sums = weights.cumsum(1)
    last = torch.searchsorted(sums, top_p * sums[:, -1:])  # the token that reaches top_p is kept
    weights = weights.masked_fill(torch.arange(weights.shape[1], device=rows.device) > last, 0)
    return order.gather(1, _inverted(weights, weights.cumsum(1), number)[:, None])[:, 0]


def _weights(rows: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    return ((rows - rows.amax(1, keepdim=True)) / temperature).exp()


def _inverted(weights: torch.Tensor, sums: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """int64 (m,): where the sums pass the number's share of the whole."""
    chosen = torch.searchsorted(sums, number * sums[:, -1:], right=True)[:, 0]
    places = torch.arange(weights.shape[1], device=weights.device)
    return torch.minimum(chosen, torch.where(weights > 0, places, 0).amax(1))
